//! What a start makes on disk: a task's own directories and generated files, layers, copies.

use super::{EngineError, Places};
use crate::entries::Layers;
use crate::request::Directories;
use crate::task::{Preparation, Task};
use bivouac_sandbox::HostPath;
use bivouac_sandbox::sanitise::Store;
use bivouac_sandbox::tree_copy;
use bivouac_sys::replace::Nameless;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A failure on a path of ours.
pub(super) fn failed<E: std::fmt::Display>(what: &'static str, path: &Path) -> impl Fn(E) -> EngineError {
    move |error| EngineError::File { what, path: path.to_owned(), answer: error.to_string() }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes or checks a directory that is root's alone; a foreign one is never adopted.
pub(super) fn private_directory(path: &Path) -> Result<OwnedFd, EngineError> {
    match mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::ACCESS) => {
            return Err(failed("make", path)("Permission denied; Bivouac must run as root"));
        }
        Err(errno) => return Err(failed("make", path)(errno)),
    }
    let directory = openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::ACCESS => failed("open", path)("Permission denied; Bivouac must run as root"),
        errno => failed("open", path)(errno),
    })?;
    let status = fstat(&directory).map_err(failed("look at", path))?;
    if status.st_uid != 0 || status.st_mode & 0o077 != 0 {
        return Err(failed("use", path)("it does not belong to root alone (mode 0700); remove it"));
    }
    Ok(directory)
}

/// Makes what the sandbox expects to find.
pub(super) fn prepare(directories: &Directories, task: &Task) -> Result<(), EngineError> {
    let nobody = (65534, 65534);
    let top = directories.task.as_path();
    let opened = openat(CWD, top, DIRECTORY, Mode::empty()).map_err(failed("open", top))?;
    let (uid, gid) = (task.account.identity.uid, task.account.identity.gid);
    let owner = if uid == 0 { nobody } else { (uid, gid) };
    for (name, mode, owner) in [("local", 0o777, owner), ("tmp", 0o1777, (0, 0)), ("secrets", 0o777, owner)] {
        beneath(opened.as_fd(), top, name, mode, owner)?;
    }
    let shared = directories.shared.as_path();
    let opened = openat(CWD, shared, DIRECTORY, Mode::empty()).map_err(failed("open", shared))?;
    beneath(opened.as_fd(), shared, "logs", 0o777, nobody)?;
    let private = directories.private.as_path();
    if let Some(parent) = private.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
    }
    let private_fd = private_directory(private)?;
    for preparation in &task.preparations {
        match preparation {
            Preparation::File { name, text } => {
                let generated = beneath(private_fd.as_fd(), private, "generated", 0o755, (0, 0))?;
                let path = private.join("generated").join(name);
                replace(generated.as_fd(), name, 0o644, text.as_bytes()).map_err(failed("write", &path))?;
            }
            Preparation::Executable { from, name } => {
                let files = beneath(private_fd.as_fd(), private, "files", 0o755, (0, 0))?;
                let bytes = std::fs::read(from.as_path()).map_err(failed("read", from.as_path()))?;
                let path = private.join("files").join(name);
                replace(files.as_fd(), name, 0o755, &bytes).map_err(failed("write", &path))?;
            }
        }
    }
    Ok(())
}

/// A directory below another, made with this mode and owner when it is missing. Links are refused: the task may have
/// put one there in an earlier run.
fn beneath(
    parent: BorrowedFd<'_>,
    path: &Path,
    name: &str,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<OwnedFd, EngineError> {
    let path = path.join(name);
    let made = match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(failed("make", &path)(errno)),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let directory =
        openat2(parent, name, DIRECTORY, Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => {
                failed("use", &path)("it is not a directory any more; the task replaced it")
            }
            errno => failed("open", &path)(errno),
        })?;
    if made {
        fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed("own", &path))?;
        fchmod(&directory, Mode::from_raw_mode(mode)).map_err(failed("set the mode of", &path))?;
    }
    Ok(directory)
}

/// Writes a file beside its place and renames it there.
pub(super) fn replace(directory: BorrowedFd<'_>, name: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = format!(".{name}.new");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(directory, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    fchmod(&file, Mode::from_raw_mode(mode))?;
    File::from(file).write_all(bytes)?;
    Ok(Nameless::default().replace(directory, temporary.as_str(), name)?)
}

/// Layers and copies on disk.
#[derive(Clone, Debug)]
pub struct DiskLayers {
    layers: PathBuf,
    copies: PathBuf,
}

impl DiskLayers {
    pub(super) fn new(places: &Places) -> DiskLayers {
        DiskLayers { layers: places.run.join("layers"), copies: places.copies.clone() }
    }
}

impl Layers for DiskLayers {
    fn sanitised(&self, source: &HostPath, hide: &[String]) -> Result<HostPath, String> {
        let layers = HostPath::new(&self.layers).map_err(|error| error.to_string())?;
        let store = Store::open(&layers).map_err(|error| error.to_string())?;
        store.current(source, hide).map_err(|error| error.to_string())
    }

    fn copied(&self, source: &HostPath) -> Result<HostPath, String> {
        let store = HostPath::new(&self.copies).map_err(|error| error.to_string())?;
        tree_copy::provide(&store, source).map_err(|error| error.to_string())
    }
}
