//! Fetched files kept by their checksum. What comes out is verified again like what comes from a server.

use crate::checksum::Sum;
use crate::deposit::{self, DepositError};
use crate::place::{Owner, PathError, open_root};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

fn name(sum: &Sum) -> CString {
    CString::new(format!("{}-{}", sum.algorithm.name(), sum.hex)).unwrap_or_default()
}

/// Copies a kept file to `name` in `directory`; false if there is none.
pub(crate) fn take(cache: &Path, sum: &Sum, directory: BorrowedFd<'_>, to: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = open_root(cache) else { return false };
    let Ok(kept) = rustix::fs::openat(&root, name(sum), flags, Mode::empty()) else { return false };
    let (mut kept, Ok(to)) = (File::from(kept), CString::new(to)) else { return false };
    // Readable by whoever verifies it.
    deposit::replace(directory, &to, cache, 0o644, Owner::ROOT, &mut |file| {
        std::io::copy(&mut kept, file).map(drop)
    })
    .is_ok()
}

/// Keeps a verified file.
pub(crate) fn keep(cache: &Path, sum: &Sum, file: &mut File) -> Result<(), DepositError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(|error| PathError {
        what: "make",
        path: cache.to_path_buf(),
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })?;
    let root = open_root(cache)?;
    deposit::replace(root.as_fd(), &name(sum), cache, 0o600, Owner::ROOT, &mut |to| {
        std::io::copy(file, to).map(drop)
    })
}

/// Removes what writers that were killed have left: files under a name of a writer's own that nobody has written to
/// for so long. One that is taken from a living writer after all costs no more than that its file is not kept.
pub fn sweep(cache: &Path, age: Duration) {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let idle =
            entry.metadata().and_then(|status| status.modified()).ok().and_then(|at| at.elapsed().ok());
        let temporary = deposit::is_temporary(entry.file_name().as_encoded_bytes());
        if temporary && idle.is_some_and(|idle| idle > age) {
            // The next sweep tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes a kept file.
pub(crate) fn forget(cache: &Path, sum: &Sum) {
    if let Ok(root) = open_root(cache) {
        let _ = rustix::fs::unlinkat(&root, name(sum), rustix::fs::AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_killed_writers_left_is_swept_and_nothing_else() {
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
        let temporary = deposit::temporary_name().into_string().unwrap();
        let fresh = deposit::temporary_name().into_string().unwrap();
        let hour = Duration::from_secs(3600);
        for (name, age) in [("sha256-00", 2 * hour), (&temporary, 2 * hour), (&fresh, Duration::ZERO)] {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        sweep(directory.path(), hour);
        let has = |name: &str| directory.path().join(name).exists();
        assert!(has("sha256-00") && !has(&temporary) && has(&fresh));
        sweep(&directory.path().join("missing"), hour);
    }
}
