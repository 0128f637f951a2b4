//! The scheduler of a periodic job: starts its runs when they are due, each with a supervisor of its own.
//!
//! It sleeps until the next start and costs no wake-up before. What was started stands on disk before it is started,
//! so that a scheduler that was killed at any moment is followed by one that starts nothing twice; what was missed
//! while none was there is made up once.

use crate::allocation::{Allocation, PlanError};
use crate::control::{Answer as Told, Desk, Request};
use crate::detached::{self, Answer, Terms};
use crate::foreground::RunError;
use crate::machine::Machine;
use crate::overview::{self, Entry};
use crate::planning::Payload;
use crate::registry::{self, Registration, Submission};
use crate::relay::wait;
use crate::schedule::Schedule;
use crate::state::{Home, Keep, Lock, OnBoot};
use bivouac_driver::engine::Engine;
use bivouac_jobspec::Job;
use jiff::Timestamp;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io::Write;

const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
/// So many of a job's runs that are over are kept, with their logs.
const KEPT: usize = 10;

/// The job of one start: no longer periodic, with a name of its own.
pub fn child(job: &Job, due: Timestamp) -> Job {
    let id = format!("{}/periodic-{}", job.id, due.as_second());
    Job { name: id.clone(), id, periodic: None, ..job.clone() }
}

/// Whether a job is a run of this one.
fn is_child(job: &str, parent: &str) -> bool {
    job.strip_prefix(parent).is_some_and(|rest| rest.starts_with("/periodic-"))
}

/// The life of a scheduler process: descriptor 1 leads to whoever started it, 2 to its log.
///
/// # Errors
/// [`RunError`], which has been told to whoever waits.
pub fn schedule(engine: &Engine, home: &Home, machine: &Machine, name: &str) -> Result<(), RunError> {
    let begun = Scheduler::new(engine, home, machine, name);
    match begun {
        Ok(scheduler) => {
            detached::answer(&Answer::Begun);
            scheduler.follow()
        }
        Err(error) => {
            detached::answer(&Answer::Failed { text: error.to_string(), exit_code: error.exit_code() });
            Err(error)
        }
    }
}

struct Scheduler<'a> {
    engine: &'a Engine,
    home: &'a Home,
    machine: &'a Machine,
    keep: Keep,
    _lock: Lock,
    registration: Registration,
    schedule: Schedule,
    until: Timestamp,
    desk: Desk,
    signals: OwnedFd,
    timer: OwnedFd,
}

/// Whether the scheduler goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

impl<'a> Scheduler<'a> {
    fn new(engine: &'a Engine, home: &'a Home, machine: &'a Machine, name: &str) -> Result<Self, RunError> {
        let kernel = |what| move |errno| RunError::Kernel { what, errno };
        bivouac_sys::signal::block_all().map_err(kernel("block signals"))?;
        let signals =
            bivouac_sys::signal::signalfd(&[SIGTERM, SIGCHLD]).map_err(kernel("wait for signals"))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).map_err(kernel("make a timer"))?;
        let keep = home.job(name);
        let lock = keep.lock()?;
        let mut registration = registry::registration(&keep)?;
        registry::taken_up(&keep, &mut registration)?;
        let Some(periodic) = &registration.submission.job.periodic else {
            return Err(PlanError::Other(format!("job {name:?} is not periodic")).into());
        };
        let schedule = Schedule::of(periodic)?;
        let until = registry::progress(&keep, &registration)?;
        let until = Timestamp::from_second(until).map_err(PlanError::other)?;
        let desk = Desk::open(&keep)?;
        Ok(Scheduler {
            engine,
            home,
            machine,
            keep,
            _lock: lock,
            registration,
            schedule,
            until,
            desk,
            signals,
            timer,
        })
    }

    fn follow(mut self) -> Result<(), RunError> {
        loop {
            let now = Timestamp::now();
            let due = self.due();
            if let Some(due) = due.filter(|due| *due <= now) {
                self.begin(due);
                self.until = now.max(due);
                if let Err(error) = registry::advance(&self.keep, self.until.as_second()) {
                    // Somebody has taken the job away by hand.
                    if !self.keep.path().exists() {
                        return Err(error.into());
                    }
                    // A full disk ends no schedule: another scheduler would look at this start again, and find it made.
                    tell(&error.to_string());
                }
                continue;
            }
            self.set_timer(due).map_err(|errno| RunError::Kernel { what: "set a timer", errno })?;
            if self.turn()? == Next::Leave {
                return Ok(());
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        let periodic = self.registration.submission.job.periodic.as_ref()?;
        periodic.enabled.then(|| self.schedule.next(self.until)).flatten()
    }

    /// The clock may be set: then the kernel wakes us, too.
    fn set_timer(&self, due: Option<Timestamp>) -> Result<(), Errno> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = due.map_or(zero, |due| Timespec { tv_sec: due.as_second(), tv_nsec: 0 });
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.timer, flags, &Itimerspec { it_interval: zero, it_value: value }).map(drop)
    }

    fn turn(&mut self) -> Result<Next, RunError> {
        let mut fds = vec![self.signals.as_fd(), self.timer.as_fd()];
        fds.extend(self.desk.descriptors());
        wait(&fds, None).map_err(|errno| RunError::Kernel { what: "wait", errno })?;
        drop(fds);
        // It may have fired, or been cancelled by a clock that was set: both mean to look at the clock.
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
        while let Ok(Some(signal)) = bivouac_sys::signal::take(self.signals.as_fd()) {
            if signal == SIGTERM {
                return Ok(Next::Leave);
            }
        }
        // Supervisors that have ended.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        for (who, request) in self.desk.take() {
            if let Request::Stop { task: None, .. } = request {
                self.keep.remove()?;
                self.desk.answer(who, &Told::Done);
                return Ok(Next::Leave);
            }
            let text = "a periodic job itself can only be stopped; its runs have names of their own";
            self.desk.answer(who, &Told::Refused(text.into()));
        }
        Ok(Next::Stay)
    }

    /// Starts what is due. What fails is told in the log; the next start is tried all the same.
    fn begin(&self, due: Timestamp) {
        let (runs, unreadable) = match self.runs() {
            Ok(runs) => runs,
            Err(error) => return tell(&format!("cannot start what is due at {due}: {error}")),
        };
        if unreadable > 0 {
            tell(&format!("{unreadable} allocations cannot be read"));
        }
        let job = child(&self.registration.submission.job, due);
        let overlap = runs.iter().any(|run| run.is_live() && run.state.job != job.id);
        let prohibited = self
            .registration
            .submission
            .job
            .periodic
            .as_ref()
            .is_some_and(|periodic| periodic.prohibit_overlap);
        if overlap && prohibited {
            return tell(&format!("left out {due}: the run before it is not over"));
        }
        if let Err(error) = self.launch(job, &runs) {
            tell(&format!("cannot start what is due at {due}: {error}"));
        }
        self.forget_old(runs);
    }

    fn runs(&self) -> Result<(Vec<Entry>, usize), RunError> {
        let (mut entries, unreadable) = overview::all(self.home)?;
        let parent = &self.registration.submission.job.id;
        entries.retain(|entry| is_child(&entry.state.job, parent));
        Ok((entries, unreadable.len()))
    }

    fn launch(&self, job: Job, runs: &[Entry]) -> Result<(), RunError> {
        let parent = self.registration.submission.job.id.clone();
        let payload = Payload { bytes: Vec::new(), parent };
        let submission = Submission { job, volumes: self.registration.submission.volumes.clone() };
        let terms = Terms {
            on_boot: OnBoot::Forget,
            config: self.registration.config.as_deref(),
            submission: Some(&submission),
            network: &self.machine.network,
        };
        for allocation in submission.allocations(self.home, self.machine, Some(&payload))? {
            // A scheduler that was killed on the way may have begun.
            match runs.iter().find(|run| run.state.name == allocation.name) {
                None => {
                    let keep = detached::prepare(self.home, &allocation, terms)?;
                    if let Err(error) = self.start(&keep, &allocation) {
                        // It does not come later, when nobody expects it.
                        let _ = crate::gc::forget(self.home, &allocation);
                        return Err(error);
                    }
                }
                Some(run) if run.is_live() && !run.supervised => self.start(&run.keep, &allocation)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn start(&self, keep: &Keep, allocation: &Allocation) -> Result<(), RunError> {
        detached::launch_unheard(self.engine, self.home, keep)?;
        tell(&format!("started {}", allocation.name));
        Ok(())
    }

    /// The oldest runs that are over go, but for the last few.
    fn forget_old(&self, runs: Vec<Entry>) {
        let over: Vec<Entry> = runs.into_iter().filter(|run| !run.is_live()).collect();
        let many = over.len().saturating_sub(KEPT);
        for run in over.into_iter().take(many) {
            if let Err(error) = crate::gc::one(self.engine, self.home, &run) {
                tell(&format!("{} stays: {error}", run.state.id));
            }
        }
    }
}

/// A line of the scheduler's log.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{:.0} {text}", Timestamp::now());
}
