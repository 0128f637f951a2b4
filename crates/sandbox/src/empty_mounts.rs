//! A mount namespace with nothing of the host in it, from which launches start.
//!
//! All that a launch mounts comes to it by descriptors, so its child needs none of the host's mounts. To take a copy of
//! them and to leave it again costs the more the more mounts a host has, and by `pivot_root(2)` the more processes, since
//! that call looks at every one of them. Whoever starts tasks makes once a namespace whose root is an empty read-only
//! directory; a launch copies this one mount and moves the task's root over it. Whoever takes that off finds what masks are
//! cut from, then the empty directory, and then the ramdisk that the kernel booted with, as in every mount namespace.

use crate::survey::mount_points;
use bivouac_sys::Errno;
use bivouac_sys::mount::{Propagation, Reach, detach, mount_setattr_at, unshare_mounts};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, move_mount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::thread::JoinHandle;

/// The thread that makes one only makes system calls.
const STACK: usize = 64 * 1024;

/// How the host's root is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSwitch {
    /// It is unmounted, with all that is mounted in it.
    Detach,
    /// An empty root is moved over it: for a host whose root is the ramdisk that it booted with, which nobody can unmount
    /// (`no_pivot_root`).
    Cover,
}

/// A mount namespace without mounts of the host. It lives as long as this descriptor, and whoever copied it.
#[derive(Debug)]
pub struct EmptyMounts(OwnedFd);

/// One that is being made.
#[derive(Debug)]
pub struct Making(JoinHandle<Result<OwnedFd, Errno>>);

impl EmptyMounts {
    /// Begins to make one, in a thread of its own: what a thread has left it does not come back to.
    ///
    /// # Errors
    /// `EAGAIN`: no thread.
    pub fn begin(switch: RootSwitch) -> Result<Making, Errno> {
        let thread = std::thread::Builder::new().stack_size(STACK);
        thread.spawn(move || leave_host(switch)).map(Making).map_err(|_| Errno::AGAIN)
    }

    /// Makes one.
    ///
    /// # Errors
    /// As [`EmptyMounts::begin`] and [`Making::finish`].
    pub fn make(switch: RootSwitch) -> Result<EmptyMounts, Errno> {
        EmptyMounts::begin(switch)?.finish()
    }

    /// One that somebody else made. That it is a mount namespace shows when it is entered.
    pub fn given(namespace: OwnedFd) -> EmptyMounts {
        EmptyMounts(namespace)
    }
}

impl AsFd for EmptyMounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Making {
    /// Waits for it.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, `EINVAL` when the host's root is a ramdisk and is to be detached, `ENOMEM`, `ENOSPC`
    /// (too many mounts).
    pub fn finish(self) -> Result<EmptyMounts, Errno> {
        self.0.join().unwrap_or(Err(Errno::CANCELED)).map(EmptyMounts)
    }
}

/// Moves the calling thread to a namespace of its own and empties it.
fn leave_host(switch: RootSwitch) -> Result<OwnedFd, Errno> {
    unshare_mounts()?;
    // A shared mount would show on the host what happens here.
    mount_setattr_at(c"/", Reach::Tree, 0, Propagation::Private)?;
    // While there is a proc.
    let namespace =
        openat(CWD, c"/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let root = empty_root()?;
    match switch {
        RootSwitch::Detach => {
            detach(c"/")?;
            // The thread still stands on what is gone; whoever enters the namespace stands at its bottom.
            enter_mounts(namespace.as_fd())?;
        }
        // What is moved over stays below: all but that is taken off first, or it could be reached, and would be kept in
        // use as long as this namespace lives.
        RootSwitch::Cover => {
            let points = mount_points().map_err(|_| Errno::IO)?;
            for point in points.iter().filter(|point| point.components().next().is_some()) {
                match detach(&point.to_c()) {
                    // It has gone with the mount that it lay in.
                    Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
    move_mount(&root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(namespace)
}

/// Moves the calling thread into a mount namespace: its root and working directory become that one's topmost root.
pub(crate) fn enter_mounts(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
}

/// An empty directory that stays so.
fn empty_root() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0555")?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", "1")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
