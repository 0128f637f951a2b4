//! Reading a task's log files: the last lines, and what comes after.
//!
//! The directory may have been tampered with by the tasks that share it: files are opened beneath it, never through
//! a link, and only regular ones are read. A slow reader of ours holds nobody up: it reads files. [`Reader`] reads one
//! stream, [`Merge`] several as one, by the times of their lines.

mod merge;
mod times;

use crate::allocation::PlannedTask;
use bivouac_driver::request::{LogFiles, LogName, LogTimes};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::FileExt;
use std::path::Path;
use times::Times;

pub use merge::{Merge, Pass};

/// What is read in one go.
const PIECE: usize = 64 * 1024;

/// One of a task's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As it stands in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The files that a stream of a task is kept in.
pub(crate) fn files(task: &PlannedTask, stream: Stream) -> std::io::Result<LogFiles> {
    const MIB: u64 = 1 << 20;
    Ok(LogFiles {
        name: LogName::new(format!("{}.{}", task.member.name, stream.as_str()))
            .map_err(std::io::Error::other)?,
        most_files: NonZeroU32::new(task.logs.max_files).unwrap_or(NonZeroU32::MIN),
        most_bytes: NonZeroU64::new(u64::from(task.logs.max_file_size_mb) * MIB).unwrap_or(NonZeroU64::MIN),
        times: LogTimes::Kept,
    })
}

/// The allocation's `alloc/logs`, which its tasks may have replaced: opened without following a link.
pub(crate) fn log_directory(directory: &Path) -> std::io::Result<OwnedFd> {
    let top = openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(top, c"alloc/logs", flags, Mode::empty(), resolve)?)
}

/// How much of the past is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// All that is kept.
    All,
    /// So many lines.
    Lines(usize),
}

/// Reads one stream of one task, across rotated files.
#[derive(Debug)]
pub struct Reader {
    directory: OwnedFd,
    /// What stands before the dot and the number.
    name: String,
    current: Option<Open>,
    /// The place in the current file that the next line to be cut begins at.
    place: u64,
    line: Begun,
    /// How many lines of the past there were, where so many were asked for.
    found: usize,
}

/// The file that is read.
#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    /// Where the next piece begins.
    offset: u64,
    times: Option<Times>,
}

/// What is known of the line that the next piece goes on with.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// None: a line begins.
    No,
    /// One that began at this time.
    At(Option<i64>),
}

/// Whether the beginning of a line is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is.
    Here,
    /// It came with an earlier piece.
    Earlier,
}

/// A line with its newline, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Whether it begins with them.
    pub begin: Begin,
    /// When its beginning was written, in milliseconds since 1970, if that is known.
    pub unix_millis: Option<i64>,
}

impl Reader {
    /// Opens a stream of a task of the allocation in `directory`. A task that never wrote has no files yet.
    ///
    /// # Errors
    /// What opening answered.
    pub fn open(directory: &Path, task: &str, stream: Stream, past: Past) -> std::io::Result<Reader> {
        let directory = log_directory(directory)?;
        let name = format!("{task}.{}", stream.as_str());
        let mut reader = Reader { directory, name, current: None, place: 0, line: Begun::No, found: 0 };
        if let Past::Lines(lines) = past {
            reader.seek_lines(lines)?;
        }
        Ok(reader)
    }

    /// The numbers of the files that there are, sorted.
    fn numbers(&self) -> std::io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&self.directory)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('.'));
            numbers.extend(rest.and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn file(&self, number: u64) -> Result<Open, Errno> {
        let file = regular(&self.directory, &format!("{}.{number}", self.name))?;
        Ok(Open { number, file, offset: 0, times: None })
    }

    /// Goes to where the last `lines` lines begin.
    fn seek_lines(&mut self, lines: usize) -> std::io::Result<()> {
        let (mut wanted, mut later) = (lines, Later::Nothing);
        for number in self.numbers()?.into_iter().rev() {
            let Ok(mut open) = self.file(number) else { continue };
            let length = open.file.metadata()?.len();
            let found = if lines == 0 {
                Some(length)
            } else {
                line_start(&open.file, length, &mut wanted, &mut later)?
            };
            open.offset = found.unwrap_or(0);
            self.current = Some(open);
            if found.is_some() {
                self.found = lines;
                return Ok(());
            }
        }
        // The first line of all has no newline before it.
        self.found = lines - wanted + usize::from(later == Later::Something);
        Ok(())
    }

    /// The next piece, or nothing when there is nothing more for now.
    ///
    /// # Errors
    /// What reading answered.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<More> {
        loop {
            if self.read(buffer)? == More::Perhaps {
                return Ok(More::Perhaps);
            }
            // A later file means that this one is done, once it has been read after the later one was seen.
            let current = self.current.as_ref().map(|open| open.number);
            let mut later =
                self.numbers()?.into_iter().filter(|number| current.is_none_or(|current| *number > current));
            let Some(open) = later.find_map(|number| self.file(number).ok()) else {
                return Ok(More::NotNow);
            };
            if self.read(buffer)? == More::Perhaps {
                return Ok(More::Perhaps);
            }
            self.current = Some(open);
        }
    }

    /// What the current file has.
    fn read(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<More> {
        let Some(open) = &mut self.current else { return Ok(More::NotNow) };
        buffer.resize(PIECE, 0);
        let read = open.file.read_at(buffer, open.offset)?;
        buffer.truncate(read);
        self.place = open.offset;
        open.offset += read as u64;
        Ok(if read > 0 { More::Perhaps } else { More::NotNow })
    }

    /// Cuts what [`Reader::next`] has just read into lines with their times.
    pub fn lines<'b>(&mut self, piece: &'b [u8]) -> Vec<Line<'b>> {
        piece.split_inclusive(|byte| *byte == b'\n').map(|bytes| self.line(bytes)).collect()
    }

    /// What is known of the next bytes of a piece: a line, or as much of one as the piece has.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Line<'b> {
        let (begin, unix_millis) = match self.line {
            Begun::No => (Begin::Here, self.time(self.place)),
            Begun::At(time) => (Begin::Earlier, time),
        };
        self.line = if bytes.ends_with(b"\n") { Begun::No } else { Begun::At(unix_millis) };
        self.place += bytes.len() as u64;
        Line { bytes, begin, unix_millis }
    }

    /// When what lies at a place of the current file was written.
    fn time(&mut self, place: u64) -> Option<i64> {
        let open = self.current.as_mut()?;
        if open.times.is_none() {
            // It is made with the first byte, which is here now.
            open.times = Times::open(&self.directory, &self.name, open.number).ok();
        }
        open.times.as_mut()?.at(place)
    }

    /// The directory, to be watched for changes.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

/// A regular file of the directory, reached through no link.
fn regular(directory: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(directory.as_fd(), name, flags, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(File::from(file))
}

/// Whether reading on makes sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It may.
    Perhaps,
    /// Not before something is written.
    NotNow,
}

/// Whether anything stands behind a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Nothing,
    Something,
}

/// Where the `wanted`-th last line begins, if that is in this file after its first byte; else `wanted` and `later` are
/// what is to be known of it by the file before.
fn line_start(
    file: &File,
    length: u64,
    wanted: &mut usize,
    later: &mut Later,
) -> std::io::Result<Option<u64>> {
    let mut block = vec![0; PIECE];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(PIECE as u64);
        let bytes = block.get_mut(..usize::try_from(end - start).unwrap_or(PIECE)).unwrap_or_default();
        file.read_exact_at(bytes, start)?;
        for (index, byte) in bytes.iter().enumerate().rev() {
            // A newline at the end of everything begins no line.
            if *byte == b'\n' && *later == Later::Something {
                *wanted -= 1;
                if *wanted == 0 {
                    return Ok(Some(start + index as u64 + 1));
                }
            }
            *later = Later::Something;
        }
        end = start;
    }
    Ok(None)
}

/// A number as the writer writes it: no sign, no leading zeros.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Bytes of a task as a terminal may have them: what could command the terminal is shown in words, but for colours.
pub fn tamed(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some((first, more)) = rest.split_first() {
        let colour = colour_length(rest);
        match first {
            0x1b if colour > 0 => {
                out.extend_from_slice(rest.get(..colour).unwrap_or_default());
                rest = rest.get(colour..).unwrap_or_default();
                continue;
            }
            b'\n' | b'\t' | b'\r' | 0x20..=0x7e | 0x80.. => out.push(*first),
            other => out.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
        rest = more;
    }
}

/// The length of a colour sequence (`ESC [ digits m`) at the beginning, or 0.
fn colour_length(bytes: &[u8]) -> usize {
    let Some(inner) = bytes.strip_prefix(b"\x1b[") else { return 0 };
    match inner.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b';')) {
        Some(end) if inner.get(end) == Some(&b'm') => end + 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
