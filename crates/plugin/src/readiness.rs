//! Waiting for descriptors on the one thread.

use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits on a descriptor of any kind: pipe, socket, terminal, process.
#[expect(
    deprecated,
    reason = "the way in that needs no unsafe; deprecated for types whose descriptor may change, which OwnedFd's cannot"
)]
pub(crate) fn readiness(descriptor: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}
