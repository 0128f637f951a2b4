//! Moves what a helper left to where it belongs: examined by descriptors, renamed, never written through a link or
//! into a file that is there.
//!
//! The helper's uid owned the tree, so each directory is taken away from it before it is looked at.

use crate::place::{BENEATH, Owner, PathError};
use crate::tree::check_link;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LOOK: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// How names of what is on its way begin.
const TEMPORARY: &str = ".bivouac-";
/// Deeper than any tree that a helper makes.
const DEEPEST: usize = 160;

/// Why something is not moved.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// The kernel's answer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something that may not come into a task's directory.
    #[error("{}: {why}", .path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

fn failed(what: &'static str, path: &Path, errno: Errno) -> DepositError {
    PathError { what, path: path.to_path_buf(), errno }.into()
}

fn name_of(path: &Path, name: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

pub(crate) fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<CString>, DepositError> {
    let entries = Dir::read_from(directory).map_err(|errno| failed("list", path, errno))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| failed("list", path, errno))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What a tree may hold, and whose it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// The uid that made it: what somebody else owns was not made by the helper.
    pub made_by: u32,
    /// Whose it becomes.
    pub owner: Owner,
}

/// Takes a tree from its maker, refuses what may not be in it, and gives it to its owner.
///
/// # Errors
/// [`DepositError`].
pub fn seal(tree: BorrowedFd<'_>, path: &Path, seal: Seal) -> Result<(), DepositError> {
    Sealing { seal, given: HashSet::new() }.directory(tree, path, 0)
}

/// A tree being sealed.
struct Sealing {
    seal: Seal,
    /// Files that have been given away already: they may have more names.
    given: HashSet<u64>,
}

impl Sealing {
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), DepositError> {
        let refused = |why| Err(DepositError::Refused { path: path.to_path_buf(), why });
        if depth > DEEPEST {
            return refused("directories lie too deep in each other");
        }
        let stat = rustix::fs::fstat(directory).map_err(|errno| failed("look at", path, errno))?;
        if stat.st_uid != self.seal.made_by {
            return refused("is not the helper's");
        }
        Owner::ROOT.give(directory).map_err(|errno| failed("take", path, errno))?;
        chmod(directory, 0o700).map_err(|errno| failed("take", path, errno))?;
        for name in names(directory, path)? {
            self.entry(directory, &name, &name_of(path, &name), depth)?;
        }
        give(directory, stat.st_mode, self.seal.owner).map_err(|errno| failed("give away", path, errno))
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        here: &Path,
        depth: usize,
    ) -> Result<(), DepositError> {
        let refused = |why| Err(DepositError::Refused { path: here.to_path_buf(), why });
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("look at", here, errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Besides its own there is what was handed over to it, which is root's and has one name. A file of somebody
        // else's that it has linked here has two.
        let handed_over = kind == FileType::RegularFile && stat.st_uid == 0 && stat.st_nlink == 1;
        if stat.st_uid != self.seal.made_by && !handed_over && !self.given.contains(&stat.st_ino) {
            return refused("is not the helper's");
        }
        match kind {
            FileType::Directory => {
                let fd = open_directory(directory, name, here)?;
                self.directory(fd.as_fd(), here, depth + 1)
            }
            FileType::RegularFile => {
                let fd = openat2(directory, name, LOOK, Mode::empty(), BENEATH)
                    .map_err(|errno| failed("open", here, errno))?;
                self.given.insert(stat.st_ino);
                give(fd.as_fd(), stat.st_mode, self.seal.owner)
                    .map_err(|errno| failed("give away", here, errno))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(|errno| failed("read", here, errno))?;
                if let Err(why) = check_link(depth, target.to_bytes()) {
                    return refused(why);
                }
                if !rustix::process::geteuid().is_root() {
                    return Ok(());
                }
                let (uid, gid) = self.seal.owner.ids();
                rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed("give away", here, errno))
            }
            _ => refused("is neither file nor directory nor link"),
        }
    }
}

fn chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o777))
}

/// The owner first: a change of owner clears bits of the mode.
fn give(fd: BorrowedFd<'_>, mode: u32, owner: Owner) -> Result<(), Errno> {
    owner.give(fd)?;
    chmod(fd, mode)
}

/// Moves everything in `tree` into `target`: files replace what has their name, directories are merged.
///
/// # Errors
/// [`DepositError`]: what has been moved by then stays.
pub fn merge(tree: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: &Path) -> Result<(), DepositError> {
    for name in names(tree, shown)? {
        move_entry(tree, &name, target, &name, shown)?;
    }
    Ok(())
}

/// Moves one entry to `new_name` in `target`.
///
/// # Errors
/// [`DepositError`].
pub fn move_entry(
    from: BorrowedFd<'_>,
    name: &CStr,
    target: BorrowedFd<'_>,
    new_name: &CStr,
    shown: &Path,
) -> Result<(), DepositError> {
    let here = name_of(shown, new_name);
    match rustix::fs::renameat_with(from, name, target, new_name, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(Errno::XDEV) => return copy_entry(from, name, target, new_name, shown),
        Err(errno) => return Err(failed("move to", &here, errno)),
    }
    let kind = |directory: BorrowedFd<'_>, name: &CStr| {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(|errno| failed("look at", &here, errno))
    };
    let refused = |why| Err(DepositError::Refused { path: here.clone(), why });
    match (kind(from, name)?, kind(target, new_name)?) {
        (FileType::Directory, FileType::Directory) => {
            let (old, new) = (open_directory(from, name, &here)?, open_directory(target, new_name, &here)?);
            merge(old.as_fd(), new.as_fd(), &here)
        }
        (FileType::Directory, FileType::Symlink) => {
            refused("is a symbolic link; a directory is not put behind it")
        }
        (FileType::Directory, _) => refused("is there and is no directory"),
        (_, FileType::Directory) => refused("is a directory; a file does not replace it"),
        _ => rustix::fs::renameat(from, name, target, new_name)
            .map_err(|errno| failed("move to", &here, errno)),
    }
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr, shown: &Path) -> Result<OwnedFd, DepositError> {
    openat2(at, name, DIRECTORY, Mode::empty(), BENEATH).map_err(|errno| failed("open", shown, errno))
}

/// Across file systems: a copy under a name of its own, then a rename.
fn copy_entry(
    from: BorrowedFd<'_>,
    name: &CStr,
    target: BorrowedFd<'_>,
    new_name: &CStr,
    shown: &Path,
) -> Result<(), DepositError> {
    let here = name_of(shown, new_name);
    let oops = |what| {
        let here = here.clone();
        move |errno| failed(what, &here, errno)
    };
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(oops("look at"))?;
    let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let old = open_directory(from, name, &here)?;
            let made = match rustix::fs::mkdirat(target, new_name, Mode::from_raw_mode(0o700)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(failed("make", &here, errno)),
            };
            let new = open_directory(target, new_name, &here)?;
            for name in names(old.as_fd(), &here)? {
                copy_entry(old.as_fd(), &name, new.as_fd(), &name, &here)?;
            }
            if made { give(new.as_fd(), stat.st_mode, owner).map_err(oops("give away")) } else { Ok(()) }
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(from, name, Vec::new()).map_err(oops("read"))?;
            let temporary = temporary_name();
            rustix::fs::symlinkat(&text, target, &temporary).map_err(oops("make"))?;
            put(target, &temporary, new_name, &here)
        }
        _ => {
            let mut old =
                File::from(openat2(from, name, LOOK, Mode::empty(), BENEATH).map_err(oops("open"))?);
            replace(target, new_name, &here, stat.st_mode, owner, &mut |file| {
                std::io::copy(&mut old, file).map(drop)
            })
        }
    }
}

/// Writes a file under a name of its own and puts it in the place of `name`: whoever looks sees the old or the new
/// one, whole; a link of that name is replaced, not followed.
///
/// # Errors
/// [`DepositError`]; the old file stays then.
pub fn replace(
    directory: BorrowedFd<'_>,
    name: &CStr,
    shown: &Path,
    mode: u32,
    owner: Owner,
    write: &mut dyn FnMut(&mut File) -> std::io::Result<()>,
) -> Result<(), DepositError> {
    let temporary = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat2(directory, &temporary, flags, Mode::from_raw_mode(0o600), ResolveFlags::BENEATH)
        .map_err(|errno| failed("make", shown, errno))?;
    let mut file = File::from(fd);
    let written = write(&mut file)
        .and_then(|()| file.flush())
        .map_err(|error| failed("write", shown, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        .and_then(|()| give(file.as_fd(), mode, owner).map_err(|errno| failed("give away", shown, errno)));
    match written {
        Ok(()) => put(directory, &temporary, name, shown),
        Err(error) => {
            let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
            Err(error)
        }
    }
}

fn put(directory: BorrowedFd<'_>, temporary: &CStr, name: &CStr, shown: &Path) -> Result<(), DepositError> {
    rustix::fs::renameat(directory, temporary, directory, name).map_err(|errno| {
        let _ = rustix::fs::unlinkat(directory, temporary, AtFlags::empty());
        failed("put in place", shown, errno)
    })
}

/// Removes files of [`replace`] whose writer has died from one directory. For whoever knows that nobody else is writing
/// there; what has another name, and what is no file, is left alone.
///
/// # Errors
/// [`DepositError`].
pub fn sweep(directory: BorrowedFd<'_>, shown: &Path) -> Result<(), DepositError> {
    for name in names(directory, shown)? {
        let digits = name.to_bytes().strip_prefix(TEMPORARY.as_bytes()).unwrap_or_default();
        if digits.len() == 2 * RANDOM && digits.iter().all(u8::is_ascii_hexdigit) {
            match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => return Err(failed("remove", &name_of(shown, &name), errno)),
            }
        }
    }
    Ok(())
}

/// How many bytes of chance are in a name of what is on its way.
const RANDOM: usize = 12;

/// A name that nobody guesses.
pub(crate) fn temporary_name() -> CString {
    let mut bytes = [0_u8; RANDOM];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    CString::new(format!("{TEMPORARY}{hex}")).unwrap_or_default()
}

/// Whether it is such a name.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(TEMPORARY.as_bytes())
}
