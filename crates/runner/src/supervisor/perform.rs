//! What a supervisor does to tasks: starts them, stops them, takes their ends, finds them again.

use super::{Life, Outputs, StartError, Supervisor};
use crate::cores;
use crate::events::{Happening, Kind};
use crate::lifecycle::{Input, Stage};
use crate::network::{self, NetworkError};
use crate::restart::Ended;
use crate::state::Face;
use bivouac_driver::engine::{EngineError, Leftovers, Standing, sentences};
use bivouac_driver::request::StarterGone;
use bivouac_driver::signals::Signal;
use bivouac_shim::client::{ClientError, Happened, Watch};
use bivouac_shim::process::Moment;
use bivouac_shim::status::{Ending, Exit, Phase};
use std::time::{Duration, Instant};

/// How long a start that nobody waits for any more may take to be given up.
const SETTLES: Duration = Duration::from_secs(5);

impl Supervisor<'_> {
    /// Finds a run that is not just starting: a shim whose starter died on the way leaves within moments.
    fn find_settled(&self, id: &str) -> Result<Standing, EngineError> {
        let end = Instant::now() + SETTLES;
        loop {
            let standing = self.engine.find(id)?;
            let Standing::Alive(mut client) = standing else { return Ok(standing) };
            match client.state() {
                Ok(status) if status.phase != Phase::Starting => return Ok(Standing::Alive(client)),
                _ if Instant::now() > end => return Ok(Standing::Alive(client)),
                _ => std::thread::sleep(SETTLES / 500),
            }
        }
    }

    /// What has become of a task since somebody else supervised it.
    pub(super) fn find_again(&mut self, task: usize, outputs: &mut dyn Outputs) -> Option<Input> {
        let (id, stage) = (self.run_id(task), self.state.machine.stage(task));
        let standing = match self.find_settled(&id) {
            Err(EngineError::Unknown) if matches!(stage, Stage::Waiting) => {
                if self.state.tasks.get(task).is_some_and(|task| task.events.events().next().is_none()) {
                    self.tell(task, &Happening::Received, outputs);
                    self.tell(task, &Happening::Setup, outputs);
                }
                return None;
            }
            standing => standing,
        };
        let was_alive = !matches!(stage, Stage::Waiting | Stage::Dead(_));
        match standing {
            Ok(Standing::Alive(_)) if matches!(stage, Stage::Dead(_)) => {
                // It was over before: what runs still must not.
                let _ = self.engine.destroy(&id, Leftovers::Kill);
                None
            }
            Ok(Standing::Alive(client)) => {
                self.state.machine.adopt(task);
                match client.watch_end() {
                    Ok(watch) => {
                        if let Some(life) = self.lives.get_mut(task) {
                            life.watch = Some(watch);
                        }
                        self.begin_checks(task);
                        if matches!(stage, Stage::Stopping(_)) {
                            let grace = self.plan.allocation.tasks.get(task).map(|task| task.member.grace);
                            self.stop(task, grace.unwrap_or_default(), outputs);
                        }
                        None
                    }
                    Err(_) => Some(self.lost(task, "its shim is gone", outputs)),
                }
            }
            Ok(Standing::Ended(_, exit)) if was_alive => {
                self.state.machine.adopt(task);
                Some(self.finished(task, &exit, outputs))
            }
            Ok(Standing::Lost(text)) if was_alive => Some(self.lost(task, &text, outputs)),
            Ok(Standing::Ended(..) | Standing::Lost(_)) => {
                let _ = self.engine.destroy(&id, Leftovers::Kill);
                None
            }
            Err(error) if was_alive => match stage {
                Stage::Running | Stage::Draining { .. } | Stage::Stopping(_) => {
                    Some(self.lost(task, &error.to_string(), outputs))
                }
                _ => {
                    self.state.machine.adopt_nothing(task);
                    None
                }
            },
            Err(_) => None,
        }
    }

    /// Starts a task, or what it needs before; then the answer comes later.
    pub(super) fn start(&mut self, task: usize, outputs: &mut dyn Outputs) -> Option<Input> {
        match self.begin_inputs(task, outputs) {
            None => Some(self.launch(task, outputs)),
            Some(Ok(())) => None,
            Some(Err(error)) => Some(self.does_not_start(task, error, Ended::NeverStarts, outputs)),
        }
    }

    /// Starts a task that has all it needs.
    pub(super) fn launch(&mut self, task: usize, outputs: &mut dyn Outputs) -> Input {
        match self.try_start(task, outputs) {
            Ok(()) => {
                // What an earlier try failed of is over.
                self.failure = self.failure.take().filter(|(failed, _)| *failed != task);
                Input::Started(task)
            }
            Err(error) => {
                let has_run = self.state.tasks.get(task).is_some_and(|state| state.started.is_some());
                // Between two runs others may take its processors, and give them back.
                let again = has_run && matches!(error, StartError::Cores(_));
                let ended = if again { Ended::NotStarted } else { Ended::NeverStarts };
                self.does_not_start(task, error, ended, outputs)
            }
        }
    }

    fn does_not_start(
        &mut self,
        task: usize,
        error: StartError,
        ended: Ended,
        outputs: &mut dyn Outputs,
    ) -> Input {
        self.tell(task, &Happening::DriverFailure(error.to_string()), outputs);
        self.failed_to_start(task, error);
        Input::NotStarted(task, ended)
    }

    pub(super) fn failed_to_start(&mut self, task: usize, error: StartError) {
        let error = match self.values(task) {
            values if values.is_empty() => error,
            values => {
                StartError::Told { text: values.redact(&error.to_string()), exit_code: error.exit_code() }
            }
        };
        if self.failure.is_none() {
            self.failure = Some((task, error));
        }
    }

    /// Sets up the allocation's network before its first task. What will be made is written down first.
    pub(super) fn connect(&mut self, outputs: &mut dyn Outputs) -> Result<(), NetworkError> {
        if self.state.network.is_some() {
            return Ok(());
        }
        let settings = self.plan.network.clone();
        let allocation = &self.plan.allocation;
        let Some(plan) = allocation.wiring.plan(&allocation.id, &settings)? else { return Ok(()) };
        self.state.network = Some(plan.intent());
        self.save(outputs);
        let attached = network::set_up(&plan, &settings);
        self.state.network = attached.as_ref().ok().cloned();
        attached.map(drop)
    }

    /// Takes the network down after the last task.
    pub(super) fn disconnect(&mut self, outputs: &mut dyn Outputs) {
        let Some(attached) = &self.state.network else { return };
        match network::tear_down(attached, &self.plan.network) {
            Ok(()) => self.state.network = None,
            // It stays written down, for gc.
            Err(error) => {
                let happening = Happening::Other(Kind::Driver, error.to_string());
                outputs.told(&self.plan.allocation, 0, &happening);
            }
        }
    }

    fn try_start(&mut self, index: usize, outputs: &mut dyn Outputs) -> Result<(), StartError> {
        self.connect(outputs)?;
        let allocation = &self.plan.allocation;
        let mut request = allocation.request_in(index, self.state.network.as_ref(), self.values(index))?;
        if let Some(feeding) = self.feeding.get(index) {
            request.env.retain(|(name, _)| !feeding.env.contains_key(name));
            request.env.extend(feeding.env.clone());
        }
        // What an earlier supervisor may have left half done.
        self.engine.destroy(&request.id, Leftovers::Kill)?;
        let wanted = allocation.tasks.get(index).map_or(0, |planned| planned.order.cores);
        let turn = cores::choose(self.engine, wanted, &mut request)?;
        let task = self.engine.prepare(self.operator, &request)?;
        let streams = outputs.streams(allocation, index)?;
        let gone = match self.plan.face {
            Face::Foreground => StarterGone::Stop,
            Face::Detached => StarterGone::Keep,
        };
        let mut started = self.engine.start(&request, &task, streams, gone)?;
        drop(turn);
        let values = self.values(index);
        for note in &mut started.notes {
            *note = values.redact(note);
        }
        started.command = values.redact(&started.command);
        outputs.started(allocation, index, &mut started)?;
        let watch = self.engine.client(&request.id)?.watch_end()?;
        if let Some(state) = self.state.tasks.get_mut(index) {
            state.restarts += u32::from(state.started.is_some());
            state.started = Some(Moment::now().unix_nanos);
            state.pid = Some(started.pid);
            state.command = Some(started.command.clone());
        }
        if let Some(life) = self.lives.get_mut(index) {
            *life = Life { watch: Some(watch), stop: None, _starter: Some(started) };
        }
        self.begin_checks(index);
        Ok(())
    }

    pub(super) fn stop(&mut self, index: usize, grace: Duration, outputs: &mut dyn Outputs) -> Option<Input> {
        let planned = self.plan.allocation.tasks.get(index)?;
        let signal =
            if grace.is_zero() { Signal::KILL } else { planned.kill_signal().unwrap_or(Signal::INT) };
        let client = self.engine.client(&self.run_id(index));
        match client.and_then(|client| Ok(client.begin_stop(signal.number(), grace)?)) {
            Ok(watch) => {
                if let Some(life) = self.lives.get_mut(index) {
                    life.stop = Some(watch);
                }
                None
            }
            // Its end is about to be told; without a watch nobody else would.
            Err(_) if self.lives.get(index).is_some_and(|life| life.watch.is_some()) => None,
            Err(error) => Some(self.lost(index, &error.to_string(), outputs)),
        }
    }

    pub(super) fn take_stop(&mut self, task: usize, outputs: &mut dyn Outputs) {
        let Some(life) = self.lives.get_mut(task) else { return };
        let answer = life.stop.as_mut().map(Watch::take);
        if matches!(answer, Some(Ok(None))) {
            return;
        }
        life.stop = None;
        if let Some(Err(ClientError::Refused(refusal))) = answer {
            self.tell(task, &Happening::Other(Kind::Driver, refusal.to_string()), outputs);
        }
    }

    pub(super) fn take_end(&mut self, task: usize, outputs: &mut dyn Outputs) {
        let Some(watch) = self.lives.get_mut(task).and_then(|life| life.watch.as_mut()) else { return };
        let input = match watch.take() {
            Ok(Some(Happened::Ended(exit))) => self.finished(task, &exit, outputs),
            Ok(_) => return,
            Err(_) => match self.engine.find(&self.run_id(task)) {
                Ok(Standing::Ended(_, exit)) => self.finished(task, &exit, outputs),
                _ => self.lost(task, "its shim was killed, and the task with it", outputs),
            },
        };
        self.drive(input, outputs);
    }

    /// Writes an end down and collects the run.
    fn finished(&mut self, task: usize, exit: &Exit, outputs: &mut dyn Outputs) -> Input {
        let signal = match exit.ending {
            Ending::Signaled { signal, .. } => signal,
            Ending::Exited { .. } => 0,
        };
        let limit = self.plan.allocation.tasks.get(task).and_then(|task| task.order.memory_limit());
        let happening = Happening::Terminated {
            code: exit.ending.code(),
            signal,
            message: sentences(exit, limit).join("; "),
        };
        if let Some(state) = self.state.tasks.get_mut(task) {
            state.pid = None;
            state.exit_code = Some(exit.ending.code());
            state.signal = signal;
            state.oom_kills += exit.oom_kills;
            state.finished = Some(exit.finished.unix_nanos);
        }
        self.tell(task, &happening, outputs);
        self.collect(task, outputs);
        let ended = if exit.ending.code() == 0 { Ended::Success } else { Ended::Failure };
        Input::Ended(task, ended)
    }

    fn lost(&mut self, task: usize, why: &str, outputs: &mut dyn Outputs) -> Input {
        if let Some(state) = self.state.tasks.get_mut(task) {
            state.pid = None;
            state.exit_code = None;
            state.finished = Some(Moment::now().unix_nanos);
        }
        self.tell(task, &Happening::FailedRestoring(format!("the task is lost: {why}")), outputs);
        self.collect(task, outputs);
        Input::Ended(task, Ended::Failure)
    }

    fn collect(&mut self, task: usize, outputs: &mut dyn Outputs) {
        self.end_checks(task);
        if let Some(feeding) = self.feeding.get_mut(task) {
            feeding.run_is_over();
        }
        let destroyed = self.engine.destroy(&self.run_id(task), Leftovers::Kill);
        // Only now: the shim of a foreground run leaves when its starter does.
        if let Some(life) = self.lives.get_mut(task) {
            *life = Life::default();
        }
        if let Err(error) = destroyed {
            self.tell(task, &Happening::Other(Kind::Driver, error.to_string()), outputs);
        }
    }
}
