//! What the directories of a source looked like when they were last scanned, so that most starts need not scan.
//!
//! Making, removing and renaming a file changes its directory; changing a file's mode does not. What was readable
//! by everybody until a moment ago is no secret of long standing (tasks that run still see it), so that case is
//! left to a full scan once in [`FRESH_SECONDS`].

use crate::path::HostPath;
use bivouac_sys::replace::Nameless;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};

/// Seconds after which everything is looked at again.
const FRESH_SECONDS: i64 = 60;
/// A directory that changed this recently may change again without its time stamp showing it.
const SETTLED_SECONDS: i64 = 2;

/// A directory of the source at the moment before it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    path: Vec<u8>,
    inode: u64,
    changed: (i64, i64),
}

impl Seen {
    pub(super) fn of(path: &[u8], status: &Stat) -> Seen {
        Seen { path: path.to_vec(), inode: status.st_ino, changed: changed(status) }
    }
}

fn changed(status: &Stat) -> (i64, i64) {
    (status.st_ctime, status.st_ctime_nsec.cast_signed())
}

/// Name of the index of a source and what is hidden in it.
pub(super) fn key(source: &HostPath, hide: &[String]) -> String {
    let text = format!("{source}\0{}", hide.join("\0"));
    format!("index-{}", super::fnv(text.as_bytes()))
}

/// The name of the layer that still fits, if no directory has changed and the last scan is not long ago.
pub(super) fn lookup(store: BorrowedFd<'_>, key: &str, source: &HostPath) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut text = Vec::new();
    File::from(openat(store, key, flags, Mode::empty()).ok()?).read_to_end(&mut text).ok()?;
    let mut records = text.split_inclusive(|b| *b == 0);
    let header = std::str::from_utf8(records.next()?.strip_suffix(b"\0")?).ok()?;
    let (scanned, name) = header.split_once(' ')?;
    let age = clock_gettime(ClockId::Boottime).tv_sec - scanned.parse::<i64>().ok()?;
    if !(0..FRESH_SECONDS).contains(&age) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, source.as_path(), flags, Mode::empty()).ok()?;
    for record in records {
        let (inode, then, path) = parse(record)?;
        let path = if path.is_empty() { c"." } else { path };
        let status = statat(&top, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if status.st_ino != inode || changed(&status) != then {
            return None;
        }
    }
    Some(name.to_owned())
}

/// One directory's number, time stamp and path. There are hundreds at each start: nothing is copied.
fn parse(record: &[u8]) -> Option<(u64, (i64, i64), &CStr)> {
    let mut fields = record.splitn(4, |b| *b == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<i64>().ok();
    let (inode, seconds, nanoseconds) = (number()?, number()?, number()?);
    let path = CStr::from_bytes_with_nul(fields.next()?).ok()?;
    Some((inode.cast_unsigned(), (seconds, nanoseconds), path))
}

/// Keeps what was seen. An index that cannot be kept, or would not be reliable, costs the next start a scan and
/// nothing else, so failures are not told.
pub(super) fn save(store: BorrowedFd<'_>, key: &str, layer: &str, seen: &[Seen]) {
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    if seen.iter().any(|seen| now - seen.changed.0 < SETTLED_SECONDS) {
        let _ = unlinkat(store, key, AtFlags::empty());
        return;
    }
    let mut text = format!("{} {layer}\0", clock_gettime(ClockId::Boottime).tv_sec).into_bytes();
    for seen in seen {
        let (seconds, nanoseconds) = seen.changed;
        text.extend_from_slice(format!("{} {seconds} {nanoseconds} ", seen.inode.cast_signed()).as_bytes());
        text.extend_from_slice(&seen.path);
        text.push(0);
    }
    let temporary = format!(".{key}-{}", rustix::thread::gettid().as_raw_nonzero());
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let Ok(file) = openat(store, temporary.as_str(), flags, Mode::from_raw_mode(0o600)) else { return };
    let written = File::from(file).write_all(&text).is_ok();
    let kept = written && Nameless::default().replace(store, temporary.as_str(), key).is_ok();
    if !kept {
        let _ = unlinkat(store, temporary.as_str(), AtFlags::empty());
    }
}
