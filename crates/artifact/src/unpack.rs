//! The second half of the work: what was fetched is verified, then unpacked or kept.

use crate::address::Unpacking;
use crate::archive::{ArchiveKind, Compression, compressed, tar, zip};
use crate::checksum::{self, Checksum, Sum};
use crate::helper::{CHECKSUMS, DOWNLOAD, TREE, Teller};
use crate::local::make_tree;
use crate::order::{Failure, Limits, Phase, ResultMode, Unpack};
use crate::tree::{Looks, Tree};
use std::fs::File;
use std::io::Read;

/// The longest checksum file.
const LONGEST_LIST: u64 = 1024 * 1024;
/// Padding behind an end mark; more is a way to burn time.
const MOST_BEHIND_THE_END: u64 = 64 * 1024 * 1024;
const PLAIN: Looks = Looks { mode: 0o644, mtime: None };

pub(crate) fn unpack(order: &Unpack, limits: &Limits, teller: &mut Teller) -> Result<(), Failure> {
    let open = || {
        File::open(DOWNLOAD).map_err(|error| Failure::never(format!("cannot open what was fetched: {error}")))
    };
    let size = open()?.metadata().map_or(0, |metadata| metadata.len());
    if let Some(expected) = &order.checksum {
        verify(expected, order, &mut Counted::new(open()?, teller, Phase::Verifying, size))?;
    }
    let named = ArchiveKind::of_name(&order.file_name);
    let (kind, stem) = match (order.unpacking, named) {
        (Unpacking::Never, _) | (Unpacking::ByName, None) => (None, order.file_name.as_str()),
        (Unpacking::ByName, Some((kind, stem))) => (Some(kind), stem),
        // The ending is dropped only if it is that of the kind.
        (Unpacking::As(kind), Some((by_name, stem))) if by_name == kind => (Some(kind), stem),
        (Unpacking::As(kind), _) => (Some(kind), order.file_name.as_str()),
    };
    let mut tree = Tree::new(make_tree()?, limits, size);
    match kind {
        None if order.mode == ResultMode::Directory => {
            return Err(Failure::never(format!(
                "mode \"dir\" needs an archive or a repository, {:?} is neither; name its kind with the option archive",
                order.file_name
            )));
        }
        None => return keep(order),
        Some(ArchiveKind::Single(compression)) => {
            let input = Counted::new(open()?, teller, Phase::Unpacking, size);
            let mut plain = compressed::reader(compression, input);
            tree.file(stem.as_bytes(), PLAIN, &mut plain).map_err(unpacking)?;
        }
        Some(ArchiveKind::Tar(compression)) => {
            untar(compression, Counted::new(open()?, teller, Phase::Unpacking, size), &mut tree)?;
        }
        Some(ArchiveKind::Zip) => unzip(open()?, open()?, limits, &mut tree, teller)?,
    }
    tree.finish().map_err(Failure::never)?;
    if order.mode == ResultMode::File && !matches!(kind, Some(ArchiveKind::Single(_))) {
        only_file()
    } else {
        Ok(())
    }
}

/// The file as it is: moved, not copied.
fn keep(order: &Unpack) -> Result<(), Failure> {
    rustix::fs::rename(DOWNLOAD, format!("{TREE}/{}", order.file_name))
        .map_err(|errno| Failure::never(format!("cannot keep {:?}: {errno}", order.file_name)))
}

fn verify(expected: &Checksum, order: &Unpack, input: &mut dyn Read) -> Result<(), Failure> {
    let expected = match expected {
        Checksum::Value(sum) => sum.clone(),
        Checksum::List(_) => {
            let mut list = String::new();
            File::open(CHECKSUMS)
                .and_then(|file| file.take(LONGEST_LIST).read_to_string(&mut list))
                .map_err(|error| Failure::never(format!("cannot read the checksum file: {error}")))?;
            checksum::look_up(&list, &order.file_name).map_err(Failure::never)?
        }
    };
    let found = Sum::of(expected.algorithm, input)
        .map_err(|error| Failure::never(format!("cannot read what was fetched: {error}")))?;
    if found != expected {
        return Err(Failure::never(format!(
            "checksums did not match: expected {expected}, got {}",
            found.hex
        )));
    }
    Ok(())
}

fn unpacking(error: impl std::fmt::Display) -> Failure {
    Failure::never(format!("cannot unpack: {error}"))
}

fn untar(compression: Compression, input: impl Read + Send, tree: &mut Tree) -> Result<(), Failure> {
    let mut reader = tar::Reader::new(compressed::reader(compression, input));
    while let Some(entry) = reader.next_entry().map_err(unpacking)? {
        match &entry.kind {
            tar::EntryKind::File => {
                let looks = Looks { mode: entry.mode, mtime: Some(entry.mtime) };
                let written = tree.file(&entry.path, looks, &mut reader).map_err(unpacking)?;
                debug_assert_eq!(written, entry.size);
            }
            tar::EntryKind::Directory => tree.directory(&entry.path, entry.mode).map_err(unpacking)?,
            tar::EntryKind::Symlink(target) => tree.symlink(&entry.path, target).map_err(unpacking)?,
            tar::EntryKind::HardLink(target) => tree.hard_link(&entry.path, target).map_err(unpacking)?,
        }
    }
    reader.drain(MOST_BEHIND_THE_END).map_err(unpacking)?;
    Ok(())
}

fn unzip(
    file: File,
    again: File,
    limits: &Limits,
    tree: &mut Tree,
    teller: &mut Teller,
) -> Result<(), Failure> {
    let mut archive =
        zip::Archive::open(std::io::BufReader::new(file), std::io::BufReader::new(again), limits.entries)
            .map_err(unpacking)?;
    for index in 0..archive.entries().len() {
        let Some(entry) = archive.entries().get(index).cloned() else { break };
        match entry.kind {
            zip::EntryKind::Directory => tree.directory(&entry.path, entry.mode).map_err(unpacking)?,
            zip::EntryKind::File => {
                let mut content = archive.content(index).map_err(unpacking)?;
                let looks = Looks { mode: entry.mode, mtime: None };
                let written = tree.file(&entry.path, looks, &mut content).map_err(unpacking)?;
                if written != entry.size {
                    return Err(unpacking(
                        "the zip archive is damaged: a file has another size than it says",
                    ));
                }
            }
            zip::EntryKind::Symlink => {
                let mut target = Vec::new();
                let content = archive.content(index).map_err(unpacking)?;
                content.take(4097).read_to_end(&mut target).map_err(unpacking)?;
                tree.symlink(&entry.path, &target).map_err(unpacking)?;
            }
        }
        teller.progress(Phase::Unpacking, tree.bytes(), None);
    }
    Ok(())
}

/// Mode "file" with an archive: it must hold exactly one file, which then is the result.
fn only_file() -> Result<(), Failure> {
    let mut found = None;
    let mut directories = vec![std::path::PathBuf::from(TREE)];
    let failed = |error: std::io::Error| Failure::never(format!("cannot look at what was unpacked: {error}"));
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if !kind.is_file() || found.replace(entry.path()).is_some() {
                return Err(Failure::never(
                    "mode \"file\" needs an archive with exactly one file, this one has more or others",
                ));
            }
        }
    }
    let Some(path) = found else { return Err(Failure::never("mode \"file\": the archive holds no file")) };
    if path.parent() != Some(std::path::Path::new(TREE)) {
        let name = path.file_name().unwrap_or_default();
        let alone = std::path::Path::new("only");
        std::fs::rename(&path, alone).map_err(failed)?;
        std::fs::remove_dir_all(TREE).map_err(failed)?;
        std::fs::create_dir(TREE).map_err(failed)?;
        std::fs::rename(alone, std::path::Path::new(TREE).join(name)).map_err(failed)?;
    }
    Ok(())
}

/// Input that tells how much of it was read.
struct Counted<'a> {
    file: File,
    teller: &'a mut Teller,
    phase: Phase,
    total: u64,
    read: u64,
}

impl<'a> Counted<'a> {
    fn new(file: File, teller: &'a mut Teller, phase: Phase, total: u64) -> Counted<'a> {
        Counted { file, teller, phase, total, read: 0 }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        self.teller.progress(self.phase, self.read, Some(self.total));
        Ok(count)
    }
}
