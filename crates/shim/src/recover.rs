//! What became of a task whose starter has gone: found by its run directory, told apart by facts, cleaned up without
//! ever trusting a process number.

use crate::client::{Client, ClientError};
use crate::process::boot_id;
use crate::protocol::Refusal;
use crate::status::{FILE, Phase, Status, StatusError};
use bivouac_sys::replace::Nameless;
use rustix::fs::{CWD, Dir, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a run directory tells.
pub enum Found {
    /// The shim lives: ask it.
    Alive(Client),
    /// The shim of this boot is gone. Whatever ran is dead with it, or will be after [`clean`].
    ShimDead(Box<Status>),
    /// Of another boot: nothing runs, no group is left.
    OtherBoot(Box<Status>),
    /// No shim ever wrote here: it was ended before it had its order.
    NeverStarted,
    /// No shim answers, and what it wrote is not whole. A shim replaces its file in one step, so this is what a loss
    /// of power leaves.
    Damaged(StatusError),
}

/// Why a run directory cannot be judged or cleaned.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory, or something in it, answers with an error.
    #[error("cannot {what} {}: {errno}", path.display())]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        errno: Errno,
    },
    /// Not root's own directory.
    #[error("{} is not root's with mode 0700; it is left alone", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The status file cannot be used.
    #[error("{}: {error}", path.display())]
    Status {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: StatusError,
    },
    /// The shim is there, and does not behave.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Somebody else cleans at this moment.
    #[error("{} is being cleaned by somebody else", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The shim lives: it must be asked to destroy.
    #[error("the shim of {} lives; destroy the task through it", path.display())]
    Alive {
        /// The directory.
        path: PathBuf,
    },
    /// What is left cannot be removed.
    #[error(transparent)]
    Left(#[from] Refusal),
}

/// Looks at a run directory.
///
/// # Errors
/// [`RecoverError::Kernel`] (`ENOENT`: there is no such directory), [`RecoverError::Foreign`],
/// [`RecoverError::Status`] for a file that cannot be read.
pub fn look(run_dir: &Path) -> Result<Found, RecoverError> {
    let dir = open(run_dir)?;
    match Client::connect(run_dir) {
        Ok(client) => return Ok(Found::Alive(client)),
        Err(ClientError::NoShim { errno: Errno::CONNREFUSED | Errno::NOENT, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let status = match Status::read(dir.as_fd()) {
        Ok(Some(status)) => Box::new(status),
        Ok(None) => return Ok(Found::NeverStarted),
        Err(damaged @ StatusError::Damaged(_)) => return Ok(Found::Damaged(damaged)),
        Err(error) => return Err(RecoverError::Status { path: run_dir.to_owned(), error }),
    };
    let boot = boot_id().map_err(|error| RecoverError::Kernel {
        what: "read",
        path: "/proc/sys/kernel/random/boot_id".into(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    Ok(if status.boot_id == boot { Found::ShimDead(status) } else { Found::OtherBoot(status) })
}

/// Whether the shim that wrote this status runs: for the moment between its first record and its socket, and for
/// one that does not answer.
pub fn shim_runs(status: &Status) -> bool {
    boot_id().is_ok_and(|boot| boot == status.boot_id) && status.shim.runs()
}

/// Ends and removes what a dead shim left: the group with all that is in it, and the run directory. The status as it
/// was found comes back; its exit is none when the shim died before the task did. What is damaged names no group:
/// whoever made it removes it first.
///
/// # Errors
/// [`RecoverError::Alive`], [`RecoverError::Busy`], [`RecoverError::Left`] when the group cannot be removed (the
/// run directory stays then, for another try).
pub fn clean(run_dir: &Path) -> Result<Option<Status>, RecoverError> {
    let dir = open(run_dir)?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| RecoverError::Busy { path: run_dir.to_owned() })?;
    let status = match look(run_dir)? {
        Found::Alive(_) => return Err(RecoverError::Alive { path: run_dir.to_owned() }),
        Found::ShimDead(status) => {
            // Connecting fails also in the moments before a shim listens and after it has stopped to.
            if shim_runs(&status) {
                return Err(RecoverError::Alive { path: run_dir.to_owned() });
            }
            crate::ground::end_group(&status.cgroup)?;
            Some(*status)
        }
        Found::OtherBoot(status) => Some(*status),
        Found::NeverStarted | Found::Damaged(_) => None,
    };
    remove_run_dir(dir.as_fd(), run_dir, &mut Nameless::default())?;
    Ok(status)
}

/// Whether a status without an exit means that the task was lost with its shim.
pub fn was_lost(status: &Status) -> bool {
    match status.phase {
        Phase::Starting | Phase::Running | Phase::Stopping => true,
        Phase::Exited | Phase::Failed => false,
    }
}

fn open(run_dir: &Path) -> Result<OwnedFd, RecoverError> {
    let kernel = |what| move |errno| RecoverError::Kernel { what, path: run_dir.to_owned(), errno };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, run_dir, flags, Mode::empty()).map_err(kernel("open"))?;
    let found = fstat(&dir).map_err(kernel("look at"))?;
    if found.st_uid != 0 || found.st_mode & 0o077 != 0 {
        return Err(RecoverError::Foreign { path: run_dir.to_owned() });
    }
    Ok(dir)
}

/// Removes the files of a run directory, the status last, and the directory itself.
///
/// # Errors
/// [`RecoverError::Kernel`]: `ENOTEMPTY` when somebody put a directory there.
pub(crate) fn remove_run_dir(
    dir: BorrowedFd<'_>,
    path: &Path,
    nameless: &mut Nameless,
) -> Result<(), RecoverError> {
    let kernel = |what| move |errno| RecoverError::Kernel { what, path: path.to_owned(), errno };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(dir, c".", flags, Mode::empty()).map_err(kernel("open"))?;
    let mut names = Vec::new();
    for entry in Dir::new(listed).map_err(kernel("list"))? {
        let name = entry.map_err(kernel("list"))?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    names.sort_by_key(|name| name.as_bytes() == FILE.as_bytes());
    for name in names {
        match nameless.remove(dir, &*name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(kernel("remove what is in")(errno)),
        }
    }
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(kernel("remove")(errno)),
    }
}
