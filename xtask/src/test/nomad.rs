//! The Nomad that the tests of the plugin start: built once per machine from the Go module in `tests/nomad`.

use crate::shell::{self, complain, say};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What is built, and under which name it is kept.
const PROGRAM: &str = "nomad-1.11.2";
/// What the Go module in `tests/nomad` requires at that version.
const SOURCE: &str = "github.com/hashicorp/nomad";
/// A device plugin for the tests, which lies in that module: nearly all of it is part of Nomad too.
const DEVICE: (&str, &str) = ("nomad-device-1.11.2", "./device");

/// How it stands with Nomad.
pub(crate) enum Nomad {
    /// It is there.
    Built,
    /// It is being built; the file it will be.
    Building(Child, PathBuf),
    /// It cannot be had, and the tests will skip.
    Lacking(String),
}

/// Where it is kept between runs: outside of the work tree, for every clone on this machine.
fn place() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("bivouac-tests").join(PROGRAM)
}

/// Where a build writes until it is whole.
fn unfinished(program: &Path) -> PathBuf {
    program.with_extension(format!("{}.part", std::process::id()))
}

/// Begins to build it, beside everything else, where it is not there and may be made.
pub(crate) fn begin(workspace: &Workspace, install: bool) -> Nomad {
    let program = place();
    // A machine that has Nomad from before goes without the device plugin, whose build could take minutes there.
    if program.is_file() {
        return Nomad::Built;
    }
    if !install {
        return Nomad::Lacking(format!(
            "{} (built without --no-install), for the tests of the plugin",
            program.display()
        ));
    }
    if shell::find("go").is_none() {
        return Nomad::Lacking(
            "go (1.25 or newer, from go.dev), to build Nomad for the tests of the plugin".to_owned(),
        );
    }
    match build(&workspace.root.join("tests/nomad"), &program) {
        Ok(child) => {
            say(format!("building: Nomad with go, once for this machine: {} (minutes)", program.display()));
            Nomad::Building(child, program)
        }
        Err(error) => Nomad::Lacking(format!("Nomad, for the tests of the plugin: {error:#}")),
    }
}

fn build(module: &Path, program: &Path) -> Result<Child> {
    let folder = program.parent().context("a place without a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // The device plugin first, for what it has in common with Nomad is then built once; without it a test is skipped.
    let line = "go build -trimpath -o \"$1\" \"$2\"; exec go build -trimpath -o \"$3\" \"$4\"";
    Command::new("sh")
        .args(["-c", line, "build"])
        .arg(program.with_file_name(DEVICE.0))
        .arg(DEVICE.1)
        .arg(unfinished(program))
        .arg(SOURCE)
        .current_dir(module)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Go names every module it fetches; its last words matter only when it fails.
        .stderr(std::fs::File::create(program.with_extension("log")).context("cannot write the log of go")?)
        .spawn()
        .context("cannot start go")
}

impl Nomad {
    /// Waits for a build; says what is lacking in the end.
    pub(crate) fn finish(self) -> Option<String> {
        match self {
            Self::Built => None,
            Self::Lacking(why) => Some(why),
            Self::Building(child, program) => match finished(child, &program) {
                Ok(()) => None,
                Err(error) => {
                    complain(format!("{error:#}"));
                    Some(format!("Nomad, for the tests of the plugin: {error:#}"))
                }
            },
        }
    }
}

fn finished(mut child: Child, program: &Path) -> Result<()> {
    let status = child.wait().context("cannot wait for go")?;
    let made = unfinished(program);
    if !status.success() {
        let log = std::fs::read_to_string(program.with_extension("log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it said nothing");
        bail!("go build of {SOURCE} ended with {status}: {last}");
    }
    std::fs::rename(&made, program).with_context(|| format!("cannot make {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_fails_is_told_and_leaves_no_program() {
        let folder = std::env::temp_dir().join(format!("bivouac-test-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join(PROGRAM);
        std::fs::write(program.with_extension("log"), "downloading\nno space left\n").unwrap();
        let child = Command::new("false").spawn().unwrap();
        let lacking = Nomad::Building(child, program.clone()).finish().unwrap();
        assert!(lacking.contains("no space left"), "{lacking}");
        assert!(!program.exists());

        std::fs::write(unfinished(&program), "program").unwrap();
        let child = Command::new("true").spawn().unwrap();
        assert_eq!(Nomad::Building(child, program.clone()).finish(), None);
        assert!(program.exists() && !unfinished(&program).exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
