//! The shim's program, as it is started.

use super::ClientError;
use bivouac_sys::mount::{Propagation, Reach, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A shim is given the descriptors below this number. Its program, which is started by the name of a descriptor, must
/// not be among them: what is given would take its place.
const GIVEN: i32 = 4;

/// The shim's program, opened on a read-only mount of its own.
///
/// A process that enters a task is the shim's program until its `execve`, and a root task can open it there
/// (`/proc/PID/exe`). Through this mount nobody changes its bytes, mode or owner.
#[derive(Debug)]
pub struct Program {
    pub(super) path: CString,
    /// What `execve` is given: the name of `_mount` in the process that starts it.
    pub(super) opened: CString,
    _mount: OwnedFd,
}

impl Program {
    /// Opens the program at `path`.
    ///
    /// # Errors
    /// [`ClientError::Start`]: it is not there, or this process may not make mounts.
    pub fn open(path: &Path) -> Result<Program, ClientError> {
        let failed = |errno| ClientError::Start { program: path.display().to_string(), errno };
        let file = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&file, c"", clone).map_err(failed)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
        mount_setattr(mount.as_fd(), Reach::One, u64::from(attributes.bits()), Propagation::Private)
            .map_err(failed)?;
        let mount = fcntl_dupfd_cloexec(&mount, GIVEN).map_err(failed)?;
        let opened = CString::new(format!("/proc/self/fd/{}", mount.as_raw_fd())).unwrap_or_default();
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        Ok(Program { path, opened, _mount: mount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_sys::Errno;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Low numbers come and go while others of the process work.
    #[test]
    fn the_program_is_not_among_what_a_shim_is_given() {
        let over = AtomicBool::new(false);
        let lowest = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(std::fs::File::open("/dev/null"));
                }
            });
            let opened = (0..2000).map(|_| Program::open(Path::new("/bin/true")));
            let lowest = opened
                .map(|program| program.map(|program| program._mount.as_raw_fd()))
                .min_by_key(|number| number.as_ref().map_or(i32::MIN, |number| *number));
            over.store(true, Ordering::Relaxed);
            lowest
        });
        match lowest {
            Some(Err(ClientError::Start { errno: Errno::PERM, .. })) => {
                eprintln!("SKIPPED: the_program_is_not_among_what_a_shim_is_given: no mounts without root");
            }
            Some(Ok(number)) => assert!(number >= GIVEN, "{number}"),
            other => panic!("{other:?}"),
        }
    }
}
