//! Frames: the bytes between two processes, and the typed messages in them. Pure; no sockets here.
//!
//! A frame is `length: u32`, `version: u16`, `body`, numbers big-endian as in MessagePack itself; `length` counts
//! what follows it. The body is one MessagePack value, structs as maps with their fields' names and enums by the
//! names of their variants, so that either side may know fewer fields than the other.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// 1: the first. 2: a launch may ask for log files. 3: a launch comes with an empty mount namespace.
const NEWEST: u16 = 3;
/// The version that this build speaks.
pub const VERSION: u16 = if cfg!(feature = "older") { NEWEST - 1 } else { NEWEST };
/// Bytes before the body.
pub const HEADER: usize = 6;
/// The largest body of the first frame on the starter's socket, which carries a whole sandbox.
pub const LAUNCH_LIMIT: usize = 16 * 1024 * 1024;
/// The largest body of every other frame.
pub const LIMIT: usize = 4 * 1024 * 1024;

const VERSION_SIZE: usize = 2;
/// Our messages nest eight deep; what nests deeper is an attack on the stack.
const DEPTH: usize = 64;

/// Why bytes are not a frame, or a frame not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Refused by its header alone, before anything is allocated for it.
    #[error("a message of {length} bytes is longer than the {limit} that are taken here")]
    TooLong {
        /// Bytes of the body.
        length: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// The length leaves no room for the version.
    #[error("a frame of length {0} has no room for its version")]
    TooShort(u32),
    /// Versions begin at 1.
    #[error("version 0 of the protocol does not exist")]
    VersionZero,
    /// Not the message that was expected.
    #[error("the message is not understood: {0}")]
    Body(String),
    /// A value cannot be written as MessagePack.
    #[error("the message cannot be written: {0}")]
    Encode(String),
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the protocol that the sender speaks.
    pub version: u16,
    /// Bytes of the body.
    pub body: usize,
}

impl Header {
    /// Reads a header, and refuses it when the body would be longer than `limit`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], [`FrameError::TooShort`], [`FrameError::VersionZero`].
    pub fn parse(bytes: [u8; HEADER], limit: usize) -> Result<Header, FrameError> {
        let [a, b, c, d, e, f] = bytes;
        let length = u32::from_be_bytes([a, b, c, d]);
        let version = u16::from_be_bytes([e, f]);
        let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(VERSION_SIZE));
        let body = body.ok_or(FrameError::TooShort(length))?;
        if body > limit {
            return Err(FrameError::TooLong { length: body, limit });
        }
        if version == 0 {
            return Err(FrameError::VersionZero);
        }
        Ok(Header { version, body })
    }
}

/// A whole frame for `message`, of this build's version.
///
/// # Errors
/// [`FrameError::TooLong`] above `limit`, [`FrameError::Encode`].
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    let mut serializer = rmp_serde::Serializer::new(&mut frame).with_struct_map();
    message.serialize(&mut serializer).map_err(|error| FrameError::Encode(error.to_string()))?;
    let body = frame.len() - HEADER;
    let length = u32::try_from(body + VERSION_SIZE).ok().filter(|_| body <= limit);
    let length = length.ok_or(FrameError::TooLong { length: body, limit })?;
    let header = length.to_be_bytes().into_iter().chain(VERSION.to_be_bytes());
    for (place, byte) in frame.iter_mut().zip(header) {
        *place = byte;
    }
    Ok(frame)
}

/// The message in a body. Fields that this build does not know are passed over.
///
/// # Errors
/// [`FrameError::Body`], also when bytes are left over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let mut rest = body;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH);
    let message = T::deserialize(&mut deserializer).map_err(|error| FrameError::Body(error.to_string()))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(FrameError::Body(format!("{} bytes follow it", rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Request, Response};
    use proptest::prelude::*;

    fn header(length: u32, version: u16) -> [u8; HEADER] {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().chain(version.to_be_bytes()).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn headers_are_refused_before_anything_is_allocated() {
        assert_eq!(Header::parse(header(2, 1), LIMIT).unwrap(), Header { version: 1, body: 0 });
        assert_eq!(Header::parse(header(9, 7), LIMIT).unwrap(), Header { version: 7, body: 7 });
        for short in [0, 1] {
            assert_eq!(Header::parse(header(short, 1), LIMIT), Err(FrameError::TooShort(short)));
        }
        assert_eq!(Header::parse(header(2, 0), LIMIT), Err(FrameError::VersionZero));
        let edge = u32::try_from(LIMIT).unwrap() + 2;
        assert!(Header::parse(header(edge, 1), LIMIT).is_ok());
        for long in [edge + 1, 1 << 31, u32::MAX] {
            assert!(matches!(Header::parse(header(long, 1), LIMIT), Err(FrameError::TooLong { .. })));
        }
    }

    /// Covers: CVE-2021-43784
    #[test]
    fn lengths_at_the_edges_of_their_kinds_arrive_whole_or_are_refused() {
        // 16 bits, and what is beyond the limit; the length of 32 bits is refused by the header alone.
        for length in [0, 31, 32, 255, 256, 65_534, 65_535, 65_536, 65_537, 1 << 20] {
            let text: String = "x".repeat(length);
            let sent = Response::Refused(crate::protocol::Refusal::NotStarted { text, exit_code: 1 });
            let frame = encode(&sent, LIMIT).unwrap();
            let (head, body) = frame.split_first_chunk::<HEADER>().unwrap();
            assert_eq!(Header::parse(*head, LIMIT).unwrap().body, body.len());
            assert_eq!(decode::<Response>(body).unwrap(), sent, "{length} bytes");
        }
        // MessagePack's own lengths: a body that promises more than it has is no reason to make room for it.
        for (marker, size) in [(0xda, 2), (0xdb, 4), (0xdc, 2), (0xdd, 4), (0xde, 2), (0xdf, 4), (0xc6, 4)] {
            let body: Vec<u8> = std::iter::once(marker).chain(std::iter::repeat_n(0xff, size)).collect();
            assert!(decode::<Request>(&body).is_err(), "{marker:x}");
            assert!(decode::<Response>(&body).is_err(), "{marker:x}");
        }
    }

    #[test]
    fn a_message_above_the_limit_is_not_written() {
        let request = Request::Signal { signal: 15 };
        let size = encode(&request, LIMIT).unwrap().len() - HEADER;
        assert!(encode(&request, size).is_ok());
        assert_eq!(encode(&request, size - 1), Err(FrameError::TooLong { length: size, limit: size - 1 }));
    }

    #[test]
    fn deep_nesting_and_lying_lengths_are_errors() {
        assert!(decode::<Request>(&vec![0x91; 100_000]).is_err());
        // array32, map32, str32 and bin32 that claim 4 GiB.
        for marker in [0xdd, 0xdf, 0xdb, 0xc6] {
            assert!(decode::<Request>(&[marker, 0xff, 0xff, 0xff, 0xff]).is_err(), "{marker:x}");
        }
    }

    #[test]
    fn bytes_after_the_message_are_an_error() {
        let mut frame = encode(&Request::State, LIMIT).unwrap();
        frame.push(0xc0);
        assert_eq!(
            decode::<Request>(frame.get(HEADER..).unwrap()),
            Err(FrameError::Body("1 bytes follow it".into()))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Response>(&bytes);
        }

        #[test]
        fn a_message_cut_short_is_an_error(signal in any::<i32>(), grace in any::<u64>(), cut in 0usize..60) {
            let frame = encode(&Request::Stop { signal, grace_ms: grace }, LIMIT).unwrap();
            let body = frame.get(HEADER..).unwrap();
            let decoded = decode::<Request>(body.get(..cut.min(body.len())).unwrap());
            prop_assert_eq!(decoded.is_ok(), cut >= body.len());
        }

        #[test]
        fn what_is_decoded_encodes_to_the_same_message(flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..4)) {
            let mut body = crate::protocol::tests::exec_request();
            for (at, byte) in flips {
                if let Some(place) = body.get_mut(at) { *place = byte; }
            }
            if let Ok(request) = decode::<Request>(&body) {
                let frame = encode(&request, LIMIT).unwrap();
                prop_assert_eq!(decode::<Request>(frame.get(HEADER..).unwrap()).unwrap(), request);
            }
        }
    }
}
