//! Signals: dispositions and masks of this process, `signalfd`, sending through a pidfd.

use crate::{Errno, check};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The highest signal number.
pub const LAST: i32 = 64;

/// Gives every signal its default disposition and blocks none. See signal(7).
///
/// # Errors
/// None that a running kernel gives: SIGKILL and SIGSTOP are left out.
pub fn reset_all() -> Result<(), Errno> {
    for signal in 1..=LAST {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let default = KernelAction::default();
        // The raw call: the C library hides the real-time signals it keeps for itself.
        // SAFETY: the struct is laid out as the kernel reads it (handler SIG_DFL, no flags, empty mask of 8
        // bytes), and nothing is written back.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0usize, 8usize) })?;
    }
    set_mask(0)
}

#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

fn set_mask(mask: u64) -> Result<(), Errno> {
    swap_mask(mask).map(drop)
}

/// Sets this thread's mask of blocked signals (bit n-1 is signal n) and answers the one before.
pub(crate) fn swap_mask(mask: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    // SAFETY: the kernel reads one mask of 8 bytes and writes another.
    let answer = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8usize)
    };
    check(answer).map(|_| before)
}

/// Blocks every signal that can be blocked.
///
/// # Errors
/// None that a running kernel gives.
pub fn block_all() -> Result<(), Errno> {
    set_mask(!0)
}

/// A descriptor that becomes readable when one of `signals` is pending. See signalfd(2). They must be blocked.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn signalfd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let mask = signals.iter().fold(0u64, |mask, signal| mask | 1 << (signal - 1));
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads a mask of 8 bytes; -1 asks for a new descriptor.
    let answer = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags) };
    let number = check(answer)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Takes one pending signal from a `signalfd`; `None` when there is none.
///
/// # Errors
/// What read(2) answers, except `EAGAIN`.
pub fn take(signalfd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the kernel writes at most `size` bytes into a buffer of that size.
    let answer = unsafe { libc::read(signalfd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    match check(answer as libc::c_long) {
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
        // SAFETY: the struct is plain numbers and was zeroed before the kernel wrote.
        Ok(_) => Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32)),
    }
}

/// Sends `signal` to the process that `pidfd` names, and to no other. See pidfd_send_signal(2), Linux 5.1.
///
/// # Errors
/// `ESRCH`: it has been reaped; `EINVAL`: no such signal; `EPERM`.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a descriptor, a number, no siginfo.
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, 0u32) };
    check(answer).map(drop)
}
