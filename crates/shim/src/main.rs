//! The shim's program: `bivouac-shim FD`, where FD is one end of a socket pair whose other end the starter holds.
//! `bivouac-shim --protocol` says which version of the protocol it speaks.
//! Under the name `bivouac-init` it is the reaper in front of a task's command.

#![forbid(unsafe_code)]

use bivouac_sandbox::launch::INIT_NAME;
use bivouac_shim::client::program;
use bivouac_shim::serve::{Desk, Server, receive_order, refuse_order};
use bivouac_shim::{Ground, init, protocol};
use bivouac_sys::clone::{OneThread, adopt};
use bivouac_sys::exec::{OnExec, close_from, place};
use bivouac_sys::{Errno, credentials, signal};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

/// How long a shim without an order waits for one.
const PATIENCE: Duration = Duration::from_secs(30);
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// Where the starter's socket lies once everything else is closed.
const STARTER: i32 = 3;
/// Exit status of a wrong use, as in sysexits.h.
const USAGE: u8 = 64;

pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let in_task: Option<fn(&OsString, &[OsString]) -> u8> = match name.to_str() {
        Some(INIT_NAME) => Some(init::run),
        Some(init::CHILD_NAME) => Some(init::become_command),
        _ => None,
    };
    if let Some(role) = in_task {
        let status = rest.split_first().map_or(USAGE, |(command, arguments)| role(command, arguments));
        return ExitCode::from(status);
    }
    if matches!(rest.as_slice(), [only] if only == program::TELL) {
        let said = std::io::stdout().write_all(program::told().as_bytes());
        return if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let number = match rest.as_slice() {
        [number] => {
            number.to_str().and_then(|number| number.parse().ok()).filter(|number| *number >= STARTER)
        }
        _ => None,
    };
    let Some(number) = number else { return ExitCode::from(USAGE) };
    match serve(number) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => ExitCode::from(u8::try_from(errno.raw_os_error()).unwrap_or(1)),
    }
}

fn serve(number: i32) -> Result<(), Errno> {
    let socket = only(number)?;
    credentials::forbid_tracing()?;
    // Started by a descriptor, it would be called by its number in lists of processes.
    rustix::thread::set_name(c"bivouac-shim")?;
    signal::block_all()?;
    // Holds no directory busy, and what it makes is its own.
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let signals = signal::signalfd(&[SIGTERM, SIGINT])?;
    let mut starter = protocol::wire::Wire::new(socket, protocol::frame::LAUNCH_LIMIT)?;
    let Some(order) = receive_order(&mut starter, PATIENCE) else { return Ok(()) };
    let proof = OneThread::prove()?;
    let ready = Desk::open(&order.launch).and_then(|desk| Ok((desk, Ground::new(proof, &order.launch)?)));
    match ready {
        Ok((desk, ground)) => Server::new(ground, starter, signals, desk, order).run(),
        Err(refusal) => {
            refuse_order(&mut starter, refusal);
            Ok(())
        }
    }
}

/// The starter's socket, and no other descriptor but 0-2: a careless starter may have leaked some.
fn only(number: i32) -> Result<OwnedFd, Errno> {
    let given = adopt(number)?;
    if number == STARTER {
        close_from(STARTER as u32 + 1)?;
        return place(given.as_fd(), STARTER, OnExec::Close).map(|()| given);
    }
    place(given.as_fd(), STARTER, OnExec::Close)?;
    let moved = adopt(STARTER)?;
    drop(given);
    close_from(STARTER as u32 + 1)?;
    Ok(moved)
}
