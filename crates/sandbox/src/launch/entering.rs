//! Enter: a further process in a running sandbox.
//!
//! A throwaway spawner joins everything the task has, takes on its credentials and filter, closes all but the
//! streams, and only then clones, as a child of *our* process (`CLONE_PARENT`), the process that has nothing
//! left to do but `execve`. Whoever stops or traces that one in the sandbox finds nothing the task did not have.

use super::calls;
use super::failure::Failure;
use super::prepare::{Held, Person, place_streams};
use super::report::Report;
use super::steps::{Injected, Step};
use super::{Setting, Streams, wait_readable};
use super::{find, landlock};
use crate::model::{Init, Namespaces, Network, PrivilegeGain, Process, Sharing};
use crate::plan::check_process;
use bivouac_sys::clone::{Child, CloneArgs, OneThread, clone_for_parent, clone_into};
use bivouac_sys::wait::{Ending, try_reap};
use bivouac_sys::{Errno, credentials, exec, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// A running sandbox, as whoever keeps it sees it.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its first process.
    pub first: BorrowedFd<'a>,
    /// What is its own.
    pub namespaces: &'a Namespaces,
    /// What its launch left to hold: its terminals are made from it.
    pub held: &'a Held,
}

/// A process that has entered.
#[derive(Debug)]
pub struct Entered {
    /// The process, a child of the caller.
    pub child: Child,
    /// Our end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// What the spawner needs; laid out before the clone.
struct Visit<'a> {
    proof: &'a OneThread,
    person: Person,
    first: BorrowedFd<'a>,
    spaces: ThreadNameSpaceType,
    tasks: &'a [OwnedFd],
    proc: OwnedFd,
    streams: [OwnedFd; 3],
    terminal: bool,
    status: OwnedFd,
    parent_end: i32,
    failing: Option<Injected>,
}

/// How far somebody is who enters.
#[derive(Debug)]
pub enum Progress {
    /// On the way.
    Waiting,
    /// Inside: the command runs.
    Inside(Entered),
    /// It came to nothing, and nothing of it is left.
    Failed(Failure),
}

/// A process on its way into a running sandbox. Nothing of it blocks: whoever brings it in waits for [`Self::watch`]
/// among other things and then asks [`Self::advance`], since what it waits for may be in the hands of the task.
#[derive(Debug)]
pub struct Entering {
    stage: Stage,
    report: Report,
    reader: OwnedFd,
    terminal: Option<OwnedFd>,
    process: Process,
    given_up: bool,
}

#[derive(Debug)]
enum Stage {
    /// The spawner takes on what the task has.
    Spawning(Child),
    /// The process that it left to us is about to execute the command.
    Arriving(Child),
    /// Killed, or ending by itself; what there is to say is known but for the signal that ended it.
    Ending(Child, End),
    Over,
}

/// Why somebody who ends did not get in.
#[derive(Debug)]
enum End {
    Said(Failure),
    /// Ended from outside while it was at this step.
    Cut(Step),
}

/// Sends a process on its way into a running sandbox.
///
/// # Errors
/// [`Failure`]: one sentence. No process or descriptor of the attempt is left.
pub fn begin(
    setting: &Setting<'_>,
    target: &Target<'_>,
    process: &Process,
    streams: Streams,
) -> Result<Entering, Failure> {
    check_process(process)?;
    if process.init == Init::Reaper {
        return Err(Failure::preparing("enter behind a reaper", Errno::INVAL)
            .advise("only a task's first process has one"));
    }
    let failed = |goal: &'static str| move |errno| Failure::preparing(goal, errno);
    let report = Report::new().map_err(failed("share a page with the child"))?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
    let person =
        Person::new(process, (setting.features.last_capability, setting.features.landlock_abi), None)?;
    let scratch = super::prepare::scratch().map_err(failed("make a null device"))?;
    let (streams, terminal) = place_streams(streams, &scratch, target.held.devpts.as_ref(), &person)
        .map_err(failed("set up the standard streams"))?;
    let proc = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut visit = Visit {
        proof: setting.proof,
        person,
        first: target.first,
        spaces: spaces(target.namespaces),
        tasks: setting.tasks,
        proc: openat(CWD, "/proc", proc, Mode::empty()).map_err(failed("open /proc"))?,
        streams,
        terminal: terminal.is_some(),
        status: writer,
        parent_end: rustix::fd::AsRawFd::as_raw_fd(&reader),
        failing: setting.failing,
    };
    let args = CloneArgs { flags: 0, cgroup: setting.unified };
    let spawner = clone_into(setting.proof, &args, || match visit.travel(&report) {
        Ok(()) => 0,
        Err(errno) => {
            report.fail(errno);
            1
        }
    })
    .map_err(Failure::cloning)?;
    let stage = Stage::Spawning(spawner);
    Ok(Entering { stage, report, reader, terminal, process: process.clone(), given_up: false })
}

/// Brings a process into a running sandbox and comes back when its command runs, or when `setting.deadline` is over.
///
/// # Errors
/// [`Failure`]: one sentence. No process or descriptor of the attempt is left, unless the kernel cannot end it now.
pub fn enter(
    setting: &Setting<'_>,
    target: &Target<'_>,
    process: &Process,
    streams: Streams,
) -> Result<Entered, Failure> {
    let mut entering = begin(setting, target, process, streams)?;
    while wait_readable(entering.watch(), setting.deadline) {
        match entering.advance() {
            Progress::Waiting => {}
            Progress::Inside(entered) => return Ok(entered),
            Progress::Failed(failure) => return Err(failure),
        }
    }
    let failure = entering.give_up();
    let grace = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while wait_readable(entering.watch(), grace) && matches!(entering.advance(), Progress::Waiting) {}
    Err(failure)
}

impl Entering {
    /// Becomes readable when there is something to do. Always is when it is over.
    pub fn watch(&self) -> BorrowedFd<'_> {
        match &self.stage {
            Stage::Spawning(child) | Stage::Ending(child, _) => child.pidfd.as_fd(),
            // The end of the pipe: the command runs, or nobody is left who could bring it to that.
            Stage::Arriving(_) | Stage::Over => self.reader.as_fd(),
        }
    }

    /// Does what can be done without waiting.
    pub fn advance(&mut self) -> Progress {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Over);
            let was_spawning = matches!(stage, Stage::Spawning(_));
            self.stage = match self.next(stage) {
                Ok(stage) => stage,
                Err(progress) => return progress,
            };
            // Who arrives may be there already; in every other case somebody has to end first.
            if !(was_spawning && matches!(self.stage, Stage::Arriving(_))) {
                return Progress::Waiting;
            }
        }
    }

    /// The next stage, or the last word.
    fn next(&mut self, stage: Stage) -> Result<Stage, Progress> {
        match stage {
            Stage::Spawning(spawner) => self.spawned(spawner),
            Stage::Arriving(child) => self.arrived(child),
            Stage::Ending(child, end) => match try_reap(child.pidfd.as_fd()) {
                Ok(None) => Ok(Stage::Ending(child, end)),
                Ok(Some(reaped)) => Err(Progress::Failed(match (end, reaped.ending) {
                    (End::Said(failure), _) => failure,
                    (End::Cut(step), Ending::Signaled { signal, .. }) => Failure::killed(step, signal),
                    (End::Cut(step), Ending::Exited(_)) => Failure::killed(step, 0),
                })),
                Err(errno) => Err(Progress::Failed(Failure::cloning(errno))),
            },
            Stage::Over => Err(Progress::Failed(Failure::cloning(Errno::CHILD))),
        }
    }

    fn spawned(&mut self, spawner: Child) -> Result<Stage, Progress> {
        let failed = |failure| Err(Progress::Failed(failure));
        let reaped = match try_reap(spawner.pidfd.as_fd()) {
            Ok(None) => return Ok(Stage::Spawning(spawner)),
            Ok(Some(reaped)) => reaped,
            Err(errno) => return failed(Failure::cloning(errno)),
        };
        let told = self.report.read();
        match reaped.ending {
            Ending::Exited(0) => match newcomer(&self.report) {
                Ok(child) if self.given_up => Ok(ended(child, End::Said(Failure::timed_out(told.step)))),
                Ok(child) => Ok(Stage::Arriving(child)),
                Err(errno) => failed(Failure::preparing("find the process that entered", errno)),
            },
            Ending::Exited(_) => failed(self.explain()),
            // It may have cloned before it was ended, and left us a child that nobody would ask for.
            Ending::Signaled { signal, .. } => match newcomer(&self.report) {
                Ok(child) => Ok(ended(child, End::Said(Failure::killed(told.step, signal)))),
                Err(_) => failed(Failure::killed(told.step, signal)),
            },
        }
    }

    fn arrived(&mut self, child: Child) -> Result<Stage, Progress> {
        if !is_readable(self.reader.as_fd()) {
            return Ok(Stage::Arriving(child));
        }
        let told = self.report.read();
        if told.failure.is_some() {
            // It ends by itself. Should somebody who traces it have written this, it does not.
            let failure = self.explain();
            Ok(ended(child, End::Said(failure)))
        } else if told.step != Step::Execute {
            Ok(ended(child, End::Cut(told.step)))
        } else {
            Err(Progress::Inside(Entered { child, terminal: self.terminal.take() }))
        }
    }

    fn explain(&self) -> Failure {
        let told = self.report.read();
        Failure::explain_entering(&self.process, &told, told.failure.unwrap_or(Errno::IO))
    }

    /// Ends the attempt and says why. It goes on with [`Self::advance`] until everything of it is gone, which may be
    /// long after, when the kernel has it in an uninterruptible wait or the cgroup is frozen.
    pub fn give_up(&mut self) -> Failure {
        self.given_up = true;
        // The client's end of a terminal must see it hang up.
        self.terminal = None;
        let step = self.report.read().step;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Spawning(spawner) => {
                let _ = signal::send(spawner.pidfd.as_fd(), 9);
                Stage::Spawning(spawner)
            }
            Stage::Arriving(child) => ended(child, End::Said(Failure::timed_out(step))),
            Stage::Ending(child, end) => ended(child, end),
            Stage::Over => Stage::Over,
        };
        Failure::timed_out(step)
    }
}

/// Kills what may have been ending anyway.
fn ended(child: Child, end: End) -> Stage {
    let _ = signal::send(child.pidfd.as_fd(), 9);
    Stage::Ending(child, end)
}

/// Whether `fd` is readable or closed at its other end, now.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
}

/// The process whose number the kernel told, if it is a child of ours: the page may have been written by something
/// hostile since.
fn newcomer(report: &Report) -> Result<Child, Errno> {
    let pid = report.entered().read();
    let number = rustix::process::Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
    let probe = rustix::process::WaitIdOptions::EXITED
        | rustix::process::WaitIdOptions::NOHANG
        | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), probe)?;
    Ok(Child { pid, pidfd })
}

fn spaces(namespaces: &Namespaces) -> ThreadNameSpaceType {
    let when = |condition: bool, kind: ThreadNameSpaceType| {
        if condition { kind } else { ThreadNameSpaceType::empty() }
    };
    ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | when(namespaces.pid == Sharing::Private, ThreadNameSpaceType::PROCESS_ID)
        | when(namespaces.ipc == Sharing::Private, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
        | when(namespaces.cgroup == Sharing::Private, ThreadNameSpaceType::CONTROL_GROUP)
        | when(namespaces.network != Network::Host, ThreadNameSpaceType::NETWORK)
}

/// One leg of the way in.
type Leg = fn(&mut Visit<'_>, &Report) -> Result<(), Errno>;

/// What the spawner does, in this order. The steps carry the names of a launch; their reasons stand there.
#[rustfmt::skip]
const JOURNEY: &[(Step, Leg)] = &[
    (Step::EarlyDeathSignal, |v, _| {
        credentials::set_parent_death_signal(9)?;
        exec::place(v.status.as_fd(), v.parent_end, exec::OnExec::Close)
    }),
    (Step::Signals,      |_, _| signal::reset_all()),
    // Through the host's proc, while it is still in reach: the clone inherits the score.
    (Step::OomScore,     |v, _| calls::write_oom_score(v.proc.as_fd(), v.person.oom_score.to_bytes())),
    (Step::JoinCgroup,   |v, _| calls::join_tasks(v.tasks)),
    (Step::EnterRoot,    |v, _| move_into_thread_name_spaces(v.first, v.spaces)),
    (Step::Find,         |v, report| v.find(report)),
    (Step::Landlock,     |v, report| landlock::restrict(&v.person.landlock, None, report)),
    (Step::Streams,      |v, _| calls::place_all(&v.streams, v.status.as_fd(), None)),
    (Step::Limits,       |v, _| v.person.set_limits()),
    (Step::Affinity,     |_, _| credentials::reset_affinity()),
    (Step::Keyring,      |_, _| match credentials::join_new_session_keyring(c"_ses.bivouac") {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }),
    (Step::CloseRest,    |_, _| calls::close_from_status(false)),
    (Step::BoundingSet,  |v, _| v.person.drop_bounding()),
    (Step::KeepCaps,     |_, _| credentials::keep_capabilities()),
    (Step::Groups,       |v, _| credentials::setgroups(&v.person.groups)),
    (Step::Gid,          |v, _| credentials::setresgid(v.person.gid)),
    (Step::Uid,          |v, _| credentials::setresuid(v.person.uid)),
    (Step::WorkDir,      |v, _| v.person.enter_work_dir()),
    (Step::OpenFilter,   |v, _| v.open_filter()),
    (Step::FinalCaps,    |v, _| v.person.settle_capabilities()),
    (Step::Umask,        |v, _| {
        rustix::process::umask(Mode::from_raw_mode(v.person.umask & 0o777));
        Ok(())
    }),
    (Step::SealedFilter, |v, _| v.sealed_filter()),
];

/// The steps of the spawner.
pub(crate) fn journey() -> impl Iterator<Item = Step> {
    JOURNEY.iter().map(|(step, _)| *step)
}

impl Visit<'_> {
    fn travel(&mut self, report: &Report) -> Result<(), Errno> {
        for (step, call) in JOURNEY {
            self.begin(*step, report)?;
            call(self, report)?;
        }
        self.begin(Step::Clone, report)?;
        let proof = self.proof;
        // Nothing is left to do after it: the task's lack of memory may end this process at any moment.
        clone_for_parent(proof, report.entered(), || {
            let errno = self.arrive(report).err().unwrap_or(Errno::IO);
            report.fail(errno);
            127
        })
    }

    /// In the new process: a session and terminal of its own, and the command.
    fn arrive(&mut self, report: &Report) -> Result<(), Errno> {
        self.begin(Step::Session, report)?;
        rustix::process::setsid()?;
        if self.terminal {
            self.begin(Step::Terminal, report)?;
            exec::take_terminal(exec::borrow(0)?)?;
        }
        self.begin(Step::DeathSignal, report)?;
        credentials::set_parent_death_signal(9)?;
        self.begin(Step::Execute, report)?;
        self.person.execute()
    }

    fn begin(&self, step: Step, report: &Report) -> Result<(), Errno> {
        report.begin(step);
        self.failing.map_or(Ok(()), |injected| injected.strike(step))
    }

    fn find(&mut self, report: &Report) -> Result<(), Errno> {
        let root = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        self.person.found = find::find(root.as_fd(), &self.person.places, report)?;
        Ok(())
    }

    fn open_filter(&self) -> Result<(), Errno> {
        if self.person.gain == PrivilegeGain::Never || self.person.filter.is_empty() {
            return Ok(());
        }
        self.person.regain()?;
        bivouac_sys::seccomp::load_filter(&self.person.filter)
    }

    fn sealed_filter(&self) -> Result<(), Errno> {
        if self.person.gain == PrivilegeGain::Possible {
            return Ok(());
        }
        credentials::no_new_privileges()?;
        if self.person.filter.is_empty() {
            Ok(())
        } else {
            bivouac_sys::seccomp::load_filter(&self.person.filter)
        }
    }
}
