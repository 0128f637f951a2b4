//! What a shim asks of the rooms below, and nothing else of them: start, enter, look at the group, end it.
//!
//! The loop is written against [`Engine`], so that its own behaviour is tested with plain processes; the real one
//! is in `ground`.

use crate::protocol::{Launch, Refusal};
use bivouac_cgroup::Stats;
use bivouac_sandbox::EmptyMounts;
use bivouac_sandbox::launch::{Entering, Streams};
use bivouac_sandbox::model::Process;
use bivouac_sys::clone::Child;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A process that was started for us, a child of this one.
#[derive(Debug)]
pub struct Newcomer {
    /// The process.
    pub child: Child,
    /// The path at which the command was found.
    pub command: String,
    /// Our end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// One sandbox and its control group.
pub trait Engine {
    /// Starts the task from an empty mount namespace. Called once.
    ///
    /// # Errors
    /// [`Refusal::NotStarted`]; nothing of the attempt is left then.
    fn launch(&mut self, order: &Launch, empty: &EmptyMounts, streams: Streams) -> Result<Newcomer, Refusal>;

    /// Sends a further process on its way into the running sandbox. Does not wait for it: how long that takes is in
    /// the hands of the task, which may stop what enters.
    ///
    /// # Errors
    /// [`Refusal::NotStarted`], [`Refusal::Paused`]; nothing of the attempt is left then.
    fn enter(&mut self, process: &Process, streams: Streams) -> Result<Entering, Refusal>;

    /// Sends a signal to every process of the group.
    ///
    /// # Errors
    /// What the kernel answered.
    fn signal_all(&mut self, signal: i32) -> Result<(), Refusal>;

    /// Kills every process of the group; a frozen one as well.
    ///
    /// # Errors
    /// What the kernel answered.
    fn kill_all(&mut self) -> Result<(), Refusal>;

    /// Kills what belongs to the session that `leader` leads: the process that entered, not yet reaped.
    fn kill_session(&mut self, leader: &Child);

    /// Statistics of the group.
    ///
    /// # Errors
    /// What the kernel answered.
    fn stats(&mut self) -> Result<Stats, Refusal>;

    /// Processes of the group killed for lack of memory since it was made. The last known count when it cannot
    /// be read.
    fn oom_kills(&mut self) -> u64;

    /// Readable when that count may have changed.
    fn oom_watch(&self) -> Option<BorrowedFd<'_>>;

    /// Removes the group. Done already is done.
    ///
    /// # Errors
    /// What the kernel answered.
    fn remove_group(&mut self) -> Result<(), Refusal>;

    /// Lets go of the sandbox, which may wait for a disk, without waiting: a pidfd of the child that waits.
    fn release(&mut self) -> Option<Child>;
}
