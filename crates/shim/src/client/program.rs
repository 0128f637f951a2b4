//! The shim's program, as it is started.

use super::ClientError;
use bivouac_sys::mount::{Propagation, Reach, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
