//! Reaping a child with what it used.

use crate::{Errno, check};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It called exit with this status.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// Which.
        signal: i32,
        /// Whether a core was written.
        core: bool,
    },
}

/// A reaped child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// How it ended.
    pub ending: Ending,
    /// Processor time in user mode, microseconds, with its reaped descendants.
    pub user_micros: u64,
    /// Processor time in the kernel, microseconds, with its reaped descendants.
    pub system_micros: u64,
    /// Largest resident size of one process, KiB.
    pub max_rss_kib: u64,
}

/// Reaps the child of ours that `pidfd` names, if it has ended. See waitid(2) (P_PIDFD, Linux 5.4).
///
/// # Errors
/// `ECHILD`: not our child, or reaped already.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> Result<Option<Reaped>, Errno> {
    reap(pidfd, libc::WEXITED | libc::WNOHANG)
}

/// Waits for the child to end and reaps it. Only where its end is certain to be near.
///
/// # Errors
/// As [`try_reap`].
pub fn reap_blocking(pidfd: BorrowedFd<'_>) -> Result<Reaped, Errno> {
    loop {
        match reap(pidfd, libc::WEXITED) {
            Ok(Some(reaped)) => return Ok(reaped),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn reap(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Reaped>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both buffers are of the kernel's types and live through the call; P_PIDFD takes a descriptor.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            options,
            usage.as_mut_ptr(),
        )
    };
    check(answer)?;
    // SAFETY: plain numbers, zeroed before the kernel wrote.
    let info = unsafe { info.assume_init() };
    // SAFETY: as above.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves all zero when no child has ended.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let ending = match info.si_code {
        libc::CLD_EXITED => Ending::Exited(status as u8),
        code => Ending::Signaled { signal: status, core: code == libc::CLD_DUMPED },
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Ok(Some(Reaped {
        ending,
        user_micros: micros(usage.ru_utime),
        system_micros: micros(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss as u64,
    }))
}
