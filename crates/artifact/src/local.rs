//! Files and directories of this machine, read with the helper's own rights: what everybody may read.

use crate::helper::{DOWNLOAD, TREE, Teller};
use crate::order::{Failure, Limits, Phase};
use crate::tree::{Looks, Tree};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

pub(crate) fn copy(path: &str, limits: &Limits, teller: &mut Teller) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::never(format!(
            "cannot read {path}: {error} (file sources are read without privileges: everybody must be able to read them)"
        ))
    };
    let fd = rustix::fs::open(path, READING, Mode::empty()).map_err(|errno| failed(&errno))?;
    let file = File::from(fd);
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if metadata.is_dir() {
        let base = make_tree()?;
        let mut tree = Tree::new(base, limits, u64::MAX);
        walk(&OwnedFd::from(file), &mut Vec::new(), &mut tree, teller)?;
        return tree.finish().map_err(Failure::never);
    }
    if !metadata.is_file() {
        return Err(Failure::never(format!("{path} is neither a file nor a directory")));
    }
    if metadata.size() > limits.download_bytes {
        return Err(Failure::never(format!("{path} has more than {} bytes", limits.download_bytes)));
    }
    let mut from = &file;
    let mut to = File::create_new(DOWNLOAD).map_err(|error| failed(&error))?;
    let copied = std::io::copy(&mut from, &mut to).map_err(|error| failed(&error))?;
    teller.progress(Phase::Fetching, copied, Some(copied));
    Ok(())
}

/// The directory in which the result grows.
pub(crate) fn make_tree() -> Result<OwnedFd, Failure> {
    let failed = |errno| Failure::never(format!("cannot make a directory for the result: {errno}"));
    rustix::fs::mkdir(TREE, Mode::from_raw_mode(0o755)).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(TREE, flags, Mode::empty()).map_err(failed)
}

fn walk(
    directory: &OwnedFd,
    path: &mut Vec<u8>,
    tree: &mut Tree,
    teller: &mut Teller,
) -> Result<(), Failure> {
    let failed = |path: &[u8], errno: rustix::io::Errno| {
        Failure::never(format!("cannot read {}: {errno}", String::from_utf8_lossy(path)))
    };
    let entries = Dir::read_from(directory).map_err(|errno| failed(path, errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| failed(path, errno))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let length = path.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        copy_entry(directory, name, path, tree, teller)?;
        path.truncate(length);
    }
    Ok(())
}

fn copy_entry(
    directory: &OwnedFd,
    name: &std::ffi::CStr,
    path: &mut Vec<u8>,
    tree: &mut Tree,
    teller: &mut Teller,
) -> Result<(), Failure> {
    let failed = |path: &[u8], errno: rustix::io::Errno| {
        Failure::never(format!("cannot read {}: {errno}", String::from_utf8_lossy(path)))
    };
    let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed(path, errno))?;
    let open = |flags| {
        rustix::fs::openat(directory.as_fd(), name, READING | OFlags::NOFOLLOW | flags, Mode::empty())
            .map_err(|errno| failed(path, errno))
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let fd = open(OFlags::DIRECTORY)?;
            tree.directory(path, stat.st_mode).map_err(Failure::never)?;
            walk(&fd, path, tree, teller)
        }
        FileType::RegularFile => {
            let mut file = File::from(open(OFlags::empty())?);
            let looks = Looks { mode: stat.st_mode, mtime: None };
            tree.file(path, looks, &mut file).map_err(Failure::never)?;
            teller.progress(Phase::Fetching, tree.bytes(), None);
            Ok(())
        }
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(directory, name, Vec::new()).map_err(|errno| failed(path, errno))?;
            tree.symlink(path, target.to_bytes()).map_err(Failure::never)
        }
        _ => Err(Failure::never(format!(
            "{} is neither file nor directory nor link",
            String::from_utf8_lossy(path)
        ))),
    }
}
