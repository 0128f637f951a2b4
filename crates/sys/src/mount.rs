//! `mount_setattr(2)`, which `rustix` lacks, with the masks it takes, and how a mount namespace is left.

use crate::{Errno, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What `mount_setattr` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one mount.
    One,
    /// The mount and all below it.
    Tree,
}

/// How mounts made elsewhere arrive; numbers of mount(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// As it is.
    Keep,
    /// `MS_PRIVATE`: nothing in, nothing out.
    Private,
    /// `MS_SLAVE`: in, not out.
    Slave,
    /// `MS_SHARED`: both ways.
    Shared,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Keep => 0,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
        }
    }
}

/// Sets attributes (`MOUNT_ATTR_*`) and propagation of the mount that `fd` stands in. See mount_setattr(2),
/// Linux 5.12.
///
/// # Errors
/// `EINVAL` (not a mount point, or of another namespace), `EPERM`, `EBUSY` (read-only asked while open for
/// writing).
pub fn mount_setattr(
    fd: BorrowedFd<'_>,
    reach: Reach,
    set: u64,
    propagation: Propagation,
) -> Result<(), Errno> {
    setattr(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH, reach, set, propagation)
}

/// The same by path. Only for `/`, before any code of a task exists.
///
/// # Errors
/// As [`mount_setattr`].
pub fn mount_setattr_at(path: &CStr, reach: Reach, set: u64, propagation: Propagation) -> Result<(), Errno> {
    setattr(libc::AT_FDCWD, path, 0, reach, set, propagation)
}

fn setattr(
    fd: i32,
    path: &CStr,
    flags: i32,
    reach: Reach,
    set: u64,
    propagation: Propagation,
) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: set, attr_clr: 0, propagation: propagation.bits(), userns_fd: 0 };
    let recursive = if reach == Reach::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the struct has the first published layout (32 bytes) and lives through the call; the path is
    // terminated.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path.as_ptr(),
            flags | recursive,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(answer).map(drop)
}

/// Detaches the mount at `path` and all below it. See MNT_DETACH in umount2(2).
///
/// # Errors
/// `EINVAL` (not a mount point), `EPERM`.
pub fn detach(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a terminated path and a flag.
    check(libc::c_long::from(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })).map(drop)
}

/// Gives the calling thread a mount namespace of its own, a copy of the one it is in, and a root and working directory
/// that it shares with no other thread. See CLONE_NEWNS in unshare(2).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ENOMEM`, `ENOSPC` (too many mounts or namespaces).
pub fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: a flag; what other threads see stays as it is, and no memory or descriptor is shared differently.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) })).map(drop)
}
