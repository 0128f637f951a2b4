//! What follows from the state alone: gates that open, and the order of an end.

use super::{Action, Course, Delay, Machine, Manner, Outcome, Reason, Stage, Then, is_alive, is_sidecar};
use crate::events::Happening;
use crate::restart::Time;
use bivouac_jobspec::Role;
use std::time::Duration;

impl Machine {
    /// Brings everything to where the state leads, and comes back when only time or an input can change more.
    pub(super) fn settle(&mut self, now: Time, todo: &mut Vec<Action>) {
        self.timers(now, todo);
        loop {
            let before = self.course;
            match self.course {
                Course::Run => self.running(now, todo),
                Course::Delay { until, reason } if until <= now => self.course = Course::End(reason),
                Course::Delay { .. } => {}
                Course::End(reason) => self.end(now, reason, todo),
                Course::Renew => self.renewing(now, todo),
            }
            if self.course == before {
                return;
            }
        }
    }

    fn timers(&mut self, now: Time, todo: &mut Vec<Action>) {
        for task in 0..self.members.len() {
            match self.stage(task) {
                Stage::Resting { until } if until <= now && self.may_rise(task) => self.start(task, todo),
                Stage::Draining { until, then } if until <= now => self.stop_now(task, then, todo),
                _ => {}
            }
        }
    }

    /// Whether a task that rests is started again.
    fn may_rise(&self, task: usize) -> bool {
        matches!(self.course, Course::Run | Course::Delay { .. }) || self.is_poststop(task)
    }

    pub(super) fn is_poststop(&self, task: usize) -> bool {
        self.members.get(task).is_some_and(|member| member.role == Role::Poststop)
    }

    fn start(&mut self, task: usize, todo: &mut Vec<Action>) {
        self.set(task, Stage::Starting);
        todo.push(Action::Start(task));
    }

    fn running(&mut self, now: Time, todo: &mut Vec<Action>) {
        if let Some(reason) = self.why_end(now) {
            self.tell_others(reason, todo);
            self.course = Course::End(reason);
            return;
        }
        for task in 0..self.members.len() {
            if self.stage(task) == Stage::Waiting && self.is_open(task) {
                self.start(task, todo);
            }
        }
    }

    /// Whether a task's gate is open.
    fn is_open(&self, task: usize) -> bool {
        let prestarted = || {
            self.all(|index, member| match member.role {
                Role::Prestart { sidecar: false } => self.stage(index) == Stage::Dead(Outcome::Complete),
                Role::Prestart { sidecar: true } => self.has_run(index),
                Role::Main | Role::Poststart { .. } | Role::Poststop => true,
            })
        };
        match self.members.get(task).map(|member| member.role) {
            Some(Role::Prestart { .. }) => true,
            Some(Role::Main) => prestarted(),
            Some(Role::Poststart { .. }) => {
                self.all(|index, member| member.role != Role::Main || self.has_run(index))
            }
            Some(Role::Poststop) | None => false,
        }
    }

    fn why_end(&self, now: Time) -> Option<Reason> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Reason::MaxRun);
        }
        let failed = |task: &usize| self.stage(*task) == Stage::Dead(Outcome::Failed);
        if let Some(task) = (0..self.members.len()).find(failed) {
            return Some(Reason::Failed { task });
        }
        let leader_dead =
            !self.all(|index, member| !member.leader || !matches!(self.stage(index), Stage::Dead(_)));
        if leader_dead {
            return Some(Reason::LeaderDead);
        }
        let work_done = self.all(|index, member| {
            is_sidecar(member.role)
                || member.role == Role::Poststop
                || matches!(self.stage(index), Stage::Dead(_))
        });
        work_done.then_some(Reason::MainsDead)
    }

    /// Those that still live are told why they must end.
    fn tell_others(&self, reason: Reason, todo: &mut Vec<Action>) {
        let happening = match reason {
            Reason::Failed { task } => {
                let name = self.members.get(task).map(|member| member.name.clone()).unwrap_or_default();
                Happening::SiblingFailed(name)
            }
            Reason::LeaderDead => Happening::LeaderDead,
            Reason::MainsDead => Happening::MainsDead,
            Reason::Asked | Reason::MaxRun => return,
        };
        let alive = (0..self.members.len()).filter(|task| is_alive(&self.stage(*task)));
        todo.extend(alive.map(|task| Action::Tell(task, happening.clone())));
    }

    /// The leader first, then the others together, sidecars last; then what runs after the end.
    fn end(&mut self, now: Time, reason: Reason, todo: &mut Vec<Action>) {
        if self.end_living(now, todo) == Living::Some {
            return;
        }
        for task in 0..self.members.len() {
            if self.stage(task) != Stage::Waiting {
                continue;
            }
            if self.is_poststop(task) && reason != Reason::MaxRun {
                self.start(task, todo);
            } else {
                self.set(task, Stage::Dead(Outcome::Never));
            }
        }
        if reason == Reason::MaxRun {
            self.kill_where(now, |role, _| role == Role::Poststop, todo);
        }
    }

    /// Ends all but tasks that run after the end, in order.
    fn end_living(&mut self, now: Time, todo: &mut Vec<Action>) -> Living {
        type Wanted = fn(Role, bool) -> bool;
        let leader: Wanted = |role, leader| leader && role != Role::Poststop;
        let others: Wanted = |role, _| !is_sidecar(role) && role != Role::Poststop;
        let sidecars: Wanted = |role, _| is_sidecar(role);
        for wanted in [leader, others, sidecars] {
            if self.kill_where(now, wanted, todo) == Living::Some {
                return Living::Some;
            }
        }
        Living::None
    }

    /// Ends those that live among the wanted; whether any is left.
    fn kill_where(
        &mut self,
        now: Time,
        wanted: impl Fn(Role, bool) -> bool,
        todo: &mut Vec<Action>,
    ) -> Living {
        let mut living = Living::None;
        for task in 0..self.members.len() {
            let is_wanted = self.members.get(task).is_some_and(|member| wanted(member.role, member.leader));
            if is_wanted && is_alive(&self.stage(task)) {
                self.begin_stop(now, task, Then::Die(Outcome::Complete), todo);
            }
            if is_wanted && is_alive(&self.stage(task)) {
                living = Living::Some;
            }
        }
        living
    }

    fn renewing(&mut self, now: Time, todo: &mut Vec<Action>) {
        if self.end_living(now, todo) == Living::Some {
            return;
        }
        self.stages.iter_mut().for_each(|stage| *stage = Stage::Waiting);
        self.ran.iter_mut().for_each(|ran| *ran = false);
        self.course = Course::Run;
    }

    /// Begins the stop of one task, unless it is under way already. One that rests is dead at once; one that is
    /// just starting is stopped when it runs.
    pub(super) fn begin_stop(&mut self, now: Time, task: usize, then: Then, todo: &mut Vec<Action>) {
        let Some(member) = self.members.get(task) else { return };
        let (delay, Manner { delay: kept, .. }) = (member.shutdown_delay, self.manner);
        match (self.stage(task), then) {
            (Stage::Running, _) if delay.is_zero() => self.stop_now(task, then, todo),
            (Stage::Running, _) if kept == Delay::Skipped => {
                todo.push(Action::Tell(task, Happening::SkippingShutdownDelay));
                self.stop_now(task, then, todo);
            }
            (Stage::Running, _) => {
                todo.push(Action::Tell(task, Happening::WaitingShutdownDelay(delay)));
                self.set(task, Stage::Draining { until: now.after(delay), then });
            }
            (Stage::Resting { .. }, Then::Die(outcome)) => self.set(task, Stage::Dead(outcome)),
            (Stage::Stopping(Then::Restart), Then::Die(_)) => self.set(task, Stage::Stopping(then)),
            (Stage::Draining { until, then: Then::Restart }, Then::Die(_)) => {
                self.set(task, Stage::Draining { until, then });
            }
            _ => {}
        }
    }

    pub(super) fn stop_now(&mut self, task: usize, then: Then, todo: &mut Vec<Action>) {
        let usual = self.members.get(task).map_or(Duration::ZERO, |member| member.grace);
        let grace = self.manner.grace.unwrap_or(usual);
        todo.push(Action::Tell(task, Happening::Killing(grace)));
        todo.push(Action::Stop(task, grace));
        self.set(task, Stage::Stopping(then));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Living {
    Some,
    None,
}
