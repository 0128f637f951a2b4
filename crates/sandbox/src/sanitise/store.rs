//! The directory where layers are kept, by content.

use super::{Item, Layer, SanitiseError, What, index};
use crate::path::HostPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chownat, fchmod, fstat, fsync,
    mkdirat, mknodat, openat, renameat_with, statat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

/// The directory where layers are kept, by content; root's alone.
#[derive(Debug)]
pub struct Store {
    path: HostPath,
    fd: OwnedFd,
}

const TEXT: &CStr = c"layer.txt";
const TREE: &CStr = c"tree";

impl Store {
    /// Opens the store, making it if its parent exists.
    ///
    /// # Errors
    /// [`SanitiseError::Foreign`] when it is not a 0700 directory of root, else [`SanitiseError::Store`].
    pub fn open(path: &HostPath) -> Result<Store, SanitiseError> {
        let failed = |errno| SanitiseError::Store { path: path.to_string(), errno };
        match mkdirat(CWD, path.as_path(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let foreign = || SanitiseError::Foreign(path.to_string());
        let fd = openat(CWD, path.as_path(), flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => foreign(),
            errno => failed(errno),
        })?;
        let status = fstat(&fd).map_err(failed)?;
        if status.st_uid != rustix::process::geteuid().as_raw() || status.st_mode & 0o077 != 0 {
            return Err(foreign());
        }
        Ok(Store { path: path.clone(), fd })
    }

    /// The directory that hides what is private in `source` as it is now: [`super::scan`] and
    /// [`Store::provide`] in one, answered from an index when no directory of the source has changed.
    ///
    /// # Errors
    /// [`SanitiseError`].
    pub fn current(&self, source: &HostPath, hide: &[String]) -> Result<HostPath, SanitiseError> {
        let key = index::key(source, hide);
        if let Some(name) = index::lookup(self.fd.as_fd(), &key, source)
            && let Some(path) = self.kept(&name)
        {
            return Ok(path);
        }
        let (layer, seen) = super::scan::look(source, hide)?;
        let path = self.provide(&layer)?;
        index::save(self.fd.as_fd(), &key, &layer.name(), &seen);
        Ok(path)
    }

    /// The path of a layer that is in place. Only root can reach into the store, so what was whole when it was
    /// built is only looked at by its top.
    fn kept(&self, name: &str) -> Option<HostPath> {
        let status = statat(&self.fd, format!("{name}/tree"), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let sound = FileType::from_raw_mode(status.st_mode) == FileType::Directory && status.st_uid == 0;
        sound.then(|| HostPath::new(format!("{}/{name}/tree", self.path)).ok())?
    }

    /// The directory that shows `layer`, built when it is not there or not whole. Concurrent callers get the
    /// same one.
    ///
    /// # Errors
    /// [`SanitiseError::Store`].
    pub fn provide(&self, layer: &Layer) -> Result<HostPath, SanitiseError> {
        let name = layer.name();
        let text = layer.to_string();
        let path = format!("{}/{name}", self.path);
        let failed = |errno| SanitiseError::Store { path: path.clone(), errno };
        let c_name = CString::new(name.as_str()).unwrap_or_default();
        if !self.is_whole(&c_name, layer, &text) {
            self.build(&c_name, layer, &text).map_err(failed)?;
        }
        HostPath::new(format!("{path}/tree")).map_err(|_| failed(Errno::INVAL))
    }

    /// Whether the layer on disk is the one that is wanted, down to every item.
    pub(super) fn is_whole(&self, name: &CStr, layer: &Layer, text: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(kept) = openat(&self.fd, name, flags | OFlags::DIRECTORY, Mode::empty()) else { return false };
        let Ok(file) = openat(&kept, TEXT, flags, Mode::empty()) else { return false };
        let mut found = Vec::with_capacity(text.len() + 1);
        let read = File::from(file).take(text.len() as u64 + 1).read_to_end(&mut found);
        if read.is_err() || found != text.as_bytes() {
            return false;
        }
        let Ok(tree) = openat(&kept, TREE, flags | OFlags::DIRECTORY, Mode::empty()) else { return false };
        layer.items.iter().all(|item| {
            let status = statat(&tree, item.path.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            status.is_ok_and(|status| item.what.is_as_found(&status))
        })
    }

    /// Builds the layer beside its place and renames it there.
    fn build(&self, name: &CStr, layer: &Layer, text: &str) -> Result<(), Errno> {
        let (temporary, path) = self.temporary()?;
        let built = self.fill(path.as_fd(), layer, text).and_then(|()| self.publish(&temporary, name));
        if built.is_err() {
            self.discard(&temporary);
        }
        built
    }

    /// A fresh directory with a name that nobody else uses.
    fn temporary(&self) -> Result<(CString, OwnedFd), Errno> {
        for attempt in 0..1000u32 {
            let pid = rustix::process::getpid().as_raw_nonzero();
            let thread = rustix::thread::gettid().as_raw_nonzero();
            let name = CString::new(format!(".new-{pid}-{thread}-{attempt}")).unwrap_or_default();
            match mkdirat(&self.fd, &name, Mode::RWXU) {
                Ok(()) => {
                    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd = openat(&self.fd, &name, flags, Mode::empty())?;
                    return Ok((name, fd));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    fn fill(&self, fd: BorrowedFd<'_>, layer: &Layer, text: &str) -> Result<(), Errno> {
        mkdirat(fd, TREE, Mode::RWXU)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let tree = openat(fd, TREE, flags, Mode::empty())?;
        fchmod(&tree, Mode::from_raw_mode(0o755))?;
        // Sorted by path, so a directory stands before what lies in it.
        for item in &layer.items {
            item.make(tree.as_fd())?;
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(fd, TEXT, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(text.as_bytes()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        fsync(&file)
    }

    /// Puts the built directory in its place; a broken one there is moved away first, a whole one made by
    /// somebody else meanwhile is as good.
    fn publish(&self, temporary: &CStr, name: &CStr) -> Result<(), Errno> {
        match renameat_with(&self.fd, temporary, &self.fd, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {
                renameat_with(&self.fd, temporary, &self.fd, name, RenameFlags::EXCHANGE)?;
                self.discard(temporary);
                Ok(())
            }
            other => other,
        }
    }

    /// Removes a directory of the store; what cannot be removed is harmless and found by [`Store::tidy`].
    fn discard(&self, name: &CStr) {
        let path = self.path.as_path().join(OsStr::from_bytes(name.to_bytes()));
        // The store is root's alone, so nothing in it can be swapped under the walk.
        drop(std::fs::remove_dir_all(path));
    }

    /// Removes half-built layers, and the layers that `keep` does not name. Running tasks hold their layers
    /// open, so removing one only takes its name away.
    ///
    /// # Errors
    /// [`SanitiseError::Store`] when the store cannot be read.
    pub fn tidy(&self, keep: &[HostPath]) -> Result<usize, SanitiseError> {
        let failed = |errno| SanitiseError::Store { path: self.path.to_string(), errno };
        let entries = std::fs::read_dir(self.path.as_path())
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let mut removed = 0;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                continue;
            }
            if !keep.iter().any(|layer| layer.as_path().starts_with(&path))
                && std::fs::remove_dir_all(&path).is_ok()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes what a name in the store points to, for tests of repair.
    #[cfg(test)]
    pub(super) fn unlink(&self, path: &str) {
        rustix::fs::unlinkat(&self.fd, path, AtFlags::empty()).unwrap();
    }
}

impl What {
    fn is_as_found(&self, status: &Stat) -> bool {
        let kind = FileType::from_raw_mode(status.st_mode);
        let permissions = status.st_mode & 0o7777;
        match self {
            What::Whiteout => kind == FileType::CharacterDevice && status.st_rdev == 0,
            What::Directory { mode, uid, gid } => {
                kind == FileType::Directory
                    && (permissions, status.st_uid, status.st_gid) == (*mode, *uid, *gid)
            }
            What::Locked { gid, text } => {
                kind == FileType::RegularFile
                    && (permissions, status.st_uid, status.st_gid) == (0o640, 0, *gid)
                    && u64::try_from(status.st_size) == Ok(text.len() as u64)
            }
        }
    }
}

impl Item {
    fn make(&self, tree: BorrowedFd<'_>) -> Result<(), Errno> {
        let path = self.path.as_slice();
        let own = |uid, gid| {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(tree, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        };
        match &self.what {
            What::Whiteout => mknodat(tree, path, FileType::CharacterDevice, Mode::empty(), 0),
            What::Directory { mode, uid, gid } => {
                mkdirat(tree, path, Mode::RWXU)?;
                own(*uid, *gid)?;
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fchmod(openat(tree, path, flags, Mode::empty())?, Mode::from_raw_mode(*mode))
            }
            What::Locked { gid, text } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut file = File::from(openat(tree, path, flags, Mode::from_raw_mode(0o600))?);
                file.write_all(text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                own(0, *gid)?;
                fchmod(&file, Mode::from_raw_mode(0o640))
            }
        }
    }
}
