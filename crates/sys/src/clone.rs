//! `clone3(2)` without shared memory, and the proof that no other thread can be half-way through a lock.

use crate::page::Number;
use crate::{Errno, check};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Proof that this process has one thread, so that a copy of it is whole.
///
/// A child cloned from a process with several threads may find a lock of the allocator held by a thread that
/// does not exist in the copy. The token is neither `Send` nor `Sync`, and is made only where the process
/// starts and has no other thread when it clones (the shim, the tests' helper programs): one that was waited for holds
/// no lock any more.
#[derive(Debug)]
pub struct OneThread(PhantomData<*const ()>);

impl OneThread {
    /// Looks at `/proc/self/task`.
    ///
    /// # Errors
    /// `EBUSY` when the process has more than one thread; else what reading the directory answered.
    pub fn prove() -> Result<OneThread, Errno> {
        let tasks = std::fs::read_dir("/proc/self/task")
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if tasks.count() == 1 { Ok(OneThread(PhantomData)) } else { Err(Errno::BUSY) }
    }
}

/// New namespaces and placement of a child; flags as in clone3(2).
#[derive(Debug, Default)]
pub struct CloneArgs<'a> {
    /// `CLONE_NEW*` bits, `CLONE_PARENT`.
    pub flags: u64,
    /// The cgroup v2 directory that the child is born in (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child as its parent sees it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's pid namespace. Valid until it is reaped.
    pub pid: i32,
    /// The child itself, whatever becomes of its number.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` of clone3(2), up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
pub(crate) struct RawCloneArgs {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

/// Clones this process (its memory copied on write) and runs `child` in the copy.
///
/// The copy never returns from here: when `child` comes back, its answer is the exit status.
/// See clone3(2).
///
/// # Errors
/// What the kernel answers: `EAGAIN` (pids limit), `EINVAL` (flags unknown to this kernel), `EPERM`, `EBUSY`
/// (a domain cgroup that cannot take processes), `ENOMEM`.
pub fn clone_into(
    _proof: &OneThread,
    args: &CloneArgs<'_>,
    child: impl FnOnce() -> u8,
) -> Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let parented = args.flags & libc::CLONE_PARENT as u64 != 0;
    let mut raw = RawCloneArgs {
        flags: args.flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // A child of our parent takes our own exit signal; clone3 refuses to be told another.
        exit_signal: if parented { 0 } else { libc::SIGCHLD as u64 },
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets its own copy of all memory, on a copy of this very stack, and
    // `_proof` says that no other thread's half-done work is in that copy; `raw` is as long as is said and
    // `pidfd` outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of::<RawCloneArgs>()) };
    match check(answer)? {
        0 => exit(child()),
        pid => {
            // SAFETY: CLONE_PIDFD made the kernel store a fresh descriptor of ours there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// Clones with the old `clone(2)`, as a child of the caller's parent. For the last step into a running
/// sandbox, where the task's filter already refuses `clone3`.
///
/// The kernel writes the child's number to `told` before the child runs (`CLONE_PARENT_SETTID`): whoever shares the page
/// knows of it even if this process is killed before it is back from the call.
///
/// # Errors
/// `EAGAIN` (pids limit), `ENOMEM`, `EPERM`.
pub fn clone_for_parent(
    _proof: &OneThread,
    told: Number<'_>,
    child: impl FnOnce() -> u8,
) -> Result<(), Errno> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD);
    // SAFETY: as in `clone_into`: a copy on the same stack, no shared memory, one thread. A null stack means
    // "go on upon the copy of this one"; the kernel writes four bytes inside of a page that `told` borrows; the remaining
    // arguments are unused without their flags.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, told.address(), 0usize, 0usize) };
    match check(answer)? {
        0 => exit(child()),
        _ => Ok(()),
    }
}

/// Born in the group of `cgroup`. See clone3(2).
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends this process at once: nothing registered with `atexit` runs, no buffer is flushed. See _exit(2).
pub fn exit(status: u8) -> ! {
    // SAFETY: `_exit` has no precondition and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Wraps a descriptor number handed down by the program's starter (for example in an argument).
///
/// # Errors
/// `EBADF` when it is not open.
pub fn adopt(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD only reads the descriptor's flags.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: it is open, and by the contract of the callers' command line nobody else in this process
    // owns it; standard streams (0-2) are refused by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ends this process by a fault that even the first process of a pid namespace cannot survive. For tests of
/// what a parent makes of it.
pub fn die() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an undefined instruction: the kernel forces SIGILL upon us; nothing is read or written.
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a breakpoint nobody handles: the kernel forces SIGTRAP upon us; nothing is read or written.
    unsafe {
        std::arch::asm!("brk #1", options(noreturn))
    }
}

/// Gives this process a cgroup namespace whose root is the group it is in now. See cgroup_namespaces(7).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EINVAL` on a kernel without cgroup namespaces.
pub fn unshare_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: a flag; nothing of this process's memory or descriptors is shared differently afterwards.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })).map(drop)
}
