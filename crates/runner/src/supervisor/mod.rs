//! The supervisor of one allocation: performs what the life cycle decides, and writes down how things stand.
//!
//! A part of somebody's `poll` loop: [`Supervisor::descriptors`] and [`Supervisor::patience`] say what to wait for,
//! [`Supervisor::turn`] takes what has happened. One thread; an idle allocation costs no wake-up.

mod asked;
mod checking;
mod feeding;
mod perform;

use crate::allocation::{Allocation, PlanError};
use crate::control::{Desk, Waits};
use crate::events::{Happening, Kind};
use crate::lifecycle::{Action, Input, Manner, Outcome, Reason, Stage, Status};
use crate::network::{self, NetworkError};
use crate::restart::{Luck, Time};
use crate::secrets::Values;
use crate::state::{Care, Face, Keep, Lock, Plan, State, StateError};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, EngineError, Started};
use bivouac_driver::request::TaskStreams;
use bivouac_shim::client::{ClientError, Watch};
use bivouac_shim::process::{Moment, boot_id};
use bivouac_sys::replace::Nameless;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::VecDeque;
use std::time::Duration;

/// Why a task did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The driver's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was planned does not hold any more.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Processors for it alone.
    #[error(transparent)]
    Cores(#[from] crate::cores::CoresError),
    /// Pipes, log files and copies of descriptors.
    #[error("cannot set up its streams: {0}")]
    Streams(#[from] std::io::Error),
    /// What it needs before it starts.
    #[error(transparent)]
    Inputs(#[from] crate::inputs::InputError),
    /// As it was told, without secrets.
    #[error("{text}")]
    Told {
        /// What is said.
        text: String,
        /// What a shell would exit with.
        exit_code: u8,
    },
    /// Its shim has gone at once.
    #[error(transparent)]
    Shim(#[from] ClientError),
}

impl StartError {
    /// The exit status of the command line: 126 and 127 as shells have it, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Engine(EngineError::Launch { exit_code, .. })
            | StartError::Told { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }
}

/// Where a supervisor's tasks write to, and who is told what happens to them.
pub trait Outputs {
    /// The streams of a task that is about to start.
    ///
    /// # Errors
    /// What opening them answered.
    fn streams(&mut self, allocation: &Allocation, task: usize) -> std::io::Result<TaskStreams>;

    /// A task has started.
    ///
    /// # Errors
    /// What taking over its terminal answered.
    fn started(&mut self, allocation: &Allocation, task: usize, started: &mut Started)
    -> std::io::Result<()>;

    /// Something happened to a task.
    fn told(&mut self, allocation: &Allocation, task: usize, happening: &Happening);
}

/// What is held of a running task.
#[derive(Default)]
struct Life {
    watch: Option<Watch>,
    stop: Option<Watch>,
    /// While it is held the task's shim knows that somebody is there.
    _starter: Option<Started>,
}

/// The supervisor.
pub struct Supervisor<'a> {
    engine: &'a Engine,
    operator: &'a OperatorConfig,
    plan: Plan,
    keep: Keep,
    _lock: Lock,
    state: State,
    /// What stands on the disk: the same is not written twice.
    saved: Option<State>,
    /// What stood there before: nobody who waits for us waits for the disk.
    nameless: Nameless,
    lives: Vec<Life>,
    desk: Desk,
    failure: Option<(usize, StartError)>,
    checking: Vec<checking::Checking>,
    feeding: Vec<feeding::Feeding>,
    /// Values of secrets by task; nothing that is told or written holds one.
    values: Vec<Values>,
}

/// One of the descriptors that [`Supervisor::descriptors`] listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Somebody asks.
    Control,
    /// A task has ended.
    Ended(usize),
    /// A stop is answered.
    Stopped(usize),
    /// A check is answered.
    Checked(usize),
    /// Something of a task's inputs.
    Fed(usize),
}

impl<'a> Supervisor<'a> {
    /// Takes an allocation over: a new one, or one whose supervisor has died or whose host was restarted. `saved` is
    /// what stands on the disk. Nothing is started before the first [`Supervisor::turn`].
    ///
    /// # Errors
    /// [`StateError`].
    pub fn new(
        engine: &'a Engine,
        operator: &'a OperatorConfig,
        plan: Plan,
        keep: Keep,
        lock: Lock,
        saved: Option<State>,
    ) -> Result<Supervisor<'a>, StateError> {
        let desk = Desk::open(&keep)?;
        let mut state = saved.clone().unwrap_or_else(|| State::fresh(&plan)).supervised_here();
        if !state.is_of_this_boot() {
            state.machine.reboot();
            // The kernel has taken the namespace; leases of addresses lie on disk. What stays is a lease too many.
            if let Some(attached) = state.network.take() {
                let _ = network::tear_down(&attached, &plan.network);
            }
            let left = state.run_until.map(|until| until.saturating_sub(Moment::now().unix_nanos).max(0));
            state.machine.set_max_run(left.map(|nanos| Duration::from_nanos(nanos.unsigned_abs())));
            state.boot_id = boot_id().unwrap_or_default();
        }
        let lives = plan.allocation.tasks.iter().map(|_| Life::default()).collect();
        let checking = checking::Checking::all(&plan.allocation);
        let feeding = plan.allocation.tasks.iter().map(|_| feeding::Feeding::default()).collect();
        let mut kept = Values::kept(&plan.allocation.secrets).unwrap_or_default();
        let names = plan.allocation.tasks.iter().map(|task| &task.member.name);
        let values = names.map(|name| kept.remove(name).unwrap_or_default()).collect();
        Ok(Supervisor {
            engine,
            operator,
            plan,
            keep,
            _lock: lock,
            state,
            saved,
            nameless: Nameless::default(),
            lives,
            desk,
            failure: None,
            checking,
            feeding,
            values,
        })
    }

    /// How things stand.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it was told to do.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The first task that could not be started, and why.
    pub fn failure(&self) -> Option<&(usize, StartError)> {
        self.failure.as_ref()
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.state.machine.is_over()
    }

    /// Finds the tasks of an earlier supervisor, then does what is to be done first.
    pub fn begin(&mut self, outputs: &mut dyn Outputs) {
        // Before anything runs: should we be killed at any later moment, others know of it. Nobody was promised
        // anything yet that would have to survive the machine.
        self.save_with(Care::Cached, outputs);
        if self.plan.allocation.tasks.iter().any(|task| !task.inputs.is_empty()) {
            crate::inputs::clear(&self.plan.allocation);
        }
        let mut inputs = Vec::new();
        for task in 0..self.lives.len() {
            inputs.extend(self.find_again(task, outputs));
        }
        for input in inputs {
            self.drive(input, outputs);
        }
        self.drive(Input::Tick, outputs);
    }

    /// What to wait for.
    pub fn descriptors(&self) -> Vec<(Token, BorrowedFd<'_>)> {
        let mut all: Vec<_> = self.desk.descriptors().map(|fd| (Token::Control, fd)).collect();
        for (task, life) in self.lives.iter().enumerate() {
            all.extend(life.watch.as_ref().map(|watch| (Token::Ended(task), watch.as_fd())));
            all.extend(life.stop.as_ref().map(|watch| (Token::Stopped(task), watch.as_fd())));
        }
        all.extend(self.checking.iter().enumerate().filter_map(|(index, checking)| {
            checking.question.as_ref().map(|question| (Token::Checked(index), question.answer.as_fd()))
        }));
        let fed = self.feeding.iter().enumerate();
        all.extend(fed.filter_map(|(task, feeding)| Some((Token::Fed(task), feeding.descriptor()?))));
        all
    }

    /// How long to wait at most; no limit when only something happening can change anything.
    pub fn patience(&self) -> Option<Duration> {
        // A tick that comes early would find nothing to do.
        let checks = self.checking.iter().filter_map(|checking| checking.watcher.due);
        checks
            .chain(self.feeding.iter().filter_map(feeding::Feeding::due))
            .chain(self.state.machine.next_tick())
            .min()
            .map(|tick| tick.since(now()) + Duration::from_millis(1))
    }

    /// Takes what has happened.
    pub fn turn(&mut self, ready: &[Token], outputs: &mut dyn Outputs) {
        for token in ready {
            match token {
                Token::Control => {}
                Token::Ended(task) => self.take_end(*task, outputs),
                Token::Stopped(task) => self.take_stop(*task, outputs),
                Token::Checked(check) => self.take_check(*check, outputs),
                Token::Fed(task) => self.take_fed(*task, outputs),
            }
        }
        if ready.contains(&Token::Control) {
            for (who, request) in self.desk.take() {
                self.asked(who, request, outputs);
            }
        }
        self.ask_checks(outputs);
        self.do_changes(outputs);
        self.drive(Input::Tick, outputs);
    }

    /// Ends everything.
    pub fn stop_all(&mut self, manner: Manner, outputs: &mut dyn Outputs) {
        self.drive(Input::Stop(manner), outputs);
    }

    /// Hands an input to the life cycle and does what it says, until nothing is left to do now.
    fn drive(&mut self, input: Input, outputs: &mut dyn Outputs) {
        let quiet = input == Input::Tick;
        let mut changed = !quiet;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.state.machine.step(now(), luck(), input) {
                changed = true;
                match action {
                    Action::Start(task) => inputs.extend(self.start(task, outputs)),
                    Action::Stop(task, grace) => inputs.extend(self.stop(task, grace, outputs)),
                    Action::Tell(task, happening) => self.tell(task, &happening, outputs),
                }
            }
        }
        self.stop_inputs();
        if self.is_over() && self.state.network.is_some() {
            self.disconnect(outputs);
            changed = true;
        }
        if changed || self.state.status != self.state.machine.status() {
            self.save(outputs);
        }
        // Written down first: whoever is told that it is over reads so.
        let machine = &self.state.machine;
        self.desk.release(|waits| match waits {
            Waits::All => machine.is_over(),
            Waits::Task(task) => matches!(machine.stage(task), Stage::Dead(_)),
        });
    }

    fn save(&mut self, outputs: &mut dyn Outputs) {
        let care = match self.plan.face {
            Face::Foreground => Care::Cached,
            Face::Detached => Care::Synced,
        };
        self.save_with(care, outputs);
    }

    fn save_with(&mut self, care: Care, outputs: &mut dyn Outputs) {
        self.state.status = self.state.machine.status();
        self.state.description = self.description();
        if self.saved.as_ref() == Some(&self.state) {
            return;
        }
        match self.keep.rewrite(&self.state, care, &mut self.nameless) {
            Ok(()) => self.saved = Some(self.state.clone()),
            // The tasks go on; the next change tries again. Until then others read what is true, though a loss of power
            // may take it.
            Err(error) => {
                if care == Care::Synced {
                    let _ = self.keep.rewrite(&self.state, Care::Cached, &mut self.nameless);
                }
                outputs.told(&self.plan.allocation, 0, &Happening::Other(Kind::Driver, error.to_string()));
            }
        }
    }

    fn description(&self) -> String {
        match (self.state.status, self.state.machine.reason()) {
            (Status::Complete, Some(Reason::MaxRun)) => {
                "The allocation reached its max_run_duration and was stopped".into()
            }
            (Status::Failed, Some(Reason::Failed { task })) => {
                let name = self.plan.allocation.tasks.get(task).map(|task| task.member.name.clone());
                format!("Task {:?} failed", name.unwrap_or_default())
            }
            _ => String::new(),
        }
    }

    /// The values of a task's secrets.
    fn values(&self, task: usize) -> &Values {
        const NONE: &Values = &Values::NONE;
        self.values.get(task).unwrap_or(NONE)
    }

    fn tell(&mut self, task: usize, happening: &Happening, outputs: &mut dyn Outputs) {
        let (kind, text) = happening.told();
        let redacted = self.values(task).redact(&text);
        let happening = if redacted == text { happening } else { &Happening::Other(kind, redacted) };
        if let Some(state) = self.state.tasks.get_mut(task) {
            state.events.add(Moment::now().unix_nanos, happening);
        }
        outputs.told(&self.plan.allocation, task, happening);
    }

    fn run_id(&self, task: usize) -> String {
        self.plan.allocation.run_id(task)
    }

    /// Forgets what is known of the allocation, when it is over.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn forget(self) -> Result<(), StateError> {
        self.keep.remove()
    }

    /// The status that a foreground run ends with: of the leading or only task, else the first that is not 0;
    /// 125 for one that was lost.
    pub fn exit_code(&self) -> u8 {
        let machine = &self.state.machine;
        let code = |task: usize| -> u8 {
            let state = self.state.tasks.get(task);
            match (machine.stage(task), state.and_then(|state| state.exit_code)) {
                (Stage::Dead(Outcome::Never), _) => 0,
                (_, Some(code)) => u8::try_from(code).unwrap_or(255),
                (_, None) => 125,
            }
        };
        let leader = self.plan.allocation.tasks.iter().position(|task| task.member.leader);
        leader.map_or_else(|| (0..self.lives.len()).map(code).find(|code| *code != 0).unwrap_or(0), code)
    }
}

/// The clock of the life cycle.
fn now() -> Time {
    Time(Moment::now().boot_nanos.unsigned_abs())
}

fn luck() -> Luck {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
    Luck(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}
