//! The face under a real Nomad agent. See README.md for what it needs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is skipped or left behind is told aloud"
)]

mod agent;
mod api;
mod bridge;
mod collectors;
mod compliance;
mod configuration;
mod face;
mod going;
mod house;
mod job;
mod leftovers;
mod options;
mod owner;
mod pages;
mod real;
mod recovery;
mod rows;
mod shared;
mod waiting;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The plugin with an engine that has no isolation.
pub(crate) fn fake_plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            built(&["-p", "bivouac-plugin", "--example", "fake_plugin"]).join("examples/fake_plugin")
        })
        .clone()
}

/// The plugin with the real driver, and the shim.
pub(crate) fn real_plugin() -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let build = || {
        let profile = built(&["-p", "bivouac-shim", "--bin", "bivouac-shim"]);
        (
            built(&["-p", "bivouac-plugin", "--example", "plugin"]).join("examples/plugin"),
            profile.join("bivouac-shim"),
        )
    };
    BUILT.get_or_init(build).clone()
}

/// The program as users get it, and the shim.
pub(crate) fn bivouac() -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let profile = BUILT.get_or_init(|| {
        built(&["-p", "bivouac", "--bin", "bivouac", "-p", "bivouac-shim", "--bin", "bivouac-shim"])
    });
    (profile.join("bivouac"), profile.join("bivouac-shim"))
}

/// Builds what asking for this test alone does not; the directory in which it lies.
fn built(what: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(what).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(command.status().is_ok_and(|status| status.success()), "{what:?} does not build");
    let test = std::env::current_exe().expect("this program");
    test.parent().and_then(|deps| deps.parent()).expect("a profile's directory").to_owned()
}
