//! Sticky disks: what an allocation leaves to the next one of the same name.
//!
//! `alloc/data` and each task's `local` are moved (never copied: it is one file system) to `disks/<name>` when the
//! allocation is over, and from there into the next. A disk is never removed here.

use crate::allocation::{Allocation, Disk, PlanError, remove_tree};
use crate::state::{Home, failed};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Moves what an earlier run has left into a new allocation, whose directories exist.
///
/// # Errors
/// What the disk answered, with the path.
pub fn take(home: &Home, allocation: &Allocation) -> Result<(), PlanError> {
    if allocation.disk == Disk::Ephemeral {
        return Ok(());
    }
    for (kept, live) in parts(home, allocation) {
        if is_directory(&kept) {
            // What was just made is empty.
            remove_tree(&live)?;
            rename(&kept, &live)?;
        }
    }
    let taken = marker(home, allocation);
    std::fs::write(&taken, "").map_err(|error| PlanError::other(failed("make", &taken)(error)))
}

/// Stands for a disk that this allocation has got, where no task's name can be: beside its plan.
fn marker(home: &Home, allocation: &Allocation) -> PathBuf {
    home.keep(&allocation.id).path().join("disk-taken")
}

/// Moves what an allocation that is over leaves to the next. One that ended before it got the disk leaves what is kept.
///
/// # Errors
/// What the disk answered, with the path.
pub fn put_back(home: &Home, allocation: &Allocation) -> Result<(), PlanError> {
    if allocation.disk == Disk::Ephemeral {
        return Ok(());
    }
    let taken = marker(home, allocation).exists();
    for (kept, live) in parts(home, allocation) {
        if !is_directory(&live) || (!taken && is_directory(&kept)) {
            continue;
        }
        if let Some(parent) = kept.parent() {
            let builder = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent);
            builder.map_err(|error| PlanError::other(failed("make", parent)(error)))?;
        }
        // An older one of the same name: the newer run had it and leaves it changed.
        remove_tree(&kept)?;
        rename(&live, &kept)?;
    }
    Ok(())
}

fn parts(home: &Home, allocation: &Allocation) -> Vec<(PathBuf, PathBuf)> {
    let base = home.disks().join(crate::volumes::file_name(&allocation.name));
    let tasks = allocation.tasks.iter().map(|task| &task.member.name);
    let locals =
        tasks.map(|task| (base.join(task).join("local"), allocation.directory.join(task).join("local")));
    let data = (base.join("alloc").join("data"), allocation.directory.join("alloc").join("data"));
    std::iter::once(data).chain(locals).collect()
}

/// A directory itself, not a link that a task has put in its place.
fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|status| status.is_dir())
}

/// Moves a directory; from and to a disk of its own ([`crate::disk_limit`]) by a copy.
fn rename(from: &Path, to: &Path) -> Result<(), PlanError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => copy(from, to),
        moved => moved.map_err(|error| PlanError::other(failed("move", from)(error))),
    }
}

/// Nobody uses either side: the tasks are over, or have not begun. Links are copied as links.
fn copy(from: &Path, to: &Path) -> Result<(), PlanError> {
    let new = to.with_extension("new");
    remove_tree(&new)?;
    let wrong = |text: String| PlanError::Other(format!("cannot move {}: {text}", from.display()));
    let output = std::process::Command::new("cp")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["--archive", "--no-target-directory", "--"])
        .args([from, &new])
        .output()
        .map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        let _ = remove_tree(&new);
        return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    std::fs::rename(&new, to).map_err(|error| PlanError::other(failed("move", from)(error)))?;
    remove_tree(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::tests::sample;

    /// Covers: W38, A4
    #[test]
    fn w38_a_sticky_disk_is_moved_to_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let run = |id: &str| {
            let mut allocation = sample(&home, id);
            allocation.disk = Disk::Sticky;
            allocation.make_directories().unwrap();
            drop(home.keep(id).make().unwrap());
            take(&home, &allocation).unwrap();
            allocation
        };
        let first = run("first");
        std::fs::write(first.directory.join("alloc/data/a"), "shared").unwrap();
        std::fs::write(first.directory.join("t/local/b"), "own").unwrap();
        std::fs::write(first.directory.join("t/c"), "goes").unwrap();
        put_back(&home, &first).unwrap();
        first.remove_directories().unwrap();
        let second = run("second");
        let read = |path: &str| std::fs::read_to_string(second.directory.join(path)).ok();
        assert_eq!(read("alloc/data/a").as_deref(), Some("shared"));
        assert_eq!(read("t/local/b").as_deref(), Some("own"));
        assert_eq!(read("t/c"), None);
    }

    #[test]
    fn a_run_that_ended_before_it_had_the_disk_leaves_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let mut allocation = sample(&home, "x");
        allocation.disk = Disk::Sticky;
        let kept = home.disks().join(&allocation.name).join("t/local");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("precious"), "the user's").unwrap();
        // Its directories are made, and empty.
        allocation.make_directories().unwrap();
        put_back(&home, &allocation).unwrap();
        assert_eq!(std::fs::read_to_string(kept.join("precious")).unwrap(), "the user's");
        // On the way: one part is taken, the others are not.
        std::fs::remove_dir(allocation.directory.join("t/local")).unwrap();
        std::fs::rename(&kept, allocation.directory.join("t/local")).unwrap();
        put_back(&home, &allocation).unwrap();
        assert_eq!(std::fs::read_to_string(kept.join("precious")).unwrap(), "the user's");
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let mut allocation = sample(&home, "x");
        allocation.disk = Disk::Sticky;
        allocation.make_directories().unwrap();
        std::fs::remove_dir(allocation.directory.join("t/local")).unwrap();
        std::os::unix::fs::symlink("/etc", allocation.directory.join("t/local")).unwrap();
        put_back(&home, &allocation).unwrap();
        assert!(!home.disks().join(&allocation.name).join("t/local").exists());
    }
}
