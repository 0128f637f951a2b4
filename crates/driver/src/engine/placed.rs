//! Files that were put below a directory of the chroot environment, as a template with the destination `etc/app.conf`
//! is, and written again while the task runs.
//!
//! They lie in the task's directory on the host, which is a layer of the overlay that the task sees
//! ([`crate::entries`]). An overlay keeps what it once looked up: a file that the client renames into the layer later
//! is not seen. So what has changed there is written once more *through* the task's own mount, from where it is seen
//! at once and by every process. And since it lies in the task's upper layer then, a start uncovers what is newer
//! below it.
//!
//! The task is not trusted with any of it: the layer is opened beneath the task's directory through no link (a task can
//! move what is above it), its mount is entered only below the overlay's own top, through no link and no further mount,
//! and what a layer above hides stays hidden. A file that the task itself changed after the
//! client last wrote it is the task's.

use super::{Engine, EngineError, Standing, disk};
use crate::task::Task;
use bivouac_sandbox::model::Show;
use bivouac_sandbox::plan::upper_name;
use bivouac_sandbox::{HostPath, TaskPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, FsWord, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, fchmod,
    fchown, fstat, fstatfs, futimens, mkdirat, open, openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// More entries than this are no destinations but a whole root that somebody copied there: it is left as it was
/// when the task started.
const MOST: usize = 2048;
const DEEPEST: usize = 32;
const OVERLAY: FsWord = 0x794c_7630;
/// What is written before it takes its place.
const TEMPORARY: &str = ".bivouac-new";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One directory in which files were put, and where the task sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placed {
    /// The task's directory on the host.
    directory: HostPath,
    /// Where in it.
    place: PathBuf,
    target: TaskPath,
    /// The layers above it, which decide first.
    hides: Vec<HostPath>,
}

/// What of a task's chroot environment has a layer in the task's own directory.
pub(super) fn of(task: &Task, directory: &HostPath) -> Vec<Placed> {
    let entries = task.sandbox.root.entries.iter();
    let placed = entries.filter_map(|entry| {
        let Show::Overlay { above } = &entry.show else { return None };
        let at = above.iter().position(|layer| layer.is_within(directory))?;
        let (hides, rest) = above.split_at(at);
        let place = rest.first()?.as_path().strip_prefix(directory.as_path()).ok()?.to_owned();
        let (directory, target) = (directory.clone(), entry.target.clone());
        Some(Placed { directory, place, target, hides: hides.to_vec() })
    });
    placed.collect()
}

/// Before a start: uncovers in the task's upper layers what was put there after it was last shown.
pub(super) fn uncover(placed: &[Placed], private: &HostPath) -> Result<(), EngineError> {
    for one in placed {
        let upper = private.as_path().join(upper_name(&one.target)).join("upper");
        let Ok(upper) = open(&upper, DIRECTORY, Mode::empty()) else { continue };
        one.compare(upper, Work::Uncover)
            .map_err(disk::failed("look below what was placed in", &one.path()))?;
    }
    Ok(())
}

/// The directories in which a client may write again.
pub(super) fn directories(placed: &[Placed]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for one in placed {
        let Ok(top) = one.open() else { continue };
        // A directory is walked only through what is open; nothing is lost if one is gone meanwhile.
        let mut rest = vec![(top, one.path())];
        while let Some((directory, path)) = rest.pop() {
            for entry in Dir::read_from(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                if let Ok(inner) = openat(&directory, name, DIRECTORY, Mode::empty()) {
                    rest.push((inner, path.join(OsStr::from_bytes(name.to_bytes()))));
                }
            }
            found.push(path);
            if found.len() > MOST {
                return Vec::new();
            }
        }
    }
    found
}

impl Engine {
    /// The directories of a running task in which its client may write files again that the task sees below the
    /// chroot environment; usually none. After a change in one of them, [`Engine::show_placed`].
    ///
    /// # Errors
    /// [`EngineError`]: nothing that can be read was recorded.
    pub fn placed(&self, id: &str) -> Result<Vec<PathBuf>, EngineError> {
        Ok(directories(&super::Record::read(&self.run_dir(id))?.placed))
    }

    /// Shows a running task what was put below its chroot environment since it started.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, or a file that cannot be written.
    pub fn show_placed(&self, id: &str) -> Result<(), EngineError> {
        let Standing::Alive(mut client) = self.find(id)? else { return Ok(()) };
        let placed = super::Record::read(&self.run_dir(id))?.placed;
        let Some(first) = client.state()?.first else { return Ok(()) };
        let root = format!("/proc/{}/root", first.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(root) = open(root.as_str(), flags, Mode::empty()) else { return Ok(()) };
        // Nobody else has its number while its shim has not taken its end.
        if client.state()?.exit.is_some() {
            return Ok(());
        }
        for one in &placed {
            let path = one.path();
            one.show(root.as_fd()).map_err(disk::failed("show the task what was placed in", &path))?;
        }
        Ok(())
    }
}

impl Placed {
    /// For messages, and for who watches; never to open anything by.
    fn path(&self) -> PathBuf {
        self.directory.as_path().join(&self.place)
    }

    /// The layer. Whoever may write in the task's root can move the directories above it, and put links there.
    fn open(&self) -> Result<OwnedFd, Errno> {
        let directory = open(self.directory.as_path(), DIRECTORY, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(directory, &self.place, DIRECTORY, Mode::empty(), resolve)
    }

    fn show(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        let below = self.target.as_path().strip_prefix("/").map_err(|_| Errno::INVAL)?;
        // The one step over a mount: from the task's root to the overlay.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let view = openat2(root, below, DIRECTORY, Mode::empty(), resolve)?;
        // Something else is mounted there.
        if fstatfs(&view)?.f_type != OVERLAY {
            return Ok(());
        }
        self.compare(view, Work::Show)
    }

    fn compare(&self, view: OwnedFd, work: Work) -> Result<(), Errno> {
        let Ok(from) = self.open() else { return Ok(()) };
        let layers = self.hides.iter();
        let hides = layers.filter_map(|layer| open(layer.as_path(), DIRECTORY, Mode::empty()).ok()).collect();
        Comparison { work, left: MOST }.directory(&from, hides, &view, 0)
    }
}

/// What is done about a file that is newer than what the task sees or would see.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// It is written through the task's mount.
    Show,
    /// What lies over it in the task's upper layer is removed.
    Uncover,
}

struct Comparison {
    work: Work,
    left: usize,
}

impl Comparison {
    fn directory(
        &mut self,
        from: &OwnedFd,
        hides: Vec<OwnedFd>,
        view: &OwnedFd,
        depth: usize,
    ) -> Result<(), Errno> {
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
            self.left = left;
            let Some(found) = look(from.as_fd(), name)? else { continue };
            let above: Vec<Option<Stat>> =
                hides.iter().map(|layer| look(layer.as_fd(), name)).collect::<Result<_, _>>()?;
            if above.iter().flatten().any(|stat| kind(stat) != FileType::Directory) {
                continue;
            }
            match kind(&found) {
                FileType::RegularFile => self.file(from, name, view)?,
                FileType::Directory if depth < DEEPEST => {
                    let inner = openat(from, name, DIRECTORY, Mode::empty())?;
                    let hides =
                        hides.iter().filter_map(|layer| openat(layer, name, DIRECTORY, Mode::empty()).ok());
                    if let Some(view) = self.enter(view, name, &found)? {
                        self.directory(&inner, hides.collect(), &view, depth + 1)?;
                    }
                }
                // Links, devices, sockets: nobody's destination.
                _ => {}
            }
        }
        Ok(())
    }

    /// The same directory as the task sees it; `None` where the task has put something else.
    fn enter(&self, view: &OwnedFd, name: &CStr, like: &Stat) -> Result<Option<OwnedFd>, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let enter = || openat2(view, name, DIRECTORY, Mode::empty(), resolve);
        match enter() {
            Ok(inner) => Ok(Some(inner)),
            Err(Errno::NOENT) if self.work == Work::Show => {
                match mkdirat(view, name, Mode::RWXU) {
                    Ok(()) => {}
                    // A read-only root stays as it was.
                    Err(Errno::ROFS) => return Ok(None),
                    Err(errno) => return Err(errno),
                }
                let inner = enter()?;
                own(&inner, like)?;
                Ok(Some(inner))
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn file(&self, from: &OwnedFd, name: &CStr, view: &OwnedFd) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = match openat(from, name, flags, Mode::empty()) {
            // Renamed away meanwhile.
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            other => other?,
        };
        let placed = fstat(&source)?;
        let seen = look(view.as_fd(), name)?;
        if seen.as_ref().is_some_and(|seen| kind(seen) == FileType::Directory || !is_newer(&placed, seen)) {
            return Ok(());
        }
        match self.work {
            Work::Uncover if seen.is_some() => unlinkat(view, name, AtFlags::empty()),
            Work::Uncover => Ok(()),
            Work::Show => match write(source, &placed, name, view) {
                Err(Errno::ROFS) => Ok(()),
                other => other,
            },
        }
    }
}

/// Whether a file that was put there differs from what is seen, and was put there after that was last written.
fn is_newer(placed: &Stat, seen: &Stat) -> bool {
    let about = |stat: &Stat| {
        (stat.st_mtime, stat.st_mtime_nsec, stat.st_size, stat.st_mode, stat.st_uid, stat.st_gid)
    };
    about(placed) != about(seen)
        && (placed.st_ctime, placed.st_ctime_nsec) >= (seen.st_mtime, seen.st_mtime_nsec)
}

/// Writes a file beside its place and renames it there, as the client did.
fn write(source: OwnedFd, like: &Stat, name: &CStr, view: &OwnedFd) -> Result<(), Errno> {
    match unlinkat(view, TEMPORARY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(view, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)?;
    let (mut reader, mut writer) = (File::from(source), File::from(target));
    std::io::copy(&mut reader, &mut writer).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let target = OwnedFd::from(writer);
    own(&target, like)?;
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    let last_modification = time(like.st_mtime, like.st_mtime_nsec);
    futimens(&target, &Timestamps { last_access: last_modification, last_modification })?;
    renameat(view, TEMPORARY, view, name)
}

fn own(file: &OwnedFd, like: &Stat) -> Result<(), Errno> {
    fchown(file, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
    fchmod(file, Mode::from_raw_mode(like.st_mode & 0o7777))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn look(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task can exchange a directory above its layer for a link between our look at its view and our look at the
    /// layer; then the files of the host would be copied into its view.
    #[test]
    fn a_layer_is_never_reached_through_a_link() {
        let house = tempfile::tempdir().unwrap();
        let (task, host) = (house.path().join("task"), house.path().join("host"));
        for directory in [task.join("opt/tools/etc"), host.join("etc")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let placed = Placed {
            directory: HostPath::new(&task).unwrap(),
            place: "opt/tools/etc".into(),
            target: TaskPath::new("/opt/tools/etc").unwrap(),
            hides: Vec::new(),
        };
        assert!(placed.open().is_ok());
        assert_eq!(directories(std::slice::from_ref(&placed)), [task.join("opt/tools/etc")]);
        std::fs::rename(task.join("opt/tools"), task.join("opt/gone")).unwrap();
        for to in [host.as_path(), std::path::Path::new("../../host")] {
            std::os::unix::fs::symlink(to, task.join("opt/tools")).unwrap();
            assert!(placed.path().is_dir(), "by path the host's directory is reached");
            assert_eq!(placed.open().unwrap_err(), Errno::LOOP);
            assert!(directories(std::slice::from_ref(&placed)).is_empty());
            std::fs::remove_file(task.join("opt/tools")).unwrap();
        }
    }
}
