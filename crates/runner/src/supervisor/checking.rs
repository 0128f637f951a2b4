//! The checks of an allocation's tasks.

use super::{Outputs, Supervisor, now};
use crate::allocation::Allocation;
use crate::checks::{Check, Errand, Health, Probe, Question, Verdict, Watcher, ask};
use crate::events::{Happening, Kind};
use crate::lifecycle::Input;
use bivouac_driver::request::{ExecRequest, Streams};

/// One check.
pub(super) struct Checking {
    task: usize,
    check: Check,
    pub(super) watcher: Watcher,
    pub(super) question: Option<Question>,
}

impl Checking {
    pub(super) fn all(allocation: &Allocation) -> Vec<Checking> {
        let tasks = allocation.tasks.iter().enumerate();
        let all = tasks.flat_map(|(task, planned)| planned.checks.iter().map(move |check| (task, check)));
        all.map(|(task, check)| Checking {
            task,
            check: check.clone(),
            watcher: Watcher::default(),
            question: None,
        })
        .collect()
    }
}

impl Supervisor<'_> {
    /// Its checks begin with a task.
    pub(super) fn begin_checks(&mut self, task: usize) {
        for checking in self.checking.iter_mut().filter(|checking| checking.task == task) {
            checking.watcher.started(now(), &checking.check);
        }
    }

    /// And end with it.
    pub(super) fn end_checks(&mut self, task: usize) {
        for checking in self.checking.iter_mut().filter(|checking| checking.task == task) {
            checking.watcher.ended();
            checking.question = None;
        }
    }

    /// Asks those whose time has come.
    pub(super) fn ask_checks(&mut self, outputs: &mut dyn Outputs) {
        for index in 0..self.checking.len() {
            let due = self.checking.get(index).and_then(|checking| checking.watcher.due);
            if due.is_none_or(|due| due > now()) {
                continue;
            }
            match self.ask_check(index) {
                Some(question) => {
                    if let Some(checking) = self.checking.get_mut(index) {
                        checking.watcher.asked();
                        checking.question = Some(question);
                    }
                }
                None => self.answer_check(index, Health::Critical, outputs),
            }
        }
    }

    fn ask_check(&self, index: usize) -> Option<Question> {
        let checking = self.checking.get(index)?;
        let errand = match &checking.check.probe {
            Probe::Script(command) => {
                let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
                let deadline = Some(checking.check.timeout);
                let request = ExecRequest { command: command.clone(), streams, deadline };
                Errand::Script(self.engine.exec(&self.run_id(checking.task), request).ok()?)
            }
            probe @ (Probe::Tcp(_) | Probe::Http { .. }) => {
                let interface = self.state.network.as_ref().and_then(|it| it.outcome.interface.as_ref());
                Errand::Network(probe.clone(), interface.map(|interface| interface.address))
            }
        };
        ask(errand, checking.check.timeout).ok()
    }

    pub(super) fn take_check(&mut self, index: usize, outputs: &mut dyn Outputs) {
        let question = self.checking.get_mut(index).and_then(|checking| checking.question.take());
        if let Some(question) = question {
            self.answer_check(index, question.take(), outputs);
        }
    }

    fn answer_check(&mut self, index: usize, health: Health, outputs: &mut dyn Outputs) {
        let Some(checking) = self.checking.get_mut(index) else { return };
        let (task, before, name) = (checking.task, checking.watcher.health, checking.check.name.clone());
        let verdict = checking.watcher.answered(now(), &checking.check, health);
        if let Some(state) = self.state.tasks.get_mut(task)
            && before != Some(health)
        {
            state.checks.insert(name.clone(), health);
            self.save(outputs);
        }
        if verdict == Verdict::Restart {
            let text = format!("check {name:?} unhealthy");
            self.tell(task, &Happening::Other(Kind::RestartSignaled, text), outputs);
            self.end_checks(task);
            self.drive(Input::Unwell(task), outputs);
        }
    }
}
