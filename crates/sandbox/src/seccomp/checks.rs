//! Answers that depend on arguments, one function for each kind of call.

use super::verdict::{ALLOW, EAFNOSUPPORT, EPERM, EPROTONOSUPPORT, Verdict};
use super::{Compat32, MountGrant, Request};
use crate::capability::CapSet;

/// `AF_*` of `sys/socket.h`.
mod family {
    pub(super) const UNIX: u32 = 1;
    pub(super) const INET: u32 = 2;
    pub(super) const INET6: u32 = 10;
    pub(super) const NETLINK: u32 = 16;
    pub(super) const PACKET: u32 = 17;
}

/// An old way to write a packet socket: type `SOCK_PACKET` in family `inet`. The kernel makes it family
/// `packet` before anything else, so a filter that looks only at the family lets it through.
const SOCK_PACKET: u32 = 10;
/// The type without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const SOCK_TYPE_MASK: u32 = 0xf;

/// Netlink protocols that configure IPsec, cryptography and storage: none has business in a task, and a root
/// task without user namespaces would reach them (IPsec has let readers write into the page cache, which
/// tasks share with the host). XFRM, ISCSI, SCSITRANSPORT, RDMA, CRYPTO.
const CLOSED_NETLINK: &[u32] = &[6, 8, 18, 20, 21];

/// `CLONE_NEWUSER`: never, whatever is granted.
const NEW_USER: u32 = 0x1000_0000;
/// Every `CLONE_NEW*` that clone(2) knows: mnt, cgroup, uts, ipc, user, pid, net.
const NEW_ANY: u32 = 0x7e02_0000;

/// `FAN_MARK_FILESYSTEM` and, of the same bit, `FAN_MARK_MNTNS`.
const FAN_MARK_FILESYSTEM: u32 = 0x100;

/// Input pushed into a terminal, console functions, line disciplines: TIOCSTI, TIOCLINUX, TIOCSETD.
const TERMINAL_REQUESTS: &[u32] = &[0x5412, 0x541c, 0x5423];
/// A whole file system, which is the host's: FIFREEZE, FITHAW, FITRIM, FS_IOC_SHUTDOWN, EXT4_IOC_RESIZE_FS,
/// FS_IOC_SETFSLABEL.
const FILE_SYSTEM_REQUESTS: &[u32] =
    &[0xc004_5877, 0xc004_5878, 0xc018_5879, 0x8004_587d, 0x4008_6610, 0x4100_9432];

/// The values of personality(2) that change nothing about protections: Linux, Linux with the old layout,
/// `uname` of 2.6, both, and the question.
const PERSONALITIES: &[u32] = &[0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];

/// Scheduling policies that the cgroup's share of the processor holds: OTHER, BATCH, IDLE.
const SHARED_POLICIES: &[u32] = &[0, 3, 5];
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;

/// Kinds of node without a device behind: no type (a regular file), regular, FIFO, socket.
const PLAIN_NODES: &[u32] = &[0, 0x8000, 0x1000, 0xc000];
const S_IFMT: u32 = 0xf000;

/// Open if the task was granted one capability.
pub(super) fn with(request: &Request, capability: CapSet) -> Verdict {
    if request.granted.contains(capability) { ALLOW } else { EPERM }
}

/// Whether calls are open that make the task equal to the host.
fn mounts(request: &Request) -> bool {
    request.mount_allowed == MountGrant::Granted && request.granted.contains(CapSet::SYS_ADMIN)
}

/// Open with SYS_ADMIN and the operator's word for mounts.
pub(super) fn mount(request: &Request) -> Verdict {
    if mounts(request) { ALLOW } else { EPERM }
}

/// unshare(2): as mounts, but never a new user namespace.
pub(super) fn unshare(request: &Request) -> Verdict {
    if mounts(request) { Verdict::by_bits(0, NEW_USER, vec![(0, ALLOW)], EPERM) } else { EPERM }
}

/// clone(2): its flags are the first argument on every machine served.
pub(super) fn clone(request: &Request) -> Verdict {
    let closed = if mounts(request) { NEW_USER } else { NEW_ANY };
    Verdict::by_bits(0, closed, vec![(0, ALLOW)], EPERM)
}

/// socket(2) and socketpair(2).
pub(super) fn socket(request: &Request) -> Verdict {
    let packet = with(request, CapSet::NET_RAW);
    let inet = Verdict::by_bits(1, SOCK_TYPE_MASK, vec![(SOCK_PACKET, packet.clone())], ALLOW);
    let netlink = if request.granted.contains(CapSet::NET_ADMIN) {
        ALLOW
    } else {
        Verdict::by_value(2, Verdict::each(CLOSED_NETLINK, &EPROTONOSUPPORT), ALLOW)
    };
    let arms = vec![
        (family::UNIX, ALLOW),
        (family::INET, inet),
        (family::INET6, ALLOW),
        (family::NETLINK, netlink),
        (family::PACKET, packet),
    ];
    Verdict::by_value(0, arms, EAFNOSUPPORT)
}

/// The old entry of 32-bit programs to all socket calls: its arguments lie in memory.
pub(super) fn socketcall(request: &Request) -> Verdict {
    match request.compat32 {
        Compat32::NoSocketcall => EPERM,
        Compat32::Full => ALLOW,
    }
}

/// ioctl(2).
pub(super) fn ioctl(request: &Request) -> Verdict {
    let mut arms = Verdict::each(TERMINAL_REQUESTS, &EPERM);
    if !mounts(request) {
        arms.extend(Verdict::each(FILE_SYSTEM_REQUESTS, &EPERM));
    }
    Verdict::by_value(1, arms, ALLOW)
}

/// fanotify_mark(2): a mark on a file system hands out descriptors of all its files, and it is the host's.
pub(super) fn fanotify_mark(request: &Request) -> Verdict {
    if mounts(request) { ALLOW } else { Verdict::by_bits(1, FAN_MARK_FILESYSTEM, vec![(0, ALLOW)], EPERM) }
}

/// personality(2).
pub(super) fn personality(_: &Request) -> Verdict {
    Verdict::by_value(0, Verdict::each(PERSONALITIES, &ALLOW), EPERM)
}

/// mknod(2) (`mode` is argument 1) and mknodat(2) (argument 2). With MKNOD the device rules of the cgroup decide.
pub(super) fn node(request: &Request, mode: u8) -> Verdict {
    if request.granted.contains(CapSet::MKNOD) {
        ALLOW
    } else {
        Verdict::by_bits(mode, S_IFMT, Verdict::each(PLAIN_NODES, &ALLOW), EPERM)
    }
}

/// sched_setscheduler(2).
pub(super) fn scheduler(request: &Request) -> Verdict {
    if request.granted.contains(CapSet::SYS_NICE) {
        ALLOW
    } else {
        Verdict::by_bits(1, !SCHED_RESET_ON_FORK, Verdict::each(SHARED_POLICIES, &ALLOW), EPERM)
    }
}

/// A nice value or its change: not below zero.
pub(super) fn nice(request: &Request, value: u8) -> Verdict {
    const SIGN: u32 = 1 << 31;
    if request.granted.contains(CapSet::SYS_NICE) {
        ALLOW
    } else {
        Verdict::by_bits(value, SIGN, vec![(0, ALLOW)], EPERM)
    }
}

/// ioprio_set(2): not the real-time class, which is 1 in the three bits from bit 13.
pub(super) fn ioprio(request: &Request) -> Verdict {
    if request.granted.contains(CapSet::SYS_NICE) {
        ALLOW
    } else {
        Verdict::by_bits(2, 0xe000, vec![(0x2000, EPERM)], ALLOW)
    }
}
