//! Who is connected: the starter and whoever came later through the socket, their messages, and who waits for what.

use super::Order;
use crate::machine::List;
use crate::protocol::frame::{LIMIT, VERSION, decode, encode};
use crate::protocol::wire::{Incoming, Wire};
use crate::protocol::{Refusal, Request, Response};
use bivouac_sandbox::EmptyMounts;
use bivouac_sys::Errno;
use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, socket_with};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Name of the socket in the run directory.
pub const SOCKET: &str = "shim.sock";
/// Connections at once. A face that watches a task holds one or two.
const MOST_CLIENTS: usize = 64;
const BACKLOG: i32 = 16;
/// How long nobody is let in after the process ran out of descriptors: `poll` would not sleep otherwise.
const REST: Duration = Duration::from_secs(1);

/// A connection. Numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

struct Client {
    id: Id,
    wire: Wire,
}

/// What a client said.
pub(crate) enum Message {
    /// Nothing whole.
    None,
    /// A request with its descriptors.
    Request(Request, Vec<OwnedFd>),
    /// Something that is refused without asking the machine; the connection goes on.
    Refused(Refusal),
}

/// All connections.
pub(crate) struct Clients {
    listener: OwnedFd,
    rest: Option<Instant>,
    all: Vec<Client>,
    last: u64,
    gone: VecDeque<Id>,
    waiting: Vec<(Id, List)>,
    waiting_for_oom: Vec<(Id, u64)>,
}

/// Makes the socket in the run directory. Its address goes through our own descriptor of the directory, so that the
/// directory's path may be longer than the 107 bytes that an address holds.
pub(crate) fn listen(run_dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &address(run_dir)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The address of the socket in a run directory, for this process.
pub(crate) fn address(run_dir: BorrowedFd<'_>) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", run_dir.as_raw_fd()))
}

impl Clients {
    pub(crate) fn new(listener: OwnedFd, starter: Wire) -> (Clients, Id) {
        let id = Id(0);
        let all = vec![Client { id, wire: starter }];
        let (gone, waiting) = (VecDeque::new(), Vec::new());
        (Clients { listener, rest: None, all, last: 0, gone, waiting, waiting_for_oom: Vec::new() }, id)
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.rest.is_none().then(|| self.listener.as_fd())
    }

    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.rest
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.rest = self.rest.filter(|until| *until > now);
    }

    pub(crate) fn polled(&self) -> impl Iterator<Item = (Id, BorrowedFd<'_>, PollFlags)> {
        self.all.iter().map(|client| {
            let flags = if client.wire.has_unsent() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            (client.id, client.wire.as_fd(), flags)
        })
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.all.iter().any(|client| client.wire.has_unsent())
    }

    /// Lets in who knocks: only root, and only so many.
    pub(crate) fn accept(&mut self) {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.rest = Some(Instant::now() + REST);
                    return;
                }
            };
            let root = socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root());
            if let (true, Ok(wire)) = (root, Wire::new(socket, LIMIT)) {
                self.admit(wire);
            }
        }
    }

    fn admit(&mut self, mut wire: Wire) {
        if self.all.len() >= MOST_CLIENTS {
            let what = "connections to the shim of a task".to_owned();
            return refuse_on(&mut wire, Refusal::TooMany { what, most: MOST_CLIENTS as u64 });
        }
        self.last += 1;
        self.all.push(Client { id: Id(self.last), wire });
    }

    /// The next thing a client says; it may turn out to be gone.
    pub(crate) fn receive(&mut self, id: Id) -> Message {
        let Some(client) = self.all.iter_mut().find(|client| client.id == id) else { return Message::None };
        match client.wire.receive() {
            Ok(Some(incoming)) => match request(incoming) {
                Ok((request, descriptors)) => Message::Request(request, descriptors),
                Err(refusal) => Message::Refused(refusal),
            },
            Ok(None) => Message::None,
            Err(crate::protocol::wire::WireError::Frame(error)) => {
                // Where the next frame begins is not known any more.
                refuse_on(&mut client.wire, not_understood(error.to_string()));
                self.remove(id);
                Message::None
            }
            Err(_) => {
                self.remove(id);
                Message::None
            }
        }
    }

    pub(crate) fn flush(&mut self, id: Id) {
        let client = self.all.iter_mut().find(|client| client.id == id);
        if client.is_some_and(|client| client.wire.flush().is_err()) {
            self.remove(id);
        }
    }

    /// Answers, if the client is still there.
    pub(crate) fn answer(&mut self, id: Id, response: &Response, descriptors: Vec<OwnedFd>) {
        let Some(client) = self.all.iter_mut().find(|client| client.id == id) else { return };
        let sent = encode(response, LIMIT).map(|frame| client.wire.send(frame, descriptors));
        if !matches!(sent, Ok(Ok(()))) {
            self.remove(id);
        }
    }

    pub(crate) fn refuse(&mut self, id: Id, refusal: Refusal) {
        self.answer(id, &Response::Refused(refusal), Vec::new());
    }

    fn remove(&mut self, id: Id) {
        self.all.retain(|client| client.id != id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.waiting_for_oom.retain(|(waiting, _)| *waiting != id);
        self.gone.push_back(id);
    }

    /// A connection that has ended since this was last asked.
    pub(crate) fn next_gone(&mut self) -> Option<Id> {
        self.gone.pop_front()
    }

    pub(crate) fn enlist(&mut self, id: Id, list: List) {
        self.waiting.push((id, list));
    }

    pub(crate) fn enlist_for_oom(&mut self, id: Id, seen: u64) {
        self.waiting_for_oom.push((id, seen));
    }

    /// Answers everyone on the chosen lists, and takes them off.
    pub(crate) fn answer_lists(&mut self, lists: &[List], response: &Response) {
        let (told, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, list)| lists.contains(list));
        self.waiting = rest;
        for (id, _) in told {
            self.answer(id, response, Vec::new());
        }
    }

    /// Answers everyone who waits for a smaller count than `kills`; with the end of the task, everyone.
    pub(crate) fn answer_oom(&mut self, kills: Option<u64>, response: &Response) {
        let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting_for_oom)
            .into_iter()
            .partition(|(_, seen)| kills.is_none_or(|kills| kills > *seen));
        self.waiting_for_oom = rest;
        for (id, _) in told {
            self.answer(id, response, Vec::new());
        }
    }
}

/// Sends a refusal as far as the peer takes it now: the connection ends anyway.
pub(crate) fn refuse_on(wire: &mut Wire, refusal: Refusal) {
    if let Ok(frame) = encode(&Response::Refused(refusal), LIMIT) {
        let _ = wire.send(frame, Vec::new());
    }
}

pub(crate) fn not_understood(text: String) -> Refusal {
    Refusal::NotUnderstood { version: VERSION, text }
}

fn request(incoming: Incoming) -> Result<(Request, Vec<OwnedFd>), Refusal> {
    let request: Request = decode(&incoming.body).map_err(|error| not_understood(error.to_string()))?;
    let expected = match &request {
        Request::Launch(launch) => 1 + launch.streams.descriptors(),
        Request::Exec(exec) => exec.streams.descriptors(),
        Request::State
        | Request::Wait
        | Request::WaitOom { .. }
        | Request::Signal { .. }
        | Request::Stop { .. }
        | Request::Resize(_)
        | Request::Terminal
        | Request::Stats
        | Request::Destroy(_) => 0,
    };
    let came = incoming.descriptors.len();
    if came != expected {
        return Err(not_understood(format!(
            "{came} descriptors came with a message that carries {expected}"
        )));
    }
    if let Request::Signal { signal } | Request::Stop { signal, .. } = &request
        && !(1..=bivouac_sys::signal::LAST).contains(signal)
    {
        let answer = format!("signals are 1 to {}", bivouac_sys::signal::LAST);
        return Err(Refusal::Failed { what: format!("send signal {signal}"), answer });
    }
    Ok((request, incoming.descriptors))
}

/// The first message of the starter. Everything in it protects, so nothing in it may be passed over: only a face of
/// this very version is understood.
pub(crate) fn order(incoming: Incoming) -> Result<Order, Refusal> {
    if incoming.version != VERSION {
        let text = format!(
            "a launch by a face of version {}; start it with the shim of that version",
            incoming.version
        );
        return Err(not_understood(text));
    }
    match request(incoming)? {
        (Request::Launch(launch), descriptors) => {
            let mut given = descriptors.into_iter();
            let empty =
                given.next().ok_or_else(|| not_understood("a launch without descriptors".to_owned()))?;
            Ok(Order { launch: *launch, empty: EmptyMounts::given(empty), streams: given.collect() })
        }
        _ => Err(not_understood("the first message must be a launch".to_owned())),
    }
}
