//! File systems in memory, of a size: a task's `/secrets`, from which nothing can be run, and an allocation's disk
//! where it is to lie in memory.

use crate::allocation::PlanError;
use bivouac_sandbox::memory::Memory;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Mounts it on a directory; what is mounted there stays as it is.
pub(crate) fn mount(directory: &Path, memory: Memory) -> Result<(), PlanError> {
    if is_mounted(directory) {
        return Ok(());
    }
    attach(directory, memory).map_err(|errno| {
        let mib = memory.bytes >> 20;
        let text = format!("cannot mount {mib} MiB of memory on {}: {errno}", directory.display());
        PlanError::Other(text)
    })
}

fn attach(directory: &Path, memory: Memory) -> Result<(), Errno> {
    let mount = memory.make()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(CWD, directory, flags, Mode::empty())?;
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, c"", &target, c"", by_descriptor)
}

/// Unmounts what is mounted there; nothing, or no directory, is nothing to unmount.
pub(crate) fn detach(directory: &Path) -> Result<(), PlanError> {
    match unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(PlanError::Other(format!("cannot unmount {}: {errno}", directory.display()))),
    }
}

/// Whether something is mounted on a directory: it is of another device than its parent.
pub(crate) fn is_mounted(directory: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|status| status.dev()).ok();
    let parent = directory.parent().and_then(device);
    parent.is_some() && device(directory).is_some_and(|own| Some(own) != parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{StatVfsMountFlags, statvfs};

    /// Covers: A11, A13, T27
    #[test]
    fn a11_memory_of_the_size_asked_for_is_made_once_and_again_when_lost() {
        if !rustix::process::geteuid().is_root() {
            println!(
                "SKIPPED: a11_memory_of_the_size_asked_for_is_made_once_and_again_when_lost: needs root"
            );
            return;
        }
        let memory = Memory::for_secrets(2 << 20);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        detach(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        mount(&path, memory).unwrap();
        let status = statvfs(&path).unwrap();
        assert_eq!(status.f_blocks * status.f_frsize, 2 << 20);
        let flags = StatVfsMountFlags::NOEXEC | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
        assert!(status.f_flag.contains(flags), "{:?}", status.f_flag);
        std::fs::write(path.join("kept"), "x").unwrap();
        mount(&path, memory).unwrap();
        assert!(path.join("kept").exists(), "twice is a no-op");
        let full = std::fs::write(path.join("large"), vec![0; 3 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        detach(&path).unwrap();
        assert!(!path.join("kept").exists());
        mount(&path, memory).unwrap();
        assert!(is_mounted(&path), "one that was lost is mounted again");
        detach(&path).unwrap();
        detach(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
    }
}
