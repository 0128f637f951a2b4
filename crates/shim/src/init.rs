//! The reaper in front of a command (`init = true`): starts it, passes signals on, reaps what is orphaned, ends with
//! its status. It already has the task's credentials, filter and root, and knows nothing of shims.

use bivouac_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};
use std::ffi::{CString, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The name under which the program becomes the command instead.
pub const CHILD_NAME: &str = "bivouac-init-child";

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const SIGSTOP: i32 = 19;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Runs `command` with `arguments` and answers the status to exit with: the command's, 128 + the signal that ended
/// it, 126 when it cannot be run, 127 when it is not there.
pub fn run(command: &OsString, arguments: &[OsString]) -> u8 {
    let Ok(signals) = hear_everything() else { return 125 };
    let child =
        Command::new("/proc/self/exe").arg0(CHILD_NAME).arg(command).args(arguments).process_group(0).spawn();
    let Ok(child) = child else { return 125 };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return 125 };
    give_terminal(pid);
    look_after(pid, &signals)
}

/// Becomes the command, with no signal blocked; comes back only with the status of having failed.
///
/// A command inherits the mask of who starts it, and the reaper must never hear with its mask open: the first process
/// of a namespace loses what it has no handler for. So a second copy of this program stands between the two.
pub fn become_command(command: &OsString, arguments: &[OsString]) -> u8 {
    if signal::reset_all().is_err() {
        return 125;
    }
    match Command::new(command).arg0(command).args(arguments).exec().kind() {
        ErrorKind::NotFound => 127,
        _ => 126,
    }
}

/// Everything but what cannot be blocked, and what stops only the reaper itself.
fn hear_everything() -> Result<OwnedFd, Errno> {
    signal::block_all()?;
    let deaf = [SIGKILL, SIGSTOP];
    let heard: Vec<i32> = (1..=signal::LAST).filter(|number| !deaf.contains(number)).collect();
    signal::signalfd(&heard)
}

/// The command has a process group of its own, so that keys pressed at a terminal reach it once and not, through this
/// process, a second time. The group must then be the terminal's.
fn give_terminal(pid: Pid) {
    let stdin = std::io::stdin();
    if isatty(&stdin) && tcgetpgrp(&stdin).is_ok() && tcsetpgrp(&stdin, pid).is_ok() {
        // It may have been stopped for reading before the terminal was its own.
        let _ = kill_process(pid, Signal::CONT);
    }
}

fn look_after(child: Pid, signals: &OwnedFd) -> u8 {
    loop {
        // First, because it may have ended before anything was heard.
        if let Some(status) = reap(child) {
            return status;
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if poll(&mut fds, None).is_err_and(|errno| errno != Errno::INTR) {
            return 125;
        }
        while let Ok(Some(number)) = signal::take(signals.as_fd()) {
            match number {
                SIGCHLD => {}
                // These are about this process and its terminal.
                SIGTTIN | SIGTTOU => {}
                number => pass_on(child, number),
            }
        }
    }
}

/// The child is not reaped yet, so its number is its own.
fn pass_on(child: Pid, number: i32) {
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = kill_process(child, signal);
    } else if let Ok(pidfd) = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()) {
        // Real-time signals have no names.
        let _ = signal::send(pidfd.as_fd(), number);
    }
}

/// What this process is called once the command was ended by a signal. The first process of a namespace cannot end by
/// a signal itself, and its exit status has no room to say that it means one; but its name can be read until it is
/// reaped. The command may forge it, and deceives nobody but its own job.
const WORD: &str = "ended by ";

fn leave_word(signal: i32) {
    if let Ok(name) = CString::new(format!("{WORD}{signal}")) {
        // Without it the exit status tells the same, less plainly.
        let _ = rustix::thread::set_name(&name);
    }
}

/// The signal that ended the command behind a reaper which may have ended and is not reaped yet.
pub fn word_of(pid: i32) -> Option<i32> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    name.trim_end().strip_prefix(WORD)?.parse().ok()
}

/// Reaps whoever has ended; the status when the child is among them.
fn reap(child: Pid) -> Option<u8> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                let signal = status.terminating_signal().inspect(|signal| leave_word(*signal));
                let signal = signal.map(|signal| 128 + signal);
                return Some(
                    status.exit_status().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(125),
                );
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return None,
            // No children at all: the command was reaped and not seen, which cannot be.
            Err(_) => return Some(125),
        }
    }
}
