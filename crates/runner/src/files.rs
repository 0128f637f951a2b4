//! Files of an allocation, as people look at them and copy them in and out.
//!
//! What lies there is the tasks' work: every path is resolved beneath the allocation's directory, through no link and
//! no magic link, and what was opened is used, never a path again. Secrets and our own private layers are not shown.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat, openat2,
    readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Directories deeper than this are nobody's work.
const DEEPEST: u32 = 256;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// `..`, or a link.
    #[error("Path escapes the alloc directory: {}", .0.display())]
    Escapes(PathBuf),
    /// A task's secrets, or what is ours.
    #[error("Reading secret file prohibited: {}", .0.display())]
    Secret(PathBuf),
    /// Neither a file nor a directory.
    #[error("{} is neither a regular file nor a directory", .0.display())]
    Kind(PathBuf),
    /// The kernel's answer.
    #[error("cannot {what} {}: {error}", path.display())]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: std::io::Error,
    },
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its kind, as `ls` marks it: `-`, `d`, `l`, ...
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// When it was changed last: seconds since 1970.
    pub modified: i64,
}

/// The directory of an allocation, or of a task in it.
#[derive(Debug)]
pub struct Files {
    top: OwnedFd,
}

impl Files {
    /// Opens it. The path itself is ours.
    ///
    /// # Errors
    /// [`FileError::Kernel`].
    pub fn open(directory: &Path) -> Result<Files, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, directory, flags, Mode::empty()).map_err(kernel("open", directory))?;
        Ok(Files { top })
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, FileError> {
        let clean = check(path)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // A FIFO must not make us wait; with O_PATH nothing waits, and the kernel refuses more flags.
        let patient = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | patient | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(self.top.as_fd(), &clean, flags, Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::LOOP | Errno::XDEV => FileError::Escapes(path.to_owned()),
            errno => kernel("open", path)(errno),
        })
    }

    /// What is at a path.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn stat(&self, path: &Path) -> Result<Entry, FileError> {
        let file = self.beneath(path, OFlags::PATH)?;
        let name = path.file_name().unwrap_or(OsStr::new("/")).to_string_lossy().into_owned();
        Ok(entry(name, &fstat(&file).map_err(kernel("look at", path))?))
    }

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        let directory = self.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for name in names(directory.as_fd(), path)? {
            let text = name.to_string_lossy().into_owned();
            if check(&path.join(&text)).is_err() {
                continue;
            }
            // It may have gone meanwhile.
            if let Ok(stat) = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                entries.push(entry(text, &stat));
            }
        }
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(entries)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&self, path: &Path) -> Result<File, FileError> {
        regular(self.beneath(path, OFlags::RDONLY)?, path)
    }

    /// Writes a file with this mode; directories above it are made as needed. What stands in its place is replaced.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        let (parent, name) = split(&check(path)?)?;
        let mut above = PathBuf::new();
        for part in parent.components().filter(|part| matches!(part, Component::Normal(_))) {
            let directory = self.beneath(&above, OFlags::RDONLY | OFlags::DIRECTORY)?;
            match mkdirat(&directory, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(kernel("make", path)(errno)),
            }
            above.push(part);
        }
        let directory = self.beneath(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        replace(bytes, directory.as_fd(), &name, Mode::from_raw_mode(mode), path)
    }

    /// Copies a file or a tree of a task to a place of the caller's: into `to` if that is a directory, else as `to`.
    /// Links are copied as links.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn copy_out(&self, path: &Path, to: &Path) -> Result<(), FileError> {
        let source = self.beneath(path, OFlags::RDONLY)?;
        let to =
            if to.is_dir() { to.join(path.file_name().unwrap_or(OsStr::new("alloc"))) } else { to.into() };
        let (parent, name) = split(&to)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, &parent, flags, Mode::empty()).map_err(kernel("open", &parent))?;
        copy(source, parent.as_fd(), &name, &to, 0)
    }

    /// Copies a file or a tree of the caller's into a directory of the task, or as a file of it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn copy_in(&self, from: &Path, path: &Path) -> Result<(), FileError> {
        let source = openat(CWD, from, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let source = source.map_err(kernel("open", from))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if let Ok(directory) = self.beneath(path, flags) {
            let (_, name) = split(&std::path::absolute(from).map_err(|error| FileError::Kernel {
                what: "find",
                path: from.into(),
                error,
            })?)?;
            return copy(source, directory.as_fd(), &name, path, 0);
        }
        let (parent, name) = split(&check(path)?)?;
        let directory = self.beneath(&parent, flags)?;
        copy(source, directory.as_fd(), &name, path, 0)
    }
}

/// A path without `..`, relative to the top, that leads to no secret.
fn check(path: &Path) -> Result<PathBuf, FileError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(FileError::Escapes(path.to_owned())),
        }
    }
    let parts: Vec<String> =
        clean.iter().take(2).map(|part| part.to_string_lossy().to_ascii_lowercase()).collect();
    let is_secret = |part: &String| matches!(part.as_str(), "secrets" | "private");
    let ours = parts.first().is_some_and(|first| matches!(first.as_str(), ".secrets" | ".private"));
    if ours || parts.get(1).is_some_and(is_secret) {
        return Err(FileError::Secret(path.to_owned()));
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    Ok(clean)
}

fn kernel(what: &'static str, path: &Path) -> impl Fn(Errno) -> FileError {
    move |errno| FileError::Kernel { what, path: path.to_owned(), error: errno.into() }
}

fn split(path: &Path) -> Result<(PathBuf, CString), FileError> {
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
    let name = name.ok_or_else(|| FileError::Escapes(path.to_owned()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name))
}

fn entry(name: String, stat: &Stat) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    };
    Entry {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
    }
}

fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<CString>, FileError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(kernel("list", path))? {
        let name = entry.map_err(kernel("list", path))?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn regular(file: OwnedFd, path: &Path) -> Result<File, FileError> {
    let stat = fstat(&file).map_err(kernel("look at", path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(FileError::Kind(path.to_owned())),
    }
}

/// Copies what is open into a directory that is open.
fn copy(
    source: OwnedFd,
    into: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
    depth: u32,
) -> Result<(), FileError> {
    let stat = fstat(&source).map_err(kernel("look at", path))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => replace(File::from(source), into, name, mode, path),
        FileType::Directory if depth < DEEPEST => {
            match mkdirat(into, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(kernel("make", path)(errno)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(into, name, flags, Mode::empty()).map_err(kernel("open", path))?;
            copy_entries(source.as_fd(), target.as_fd(), path, depth)?;
            fchmod(&target, mode).map_err(kernel("set the mode of", path))
        }
        _ => Err(FileError::Kind(path.to_owned())),
    }
}

fn copy_entries(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    path: &Path,
    depth: u32,
) -> Result<(), FileError> {
    for name in names(source, path)? {
        let below = path.join(OsStr::from_bytes(name.to_bytes()));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(source, &name, flags, Mode::empty()) {
            Ok(child) => match copy(child, target, &name, &below, depth + 1) {
                // Sockets, FIFOs and devices have no content to copy.
                Err(FileError::Kind(_)) => {}
                copied => copied?,
            },
            Err(Errno::LOOP) => {
                let to = readlinkat(source, &name, Vec::new()).map_err(kernel("read", &below))?;
                let _ = unlinkat(target, &name, AtFlags::empty());
                symlinkat(&to, target, &name).map_err(kernel("make", &below))?;
            }
            // A socket cannot be opened; what has gone meanwhile is not there.
            Err(Errno::NXIO | Errno::NOENT) => {}
            Err(errno) => return Err(kernel("open", &below)(errno)),
        }
    }
    Ok(())
}

/// Beside its place first, then renamed there: a link in its place is replaced, never written through.
fn replace(
    mut source: impl Read,
    into: BorrowedFd<'_>,
    name: &CStr,
    mode: Mode,
    path: &Path,
) -> Result<(), FileError> {
    let temporary =
        CString::new([b".bivouac-copy-".as_slice(), name.to_bytes()].concat()).unwrap_or_default();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = unlinkat(into, &temporary, AtFlags::empty());
    let file = openat(into, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(kernel("write", path))?;
    let mut target = File::from(file);
    let copied = (|| {
        let mut buffer = vec![0u8; 128 * 1024];
        loop {
            let length = source.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            target.write_all(buffer.get(..length).unwrap_or_default())?;
        }
        fchmod(&target, mode)?;
        Ok(renameat(into, &temporary, into, name)?)
    })();
    copied.map_err(|error| {
        let _ = unlinkat(into, &temporary, AtFlags::empty());
        FileError::Kernel { what: "write", path: path.to_owned(), error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        for part in ["alloc/data", "web/local/sub", "web/secrets", "web/private", ".secrets/web"] {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        std::fs::write(dir.path().join("web/local/a"), "content").unwrap();
        std::fs::write(dir.path().join("web/secrets/test_file"), "secret").unwrap();
        std::fs::write(dir.path().join(".secrets/web/token"), "secret").unwrap();
        symlink("/etc", dir.path().join("web/local/etc")).unwrap();
        symlink("a", dir.path().join("web/local/inner")).unwrap();
        let files = Files::open(dir.path()).unwrap();
        (dir, files)
    }

    /// Covers: A5, CVE-2022-24683
    #[test]
    fn a5_no_path_escapes() {
        let (_dir, files) = tree();
        for path in ["../x", "web/../../x", "web/local/etc/passwd", "/../etc/passwd", "web/local/../.."] {
            let path = Path::new(path);
            for result in [
                files.stat(path).map(drop),
                files.list(path).map(drop),
                files.read(path).map(drop),
                files.copy_out(path, Path::new("/nowhere")),
            ] {
                let told = result.unwrap_err().to_string();
                assert!(told.contains("escapes"), "{}: {told}", path.display());
            }
        }
        assert!(files.read(Path::new("web/local/inner")).is_err(), "links are not followed at all");
        assert!(files.copy_in(Path::new("/etc/hostname"), Path::new("web/local/etc/x")).is_err());
    }

    /// Covers: A6, A7
    #[test]
    fn a6_secrets_are_not_shown() {
        let (_dir, files) = tree();
        let told = files.read(Path::new("web/secrets/test_file")).unwrap_err().to_string();
        assert_eq!(told, "Reading secret file prohibited: web/secrets/test_file");
        for path in ["web/SECRETS/test_file", "web/private", ".secrets/web/token", ".Private", "web/Secrets"]
        {
            assert!(matches!(files.stat(Path::new(path)), Err(FileError::Secret(_))), "{path}");
        }
        let shown: Vec<String> =
            files.list(Path::new("web")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(shown, ["local"]);
    }

    /// Covers: A8
    #[test]
    fn a8_trees_are_copied_with_their_modes_and_links_as_links() {
        let (dir, files) = tree();
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        std::fs::set_permissions(dir.path().join("web/local/sub"), std::fs::Permissions::from_mode(0o750))
            .unwrap();
        let out = tempfile::tempdir().unwrap();
        files.copy_out(Path::new("web/local"), out.path()).unwrap();
        assert_eq!(read(out.path().join("local/a")), "content");
        assert_eq!(std::fs::read_link(out.path().join("local/etc")).unwrap(), Path::new("/etc"));
        let mode = std::fs::metadata(out.path().join("local/sub")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        std::fs::write(out.path().join("local/b"), "new").unwrap();
        files.copy_in(&out.path().join("local"), Path::new("alloc/data")).unwrap();
        assert_eq!(read(dir.path().join("alloc/data/local/b")), "new");
        files.copy_in(&out.path().join("local/b"), Path::new("web/local/inner")).unwrap();
        assert_eq!(read(dir.path().join("web/local/a")), "content", "not written through a link");
        assert_eq!(read(dir.path().join("web/local/inner")), "new");
        files.copy_out(Path::new("web/local/a"), &out.path().join("named")).unwrap();
        assert_eq!(read(out.path().join("named")), "content");
    }

    #[test]
    fn fifos_neither_hang_nor_are_copied() {
        let (dir, files) = tree();
        let fifo = dir.path().join("web/local/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(files.read(Path::new("web/local/fifo")), Err(FileError::Kind(_))));
        let out = tempfile::tempdir().unwrap();
        files.copy_out(Path::new("web/local"), out.path()).unwrap();
        assert!(!out.path().join("local/fifo").exists());
    }
}
