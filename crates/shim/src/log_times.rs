//! When what stands in a log file was written: beside `web.stdout.3` lies `.web.stdout.3.times`.
//!
//! The log file itself is the task's bytes and nothing else, as Nomad's readers want it. The index holds records of
//! sixteen bytes: from this place of the log on, what follows was written at this time or up to [`PRECISION`] later.
//! Each log file has an index of its own, which begins with its first byte and goes when it goes; an index becomes no
//! longer than its log, but for a first page: where a task writes less than a record's length in all that time, the
//! records are further apart. A log without one (of another face, of an earlier version) is a log without times.

use crate::protocol::LogFiles;
use crate::rotated_log::{MODE, RESOLVE, WRITE};
use bivouac_sys::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, ftruncate, openat2, unlinkat};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long what is written may go without a record of its own.
pub const PRECISION: Duration = Duration::from_millis(100);
/// A record's length in bytes.
pub const RECORD: usize = 16;
/// An index may be this long whatever its log is.
const FREE: u64 = 4096;

/// From a place of a log file on, when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The place.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub unix_millis: i64,
}

impl Record {
    /// As it lies in the index.
    pub fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let (place, time) = bytes.split_at_mut(RECORD / 2);
        place.copy_from_slice(&self.offset.to_le_bytes());
        time.copy_from_slice(&self.unix_millis.to_le_bytes());
        bytes
    }

    /// Reads one.
    pub fn from_bytes(bytes: [u8; RECORD]) -> Record {
        let both = u128::from_le_bytes(bytes);
        let half = |bits: u128| (bits as u64).to_le_bytes();
        Record { offset: u64::from_le_bytes(half(both)), unix_millis: i64::from_le_bytes(half(both >> 64)) }
    }
}

/// Whether an index of this length may get a record for this place of its log: what lies behind is about later places.
pub fn may_stand(length: u64, offset: u64) -> bool {
    length <= offset.max(FREE)
}

/// The name of the index of a log file: nothing that begins as a log file's does.
pub fn index_name(log: &str, number: u64) -> String {
    format!(".{log}.{number}.times")
}

/// The time now, to a few milliseconds: the kernel's cheapest clock.
pub(crate) fn now_millis() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// The index of the log file that is written to.
#[derive(Debug)]
pub(crate) enum Index {
    /// Nothing was written since the log was opened.
    Unopened,
    /// It grows.
    Open { file: OwnedFd, length: u64, last: Option<i64> },
    /// Nobody asked for it, or it cannot be written: the log goes on without.
    Off,
}

impl Index {
    /// Notes that what is written to the log from `offset` on was said `now`.
    pub(crate) fn note(&mut self, directory: &OwnedFd, files: &LogFiles, number: u64, offset: u64, now: i64) {
        if let Index::Unopened = self {
            *self = match open(directory, &index_name(files.name.as_str(), number)) {
                Ok((file, length)) => Index::Open { file, length, last: None },
                Err(_) => Index::Off,
            };
        }
        let Index::Open { file, length, last } = self else { return };
        // The clock may be set, in either direction.
        let is_near = |last: i64| u128::from(now.abs_diff(last)) < PRECISION.as_millis();
        if last.is_some_and(is_near) || !may_stand(*length, offset) {
            return;
        }
        let record = Record { offset, unix_millis: now }.to_bytes();
        // On a full disk what was begun of a record is overwritten by the next.
        if rustix::io::pwrite(&*file, &record, *length) == Ok(RECORD) {
            (*length, *last) = (*length + RECORD as u64, Some(now));
        }
    }

    /// Somebody has emptied the log: what stands here is about nothing any more.
    pub(crate) fn forget(&mut self) {
        if let Index::Open { file, length, last } = self {
            match ftruncate(&*file, 0) {
                Ok(()) => (*length, *last) = (0, None),
                Err(_) => *self = Index::Off,
            }
        }
    }
}

/// A new index, or one of an earlier run, if it is a regular file that has no second name; and its length.
fn open(directory: &OwnedFd, name: &str) -> Result<(OwnedFd, u64), Errno> {
    let new = WRITE | OFlags::CREATE | OFlags::EXCL;
    match openat2(directory, name, new, Mode::from_raw_mode(MODE), RESOLVE) {
        Ok(file) => {
            fchmod(&file, Mode::from_raw_mode(MODE))?;
            return Ok((file, 0));
        }
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let file = openat2(directory, name, WRITE, Mode::empty(), RESOLVE)?;
    let status = fstat(&file)?;
    let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    match u64::try_from(status.st_size) {
        Ok(size) if regular && status.st_nlink == 1 => Ok((file, size - size % RECORD as u64)),
        _ => Err(Errno::INVAL),
    }
}

/// Removes the index of a log file that is removed.
pub(crate) fn remove(directory: &OwnedFd, files: &LogFiles, number: u64) {
    let _ = unlinkat(directory.as_fd(), index_name(files.name.as_str(), number), AtFlags::empty());
}

#[cfg(test)]
mod tests;
