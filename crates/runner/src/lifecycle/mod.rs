//! The life of an allocation: which task may start, who ends whom, in which order. Pure.
//!
//! Inputs are what happened and what somebody asked for; the answer is what to do, in order. What follows from the
//! state alone (gates that open, siblings that end) is worked out in one place, [`Machine::settle`], after every
//! input, so that no combination of inputs is special. Time and chance are given.

mod ending;

#[cfg(test)]
mod tests;

use crate::events::Happening;
use crate::restart::{Ended, Luck, Time, Tracker, Verdict};
use bivouac_jobspec::Role;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is known of a task beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub role: Role,
    /// Whether its end ends the others.
    pub leader: bool,
    /// How long it has after its kill signal.
    pub grace: Duration,
    /// Wait before it is killed.
    pub shutdown_delay: Duration,
    /// Its failures.
    pub tracker: Tracker,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its gate is closed.
    Waiting,
    /// It was told to start.
    Starting,
    /// It runs.
    Running,
    /// It is started again then.
    Resting {
        /// When.
        until: Time,
    },
    /// It runs until its shutdown delay is over.
    Draining {
        /// Until then.
        until: Time,
        /// What follows its end.
        then: Then,
    },
    /// It was told to stop.
    Stopping(Then),
    /// It will not run again.
    Dead(Outcome),
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// Nothing.
    Die(Outcome),
    /// Another start.
    Restart,
}

/// How a task's life went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// As meant, or by somebody's wish.
    Complete,
    /// It failed for good.
    Failed,
    /// It never ran.
    Never,
}

/// Why the allocation comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Somebody asked.
    Asked,
    /// A task failed for good.
    Failed {
        /// Which.
        task: usize,
    },
    /// The leader ended.
    LeaderDead,
    /// The main tasks ended.
    MainsDead,
    /// `max_run_duration` is over.
    MaxRun,
}

/// What the allocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Course {
    Run,
    /// The group's shutdown delay, then the end.
    Delay {
        until: Time,
        reason: Reason,
    },
    End(Reason),
    /// All of it ends and begins anew.
    Renew,
}

/// What happened, or was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A task runs.
    Started(usize),
    /// A task's start has failed; [`Ended::NotStarted`] or [`Ended::NeverStarts`].
    NotStarted(usize, Ended),
    /// A task has ended; the flag of success decides.
    Ended(usize, Ended),
    /// End everything.
    Stop(Manner),
    /// End one task for good.
    StopTask(usize, Manner),
    /// Stop and start one task, or all that run.
    Restart(Option<usize>),
    /// End everything, finished tasks too, and begin anew.
    Renew,
    /// A check or a template's script says that the task is not well.
    Unwell(usize),
}

/// How something is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// In place of the tasks' kill timeouts.
    pub grace: Option<Duration>,
    /// Whether shutdown delays are waited for.
    pub delay: Delay,
}

/// Whether shutdown delays are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// They are.
    #[default]
    Kept,
    /// They are not.
    Skipped,
}

/// What is to be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a task; [`Input::Started`] or [`Input::NotStarted`] follows.
    Start(usize),
    /// Send its kill signal, and after this time kill it; [`Input::Ended`] follows.
    Stop(usize, Duration),
    /// Note what happened to it.
    Tell(usize, Happening),
}

/// How the allocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing runs yet.
    Pending,
    /// Something runs.
    Running,
    /// All went as meant.
    Complete,
    /// A task failed for good.
    Failed,
}

/// The whole life of one allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    members: Vec<Member>,
    stages: Vec<Stage>,
    /// Which tasks have run at least once: a gate that opened stays open.
    ran: Vec<bool>,
    course: Course,
    manner: Manner,
    group_delay: Duration,
    max_run: Option<Duration>,
    deadline: Option<Time>,
}

impl Machine {
    /// Nothing has started.
    pub fn new(members: Vec<Member>, group_delay: Duration, max_run: Option<Duration>) -> Machine {
        let count = members.len();
        Machine {
            members,
            stages: vec![Stage::Waiting; count],
            ran: vec![false; count],
            course: Course::Run,
            manner: Manner::default(),
            group_delay,
            max_run,
            deadline: None,
        }
    }

    /// Where a task stands.
    pub fn stage(&self, task: usize) -> Stage {
        self.stages.get(task).copied().unwrap_or(Stage::Dead(Outcome::Never))
    }

    /// Whether every main task has run, which is when a detached run has begun.
    pub fn has_begun(&self) -> bool {
        self.all(|index, member| member.role != Role::Main || self.has_run(index))
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.stages.iter().all(|stage| matches!(stage, Stage::Dead(_)))
    }

    /// Why it comes to its end, if it does.
    pub fn reason(&self) -> Option<Reason> {
        match self.course {
            Course::Delay { reason, .. } | Course::End(reason) => Some(reason),
            Course::Run | Course::Renew => None,
        }
    }

    /// How the allocation stands: a failed task counts more than running ones, these more than waiting ones. The
    /// end of the longest run allowed is no failure.
    pub fn status(&self) -> Status {
        let any = |wanted: fn(&Stage) -> bool| self.stages.iter().any(wanted);
        let by_deadline = self.reason() == Some(Reason::MaxRun);
        if !by_deadline && any(|stage| matches!(stage, Stage::Dead(Outcome::Failed))) {
            Status::Failed
        } else if any(is_alive) {
            Status::Running
        } else if any(|stage| *stage == Stage::Waiting) {
            Status::Pending
        } else {
            Status::Complete
        }
    }

    /// When to come back with [`Input::Tick`] if nothing else happens.
    pub fn next_tick(&self) -> Option<Time> {
        let stages = self.stages.iter().filter_map(|stage| match stage {
            Stage::Resting { until } | Stage::Draining { until, .. } => Some(*until),
            _ => None,
        });
        let course = match self.course {
            Course::Delay { until, .. } => Some(until),
            Course::Run => self.deadline,
            Course::End(_) | Course::Renew => None,
        };
        stages.chain(course).min()
    }

    /// The host was restarted: what ran does not any more, and time begins anew. What was over stays over.
    pub fn reboot(&mut self) {
        for stage in &mut self.stages {
            if *stage != Stage::Waiting && !matches!(stage, Stage::Dead(_)) {
                *stage = match self.course {
                    Course::Run | Course::Renew => Stage::Waiting,
                    Course::Delay { .. } | Course::End(_) => Stage::Dead(Outcome::Complete),
                };
            }
        }
        self.members.iter_mut().for_each(|member| member.tracker.forget());
        self.deadline = None;
    }

    /// A task was found running, whatever was written down about it last.
    pub fn adopt(&mut self, task: usize) {
        if matches!(self.stage(task), Stage::Waiting | Stage::Starting | Stage::Resting { .. }) {
            self.set(task, Stage::Running);
        }
        if let Some(ran) = self.ran.get_mut(task) {
            *ran = true;
        }
    }

    /// A task that was just starting was never seen.
    pub fn adopt_nothing(&mut self, task: usize) {
        if self.stage(task) == Stage::Starting {
            self.set(task, Stage::Resting { until: Time::default() });
        }
    }

    /// The longest run may last so much longer: after a restart of the supervisor's host.
    pub fn set_max_run(&mut self, left: Option<Duration>) {
        self.max_run = left;
    }

    /// Takes an input; tells what to do.
    pub fn step(&mut self, now: Time, luck: Luck, input: Input) -> Vec<Action> {
        let mut todo = Vec::new();
        if self.deadline.is_none() {
            self.deadline = self.max_run.map(|longest| now.after(longest));
        }
        match input {
            Input::Tick => {}
            Input::Started(task) => self.started(task, &mut todo),
            Input::NotStarted(task, ended) | Input::Ended(task, ended) => {
                self.ended(now, luck, task, ended, &mut todo);
            }
            Input::Stop(manner) => self.asked_to_stop(now, manner, &mut todo),
            Input::StopTask(task, manner) => {
                self.manner = manner;
                self.begin_stop(now, task, Then::Die(Outcome::Complete), &mut todo);
            }
            Input::Restart(which) => self.asked_to_restart(now, which, &mut todo),
            Input::Renew => self.renew(&mut todo),
            Input::Unwell(task) => self.unwell(now, luck, task, &mut todo),
        }
        self.settle(now, &mut todo);
        todo
    }

    fn started(&mut self, task: usize, todo: &mut Vec<Action>) {
        if let Some(ran) = self.ran.get_mut(task) {
            *ran = true;
        }
        todo.push(Action::Tell(task, Happening::Started));
        if self.stage(task) == Stage::Starting {
            self.set(task, Stage::Running);
        }
    }

    fn ended(&mut self, now: Time, luck: Luck, task: usize, ended: Ended, todo: &mut Vec<Action>) {
        let then = match self.stage(task) {
            Stage::Stopping(then) | Stage::Draining { then, .. } => Some(then),
            Stage::Dead(_) => return,
            _ => None,
        };
        match then {
            Some(Then::Die(outcome)) => {
                todo.push(Action::Tell(task, Happening::Killed));
                return self.set(task, Stage::Dead(outcome));
            }
            Some(Then::Restart) => {
                let happening = Happening::Restarting { after: Duration::ZERO, reason: String::new() };
                todo.push(Action::Tell(task, happening));
                return self.set(task, Stage::Resting { until: now });
            }
            None => {}
        }
        self.judge(now, luck, task, ended, todo);
    }

    /// Asks the restart policy about an end that nobody asked for.
    fn judge(&mut self, now: Time, luck: Luck, task: usize, ended: Ended, todo: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(task) else { return };
        match member.tracker.next(now, ended, luck) {
            Verdict::Restart { after, reason } => {
                let happening = Happening::Restarting { after, reason: reason.to_owned() };
                todo.push(Action::Tell(task, happening));
                self.set(task, Stage::Resting { until: now.after(after) });
            }
            // The end itself has been told; nothing else happened.
            Verdict::Complete { .. } => self.set(task, Stage::Dead(Outcome::Complete)),
            Verdict::Failed { reason } => {
                todo.push(Action::Tell(task, Happening::NotRestarting(reason)));
                self.set(task, Stage::Dead(Outcome::Failed));
            }
        }
    }

    fn unwell(&mut self, now: Time, luck: Luck, task: usize, todo: &mut Vec<Action>) {
        if self.stage(task) != Stage::Running {
            return;
        }
        let Some(member) = self.members.get_mut(task) else { return };
        match member.tracker.next(now, Ended::Triggered, luck) {
            Verdict::Restart { .. } => self.begin_stop(now, task, Then::Restart, todo),
            Verdict::Complete { .. } | Verdict::Failed { .. } => {
                let text = "Exceeded allowed attempts: its checks keep failing".to_owned();
                todo.push(Action::Tell(task, Happening::NotRestarting(text)));
                self.begin_stop(now, task, Then::Die(Outcome::Failed), todo);
            }
        }
    }

    fn asked_to_stop(&mut self, now: Time, manner: Manner, todo: &mut Vec<Action>) {
        let hastened = manner.grace.is_some_and(|grace| grace.is_zero());
        self.manner = manner;
        match self.course {
            Course::Run | Course::Renew => {
                let delay = if manner.delay == Delay::Kept { self.group_delay } else { Duration::ZERO };
                self.course = Course::Delay { until: now.after(delay), reason: Reason::Asked };
            }
            Course::Delay { reason, .. } if hastened || manner.delay == Delay::Skipped => {
                self.course = Course::End(reason);
            }
            Course::Delay { .. } | Course::End(_) => {}
        }
        if hastened {
            // Whoever asks again wants it now: also of those that were given time before.
            for task in 0..self.members.len() {
                match self.stage(task) {
                    Stage::Stopping(_) => todo.push(Action::Stop(task, Duration::ZERO)),
                    Stage::Draining { then, .. } => self.stop_now(task, then, todo),
                    Stage::Running if self.is_poststop(task) => {
                        self.stop_now(task, Then::Die(Outcome::Complete), todo);
                    }
                    _ => {}
                }
            }
        }
    }

    fn asked_to_restart(&mut self, now: Time, which: Option<usize>, todo: &mut Vec<Action>) {
        self.manner = Manner::default();
        for task in which.map_or(0..self.members.len(), |task| task..task + 1) {
            if !matches!(self.stage(task), Stage::Running | Stage::Resting { .. }) {
                continue;
            }
            todo.push(Action::Tell(
                task,
                Happening::RestartSignaled("User requested task to restart".into()),
            ));
            if self.stage(task) == Stage::Running {
                self.begin_stop(now, task, Then::Restart, todo);
            } else {
                self.set(task, Stage::Resting { until: now });
            }
        }
    }

    fn renew(&mut self, todo: &mut Vec<Action>) {
        if self.course == Course::Run {
            self.manner = Manner::default();
            self.course = Course::Renew;
            let text = "User requested all tasks to restart";
            todo.extend(
                (0..self.members.len())
                    .filter(|task| is_alive(&self.stage(*task)))
                    .map(|task| Action::Tell(task, Happening::RestartSignaled(text.into()))),
            );
        }
    }

    fn set(&mut self, task: usize, stage: Stage) {
        if let Some(place) = self.stages.get_mut(task) {
            *place = stage;
        }
    }

    fn has_run(&self, task: usize) -> bool {
        self.ran.get(task).copied().unwrap_or(false)
    }

    fn all(&self, holds: impl Fn(usize, &Member) -> bool) -> bool {
        self.members.iter().enumerate().all(|(index, member)| holds(index, member))
    }
}

/// Whether a task is neither before its first start nor after its last end.
fn is_alive(stage: &Stage) -> bool {
    !matches!(stage, Stage::Waiting | Stage::Dead(_))
}

/// Whether a task goes on beside the main ones.
fn is_sidecar(role: Role) -> bool {
    matches!(role, Role::Prestart { sidecar: true } | Role::Poststart { sidecar: true })
}
