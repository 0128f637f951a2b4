//! `cargo xtask demo`: from a fresh clone to a running isolated task, with what it prints.

use crate::build::{self, Profile};
use crate::shell::{self, say};
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::process::Command;

/// The job file that the demo runs.
const EXAMPLE: &str = "examples/hello.nomad.hcl";

/// Builds and runs the example in the foreground.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let profile = match arguments {
        [] => Profile::Dev,
        [flag] if flag == "--release" => Profile::Release,
        _ => bail!("`cargo xtask demo` takes only `--release`"),
    };
    if !shell::is_root() {
        bail!("isolating a task needs root; run `sudo -E env PATH=\"$PATH\" cargo xtask demo`");
    }
    let workspace = Workspace::load()?;
    let built = build::binaries(&workspace, profile)?;
    let Some(bivouac) = built.first() else { bail!("the build made no program") };
    let example = workspace.root.join(EXAMPLE);
    say(format!("\n# {EXAMPLE}\n{}", shell::read(&example)?));
    let mut command = Command::new(bivouac);
    command.arg("run").arg(&example);
    say(format!("$ bivouac run {EXAMPLE}"));
    shell::run(&mut command)
}
