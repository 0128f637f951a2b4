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
use super::{Setting, Start, Streams, wait_for_start, wait_readable};
use super::{find, landlock};
use crate::model::{Init, Namespaces, Network, PrivilegeGain, Process, Sharing};
use crate::plan::check_process;
use bivouac_sys::clone::{Child, CloneArgs, OneThread, clone_for_parent, clone_into};
use bivouac_sys::wait::{Ending, reap_blocking};
use bivouac_sys::{Errno, credentials, exec, signal};
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

/// Brings a process into a running sandbox and comes back when its command runs.
///
/// # Errors
/// [`Failure`]: one sentence. No process or descriptor of the attempt is left.
pub fn enter(
    setting: &Setting<'_>,
    target: &Target<'_>,
    process: &Process,
    streams: Streams,
) -> Result<Entered, Failure> {
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
    drop(visit);
    let child = arrival(&spawner, &report, setting)?;
    let Some(child) = child else {
        let told = report.read();
        let errno = told.failure.unwrap_or(Errno::IO);
        return Err(Failure::explain_entering(process, &told, errno));
    };
    match wait_for_start(&child, &reader, &report, setting.deadline)? {
        Start::Running(_) => Ok(Entered { child, terminal }),
        Start::Failed(told, errno) => Err(Failure::explain_entering(process, &told, errno)),
    }
}

/// Waits for the spawner to be gone and finds the process it left to us; `None` when a step of it failed.
fn arrival(spawner: &Child, report: &Report, setting: &Setting<'_>) -> Result<Option<Child>, Failure> {
    if !wait_readable(spawner.pidfd.as_fd(), setting.deadline) {
        let _ = signal::send(spawner.pidfd.as_fd(), 9);
        let grace = std::time::Instant::now() + std::time::Duration::from_secs(1);
        if wait_readable(spawner.pidfd.as_fd(), grace) {
            let _ = reap_blocking(spawner.pidfd.as_fd());
        }
        abandon(report);
        return Err(Failure::timed_out(report.read().step));
    }
    let reaped = reap_blocking(spawner.pidfd.as_fd()).map_err(Failure::cloning)?;
    match reaped.ending {
        Ending::Exited(0) => newcomer(report)
            .map(Some)
            .map_err(|errno| Failure::preparing("find the process that entered", errno)),
        Ending::Exited(_) => Ok(None),
        Ending::Signaled { signal, .. } => {
            abandon(report);
            Err(Failure::killed(report.read().step, signal))
        }
    }
}

/// The process whose number the spawner told, if it is a child of ours: the page may have been written by
/// something hostile since.
fn newcomer(report: &Report) -> Result<Child, Errno> {
    let pid = report.entered();
    let number = rustix::process::Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
    let probe = rustix::process::WaitIdOptions::EXITED
        | rustix::process::WaitIdOptions::NOHANG
        | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), probe)?;
    Ok(Child { pid, pidfd })
}

/// A spawner that was ended after it cloned has left us a child that nobody will ask for.
fn abandon(report: &Report) {
    if let Ok(child) = newcomer(report) {
        let _ = signal::send(child.pidfd.as_fd(), 9);
        let _ = bivouac_sys::wait::try_reap(child.pidfd.as_fd());
    }
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
        let pid = clone_for_parent(proof, || {
            let errno = self.arrive(report).err().unwrap_or(Errno::IO);
            report.fail(errno);
            127
        })?;
        report.enter(pid);
        Ok(())
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
