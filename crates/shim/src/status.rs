//! The status file: what a shim knows about its task, on disk before anybody is told.
//!
//! One JSON document in the run directory, replaced whole by a rename beneath a descriptor of that directory. It is
//! not synced: it must survive the death of every process but not of the machine, whose tasks are gone with it, and
//! the run directory usually lies in memory anyway.

use crate::process::{Moment, ProcessId};
use bivouac_cgroup::Saved;
use bivouac_sandbox::model::Sharing;
use bivouac_sys::replace::Nameless;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

/// Name of the file in the run directory.
pub const FILE: &str = "status.json";
const NEW_FILE: &str = "status.new";
/// What a reader takes at most; a status is a few KiB.
const LARGEST: u64 = 1024 * 1024;

/// How things stand with a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the protocol that the shim speaks.
    pub protocol: u16,
    /// Name of the task.
    pub task: String,
    /// Which boot it belongs to.
    pub boot_id: String,
    /// The shim.
    pub shim: ProcessId,
    /// The task's control group, with its identity.
    pub cgroup: Saved,
    /// Whether the kernel ends the rest of the task when its first process ends.
    pub pid_namespace: Sharing,
    /// How far it is.
    pub phase: Phase,
    /// The first process; none before it runs.
    #[serde(default)]
    pub first: Option<ProcessId>,
    /// The path in the task at which the command was found.
    #[serde(default)]
    pub command: Option<String>,
    /// When the first process was started.
    #[serde(default)]
    pub started: Option<Moment>,
    /// Processes killed for lack of memory so far.
    #[serde(default)]
    pub oom_kills: u64,
    /// How it ended; only in [`Phase::Exited`].
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Why it never ran; only in [`Phase::Failed`].
    #[serde(default)]
    pub failure: Option<String>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The sandbox is being set up.
    Starting,
    /// It could not be started.
    Failed,
    /// The first process runs.
    Running,
    /// It was told to end.
    Stopping,
    /// The first process has ended and was reaped.
    Exited,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It called exit.
    Exited {
        /// With this status.
        code: u8,
    },
    /// A signal ended it.
    Signaled {
        /// Which.
        signal: i32,
        /// Whether a core was written.
        core: bool,
    },
}

impl Ending {
    /// The status as a shell shows it: 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Ending::Exited { code } => i32::from(code),
            Ending::Signaled { signal, .. } => 128 + signal,
        }
    }
}

impl Ending {
    /// The ending of a command behind a reaper, which says the signal that ended it and exits with 128 + that.
    pub(crate) fn behind(self, signal: Option<i32>) -> Ending {
        match (self, signal) {
            (Ending::Exited { code }, Some(signal)) if i32::from(code) == 128 + signal => {
                Ending::Signaled { signal, core: false }
            }
            (ending, _) => ending,
        }
    }
}

impl From<bivouac_sys::wait::Ending> for Ending {
    fn from(ending: bivouac_sys::wait::Ending) -> Ending {
        match ending {
            bivouac_sys::wait::Ending::Exited(code) => Ending::Exited { code },
            bivouac_sys::wait::Ending::Signaled { signal, core } => Ending::Signaled { signal, core },
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How its first process ended.
    pub ending: Ending,
    /// Why.
    #[serde(default)]
    pub cause: Cause,
    /// Processes of the task killed for lack of memory, from its start to its end.
    #[serde(default)]
    pub oom_kills: u64,
    /// What it used.
    pub usage: Usage,
    /// When it was started.
    pub started: Moment,
    /// When its end was seen.
    pub finished: Moment,
}

/// Who ended a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Itself, or somebody other than the shim.
    #[default]
    Own,
    /// It was asked to stop, and ended within the grace period.
    Stopped,
    /// It was asked to stop with this signal, and was killed after the grace period.
    Killed {
        /// The signal it was asked with.
        signal: i32,
        /// Whether it is the first process of its pid namespace and had no handler for that signal, so that the
        /// kernel never gave it: the option `init` is the remedy.
        ignored: bool,
    },
    /// It was killed without being asked: no grace period, or nobody left to run for.
    KilledAtOnce,
}

/// What a task used, its reaped children included. See getrusage(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, microseconds.
    pub user_micros: u64,
    /// Processor time in the kernel, microseconds.
    pub system_micros: u64,
    /// Largest resident size of one process, KiB.
    pub max_rss_kib: u64,
}

/// Why a status file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// What the kernel answered.
    #[error("cannot {what} the status file {FILE}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The answer.
        errno: Errno,
    },
    /// Not what a shim writes.
    #[error("the status file {FILE} is damaged: {0}")]
    Damaged(String),
}

fn kernel(what: &'static str) -> impl Fn(std::io::Error) -> StatusError {
    move |error| StatusError::Kernel { what, errno: Errno::from_io_error(&error).unwrap_or(Errno::IO) }
}

impl Status {
    /// Replaces the file in `run_dir`; the one before goes to `nameless`. A failure leaves it.
    ///
    /// # Errors
    /// [`StatusError::Kernel`]: `ENOSPC`, `EROFS`, `ENOENT` when the directory is gone.
    pub fn write(&self, run_dir: BorrowedFd<'_>, nameless: &mut Nameless) -> Result<(), StatusError> {
        let bytes = serde_json::to_vec(self).map_err(|error| StatusError::Damaged(error.to_string()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let written = openat(run_dir, NEW_FILE, flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| std::fs::File::from(file).write_all(&bytes))
            .map_err(kernel("write"));
        let replaced = written.and_then(|()| {
            nameless
                .replace(run_dir, NEW_FILE, FILE)
                .map_err(|errno| StatusError::Kernel { what: "replace", errno })
        });
        if replaced.is_err() {
            // Half a file on a full disk would only take more of it. The first failure is what counts.
            let _ = unlinkat(run_dir, NEW_FILE, AtFlags::empty());
        }
        replaced
    }

    /// Reads the file in `run_dir`; `None` when no shim ever wrote one.
    ///
    /// # Errors
    /// [`StatusError::Damaged`] (cut short, or not ours), [`StatusError::Kernel`].
    pub fn read(run_dir: BorrowedFd<'_>) -> Result<Option<Status>, StatusError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match openat(run_dir, FILE, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(StatusError::Kernel { what: "open", errno }),
            Ok(file) => std::fs::File::from(file),
        };
        if !file.metadata().map_err(kernel("look at"))?.is_file() {
            return Err(StatusError::Damaged("it is not a regular file".into()));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(kernel("read"))?;
        if bytes.len() as u64 > LARGEST {
            return Err(StatusError::Damaged(format!("it is longer than {LARGEST} bytes")));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StatusError::Damaged(error.to_string()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::fd::AsFd;

    pub(crate) fn saved() -> Saved {
        serde_json::from_str(include_str!("../golden/saved.json")).unwrap()
    }

    pub(crate) fn exit() -> Exit {
        Exit {
            ending: Ending::Signaled { signal: 9, core: false },
            cause: Cause::Killed { signal: 15, ignored: true },
            oom_kills: 2,
            usage: Usage { user_micros: 10, system_micros: 20, max_rss_kib: 30 },
            started: Moment { unix_nanos: 1_700_000_000_000_000_000, boot_nanos: 5 },
            finished: Moment { unix_nanos: 1_700_000_001_000_000_000, boot_nanos: 1_000_000_005 },
        }
    }

    pub(crate) fn status() -> Status {
        Status {
            protocol: crate::protocol::frame::VERSION,
            task: "alloc/web".into(),
            boot_id: "7d1c2a1e-6a5c-4a52-8a06-0d4b4d1f0a3f".into(),
            shim: ProcessId { pid: 100, start_time: 7 },
            cgroup: saved(),
            pid_namespace: Sharing::Private,
            phase: Phase::Exited,
            first: Some(ProcessId { pid: 101, start_time: 8 }),
            command: Some("/usr/bin/sleep".into()),
            started: Some(Moment { unix_nanos: 1_700_000_000_000_000_000, boot_nanos: 5 }),
            oom_kills: 2,
            exit: Some(exit()),
            failure: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        assert!(Status::read(fd.as_fd()).unwrap().is_none());
        status().write(fd.as_fd(), &mut Nameless::default()).unwrap();
        let later = Status { phase: Phase::Running, exit: None, ..status() };
        later.write(fd.as_fd(), &mut Nameless::default()).unwrap();
        assert_eq!(Status::read(fd.as_fd()).unwrap(), Some(later));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_status_of_another_build_is_understood() {
        let mut value = serde_json::to_value(status()).unwrap();
        let object = value.as_object_mut().unwrap();
        object.insert("of_tomorrow".into(), 1.into());
        for optional in ["first", "command", "started", "oom_kills", "exit", "failure"] {
            object.remove(optional);
        }
        let read: Status = serde_json::from_value(value).unwrap();
        assert_eq!((read.exit, read.oom_kills), (None, 0));
    }

    #[test]
    fn every_cut_of_the_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let whole = serde_json::to_vec(&status()).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(dir.path().join(FILE), whole.get(..cut).unwrap()).unwrap();
            let error = Status::read(fd.as_fd()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }

    #[test]
    fn odd_files_neither_hang_nor_fill_memory() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        std::fs::create_dir(&path).unwrap();
        assert!(Status::read(fd.as_fd()).is_err());
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(Status::read(fd.as_fd()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(Status::read(fd.as_fd()).is_err());
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_that_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        drop(dir);
        let written = status().write(fd.as_fd(), &mut Nameless::default());
        assert!(matches!(written, Err(StatusError::Kernel { errno: Errno::NOENT, .. })));
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(Ending::Exited { code: 255 }.code(), 255);
        assert_eq!(Ending::Signaled { signal: 9, core: true }.code(), 137);
    }
}
