//! Waking up when memory runs out.

use crate::error::Action;
use crate::files;
use crate::place::Place;
use crate::{Error, Hierarchy};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

/// The file that counts kills.
pub(crate) fn counter_file(memory: &Place) -> &'static str {
    match memory.hierarchy {
        Hierarchy::Unified => "memory.events",
        Hierarchy::V1(_) => "memory.oom_control",
    }
}

/// A descriptor that becomes readable when memory has run out (version 1: eventfd; version 2: inotify, also at other
/// memory events). It never blocks. Removing the group wakes it as well.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    pub(crate) fn new(memory: &Place) -> Result<OomWatch, Error> {
        match memory.hierarchy {
            Hierarchy::Unified => {
                let refused = |errno| memory.kernel(Action::Watch, "memory.events", errno);
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                let fd = inotify::init(flags).map_err(refused)?;
                let path = memory.path.join("memory.events");
                inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY).map_err(refused)?;
                Ok(OomWatch { fd })
            }
            Hierarchy::V1(_) => {
                const FILE: &str = "memory.oom_control";
                let refused = |errno| memory.kernel(Action::Watch, FILE, errno);
                let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused)?;
                let watched = files::open(memory.fd(), FILE, OFlags::RDONLY).map_err(refused)?;
                memory
                    .write("cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), watched.as_raw_fd()))?;
                Ok(OomWatch { fd })
            }
        }
    }

    /// Takes what is waiting, so that the descriptor is quiet until the next event; answers whether there was any.
    ///
    /// # Errors
    /// What read(2) answers beside "nothing there".
    pub fn drain(&self) -> Result<bool, Errno> {
        let mut any = false;
        // Room for many events of version 2, and for the counter of version 1.
        let mut buffer = [0u8; 1024];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(any),
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
