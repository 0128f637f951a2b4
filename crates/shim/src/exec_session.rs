//! Exec sessions: further processes in the sandbox, each tied to the connection of the client that asked for it.
//!
//! The streams are the client's own pipes or a terminal whose master it holds; nothing is copied here. So the exit
//! status is known and told when the process has ended, whoever else still holds its pipes. A client that goes away
//! takes its process along.

use crate::engine::{Engine, Newcomer};
use crate::protocol::{Exec, ExecCause, ExecEnd, Refusal, Request, Response, Started};
use crate::serve::{Id, not_understood, resize, streams};
use bivouac_sys::clone::Child;
use bivouac_sys::{signal, wait};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Sessions at once.
const MOST: usize = 64;
/// How long the entering itself may take: a hung mount must not hang the shim.
const ENTER_WITHIN: Duration = Duration::from_secs(10);

struct Session {
    child: Child,
    /// None when it has gone: then nobody is told.
    client: Option<Id>,
    /// Kept for resizing; the client has one of its own.
    terminal: Option<OwnedFd>,
    deadline: Option<Instant>,
    cause: ExecCause,
}

/// All sessions of a task.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Vec<Session>,
    /// Connections whose session has ended. What still comes on them was meant for the process, never for the task.
    spent: Vec<Id>,
}

impl Sessions {
    /// Whether this connection is a session, or was one.
    pub(crate) fn has(&self, client: Id) -> bool {
        self.spent.contains(&client) || self.all.iter().any(|session| session.client == Some(client))
    }

    /// Brings the process in. The terminal's master for the client comes back, if there is one.
    pub(crate) fn start(
        &mut self,
        client: Id,
        exec: Exec,
        descriptors: Vec<OwnedFd>,
        engine: &mut impl Engine,
    ) -> Result<(Started, Option<OwnedFd>), Refusal> {
        if self.all.len() >= MOST {
            return Err(Refusal::TooMany { what: "exec sessions in a task".into(), most: MOST as u64 });
        }
        let streams = streams(exec.streams, descriptors);
        let enter_by = Instant::now() + ENTER_WITHIN;
        let Newcomer { child, command, terminal } = engine.enter(&exec.process, streams, enter_by)?;
        let given = exec.deadline_ms.map(Duration::from_millis);
        let deadline = given.and_then(|given| Instant::now().checked_add(given));
        let started = Started { pid: child.pid, command };
        let copy = terminal.as_ref().and_then(|terminal| terminal.try_clone().ok());
        let cause = ExecCause::Own;
        self.all.push(Session { child, client: Some(client), terminal, deadline, cause });
        Ok((started, copy))
    }

    pub(crate) fn pidfds(&self) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
        self.all.iter().map(|session| (session.child.pid, session.child.pidfd.as_fd()))
    }

    /// A session whose process has ended: whom to tell what.
    pub(crate) fn reap(&mut self, pid: i32) -> Option<(Id, ExecEnd)> {
        let index = self.all.iter().position(|session| session.child.pid == pid)?;
        let ending = match wait::try_reap(self.all.get(index)?.child.pidfd.as_fd()) {
            Ok(None) => return None,
            Ok(Some(reaped)) => reaped.ending.into(),
            // Reaped by somebody else: cannot be, and must not make the shim spin.
            Err(_) => crate::status::Ending::Exited { code: 1 },
        };
        let session = self.all.swap_remove(index);
        self.spent.extend(session.client);
        session.client.map(|client| (client, ExecEnd { ending, cause: session.cause }))
    }

    /// A request on a session's connection.
    pub(crate) fn request(&mut self, client: Id, request: &Request) -> Response {
        let Some(session) = self.all.iter().find(|session| session.client == Some(client)) else {
            return Response::Refused(Refusal::NotRunning);
        };
        let answer = match request {
            Request::Signal { signal } => {
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
        for session in self.all.iter_mut().filter(|session| session.client == Some(client)) {
            session.client = None;
            // Our copy of the master would keep the hang-up from the process.
            session.terminal = None;
            session.deadline = None;
            engine.kill_session(&session.child);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().filter_map(|session| session.deadline).min()
    }

    /// Kills what has run too long.
    pub(crate) fn enforce_deadlines(&mut self, now: Instant, engine: &mut impl Engine) {
        for session in &mut self.all {
            if session.deadline.is_some_and(|deadline| deadline <= now) {
                session.deadline = None;
                session.cause = ExecCause::Deadline;
                engine.kill_session(&session.child);
            }
        }
    }
}
