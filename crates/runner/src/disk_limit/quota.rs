//! An allocation's directory as a project of its file system, with a limit: nothing is mounted, and nothing is set aside.
//!
//! The number of the project stands on the directory itself, and the limit in the file system: both survive every crash
//! and a reboot, and nothing else is kept.

use crate::allocation::PlanError;
use bivouac_sys::quota;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::path::Path;

/// Where our numbers begin: an operator's own are small ones.
const FIRST: u32 = 1 << 30;
/// So many numbers are looked at.
const TRIES: u32 = 64;

/// Limits what is below an empty directory; one that has a project keeps it.
pub(super) fn hold(directory: &Path, mib: u64) -> Result<(), PlanError> {
    let fd = open(directory).map_err(|errno| refused(directory, errno))?;
    limit(&fd, mib).map_err(|errno| refused(directory, errno))
}

fn limit(fd: &OwnedFd, mib: u64) -> Result<(), Errno> {
    let project = match quota::project(fd.as_fd())? {
        Some(project) => project,
        None => {
            let project = free(fd)?;
            quota::set_project(fd.as_fd(), project)?;
            project
        }
    };
    quota::set_limit(fd.as_fd(), project, mib.saturating_mul(1024))
}

/// A number that nothing has. Two starts at once begin at places of their own.
fn free(fd: &OwnedFd) -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let first = u32::from_ne_bytes(bytes) % FIRST;
    for offset in 0..TRIES {
        let project = FIRST + (first + offset) % FIRST;
        if quota::is_free(fd.as_fd(), project)? {
            return Ok(project);
        }
    }
    Err(Errno::BUSY)
}

/// Takes the limit back; what is below the directory is about to be removed.
pub(super) fn let_go(directory: &Path) -> Result<(), PlanError> {
    let fd = match open(directory) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(|errno| refused(directory, errno))?,
    };
    let project = quota::project(fd.as_fd());
    match project.and_then(|project| project.map_or(Ok(()), |id| quota::set_limit(fd.as_fd(), id, 0))) {
        // Mounted without quotas since: there is nothing to take back.
        Ok(()) | Err(Errno::SRCH | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(refused(directory, errno)),
    }
}

fn open(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::empty())
}

fn refused(directory: &Path, errno: Errno) -> PlanError {
    PlanError::Other(format!(
        "--disk quota: {} cannot be limited by a project quota: {errno}; its file system must be ext4 (with the features \
         project and quota) or XFS, mounted with prjquota; --disk image needs neither",
        directory.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_limited_is_refused_with_what_can_be_done() {
        let told = hold(Path::new("/proc/self"), 1).unwrap_err().to_string();
        assert!(told.contains("/proc/self") && told.contains("prjquota"), "{told}");
        let_go(Path::new("/no/such/directory")).unwrap();
    }
}
