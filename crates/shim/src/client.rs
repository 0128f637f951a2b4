//! The face's side: start a shim, find it again, ask it.
//!
//! Blocking, with a deadline on every wait that can be long. What takes as long as a task does (its end, an OOM kill,
//! an exec session) is a connection that becomes readable, so a face without threads waits for many tasks in one
//! `poll`.

pub mod program;

pub use program::Program;

use crate::protocol::frame::{FrameError, LAUNCH_LIMIT, LIMIT, decode, encode};
use crate::protocol::wire::{Incoming, Wire, WireError};
use crate::protocol::{
    Exec, ExecEnd, Exit, Launch, Leftovers, Refusal, Request, Response, Started, Status, TaskStats,
};
use bivouac_sandbox::EmptyMounts;
use bivouac_sandbox::model::TerminalSize;
use bivouac_sys::Errno;
use bivouac_sys::clone::Child;
use bivouac_sys::exec::StringArray;
use bivouac_sys::spawn::{Executable, Spawn, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, socketpair};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a shim may take over what it answers at once. It may be starting an exec session for somebody else.
const PROMPT: Duration = Duration::from_secs(20);
/// A stop is answered at the latest when the task turned out to be stuck.
const AFTER_GRACE: Duration = Duration::from_secs(20);

/// Why a shim could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none at that run directory: see `recover`.
    #[error("no shim answers in {run_dir}: {errno}")]
    NoShim {
        /// The run directory.
        run_dir: String,
        /// What connecting answered.
        errno: Errno,
    },
    /// Something else than root's shim listens there.
    #[error("the process that listens in {run_dir} is not root's")]
    Foreign {
        /// The run directory.
        run_dir: String,
    },
    /// It could not be started.
    #[error("cannot start the shim {program}: {errno}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The connection ended: the shim has died, or was destroyed.
    #[error("the shim of the task is gone")]
    Gone,
    /// No answer in time.
    #[error("the shim of the task does not answer")]
    TimedOut,
    /// The connection is of no use any more.
    #[error("the shim of the task cannot be asked: {0}")]
    Wire(WireError),
    /// An answer of another kind than the question.
    #[error("the shim of the task (protocol version {version}) gave an unexpected answer")]
    Unexpected {
        /// The version that it speaks.
        version: u16,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> ClientError {
        match error {
            WireError::Closed | WireError::Torn | WireError::Kernel(Errno::PIPE | Errno::CONNRESET) => {
                ClientError::Gone
            }
            other => ClientError::Wire(other),
        }
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> ClientError {
        ClientError::Wire(WireError::Frame(error))
    }
}

/// Where a shim is started.
#[derive(Debug)]
pub struct Place<'a> {
    /// The program.
    pub program: &'a Program,
    /// The cgroup v2 directory of all shims.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Opened `tasks` files of the shims' groups in v1 hierarchies.
    pub tasks: &'a [BorrowedFd<'a>],
}

impl Place<'_> {
    /// Starts a shim that waits for its order on the connection that comes back. The child is to be reaped by the
    /// caller if it outlives the shim.
    ///
    /// # Errors
    /// [`ClientError::Start`].
    pub fn start(&self) -> Result<(Client, Child), ClientError> {
        let program = || self.program.path.to_string_lossy().into_owned();
        let failed = |errno| ClientError::Start { program: program(), errno };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
        let null =
            openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let arguments = StringArray::new(vec![self.program.path.clone(), CString::from(c"3")]);
        let environment = StringArray::new(Vec::new());
        let child = spawn(&Spawn {
            program: Executable::Opened(self.program.mount.as_fd()),
            arguments: &arguments,
            environment: &environment,
            descriptors: &[null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()],
            cgroup: self.cgroup,
            tasks: self.tasks,
        })
        .map_err(failed)?;
        Ok((Client::over(ours).map_err(failed)?, child))
    }
}

/// A connection to a shim.
pub struct Client {
    wire: Wire,
    version: u16,
}

/// A task that was started.
#[derive(Debug)]
pub struct Launched {
    /// The first process.
    pub started: Started,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Client {
    /// Connects to the shim of a run directory.
    ///
    /// # Errors
    /// [`ClientError::NoShim`] (`ECONNREFUSED`: its process is gone, `ENOENT`: it never came so far),
    /// [`ClientError::Foreign`].
    pub fn connect(run_dir: &Path) -> Result<Client, ClientError> {
        let name = || run_dir.display().to_string();
        let failed = |errno| ClientError::NoShim { run_dir: name(), errno };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, run_dir, flags, Mode::empty()).map_err(failed)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
        connect(&socket, &crate::serve::address(dir.as_fd()).map_err(failed)?).map_err(failed)?;
        if !socket_peercred(&socket).map_err(failed)?.uid.is_root() {
            return Err(ClientError::Foreign { run_dir: name() });
        }
        Client::over(socket).map_err(failed)
    }

    fn over(socket: OwnedFd) -> Result<Client, Errno> {
        Ok(Client { wire: Wire::new(socket, LIMIT)?, version: 0 })
    }

    /// The version of the protocol that the shim spoke in its last answer; 0 before the first.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Starts the task from `empty`. `streams` are the given ones of descriptors 0-2, in order.
    ///
    /// While this client lives it is the starter, whose end means what the order says.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the sentence to show; the shim ends by itself then.
    pub fn launch(
        &mut self,
        order: Launch,
        empty: &EmptyMounts,
        streams: Vec<OwnedFd>,
    ) -> Result<Launched, ClientError> {
        let patience = Duration::from_millis(order.deadline_ms).saturating_add(PROMPT);
        self.order(order, empty, streams)?;
        let (response, descriptors) = self.answer(after(patience))?;
        match response {
            Response::Launched(started) => Ok(Launched { started, terminal: descriptors.into_iter().next() }),
            other => Err(self.unexpected(other)),
        }
    }

    /// Sends the order of [`Client::launch`], and does not wait for what comes of it.
    ///
    /// # Errors
    /// [`ClientError::Gone`], [`ClientError::Wire`] without descriptors to spare.
    pub fn order(
        &mut self,
        order: Launch,
        empty: &EmptyMounts,
        streams: Vec<OwnedFd>,
    ) -> Result<(), ClientError> {
        let copy = rustix::io::fcntl_dupfd_cloexec(empty, 3)
            .map_err(|errno| ClientError::Wire(WireError::Kernel(errno)))?;
        let descriptors = std::iter::once(copy).chain(streams).collect();
        self.send(encode(&Request::Launch(Box::new(order)), LAUNCH_LIMIT)?, descriptors)
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn state(&mut self) -> Result<Status, ClientError> {
        match self.ask(&Request::State, PROMPT)? {
            Response::State(status) => Ok(*status),
            other => Err(self.unexpected(other)),
        }
    }

    /// Waits for the end of the task, at most until `deadline`. After a time-out this client is of no use.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`], [`ClientError::Gone`].
    pub fn wait(mut self, deadline: Option<Instant>) -> Result<Exit, ClientError> {
        self.post(&Request::Wait)?;
        let (response, _) = self.answer(deadline)?;
        match response {
            Response::Exited(exit) => Ok(exit),
            other => Err(self.unexpected(other)),
        }
    }

    /// Turns this connection into a watch that becomes readable when the task has ended.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn watch_end(mut self) -> Result<Watch, ClientError> {
        self.post(&Request::Wait)?;
        Ok(Watch { client: self })
    }

    /// Turns this connection into a watch that becomes readable when more than `seen` processes of the task have
    /// been killed for lack of memory, or it has ended.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn watch_oom(mut self, seen: u64) -> Result<Watch, ClientError> {
        self.post(&Request::WaitOom { seen })?;
        Ok(Watch { client: self })
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// [`Refusal::NotRunning`], [`Refusal::Failed`] for a number that is none.
    pub fn signal(&mut self, signal: i32) -> Result<(), ClientError> {
        self.ask_done(&Request::Signal { signal })
    }

    /// Stops the task: the signal, and after the grace period the kill of everything. Comes back when it has ended.
    ///
    /// # Errors
    /// [`Refusal::Stuck`] when it did not end within 15 s of the kill.
    pub fn stop(&mut self, signal: i32, grace: Duration) -> Result<Exit, ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let patience = grace.saturating_add(AFTER_GRACE);
        match self.ask(&Request::Stop { signal, grace_ms }, patience)? {
            Response::Exited(exit) => Ok(exit),
            other => Err(self.unexpected(other)),
        }
    }

    /// The same without waiting: the watch becomes readable when the task has ended, or when it turned out to be
    /// stuck ([`Refusal::Stuck`]).
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn begin_stop(mut self, signal: i32, grace: Duration) -> Result<Watch, ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.post(&Request::Stop { signal, grace_ms })?;
        Ok(Watch { client: self })
    }

    /// Runs a further process in the sandbox. `streams` as for [`Client::launch`].
    ///
    /// # Errors
    /// [`Refusal::NotStarted`], [`Refusal::NotRunning`], [`Refusal::TooMany`], [`Refusal::Paused`].
    pub fn exec(mut self, exec: Exec, streams: Vec<OwnedFd>) -> Result<Session, ClientError> {
        let frame = encode(&Request::Exec(Box::new(exec)), LIMIT)?;
        self.send(frame, streams)?;
        let (response, descriptors) = self.answer(after(PROMPT))?;
        match response {
            Response::Started(started) => {
                let terminal = descriptors.into_iter().next();
                Ok(Session { client: self, started, terminal, end: None })
            }
            other => Err(self.unexpected(other)),
        }
    }

    /// Sets the size of the task's terminal.
    ///
    /// # Errors
    /// [`Refusal::NoTerminal`].
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.ask_done(&Request::Resize(size))
    }

    /// The master of the task's terminal, for a face that comes later.
    ///
    /// # Errors
    /// [`Refusal::NoTerminal`].
    pub fn terminal(&mut self) -> Result<OwnedFd, ClientError> {
        self.post(&Request::Terminal)?;
        let (response, descriptors) = self.answer(after(PROMPT))?;
        match (response, descriptors.into_iter().next()) {
            (Response::Done, Some(terminal)) => Ok(terminal),
            (other, _) => Err(self.unexpected(other)),
        }
    }

    /// Statistics.
    ///
    /// # Errors
    /// [`Refusal::NotRunning`] after the end: there are no figures then.
    pub fn stats(&mut self) -> Result<TaskStats, ClientError> {
        match self.ask(&Request::Stats, PROMPT)? {
            Response::Stats(stats) => Ok(*stats),
            other => Err(self.unexpected(other)),
        }
    }

    /// Removes what is left of the task, its run directory included, and ends the shim.
    ///
    /// # Errors
    /// [`Refusal::StillRunning`] without [`Leftovers::Kill`], [`Refusal::Stuck`], [`Refusal::Failed`] when the
    /// control group cannot be removed.
    pub fn destroy(mut self, leftovers: Leftovers) -> Result<(), ClientError> {
        match self.ask(&Request::Destroy(leftovers), AFTER_GRACE)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn ask_done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request, PROMPT)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn ask(&mut self, request: &Request, patience: Duration) -> Result<Response, ClientError> {
        self.post(request)?;
        self.answer(after(patience)).map(|(response, _)| response)
    }

    fn post(&mut self, request: &Request) -> Result<(), ClientError> {
        let frame = encode(request, LIMIT)?;
        self.send(frame, Vec::new())
    }

    fn send(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<(), ClientError> {
        let deadline = after(PROMPT);
        self.wire.send(frame, descriptors)?;
        while self.wire.has_unsent() {
            wait_for(self.wire.as_fd(), PollFlags::OUT, deadline)?;
            self.wire.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self, deadline: Option<Instant>) -> Result<(Response, Vec<OwnedFd>), ClientError> {
        loop {
            if let Some(answer) = self.take()? {
                return Ok(answer);
            }
            wait_for(self.wire.as_fd(), PollFlags::IN, deadline)?;
        }
    }

    /// What has arrived, without waiting.
    fn take(&mut self) -> Result<Option<(Response, Vec<OwnedFd>)>, ClientError> {
        let Some(Incoming { version, body, descriptors }) = self.wire.receive()? else { return Ok(None) };
        self.version = version;
        Ok(Some((decode(&body)?, descriptors)))
    }

    fn unexpected(&self, response: Response) -> ClientError {
        match response {
            Response::Refused(refusal) => ClientError::Refused(refusal),
            Response::Launched(_)
            | Response::State(_)
            | Response::Exited(_)
            | Response::Oom { .. }
            | Response::Done
            | Response::Started(_)
            | Response::Ended(_)
            | Response::Stats(_) => ClientError::Unexpected { version: self.version },
        }
    }
}

/// A connection that becomes readable when what it waits for has happened.
pub struct Watch {
    client: Client,
}

/// What was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The task has ended.
    Ended(Exit),
    /// So many processes of the task have been killed for lack of memory since it started.
    Oom(u64),
}

impl Watch {
    /// What has happened, without waiting; `None` when nothing has. Call it when the descriptor is readable.
    ///
    /// # Errors
    /// [`ClientError::Gone`]: the shim has died without an answer; see `recover`.
    pub fn take(&mut self) -> Result<Option<Happened>, ClientError> {
        match self.client.take()? {
            None => Ok(None),
            Some((Response::Exited(exit), _)) => Ok(Some(Happened::Ended(exit))),
            Some((Response::Oom { kills }, _)) => Ok(Some(Happened::Oom(kills))),
            Some((other, _)) => Err(self.client.unexpected(other)),
        }
    }
}

impl Watch {
    /// Goes on after [`Happened::Oom`]: waits for more than `seen` kills, or the end.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn again(&mut self, seen: u64) -> Result<(), ClientError> {
        self.client.post(&Request::WaitOom { seen })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.wire.as_fd()
    }
}

/// An exec session: readable when its process has ended. Dropping it kills the process.
pub struct Session {
    client: Client,
    started: Started,
    terminal: Option<OwnedFd>,
    end: Option<ExecEnd>,
}

impl Session {
    /// The process.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Hands out the master of its terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// How it ended, without waiting; `None` while it runs. Call it when the descriptor is readable.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn take_end(&mut self) -> Result<Option<ExecEnd>, ClientError> {
        if self.end.is_none() {
            match self.client.take()? {
                None => {}
                Some((Response::Ended(end), _)) => self.end = Some(end),
                Some((other, _)) => return Err(self.client.unexpected(other)),
            }
        }
        Ok(self.end.clone())
    }

    /// Waits for its end, at most until `deadline`.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] (it runs on), [`ClientError::Gone`].
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<ExecEnd, ClientError> {
        loop {
            if let Some(end) = self.take_end()? {
                return Ok(end);
            }
            wait_for(self.client.wire.as_fd(), PollFlags::IN, deadline)?;
        }
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// [`Refusal::NotRunning`] when it has ended.
    pub fn signal(&mut self, signal: i32) -> Result<(), ClientError> {
        self.ask(&Request::Signal { signal })
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// [`Refusal::NoTerminal`], [`Refusal::NotRunning`].
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.ask(&Request::Resize(size))
    }

    fn ask(&mut self, request: &Request) -> Result<(), ClientError> {
        if self.end.is_some() {
            return Err(Refusal::NotRunning.into());
        }
        self.client.post(request)?;
        match self.client.answer(after(PROMPT))?.0 {
            Response::Done => Ok(()),
            // The end overtook the request, which the shim refuses then.
            Response::Ended(end) => {
                self.end = Some(end);
                Err(Refusal::NotRunning.into())
            }
            other => Err(self.client.unexpected(other)),
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.wire.as_fd()
    }
}

fn after(patience: Duration) -> Option<Instant> {
    Instant::now().checked_add(patience)
}

fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags, deadline: Option<Instant>) -> Result<(), ClientError> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(ClientError::TimedOut),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(ClientError::Wire(WireError::Kernel(errno))),
        }
    }
}
