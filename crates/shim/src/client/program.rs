//! The shim's program, as it is started.

use super::ClientError;
use crate::protocol::frame::VERSION;
use bivouac_sys::mount::{Propagation, Reach, mount_setattr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// With this argument the shim's program says which version it speaks, and does nothing else.
pub const TELL: &str = "--protocol";
/// In front of the version.
const TOLD: &str = "bivouac-shim protocol ";
/// How long a program may take to say it, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the shim's program says when it is asked with [`TELL`].
pub fn told() -> String {
    format!("{TOLD}{VERSION}\n")
}

/// Why a program is not the shim that this build starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no such file.
    #[error("the program {0} is missing")]
    Missing(String),
    /// The kernel does not run it.
    #[error("the program {program} cannot be run: {answer}")]
    NotRun {
        /// Its path.
        program: String,
        /// What the kernel answered.
        answer: String,
    },
    /// It says something else, or nothing: an older release, or another program.
    #[error("the program {0} does not say which version of the protocol between the two it speaks")]
    Silent(String),
    /// Of another release.
    #[error(
        "the program {program} speaks version {theirs} of the protocol between the two, this one version {VERSION}"
    )]
    Other {
        /// Its path.
        program: String,
        /// What it said.
        theirs: u16,
    },
}

/// Runs the program at `path` to ask which version it speaks: a shim of another one would start no task.
///
/// # Errors
/// [`Unfit`].
pub fn check(path: &Path) -> Result<(), Unfit> {
    let program = || path.display().to_string();
    let not_run = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unfit::Missing(program()),
        _ => Unfit::NotRun { program: program(), answer: error.to_string() },
    };
    if !std::fs::metadata(path).map_err(not_run)?.is_file() {
        return Err(Unfit::NotRun { program: program(), answer: "it is no file".into() });
    }
    // A name without a directory would be looked for in PATH.
    let mut command = Command::new(std::path::absolute(path).map_err(not_run)?);
    let silent = command.arg(TELL).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = silent.stdout(Stdio::piped()).spawn().map_err(not_run)?;
    let said = hear(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    let version = said.strip_prefix(TOLD).and_then(|rest| rest.strip_suffix('\n')?.parse().ok());
    match version {
        None => Err(Unfit::Silent(program())),
        Some(VERSION) => Ok(()),
        Some(theirs) => Err(Unfit::Other { program: program(), theirs }),
    }
}

/// What it says before it closes its output, the time is over, or it says more than it should.
fn hear(child: &mut Child) -> String {
    let mut said = Vec::new();
    let Some(out) = child.stdout.take() else { return String::new() };
    let deadline = Instant::now() + PATIENCE;
    while said.len() < 64 {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        let mut fds = [PollFd::new(&out, PollFlags::IN)];
        if !poll(&mut fds, left.as_ref()).is_ok_and(|ready| ready > 0) {
            break;
        }
        let mut piece = [0; 64];
        match rustix::io::read(&out, &mut piece) {
            Ok(got @ 1..) => said.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8(said).unwrap_or_default()
}

/// The shim's program, opened on a read-only mount of its own.
///
/// A process that enters a task is the shim's program until its `execve`, and a root task can open it there
/// (`/proc/PID/exe`). Through this mount nobody changes its bytes, mode or owner.
#[derive(Debug)]
pub struct Program {
    pub(super) path: CString,
    pub(super) mount: OwnedFd,
}

impl Program {
    /// Opens the program at `path`.
    ///
    /// # Errors
    /// [`ClientError::Start`]: it is not there, or this process may not make mounts.
    pub fn open(path: &Path) -> Result<Program, ClientError> {
        let failed = |errno| ClientError::Start { program: path.display().to_string(), errno };
        let file = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&file, c"", clone).map_err(failed)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
        mount_setattr(mount.as_fd(), Reach::One, u64::from(attributes.bits()), Propagation::Private)
            .map_err(failed)?;
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        Ok(Program { path, mount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_says_our_version_is_our_shim() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shim");
        // By another process: what a thread of this one writes cannot be run while others are about to start theirs.
        let says = |script: &str, mode: &str| {
            let place = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$3\" && chmod $2 \"$3\"";
            let mut command = Command::new("sh");
            let placed = command.args(["-c", place, "sh", script, mode]).arg(&path).status();
            assert!(placed.unwrap().success());
            check(&path)
        };
        let name = path.display().to_string();
        assert_eq!(check(&path), Err(Unfit::Missing(name.clone())));
        let ours = format!("[ \"$*\" = {TELL} ] && printf '{}'", told().replace('\n', "\\n"));
        assert_eq!(says(&ours, "755"), Ok(()));
        let other = VERSION + 1;
        let told = says(&format!("echo {TOLD}{other}"), "755");
        assert_eq!(told, Err(Unfit::Other { program: name.clone(), theirs: other }));
        // What a shim answers that does not know the question, and programs that are none.
        for script in
            ["exit 64", "echo hello", "exec yes", "echo; exec >&-; exec sleep 1000", "printf '\\377\\n'"]
        {
            assert_eq!(says(script, "755"), Err(Unfit::Silent(name.clone())), "{script}");
        }
        let refused = says(&ours, "644").unwrap_err();
        assert!(refused.to_string().contains("cannot be run: Permission denied"), "{refused}");
        let refused = check(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("it is no file"), "{refused}");
    }
}
