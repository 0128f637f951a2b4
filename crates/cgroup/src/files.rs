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

/// What the kernel's small files give at once.
const CHUNK: usize = 4096;

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
    // On the stack: memory of its own for every file would be most of what a shim does when asked for figures.
    let mut chunk = [0u8; CHUNK];
    let mut bytes = Vec::new();
    loop {
        match rustix::io::read(&file, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(ReadError::Read(errno)),
        }
        if bytes.len() > limit {
            return Err(ReadError::TooLong(limit));
        }
    }
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
