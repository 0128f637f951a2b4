//! Copies of host directories for `root = "copy"`: made once, by reflink where the file system can, and then used
//! as the lower layer of overlays, so that a task shares page cache with nobody and later changes of the host do
//! not reach it.

use crate::path::HostPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps,
    Uid, chownat, fchmod, fchown, flock, fstat, futimens, ioctl_ficlone, mkdirat, openat, readlinkat,
    renameat_with, statat, symlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;

/// Why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The kernel refused something.
    #[error("cannot {what} {path}: {errno}")]
    Call {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// Somebody else's directory stands where the store should be.
    #[error(
        "{0} does not belong to root alone (mode 0700); remove it, Bivouac never adopts a foreign directory"
    )]
    Foreign(String),
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DEEPEST: usize = 256;

/// The copy of `source` in `store`, made when it is not there. Others that want the same wait meanwhile.
/// Removing it makes the next start copy anew.
///
/// # Errors
/// [`CopyError`]: a store that is not root's alone, a full disk.
pub fn provide(store: &HostPath, source: &HostPath) -> Result<HostPath, CopyError> {
    let failed = |what, path: &HostPath| {
        let path = path.to_string();
        move |errno| CopyError::Call { what, path, errno }
    };
    // Parents of the store are the operator's business but for the first making of /var/lib/bivouac.
    if let Some(parent) = store.as_path().parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| failed("make", store)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    }
    match mkdirat(CWD, store.as_path(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("make", store)(errno)),
    }
    let foreign = || CopyError::Foreign(store.to_string());
    let kept = openat(CWD, store.as_path(), DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => foreign(),
        errno => failed("open", store)(errno),
    })?;
    // Its mode is not mended: whoever could write there may have left a copy that is none.
    let status = fstat(&kept).map_err(failed("look at", store))?;
    if status.st_uid != 0 || status.st_mode & 0o077 != 0 {
        return Err(foreign());
    }
    let name = name_of(source);
    let place = store.join(&name).map_err(|_| failed("name", source)(Errno::NAMETOOLONG))?;
    if statat(&kept, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(place);
    }
    flock(&kept, FlockOperation::LockExclusive).map_err(failed("lock", store))?;
    if statat(&kept, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(place);
    }
    let temporary = format!(".new{name}");
    // Under the lock nobody else makes it, so what is there was left by a crash.
    let _ = std::fs::remove_dir_all(store.as_path().join(&temporary));
    let from = openat(CWD, source.as_path(), DIRECTORY, Mode::empty()).map_err(failed("open", source))?;
    let made = mkdirat(&kept, temporary.as_str(), Mode::RWXU)
        .and_then(|()| openat(&kept, temporary.as_str(), DIRECTORY, Mode::empty()))
        .and_then(|to| directory(from.as_fd(), to.as_fd(), 0))
        .and_then(|()| {
            renameat_with(&kept, temporary.as_str(), &kept, name.as_str(), RenameFlags::NOREPLACE)
        });
    if let Err(errno) = made {
        let _ = std::fs::remove_dir_all(store.as_path().join(&temporary));
        return Err(failed("copy", source)(errno));
    }
    Ok(place)
}

/// `/usr/share` -> `usr+share`, one to one for paths without `+` and `%`, which are spelled out.
fn name_of(source: &HostPath) -> String {
    let text = source.to_string().replace('%', "%25").replace('+', "%2b");
    text.trim_start_matches('/').replace('/', "+")
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth > DEEPEST {
        return Err(Errno::LOOP);
    }
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(from)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        let status = match statat(from, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                let inner = openat(from, &name, DIRECTORY, Mode::empty())?;
                mkdirat(to, &name, Mode::RWXU)?;
                directory(inner.as_fd(), openat(to, &name, DIRECTORY, Mode::empty())?.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => file(from, to, &name)?,
            FileType::Symlink => {
                symlinkat(readlinkat(from, &name, Vec::new())?, to, &name)?;
                let (uid, gid) = (Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)));
                chownat(to, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // Devices, sockets and FIFOs are skipped, as the built-in driver does.
            _ => {}
        }
    }
    settle(to, &fstat(from)?)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let target: OwnedFd = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    let status = fstat(&source)?;
    if ioctl_ficlone(&target, &source).is_err() {
        let (mut source, mut target) =
            (File::from(source.try_clone().map_err(errno)?), File::from(target.try_clone().map_err(errno)?));
        std::io::copy(&mut source, &mut target).map_err(errno)?;
    }
    settle(target.as_fd(), &status)
}

/// Owner, mode (without set-id bits, which mean nothing in a task) and time as the source has them.
fn settle(fd: BorrowedFd<'_>, status: &Stat) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))?;
    fchmod(fd, Mode::from_raw_mode(status.st_mode & 0o1777))?;
    let time = Timespec { tv_sec: status.st_mtime as _, tv_nsec: status.st_mtime_nsec as _ };
    futimens(fd, &Timestamps { last_access: time, last_modification: time })
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_once_with_owners_modes_and_links() {
        if !rustix::process::geteuid().is_root() {
            eprintln!(
                "SKIPPED: a_tree_is_copied_once_with_owners_modes_and_links: giving files away needs root"
            );
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir_all(source.join("deep/er")).unwrap();
        std::fs::write(source.join("deep/file"), "text").unwrap();
        std::os::unix::fs::chown(source.join("deep/file"), Some(7), Some(8)).unwrap();
        std::fs::set_permissions(source.join("deep/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("../x", source.join("deep/er/link")).unwrap();
        let (store, source) =
            (HostPath::new(directory.path().join("store")).unwrap(), HostPath::new(&source).unwrap());
        let copy = provide(&store, &source).unwrap();
        let file = std::fs::metadata(copy.as_path().join("deep/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.len()), (0o751, 7, 8, 4));
        assert_eq!(std::fs::read_link(copy.as_path().join("deep/er/link")).unwrap().to_str(), Some("../x"));
        std::fs::write(source.as_path().join("deep/file"), "other").unwrap();
        assert_eq!(provide(&store, &source).unwrap(), copy);
        assert_eq!(std::fs::read_to_string(copy.as_path().join("deep/file")).unwrap(), "text");
        assert_eq!(std::fs::read_dir(store.as_path()).unwrap().count(), 1);
    }

    #[test]
    fn names_are_one_to_one() {
        let name = |path| name_of(&HostPath::new(path).unwrap());
        assert_eq!(name("/usr/share"), "usr+share");
        assert_ne!(name("/a+b"), name("/a/b"));
        assert_ne!(name("/a%2bb"), name("/a+b"));
    }
}
