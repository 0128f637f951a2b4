//! What is asked of a supervisor, over a socket in its directory. One packet is one message.
//!
//! Only what must go through the supervisor does: what ends or restarts tasks, which it would otherwise undo.
//! Everything else is read from the state file or asked of the shims.

use crate::lifecycle::Delay;
use crate::state::{Keep, StateError, failed};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};
use serde::{Deserialize, Serialize};
use std::os::fd::AsRawFd;

const NAME: &str = "control";
/// A message names one task at most.
const LARGEST: usize = 16 * 1024;
/// Clients that may wait at once.
const MOST_CLIENTS: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// End a task, or all. Answered when it has ended.
    Stop {
        /// Which; all when none is named.
        task: Option<String>,
        /// In place of the kill timeout.
        grace_ms: Option<u64>,
        /// Whether shutdown delays are kept.
        delay: Delay,
    },
    /// Restart a task, or all that run. Answered when that has begun.
    Restart {
        /// Which.
        task: Option<String>,
    },
    /// End everything, finished tasks too, and begin anew.
    Renew,
    /// Send a signal to a task's first process, or to all.
    Signal {
        /// Which.
        task: Option<String>,
        /// Its number.
        signal: i32,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was not.
    Refused(String),
}

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is none.
    #[error(
        "nobody supervises the allocation {id}; `bivouac resume` takes it up again, `bivouac gc` removes what is left"
    )]
    Nobody {
        /// Which.
        id: String,
    },
    /// The connection failed.
    #[error("cannot ask the supervisor of {id}: {errno}")]
    Kernel {
        /// Whose.
        id: String,
        /// The answer.
        errno: Errno,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// A directory that stands for its path, which may be longer than a socket's name.
fn address(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

fn directory(keep: &Keep) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, keep.path(), flags, Mode::empty())
}

/// Asks, and waits for the answer however long the stop of a task takes.
///
/// # Errors
/// [`ControlError`].
pub fn ask(keep: &Keep, request: &Request) -> Result<(), ControlError> {
    let id = || keep.id().to_owned();
    let kernel = |errno| ControlError::Kernel { id: id(), errno };
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(kernel)?;
    let nobody = |errno| match errno {
        Errno::CONNREFUSED | Errno::NOENT => ControlError::Nobody { id: id() },
        errno => kernel(errno),
    };
    let directory = directory(keep).map_err(nobody)?;
    connect(&socket, &address(directory.as_fd()).map_err(kernel)?).map_err(nobody)?;
    let bytes = serde_json::to_vec(request).unwrap_or_default();
    let mut buffer = vec![0u8; LARGEST];
    let answered = send(&socket, &bytes, SendFlags::NOSIGNAL).and_then(|_| {
        loop {
            match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                other => break other.map(|(length, _)| length),
            }
        }
    });
    let length = match answered {
        // It ended before it had read the question: no answer, as when it ends before the answer.
        Err(Errno::CONNRESET | Errno::PIPE) => 0,
        other => other.map_err(kernel)?,
    };
    match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(text)) => Err(ControlError::Refused(text)),
        // It ended with everything: that is what a stop asks for.
        Err(_) if length == 0 && matches!(request, Request::Stop { .. }) => Ok(()),
        Err(_) => Err(ControlError::Nobody { id: id() }),
    }
}

/// The supervisor's side: who asks, and who waits for an answer.
#[derive(Debug)]
pub(crate) struct Desk {
    listener: OwnedFd,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// What it waits for the end of; nothing while it has not asked.
    waits: Option<Waits>,
}

/// What a client waits for the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// One task.
    Task(usize),
    /// The allocation.
    All,
}

impl Desk {
    /// Listens in the supervisor's directory, whose lock it holds.
    pub(crate) fn open(keep: &Keep) -> Result<Desk, StateError> {
        let path = keep.path().join(NAME);
        let cannot = |errno: Errno| failed("listen at", &path)(errno.into());
        // A socket of a supervisor that has died: the lock is ours, so nobody listens there.
        let _ = std::fs::remove_file(&path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(cannot)?;
        let directory = directory(keep).map_err(cannot)?;
        bind(&listener, &address(directory.as_fd()).map_err(cannot)?).map_err(cannot)?;
        listen(&listener, 16).map_err(cannot)?;
        Ok(Desk { listener, clients: Vec::new() })
    }

    /// What to wait for: the listener, then the clients.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(|client| client.socket.as_fd()))
    }

    /// Takes new clients and the requests that have arrived, each with the place of who asked.
    pub(crate) fn take(&mut self) -> Vec<(usize, Request)> {
        while self.clients.len() < MOST_CLIENTS
            && let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            if socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root()) {
                self.clients.push(Client { socket, waits: None });
            }
        }
        let mut asked = Vec::new();
        let mut gone = Vec::new();
        let mut buffer = vec![0u8; LARGEST];
        for (index, client) in self.clients.iter().enumerate() {
            match recv(&client.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length @ 1.., _)) => {
                    match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
                        Ok(request) => asked.push((index, request)),
                        Err(_) => gone.push(index),
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok((0, _)) | Err(_) => gone.push(index),
            }
        }
        // The places of those that asked stay as they are: whoever has gone is only marked by a closed socket.
        for index in gone.into_iter().rev() {
            if asked.iter().all(|(who, _)| *who < index) {
                self.clients.remove(index);
            }
        }
        asked
    }

    /// Answers a client.
    pub(crate) fn answer(&mut self, who: usize, answer: &Answer) {
        if let Some(client) = self.clients.get_mut(who) {
            client.waits = None;
            let bytes = serde_json::to_vec(answer).unwrap_or_default();
            // One that has gone needs no answer.
            let _ = send(&client.socket, &bytes, SendFlags::NOSIGNAL);
        }
    }

    /// Lets a client wait for an end.
    pub(crate) fn enlist(&mut self, who: usize, waits: Waits) {
        if let Some(client) = self.clients.get_mut(who) {
            client.waits = Some(waits);
        }
    }

    /// Answers everyone whose wait is over.
    pub(crate) fn release(&mut self, is_over: impl Fn(Waits) -> bool) {
        for who in 0..self.clients.len() {
            let over = self.clients.get(who).and_then(|client| client.waits).is_some_and(&is_over);
            if over {
                self.answer(who, &Answer::Done);
            }
        }
    }
}
