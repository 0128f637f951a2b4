//! What others ask of a supervisor.

use super::{Outputs, Supervisor};
use crate::control::{Answer, Request, Waits};
use crate::events::Happening;
use crate::lifecycle::{Input, Manner, Stage};
use bivouac_driver::signals::Signal;
use std::time::Duration;

impl Supervisor<'_> {
    pub(super) fn asked(&mut self, who: usize, request: Request, outputs: &mut dyn Outputs) {
        let task = match &request {
            Request::Stop { task, .. } | Request::Restart { task } | Request::Signal { task, .. } => task,
            Request::Renew => &None,
        };
        let index = match task {
            None => None,
            Some(name) => {
                match self.plan.allocation.tasks.iter().position(|task| task.member.name == *name) {
                    None => {
                        let text = format!("no task {name:?} in allocation {}", self.keep.id());
                        return self.desk.answer(who, &Answer::Refused(text));
                    }
                    found => found,
                }
            }
        };
        let answer = match request {
            Request::Stop { grace_ms, delay, .. } => {
                let manner = Manner { grace: grace_ms.map(Duration::from_millis), delay };
                self.desk.enlist(who, index.map_or(Waits::All, Waits::Task));
                self.drive(index.map_or(Input::Stop(manner), |task| Input::StopTask(task, manner)), outputs);
                return;
            }
            Request::Restart { .. } => self.asked_to_restart(index, outputs),
            Request::Renew if self.state.machine.reason().is_none() => {
                self.drive(Input::Renew, outputs);
                Answer::Done
            }
            Request::Renew => Answer::Refused("restart of an alloc that should not run".into()),
            Request::Signal { signal, .. } => self.asked_to_signal(index, signal, outputs),
        };
        self.desk.answer(who, &answer);
    }

    fn asked_to_restart(&mut self, index: Option<usize>, outputs: &mut dyn Outputs) -> Answer {
        if self.state.machine.reason().is_some() {
            return Answer::Refused("restart of an alloc that should not run".into());
        }
        let running = |task| matches!(self.state.machine.stage(task), Stage::Running | Stage::Resting { .. });
        let any = index.map_or_else(|| (0..self.lives.len()).any(running), running);
        if !any {
            return Answer::Refused("Task not running".into());
        }
        self.drive(Input::Restart(index), outputs);
        Answer::Done
    }

    fn asked_to_signal(&mut self, index: Option<usize>, signal: i32, outputs: &mut dyn Outputs) -> Answer {
        let Some(signal) = Signal::from_number(signal) else {
            return Answer::Refused(format!("{signal} is no signal"));
        };
        let mut told = Answer::Refused("Task not running".into());
        for task in index.map_or(0..self.lives.len(), |task| task..task + 1) {
            if self.lives.get(task).is_none_or(|life| life.watch.is_none()) {
                continue;
            }
            self.tell(task, &Happening::Signaling(signal.to_string()), outputs);
            match self.engine.signal(&self.run_id(task), signal) {
                Ok(()) if told != Answer::Done => told = Answer::Done,
                Ok(()) => {}
                Err(error) => return Answer::Refused(error.to_string()),
            }
        }
        told
    }
}
