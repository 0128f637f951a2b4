//! The foreground run: starts the tasks of allocations, shows what they write, passes signals on, and ends with
//! the status of the single or leading task.
//!
//! One thread waits in `poll` for signals, output and ends. Only a stop, which may take a task's whole grace
//! period, has a thread of its own.

use crate::allocation::{Allocation, PlanError, PlannedTask};
use crate::console::{Colour, Prefixer};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, EngineError, Started};
use bivouac_driver::request::{StarterGone, Streams};
use bivouac_driver::signals::Signal;
use bivouac_shim::client::{Happened, Watch};
use bivouac_shim::status::{Cause, Ending, Exit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;
/// How long output is waited for after the last task has ended: somebody else may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// How tasks meet the person who runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Output is shown.
    Output,
    /// Output is shown, and standard input goes to the task.
    Input,
    /// The task has a terminal; input and output go through it.
    Terminal,
}

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

/// A run that failed before its tasks could tell a status.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Directories.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A task did not start.
    #[error("{task}: {error}")]
    Start {
        /// Which.
        task: String,
        /// Why.
        error: StartError,
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

/// Why a task did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The driver's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its kill signal.
    #[error(transparent)]
    Signal(#[from] bivouac_driver::signals::UnknownSignal),
    /// Pipes and copies of descriptors.
    #[error("cannot set up its streams: {0}")]
    Streams(#[from] std::io::Error),
    /// Its shim has gone at once.
    #[error(transparent)]
    Shim(#[from] bivouac_shim::client::ClientError),
}

impl RunError {
    /// The exit status of the command line: 126 and 127 as shells have it, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Start { error: StartError::Engine(EngineError::Launch { exit_code, .. }), .. } => {
                *exit_code
            }
            RunError::Start { .. } => 125,
            RunError::Plan(_) | RunError::Kernel { .. } => 125,
        }
    }
}

/// One running task.
struct Member {
    label: String,
    id: String,
    leader: bool,
    signal: Signal,
    grace: Duration,
    watch: Watch,
    exit: Option<Ended>,
    /// While it is held the task's shim knows that somebody is there.
    _starter: Started,
}

enum Ended {
    Told(Exit),
    Lost,
}

/// One stream of output.
struct Source {
    fd: OwnedFd,
    prefixer: Option<Prefixer>,
    to: Sink,
}

#[derive(Clone, Copy)]
enum Sink {
    Stdout,
    Stderr,
}

/// Runs allocations in the foreground to their end, and removes their directories afterwards unless `keep`.
///
/// # Errors
/// [`RunError`]; nothing of the run is left then.
pub fn run(
    engine: &Arc<Engine>,
    operator: &OperatorConfig,
    allocations: &[Allocation],
    show: Show,
    keep: Keep,
) -> Result<u8, RunError> {
    let mut all_made = Ok(());
    for allocation in allocations {
        all_made = all_made.and_then(|()| allocation.make_directories());
    }
    let result = all_made
        .map_err(RunError::from)
        .and_then(|()| Foreground::begin(engine, operator, allocations, show)?.follow());
    if keep == Keep::No {
        for allocation in allocations {
            if let Err(error) = allocation.remove_directories() {
                remark(show, &error.to_string());
            }
        }
    }
    result
}

/// Whether the allocation's directory stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It does.
    Yes,
    /// It is removed.
    No,
}

struct Foreground<'a> {
    engine: &'a Arc<Engine>,
    show: Show,
    signals: OwnedFd,
    members: Vec<Member>,
    sources: Vec<Source>,
    stdin: Option<OwnedFd>,
    terminal: Option<Terminal>,
    asked_to_stop: u32,
}

/// The caller's terminal in raw mode; as it was when this is dropped.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) before: Option<rustix::termios::Termios>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(
                rustix::stdio::stdin(),
                rustix::termios::OptionalActions::Now,
                before,
            );
        }
    }
}

impl<'a> Foreground<'a> {
    fn begin(
        engine: &'a Arc<Engine>,
        operator: &OperatorConfig,
        allocations: &[Allocation],
        show: Show,
    ) -> Result<Foreground<'a>, RunError> {
        let kernel = |what| move |errno| RunError::Kernel { what, errno };
        bivouac_sys::signal::block_all().map_err(kernel("block signals"))?;
        let signals = bivouac_sys::signal::signalfd(&[SIGHUP, SIGINT, SIGTERM, SIGWINCH])
            .map_err(kernel("wait for signals"))?;
        let mut foreground = Foreground {
            engine,
            show,
            signals,
            members: Vec::new(),
            sources: Vec::new(),
            stdin: None,
            terminal: None,
            asked_to_stop: 0,
        };
        let tasks: Vec<&PlannedTask> = allocations.iter().flat_map(|allocation| &allocation.tasks).collect();
        let width = tasks.iter().map(|task| task.label.len()).max().unwrap_or(0);
        for (index, task) in tasks.iter().enumerate() {
            let names = (tasks.len() > 1).then_some((index, width));
            if let Err(error) = foreground.start(operator, task, names) {
                foreground.abandon();
                return Err(RunError::Start { task: task.label.clone(), error });
            }
        }
        Ok(foreground)
    }

    fn start(
        &mut self,
        operator: &OperatorConfig,
        planned: &PlannedTask,
        names: Option<(usize, usize)>,
    ) -> Result<(), StartError> {
        let task = self.engine.prepare(operator, &planned.request)?;
        let (streams, outputs, input) = self.streams(names.is_some())?;
        let mut started = self.engine.start(&planned.request, &task, streams.into(), StarterGone::Stop)?;
        for note in &started.notes {
            remark(self.show, &format!("{}: {note}", planned.label));
        }
        let prefixer =
            || names.map(|(index, width)| Prefixer::new(&planned.label, index, width, self.show.colour));
        let new: Vec<Source> =
            outputs.into_iter().map(|(fd, to)| Source { fd, prefixer: prefixer(), to }).collect();
        self.sources.extend(new);
        self.stdin = input;
        if let Some(master) = started.terminal.take() {
            let copy = master.try_clone()?;
            self.sources.push(Source { fd: copy, prefixer: None, to: Sink::Stdout });
            self.terminal = Some(Terminal { before: raw_mode(), master });
        }
        let watch = self.engine.client(&planned.request.id)?.watch_end()?;
        self.members.push(Member {
            label: planned.label.clone(),
            id: planned.request.id.clone(),
            leader: planned.leader,
            signal: planned.request.stop.signal,
            grace: planned.request.stop.grace,
            watch,
            exit: None,
            _starter: started,
        });
        Ok(())
    }

    fn streams(&self, several: bool) -> std::io::Result<Plumbing> {
        if self.show.attach == Attach::Terminal && !several {
            return Ok((Streams::Terminal(terminal_size()), Vec::new(), None));
        }
        let mut outputs = Vec::new();
        let mut output = |ours: BorrowedFd<'_>, to: Sink| -> std::io::Result<OwnedFd> {
            // A pipe of the caller's is handed in as it is: nobody copies bytes in between.
            if !several && is_pipe(ours) {
                return ours.try_clone_to_owned();
            }
            let (reader, writer) = std::io::pipe()?;
            outputs.push((reader.into(), to));
            Ok(writer.into())
        };
        let stdout = output(rustix::stdio::stdout(), Sink::Stdout)?;
        let stderr = output(rustix::stdio::stderr(), Sink::Stderr)?;
        let (stdin, input) = if self.show.attach == Attach::Input && !several {
            let (reader, writer) = std::io::pipe()?;
            (Some(reader.into()), Some(writer.into()))
        } else {
            (None, None)
        };
        Ok((Streams::Files { stdin, stdout: Some(stdout), stderr: Some(stderr) }, outputs, input))
    }

    /// Ends what was started before a later task failed to start.
    fn abandon(&mut self) {
        for member in self.members.drain(..) {
            let _ = self.engine.destroy(&member.id, true);
        }
    }

    fn follow(mut self) -> Result<u8, RunError> {
        let mut quiet_since: Option<Instant> = None;
        loop {
            let done = self.members.iter().all(|member| member.exit.is_some());
            if done {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if self.sources.is_empty() || since.elapsed() > DRAIN {
                    break;
                }
            }
            self.turn(done)?;
        }
        self.terminal = None;
        let status = self.status();
        for member in &self.members {
            self.explain(member);
            if let Err(error) = self.engine.destroy(&member.id, true) {
                remark(self.show, &format!("{}: {error}", member.label));
            }
        }
        Ok(status)
    }

    /// One wait and what it brought.
    fn turn(&mut self, done: bool) -> Result<(), RunError> {
        let ready = self.wait(done)?;
        if ready.signal {
            self.take_signals();
        }
        for index in ready.ended {
            self.take_end(index);
        }
        for index in ready.readable.into_iter().rev() {
            self.copy_output(index);
        }
        if ready.input {
            self.copy_input();
        }
        Ok(())
    }

    fn wait(&self, done: bool) -> Result<Ready, RunError> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let alive: Vec<usize> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.exit.is_none())
            .map(|(index, _)| index)
            .collect();
        for index in &alive {
            if let Some(member) = self.members.get(*index) {
                fds.push(PollFd::from_borrowed_fd(member.watch.as_fd(), PollFlags::IN));
            }
        }
        let first_source = fds.len();
        fds.extend(self.sources.iter().map(|source| PollFd::new(&source.fd, PollFlags::IN)));
        let wants_input = self.stdin.is_some() || self.terminal.is_some();
        let input = rustix::stdio::stdin();
        if wants_input {
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut fds, done.then_some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RunError::Kernel { what: "wait for tasks", errno }),
        }
        let hot = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signal: hot(0),
            ended: alive.iter().enumerate().filter(|(at, _)| hot(at + 1)).map(|(_, index)| *index).collect(),
            readable: (0..self.sources.len()).filter(|index| hot(first_source + index)).collect(),
            input: wants_input && hot(fds.len() - 1),
        })
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = bivouac_sys::signal::take(self.signals.as_fd()) {
            match (signal, &self.terminal) {
                (SIGWINCH, Some(terminal)) => {
                    let size = terminal_size();
                    let size = rustix::termios::Winsize {
                        ws_row: size.rows,
                        ws_col: size.columns,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = rustix::termios::tcsetwinsize(&terminal.master, size);
                }
                (SIGWINCH, None) => {}
                _ => self.stop_all(),
            }
        }
    }

    /// The first request stops gracefully, the second kills.
    fn stop_all(&mut self) {
        self.asked_to_stop += 1;
        let kill = self.asked_to_stop > 1;
        for member in self.members.iter().filter(|member| member.exit.is_none()) {
            let (signal, grace) =
                if kill { (Signal::KILL, Duration::ZERO) } else { (member.signal, member.grace) };
            self.stop(member, signal, grace);
        }
        if !kill {
            remark(self.show, "stopping; once more to kill");
        }
    }

    fn stop(&self, member: &Member, signal: Signal, grace: Duration) {
        let (engine, id) = (Arc::clone(self.engine), member.id.clone());
        // Its answer is the end of the task, which the watch tells as well.
        std::thread::spawn(move || drop(engine.stop(&id, signal, grace)));
    }

    fn take_end(&mut self, index: usize) {
        let Some(member) = self.members.get_mut(index) else { return };
        let ended = match member.watch.take() {
            Ok(Some(Happened::Ended(exit))) => Ended::Told(exit),
            Ok(_) => return,
            Err(_) => Ended::Lost,
        };
        let failed = !matches!(&ended, Ended::Told(exit) if exit.ending.code() == 0);
        member.exit = Some(ended);
        let ends_others = member.leader || failed;
        if ends_others {
            for other in self.members.iter().filter(|other| other.exit.is_none()) {
                self.stop(other, other.signal, other.grace);
            }
        }
    }

    fn copy_output(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index) else { return };
        let mut buffer = vec![0u8; 64 * 1024];
        let (mut out, over) = match rustix::io::read(&source.fd, &mut buffer) {
            Ok(0) => (Vec::new(), true),
            Ok(length) => {
                buffer.truncate(length);
                (buffer, false)
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            // A terminal whose last user is gone.
            Err(_) => (Vec::new(), true),
        };
        if let Some(prefixer) = &mut source.prefixer {
            let mut lines = Vec::with_capacity(out.len() + 64);
            prefixer.feed(&out, &mut lines);
            if over {
                prefixer.finish(&mut lines);
            }
            out = lines;
        }
        let to = source.to;
        if over {
            self.sources.remove(index);
        }
        write(to, &out);
    }

    fn copy_input(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        let length = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
        let bytes = buffer.get(..length).unwrap_or_default();
        let failed = match (&self.terminal, &self.stdin) {
            (Some(terminal), _) => write_all(terminal.master.as_fd(), bytes).is_err(),
            (None, Some(stdin)) => write_all(stdin.as_fd(), bytes).is_err(),
            (None, None) => false,
        };
        if length == 0 || failed {
            // End of input: the task sees it on its pipe. A terminal is told by its own character.
            self.stdin = None;
            if let Some(terminal) = &self.terminal
                && length == 0
            {
                let _ = write_all(terminal.master.as_fd(), &[4]);
            }
        }
    }

    /// The single or leading task's status; else the first that is not 0.
    fn status(&self) -> u8 {
        let code = |member: &Member| match &member.exit {
            Some(Ended::Told(exit)) => u8::try_from(exit.ending.code()).unwrap_or(255),
            Some(Ended::Lost) | None => 125,
        };
        match self.members.iter().find(|member| member.leader) {
            Some(leader) => code(leader),
            None => self.members.iter().map(code).find(|code| *code != 0).unwrap_or(0),
        }
    }

    fn explain(&self, member: &Member) {
        match &member.exit {
            Some(Ended::Lost) => {
                remark(self.show, &format!("{}: its shim was killed, and the task with it", member.label))
            }
            Some(Ended::Told(exit)) => {
                for text in explain(exit) {
                    remark(self.show, &format!("{}: {text}", member.label));
                }
            }
            None => {}
        }
    }
}

/// What the task gets, what we read of it, and where its input comes from.
type Plumbing = (Streams, Vec<(OwnedFd, Sink)>, Option<OwnedFd>);

struct Ready {
    signal: bool,
    ended: Vec<usize>,
    readable: Vec<usize>,
    input: bool,
}

/// What a person should know about an end that was not of the task's own making.
pub fn explain(exit: &Exit) -> Vec<String> {
    let mut texts = Vec::new();
    if exit.oom_kills > 0 {
        texts.push(format!(
            "the kernel killed {} of its processes because its memory limit was reached; raise `memory`",
            exit.oom_kills
        ));
    }
    if let Cause::Killed { signal, ignored: true } = exit.cause {
        texts.push(format!(
            "it was killed: as process 1 it ignores signal {signal}, for which it has no handler; `init = true` puts a reaper in front that passes it on"
        ));
    }
    if let Ending::Signaled { signal, .. } = exit.ending
        && exit.cause == Cause::Own
        && exit.oom_kills == 0
    {
        texts.push(format!("ended by signal {signal}"));
    }
    texts
}

pub(crate) fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

/// The size of the caller's terminal; 24 x 80 where there is none.
pub fn terminal_size() -> bivouac_sandbox::model::TerminalSize {
    let (rows, columns) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
        .map_or((24, 80), |size| (size.ws_row, size.ws_col));
    bivouac_sandbox::model::TerminalSize { rows, columns }
}

/// Puts the caller's terminal into raw mode and answers how it was.
pub(crate) fn raw_mode() -> Option<rustix::termios::Termios> {
    let stdin = rustix::stdio::stdin();
    let before = rustix::termios::tcgetattr(stdin).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(stdin, rustix::termios::OptionalActions::Now, &raw).ok()?;
    Some(before)
}

fn write(to: Sink, bytes: &[u8]) {
    // A reader that has gone is no reason to end the task.
    let _ = match to {
        Sink::Stdout => std::io::stdout().lock().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Sink::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn remark(show: Show, text: &str) {
    if show.remarks == Remarks::Written {
        let _ = writeln!(std::io::stderr(), "bivouac: {text}");
    }
}
