//! Launch: a plan is carried out and a process runs; or one sentence says why not, and nothing is left.
//!
//! Flow: `prepare` opens everything -> `clone3` -> the child walks `steps::STEPS` (what each does stands in
//! `calls`, the search for the command in `find`) and tells through `report` how far it came -> the parent
//! turns a failure into a sentence in `failure`.

mod calls;
mod devices;
mod failure;
mod find;
mod landlock;
mod prepare;
mod report;
mod steps;

pub(crate) mod entering;

pub use entering::{Entered, Entering, Progress, Target as RunningTask, begin as begin_entering, enter};
pub use failure::{Failure, FailureKind};
pub use prepare::{Held, INIT_NAME};
pub use steps::{Injected, InjectedKind, Step};

use crate::empty_mounts::EmptyMounts;
use crate::model::{Network, Sandbox, Sharing, TerminalSize};
use crate::path::TaskPath;
use crate::plan::Plan;
use crate::survey::Survey;
use bivouac_sys::Errno;
use bivouac_sys::clone::{Child, CloneArgs, OneThread, clone_into};
use bivouac_sys::features::KernelFeatures;
use prepare::Prepared;
use report::Report;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::time::Instant;

/// What becomes descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Streams {
    /// These; a null device of ours where there is none.
    Files {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A terminal of our own, one of the task's devpts; its master comes back.
    Terminal(TerminalSize),
}

/// Where and how a launch happens.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Only a process with one thread launches.
    pub proof: &'a OneThread,
    /// What the kernel can do.
    pub features: KernelFeatures,
    /// The cgroup v2 directory that the task is born in.
    pub unified: Option<BorrowedFd<'a>>,
    /// Opened `tasks` files of the v1 groups that it joins.
    pub tasks: &'a [OwnedFd],
    /// The program that stands in front of a command with `init`: an `O_PATH` descriptor on a read-only mount.
    pub init: Option<BorrowedFd<'a>>,
    /// When to give up.
    pub deadline: Instant,
    /// A failure for tests.
    pub failing: Option<Injected>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    /// The path at which the command was found.
    pub command: TaskPath,
    /// Our end of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Descriptors of its overlays and terminals. Dropping them may sync a disk: after the exit status is told.
    pub held: Held,
}

const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// Starts a sandbox from `empty` and comes back when its command runs.
///
/// # Errors
/// [`Failure`]: one sentence. No process, mount or descriptor of the attempt is left.
pub fn launch(
    setting: &Setting<'_>,
    empty: &EmptyMounts,
    sandbox: &Sandbox,
    streams: Streams,
) -> Result<Running, Failure> {
    let survey = Survey::of(sandbox)?;
    let mut plan = Plan::for_sandbox(sandbox, &survey, &setting.features)?;
    if setting.unified.is_none() {
        plan.hide_cgroups();
    }
    let report = Report::new().map_err(|errno| Failure::preparing("share a page with the child", errno))?;
    let (reader, writer) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::preparing("make a pipe", errno))?;
    let lent = Lent::copy(setting, empty, plan.process.init)?;
    let mut prepared = Prepared::new(&plan, lent, streams, (&reader, writer))?;
    let args = CloneArgs { flags: namespaces(sandbox), cgroup: setting.unified };
    let failing = setting.failing;
    let child = clone_into(setting.proof, &args, || {
        let errno = steps::become_task(&mut prepared, &report, failing);
        report.fail(errno);
        127
    })
    .map_err(Failure::cloning)?;
    let Prepared { status, terminal, held, .. } = prepared;
    drop(status);
    let told = wait_for_start(&child, &reader, &report, setting.deadline)?;
    match told {
        Start::Running(found) => {
            let place = sandbox.process.candidates.get(found).or_else(|| sandbox.process.candidates.first());
            let command = place.map(|candidate| candidate.path.clone());
            let command = command.ok_or_else(|| Failure::from(crate::plan::Refusal::NoCommand))?;
            Ok(Running { child, command, terminal, held })
        }
        Start::Failed(told, errno) => Err(Failure::explain(&plan, &told, errno)),
    }
}

fn namespaces(sandbox: &Sandbox) -> u64 {
    let spaces = &sandbox.namespaces;
    let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
    CLONE_NEWUTS
        | when(spaces.pid == Sharing::Private, CLONE_NEWPID)
        | when(spaces.ipc == Sharing::Private, CLONE_NEWIPC)
        | when(spaces.network == Network::Own, CLONE_NEWNET)
}

/// The child's own copies of what it is lent.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) empty: OwnedFd,
    pub(crate) tasks: Vec<OwnedFd>,
    pub(crate) init: Option<OwnedFd>,
}

impl Lent {
    fn copy(setting: &Setting<'_>, empty: &EmptyMounts, init: crate::model::Init) -> Result<Lent, Failure> {
        let copy = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3)
                .map_err(|errno| Failure::preparing("copy a descriptor", errno))
        };
        let init = match (init, setting.init) {
            (crate::model::Init::Command, _) => None,
            (crate::model::Init::Reaper, Some(program)) => Some(copy(program)?),
            (crate::model::Init::Reaper, None) => {
                return Err(Failure::preparing("put a reaper in front of the command", Errno::NOENT)
                    .advise("the launcher was given no init program"));
            }
        };
        let tasks = setting.tasks.iter().map(|file| copy(file.as_fd())).collect::<Result<_, _>>()?;
        Ok(Lent { empty: copy(empty.as_fd())?, tasks, init })
    }
}

/// How a start ended.
pub(crate) enum Start {
    /// The command runs; which candidate it is.
    Running(usize),
    /// A step failed.
    Failed(report::Told, Errno),
}

/// Waits for the end of the pipe. After a failure the child has been reaped when this returns.
pub(crate) fn wait_for_start(
    child: &Child,
    reader: &OwnedFd,
    report: &Report,
    deadline: Instant,
) -> Result<Start, Failure> {
    if !wait_readable(reader.as_fd(), deadline) {
        let step = report.read().step;
        // A child in an uninterruptible wait takes the signal when it wakes; the caller reaps what it can.
        let _ = bivouac_sys::signal::send(child.pidfd.as_fd(), 9);
        let grace = Instant::now() + std::time::Duration::from_secs(1);
        if wait_readable(child.pidfd.as_fd(), grace) {
            let _ = bivouac_sys::wait::try_reap(child.pidfd.as_fd());
        }
        return Err(Failure::timed_out(step));
    }
    let told = report.read();
    if let Some(errno) = told.failure {
        let _ = bivouac_sys::wait::reap_blocking(child.pidfd.as_fd());
        return Ok(Start::Failed(told, errno));
    }
    if told.step != Step::Execute {
        let ending = bivouac_sys::wait::reap_blocking(child.pidfd.as_fd()).map(|reaped| reaped.ending);
        let signal = match ending {
            Ok(bivouac_sys::wait::Ending::Signaled { signal, .. }) => signal,
            _ => 0,
        };
        return Err(Failure::killed(told.step, signal));
    }
    Ok(Start::Running(told.found))
}

/// Whether `fd` became readable (or closed at its other end) before the deadline.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
