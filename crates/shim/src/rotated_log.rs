//! Numbered log files: what a task says goes into `<name>.0`, `<name>.1` and so on.
//!
//! The rules, which `nomad alloc logs` and its like read by: numbers grow and none is used twice; the oldest file
//! goes when there are too many; a start goes on in the file of the highest number. A file ends at its size limit, or
//! after the last newline of its last [`SEARCH`] bytes; a line shorter than [`LINE`] is never torn. The directory may be one that strangers write to: only
//! regular files of one name are opened, beneath it and through no link, and what a stranger has put in the way is
//! left alone for the next number.
//!
//! Where it is asked for, each file has its times beside it (`log_times`).
//!
//! Nothing here ever waits for room. What cannot be written is counted and dropped, and a line says so once there is
//! room again: a full disk costs lines, never the task.

use crate::log_times::{self, Index, now_millis};
use crate::protocol::{LogFiles, LogTimes};
use bivouac_sys::Errno;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, ftruncate, openat2, unlinkat,
};
use rustix::pipe::{SpliceFlags, splice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How far from the end of a file a newline is looked for.
pub(crate) const SEARCH: u64 = 32 * 1024;
/// A file that has less room than this is not begun to be filled with a line whose end is not there yet.
const LINE: u64 = 4 * 1024;
/// What is read in one go where newlines are looked for. On the stack: a shim is small.
const BUFFER: usize = 8 * 1024;
/// Numbers that are tried where strangers have put something in the way.
const TRIES: u64 = 64;
pub(crate) const MODE: u32 = 0o644;

/// A log file that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("open the log file {name}")]
pub struct LogError {
    /// Its name.
    name: String,
    /// The kernel's answer.
    pub errno: Errno,
}

/// What came of emptying a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something was taken; there may be more.
    Some,
    /// The pipe is empty for now.
    Nothing,
    /// The last writer is gone.
    End,
}

/// Whether bytes may go from the pipe to the file without passing through this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Splice,
    Copy,
}

/// One stream's files, the newest of them open.
#[derive(Debug)]
pub struct RotatedLog {
    directory: OwnedFd,
    files: LogFiles,
    number: u64,
    file: OwnedFd,
    size: u64,
    /// Whether the file is known to end with a whole line.
    whole_lines: bool,
    road: Road,
    times: Index,
    lost: u64,
    reason: Option<Errno>,
}

impl RotatedLog {
    /// Opens the file of the highest number, or makes number 0; removes what is too old.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(directory: OwnedFd, files: LogFiles) -> Result<RotatedLog, LogError> {
        let failed = |number: u64, errno| LogError { name: file_name(&files, number), errno };
        let numbers = numbers(&directory, &files).map_err(|errno| failed(0, errno))?;
        let highest = numbers.iter().copied().max();
        let kept = highest.and_then(|number| Some((number, open_kept(&directory, &files, number).ok()?)));
        let (number, file, size) = match kept {
            Some((number, (file, size))) => (number, file, size),
            None => {
                let first = highest.map_or(0, |number| number.saturating_add(1));
                let (number, file) =
                    create(&directory, &files, first).map_err(|errno| failed(first, errno))?;
                (number, file, 0)
            }
        };
        let oldest = oldest_kept(&files, number);
        for old in numbers.into_iter().filter(|number| *number < oldest) {
            remove(&directory, &files, old);
        }
        let whole_lines = ends_with_a_line(&file, size);
        let times = fresh_index(&files);
        let road = Road::Splice;
        let (lost, reason) = (0, None);
        Ok(RotatedLog { directory, files, number, file, size, whole_lines, road, times, lost, reason })
    }

    /// Moves some of what waits in a non-blocking pipe into the files.
    pub(crate) fn take_from(&mut self, pipe: BorrowedFd<'_>) -> Taken {
        self.look_at_size();
        let far = self.room().saturating_sub(SEARCH);
        if far > 0 && self.lost == 0 && self.road == Road::Splice {
            // Before the bytes: whoever reads them finds their time.
            self.note_time();
            let most = usize::try_from(far).unwrap_or(usize::MAX);
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let mut offset = self.size;
            match splice(pipe, None, &self.file, Some(&mut offset), most, flags) {
                Ok(0) => return Taken::End,
                Ok(moved) => {
                    self.size += moved as u64;
                    self.whole_lines = false;
                    return Taken::Some;
                }
                Err(Errno::AGAIN) => return Taken::Nothing,
                Err(Errno::INTR) => return Taken::Some,
                // A file system without it: there is another road.
                Err(Errno::INVAL) => self.road = Road::Copy,
                // A full disk, most likely: the pipe must be emptied all the same, and writing names the reason.
                Err(_) => {}
            }
        }
        let mut buffer = [0; BUFFER];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => Taken::End,
            Ok(read) => {
                self.write(buffer.get(..read).unwrap_or_default());
                Taken::Some
            }
            Err(Errno::AGAIN) => Taken::Nothing,
            Err(Errno::INTR) => Taken::Some,
            Err(_) => Taken::End,
        }
    }

    /// Says what was lost, if there is room for that by now.
    pub fn close(&mut self) {
        self.look_at_size();
        self.confess();
    }

    /// Takes what somebody has read from the task himself.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.look_at_size();
        self.write(bytes);
    }

    /// Writes, beginning new files where it must; what cannot be written is counted.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.note_time();
        if !self.confess() {
            self.lost = self.lost.saturating_add(bytes.len() as u64);
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_checked(self.share(rest)).unwrap_or((rest, &[]));
            let done = if now.is_empty() { self.rotate() } else { self.append(now) };
            if let Err((errno, written)) = done {
                self.lost = rest.len().saturating_sub(written) as u64;
                self.reason = Some(errno);
                return;
            }
            rest = later;
        }
    }

    /// How much of `rest` belongs into this file; nothing, if it is full, or ends with a whole line after which no
    /// other has room.
    fn share(&self, rest: &[u8]) -> usize {
        let room = self.room();
        let left = room.checked_sub(rest.len() as u64);
        let enough = LINE.min(self.files.most_bytes.get() / 4);
        if left.is_some_and(|left| left >= enough || rest.ends_with(b"\n")) {
            return rest.len();
        }
        let fits = rest.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(rest);
        let far = fits.len().saturating_sub(SEARCH as usize);
        let near = fits.get(far..).unwrap_or_default();
        match near.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => far + newline + 1,
            None if self.whole_lines && self.size > 0 && far == 0 => 0,
            None => fits.len(),
        }
    }

    fn room(&self) -> u64 {
        self.files.most_bytes.get().saturating_sub(self.size)
    }

    /// Somebody may have emptied the file meanwhile, as people do on a full disk: no hole shall be left.
    fn look_at_size(&mut self) {
        let size = fstat(&self.file).map_or(self.size, |status| u64::try_from(status.st_size).unwrap_or(0));
        if size != self.size {
            self.whole_lines = size == 0;
            if size < self.size {
                self.times.forget();
            }
            self.size = size;
        }
    }

    /// What is written next is said now.
    fn note_time(&mut self) {
        if !matches!(self.times, Index::Off) {
            self.times.note(&self.directory, &self.files, self.number, self.size, now_millis());
        }
    }

    /// Writes all of it at the end of the file; after an error it says how much of it was written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), (Errno, usize)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pwrite(&self.file, rest, self.size) {
                Ok(0) => return Err((Errno::IO, written)),
                Ok(count) => {
                    written += count;
                    self.size += count as u64;
                    self.whole_lines = bytes.get(written - 1) == Some(&b'\n');
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err((errno, written)),
            }
        }
        Ok(())
    }

    /// Goes on in a file of the next number.
    fn rotate(&mut self) -> Result<(), (Errno, usize)> {
        let before = oldest_kept(&self.files, self.number);
        let (number, file) = create(&self.directory, &self.files, self.number.saturating_add(1))
            .map_err(|errno| (errno, 0))?;
        (self.number, self.file, self.size, self.whole_lines) = (number, file, 0, true);
        self.times = fresh_index(&self.files);
        self.note_time();
        for old in before..oldest_kept(&self.files, number) {
            remove(&self.directory, &self.files, old);
        }
        Ok(())
    }

    /// Writes a line about what was lost. Whether there is nothing (more) to confess.
    fn confess(&mut self) -> bool {
        if self.lost == 0 {
            return true;
        }
        let begin = if self.whole_lines { "" } else { "\n" };
        let reason = self.reason.unwrap_or(Errno::NOSPC);
        let line = format!("{begin}bivouac: {} bytes of output were lost here: {reason}\n", self.lost);
        if self.room() < line.len() as u64 && self.size > 0 && self.rotate().is_err() {
            return false;
        }
        let (size, whole_lines) = (self.size, self.whole_lines);
        if self.append(line.as_bytes()).is_err() {
            // Half a sentence would only be another riddle.
            let _ = ftruncate(&self.file, size);
            (self.size, self.whole_lines) = (size, whole_lines);
            return false;
        }
        (self.lost, self.reason) = (0, None);
        true
    }
}

fn fresh_index(files: &LogFiles) -> Index {
    match files.times {
        LogTimes::Kept => Index::Unopened,
        LogTimes::None => Index::Off,
    }
}

fn ends_with_a_line(file: &OwnedFd, size: u64) -> bool {
    let mut last = [0];
    size == 0 || rustix::io::pread(file, &mut last, size - 1).is_ok_and(|read| read == 1 && last == *b"\n")
}

fn file_name(files: &LogFiles, number: u64) -> String {
    format!("{}.{number}", files.name.as_str())
}

fn oldest_kept(files: &LogFiles, newest: u64) -> u64 {
    newest.saturating_add(1).saturating_sub(u64::from(files.most_files.get()))
}

/// The numbers that are taken, by whatever kind of file.
fn numbers(directory: &OwnedFd, files: &LogFiles) -> Result<Vec<u64>, Errno> {
    let mut numbers = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let digits =
            name.strip_prefix(files.name.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        // The canonical spelling only: `07` and `+7` are none of ours.
        numbers.extend(number.filter(|number| file_name(files, *number).as_bytes() == name));
    }
    Ok(numbers)
}

pub(crate) const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Without `NONBLOCK` a named pipe in the way would hang us; with `APPEND` there is no splice.
pub(crate) const WRITE: OFlags = OFlags::WRONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A file of an earlier run and its size, if it is a regular one that has no second name.
fn open_kept(directory: &OwnedFd, files: &LogFiles, number: u64) -> Result<(OwnedFd, u64), Errno> {
    let file = openat2(directory, file_name(files, number), WRITE, Mode::empty(), RESOLVE)?;
    let status = fstat(&file)?;
    let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    match u64::try_from(status.st_size) {
        Ok(size) if regular && status.st_nlink == 1 => Ok((file, size)),
        _ => Err(Errno::INVAL),
    }
}

/// A new file, of this number or the next free one.
fn create(directory: &OwnedFd, files: &LogFiles, first: u64) -> Result<(u64, OwnedFd), Errno> {
    let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
    for number in first..first.saturating_add(TRIES) {
        match openat2(directory, file_name(files, number), flags, Mode::from_raw_mode(MODE), RESOLVE) {
            Ok(file) => {
                // Whatever the umask is: others read logs.
                fchmod(&file, Mode::from_raw_mode(MODE))?;
                return Ok((number, file));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

fn remove(directory: &OwnedFd, files: &LogFiles, number: u64) {
    // A name, never what a link leads to. What cannot be removed is nobody's harm but the disk's.
    let _ = unlinkat(directory.as_fd(), file_name(files, number), AtFlags::empty());
    if files.times == LogTimes::Kept {
        log_times::remove(directory, files, number);
    }
}

#[cfg(test)]
mod tests;
