//! The loopback interface.

use crate::{Errno, check, last_errno};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Brings `lo` up in the calling thread's network namespace. See netdevice(7).
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN over the namespace; `ENODEV` where there is none.
pub fn bring_loopback_up() -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket == -1 {
        return Err(last_errno());
    }
    // SAFETY: the kernel just made it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = [0u8; 40];
    if let Some(name) = request.get_mut(..2) {
        name.copy_from_slice(b"lo");
    }
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    if let Some(place) = request.get_mut(16..18) {
        place.copy_from_slice(&flags.to_ne_bytes());
    }
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq` (40 bytes): the name at 0, the flags at 16.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, request.as_ptr()) };
    check(libc::c_long::from(answer)).map(drop)
}

/// Whether `fd` is a network namespace, and nothing else. See NS_GET_NSTYPE in ioctl_nsfs(2).
pub fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    // Asked first: on anything but nsfs the number could mean another request.
    let on_nsfs = rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC);
    // SAFETY: on nsfs the request takes no argument and answers a CLONE_NEW* number.
    on_nsfs && unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) } == libc::CLONE_NEWNET
}
