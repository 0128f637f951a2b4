//! The foreground run: supervises allocations, shows what their tasks write, passes signals on, and ends with the
//! status of the single or leading task.

use crate::allocation::{Allocation, PlanError};
use crate::console::{Colour, Prefixer};
use crate::disks;
use crate::events::Happening;
use crate::lifecycle::{Delay, Manner};
use crate::relay::{Attach, Ready, Relay, Sink, terminal_size, wait};
use crate::restart::NO_RESTARTS;
use crate::state::{Care, Face, Home, OnBoot, Plan, State, StateError, VERSION};
use crate::supervisor::{Outputs, StartError, Supervisor, Token};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, Started};
use bivouac_driver::request::{Streams, TaskStreams};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io::Write;
use std::time::{Duration, Instant};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;
/// How long output is waited for after the last task has ended: somebody else may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// How a run is shown.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// Input and output.
    pub attach: Attach,
    /// Colours of names.
    pub colour: Colour,
    /// Whether remarks of ours are written to standard error.
    pub remarks: Remarks,
}

/// Whether remarks of ours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remarks {
    /// They are.
    Written,
    /// Only errors are.
    Silent,
}

/// Whether the allocation's directory stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// It does.
    Kept,
    /// It is removed.
    Removed,
}

/// A run that failed before its tasks could tell a status.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Directories.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// State.
    #[error(transparent)]
    State(#[from] StateError),
    /// A task did not start.
    #[error("{task}: {error}")]
    Start {
        /// Which.
        task: String,
        /// Why.
        error: String,
        /// What a shell would exit with.
        exit_code: u8,
    },
    /// Waiting itself failed.
    #[error("cannot {what}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The answer.
        errno: Errno,
    },
}

impl RunError {
    /// The exit status of the command line: 126 and 127 as shells have it, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Start { exit_code, .. } => *exit_code,
            RunError::Plan(_) | RunError::State(_) | RunError::Kernel { .. } => 125,
        }
    }
}

/// Runs allocations in the foreground to their end, and removes their directories afterwards unless they are kept.
///
/// # Errors
/// [`RunError`]; nothing of the run is left then.
pub fn run(
    engine: &Engine,
    operator: &OperatorConfig,
    home: &Home,
    allocations: &[Allocation],
    show: Show,
    directory: Directory,
) -> Result<u8, RunError> {
    let result = supervise(engine, operator, home, allocations, show);
    for allocation in allocations {
        let removed = match directory {
            Directory::Removed => {
                disks::put_back(home, allocation).and_then(|()| allocation.remove_directories())
            }
            Directory::Kept => Ok(()),
        };
        let forgotten = home.keep(&allocation.id).remove().map_err(PlanError::other);
        for error in [removed, forgotten].into_iter().filter_map(Result::err) {
            remark(show.remarks, &error.to_string());
        }
    }
    result
}

fn supervise(
    engine: &Engine,
    operator: &OperatorConfig,
    home: &Home,
    allocations: &[Allocation],
    show: Show,
) -> Result<u8, RunError> {
    let kernel = |what| move |errno| RunError::Kernel { what, errno };
    bivouac_sys::signal::block_all().map_err(kernel("block signals"))?;
    let signals = bivouac_sys::signal::signalfd(&[SIGHUP, SIGINT, SIGTERM, SIGWINCH])
        .map_err(kernel("wait for signals"))?;
    let mut supervisors = Vec::new();
    for allocation in allocations {
        let keep = home.keep(&allocation.id);
        let lock = keep.make()?;
        let plan = Plan {
            version: VERSION,
            allocation: allocation.clone(),
            on_boot: OnBoot::Forget,
            face: Face::Foreground,
            config: None,
        };
        // From now on others know of it, should we be killed.
        keep.write_plan(&plan, Care::Cached)?;
        keep.write(&State::fresh(&plan), Care::Cached)?;
        allocation.make_directories()?;
        allocation.gather_secrets()?;
        disks::take(home, allocation)?;
        allocation.plant()?;
        supervisors.push(Supervisor::new(engine, operator, plan, keep, lock)?);
    }
    Foreground { console: Console::new(allocations, show), supervisors, signals, asked_to_stop: 0 }.follow()
}

/// The streams of all tasks, and remarks about them.
struct Console {
    show: Show,
    relay: Relay,
    /// Width of the longest label, when there are several tasks.
    names: Option<usize>,
    labels: Vec<String>,
}

impl Console {
    fn new(allocations: &[Allocation], show: Show) -> Console {
        let labels: Vec<String> = allocations
            .iter()
            .flat_map(|allocation| &allocation.tasks)
            .map(|task| task.label.clone())
            .collect();
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        Console { show, relay: Relay::default(), names: (labels.len() > 1).then_some(width), labels }
    }

    fn label<'a>(&self, allocation: &'a Allocation, task: usize) -> &'a str {
        allocation.tasks.get(task).map(|task| task.label.as_str()).unwrap_or_default()
    }
}

impl Outputs for Console {
    fn streams(&mut self, allocation: &Allocation, task: usize) -> std::io::Result<TaskStreams> {
        let label = self.label(allocation, task);
        let Some(width) = self.names else {
            return Ok(alone(&mut self.relay, self.show.attach)?.into());
        };
        let index = self.labels.iter().position(|other| other == label).unwrap_or(0);
        let prefixer = || Some(Prefixer::new(label, index, width, self.show.colour));
        let stdout = self.relay.output(Sink::Stdout, prefixer())?;
        let stderr = self.relay.output(Sink::Stderr, prefixer())?;
        Ok(Streams::Files { stdin: None, stdout: Some(stdout), stderr: Some(stderr) }.into())
    }

    fn started(
        &mut self,
        allocation: &Allocation,
        task: usize,
        started: &mut Started,
    ) -> std::io::Result<()> {
        for note in &started.notes {
            remark(self.show.remarks, &format!("{}: {note}", self.label(allocation, task)));
        }
        match started.terminal.take() {
            Some(master) => self.relay.take_terminal(master),
            None => Ok(()),
        }
    }

    fn told(&mut self, allocation: &Allocation, task: usize, happening: &Happening) {
        let text = match happening {
            Happening::Terminated { message, .. } if !message.is_empty() => message.clone(),
            Happening::NotRestarting(reason) if reason == NO_RESTARTS => return,
            Happening::Restarting { .. }
            | Happening::NotRestarting(_)
            | Happening::SiblingFailed(_)
            | Happening::FailedRestoring(_)
            | Happening::WaitingShutdownDelay(_)
            | Happening::Other(..) => happening.told().1,
            // What the run itself ends with, or what everybody sees.
            _ => return,
        };
        remark(self.show.remarks, &format!("{}: {text}", self.label(allocation, task)));
    }
}

/// The streams of the only thing that runs: the caller's own.
///
/// # Errors
/// No more descriptors.
pub(crate) fn alone(relay: &mut Relay, attach: Attach) -> std::io::Result<Streams> {
    if attach == Attach::Terminal {
        return Ok(Streams::Terminal(terminal_size()));
    }
    let (stdout, stderr) = (relay.output(Sink::Stdout, None)?, relay.output(Sink::Stderr, None)?);
    let stdin = if attach == Attach::Input { Some(relay.input()?) } else { None };
    Ok(Streams::Files { stdin, stdout: Some(stdout), stderr: Some(stderr) })
}

struct Foreground<'a> {
    console: Console,
    supervisors: Vec<Supervisor<'a>>,
    signals: OwnedFd,
    asked_to_stop: u32,
}

/// What one wait was about.
enum Waited {
    Signal,
    Supervisor(usize, Token),
    Stream(Ready),
}

impl Foreground<'_> {
    fn follow(mut self) -> Result<u8, RunError> {
        for supervisor in &mut self.supervisors {
            supervisor.begin(&mut self.console);
        }
        let mut over_since: Option<Instant> = None;
        loop {
            if self.supervisors.iter().all(Supervisor::is_over) {
                let since = *over_since.get_or_insert_with(Instant::now);
                if self.console.relay.is_drained() || since.elapsed() > DRAIN {
                    break;
                }
            }
            self.turn(over_since.is_some())?;
        }
        self.console.relay.finish();
        self.outcome()
    }

    fn outcome(&self) -> Result<u8, RunError> {
        for supervisor in &self.supervisors {
            if let Some((task, error)) = supervisor.failure() {
                let label = self.console.label(&supervisor.plan().allocation, *task).to_owned();
                let exit_code = StartError::exit_code(error);
                return Err(RunError::Start { task: label, error: error.to_string(), exit_code });
            }
        }
        Ok(self.supervisors.iter().map(Supervisor::exit_code).find(|code| *code != 0).unwrap_or(0))
    }

    /// One wait and what it brought.
    fn turn(&mut self, over: bool) -> Result<(), RunError> {
        let mut tokens = vec![Waited::Signal];
        let mut fds = vec![self.signals.as_fd()];
        for (index, supervisor) in self.supervisors.iter().enumerate() {
            for (token, fd) in supervisor.descriptors() {
                tokens.push(Waited::Supervisor(index, token));
                fds.push(fd);
            }
        }
        for (ready, fd) in self.console.relay.descriptors() {
            tokens.push(Waited::Stream(ready));
            fds.push(fd);
        }
        let patience = self.supervisors.iter().filter_map(Supervisor::patience).min();
        let patience = if over { Some(DRAIN / 10) } else { patience };
        let hot = wait(&fds, patience).map_err(|errno| RunError::Kernel { what: "wait for tasks", errno })?;
        drop(fds);
        let mut events: Vec<Vec<Token>> = self.supervisors.iter().map(|_| Vec::new()).collect();
        let mut streams = Vec::new();
        for (waited, _) in tokens.into_iter().zip(hot).filter(|(_, hot)| *hot) {
            match waited {
                Waited::Signal => self.take_signals(),
                Waited::Stream(ready) => streams.push(ready),
                Waited::Supervisor(index, token) => {
                    if let Some(events) = events.get_mut(index) {
                        events.push(token);
                    }
                }
            }
        }
        self.console.relay.copy(&streams);
        for (supervisor, events) in self.supervisors.iter_mut().zip(events) {
            supervisor.turn(&events, &mut self.console);
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = bivouac_sys::signal::take(self.signals.as_fd()) {
            if signal == SIGWINCH {
                self.console.relay.resize();
            } else {
                self.stop_all();
            }
        }
    }

    /// The first request stops gracefully, the second kills.
    fn stop_all(&mut self) {
        self.asked_to_stop += 1;
        let manner = if self.asked_to_stop > 1 {
            Manner { grace: Some(Duration::ZERO), delay: Delay::Skipped }
        } else {
            remark(self.console.show.remarks, "stopping; once more to kill");
            Manner::default()
        };
        for supervisor in &mut self.supervisors {
            supervisor.stop_all(manner, &mut self.console);
        }
    }
}

fn remark(remarks: Remarks, text: &str) {
    if remarks == Remarks::Written {
        let _ = writeln!(std::io::stderr(), "bivouac: {text}");
    }
}
