//! Credentials of the calling thread: what `rustix` leaves out, and the bits Bivouac needs as plain numbers.

use crate::{Errno, check};
use std::ffi::CStr;

/// All five capability sets of a thread as bit masks (bit n is capability n), see capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityMasks {
    /// What the thread may use now.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What survives an `execve` of a file with inheritable capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Sets the three changeable sets of this thread. See capset(2).
///
/// # Errors
/// `EPERM` when a set asks for more than is permitted.
pub fn capset(masks: CapabilityMasks) -> Result<(), Errno> {
    let half = |shift: u32| Data {
        effective: (masks.effective >> shift) as u32,
        permitted: (masks.permitted >> shift) as u32,
        inheritable: (masks.inheritable >> shift) as u32,
    };
    let header = Header { version: VERSION_3, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 means a header and two data elements, which both live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Reads the sets of this thread. See capget(2).
///
/// # Errors
/// None that a running kernel gives for the calling thread.
pub fn capget() -> Result<CapabilityMasks, Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 means a header and two data elements for the kernel to fill.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [low, high] = data;
    Ok(CapabilityMasks {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

fn prctl(option: libc::c_int, second: u64, third: u64) -> Result<i32, Errno> {
    // SAFETY: the options used in this file take plain numbers, never pointers.
    let answer =
        unsafe { libc::syscall(libc::SYS_prctl, libc::c_long::from(option), second, third, 0u64, 0u64) };
    check(answer).map(|value| value as i32)
}

/// Takes a capability out of the bounding set. See PR_CAPBSET_DROP in prctl(2).
///
/// # Errors
/// `EINVAL`: the kernel has no such capability; `EPERM`: no CAP_SETPCAP.
pub fn drop_from_bounding_set(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0).map(drop)
}

/// Whether a capability is in the bounding set; `EINVAL` past the kernel's last one.
///
/// # Errors
/// `EINVAL`: the kernel has no such capability.
pub fn is_in_bounding_set(capability: u32) -> Result<bool, Errno> {
    prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0).map(|value| value == 1)
}

/// Adds a capability to the ambient set. See PR_CAP_AMBIENT in prctl(2).
///
/// # Errors
/// `EPERM` when it is not both permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability)).map(drop)
}

/// Keeps the permitted set over the next change of all uids away from 0. See PR_SET_KEEPCAPS in prctl(2).
///
/// # Errors
/// `EPERM` when securebits lock it.
pub fn keep_capabilities() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(drop)
}

/// Gives up gaining privileges by `execve`, for good. See PR_SET_NO_NEW_PRIVS in prctl(2).
///
/// # Errors
/// None on any supported kernel.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Signal sent to this process when its parent dies. Lost at every change of credentials. See
/// PR_SET_PDEATHSIG in prctl(2).
///
/// # Errors
/// `EINVAL`: no such signal.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// Makes this process inherit orphaned descendants. See PR_SET_CHILD_SUBREAPER in prctl(2).
///
/// # Errors
/// None on any supported kernel.
pub fn become_subreaper() -> Result<(), Errno> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Whether others of the same user may trace this process. See PR_SET_DUMPABLE in prctl(2).
///
/// # Errors
/// None for the two values used.
pub fn forbid_tracing() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Replaces the supplementary groups of this thread. See setgroups(2).
///
/// # Errors
/// `EPERM` without CAP_SETGID; `EINVAL` for more than 65536 groups.
pub fn setgroups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the slice is as long as is said and only read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets real, effective and saved gid of this thread. See setresgid(2).
///
/// # Errors
/// `EPERM` without CAP_SETGID.
pub fn setresgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets real, effective and saved uid of this thread. See setresuid(2).
///
/// # Errors
/// `EPERM` without CAP_SETUID; `EAGAIN` when the user's process limit is reached.
pub fn setresuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Starts a fresh session keyring under `name`. See KEYCTL_JOIN_SESSION_KEYRING in keyctl(2).
///
/// # Errors
/// `EDQUOT` when the user's key quota is used up; `ENOSYS` on a kernel without keys.
pub fn join_new_session_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: `name` is a terminated string that lives through the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}

/// Lets this thread run on every processor; the cpuset of its cgroup narrows it. See sched_setaffinity(2).
///
/// # Errors
/// `EINVAL` when no processor is left by the cpuset.
pub fn reset_affinity() -> Result<(), Errno> {
    let all = [!0u64; 128];
    // SAFETY: the mask is as long as is said and only read; pid 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr()) }).map(drop)
}

/// Soft and hard value of one resource limit; `u64::MAX` is "unlimited". See prlimit(2).
///
/// # Errors
/// `EPERM`: raising a hard limit without CAP_SYS_RESOURCE; `EINVAL`: soft above hard, or no such resource.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the kernel reads one `rlimit64` (two u64) from there; pid 0 is the caller; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), 0usize) }).map(drop)
}

/// Soft and hard value of a resource limit of this process. See prlimit(2).
///
/// # Errors
/// `EINVAL`: no such resource.
pub fn getrlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes one `rlimit64` (two u64) there; pid 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, limit.as_mut_ptr()) })?;
    Ok((limit[0], limit[1]))
}
