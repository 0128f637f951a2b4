//! Exec sessions: further processes in the sandbox, each tied to the connection of the client that asked for it.
//!
//! The streams are the client's own pipes or a terminal whose master it holds; nothing is copied here. So the exit
//! status is known and told when the process has ended, whoever else still holds its pipes. A client that goes away
//! takes its process along.

use crate::engine::Engine;
use crate::ground::not_started;
use crate::process::{is_dead, last_word};
use crate::protocol::{Exec, ExecCause, ExecEnd, Refusal, Request, Response, Started};
use crate::serve::{Id, not_understood, resize, streams};
use bivouac_sandbox::launch::{Entered, Entering, Progress};
use bivouac_sys::clone::Child;
use bivouac_sys::{signal, wait};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const KILL: i32 = 9;
/// Sessions at once.
const MOST: usize = 64;
/// How long the entering itself may take: a volume may hang, the task may stop what enters.
const ENTER_WITHIN: Duration = Duration::from_secs(10);
/// How long a client waits for a process that is dead, or was killed, and that is kept from us: whoever traces it in
/// the task decides when we may reap it, and a traced thread that is dead keeps even its end from us.
const KEPT_AT_MOST: Duration = Duration::from_secs(2);

struct Session {
    child: Child,
    /// None when it has gone: then nobody is told.
    client: Option<Id>,
    /// Kept for resizing; the client has one of its own.
    terminal: Option<OwnedFd>,
    /// When it is killed.
    deadline: Option<Instant>,
    /// Until when its client waits: it is dead, or was killed, and is kept from us.
    told_by: Option<Instant>,
    cause: ExecCause,
}

impl Session {
    /// Its process is dead, or will be: its client waits for no more than that.
    fn told_by(&mut self) {
        if self.client.is_some() && self.told_by.is_none() {
            self.told_by = Instant::now().checked_add(KEPT_AT_MOST);
        }
    }

    /// What the client is told of a process that is not reaped yet.
    fn release(&mut self) -> Option<(Id, ExecEnd)> {
        let killed = crate::status::Ending::Signaled { signal: KILL, core: false };
        let ending = match self.cause {
            ExecCause::Deadline => killed,
            ExecCause::Own => last_word(self.child.pid).unwrap_or(killed),
        };
        self.client.take().map(|client| (client, ExecEnd { ending, cause: self.cause }))
    }
}

/// A process on its way in. The shim waits for it as for everything else, in its loop.
struct Arrival {
    number: u64,
    entering: Entering,
    /// None when it was answered or has gone: then it is only waited for.
    client: Option<Id>,
    command: String,
    enter_by: Option<Instant>,
    may_take: Option<Duration>,
}

/// A client, and what it is told of the process that it asked for.
pub(crate) type Answer = (Id, Result<(Started, Option<OwnedFd>), Refusal>);

/// All sessions of a task.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Vec<Session>,
    arrivals: Vec<Arrival>,
    arrivals_so_far: u64,
    /// Connections whose session has ended. What still comes on them was meant for the process, never for the task.
    spent: Vec<Id>,
}

impl Sessions {
    /// Whether this connection is a session, or was one.
    pub(crate) fn has(&self, client: Id) -> bool {
        self.spent.contains(&client)
            || self.all.iter().any(|session| session.client == Some(client))
            || self.arrivals.iter().any(|arrival| arrival.client == Some(client))
    }

    /// Sends the process on its way in; what [`Self::arrive`] tells is the client's answer.
    pub(crate) fn start(
        &mut self,
        client: Id,
        exec: Exec,
        descriptors: Vec<OwnedFd>,
        engine: &mut impl Engine,
    ) -> Result<(), Refusal> {
        if self.all.len() + self.arrivals.len() >= MOST {
            return Err(Refusal::TooMany { what: "exec sessions in a task".into(), most: MOST as u64 });
        }
        let streams = streams(exec.streams, descriptors);
        let entering = engine.enter(&exec.process, streams)?;
        self.arrivals_so_far += 1;
        self.arrivals.push(Arrival {
            number: self.arrivals_so_far,
            entering,
            client: Some(client),
            command: exec.process.asked,
            enter_by: Some(Instant::now() + ENTER_WITHIN),
            may_take: exec.deadline_ms.map(Duration::from_millis),
        });
        Ok(())
    }

    /// What to wait for until somebody is inside.
    pub(crate) fn arriving(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.arrivals.iter().map(|arrival| (arrival.number, arrival.entering.watch()))
    }

    /// Looks how far somebody is who enters; the answer, if there is one now and somebody who waits for it. `first` is
    /// the number of the task's first process.
    pub(crate) fn arrive(&mut self, number: u64, first: Option<i32>) -> Option<Answer> {
        let index = self.arrivals.iter().position(|arrival| arrival.number == number)?;
        let progress = self.arrivals.get_mut(index)?.entering.advance();
        let Entered { child, terminal } = match progress {
            Progress::Waiting => return None,
            Progress::Inside(entered) => entered,
            Progress::Failed(failure) => {
                let client = self.arrivals.swap_remove(index).client;
                return client.map(|client| (client, Err(not_started(&failure))));
            }
        };
        let arrival = self.arrivals.swap_remove(index);
        let client = arrival.client?;
        if first == Some(child.pid) || self.all.iter().any(|session| session.child.pid == child.pid) {
            // Somebody who traced it made us believe that it is another one.
            let what = "tell the process that entered from others of the task".into();
            return Some((client, Err(Refusal::Failed { what, answer: format!("process {}", child.pid) })));
        }
        let started = Started { pid: child.pid, command: arrival.command };
        let copy = terminal.as_ref().and_then(|terminal| terminal.try_clone().ok());
        let deadline = arrival.may_take.and_then(|time| Instant::now().checked_add(time));
        self.all.push(Session {
            child,
            client: Some(client),
            terminal,
            deadline,
            told_by: None,
            cause: ExecCause::Own,
        });
        Some((client, Ok((started, copy))))
    }

    /// Ends everybody who is still on the way in: the task ends. Tells who waits for them.
    pub(crate) fn turn_away(&mut self) -> Vec<Id> {
        let turned = self.arrivals.iter_mut().filter_map(|arrival| {
            arrival.entering.give_up();
            arrival.enter_by = None;
            arrival.client.take()
        });
        turned.collect()
    }

    pub(crate) fn pidfds(&self) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
        self.all.iter().map(|session| (session.child.pid, session.child.pidfd.as_fd()))
    }

    /// A session whose process has ended: whom to tell what.
    pub(crate) fn reap(&mut self, pid: i32) -> Option<(Id, ExecEnd)> {
        let index = self.all.iter().position(|session| session.child.pid == pid)?;
        let ending = match wait::try_reap(self.all.get(index)?.child.pidfd.as_fd()) {
            Ok(None) => {
                let told = self.held(index);
                self.spent.extend(told.iter().map(|(client, _)| *client));
                return told;
            }
            Ok(Some(reaped)) => reaped.ending.into(),
            // Reaped by somebody else: cannot be, and must not make the shim spin.
            Err(_) => crate::status::Ending::Exited { code: 1 },
        };
        let session = self.all.swap_remove(index);
        self.spent.extend(session.client);
        session.client.map(|client| (client, ExecEnd { ending, cause: session.cause }))
    }

    /// A process that is dead, and that somebody in the task keeps from us. Its client does not wait for them: at once
    /// where its deadline was over, for what it is told then is known, else after a while.
    fn held(&mut self, index: usize) -> Option<(Id, ExecEnd)> {
        let session = self.all.get_mut(index)?;
        session.told_by();
        if session.cause == ExecCause::Deadline { session.release() } else { None }
    }

    /// A request on a session's connection.
    pub(crate) fn request(&mut self, client: Id, request: &Request) -> Response {
        let Some(session) = self.all.iter_mut().find(|session| session.client == Some(client)) else {
            let is_early = self.arrivals.iter().any(|arrival| arrival.client == Some(client));
            return Response::Refused(if is_early {
                not_understood("the exec session of this connection has not begun".to_owned())
            } else {
                Refusal::NotRunning
            });
        };
        let answer = match request {
            Request::Signal { signal } => {
                // A dead one feels none, and its end is nothing that wakes us while a thread of it is kept.
                if *signal == KILL || is_dead(session.child.pid) {
                    session.told_by();
                }
                signal::send(session.child.pidfd.as_fd(), *signal).map(|()| Response::Done).map_err(|errno| {
                    Refusal::Failed { what: format!("send signal {signal}"), answer: errno.to_string() }
                })
            }
            Request::Resize(size) => resize(session.terminal.as_ref(), *size),
            Request::Launch(_)
            | Request::State
            | Request::Wait
            | Request::WaitOom { .. }
            | Request::Stop { .. }
            | Request::Exec(_)
            | Request::Terminal
            | Request::Stats
            | Request::Destroy(_) => {
                Err(not_understood("this connection is an exec session; ask on another one".to_owned()))
            }
        };
        answer.unwrap_or_else(Response::Refused)
    }

    /// The client is gone: its process goes too.
    pub(crate) fn abandon(&mut self, client: Id, engine: &mut impl Engine) {
        self.spent.retain(|spent| *spent != client);
        for arrival in self.arrivals.iter_mut().filter(|arrival| arrival.client == Some(client)) {
            arrival.client = None;
            arrival.enter_by = None;
            arrival.entering.give_up();
        }
        for session in self.all.iter_mut().filter(|session| session.client == Some(client)) {
            session.client = None;
            // Our copy of the master would keep the hang-up from the process.
            session.terminal = None;
            session.deadline = None;
            session.told_by = None;
            engine.kill_session(&session.child);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let ends = self.all.iter().flat_map(|session| [session.deadline, session.told_by]).flatten();
        ends.chain(self.arrivals.iter().filter_map(|arrival| arrival.enter_by)).min()
    }

    /// Kills what has run too long, and what takes too long to get in: whom to tell what.
    pub(crate) fn enforce_deadlines(
        &mut self,
        now: Instant,
        engine: &mut impl Engine,
    ) -> Vec<(Id, Response)> {
        let mut told = Vec::new();
        for session in &mut self.all {
            if session.deadline.take_if(|deadline| *deadline <= now).is_some() {
                session.cause = ExecCause::Deadline;
                session.told_by();
                engine.kill_session(&session.child);
            }
            if session.told_by.take_if(|by| *by <= now).is_some()
                && let Some((client, end)) = session.release()
            {
                self.spent.push(client);
                told.push((client, Response::Ended(end)));
            }
        }
        let late = |arrival: &&mut Arrival| arrival.enter_by.is_some_and(|by| by <= now);
        told.extend(self.arrivals.iter_mut().filter(late).filter_map(|arrival| {
            arrival.enter_by = None;
            let refusal = not_started(&arrival.entering.give_up());
            arrival.client.take().map(|client| (client, Response::Refused(refusal)))
        }));
        told
    }
}
