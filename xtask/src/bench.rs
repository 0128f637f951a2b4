//! `cargo xtask bench`: release binaries and the engine's loop, then the benchmark with them.

use crate::build;
use crate::shell;
use crate::workspace::Workspace;
use anyhow::Result;

/// Everything after `bench` goes to the benchmark program.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build::release()?;
    let workspace = Workspace::load()?;
    shell::run(
        shell::cargo()
            .args(["build", "--release", "--package", "bivouac-sandbox", "--example", "launch_loop"])
            .current_dir(&workspace.root),
    )?;
    shell::run(
        shell::cargo()
            .args(["bench", "--package", "bivouac-bench", "--"])
            .args(arguments)
            .env("BIVOUAC_DIST", workspace.target.join("dist"))
            .env("BIVOUAC_ENGINE", workspace.target.join("release/examples/launch_loop"))
            .current_dir(&workspace.root),
    )
}
