//! Output that is kept in log files: pipes of the task, emptied by the shim's own loop.

use crate::protocol::{LogFiles, Refusal};
use crate::rotated_log::{RotatedLog, Taken};
use bivouac_sys::Errno;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What is taken from one pipe before others have their turn: each piece is at most what a pipe holds.
const TURN: usize = 4;
/// How long the last writers of a task that has ended may take to be gone. Its processes were killed; longer lives
/// only a descriptor that was handed to somebody outside of the task.
const LAST_WORDS: Duration = Duration::from_millis(500);

struct Collector {
    pipe: OwnedFd,
    log: RotatedLog,
}

/// All of them: two at most.
#[derive(Default)]
pub(super) struct Collectors {
    /// Emptied when the last writer is gone; places are kept.
    all: Vec<Option<Collector>>,
}

impl Collectors {
    /// Opens the files and makes the pipe, whose other end comes back.
    pub(super) fn add(&mut self, directory: OwnedFd, files: LogFiles) -> Result<OwnedFd, Refusal> {
        let failed = |what: String, errno: Errno| Refusal::Failed { what, answer: errno.to_string() };
        let log =
            RotatedLog::open(directory, files).map_err(|error| failed(error.to_string(), error.errno))?;
        let pipe = pipe_with(PipeFlags::CLOEXEC).and_then(|(ours, theirs)| {
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok((ours, theirs))
        });
        let (pipe, theirs) =
            pipe.map_err(|errno| failed("make a pipe for the task's output".into(), errno))?;
        self.all.push(Some(Collector { pipe, log }));
        Ok(theirs)
    }

    /// The pipes that still have writers, with their places.
    pub(super) fn polled(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let places = self.all.iter().enumerate();
        places.filter_map(|(index, place)| place.as_ref().map(|collector| (index, collector.pipe.as_fd())))
    }

    /// Takes some of what waits in a pipe.
    pub(super) fn collect(&mut self, index: usize) {
        let Some(place) = self.all.get_mut(index) else { return };
        for _ in 0..TURN {
            let Some(collector) = place else { return };
            match collector.log.take_from(collector.pipe.as_fd()) {
                Taken::Some => {}
                Taken::Nothing => return,
                Taken::End => {
                    collector.log.close();
                    *place = None;
                }
            }
        }
    }

    /// Takes everything that the task has said, to the end. Nothing is collected afterwards.
    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let open: Vec<usize> = self.polled().map(|(index, _)| index).collect();
            if open.is_empty() || left.is_zero() {
                break;
            }
            let mut fds: Vec<PollFd<'_>> =
                self.polled().map(|(_, pipe)| PollFd::from_borrowed_fd(pipe, PollFlags::IN)).collect();
            if poll(&mut fds, Some(&super::until(deadline))).is_err_and(|errno| errno != Errno::INTR) {
                break;
            }
            for index in open {
                self.collect(index);
            }
        }
        for collector in self.all.iter_mut().flatten() {
            collector.log.close();
        }
        self.all.clear();
    }
}
