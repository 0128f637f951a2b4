//! A read-only look at the source: what in it must be hidden.

use super::index::Seen;
use super::{DEEPEST, Item, Layer, SanitiseError, What};
use crate::path::HostPath;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, fstat, openat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;

/// Account files larger than this are shown as empty ones.
const LARGEST: u64 = 16 << 20;

/// Looks at `source` and lists what must be hidden: every file and directory that others cannot read, and what
/// `hide` names (paths below the source, `*` standing for any part of a name). `shadow` and `gshadow` become
/// files with the same names in them and every password locked.
///
/// # Errors
/// [`SanitiseError::Source`] for the first directory that cannot be read.
pub fn scan(source: &HostPath, hide: &[String]) -> Result<Layer, SanitiseError> {
    look(source, hide).map(|(layer, _)| layer)
}

/// [`scan`], and what every directory looked like before it was read.
pub(super) fn look(source: &HostPath, hide: &[String]) -> Result<(Layer, Vec<Seen>), SanitiseError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let failed = |errno| SanitiseError::Source { path: source.to_string(), errno };
    let top = openat(CWD, source.as_path(), flags, Mode::empty()).map_err(failed)?;
    let hide: Vec<Vec<&[u8]>> =
        hide.iter().map(|text| text.as_bytes().split(|b| *b == b'/').collect()).collect();
    let active: Vec<&[&[u8]]> = hide.iter().map(Vec::as_slice).collect();
    let mut scan = Scan { source, layer: Layer::default(), seen: Vec::new(), buffers: Vec::new() };
    scan.directory(top.as_fd(), &mut Vec::new(), &active, 0)?;
    scan.layer.items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((scan.layer, scan.seen))
}

struct Scan<'a> {
    source: &'a HostPath,
    layer: Layer,
    seen: Vec<Seen>,
    buffers: Vec<Vec<u8>>,
}

impl Scan<'_> {
    fn failed(&self, path: &[u8], errno: Errno) -> SanitiseError {
        let below = String::from_utf8_lossy(path);
        SanitiseError::Source { path: format!("{}/{below}", self.source), errno }
    }

    /// `hide` holds what is left of the patterns that match the way to this directory.
    fn directory(
        &mut self,
        fd: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        hide: &[&[&[u8]]],
        depth: usize,
    ) -> Result<(), SanitiseError> {
        if depth > DEEPEST {
            return Err(SanitiseError::TooDeep(self.source.to_string()));
        }
        let status = fstat(fd).map_err(|errno| self.failed(path, errno))?;
        self.seen.push(Seen::of(path, &status));
        let mut buffer = self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(16 << 10));
        let mut below: Vec<CString> = Vec::new();
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| self.failed(path, errno))?;
            let name = entry.file_name();
            // Only files and directories hold or reach secrets; links are resolved in the task's own root.
            let plain =
                matches!(entry.file_type(), FileType::RegularFile | FileType::Directory | FileType::Unknown);
            if !plain || matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.entry(fd, name, path, hide, depth)? == Verdict::Enter {
                below.push(name.to_owned());
            }
        }
        self.buffers.push(buffer);
        for name in below {
            self.enter(fd, &name, path, hide, depth)?;
        }
        Ok(())
    }

    /// Decides about one file or directory.
    fn entry(
        &mut self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        hide: &[&[&[u8]]],
        depth: usize,
    ) -> Result<Verdict, SanitiseError> {
        let status = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(Verdict::Pass),
            Err(errno) => return Err(self.failed(path, errno)),
        };
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind == FileType::RegularFile && depth == 0 && matches!(name.to_bytes(), b"shadow" | b"gshadow") {
            let text = locked(fd, name).map_err(|errno| self.failed(name.to_bytes(), errno))?;
            self.add(path, name, What::Locked { gid: status.st_gid, text });
            return Ok(Verdict::Pass);
        }
        let named =
            hide.iter().any(|pattern| matches!(pattern, [last] if matches_name(last, name.to_bytes())));
        let (readable, directory) = match kind {
            FileType::Directory => (status.st_mode & 0o5 == 0o5, true),
            FileType::RegularFile => (status.st_mode & 0o4 == 0o4, false),
            _ => (true, false),
        };
        if named || !readable {
            self.add(path, name, What::Whiteout);
            return Ok(Verdict::Pass);
        }
        Ok(if directory { Verdict::Enter } else { Verdict::Pass })
    }

    fn enter(
        &mut self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        path: &mut Vec<u8>,
        hide: &[&[&[u8]]],
        depth: usize,
    ) -> Result<(), SanitiseError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = match openat(fd, name, flags, Mode::empty()) {
            Ok(inner) => inner,
            // Gone, or replaced by something else: the next start will see.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(self.failed(name.to_bytes(), errno)),
        };
        let left: Vec<&[&[u8]]> = hide
            .iter()
            .filter_map(|pattern| pattern.split_first())
            .filter(|(first, rest)| !rest.is_empty() && matches_name(first, name.to_bytes()))
            .map(|(_, rest)| rest)
            .collect();
        let (before, length) = (self.layer.items.len(), path.len());
        path.extend_from_slice(name.to_bytes());
        path.push(b'/');
        self.directory(inner.as_fd(), path, &left, depth + 1)?;
        path.truncate(length);
        if self.layer.items.len() > before {
            let status = fstat(&inner).map_err(|errno| self.failed(name.to_bytes(), errno))?;
            let mode = status.st_mode & 0o7777;
            self.add(path, name, What::Directory { mode, uid: status.st_uid, gid: status.st_gid });
        }
        Ok(())
    }

    fn add(&mut self, path: &[u8], name: &CStr, what: What) {
        let path = [path, name.to_bytes()].concat();
        self.layer.items.push(Item { path, what });
    }
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Enter,
    Pass,
}

/// Whether `name` is what `pattern` says, `*` standing for any number of characters.
pub(super) fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => {
            (0..=name.len()).any(|skip| name.get(skip..).is_some_and(|tail| matches_name(rest, tail)))
        }
        Some((first, rest)) => {
            name.split_first().is_some_and(|(byte, tail)| byte == first && matches_name(rest, tail))
        }
    }
}

/// The lines of an account file with nothing but the names, every password locked.
fn locked(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(fd, name, flags, Mode::empty())?;
    let mut text = Vec::new();
    File::from(file)
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let rest: &[u8] = if name.to_bytes() == b"shadow" { b":*:::::::\n" } else { b":!::\n" };
    let mut out = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        let account = line.split(|b| *b == b':').next().unwrap_or_default();
        if !account.is_empty() && line.contains(&b':') {
            out.extend_from_slice(account);
            out.extend_from_slice(rest);
        }
    }
    Ok(out)
}
