//! What each action of the state machine means here.

use super::{Ask, Server, fifo};
use crate::engine::Engine;
use crate::machine::{Action, Event, List, Reply, State};
use crate::process::{Moment, ProcessId, ignores_as_init};
use crate::protocol::{
    Output, Refusal, Request, Response, Started, Stream, StreamsKind, TaskStats, TaskStreams,
};
use crate::status::Phase;
use bivouac_sandbox::launch::Streams;
use bivouac_sandbox::model::TerminalSize;
use bivouac_sys::{Errno, signal};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

const SIGKILL: i32 = 9;

impl<E: Engine> Server<E> {
    pub(super) fn perform(&mut self, action: Action, ask: &mut Option<Ask>) {
        match action {
            Action::Record => self.record(),
            Action::CountOom => self.count_oom(),
            Action::Launch => self.launch(),
            Action::SignalFirst(signal) => self.outcome = self.signal_first(signal),
            Action::SignalGroup(signal) => self.outcome = self.engine.signal_all(signal),
            Action::NoteIgnored(signal) => {
                let ignored = self.first.as_ref().is_some_and(|first| ignores_as_init(first.pid, signal));
                self.asked_in_vain = Some((signal, ignored));
            }
            Action::Kill => self.kill(),
            Action::Arm(time) => self.timer = Some(Instant::now() + time),
            Action::ArmSooner(time) => {
                let sooner = Instant::now() + time;
                self.timer = Some(self.timer.map_or(sooner, |timer| timer.min(sooner)));
            }
            Action::FlushLogs => self.collectors.finish(),
            Action::Disarm => self.timer = None,
            Action::Answer(reply) => {
                if let Some(ask) = ask.take() {
                    self.reply(reply, ask);
                }
            }
            Action::Enlist(list) => {
                if let Some(ask) = ask.take() {
                    self.clients.enlist(ask.client, list);
                }
            }
            Action::TellEnd => {
                let response = self.exited();
                self.clients.answer_lists(&[List::End, List::Stop], &response);
                self.clients.answer_oom(None, &response);
            }
            Action::TellOom => {
                let kills = self.status.oom_kills;
                self.clients.answer_oom(Some(kills), &Response::Oom { kills });
            }
            Action::TellStuck => {
                let seconds = crate::machine::STUCK_AFTER.as_secs();
                let response = Response::Refused(Refusal::Stuck { seconds });
                self.clients.answer_lists(&[List::Stop, List::Destroy], &response);
            }
            Action::TellLaunched => self.tell_launched(),
            Action::TellLaunchFailed => {
                let refusal = self.outcome.clone().err().unwrap_or(Refusal::NotRunning);
                self.clients.refuse(self.starter, refusal);
            }
            Action::TellDestroyed => self.clients.answer_lists(&[List::Destroy], &Response::Done),
            Action::TellKept => {
                let refusal = self.outcome.clone().err().unwrap_or(Refusal::StillRunning);
                self.clients.answer_lists(&[List::Destroy], &Response::Refused(refusal));
            }
            Action::Release => self.release(),
            Action::RemoveGroup => {
                self.outcome = self.engine.remove_group();
                self.pending.push_back(match self.outcome {
                    Ok(()) => Event::GroupRemoved,
                    Err(_) => Event::GroupKept,
                });
            }
            Action::RemoveRunDir => {
                let path = self.run_dir_path.as_path();
                // What cannot be removed is found again by whoever collects: the status file goes last.
                let _ = crate::recover::remove_run_dir(self.run_dir.as_fd(), path, &mut self.nameless);
            }
            Action::Leave => self.leaving = true,
        }
    }

    fn record(&mut self) {
        self.status.phase = match self.state {
            State::Starting => Phase::Starting,
            State::Running => Phase::Running,
            State::Stopping(..) => Phase::Stopping,
            State::Exited(_) => Phase::Exited,
            State::Collected if self.status.failure.is_some() => Phase::Failed,
            State::Collected => self.status.phase,
        };
        self.unwritten = self.status.write(self.run_dir.as_fd(), &mut self.nameless).err();
    }

    fn count_oom(&mut self) {
        self.status.oom_kills = self.engine.oom_kills();
        if let Some(exit) = &mut self.status.exit {
            exit.oom_kills = self.status.oom_kills;
        }
    }

    fn launch(&mut self) {
        match self.try_launch() {
            Ok(()) => self.pending.push_back(Event::Launched),
            Err(refusal) => {
                self.status.failure = Some(refusal.to_string());
                self.outcome = Err(refusal);
                self.pending.push_back(Event::LaunchFailed);
            }
        }
    }

    fn try_launch(&mut self) -> Result<(), Refusal> {
        let failed = |what: &str, answer: String| Refusal::Failed { what: what.to_owned(), answer };
        if let Some(error) = self.unwritten.take() {
            // Without the record nobody could clean up after us.
            return Err(failed("start the task without a record of it", error.to_string()));
        }
        let order = self.order.take().ok_or(Refusal::NotRunning)?;
        let streams = self.task_streams(&order.launch.streams, order.streams)?;
        let newcomer = self.engine.launch(&order.launch, &order.empty, streams)?;
        self.status.started = Some(Moment::now());
        self.status.first = ProcessId::of(newcomer.child.pid).ok();
        self.status.command = Some(newcomer.command);
        self.terminal = newcomer.terminal;
        self.first = Some(newcomer.child);
        Ok(())
    }

    /// What the task's descriptors will be: those that came, or pipes that are emptied here.
    fn task_streams(&mut self, kind: &TaskStreams, descriptors: Vec<OwnedFd>) -> Result<Streams, Refusal> {
        let (stdin, stdout, stderr) = match kind {
            TaskStreams::Terminal(size) => return Ok(Streams::Terminal(*size)),
            TaskStreams::Files { stdin, stdout, stderr } => (stdin, stdout, stderr),
        };
        let mut given = descriptors.into_iter();
        let stdin = if *stdin == Stream::Given { given.next() } else { None };
        let mut output = |output: &Output| {
            let next = if *output == Output::Null { None } else { given.next() };
            match (output, next) {
                (Output::Log(files), Some(directory)) => {
                    self.collectors.add(directory, files.clone()).map(Some)
                }
                (Output::Given, Some(fd)) => {
                    self.readers.extend(fifo::hold_open(fd.as_fd()));
                    Ok(Some(fd))
                }
                (Output::Null | Output::Given | Output::Log(_), _) => Ok(None),
            }
        };
        Ok(Streams::Files { stdin, stdout: output(stdout)?, stderr: output(stderr)? })
    }

    fn tell_launched(&mut self) {
        let started = Started {
            pid: self.first.as_ref().map_or(0, |first| first.pid),
            command: self.status.command.clone().unwrap_or_default(),
        };
        let terminal = self.terminal.as_ref().and_then(|terminal| terminal.try_clone().ok());
        self.clients.answer(self.starter, &Response::Launched(started), terminal.into_iter().collect());
    }

    fn signal_first(&self, number: i32) -> Result<(), Refusal> {
        let Some(first) = &self.first else { return Err(Refusal::NotRunning) };
        match signal::send(first.pidfd.as_fd(), number) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(Refusal::NotRunning),
            Err(errno) => {
                let what = format!("send signal {number} to the task");
                Err(Refusal::Failed { what, answer: errno.to_string() })
            }
        }
    }

    /// The first process before the group: a private pid namespace dies with it at once.
    fn kill(&mut self) {
        self.turn_away();
        if let Some(first) = &self.first {
            let _ = signal::send(first.pidfd.as_fd(), SIGKILL);
        }
        self.outcome = self.engine.kill_all();
    }

    fn release(&mut self) {
        self.readers = Vec::new();
        if let Some(sweeper) = self.engine.release() {
            self.sweepers.push(sweeper);
        }
    }

    fn exited(&self) -> Response {
        match &self.status.exit {
            Some(exit) => Response::Exited(exit.clone()),
            None => Response::Refused(Refusal::NotRunning),
        }
    }

    fn reply(&mut self, reply: Reply, ask: Ask) {
        let client = ask.client;
        let response = match reply {
            Reply::Status => {
                if self.unwritten.is_some() {
                    self.record();
                }
                Ok(Response::State(Box::new(self.status.clone())))
            }
            Reply::Exit => Ok(self.exited()),
            Reply::OomOrEnlist => {
                let seen = if let Request::WaitOom { seen } = ask.request { seen } else { 0 };
                let kills = self.status.oom_kills;
                if kills <= seen {
                    return self.clients.enlist_for_oom(client, seen);
                }
                Ok(Response::Oom { kills })
            }
            Reply::Outcome => self.outcome.clone().map(|()| Response::Done),
            Reply::Exec => return self.exec(ask),
            Reply::Resize => {
                let size =
                    if let Request::Resize(size) = ask.request { size } else { TerminalSize::default() };
                resize(self.terminal.as_ref(), size)
            }
            Reply::Terminal => match self.terminal.as_ref().map(OwnedFd::try_clone) {
                Some(Ok(terminal)) => {
                    return self.clients.answer(client, &Response::Done, vec![terminal]);
                }
                Some(Err(error)) => {
                    Err(Refusal::Failed { what: "copy the terminal".into(), answer: error.to_string() })
                }
                None => Err(Refusal::NoTerminal),
            },
            Reply::Stats => self.engine.stats().map(|group| {
                Response::Stats(Box::new(TaskStats { group, oom_kills: self.status.oom_kills }))
            }),
            Reply::NotRunning => Err(Refusal::NotRunning),
            Reply::StillRunning => Err(Refusal::StillRunning),
            Reply::OutOfTurn => {
                Err(super::clients::not_understood("this message has no meaning at this moment".to_owned()))
            }
        };
        self.clients.answer(client, &response.unwrap_or_else(Response::Refused), Vec::new());
    }

    fn exec(&mut self, ask: Ask) {
        let Request::Exec(exec) = ask.request else { return };
        let client = ask.client;
        // Answered when the process is inside.
        if let Err(refusal) = self.sessions.start(client, *exec, ask.descriptors, &mut self.engine) {
            self.clients.refuse(client, refusal);
        }
    }

    /// One request: for the exec session on this connection, if there is one, else for the machine.
    pub(super) fn request(&mut self, ask: Ask) {
        if self.sessions.has(ask.client) {
            let response = self.sessions.request(ask.client, &ask.request);
            return self.clients.answer(ask.client, &response, Vec::new());
        }
        let question = super::question(&ask.request);
        self.event(Event::Asked(question), Some(ask));
    }
}

/// Sets a terminal's size.
pub(crate) fn resize(terminal: Option<&OwnedFd>, size: TerminalSize) -> Result<Response, Refusal> {
    let terminal = terminal.ok_or(Refusal::NoTerminal)?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize::<BorrowedFd<'_>>(terminal.as_fd(), size)
        .map(|()| Response::Done)
        .map_err(|errno| Refusal::Failed { what: "resize the terminal".into(), answer: errno.to_string() })
}

/// Descriptors in the order of the message become streams; their number was checked when they came.
pub(crate) fn streams(kind: StreamsKind, descriptors: Vec<OwnedFd>) -> Streams {
    let mut given = descriptors.into_iter();
    let mut next = |stream| match stream {
        Stream::Given => given.next(),
        Stream::Null => None,
    };
    match kind {
        StreamsKind::Terminal(size) => Streams::Terminal(size),
        StreamsKind::Files { stdin, stdout, stderr } => {
            Streams::Files { stdin: next(stdin), stdout: next(stdout), stderr: next(stderr) }
        }
    }
}
