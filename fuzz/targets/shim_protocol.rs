//! Bytes from a hostile peer of a shim: typed errors, and what is understood reads the same after writing it again.
#![no_main]

use bivouac_shim::protocol::frame::{HEADER, Header, LIMIT, decode, encode};
use bivouac_shim::protocol::wire::{Wire, WireError};
use bivouac_shim::protocol::{Request, Response};
use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn stable<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(message) = decode::<T>(body) else { return };
    let frame = encode(&message, LIMIT).expect("what was read can be written");
    let again: T = decode(&frame[HEADER..]).expect("what was written can be read");
    assert_eq!(encode(&again, LIMIT).expect("again"), frame, "writing is stable");
}

fuzz_target!(|bytes: &[u8]| {
    stable::<Request>(bytes);
    stable::<Response>(bytes);
    if let Some(header) = bytes.first_chunk::<HEADER>()
        && let Ok(header) = Header::parse(*header, LIMIT)
    {
        assert!(header.body <= LIMIT && header.version > 0);
    }
    over_a_socket(bytes);
});

/// The same bytes as a stream: frames, an error or the end, and never a wait.
fn over_a_socket(bytes: &[u8]) {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
    let (ours, theirs) = pair.expect("a pair of sockets");
    let _ = rustix::io::write(&theirs, bytes);
    let _ = shutdown(&theirs, Shutdown::Write);
    let mut wire = Wire::new(ours, LIMIT).expect("a wire");
    let mut frames = 0;
    loop {
        match wire.receive() {
            Ok(Some(incoming)) => frames += incoming.body.len() + HEADER,
            Ok(None) => panic!("the peer has closed, and the wire waits for more"),
            Err(WireError::Closed) => return,
            Err(_) => break,
        }
        assert!(frames <= bytes.len(), "more came out than went in");
    }
    // After an error the connection is of no use; asking it again must not panic either.
    let _ = wire.receive();
}
