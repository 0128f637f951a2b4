//! What the tests' web servers share.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

/// Reads a request's head, whatever it asks for; what comes after it is read from what comes back.
pub(crate) fn heard(stream: &TcpStream) -> BufReader<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        line.clear();
    }
    reader
}
