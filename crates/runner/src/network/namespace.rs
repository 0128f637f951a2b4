//! A named network namespace: a file below [`super::NAMESPACES`] on which the namespace is mounted, so that it lives
//! while no task does (between restarts) and survives its supervisor.

use super::NetworkError;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The name of a namespace; whether it is there is another question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// The namespace of this id in a directory.
    ///
    /// # Errors
    /// [`NetworkError::Id`] for what is not one plain file name.
    pub(crate) fn named(directory: &Path, id: &str) -> Result<Namespace, NetworkError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if id.is_empty() || id.len() > 64 || id.starts_with('-') || !id.bytes().all(plain) {
            return Err(NetworkError::Id(id.to_owned()));
        }
        Ok(Namespace { path: directory.join(id) })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its file, if a namespace is mounted there.
    pub(super) fn existing(&self) -> Option<&Path> {
        self.open()
            .is_ok_and(|fd| bivouac_sys::net::is_network_namespace(rustix::fd::AsFd::as_fd(&fd)))
            .then_some(&self.path)
    }

    fn failed(&self, what: &'static str) -> impl Fn(Errno) -> NetworkError {
        move |errno| NetworkError::Namespace { what, path: self.path.clone(), errno }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        openat(CWD, &self.path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Makes a fresh namespace and mounts it on a file that was not there before: a used one never returns.
    pub(super) fn create(&self) -> Result<(), NetworkError> {
        if let Some(directory) = self.path.parent() {
            match mkdirat(CWD, directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed("make its directory")(errno)),
            }
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, &self.path, flags, Mode::RUSR).map_err(self.failed("make its file"))?;
        let mounted = bivouac_sys::net::new_namespace().map_err(self.failed("make")).and_then(|namespace| {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let tree = open_tree(&namespace, "", clone).map_err(self.failed("mount"))?;
            let by_descriptor =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&tree, "", &file, "", by_descriptor).map_err(self.failed("mount"))
        });
        if mounted.is_err() {
            let _ = unlinkat(CWD, &self.path, AtFlags::empty());
        }
        mounted
    }

    /// Unmounts and removes it; one that is not there is none to remove.
    pub(super) fn remove(&self) -> Result<(), NetworkError> {
        match unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not a mount point, or no file at all.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(self.failed("unmount")(errno)),
        }
        match unlinkat(CWD, &self.path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove its file")(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_file_name() {
        let directory = Path::new("/run/netns");
        assert_eq!(Namespace::named(directory, "a-1_b").unwrap().path(), Path::new("/run/netns/a-1_b"));
        for id in ["", ".", "..", "a/b", "-x", "a b", "a\nb", "ä", &"x".repeat(65)] {
            assert!(Namespace::named(directory, id).is_err(), "{id:?}");
        }
    }
}
