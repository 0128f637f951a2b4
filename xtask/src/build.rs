//! `cargo xtask build`: static release binaries; also the development ones that `demo` runs.

use crate::shell::{self, say};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// The one target we release for. Static, so that one file runs on every distribution.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// The other machine that the engine is written for.
const OTHER: &str = "aarch64-unknown-linux-musl";
/// What knows system call numbers and the shape of the kernel's structs.
const ENGINE: [&str; 5] =
    ["bivouac-sys", "bivouac-cgroup", "bivouac-sandbox", "bivouac-shim", "bivouac-driver"];
/// A fixed address costs the shim no relocations at start: fewer private pages in every one of them.
pub(crate) const FLAGS: (&str, &str) = (
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
    "-C relocation-model=static -C target-feature=+crt-static",
);
/// Compilers of C for that target, as the crate `cc` looks for them. Few machines have one.
const MUSL_COMPILERS: [&str; 2] = ["x86_64-linux-musl-gcc", "musl-gcc"];
/// Where there is none, the machine's own does: the C among our dependencies (`ring`) takes of a C library only what is
/// the same in all, unless the compiler is told to put checked variants in its place, as Ubuntu's is.
const COMPILER: (&str, &str) = ("CC_x86_64_unknown_linux_musl", "cc");
const COMPILER_FLAGS: (&str, &str) = ("CFLAGS_x86_64_unknown_linux_musl", "-U_FORTIFY_SOURCE");
/// What a release consists of: package and program.
const PROGRAMS: [(&str, &str); 2] = [("bivouac", "bivouac"), ("bivouac-shim", "bivouac-shim")];

/// How carefully to compile.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// What users get.
    Release,
}

/// Builds release binaries into `target/dist` and says how large they are.
pub(crate) fn release() -> Result<()> {
    let workspace = Workspace::load()?;
    let built = binaries(&workspace, Profile::Release)?;
    let dist = workspace.target.join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    for file in built {
        let place = dist.join(file.file_name().context("a program without a name")?);
        // A running program cannot be written over, but its name can be taken away.
        let _absent = std::fs::remove_file(&place);
        let bytes =
            std::fs::copy(&file, &place).with_context(|| format!("cannot write {}", place.display()))?;
        say(format!("{}  {:.1} KiB", place.display(), bytes as f64 / 1024.0));
    }
    Ok(())
}

/// Builds both programs statically and returns where they lie.
pub(crate) fn binaries(workspace: &Workspace, profile: Profile) -> Result<Vec<PathBuf>> {
    add_target(TARGET)?;
    let mut cargo = shell::cargo();
    cargo.current_dir(&workspace.root).args(["build", "--target", TARGET]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    for (package, program) in PROGRAMS {
        cargo.args(["--package", package, "--bin", program]);
    }
    cargo.env(FLAGS.0, FLAGS.1);
    if MUSL_COMPILERS.iter().all(|name| shell::find(name).is_none()) && std::env::var_os(COMPILER.0).is_none()
    {
        cargo.envs([COMPILER, COMPILER_FLAGS]);
    }
    shell::run(&mut cargo)?;
    let folder =
        workspace.target.join(TARGET).join(if profile == Profile::Release { "release" } else { "debug" });
    let built: Vec<_> = PROGRAMS.iter().map(|(_, program)| folder.join(program)).collect();
    for program in &built {
        needs_no_loader(program)?;
    }
    Ok(built)
}

/// Every build of the programs asks this: after its change of root a loader would take libraries from the task's.
fn needs_no_loader(program: &Path) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let loader = loader(&bytes).with_context(|| format!("{} is no program", program.display()))?;
    ensure!(loader == Loader::None, "{} is not static: it asks for a loader", program.display());
    Ok(())
}

/// Whether a program is handed to another one that loads its libraries.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loader {
    /// It runs by itself.
    None,
    /// It has a `PT_INTERP`.
    Asked,
}

/// What a 64-bit ELF program asks for; none if it is not one.
fn loader(bytes: &[u8]) -> Option<Loader> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)))
    };
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kind = |index: u64| number(usize::try_from(table.checked_add(index * size)?).ok()?, 4);
    let kinds = (0..count).map(kind).collect::<Option<Vec<_>>>()?;
    Some(if kinds.contains(&PT_INTERP) { Loader::Asked } else { Loader::None })
}

/// Compiles the engine for the other machine, so that what is written for both stays so, and runs there, emulated,
/// the tests that need nothing of its kernel.
pub(crate) fn check_other() -> Result<()> {
    let workspace = Workspace::load()?;
    if let Err(error) = add_target(OTHER) {
        say(format!("SKIPPED: cross: {error:#}"));
        return Ok(());
    }
    let mut cargo = shell::cargo();
    cargo.current_dir(&workspace.root).args(["check", "--quiet", "--locked", "--target", OTHER]);
    for package in ENGINE {
        cargo.args(["--package", package]);
    }
    shell::run(&mut cargo)?;
    say(format!("cross: {} packages compile for {OTHER}", ENGINE.len()));
    test_other(&workspace)
}

/// Tests that an emulator of the other machine's instructions can run, by package: the filter with its numbers of
/// calls (but for the comparison of all of them, which takes half a minute there), the protocol and the state machine.
const EMULATED: [(&str, &[&str]); 2] = [
    ("bivouac-sandbox", &["seccomp::", "plan::", "--skip", "equality"]),
    ("bivouac-shim", &["protocol::", "machine::"]),
];
const EMULATOR: &str = "qemu-aarch64";

fn test_other(workspace: &Workspace) -> Result<()> {
    if shell::find(EMULATOR).is_none() {
        say(format!("SKIPPED: cross: no {EMULATOR} (qemu-user), which runs tests for {OTHER}"));
        return Ok(());
    }
    for (package, tests) in EMULATED {
        let mut cargo = shell::cargo();
        cargo.current_dir(&workspace.root).args(["test", "--quiet", "--locked", "--target", OTHER, "--lib"]);
        cargo.args(["--package", package, "--"]).args(tests);
        // Rust's own linker and its musl: no compiler of C for that machine is needed.
        let variable = |name: &str| format!("CARGO_TARGET_{}_{name}", OTHER.to_uppercase().replace('-', "_"));
        cargo.env(variable("LINKER"), "rust-lld").env(variable("RUNNER"), EMULATOR);
        shell::run(&mut cargo)?;
    }
    Ok(())
}

/// Adds a target through rustup where it is missing.
fn add_target(target: &str) -> Result<()> {
    let sysroot = shell::capture(std::process::Command::new("rustc").args(["--print", "sysroot"]))?;
    if PathBuf::from(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    say(format!("adding the target {target} through rustup"));
    shell::run(std::process::Command::new("rustup").args(["target", "add", target])).with_context(|| {
        format!(
            "the target {target} is missing; without rustup, install your distribution's musl target of Rust"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: CVE-2019-14271
    #[test]
    fn a_program_that_is_loaded_by_another_is_told_from_one_that_is_not() {
        // What cargo builds here for itself is loaded, and so is what a distribution brings.
        for program in [std::env::current_exe().unwrap(), "/bin/ls".into()] {
            let told = needs_no_loader(&program).unwrap_err().to_string();
            assert!(told.contains("asks for a loader"), "{told}");
        }
        let mut bytes = std::fs::read("/bin/ls").unwrap();
        assert_eq!(loader(&bytes), Some(Loader::Asked));
        // The same without any segment, and what is cut off or no program at all.
        bytes[56..58].fill(0);
        assert_eq!(loader(&bytes), Some(Loader::None));
        bytes[56..58].fill(255);
        bytes.truncate(1000);
        assert_eq!(loader(&bytes), None);
        assert_eq!(loader(b"#!/bin/sh\n"), None);
        assert_eq!(loader(b""), None);
    }
}
