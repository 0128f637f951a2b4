//! Builds a tree of files in the private directory: every name is walked from the directory's descriptor, without
//! links, and everything counts against the limits.

use crate::order::Limits;
use crate::place::BENEATH;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};

/// Deeper trees are refused.
const DEEPEST: usize = 128;
/// Below this size every ratio is fine.
const RATIO_FROM: u64 = 256 * 1024 * 1024;

/// Why something does not become part of the tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// Its path leaves the tree or is none.
    #[error("the archive holds {path:?}, {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Too much.
    #[error("{0}; the limit protects this machine from archives that unpack without end")]
    Limit(String),
    /// Reading the content.
    #[error("{0}")]
    Read(std::io::Error),
    /// The kernel's answer.
    #[error("cannot {what} {path:?}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// At which path.
        path: String,
        /// The answer.
        errno: Errno,
    },
}

/// A tree that grows.
pub(crate) struct Tree {
    base: OwnedFd,
    limits: Limits,
    /// Size of what it is unpacked from.
    packed: u64,
    entries: u64,
    bytes: u64,
    /// The directory of the last entry: neighbours come together.
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
    /// Modes of directories are set at the end: some forbid writing.
    modes: BTreeMap<Vec<Vec<u8>>, u32>,
    buffer: Vec<u8>,
}

/// What a new file is besides its content.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) mode: u32,
    pub(crate) mtime: Option<i64>,
}

impl Tree {
    pub(crate) fn new(base: OwnedFd, limits: &Limits, packed: u64) -> Tree {
        let limits = limits.clone();
        Tree {
            base,
            limits,
            packed,
            entries: 0,
            bytes: 0,
            last: None,
            modes: BTreeMap::new(),
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A regular file; one of that name before is replaced, never written into.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        looks: Looks,
        content: &mut dyn Read,
    ) -> Result<u64, TreeError> {
        let names = self.names(path)?;
        let Some((name, parents)) = names.split_last() else { return Err(bad(path, "which names no file")) };
        self.count()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |what| move |errno| kernel(what, path, errno);
        let parent = self.directory_of(parents, path)?;
        let open = || rustix::fs::openat(parent, name.as_slice(), flags, Mode::from_raw_mode(0o600));
        let file = match open() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent, name.as_slice(), AtFlags::empty()).map_err(failed("replace"))?;
                open()
            }
            other => other,
        };
        let mut file = File::from(file.map_err(failed("make"))?);
        let written = self.copy(&mut file, path, content)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(looks.mode & 0o777))
            .map_err(failed("set the mode of"))?;
        if let Some(seconds) = looks.mtime {
            set_time(&file, seconds);
        }
        Ok(written)
    }

    fn copy(&mut self, file: &mut File, path: &[u8], content: &mut dyn Read) -> Result<u64, TreeError> {
        let mut written = 0;
        loop {
            let count = content.read(&mut self.buffer).map_err(TreeError::Read)?;
            let Some(part) = self.buffer.get(..count).filter(|part| !part.is_empty()) else {
                return Ok(written);
            };
            self.bytes += count as u64;
            written += count as u64;
            if self.bytes > self.limits.unpacked_bytes {
                return Err(TreeError::Limit(format!(
                    "more than {} bytes unpacked",
                    self.limits.unpacked_bytes
                )));
            }
            let ratio = self.bytes / self.packed.max(1);
            if self.bytes > RATIO_FROM && ratio > u64::from(self.limits.ratio) {
                return Err(TreeError::Limit(format!(
                    "unpacking {} bytes gave more than {} times as many",
                    self.packed, self.limits.ratio
                )));
            }
            file.write_all(part)
                .map_err(|error| kernel("write", path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        }
    }

    /// A directory; one that is there stays.
    pub(crate) fn directory(&mut self, path: &[u8], mode: u32) -> Result<(), TreeError> {
        let names = self.names(path)?;
        if names.is_empty() {
            return Ok(());
        }
        self.count()?;
        self.directory_of(&names, path)?;
        self.modes.insert(names, mode & 0o777);
        Ok(())
    }

    /// A symbolic link that stays within the tree.
    pub(crate) fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let names = self.names(path)?;
        let Some((name, parents)) = names.split_last() else { return Err(bad(path, "which names no link")) };
        if let Err(why) = check_link(parents.len(), target) {
            return Err(bad(path, why));
        }
        self.count()?;
        let parent = self.directory_of(parents, path)?;
        let make = || rustix::fs::symlinkat(target, parent, name.as_slice());
        let failed = |what| move |errno| kernel(what, path, errno);
        match make() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent, name.as_slice(), AtFlags::empty()).map_err(failed("replace"))?;
                make().map_err(failed("make"))
            }
            other => other.map_err(failed("make")),
        }
    }

    /// Another name of an earlier file.
    pub(crate) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let (names, old) = (self.names(path)?, self.names(target)?);
        let (Some((name, parents)), Some((old_name, old_parents))) = (names.split_last(), old.split_last())
        else {
            return Err(bad(path, "a hard link to or from no file"));
        };
        self.count()?;
        if names == old {
            return Err(bad(path, "a hard link to itself"));
        }
        let failed = |what| move |errno| kernel(what, path, errno);
        let from =
            open_below(&self.base, old_parents).map_err(failed("find the directory of the target of"))?;
        let stat = rustix::fs::statat(&from, old_name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("find the target of"))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(bad(path, "a hard link to something that is no regular file"));
        }
        let parent = self.directory_of(parents, path)?;
        let make =
            || rustix::fs::linkat(&from, old_name.as_slice(), parent, name.as_slice(), AtFlags::empty());
        match make() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent, name.as_slice(), AtFlags::empty()).map_err(failed("replace"))?;
                make().map_err(failed("link"))
            }
            other => other.map_err(failed("link")),
        }
    }

    /// Sets the modes of directories.
    pub(crate) fn finish(mut self) -> Result<(), TreeError> {
        self.last = None;
        // The deeper first: a parent may forbid entering.
        let mut modes: Vec<_> = std::mem::take(&mut self.modes).into_iter().collect();
        modes.sort_by_key(|(names, _)| std::cmp::Reverse(names.len()));
        for (names, mode) in modes {
            let path = names.join(&b'/');
            open_below(&self.base, &names)
                .and_then(|fd| rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)))
                .map_err(|errno| kernel("set the mode of", &path, errno))?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), TreeError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TreeError::Limit(format!("more than {} files and directories", self.limits.entries)));
        }
        Ok(())
    }

    /// The components of a path, none of which leaves the tree.
    fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        if path.is_empty() {
            return Err(bad(path, "an empty name"));
        }
        if path.first() == Some(&b'/') {
            return Err(bad(path, "an absolute path"));
        }
        if path.contains(&0) {
            return Err(bad(path, "a name with a NUL byte"));
        }
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(bad(path, "a path with ..")),
                _ => names.push(name.to_vec()),
            }
        }
        if names.len() > DEEPEST {
            return Err(bad(path, "a path of more than 128 directories"));
        }
        Ok(names)
    }

    /// The directory at `names`, made if it is missing.
    fn directory_of(&mut self, names: &[Vec<u8>], path: &[u8]) -> Result<&OwnedFd, TreeError> {
        if names.is_empty() {
            return Ok(&self.base);
        }
        let known = self.last.as_ref().is_some_and(|(last, _)| last.as_slice() == names);
        if !known {
            let failed = |what| move |errno| kernel(what, path, errno);
            let fd = match open_below(&self.base, names) {
                Err(Errno::NOENT) => {
                    let Some((name, parents)) = names.split_last() else { return Ok(&self.base) };
                    let parent = self.directory_of(parents, path)?;
                    rustix::fs::mkdirat(parent, name.as_slice(), Mode::from_raw_mode(0o755))
                        .map_err(failed("make the directory of"))?;
                    self.count()?;
                    open_below(&self.base, names).map_err(failed("open the directory of"))?
                }
                other => other.map_err(failed("open the directory of"))?,
            };
            self.last = Some((names.to_vec(), fd));
        }
        self.last.as_ref().map(|(_, fd)| fd).ok_or_else(|| kernel("open", path, Errno::IO))
    }
}

fn open_below(base: &OwnedFd, names: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    if names.is_empty() {
        return rustix::io::fcntl_dupfd_cloexec(base, 3);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(base.as_fd(), names.join(&b'/'), flags, Mode::empty(), BENEATH)
}

/// Whether a link whose directory lies `depth` below the top may point to `target`: relative, steps up only at its
/// beginning and no more than there are. With that, links that lead through other links stay within as well.
pub(crate) fn check_link(depth: usize, target: &[u8]) -> Result<(), &'static str> {
    if target.is_empty() || target.contains(&0) || target.len() > 4095 {
        return Err("a symbolic link to nothing sensible");
    }
    if target.first() == Some(&b'/') {
        return Err("a symbolic link to an absolute path");
    }
    let (mut up, mut down) = (0, false);
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if down => return Err("a symbolic link that goes down and up again"),
            b".." => up += 1,
            _ => down = true,
        }
    }
    if up > depth { Err("a symbolic link that leads outside") } else { Ok(()) }
}

fn set_time(file: &File, seconds: i64) {
    // Years that a file system cannot hold are nobody's loss.
    let time = Timespec { tv_sec: seconds.clamp(0, i64::from(u32::MAX)), tv_nsec: 0 };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time });
}

fn bad(path: &[u8], why: &'static str) -> TreeError {
    let shown: String = String::from_utf8_lossy(path).chars().take(200).collect();
    TreeError::Path { path: shown, why }
}

fn kernel(what: &'static str, path: &[u8], errno: Errno) -> TreeError {
    TreeError::Kernel { what, path: String::from_utf8_lossy(path).chars().take(200).collect(), errno }
}

#[cfg(test)]
mod tests {
    use super::check_link;

    #[test]
    fn links_stay_within() {
        for (depth, target) in [(0, "a"), (0, "a/b"), (1, "../a"), (2, "../../a/b"), (1, ".."), (0, ".")] {
            assert!(check_link(depth, target.as_bytes()).is_ok(), "{depth} {target}");
        }
        for (depth, target) in
            [(0, ".."), (1, "../.."), (0, "/etc"), (3, "a/.."), (3, "../a/../b"), (0, ""), (0, "a\0")]
        {
            assert!(check_link(depth, target.as_bytes()).is_err(), "{depth} {target}");
        }
    }
}
