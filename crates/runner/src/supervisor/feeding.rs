//! What tasks get before they start, on a thread of their own because servers are slow; and what follows when a
//! file that a template has read changes.

use super::{Outputs, StartError, Supervisor, luck, now};
use crate::checks::{Errand, Health, Question, ask};
use crate::events::{Happening, Kind};
use crate::inputs::{Arrived, Consequence, InputError, Inputs, Rendered, Setting, fetch};
use crate::lifecycle::Input;
use crate::progress::Way;
use crate::restart::{Ended, Time};
use bivouac_artifact::place::Owner;
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_driver::signals::Signal;
use bivouac_jobspec::Change;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The inputs of one task.
#[derive(Default)]
pub(super) struct Feeding {
    /// Artifacts arrive once for all runs of a task.
    arrived: Arc<Arrived>,
    preparing: Option<Preparing>,
    /// What its templates became, for the run that goes on.
    rendered: Option<Rendered>,
    /// What templates with `env = true` say.
    pub(super) env: BTreeMap<String, String>,
    /// What a change wants done, and when.
    due: Option<(Time, Vec<Change>)>,
    /// A command of `change_script` at work, and whether its failure counts.
    script: Option<(Question, Weight)>,
}

/// Whether the failure of a script is the task's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Counts,
    Ignored,
}

/// Inputs being made. Whoever drops it stops it, and waits.
struct Preparing {
    done: PipeReader,
    way: Arc<Way>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Ready, InputError>>>,
}

struct Ready {
    rendered: Option<Rendered>,
    env: BTreeMap<String, String>,
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Feeding {
    /// What to wait for: the end of the preparation, a change, the end of a script.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let preparing = self.preparing.as_ref().map(|preparing| preparing.done.as_fd());
        let script = || self.script.as_ref().map(|(question, _)| question.answer.as_fd());
        preparing.or_else(script).or_else(|| self.rendered.as_ref()?.descriptor())
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Time> {
        // A script is waited for: one change after the other.
        self.due.as_ref().filter(|_| self.script.is_none()).map(|(at, _)| *at)
    }

    /// The run is over: what was rendered for it is no longer looked after.
    pub(super) fn run_is_over(&mut self) {
        (self.rendered, self.due, self.script) = (None, None, None);
    }
}

/// Artifacts, then templates, which may use them.
fn prepare(
    inputs: &Inputs,
    setting: Setting,
    arrived: &Arrived,
    stop: &AtomicBool,
    way: &Way,
) -> Result<Ready, InputError> {
    fetch(&inputs.artifacts, arrived, &setting, stop, &|artifact, progress| way.is_at(artifact, progress))?;
    if inputs.templates.is_empty() {
        return Ok(Ready { rendered: None, env: BTreeMap::new() });
    }
    let rendered = Rendered::all(&inputs.templates, setting)?;
    let env = rendered.environment()?;
    Ok(Ready { rendered: Some(rendered), env })
}

impl Supervisor<'_> {
    /// Begins what a task needs before its start; none if it needs nothing, and an error if that cannot begin.
    pub(super) fn begin_inputs(
        &mut self,
        task: usize,
        outputs: &mut dyn Outputs,
    ) -> Option<Result<(), StartError>> {
        let planned = self.plan.allocation.tasks.get(task)?;
        if planned.inputs.is_empty() {
            return None;
        }
        let (mut inputs, name) = (planned.inputs.clone(), planned.member.name.clone());
        if let Err(error) = inputs.fill(self.values(task)) {
            return Some(Err(error.into()));
        }
        let arrived = self.feeding.get(task).map(|feeding| feeding.arrived.clone()).unwrap_or_default();
        let have = arrived.lock().unwrap_or_else(PoisonError::into_inner).len();
        if have < inputs.artifacts.len() {
            self.tell(
                task,
                &Happening::Other(Kind::Downloading, "Client is downloading artifacts".into()),
                outputs,
            );
        }
        let connected = self.connect(outputs).map_err(StartError::from);
        let begun = connected.and_then(|()| self.setting(task, &name, &inputs)).and_then(|setting| {
            let (done, writer) = std::io::pipe()?;
            let stop = Arc::new(AtomicBool::new(false));
            let flag = stop.clone();
            let way = Arc::new(Way::begins());
            let told = way.clone();
            let body = move || {
                // Closed when this returns, however it does: that is what wakes the supervisor.
                let _writer: PipeWriter = writer;
                prepare(&inputs, setting, &arrived, &flag, &told)
            };
            let thread = std::thread::Builder::new().name("inputs".into()).spawn(body)?;
            Ok(Preparing { done, way, stop, thread: Some(thread) })
        });
        Some(begun.map(|preparing| {
            if let Some(feeding) = self.feeding.get_mut(task) {
                feeding.preparing = Some(preparing);
            }
        }))
    }

    fn setting(&self, task: usize, name: &str, inputs: &Inputs) -> Result<Setting, StartError> {
        let allocation = &self.plan.allocation;
        let request = allocation.request_in(task, self.state.network.as_ref(), self.values(task))?;
        let secrets = allocation.secrets.join(name);
        let env = request.env.iter().cloned().collect();
        let mut setting = Setting::of(&allocation.directory, name, &secrets, &allocation.state_dir, env);
        if inputs.artifacts.iter().any(|artifact| artifact.chown) {
            let account = self.engine.prepare(self.operator, &request)?.account;
            setting.user = Owner { uid: account.identity.uid, gid: account.identity.gid };
        }
        Ok(setting)
    }

    /// How far the artifacts of each task are that is still to get some.
    pub(crate) fn ways(&self) -> impl Iterator<Item = &Way> {
        self.feeding.iter().filter_map(|feeding| Some(&*feeding.preparing.as_ref()?.way))
    }

    /// Nobody wants an allocation's inputs any more when it comes to its end.
    pub(super) fn stop_inputs(&mut self) {
        if self.state.machine.reason().is_some() {
            let all = self.feeding.iter().filter_map(|feeding| feeding.preparing.as_ref());
            all.for_each(|preparing| preparing.stop.store(true, Ordering::Relaxed));
        }
    }

    /// Something of a task's inputs is ready.
    pub(super) fn take_fed(&mut self, task: usize, outputs: &mut dyn Outputs) {
        let Some(feeding) = self.feeding.get_mut(task) else { return };
        if let Some(mut preparing) = feeding.preparing.take() {
            let result = preparing.thread.take().map(JoinHandle::join);
            return self.take_prepared(task, result.and_then(Result::ok), outputs);
        }
        if let Some((question, weight)) = feeding.script.take() {
            return self.take_script(task, question.take(), weight, outputs);
        }
        let consequences = feeding.rendered.as_mut().map(Rendered::changed).unwrap_or_default();
        for consequence in consequences {
            match consequence {
                Consequence::Act(change, splay) => self.plan_change(task, change, splay),
                Consequence::Failed(text) => {
                    self.tell(task, &Happening::Other(Kind::Template, text), outputs)
                }
            }
        }
    }

    fn take_prepared(
        &mut self,
        task: usize,
        result: Option<Result<Ready, InputError>>,
        outputs: &mut dyn Outputs,
    ) {
        let unforeseen = || InputError::Template("its inputs failed in a way that nobody foresaw".to_owned());
        let input = match result.unwrap_or_else(|| Err(unforeseen())) {
            Ok(ready) => {
                let planned = self.plan.allocation.tasks.get(task);
                let first = planned.into_iter().flat_map(|planned| &planned.inputs.templates);
                let first: Vec<Change> = first
                    .filter(|template| matches!(&template.change, Change::Script(script) if script.run_on_first_render))
                    .map(|template| template.change.clone())
                    .collect();
                if let Some(feeding) = self.feeding.get_mut(task) {
                    feeding.env = ready.env;
                    feeding.rendered = ready.rendered;
                    feeding.due = (!first.is_empty()).then(|| (now(), first));
                }
                self.launch(task, outputs)
            }
            Err(InputError::Stopped) => Input::NotStarted(task, Ended::NotStarted),
            Err(error) => {
                let kind = match &error {
                    InputError::Artifact(_) => Kind::FailedDownload,
                    InputError::Template(_) | InputError::Stopped => Kind::Template,
                };
                self.tell(task, &Happening::Other(kind, error.to_string()), outputs);
                self.failed_to_start(task, StartError::Inputs(error));
                Input::NotStarted(task, Ended::NotStarted)
            }
        };
        self.drive(input, outputs);
    }

    /// Each change waits a random part of its splay, so that many tasks do not restart together.
    fn plan_change(&mut self, task: usize, change: Change, splay: Duration) {
        let at = now().after(splay.mul_f64(luck().0.clamp(0.0, 1.0)));
        let Some(feeding) = self.feeding.get_mut(task).filter(|_| change != Change::Noop) else { return };
        let (due, changes) = feeding.due.get_or_insert_with(|| (at, Vec::new()));
        *due = (*due).max(at);
        if !changes.contains(&change) {
            changes.push(change);
        }
    }

    /// Does what templates want done, when its time has come.
    pub(super) fn do_changes(&mut self, outputs: &mut dyn Outputs) {
        for task in 0..self.feeding.len() {
            let Some(feeding) = self.feeding.get_mut(task) else { continue };
            if feeding.due().is_none_or(|due| due > now())
                || self.lives.get(task).is_none_or(|life| life.watch.is_none())
            {
                continue;
            }
            let changes = feeding.due.take().map(|(_, changes)| changes).unwrap_or_default();
            // A restart makes the others needless.
            if changes.contains(&Change::Restart) {
                let text = "Template with change_mode restart re-rendered".to_owned();
                self.tell(task, &Happening::Other(Kind::RestartSignaled, text), outputs);
                self.drive(Input::Restart(Some(task)), outputs);
                continue;
            }
            for change in changes {
                self.do_change(task, change, outputs);
            }
        }
    }

    fn do_change(&mut self, task: usize, change: Change, outputs: &mut dyn Outputs) {
        match change {
            Change::Restart | Change::Noop => {}
            Change::Signal(signal) => {
                let Some(signal) = Signal::from_number(signal.number) else { return };
                self.tell(task, &Happening::Signaling(format!("{signal}: Template re-rendered")), outputs);
                if let Err(error) = self.engine.signal(&self.run_id(task), signal) {
                    self.tell(task, &Happening::Other(Kind::Template, error.to_string()), outputs);
                }
            }
            Change::Script(script) => {
                let mut command = vec![script.command.clone()];
                command.extend(script.args.iter().cloned());
                let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
                let request = ExecRequest { command, streams, deadline: Some(script.timeout) };
                let weight = if script.fail_on_error { Weight::Counts } else { Weight::Ignored };
                let session = self.engine.exec(&self.run_id(task), request).ok();
                let question = session.and_then(|session| ask(Errand::Script(session), script.timeout).ok());
                match (question, self.feeding.get_mut(task)) {
                    (Some(question), Some(feeding)) => feeding.script = Some((question, weight)),
                    _ => self.take_script(task, Health::Critical, weight, outputs),
                }
            }
        }
    }

    fn take_script(&mut self, task: usize, health: Health, weight: Weight, outputs: &mut dyn Outputs) {
        let text = match health {
            Health::Passing => "Template ran a change script".to_owned(),
            Health::Warning | Health::Critical => {
                "Template's change script failed or took too long".to_owned()
            }
        };
        self.tell(task, &Happening::Other(Kind::Template, text), outputs);
        if health != Health::Passing && weight == Weight::Counts {
            self.drive(Input::Unwell(task), outputs);
        }
    }
}
