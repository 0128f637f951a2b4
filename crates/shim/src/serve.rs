//! The shim's loop: waits for what happens, asks the state machine, does what it says.
//!
//! One thread, one `poll` without a time-out unless something was promised for a certain time. Everything that can
//! happen is a descriptor: the first process and every exec session (pidfds), clients (sockets), signals to the
//! shim, memory running out, output to be written to log files. An idle shim is never woken.

mod clients;
mod collect;
mod fifo;
mod perform;

use crate::engine::Engine;
use crate::exec_session::Sessions;
use crate::machine::{Event, Policy, Question, State, step};
use crate::process::{Moment, ProcessId, boot_id};
use crate::protocol::frame::{LIMIT, VERSION};
use crate::protocol::wire::Wire;
use crate::protocol::{Launch, Refusal, Request};
use crate::status::{Cause, Ending, Exit, Phase, Status, StatusError, Usage};
use bivouac_sandbox::EmptyMounts;
use bivouac_sandbox::model::Init;
use bivouac_sandbox::path::HostPath;
use bivouac_sys::clone::Child;
use bivouac_sys::replace::Nameless;
use bivouac_sys::{Errno, signal, wait};
use clients::{Clients, Message};
use collect::Collectors;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) use clients::{Id, address, not_understood};
pub(crate) use perform::{resize, streams};

pub use clients::SOCKET;

/// Requests of one client that are taken before others have their turn.
const TURN: usize = 16;
/// The first wait for a killed process to be counted.
const OOM_PATIENCE: Duration = Duration::from_millis(2);
/// Longer grace periods are this long.
const LONGEST_GRACE: Duration = Duration::from_secs(366 * 24 * 3600);
/// How often a process is looked at that is dead, and that the task keeps from us by tracing it.
const HELD_LOOK: Duration = Duration::from_millis(200);
/// How long answers may take to leave before the shim does.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the starter sent: the order, and the descriptors that came with it.
#[derive(Debug)]
pub struct Order {
    /// The order.
    pub launch: Launch,
    /// Where the launch starts from.
    pub empty: EmptyMounts,
    /// Streams of the task.
    pub streams: Vec<OwnedFd>,
}

/// Who asks now, and what came with it.
struct Ask {
    client: Id,
    request: Request,
    descriptors: Vec<OwnedFd>,
}

/// A shim with its order.
pub struct Server<E> {
    engine: E,
    policy: Policy,
    state: State,
    status: Status,
    order: Option<Order>,
    run_dir: OwnedFd,
    run_dir_path: HostPath,
    /// What we replaced and removed: nobody who waits for an end waits for the disk.
    nameless: Nameless,
    signals: OwnedFd,
    clients: Clients,
    starter: Id,
    /// None before it runs and after it was reaped, when nothing may be asked of its number any more.
    first: Option<Child>,
    /// What stands for the command as the first process.
    init: Init,
    terminal: Option<OwnedFd>,
    /// Read ends of the task's named pipes.
    readers: Vec<OwnedFd>,
    collectors: Collectors,
    sessions: Sessions,
    sweepers: Vec<Child>,
    /// Processes that are dead and cannot be reaped yet, and when to look again.
    held: (Vec<Source>, Option<Instant>),
    timer: Option<Instant>,
    /// When to count killed processes once more, and how long to go on with that.
    oom_again: Option<(Instant, Duration)>,
    /// The signal that a stop began with, and whether the first process could not feel it.
    asked_in_vain: Option<(i32, bool)>,
    /// What came of the last signal.
    outcome: Result<(), Refusal>,
    /// Why the status file is behind, if it is.
    unwritten: Option<StatusError>,
    pending: VecDeque<Event>,
    leaving: bool,
}

/// What a shim has in its run directory.
pub struct Desk {
    run_dir: OwnedFd,
    listener: OwnedFd,
    status: Status,
}

impl Desk {
    /// Opens the run directory and the socket in it.
    ///
    /// # Errors
    /// [`Refusal::Failed`] naming the run directory.
    pub fn open(launch: &Launch) -> Result<Desk, Refusal> {
        let failed =
            |what: String, error: &dyn std::fmt::Display| Refusal::Failed { what, answer: error.to_string() };
        let path = &launch.run_dir;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let run_dir = openat(CWD, path.as_path(), flags, Mode::empty())
            .map_err(|errno| failed(format!("open the run directory {path}"), &errno))?;
        let found = rustix::fs::fstat(&run_dir)
            .map_err(|errno| failed(format!("look at the run directory {path}"), &errno))?;
        if found.st_uid != 0 || found.st_mode & 0o077 != 0 {
            let answer = "it must be root's with mode 0700; it holds the task's control socket";
            return Err(failed(format!("use the run directory {path}"), &answer));
        }
        let listener = clients::listen(run_dir.as_fd())
            .map_err(|errno| failed(format!("listen at {path}/{SOCKET}"), &errno))?;
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let shim =
            ProcessId::of(own).map_err(|error| failed("find out who this process is".into(), &error))?;
        let boot_id = boot_id().map_err(|error| failed("find out which boot this is".into(), &error))?;
        let status = Status {
            protocol: VERSION,
            task: launch.task.clone(),
            boot_id,
            shim,
            cgroup: launch.cgroup.clone(),
            pid_namespace: launch.sandbox.namespaces.pid,
            phase: Phase::Starting,
            first: None,
            command: None,
            started: None,
            oom_kills: 0,
            exit: None,
            failure: None,
        };
        Ok(Desk { run_dir, listener, status })
    }
}

/// What woke the shim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    First,
    Signals,
    Oom,
    Listener,
    Client(Id),
    Session(i32),
    Arrival(u64),
    Sweeper,
    Output(usize),
}

impl<E: Engine> Server<E> {
    /// A shim that has everything and has done nothing yet. `signals`: a signalfd of what tells the shim to end.
    pub fn new(engine: E, starter: Wire, signals: OwnedFd, desk: Desk, order: Order) -> Server<E> {
        let Desk { run_dir, listener, status } = desk;
        let policy = Policy {
            on_starter_gone: order.launch.on_starter_gone,
            kill_mode: order.launch.kill_mode,
            pid_namespace: order.launch.sandbox.namespaces.pid,
        };
        let run_dir_path = order.launch.run_dir.clone();
        let init = order.launch.sandbox.process.init;
        let (clients, starter) = Clients::new(listener, starter);
        Server {
            engine,
            policy,
            state: State::Starting,
            status,
            order: Some(order),
            run_dir,
            run_dir_path,
            nameless: Nameless::default(),
            signals,
            clients,
            starter,
            first: None,
            init,
            terminal: None,
            readers: Vec::new(),
            collectors: Collectors::default(),
            sessions: Sessions::default(),
            sweepers: Vec::new(),
            held: (Vec::new(), None),
            timer: None,
            oom_again: None,
            asked_in_vain: None,
            outcome: Ok(()),
            unwritten: None,
            pending: VecDeque::new(),
            leaving: false,
        }
    }

    /// Launches the task and serves until everything is collected.
    ///
    /// # Errors
    /// What poll(2) answers when it cannot go on.
    pub fn run(mut self) -> Result<(), Errno> {
        self.event(Event::Asked(Question::Launch), None);
        loop {
            // Before every wait: whoever an answer has not found (the starter, of its launch) wakes nobody.
            self.bury();
            if self.leaving {
                break;
            }
            self.let_go();
            for (source, flags) in self.wait()? {
                self.handle(source, flags);
                if self.leaving {
                    break;
                }
            }
            self.timers();
        }
        self.farewell();
        Ok(())
    }

    /// Closes what lost its name, where nobody waits for what we do next: a file system with such a file open could not
    /// be made read-only.
    fn let_go(&mut self) {
        if self.state == State::Running {
            self.nameless = Nameless::default();
        }
    }

    /// Everything that can wake the shim. Endings stand first, so that what is asked in the same moment is answered
    /// with them known.
    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let readable = PollFlags::IN;
        let mut all = Vec::new();
        if let Some(first) = &self.first {
            all.push((Source::First, first.pidfd.as_fd(), readable));
        }
        all.extend(self.sessions.pidfds().map(|(pid, pidfd)| (Source::Session(pid), pidfd, readable)));
        all.extend(self.sessions.arriving().map(|(number, fd)| (Source::Arrival(number), fd, readable)));
        if let Some(oom) = self.engine.oom_watch().filter(|_| self.first.is_some()) {
            all.push((Source::Oom, oom, readable));
        }
        all.push((Source::Signals, self.signals.as_fd(), readable));
        all.extend(self.sweepers.iter().map(|sweeper| (Source::Sweeper, sweeper.pidfd.as_fd(), readable)));
        all.extend(self.collectors.polled().map(|(index, fd)| (Source::Output(index), fd, readable)));
        all.extend(self.clients.polled().map(|(id, fd, flags)| (Source::Client(id), fd, flags)));
        all.extend(self.clients.listener().map(|listener| (Source::Listener, listener, readable)));
        all.retain(|(source, ..)| !self.held.0.contains(source));
        all
    }

    /// Waits until something happens.
    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, Errno> {
        let sources = self.sources();
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = self.next_deadline().map(until);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let ready = sources.iter().zip(&fds).map(|((source, ..), fd)| (*source, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let again = self.oom_again.map(|(when, _)| when);
        [self.timer, again, self.sessions.next_deadline(), self.clients.rests_until(), self.held.1]
            .into_iter()
            .flatten()
            .min()
    }

    fn timers(&mut self) {
        let now = Instant::now();
        self.clients.wake(now);
        if self.held.1.is_some_and(|look| look <= now) {
            self.held = (Vec::new(), None);
        }
        for (client, response) in self.sessions.enforce_deadlines(now, &mut self.engine) {
            self.clients.answer(client, &response, Vec::new());
        }
        if let Some((_, wait)) = self.oom_again.take_if(|(when, _)| *when <= now) {
            self.look_for_oom(wait);
        }
        if self.timer.is_some_and(|timer| timer <= now) {
            self.timer = None;
            self.event(Event::Timer, None);
        }
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::First => {
                self.first_ended();
                self.let_rest(source);
            }
            Source::Session(pid) => {
                self.session_ended(pid);
                self.let_rest(source);
            }
            Source::Arrival(number) => {
                self.arrival(number);
                self.let_rest(source);
            }
            Source::Oom => self.look_for_oom(OOM_PATIENCE),
            Source::Signals => {
                while let Ok(Some(_)) = signal::take(self.signals.as_fd()) {
                    self.event(Event::ToldToEnd, None);
                }
            }
            Source::Sweeper => {
                self.sweepers.retain(|sweeper| matches!(wait::try_reap(sweeper.pidfd.as_fd()), Ok(None)));
            }
            Source::Output(index) => self.collectors.collect(index),
            Source::Listener => self.clients.accept(),
            Source::Client(id) => self.serve_client(id, flags),
        }
    }

    /// Whoever traces a process is told of its end first, and it is ours to reap only when that one lets go of it. Until
    /// then its descriptor is readable, and nothing comes of it: without a rest the loop would go in a circle.
    fn let_rest(&mut self, source: Source) {
        let sources = self.sources();
        let Some((_, fd, flags)) = sources.into_iter().find(|(other, ..)| *other == source) else { return };
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        if poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
            self.held.0.push(source);
            self.held.1.get_or_insert_with(|| Instant::now() + HELD_LOOK);
        }
    }

    /// Feeds the machine, and does what it says. `ask` is who asks, if somebody does.
    fn event(&mut self, event: Event, mut ask: Option<Ask>) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            let (next, actions) = step(self.policy, self.state, event);
            self.state = next;
            for action in actions {
                self.perform(action, &mut ask);
            }
        }
    }

    fn first_ended(&mut self) {
        let Some(first) = &self.first else { return };
        let signal = if self.init == Init::Reaper { crate::init::word_of(first.pid) } else { None };
        let reaped = match wait::try_reap(first.pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(reaped)) => Some(reaped),
            // Reaped by somebody else: cannot be, and must not make the shim spin.
            Err(_) => None,
        };
        self.first = None;
        self.turn_away();
        let usage = Usage {
            user_micros: reaped.map_or(0, |reaped| reaped.user_micros),
            system_micros: reaped.map_or(0, |reaped| reaped.system_micros),
            max_rss_kib: reaped.map_or(0, |reaped| reaped.max_rss_kib),
        };
        let finished = Moment::now();
        self.status.exit = Some(Exit {
            ending: reaped.map_or(Ending::Exited { code: 1 }, |reaped| reaped.ending.into()).behind(signal),
            cause: self.cause(),
            oom_kills: self.status.oom_kills,
            usage,
            started: self.status.started.unwrap_or(finished),
            finished,
        });
        self.event(Event::Ended, None);
    }

    fn cause(&self) -> Cause {
        use crate::machine::Stage;
        match (self.state, self.asked_in_vain) {
            (State::Stopping(Stage::Grace { .. }, _), _) => Cause::Stopped,
            (State::Stopping(Stage::Killed | Stage::Stuck, _), Some((signal, ignored))) => {
                Cause::Killed { signal, ignored }
            }
            (State::Stopping(Stage::Killed | Stage::Stuck, _), None) => Cause::KilledAtOnce,
            (State::Starting | State::Running | State::Exited(_) | State::Collected, _) => Cause::Own,
        }
    }

    /// Version 1 wakes when memory has run out and counts when somebody was killed for it, a moment later. So a wake
    /// that finds nothing new is followed by a few looks, ever rarer.
    fn look_for_oom(&mut self, wait: Duration) {
        let known = self.status.oom_kills;
        self.event(Event::OomWoke, None);
        let again = self.status.oom_kills == known && wait <= OOM_PATIENCE * 64;
        self.oom_again = again.then(|| (Instant::now() + wait, wait * 2));
    }

    /// Somebody who enters has come further.
    fn arrival(&mut self, number: u64) {
        let first = self.first.as_ref().map(|first| first.pid);
        match self.sessions.arrive(number, first) {
            None => {}
            Some((client, Ok((started, terminal)))) => {
                let response = crate::protocol::Response::Started(started);
                self.clients.answer(client, &response, terminal.into_iter().collect());
            }
            Some((client, Err(refusal))) => self.clients.refuse(client, refusal),
        }
        self.bury();
    }

    /// Nobody enters what ends.
    fn turn_away(&mut self) {
        for client in self.sessions.turn_away() {
            self.clients.refuse(client, Refusal::NotRunning);
        }
    }

    fn session_ended(&mut self, pid: i32) {
        if let Some((client, end)) = self.sessions.reap(pid) {
            self.clients.answer(client, &crate::protocol::Response::Ended(end), Vec::new());
        }
        self.bury();
    }

    fn serve_client(&mut self, id: Id, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.clients.flush(id);
        }
        for _ in 0..TURN {
            match self.clients.receive(id) {
                Message::None => break,
                Message::Request(request, descriptors) => {
                    self.request(Ask { client: id, request, descriptors });
                }
                Message::Refused(refusal) => self.clients.refuse(id, refusal),
            }
        }
        self.bury();
    }

    /// Draws the consequences of connections that are no more.
    fn bury(&mut self) {
        while let Some(id) = self.clients.next_gone() {
            self.sessions.abandon(id, &mut self.engine);
            if id == self.starter {
                self.event(Event::StarterGone, None);
            }
        }
    }

    /// Sends what is left to say, for a moment at most.
    fn farewell(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        while self.clients.has_unsent() && Instant::now() < deadline {
            let waiting: Vec<Id> = self.clients.polled().map(|(id, ..)| id).collect();
            let mut fds: Vec<PollFd<'_>> = self
                .clients
                .polled()
                .filter(|(_, _, flags)| flags.contains(PollFlags::OUT))
                .map(|(_, fd, _)| PollFd::from_borrowed_fd(fd, PollFlags::OUT))
                .collect();
            if poll(&mut fds, Some(&until(deadline))).is_err() {
                return;
            }
            for id in waiting {
                self.clients.flush(id);
            }
        }
    }
}

fn until(deadline: Instant) -> Timespec {
    // Rounded up: waking a moment too soon would mean one more turn for nothing.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(50);
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
}

/// Waits for the order on the starter's socket; `None` when there is nobody left to answer.
pub fn receive_order(wire: &mut Wire, patience: Duration) -> Option<Order> {
    let deadline = Instant::now() + patience;
    loop {
        match wire.receive() {
            Ok(Some(incoming)) => {
                wire.set_limit(LIMIT);
                return match clients::order(incoming) {
                    Ok(order) => Some(order),
                    Err(refusal) => {
                        clients::refuse_on(wire, refusal);
                        None
                    }
                };
            }
            Ok(None) => {}
            Err(error) => {
                clients::refuse_on(wire, not_understood(error.to_string()));
                return None;
            }
        }
        let mut fds = [PollFd::from_borrowed_fd(wire.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&until(deadline))) {
            Ok(0) if Instant::now() >= deadline => return None,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Tells the starter that there will be no task, before the shim ends.
pub fn refuse_order(wire: &mut Wire, refusal: Refusal) {
    clients::refuse_on(wire, refusal);
}

/// What a request means to the machine.
fn question(request: &Request) -> Question {
    match request {
        Request::Launch(_) => Question::Launch,
        Request::State => Question::State,
        Request::Wait => Question::Wait,
        Request::WaitOom { .. } => Question::WaitOom,
        Request::Signal { signal } => Question::Signal { signal: *signal },
        Request::Stop { signal, grace_ms } => {
            // A grace period of more than a year is as good as none that ends, and cannot overflow a clock.
            let grace = Duration::from_millis(*grace_ms).min(LONGEST_GRACE);
            Question::Stop { signal: *signal, grace }
        }
        Request::Exec(_) => Question::Exec,
        Request::Resize(_) => Question::Resize,
        Request::Terminal => Question::Terminal,
        Request::Stats => Question::Stats,
        Request::Destroy(leftovers) => Question::Destroy(*leftovers),
    }
}
