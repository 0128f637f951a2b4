//! The real engine: the sandbox and cgroup rooms, as a shim uses them.

use crate::engine::{Engine, Newcomer};
use crate::protocol::{Launch, Refusal};
use bivouac_cgroup::{Entrance, Group, OomWatch, Saved, Stats};
use bivouac_sandbox::EmptyMounts;
use bivouac_sandbox::launch::{
    Entering, Failure, Held, Injected, RunningTask, Setting, Streams, begin_entering, launch,
};
use bivouac_sandbox::model::{Init, Namespaces, Process};
use bivouac_sys::Errno;
use bivouac_sys::clone::{Child, CloneArgs, OneThread, clone_into};
use bivouac_sys::exec::close_between;
use bivouac_sys::features::KernelFeatures;
use bivouac_sys::signal;
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use rustix::process::{Pid, PidfdFlags, getsid, kill_process_group, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
/// A descriptor number above all that a shim has open: clients, sessions and a task's own.
const ABOVE: i32 = 512;
/// How long what was killed in the group may take to be gone before its removal is given up.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// A sandbox and its control group, and the proof that this process may clone itself.
#[derive(Debug)]
pub struct Ground {
    proof: OneThread,
    features: KernelFeatures,
    namespaces: Namespaces,
    group: Group,
    entrance: Entrance,
    oom: Option<OomWatch>,
    /// The group's count when the task got it.
    before: u64,
    kills: u64,
    first: Option<OwnedFd>,
    held: Held,
    failing: Option<Injected>,
}

fn failed(what: &str, answer: impl std::fmt::Display) -> Refusal {
    Refusal::Failed { what: what.to_owned(), answer: answer.to_string() }
}

pub(crate) fn not_started(failure: &Failure) -> Refusal {
    Refusal::NotStarted { text: failure.to_string(), exit_code: failure.exit_code() }
}

impl Ground {
    /// Opens the group that the order names.
    ///
    /// # Errors
    /// [`Refusal::Failed`] with the group's answer.
    pub fn new(proof: OneThread, order: &Launch) -> Result<Ground, Refusal> {
        let group =
            Group::open(&order.cgroup).map_err(|error| failed("open the task's control group", error))?;
        let entrance = group
            .entrance()
            .map_err(|error| failed("open the entrance of the task's control group", error))?;
        // A given group may have been used before: what was killed then is not this task's.
        let before = group.oom_kills().unwrap_or(0);
        Ok(Ground {
            proof,
            features: order.features.into(),
            namespaces: order.sandbox.namespaces.clone(),
            group,
            entrance,
            oom: None,
            before,
            kills: 0,
            first: None,
            held: Held::default(),
            failing: None,
        })
    }

    /// Makes launches and entries fail at a step: for tests.
    pub fn fail_at(&mut self, failing: Option<Injected>) {
        self.failing = failing;
    }

    fn setting<'a>(&'a self, init: Option<BorrowedFd<'a>>, deadline: Instant) -> Setting<'a> {
        Setting {
            proof: &self.proof,
            features: self.features,
            unified: self.entrance.unified.as_ref().map(AsFd::as_fd),
            tasks: &self.entrance.tasks,
            init,
            deadline,
            failing: self.failing,
        }
    }
}

impl Engine for Ground {
    fn launch(&mut self, order: &Launch, empty: &EmptyMounts, streams: Streams) -> Result<Newcomer, Refusal> {
        let init = match order.sandbox.process.init {
            Init::Command => None,
            Init::Reaper => {
                Some(own_program().map_err(|errno| failed("prepare the reaper of `init`", errno))?)
            }
        };
        let now = Instant::now();
        let deadline = now.checked_add(Duration::from_millis(order.deadline_ms)).unwrap_or(now);
        let setting = self.setting(init.as_ref().map(AsFd::as_fd), deadline);
        let running =
            launch(&setting, empty, &order.sandbox, streams).map_err(|failure| not_started(&failure))?;
        self.held = running.held;
        // Not before the task runs, which would wait for it; the loop counts once after it. Without a watch the
        // count is still exact whenever it is read, only nobody is woken for it.
        self.oom = self.group.oom_watch().ok();
        self.first = running.child.pidfd.try_clone().ok();
        Ok(Newcomer {
            child: running.child,
            command: running.command.to_string(),
            terminal: running.terminal,
        })
    }

    fn enter(&mut self, process: &Process, streams: Streams) -> Result<Entering, Refusal> {
        let first = self.first.as_ref().ok_or(Refusal::NotRunning)?;
        if self.group.is_frozen().unwrap_or(false) {
            return Err(Refusal::Paused);
        }
        let target = RunningTask { first: first.as_fd(), namespaces: &self.namespaces, held: &self.held };
        // The deadline is the caller's, who waits.
        begin_entering(&self.setting(None, Instant::now()), &target, process, streams)
            .map_err(|failure| not_started(&failure))
    }

    fn signal_all(&mut self, number: i32) -> Result<(), Refusal> {
        let processes = self.group.processes().map_err(|error| failed("list the task's processes", error))?;
        for pidfd in processes.into_iter().filter_map(|pid| self.member(pid, |_| true)) {
            let _ = signal::send(pidfd.as_fd(), number);
        }
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), Refusal> {
        match self.group.kill() {
            Ok(()) | Err(bivouac_cgroup::Error::Gone { .. }) => Ok(()),
            Err(error) => Err(failed("kill the task's control group", error)),
        }
    }

    fn kill_session(&mut self, leader: &Child) {
        let _ = signal::send(leader.pidfd.as_fd(), SIGKILL);
        let Some(session) = Pid::from_raw(leader.pid) else { return };
        // The leader is not reaped yet, so nobody else can have its number as process group or session.
        let _ = kill_process_group(session, rustix::process::Signal::KILL);
        let belongs = |pid| getsid(Some(pid)).is_ok_and(|of| of == session);
        for pidfd in
            self.group.processes().unwrap_or_default().into_iter().filter_map(|pid| self.member(pid, belongs))
        {
            let _ = signal::send(pidfd.as_fd(), SIGKILL);
        }
    }

    fn stats(&mut self) -> Result<Stats, Refusal> {
        self.group.stats().map_err(|error| failed("read the task's statistics", error))
    }

    fn oom_kills(&mut self) -> u64 {
        if let Some(oom) = &self.oom {
            let _ = oom.drain();
        }
        if let Ok(count) = self.group.oom_kills() {
            self.kills = count.saturating_sub(self.before).max(self.kills);
        }
        self.kills
    }

    fn oom_watch(&self) -> Option<BorrowedFd<'_>> {
        self.oom.as_ref().map(AsFd::as_fd)
    }

    fn remove_group(&mut self) -> Result<(), Refusal> {
        self.group.remove(REMOVE_WITHIN).or_else(gone_is_done)
    }

    fn release(&mut self) -> Option<Child> {
        let held = std::mem::take(&mut self.held);
        self.first = None;
        // What the copy keeps lies above everything else, which it closes before we go on: else whoever knocks
        // would take this shim for alive as long as the disk takes.
        let copies = held.copy_above(ABOVE).ok();
        let (closed, open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        // The copy keeps everything open until this process has closed its own, so that the last close, which
        // may sync a disk, is the copy's.
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        let reader = rustix::io::fcntl_dupfd_cloexec(&reader, ABOVE).unwrap_or(reader);
        let mut writer = Some(writer);
        let sweeper = clone_into(&self.proof, &CloneArgs::default(), || {
            drop(writer.take());
            if copies.is_some() {
                let _ = close_between(0, ABOVE as u32 - 1);
            }
            let _ = rustix::io::read(&reader, &mut [0u8; 1]);
            0
        });
        drop(open);
        if copies.is_some() {
            // The end of the file comes with the copy's closing of its low numbers.
            let _ = rustix::io::read(&closed, &mut [0u8; 1]);
        }
        drop((held, copies));
        drop(writer);
        sweeper.ok()
    }
}

impl Ground {
    /// A process by its number, if it is still in the group, and still what was asked for, once it is held.
    fn member(&self, pid: i32, is_wanted: impl Fn(Pid) -> bool) -> Option<OwnedFd> {
        let number = Pid::from_raw(pid)?;
        if !is_wanted(number) {
            return None;
        }
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Between the list and the descriptor the number may have gone to somebody else.
        let still = self.group.processes().ok()?.contains(&pid) && is_wanted(number);
        still.then_some(pidfd)
    }
}

/// This very program. Whoever gets hold of it in the task must not be able to change it, so it has to run from the
/// read-only mount that [`crate::client::Program`] makes.
fn own_program() -> Result<OwnedFd, Errno> {
    let program = openat(CWD, c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let read_only = fstatvfs(&program)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if read_only { Ok(program) } else { Err(Errno::PERM) }
}

/// Kills and removes the group that a dead shim left. A group that is gone already is done.
///
/// # Errors
/// [`Refusal::Failed`] with the group's answer.
pub(crate) fn end_group(saved: &Saved) -> Result<(), Refusal> {
    bivouac_cgroup::remove_saved(saved, REMOVE_WITHIN).or_else(gone_is_done)
}

fn gone_is_done(error: bivouac_cgroup::Error) -> Result<(), Refusal> {
    match error {
        bivouac_cgroup::Error::Gone { .. } => Ok(()),
        other => Err(failed("remove the task's control group", other)),
    }
}
