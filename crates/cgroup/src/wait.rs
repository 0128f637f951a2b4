//! Waiting for a group to change, with a deadline.

use crate::error::Action;
use crate::place::Place;
use crate::{Error, Hierarchy, files};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Sleeps that grow from 0.2 ms to 20 ms, for files of version 1 that cannot be waited for.
pub(crate) struct Backoff {
    end: Instant,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(end: Instant) -> Backoff {
        Backoff { end, next: Duration::from_micros(200) }
    }

    /// Sleeps; `false` when the time was up before.
    pub(crate) fn sleep(&mut self) -> bool {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.next.min(left));
        self.next = (self.next * 2).min(Duration::from_millis(20));
        true
    }
}

/// Waits until `done` answers yes or the time is up, and answers which; `done` is asked at least once. On version 2
/// the kernel wakes us at each change of `cgroup.events`.
pub(crate) fn wait_change(
    place: &Place,
    end: Instant,
    mut done: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    /// An upper bound, should a change be of another kind than the kernel announces.
    const LONGEST: Duration = Duration::from_millis(100);
    let mut backoff = Backoff::new(end);
    if place.hierarchy != Hierarchy::Unified {
        loop {
            if done()? {
                return Ok(true);
            }
            if !backoff.sleep() {
                return Ok(false);
            }
        }
    }
    const FILE: &str = "cgroup.events";
    loop {
        let file = match files::open(place.fd(), FILE, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NODEV) => return done(),
            Err(errno) => return Err(place.kernel(Action::Open, FILE, errno)),
        };
        // Reading arms the descriptor: a change after this wakes the poll below.
        let _ = rustix::io::read(&file, &mut [0u8; 256]);
        if done()? {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now()).min(LONGEST);
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(place.kernel(Action::Watch, FILE, errno)),
        }
    }
}
