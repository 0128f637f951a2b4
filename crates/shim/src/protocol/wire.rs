//! A connection: frames and the descriptors that travel with them, over a non-blocking unix stream socket.
//!
//! The kernel keeps descriptors beside the bytes they were sent with. A frame's descriptors are sent with its first
//! byte, and a reader never reads past the end of a frame, so what arrives while a frame is read belongs to it.

use super::frame::{FrameError, HEADER, Header};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors that a frame carries: a launch comes with a mount namespace and three streams.
pub const MOST_DESCRIPTORS: usize = 4;
/// What may wait to be sent to one peer. Answers are small; a peer that lets this much pile up reads nothing.
const MOST_UNSENT: usize = 8 * 1024 * 1024;
/// Bytes taken in one read: a frame's buffer grows with what arrives, never by what its header claims.
const STEP: usize = 64 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed it between two frames: the ordinary end.
    #[error("the connection was closed")]
    Closed,
    /// The peer closed it within a frame.
    #[error("the connection was closed in the middle of a message")]
    Torn,
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More than any message carries.
    #[error("a message came with more than {MOST_DESCRIPTORS} descriptors")]
    Descriptors,
    /// The peer does not read.
    #[error("the peer does not read its answers")]
    Unread,
    /// What the kernel answered.
    #[error("the connection failed: {0}")]
    Kernel(#[from] Errno),
}

/// A frame as it arrived.
#[derive(Debug)]
pub struct Incoming {
    /// The version that the sender speaks.
    pub version: u16,
    /// One MessagePack value.
    pub body: Vec<u8>,
    /// The descriptors that came along; all are close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// One end of a connection.
pub struct Wire {
    socket: OwnedFd,
    limit: usize,
    header: Option<Header>,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    outgoing: VecDeque<Outgoing>,
}

impl Wire {
    /// Takes over a connected stream socket; frames with bodies above `limit` are refused.
    ///
    /// # Errors
    /// What making it non-blocking answers.
    pub fn new(socket: OwnedFd, limit: usize) -> Result<Wire, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Wire {
            socket,
            limit,
            header: None,
            bytes: Vec::new(),
            descriptors: Vec::new(),
            outgoing: VecDeque::new(),
        })
    }

    /// Takes frames up to another limit from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether something waits to be sent: poll for writing then.
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The next whole frame, or `None` when the peer has not sent it all yet.
    ///
    /// # Errors
    /// [`WireError`]; the connection is of no use afterwards.
    pub fn receive(&mut self) -> Result<Option<Incoming>, WireError> {
        loop {
            let wanted = match self.header {
                None => HEADER,
                Some(header) => header.body,
            };
            if self.bytes.len() == wanted {
                if let Some(frame) = self.advance()? {
                    return Ok(Some(frame));
                }
                continue;
            }
            let step = (wanted - self.bytes.len()).min(STEP);
            match self.read_some(step) {
                Ok(0) if self.header.is_none() && self.bytes.is_empty() => return Err(WireError::Closed),
                Ok(0) => return Err(WireError::Torn),
                Ok(_) => {}
                Err(WireError::Kernel(Errno::AGAIN)) => return Ok(None),
                Err(WireError::Kernel(Errno::INTR)) => {}
                Err(WireError::Kernel(Errno::CONNRESET)) => return Err(WireError::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    /// A whole header becomes the wish for a body, a whole body becomes a frame.
    fn advance(&mut self) -> Result<Option<Incoming>, WireError> {
        let bytes = std::mem::take(&mut self.bytes);
        let Some(header) = self.header.take() else {
            let bytes: [u8; HEADER] = bytes.try_into().map_err(|_| WireError::Torn)?;
            self.header = Some(Header::parse(bytes, self.limit)?);
            return Ok(None);
        };
        let descriptors = std::mem::take(&mut self.descriptors);
        Ok(Some(Incoming { version: header.version, body: bytes, descriptors }))
    }

    fn read_some(&mut self, step: usize) -> Result<usize, WireError> {
        let have = self.bytes.len();
        self.bytes.resize(have + step, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = self.bytes.get_mut(have..).unwrap_or_default();
        let answer = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(into)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        );
        let got = answer.as_ref().map_or(0, |message| message.bytes);
        self.bytes.truncate(have + got);
        let message = answer?;
        for ancillary in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary {
                self.descriptors.extend(descriptors);
            }
        }
        let cut = message.flags.contains(ReturnFlags::CTRUNC);
        if cut || self.descriptors.len() > MOST_DESCRIPTORS {
            return Err(WireError::Descriptors);
        }
        Ok(got)
    }

    /// Queues a frame and sends what the peer takes now.
    ///
    /// # Errors
    /// [`WireError::Unread`], [`WireError::Descriptors`], [`WireError::Kernel`].
    pub fn send(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<(), WireError> {
        if descriptors.len() > MOST_DESCRIPTORS {
            return Err(WireError::Descriptors);
        }
        let waiting: usize = self.outgoing.iter().map(|out| out.bytes.len()).sum();
        if !self.outgoing.is_empty() && waiting + frame.len() > MOST_UNSENT {
            return Err(WireError::Unread);
        }
        self.outgoing.push_back(Outgoing { bytes: frame, sent: 0, descriptors });
        self.flush()
    }

    /// Sends what the peer takes now.
    ///
    /// # Errors
    /// [`WireError::Kernel`]: `EPIPE` when the peer is gone.
    pub fn flush(&mut self) -> Result<(), WireError> {
        while let Some(out) = self.outgoing.front_mut() {
            match send_some(&self.socket, out) {
                Ok(()) if out.sent == out.bytes.len() => drop(self.outgoing.pop_front()),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(WireError::Kernel(errno)),
            }
        }
        // Gives the queue's memory back: a shim is idle for days.
        self.outgoing = VecDeque::new();
        Ok(())
    }
}

fn send_some(socket: &OwnedFd, out: &mut Outgoing) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = out.descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::INVAL);
    }
    let rest = out.bytes.get(out.sent..).unwrap_or_default();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = sendmsg(socket, &[IoSlice::new(rest)], &mut ancillary, flags)?;
    drop(borrowed);
    out.sent += sent;
    out.descriptors.clear();
    Ok(())
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{LIMIT, encode};
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Wire::new(ours.into(), LIMIT).unwrap(), theirs)
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn frames_come_whole_whatever_the_cuts() {
        let (mut wire, mut peer) = pair();
        let frame = encode(&"hello", LIMIT).unwrap();
        for byte in frame.iter().chain(&frame) {
            peer.write_all(&[*byte]).unwrap();
            if let Some(incoming) = wire.receive().unwrap() {
                assert_eq!(incoming.body, frame.get(HEADER..).unwrap());
                assert_eq!(incoming.version, super::super::frame::VERSION);
            }
        }
        assert!(wire.receive().unwrap().is_none());
    }

    #[test]
    fn a_peer_that_leaves_is_told_apart_from_one_that_breaks_off() {
        let (mut wire, peer) = pair();
        drop(peer);
        assert!(matches!(wire.receive(), Err(WireError::Closed)));
        let frame = encode(&"hello", LIMIT).unwrap();
        for cut in 1..frame.len() {
            let (mut wire, mut peer) = pair();
            peer.write_all(frame.get(..cut).unwrap()).unwrap();
            drop(peer);
            assert!(matches!(wire.receive(), Err(WireError::Torn)), "cut after {cut}");
        }
    }

    #[test]
    fn descriptors_belong_to_the_frame_they_came_with() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut left = Wire::new(ours.into(), LIMIT).unwrap();
        let mut right = Wire::new(theirs.into(), LIMIT).unwrap();
        for count in [0, 1, MOST_DESCRIPTORS, 0, 2] {
            let descriptors = (0..count).map(|_| null()).collect();
            left.send(encode(&count, LIMIT).unwrap(), descriptors).unwrap();
        }
        for count in [0, 1, MOST_DESCRIPTORS, 0, 2] {
            let incoming = right.receive().unwrap().unwrap();
            assert_eq!(super::super::frame::decode::<usize>(&incoming.body).unwrap(), count);
            assert_eq!(incoming.descriptors.len(), count);
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_and_none_is_kept() {
        let (mut wire, peer) = pair();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let nulls: Vec<OwnedFd> = (0..253).map(|_| null()).collect();
        let borrowed: Vec<BorrowedFd<'_>> = nulls.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let frame = encode(&1, LIMIT).unwrap();
        sendmsg(&peer, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::empty()).unwrap();
        assert!(matches!(wire.receive(), Err(WireError::Descriptors)));
        drop(wire);
        // Other tests of this process open files as well: far fewer than 253.
        drop((borrowed, peer));
        let before = open();
        drop(nulls);
        assert!(open() + 200 < before + 253, "{before}");
        assert!(before < 253 + 120, "{before} descriptors: the refused ones were kept");
    }

    #[test]
    fn a_long_answer_waits_for_a_slow_reader_and_has_a_cap() {
        let (mut wire, mut peer) = pair();
        wire.send(vec![7; 6 * 1024 * 1024], Vec::new()).unwrap();
        assert!(wire.has_unsent());
        assert!(matches!(wire.send(vec![7; 6 * 1024 * 1024], Vec::new()), Err(WireError::Unread)));
        let mut total = 0;
        let mut buffer = vec![0; 1024 * 1024];
        while wire.has_unsent() {
            total += peer.read(&mut buffer).unwrap();
            wire.flush().unwrap();
        }
        drop(wire);
        total += peer.read_to_end(&mut buffer).unwrap();
        assert_eq!(total, 6 * 1024 * 1024);
    }

    proptest! {
        #[test]
        fn arbitrary_streams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (mut wire, mut peer) = pair();
            peer.write_all(&bytes).unwrap();
            drop(peer);
            while let Ok(Some(_)) = wire.receive() {}
        }
    }
}
