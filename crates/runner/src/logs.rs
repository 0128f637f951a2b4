//! Reading a task's log files: the last lines, and what comes after.
//!
//! The directory may have been tampered with by the tasks that share it: files are opened beneath it, never through
//! a link, and only regular ones are read. A slow reader of ours holds nobody up: it reads files.

use crate::detached::log_directory;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;

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
    prefix: String,
    current: Option<(u64, File)>,
    backlog: VecDeque<u8>,
}

impl Reader {
    /// Opens a stream of a task of the allocation in `directory`. A task that never wrote has no files yet.
    ///
    /// # Errors
    /// What opening answered.
    pub fn open(directory: &Path, task: &str, stream: Stream, past: Past) -> std::io::Result<Reader> {
        let directory = log_directory(directory)?;
        let prefix = format!("{task}.{}.", stream.as_str());
        let mut reader = Reader { directory, prefix, current: None, backlog: VecDeque::new() };
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
            if let Some(number) = name.strip_prefix(&self.prefix).and_then(number) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn file(&self, number: u64) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let name = format!("{}{number}", self.prefix);
        let file = openat2(self.directory.as_fd(), name.as_str(), flags, Mode::empty(), resolve)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(File::from(file))
    }

    /// Goes to where the last `lines` lines begin; what is read of them on the way is kept.
    fn seek_lines(&mut self, lines: usize) -> std::io::Result<()> {
        let numbers = self.numbers()?;
        let mut tail: VecDeque<u8> = VecDeque::new();
        let mut newest = None;
        for number in numbers.iter().rev() {
            let mut bytes = Vec::new();
            let Ok(mut file) = self.file(*number) else { continue };
            file.read_to_end(&mut bytes)?;
            newest.get_or_insert((*number, file));
            for byte in bytes.into_iter().rev() {
                tail.push_front(byte);
            }
            if tail.iter().filter(|byte| **byte == b'\n').count() > lines {
                break;
            }
        }
        self.backlog = last_lines(tail, lines);
        self.current = newest;
        Ok(())
    }

    /// The next piece, or nothing when there is nothing more for now.
    ///
    /// # Errors
    /// What reading answered.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<More> {
        buffer.clear();
        if !self.backlog.is_empty() {
            buffer.extend(self.backlog.drain(..));
            return Ok(More::Perhaps);
        }
        loop {
            if let Some((number, file)) = &mut self.current {
                let read = file.take(64 * 1024).read_to_end(buffer)?;
                if read > 0 {
                    return Ok(More::Perhaps);
                }
                let current = *number;
                // A later file means that this one is done, once it has been read after the later one was seen.
                let Some(later) = self.numbers()?.into_iter().find(|number| *number > current) else {
                    return Ok(More::NotNow);
                };
                if let Some((_, file)) = &mut self.current
                    && file.take(64 * 1024).read_to_end(buffer)? > 0
                {
                    return Ok(More::Perhaps);
                }
                self.current = self.file(later).ok().map(|file| (later, file));
            } else {
                let Some(first) = self.numbers()?.into_iter().next() else { return Ok(More::NotNow) };
                let Ok(file) = self.file(first) else { return Ok(More::NotNow) };
                self.current = Some((first, file));
            }
        }
    }

    /// The directory, to be watched for changes.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

/// Whether reading on makes sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It may.
    Perhaps,
    /// Not before something is written.
    NotNow,
}

/// A number as the writer writes it: no sign, no leading zeros.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn last_lines(mut bytes: VecDeque<u8>, lines: usize) -> VecDeque<u8> {
    let ends_open = bytes.back().is_some_and(|last| *last != b'\n');
    let total = bytes.iter().filter(|byte| **byte == b'\n').count() + usize::from(ends_open);
    let mut skip = total.saturating_sub(lines);
    while skip > 0 {
        match bytes.pop_front() {
            Some(b'\n') => skip -= 1,
            Some(_) => {}
            None => break,
        }
    }
    bytes
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
mod tests {
    use super::*;

    fn alloc() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("alloc/logs");
        std::fs::create_dir_all(&logs).unwrap();
        (dir, logs)
    }

    fn rest(reader: &mut Reader) -> String {
        let (mut buffer, mut all) = (Vec::new(), Vec::new());
        while reader.next(&mut buffer).unwrap() == More::Perhaps {
            all.extend_from_slice(&buffer);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn rotated_files_are_one_stream_and_the_tail_is_exact() {
        let (dir, logs) = alloc();
        std::fs::write(logs.join("web.stdout.3"), "a\nb\nc").unwrap();
        std::fs::write(logs.join("web.stdout.4"), "d\ne\n").unwrap();
        std::fs::write(logs.join("web.stdout.04"), "not ours").unwrap();
        std::fs::write(logs.join("web.stdout.x"), "not ours").unwrap();
        let open = |past| Reader::open(dir.path(), "web", Stream::Stdout, past).unwrap();
        assert_eq!(rest(&mut open(Past::All)), "a\nb\ncd\ne\n");
        assert_eq!(rest(&mut open(Past::Lines(2))), "cd\ne\n");
        assert_eq!(rest(&mut open(Past::Lines(0))), "");
        assert_eq!(rest(&mut open(Past::Lines(99))), "a\nb\ncd\ne\n");
        let mut follower = open(Past::Lines(1));
        assert_eq!(rest(&mut follower), "e\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(logs.join("web.stdout.4")).unwrap();
        std::io::Write::write_all(&mut file, b"f\n").unwrap();
        std::fs::write(logs.join("web.stdout.5"), "g\n").unwrap();
        assert_eq!(rest(&mut follower), "f\ng\n", "what comes later, across a rotation");
        assert_eq!(rest(&mut Reader::open(dir.path(), "none", Stream::Stderr, Past::All).unwrap()), "");
    }

    #[test]
    fn links_and_fifos_in_their_place_are_not_read() {
        let (dir, logs) = alloc();
        std::os::unix::fs::symlink("/etc/passwd", logs.join("web.stdout.0")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, logs.join("web.stdout.1"), FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        assert_eq!(rest(&mut Reader::open(dir.path(), "web", Stream::Stdout, Past::Lines(5)).unwrap()), "");
        assert_eq!(rest(&mut Reader::open(dir.path(), "web", Stream::Stdout, Past::All).unwrap()), "");
        std::fs::rename(&logs, dir.path().join("alloc/away")).unwrap();
        std::os::unix::fs::symlink("/etc", &logs).unwrap();
        assert!(Reader::open(dir.path(), "web", Stream::Stdout, Past::All).is_err());
    }

    #[test]
    fn a_terminal_is_commanded_by_nobody() {
        let tame = |bytes: &[u8]| {
            let mut out = Vec::new();
            tamed(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(tame(b"\x1b[1;31mred\x1b[0m\n"), "\x1b[1;31mred\x1b[0m\n");
        assert_eq!(tame(b"a\x1b]0;title\x07b\x1b[2J"), "a\\x1b]0;title\\x07b\\x1b[2J");
        assert_eq!(tame("ä\t".as_bytes()), "ä\t");
    }
}
