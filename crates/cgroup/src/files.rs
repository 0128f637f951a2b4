//! Reading and writing the small files of the kernel by directory descriptor, with a limit on every length.

use crate::Error;
use crate::error::Action;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::path::Path;

/// Enough for every file that says a fixed number of things.
pub(crate) const SMALL: usize = 64 << 10;
/// Enough for a line per device.
pub(crate) const PER_DEVICE: usize = 1 << 20;
/// Enough for the most processes that a kernel can have (4 Mi numbers of 7 digits).
pub(crate) const PER_PROCESS: usize = 32 << 20;

const FIRST_READ: usize = 4096;

/// Why a read came to nothing; the caller knows the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    Open(Errno),
    Read(Errno),
    TooLong(usize),
}

impl ReadError {
    pub(crate) fn at(self, path: impl Into<std::path::PathBuf>) -> Error {
        let path = path.into();
        match self {
            ReadError::Open(errno) => Error::Kernel { action: Action::Open, path, errno },
            ReadError::Read(errno) => Error::Kernel { action: Action::Read, path, errno },
            ReadError::TooLong(limit) => Error::TooLong { path, limit },
        }
    }

    /// Whether the file or its group is not there (any more).
    pub(crate) fn is_absence(self) -> bool {
        matches!(self, ReadError::Open(Errno::NOENT | Errno::NODEV) | ReadError::Read(Errno::NODEV))
    }
}

/// All bytes of the file `name` in `dir`.
pub(crate) fn read(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    limit: usize,
) -> Result<Vec<u8>, ReadError> {
    let file = open(dir, name, OFlags::RDONLY).map_err(ReadError::Open)?;
    let mut bytes = vec![0u8; FIRST_READ];
    let mut length = 0;
    loop {
        // One byte over the limit is room enough to see that there is more.
        if length == bytes.len() {
            bytes.resize((length * 2).min(limit + 1), 0);
        }
        match rustix::io::read(&file, bytes.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(ReadError::Read(errno)),
        }
        if length > limit {
            return Err(ReadError::TooLong(limit));
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// All bytes of the file at `path`.
pub(crate) fn read_path(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    read(CWD, path, limit).map_err(|error| error.at(path))
}

/// Writes `value` to the file `name` in `dir` with one call, as kernel files want it.
pub(crate) fn write(dir: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<(), Errno> {
    let file = open(dir, name, OFlags::WRONLY)?;
    write_open(file.as_fd(), value)
}

/// Writes `value` with one call.
pub(crate) fn write_open(file: BorrowedFd<'_>, value: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, value) {
            Ok(count) if count == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Opens the file `name` in `dir`.
pub(crate) fn open(dir: BorrowedFd<'_>, name: impl rustix::path::Arg, how: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, how | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_a_limit() {
        let path = Path::new("/proc/self/mountinfo");
        let all = read_path(path, 1 << 20).unwrap();
        assert!(all.ends_with(b"\n"));
        assert!(matches!(read_path(path, 10), Err(Error::TooLong { limit: 10, .. })));
        assert_eq!(read_path(path, all.len()).unwrap().len(), all.len());
        // Never ends.
        assert!(matches!(read_path(Path::new("/dev/zero"), 100_000), Err(Error::TooLong { .. })));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_path(Path::new("/proc/self/no such"), SMALL).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /proc/self/no such: "), "{error}");
    }
}
