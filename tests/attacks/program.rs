//! Compiles the attack programs beside this file, for every test that starts one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// An attack program, compiled once and again when its source has changed.
pub(crate) fn program(theme: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/attacks");
    let source = sources.join(format!("{theme}.c"));
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(Path::parent).unwrap().join("attacks");
    std::fs::create_dir_all(&target).unwrap();
    let (program, fresh) = (target.join(theme), target.join(format!("{theme}.{}", std::process::id())));
    let changed = |path: &Path| path.metadata().and_then(|status| status.modified()).unwrap();
    let made = program.metadata().and_then(|status| status.modified()).ok();
    if made.is_some_and(|made| made > changed(&source) && made > changed(&sources.join("attack.h"))) {
        return program;
    }
    let flags = ["-static", "-O1", "-Wall", "-Werror", "-Wno-format-truncation", "-o"];
    let status = Command::new("gcc").args(flags).arg(&fresh).arg(&source).status();
    assert!(status.is_ok_and(|status| status.success()), "gcc cannot compile {}", source.display());
    std::fs::rename(fresh, &program).unwrap();
    program
}
