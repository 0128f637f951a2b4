//! Project quotas: a number that everything below a directory has, and how much all of it may take. See quotactl(2) and
//! FS_IOC_FSSETXATTR in `linux/fs.h`. ext4 and XFS keep them where they are mounted with `prjquota`.

use crate::{Errno, check};
use rustix::fd::{AsRawFd, BorrowedFd};

const GET_ATTRIBUTES: u64 = 0x801c_581f;
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// What is made below takes the directory's project.
const INHERIT: u32 = 0x200;
const OF_PROJECTS: u64 = 2;
const GET_QUOTA: u64 = 0x80_0007;
const SET_QUOTA: u64 = 0x80_0008;
/// Of what is handed in, the limits of bytes count.
const BYTES: u32 = 1;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    hard_kib: u64,
    soft_kib: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    bytes_until: u64,
    inodes_until: u64,
    valid: u32,
}

/// The project that what is made below a directory will have; none where nothing is inherited.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP`: its file system knows no projects.
pub fn project(directory: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    let Attributes { flags, project, .. } = attributes(directory)?;
    Ok((flags & INHERIT != 0 && project != 0).then_some(project))
}

/// Gives an empty directory, and what is made below it from now on, a project.
///
/// # Errors
/// As [`project`]; `EOPNOTSUPP`: an ext4 without the feature `project`.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the descriptor is open, and the kernel reads one `struct fsxattr`, which `attributes` is.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES as libc::Ioctl, &attributes) };
    check(answer.into()).map(drop)
}

fn attributes(directory: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open, and the kernel writes one `struct fsxattr`, which `attributes` is.
    let answer =
        unsafe { libc::ioctl(directory.as_raw_fd(), GET_ATTRIBUTES as libc::Ioctl, &mut attributes) };
    check(answer.into())?;
    Ok(attributes)
}

/// Whether nobody has a limit for a project, and nothing is counted for it, on the file system of `on`.
///
/// # Errors
/// `ESRCH`, `ENOSYS`: it keeps no project quotas; `EPERM`.
pub fn is_free(on: BorrowedFd<'_>, project: u32) -> Result<bool, Errno> {
    let mut quota = Quota::default();
    match call(on, GET_QUOTA, project, &mut quota) {
        // XFS has no record of one that was never used.
        Err(Errno::NOENT) => Ok(true),
        other => other.map(|()| quota.hard_kib == 0 && quota.soft_kib == 0 && quota.bytes == 0),
    }
}

/// Sets how many KiB all files of a project may take on the file system of `on`; 0 is as much as there is. Whoever has
/// CAP_SYS_RESOURCE may exceed it.
///
/// # Errors
/// As [`is_free`].
pub fn set_limit(on: BorrowedFd<'_>, project: u32, kib: u64) -> Result<(), Errno> {
    call(on, SET_QUOTA, project, &mut Quota { hard_kib: kib, valid: BYTES, ..Quota::default() })
}

fn call(on: BorrowedFd<'_>, command: u64, project: u32, quota: &mut Quota) -> Result<(), Errno> {
    let command = command << 8 | OF_PROJECTS;
    let pointer = std::ptr::from_mut(quota);
    // SAFETY: the descriptor is open, and the kernel reads or writes one `struct if_dqblk`, which `quota` is.
    let answer =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, on.as_raw_fd(), command as u32, project, pointer) };
    check(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    /// The kernel's sizes, of which the numbers of the calls are made.
    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Attributes>(), ((GET_ATTRIBUTES >> 16) & 0x3fff) as usize);
        assert_eq!(size_of::<Quota>(), 72);
    }

    #[test]
    fn what_keeps_no_quotas_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(project(proc.as_fd()).is_err());
        assert!(set_project(proc.as_fd(), 7).is_err());
        assert!(is_free(proc.as_fd(), 7).is_err());
        assert!(set_limit(proc.as_fd(), 7, 0).is_err());
    }
}
