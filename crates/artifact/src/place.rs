//! Where a task's path lies on the host: the one function that refuses paths that leave the task's directories,
//! and the one that opens directories in them, beneath and without links.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A task's directories on the host.
#[derive(Clone, Debug)]
pub struct Roots {
    /// What the task sees as `/`.
    pub task: PathBuf,
    /// What it sees as `/alloc`.
    pub shared: PathBuf,
    /// What it sees as `/secrets`.
    pub secrets: PathBuf,
}

/// A path within one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which directory.
    pub root: Root,
    /// Names below it, none of them `..`.
    pub names: Vec<String>,
}

/// One of a task's directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/`.
    Task,
    /// `/alloc`.
    Shared,
    /// `/secrets`.
    Secrets,
}

/// Why a path is no place for a task's file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// It leaves the allocation.
    #[error("path escapes alloc directory: {0:?}")]
    Escapes(String),
    /// A NUL, or a line break that no sane path has.
    #[error("the path {0:?} holds a NUL byte or a line break")]
    Control(String),
    /// A name or the whole is too long.
    #[error("the path {0:?} is too long")]
    Long(String),
}

impl Place {
    /// Reads a path as the task would: relative to `/`, with `/alloc` and `/secrets` where it sees them. One step
    /// above `/` stands `alloc` as well, as in Nomad's directories. Call it after interpolation.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn resolve(path: &str) -> Result<Place, NoPlace> {
        if path.contains(['\0', '\n', '\r']) {
            return Err(NoPlace::Control(path.to_owned()));
        }
        if path.len() >= 4096 || path.split('/').any(|name| name.len() > 255) {
            return Err(NoPlace::Long(path.chars().take(80).collect()));
        }
        let mut names: Vec<String> = Vec::new();
        // Above `/`: only `alloc` may follow.
        let mut above = false;
        let mut came_from_above = false;
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." if above || came_from_above && names.len() == 1 => {
                    return Err(NoPlace::Escapes(path.to_owned()));
                }
                ".." => above = names.pop().is_none(),
                "alloc" if above => {
                    names.push(name.to_owned());
                    (above, came_from_above) = (false, true);
                }
                _ if above => return Err(NoPlace::Escapes(path.to_owned())),
                _ => names.push(name.to_owned()),
            }
        }
        if above {
            return Err(NoPlace::Escapes(path.to_owned()));
        }
        let root = match names.first().map(String::as_str) {
            Some("alloc") => Root::Shared,
            Some("secrets") => Root::Secrets,
            _ => Root::Task,
        };
        if root != Root::Task {
            names.remove(0);
        }
        Ok(Place { root, names })
    }
}

impl Roots {
    /// The directory on the host.
    pub fn path(&self, root: Root) -> &Path {
        match root {
            Root::Task => &self.task,
            Root::Shared => &self.shared,
            Root::Secrets => &self.secrets,
        }
    }
}

/// What failed at which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {errno}{}", .path.display(), hint(*.errno))]
pub struct PathError {
    /// What was tried.
    pub what: &'static str,
    /// At which path.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::LOOP => " (a symbolic link is in the way; links are not followed there)",
        Errno::NOSPC => " (free some space)",
        Errno::NOTDIR => " (something that is no directory is in the way)",
        _ => "",
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// How paths below a directory that a task writes are opened.
pub const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens a directory that nobody but root arranges.
///
/// # Errors
/// [`PathError`].
pub fn open_root(path: &Path) -> Result<OwnedFd, PathError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|errno| PathError {
        what: "open",
        path: path.to_path_buf(),
        errno,
    })
}

/// Opens the directory at `names` below `root`, making what is missing, owned by `owner`. No link is followed.
///
/// # Errors
/// [`PathError`]; `ELOOP` where a link stands in the way.
pub fn make_directories(
    root: BorrowedFd<'_>,
    shown: &Path,
    names: &[String],
    owner: Owner,
) -> Result<OwnedFd, PathError> {
    let mut path = shown.to_path_buf();
    let failed = |what, path: &Path, errno| PathError { what, path: path.to_path_buf(), errno };
    let mut current = root
        .try_clone_to_owned()
        .map_err(|error| failed("open", &path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    for name in names {
        path.push(name);
        let made = match rustix::fs::mkdirat(&current, name.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed("make", &path, errno)),
        };
        current = openat2(current.as_fd(), name.as_str(), DIRECTORY, Mode::empty(), BENEATH)
            .map_err(|errno| failed("open", &path, errno))?;
        if made {
            owner.give(current.as_fd()).map_err(|errno| failed("change the owner of", &path, errno))?;
        }
    }
    Ok(current)
}

/// Opens the directory at `names` below `root` if it is there. No link is followed.
///
/// # Errors
/// [`PathError`]; `ELOOP` where a link stands in the way.
pub fn open_directories(
    root: BorrowedFd<'_>,
    shown: &Path,
    names: &[String],
) -> Result<Option<OwnedFd>, PathError> {
    let path = if names.is_empty() { ".".to_owned() } else { names.join("/") };
    match openat2(root, path.as_str(), DIRECTORY, Mode::empty(), BENEATH) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(PathError { what: "open", path: shown.join(path), errno }),
    }
}

/// Whom files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// Root.
    pub const ROOT: Owner = Owner { uid: 0, gid: 0 };

    /// Gives it what `fd` is open on. Where we are not root, everything is ours already.
    ///
    /// # Errors
    /// What fchown(2) answered.
    pub fn give(self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let (uid, gid) = self.ids();
        rustix::fs::fchown(fd, Some(uid), Some(gid))
    }

    pub(crate) fn ids(self) -> (rustix::fs::Uid, rustix::fs::Gid) {
        (rustix::fs::Uid::from_raw(self.uid), rustix::fs::Gid::from_raw(self.gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: CVE-2020-27195, W59
    #[test]
    fn paths_are_read_as_the_task_sees_them_and_never_leave() {
        let place = |path: &str| Place::resolve(path).map(|place| (place.root, place.names.join("/")));
        for (path, root, rest) in [
            ("local/", Root::Task, "local"),
            ("local/a/../b", Root::Task, "local/b"),
            ("/tmp", Root::Task, "tmp"),
            ("", Root::Task, ""),
            ("../alloc/x", Root::Shared, "x"),
            ("/alloc/data", Root::Shared, "data"),
            ("local/../../alloc/x", Root::Shared, "x"),
            ("secrets/key", Root::Secrets, "key"),
            ("/secrets", Root::Secrets, ""),
        ] {
            assert_eq!(place(path), Ok((root, rest.to_owned())), "{path}");
        }
        for path in [
            "..",
            "../..",
            "../x",
            "local/../../x",
            "/..",
            "../alloc/../../x",
            "../alloc/..",
            "alloc/../../y",
        ] {
            assert_eq!(place(path), Err(NoPlace::Escapes(path.to_owned())), "{path}");
        }
        assert!(place("a\0b").is_err() && place("a\nb").is_err() && place(&"x/".repeat(3000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_path_keeps_a_step_up(path in "[a-z./]{0,40}|(\\.\\./|alloc/|secrets/|x/){0,12}") {
            if let Ok(place) = Place::resolve(&path) {
                proptest::prop_assert!(place.names.iter().all(|name| !matches!(name.as_str(), ".." | "." | "")));
            }
        }
    }
}
