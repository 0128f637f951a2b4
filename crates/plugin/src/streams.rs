//! Opening a task's output, as root and before anything of the task exists.
//!
//! The names lie in a directory that earlier tasks of the allocation may have written to: everything is
//! opened beneath the allocation's directory without following a link, and never made.

use crate::face::{LogSeries, Output, TaskStart};
use bivouac_driver::request::{self, LogFiles, LogName, LogTimes, TaskStreams};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fcntl_getfl, fcntl_setfl, fstat, openat, openat2,
};
use rustix::io::Errno;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();
/// How long the collector may take to open its side of a FIFO.
const COLLECTOR: Duration = Duration::from_secs(10);
/// How often it is looked for.
const AGAIN: Duration = Duration::from_millis(2);

/// Why output cannot go where it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("cannot open {path} for the task's output: {errno}")]
    Open { path: PathBuf, errno: Errno },
    #[error("{0} is neither a FIFO nor a file: the task's output cannot go there")]
    Kind(PathBuf),
    #[error("nobody reads {0}: Nomad's log collector did not open it within 10 s")]
    Nobody(PathBuf),
    #[error(transparent)]
    Name(#[from] request::LogNameError),
}

/// Where the task's output goes; it has no input.
pub(crate) fn open(task: &TaskStart) -> Result<TaskStreams, StreamError> {
    let output = |output: &Output| match output {
        Output::Discard => Ok(request::Output::Null),
        Output::Path(path) => one(&task.alloc_dir, path).map(request::Output::from),
        Output::Collect(series) => collect(&task.alloc_dir, series),
    };
    Ok(TaskStreams::Files { stdin: None, stdout: output(&task.stdout)?, stderr: output(&task.stderr)? })
}

/// Numbered files in the log directory, which is opened here and written to by the shim.
fn collect(alloc_dir: &Path, series: &LogSeries) -> Result<request::Output, StreamError> {
    let failed = |errno| StreamError::Open { path: series.directory.clone(), errno };
    let inside = series.directory.strip_prefix(alloc_dir).map_err(|_| failed(Errno::XDEV))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = beneath(alloc_dir, inside, flags).map_err(failed)?;
    let files = LogFiles {
        name: LogName::new(series.name.clone())?,
        most_files: series.limits.max_files,
        most_bytes: NonZeroU64::from(series.limits.max_file_size_mib).saturating_mul(MIB),
        // Nomad's readers know of none.
        times: LogTimes::None,
    };
    Ok(request::Output::Log { directory, files })
}

/// Opens something below the allocation's directory through no link.
fn beneath(alloc_dir: &Path, inside: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let top = openat(CWD, alloc_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(top, inside, flags, Mode::empty(), resolve)
}

fn one(alloc_dir: &Path, path: &Path) -> Result<Option<OwnedFd>, StreamError> {
    if path == Path::new("/dev/null") {
        return Ok(None);
    }
    let failed = |errno| StreamError::Open { path: path.to_owned(), errno };
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW;
    let end = Instant::now() + COLLECTOR;
    let opened = loop {
        let opened = match path.strip_prefix(alloc_dir) {
            Ok(inside) => beneath(alloc_dir, inside, flags),
            Err(_) => openat(CWD, path, flags, Mode::empty()),
        };
        match opened {
            // A FIFO that nobody reads yet.
            Err(Errno::NXIO) if Instant::now() < end => std::thread::sleep(AGAIN),
            Err(Errno::NXIO) => return Err(StreamError::Nobody(path.to_owned())),
            other => break other.map_err(failed)?,
        }
    };
    let kind = FileType::from_raw_mode(fstat(&opened).map_err(failed)?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::RegularFile) {
        return Err(StreamError::Kind(path.to_owned()));
    }
    let set = fcntl_getfl(&opened).map_err(failed)?;
    fcntl_setfl(&opened, set - OFlags::NONBLOCK).map_err(failed)?;
    Ok(Some(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_appended_to_and_links_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        std::fs::write(&file, "old\n").unwrap();
        let opened = one(dir.path(), &file).unwrap().unwrap();
        rustix::io::write(&opened, b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old\nnew\n");
        std::os::unix::fs::symlink(&file, dir.path().join("link")).unwrap();
        assert!(matches!(
            one(dir.path(), &dir.path().join("link")),
            Err(StreamError::Open { errno: Errno::LOOP, .. })
        ));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("dir")).unwrap();
        assert!(one(dir.path(), &dir.path().join("dir/out")).is_err());
        assert!(matches!(
            one(dir.path(), &dir.path().join("none")),
            Err(StreamError::Open { errno: Errno::NOENT, .. })
        ));
        assert!(matches!(one(Path::new("/x"), Path::new("/dev/zero")), Err(StreamError::Kind(_))));
        assert!(one(dir.path(), Path::new("/dev/null")).unwrap().is_none());
    }
}
