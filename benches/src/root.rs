//! What the root of one task costs the disk and the host.

use crate::task::{OBEDIENT, Task};
use anyhow::{Context, Result};
use std::path::Path;

/// Where the roots of tasks lie, with `/alloc` and the upper layers. What the supervisor writes down about a run lies
/// elsewhere (`state`, and the shim's in `/run`): a few KiB of JSON that no task sees, and nothing that is copied.
const ROOTS: &str = "/var/lib/bivouac/allocs";

/// What one running task has there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Root {
    /// Bytes in regular files.
    pub bytes: u64,
    /// Files, directories and links of every kind.
    pub inodes: u64,
    /// Mounts in the host's namespace.
    pub mounts: u64,
}

/// Starts a default task and counts.
///
/// # Errors
/// The task does not start, or a folder cannot be read.
pub fn measure(dist: &Path) -> Result<Root> {
    // What is made once for all tasks is there after the first.
    drop(Task::start(dist, &[], "echo")?);
    let before = now()?;
    let task = Task::start(dist, &[], OBEDIENT)?;
    let during = now()?;
    drop(task);
    Ok(Root {
        bytes: during.bytes.saturating_sub(before.bytes),
        inodes: during.inodes.saturating_sub(before.inodes),
        mounts: during.mounts.saturating_sub(before.mounts),
    })
}

fn now() -> Result<Root> {
    let mut root = Root::default();
    count(Path::new(ROOTS), &mut root)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    root.mounts = table.lines().count() as u64;
    Ok(root)
}

fn count(folder: &Path, root: &mut Root) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let about = entry.metadata()?;
        root.inodes += 1;
        if about.is_file() {
            root.bytes += about.len();
        }
        if about.is_dir() {
            count(&entry.path(), root)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        std::fs::write(top.path().join("a/f"), "12345").unwrap();
        std::os::unix::fs::symlink("f", top.path().join("a/l")).unwrap();
        let mut root = Root::default();
        count(top.path(), &mut root).unwrap();
        assert_eq!((root.bytes, root.inodes), (5, 4));
    }
}
