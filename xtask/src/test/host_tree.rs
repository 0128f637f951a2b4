//! The host's own files: their names, modes, owners, sizes and times, and what `/etc` and `/usr/bin` hold. Taken before
//! the first suite and after the last: no task, however hostile, may have changed one. The programs' own directories
//! are the ledger's.

use super::ledger::OURS;
use crate::shell;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Walked to the bottom, without crossing into another file system.
const TREES: [&str; 6] = ["/boot", "/dev", "/etc", "/srv", "/usr", "/opt"];
/// Only the names in them: below, the machine's own services work.
const SHALLOW: [&str; 4] = ["/", "/var", "/var/lib", "/root"];
/// Whose content is read too.
const READ: [&str; 2] = ["/etc", "/usr/bin"];
/// So many files are handed to one summing program.
const BATCH: usize = 500;

/// What was there at one moment.
pub(crate) struct HostTree {
    entries: BTreeMap<PathBuf, String>,
}

impl HostTree {
    /// Looks at everything but `spared` (the build, cargo's caches).
    pub(crate) fn take(spared: &[PathBuf]) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for folder in SHALLOW {
            for path in names_in(Path::new(folder)) {
                entries.insert(path, "is there".to_owned());
            }
        }
        let is_spared = |path: &Path| spared.iter().any(|spared| path == spared);
        for tree in TREES {
            walk(Path::new(tree), &is_spared, &mut entries);
        }
        read(&mut entries)?;
        Ok(Self { entries })
    }

    /// What differs, one line each.
    pub(crate) fn differences(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, before) in &self.entries {
            match after.entries.get(path) {
                None => found.push(format!("host file gone: {}", path.display())),
                Some(now) if now != before => {
                    found.push(format!("host file changed: {}: {before}, now {now}", path.display()));
                }
                Some(_) => {}
            }
        }
        let new = after.entries.keys().filter(|path| !self.entries.contains_key(*path));
        found.extend(new.map(|path| format!("host file new: {}", path.display())));
        found
    }

    /// How much was looked at.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn names_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !OURS.iter().any(|ours| path == Path::new(ours)))
        .collect()
}

fn walk(top: &Path, is_spared: &dyn Fn(&Path) -> bool, entries: &mut BTreeMap<PathBuf, String>) {
    let Ok(device) = std::fs::symlink_metadata(top).map(|found| found.dev()) else { return };
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in names_in(&folder) {
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            if is_spared(&path) || found.dev() != device || is_dynamic(&path) {
                continue;
            }
            if found.is_dir() {
                folders.push(path.clone());
            }
            entries.insert(path.clone(), told(&path, &found));
        }
    }
}

/// Device nodes that the kernel makes and names as devices come and go.
fn is_dynamic(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["/dev/loop", "/dev/dm-", "/dev/mapper", "/dev/vcs", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/net"]
        .iter()
        .any(|beginning| text.starts_with(beginning))
}

/// Times and sizes only of regular files: those of folders follow their content, those of devices their use.
fn told(path: &Path, found: &std::fs::Metadata) -> String {
    let kind = found.file_type();
    let mut line = format!("mode {:o} owner {}:{}", found.mode(), found.uid(), found.gid());
    if kind.is_file() {
        line.push_str(&format!(" size {} time {}.{}", found.size(), found.mtime(), found.mtime_nsec()));
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).unwrap_or_default();
        line.push_str(&format!(" to {}", target.display()));
    } else if kind.is_block_device() || kind.is_char_device() {
        line.push_str(&format!(" device {:x}", found.rdev()));
    }
    line
}

/// Adds the sums of what is read.
fn read(entries: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let is_read = |path: &&PathBuf| READ.iter().any(|tree| path.starts_with(tree));
    let is_file = |path: &&PathBuf| entries.get(*path).is_some_and(|line| line.contains(" size "));
    let files: Vec<PathBuf> = entries.keys().filter(is_read).filter(is_file).cloned().collect();
    for batch in files.chunks(BATCH) {
        let mut command = Command::new("b2sum");
        command.args(["--length=128", "--zero", "--"]).args(batch);
        let sums = shell::capture(&mut command).context("cannot sum the host's files")?;
        for (path, line) in batch.iter().zip(sums.split('\0')) {
            let sum = line.split(' ').next().unwrap_or_default();
            if let Some(entry) = entries.get_mut(path) {
                entry.push_str(&format!(" sum {sum}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_mode_or_name_is_seen() {
        let top = std::env::temp_dir().join(format!("bivouac-test-tree-{}", std::process::id()));
        std::fs::create_dir_all(top.join("d")).unwrap();
        std::fs::write(top.join("d/a"), "1").unwrap();
        let take = || {
            let mut entries = BTreeMap::new();
            walk(&top, &|_| false, &mut entries);
            HostTree { entries }
        };
        let before = take();
        assert_eq!(before.len(), 2);
        assert!(before.differences(&take()).is_empty());
        std::fs::write(top.join("d/a"), "22").unwrap();
        std::fs::write(top.join("d/b"), "").unwrap();
        let found = before.differences(&take());
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|line| line.contains("changed") && line.contains("d/a")));
        assert!(found.iter().any(|line| line.contains("new") && line.contains("d/b")));
        assert_eq!(before.differences(&take()).len(), 2, "now both are gone");
    }
}
