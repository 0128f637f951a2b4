//! Reading the times of a log file, forwards, beside the log.
//!
//! The index is as little to be trusted as the log: whatever it says can only be a wrong time.

use super::regular;
use bivouac_shim::log_times::{RECORD, Record, index_name, may_stand};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Records that are read in one go.
const RECORDS: usize = 256;

/// The times of one log file.
#[derive(Debug)]
pub(super) struct Times {
    index: File,
    /// Where the first of those lies that were not read yet.
    position: u64,
    ahead: VecDeque<Record>,
    current: Option<Record>,
}

impl Times {
    pub(super) fn open(directory: &OwnedFd, log: &str, number: u64) -> Result<Times, Errno> {
        let index = regular(directory, &index_name(log, number))?;
        Ok(Times { index, position: 0, ahead: VecDeque::new(), current: None })
    }

    /// When what lies at `place` was written. Places are asked for in their order.
    pub(super) fn at(&mut self, place: u64) -> Option<i64> {
        loop {
            if self.ahead.is_empty() && may_stand(self.position, place) {
                self.read_ahead();
            }
            match self.ahead.front() {
                Some(next) if next.offset <= place => self.current = self.ahead.pop_front(),
                _ => return self.current.map(|record| record.unix_millis),
            }
        }
    }

    fn read_ahead(&mut self) {
        let mut bytes = [0; RECORD * RECORDS];
        // One that cannot be read has no times.
        let read = self.index.read_at(&mut bytes, self.position).unwrap_or(0);
        let (records, _) = bytes.get(..read).unwrap_or_default().as_chunks::<RECORD>();
        self.ahead.extend(records.iter().map(|bytes| Record::from_bytes(*bytes)));
        self.position += (records.len() * RECORD) as u64;
    }
}
