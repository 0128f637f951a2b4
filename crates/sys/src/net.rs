//! Network namespaces and their loopback interface.

use crate::{Errno, check, last_errno};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes a fresh network namespace: `lo` is up, and no interface that is added later believes router
/// advertisements (an address in the same bridge could reroute IPv6). The descriptor keeps it. The caller stays in
/// its own namespace. See network_namespaces(7).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EAGAIN` where no thread can be started.
pub fn new_namespace() -> Result<OwnedFd, Errno> {
    // unshare(2) moves one thread: one of its own, which ends here, leaves the caller where it is.
    let maker = std::thread::Builder::new().spawn(|| {
        // SAFETY: CLONE_NEWNET alone changes which network this thread sees, nothing that memory safety rests on.
        check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNET) }))?;
        bring_loopback_up()?;
        refuse_router_advertisements()?;
        openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    });
    let maker = maker.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
    maker.join().unwrap_or(Err(Errno::IO))
}

/// Writes the two sysctls through which interfaces to come get theirs; a kernel without IPv6 has none.
fn refuse_router_advertisements() -> Result<(), Errno> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/accept_ra");
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::NOENT) => continue,
            opened => opened?,
        };
        if fstatfs(&file)?.f_type as u64 != PROC_SUPER_MAGIC {
            return Err(Errno::XDEV);
        }
        rustix::io::write(&file, b"0")?;
    }
    Ok(())
}

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
    let on_nsfs = fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC);
    // SAFETY: on nsfs the request takes no argument and answers a CLONE_NEW* number.
    on_nsfs && unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) } == libc::CLONE_NEWNET
}
