//! The face under a real Nomad agent. See README.md for what it needs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is skipped or left behind is told aloud"
)]

mod agent;
mod api;
mod face;
mod options;
mod owner;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The plugin with an engine that has no isolation. Built here, once: asking for this test alone does
/// not build examples.
pub(crate) fn fake_plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "bivouac-plugin", "--example", "fake_plugin"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the fake plugin does not build");
        let test = std::env::current_exe().expect("this program");
        let profile = test.parent().and_then(|deps| deps.parent()).expect("a profile's directory");
        profile.join("examples/fake_plugin")
    };
    BUILT.get_or_init(build).clone()
}
