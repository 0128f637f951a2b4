//! The foreground run: supervises allocations, shows what their tasks write, passes signals on, and ends with the
//! status of the single or leading task.

use crate::allocation::{Allocation, PlanError};
use crate::console::{Colour, Prefixer};
use crate::disks;
use crate::events::Happening;
use crate::lifecycle::{Delay, Manner};
use crate::logs::{self, Stream, log_directory};
use crate::machine::Machine;
use crate::planning::Payload;
use crate::progress::Line;
use crate::registry::Submission;
use crate::relay::{Attach, Ready, Relay, Sink, terminal_size, wait};
use crate::report::{Format, Level, Report};
use crate::restart::NO_RESTARTS;
use crate::schedule::Schedule;
use crate::state::{Care, Face, Home, OnBoot, Plan, State, StateError, VERSION};
use crate::supervisor::{Outputs, StartError, Supervisor, Token};
use bivouac_driver::engine::{Engine, Started};
use bivouac_driver::request::{Streams, TaskStreams};
use bivouac_shim::rotated_log::RotatedLog;
use jiff::Timestamp;
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
    /// Whether output is kept in log files, too.
    pub record: Record,
    /// Whether a line on standard error tells how far artifacts are.
    pub progress: Progress,
}

/// Whether a line tells how far artifacts are that take a second and longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is drawn over itself: standard error is a terminal.
    Drawn,
    /// There is none.
    Nothing,
}

/// Whether what tasks say is kept in their log files. A terminal's output never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It is, where their `logs` block does not forbid it.
    Kept,
    /// It is only shown.
    Nothing,
}

/// Whether remarks of ours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remarks {
    /// They are, like this.
    Written(Format),
    /// Only errors are.
    Silent,
}

/// Whether the allocation's directory stays, with what is known of the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// It does, until garbage is collected.
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
    host: Host<'_>,
    allocations: &[Allocation],
    show: Show,
    directory: Directory,
) -> Result<u8, RunError> {
    let mut made = Vec::new();
    let source = Source { source: None, directory };
    let result = supervise(host, allocations, show, source, &mut made);
    for allocation in &made {
        clean_up(host.home, allocation, show, directory);
    }
    result
}

/// Starts the runs of a periodic job when they are due, until it is told to stop; then they end, and it does.
///
/// # Errors
/// [`RunError`], when it could not begin.
pub fn run_periodic(
    host: Host<'_>,
    submission: &Submission,
    show: Show,
    directory: Directory,
) -> Result<u8, RunError> {
    let mut made = Vec::new();
    let source = Source { source: Some(Periodic::new(host, submission)?), directory };
    // What it would start: for the names, and so that what cannot be planned fails now.
    let sample = submission.allocations(host.home, host.machine, None)?;
    let labels = labels(&sample);
    let result = supervise_labelled(host, &[], labels, show, source, &mut made);
    for allocation in &made {
        clean_up(host.home, allocation, show, directory);
    }
    result
}

/// What runs things.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// What the operator says.
    pub machine: &'a Machine,
    /// The state directory.
    pub home: &'a Home,
}

/// Where further allocations come from, and what becomes of those that are over.
struct Source<'a> {
    source: Option<Periodic<'a>>,
    directory: Directory,
}

/// A periodic job in the foreground.
struct Periodic<'a> {
    host: Host<'a>,
    submission: &'a Submission,
    schedule: Schedule,
    prohibit_overlap: bool,
    until: Timestamp,
}

impl<'a> Periodic<'a> {
    fn new(host: Host<'a>, submission: &'a Submission) -> Result<Periodic<'a>, RunError> {
        let Some(periodic) = &submission.job.periodic else {
            return Err(PlanError::Other(format!("job {:?} is not periodic", submission.job.id)).into());
        };
        let schedule = Schedule::of(periodic)?;
        let prohibit_overlap = periodic.prohibit_overlap;
        Ok(Periodic { host, submission, schedule, prohibit_overlap, until: Timestamp::now() })
    }

    fn due(&self) -> Option<Timestamp> {
        let enabled = self.submission.job.periodic.as_ref().is_some_and(|periodic| periodic.enabled);
        enabled.then(|| self.schedule.next(self.until)).flatten()
    }

    fn take(&mut self, due: Timestamp) -> Result<Vec<Allocation>, PlanError> {
        self.until = Timestamp::now().max(due);
        let payload = Payload { bytes: Vec::new(), parent: self.submission.job.id.clone() };
        let job = crate::periodic::child(&self.submission.job, due);
        let submission = Submission { job, volumes: self.submission.volumes.clone() };
        submission.allocations(self.host.home, self.host.machine, Some(&payload))
    }
}

/// Removes what is left of an allocation that is over.
fn clean_up(home: &Home, allocation: &Allocation, show: Show, directory: Directory) {
    if directory == Directory::Kept {
        return;
    }
    if let Err(error) = crate::gc::forget(home, allocation) {
        remark(show.remarks, &Report::new(Level::Warning, error.to_string()));
    }
}

fn labels(allocations: &[Allocation]) -> Vec<String> {
    allocations.iter().flat_map(|allocation| &allocation.tasks).map(|task| task.label.clone()).collect()
}

fn supervise<'a>(
    host: Host<'a>,
    allocations: &[Allocation],
    show: Show,
    source: Source<'a>,
    made: &mut Vec<Allocation>,
) -> Result<u8, RunError> {
    supervise_labelled(host, allocations, labels(allocations), show, source, made)
}

/// `made` is what is left to be removed in the end.
fn supervise_labelled<'a>(
    host: Host<'a>,
    allocations: &[Allocation],
    labels: Vec<String>,
    show: Show,
    source: Source<'a>,
    made: &mut Vec<Allocation>,
) -> Result<u8, RunError> {
    let kernel = |what| move |errno| RunError::Kernel { what, errno };
    bivouac_sys::signal::block_all().map_err(kernel("block signals"))?;
    let signals = bivouac_sys::signal::signalfd(&[SIGHUP, SIGINT, SIGTERM, SIGWINCH])
        .map_err(kernel("wait for signals"))?;
    let prepared = allocations.iter().map(|allocation| {
        made.push(allocation.clone());
        prepare(host, allocation)
    });
    let supervisors = prepared.collect::<Result<Vec<_>, _>>()?;
    let console = Console::new(labels, show);
    Foreground { host, console, supervisors, signals, asked_to_stop: 0, source, made, line: Line::Absent }
        .follow()
}

/// Everything that must be there before an allocation's supervisor can begin.
fn prepare<'a>(host: Host<'a>, allocation: &Allocation) -> Result<Supervisor<'a>, RunError> {
    let keep = host.home.keep(&allocation.id);
    let lock = keep.make()?;
    let plan = Plan {
        version: VERSION,
        allocation: allocation.clone(),
        on_boot: OnBoot::Forget,
        face: Face::Foreground,
        config: None,
        submission: None,
        network: host.machine.network.clone(),
    };
    // From now on others know of it, should we be killed.
    keep.write_plan(&plan, Care::Cached)?;
    let state = State::fresh(&plan).supervised_here();
    keep.write(&state, Care::Cached)?;
    allocation.make_directories()?;
    allocation.gather_secrets()?;
    disks::take(host.home, allocation)?;
    allocation.plant()?;
    Ok(Supervisor::new(host.engine, &host.machine.operator, plan, keep, lock, Some(state))?)
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
    fn new(labels: Vec<String>, show: Show) -> Console {
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        Console { show, relay: Relay::default(), names: (labels.len() > 1).then_some(width), labels }
    }

    fn say(&self, level: Level, allocation: &Allocation, task: usize, text: &str) {
        let report = Report::new(level, text).about("task", self.label(allocation, task));
        remark(self.show.remarks, &report);
    }

    fn label<'a>(&self, allocation: &'a Allocation, task: usize) -> &'a str {
        allocation.tasks.get(task).map(|task| task.label.as_str()).unwrap_or_default()
    }
}

impl Record {
    /// Where a stream of a task is kept.
    fn log(
        self,
        allocation: &Allocation,
        task: usize,
        stream: Stream,
    ) -> std::io::Result<Option<RotatedLog>> {
        let planned = allocation.tasks.get(task).filter(|planned| !planned.logs.disabled);
        let Some(planned) = planned.filter(|_| self == Record::Kept) else { return Ok(None) };
        let directory = log_directory(&allocation.directory)?;
        RotatedLog::open(directory, logs::files(planned, stream)?).map(Some).map_err(std::io::Error::other)
    }
}

impl Outputs for Console {
    fn streams(&mut self, allocation: &Allocation, task: usize) -> std::io::Result<TaskStreams> {
        let record = self.show.record;
        let log = |stream| record.log(allocation, task, stream);
        let label = self.label(allocation, task);
        let Some(width) = self.names else {
            return Ok(alone(&mut self.relay, self.show.attach, log)?.into());
        };
        let index = self.labels.iter().position(|other| other == label).unwrap_or(0);
        let prefixer = || Some(Prefixer::new(label, index, width, self.show.colour));
        let stdout = self.relay.output(Sink::Stdout, prefixer(), log(Stream::Stdout)?)?;
        let stderr = self.relay.output(Sink::Stderr, prefixer(), log(Stream::Stderr)?)?;
        Ok(Streams::Files { stdin: None, stdout: Some(stdout), stderr: Some(stderr) }.into())
    }

    fn started(
        &mut self,
        allocation: &Allocation,
        task: usize,
        started: &mut Started,
    ) -> std::io::Result<()> {
        for note in &started.notes {
            self.say(Level::Note, allocation, task, note);
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
        self.say(Level::Note, allocation, task, &text);
    }
}

/// The streams of the only thing that runs: the caller's own.
///
/// # Errors
/// No more descriptors.
pub(crate) fn alone(
    relay: &mut Relay,
    attach: Attach,
    log: impl Fn(Stream) -> std::io::Result<Option<RotatedLog>>,
) -> std::io::Result<Streams> {
    if attach == Attach::Terminal {
        return Ok(Streams::Terminal(terminal_size()));
    }
    let stdout = relay.output(Sink::Stdout, None, log(Stream::Stdout)?)?;
    let stderr = relay.output(Sink::Stderr, None, log(Stream::Stderr)?)?;
    let stdin = if attach == Attach::Input { Some(relay.input()?) } else { None };
    Ok(Streams::Files { stdin, stdout: Some(stdout), stderr: Some(stderr) })
}

struct Foreground<'a, 'm> {
    host: Host<'a>,
    source: Source<'a>,
    made: &'m mut Vec<Allocation>,
    console: Console,
    supervisors: Vec<Supervisor<'a>>,
    signals: OwnedFd,
    asked_to_stop: u32,
    line: Line,
}

/// What one wait was about.
enum Waited {
    Signal,
    Supervisor(usize, Token),
    Stream(Ready),
}

impl Foreground<'_, '_> {
    fn follow(mut self) -> Result<u8, RunError> {
        for supervisor in &mut self.supervisors {
            supervisor.begin(&mut self.console);
        }
        let mut over_since: Option<Instant> = None;
        loop {
            self.take_due();
            let waits = self.source.source.is_some() && self.asked_to_stop == 0;
            if !waits && self.supervisors.iter().all(Supervisor::is_over) {
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

    /// Starts what is due of a periodic job, and lets go of what is over.
    fn take_due(&mut self) {
        let Some(source) = &mut self.source.source else { return };
        let over = self.supervisors.extract_if(.., |supervisor| supervisor.is_over());
        for supervisor in over.collect::<Vec<_>>() {
            let id = supervisor.plan().allocation.id.clone();
            if let Some((task, error)) = supervisor.failure() {
                let allocation = &supervisor.plan().allocation;
                self.console.say(Level::Warning, allocation, *task, &error.to_string());
            }
            drop(supervisor);
            for allocation in self.made.extract_if(.., |allocation| allocation.id == id) {
                clean_up(self.host.home, &allocation, self.console.show, self.source.directory);
            }
        }
        let due = source.due().filter(|due| *due <= Timestamp::now());
        let Some(due) = due.filter(|_| self.asked_to_stop == 0) else { return };
        let remarks = self.console.show.remarks;
        if source.prohibit_overlap && !self.supervisors.is_empty() {
            source.until = Timestamp::now().max(due);
            let text = format!("left out {due}: the run before it is not over");
            return remark(remarks, &Report::new(Level::Warning, text));
        }
        match source.take(due) {
            Ok(allocations) => {
                for allocation in allocations {
                    self.made.push(allocation.clone());
                    match prepare(self.host, &allocation) {
                        Ok(mut supervisor) => {
                            supervisor.begin(&mut self.console);
                            self.supervisors.push(supervisor);
                        }
                        Err(error) => remark(remarks, &Report::new(Level::Warning, error.to_string())),
                    }
                }
            }
            Err(error) => {
                let text = format!("cannot start what is due at {due}: {error}");
                remark(remarks, &Report::new(Level::Warning, text));
            }
        }
    }

    /// How long to wait for what is due next: less than it takes, since the clock may be set meanwhile.
    fn until_due(&self) -> Option<Duration> {
        const OFTEN_ENOUGH: Duration = Duration::from_secs(60);
        let due = self.source.source.as_ref()?.due()?;
        let left = due.duration_since(Timestamp::now());
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO).min(OFTEN_ENOUGH) + Duration::from_millis(1))
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
        let patience = self.supervisors.iter().filter_map(Supervisor::patience).chain(self.until_due()).min();
        let patience = if over { Some(DRAIN / 10) } else { patience };
        let drawn = match self.console.show.progress {
            Progress::Drawn => self.line.draw(self.supervisors.iter().flat_map(Supervisor::ways)),
            Progress::Nothing => None,
        };
        let patience = patience.into_iter().chain(drawn).min();
        let hot = wait(&fds, patience).map_err(|errno| RunError::Kernel { what: "wait for tasks", errno })?;
        drop(fds);
        self.line.clear();
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
            remark(self.console.show.remarks, &Report::new(Level::Note, "stopping; once more to kill"));
            Manner::default()
        };
        for supervisor in &mut self.supervisors {
            supervisor.stop_all(manner, &mut self.console);
        }
    }
}

fn remark(remarks: Remarks, report: &Report) {
    let mut stderr = std::io::stderr();
    let _ = match remarks {
        Remarks::Silent => Ok(()),
        Remarks::Written(Format::Text) => writeln!(stderr, "bivouac: {}", report.text()),
        Remarks::Written(format) => writeln!(stderr, "{}", report.line(format)),
    };
}
