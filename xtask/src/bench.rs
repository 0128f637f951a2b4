//! `cargo xtask bench`: release binaries, then the benchmark here and, unless told otherwise, in the cgroup v2 machine.

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
            .args(["bench", "--package", "bivouac-bench", "--"])
            .args(arguments)
            .env("BIVOUAC_DIST", workspace.target.join("dist"))
            .current_dir(&workspace.root),
    )
}
