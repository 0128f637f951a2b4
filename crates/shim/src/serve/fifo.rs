//! Named pipes that a task writes to: somebody must have them open for reading, or the task dies of SIGPIPE the
//! moment its log collector does. The shim does, without ever reading: a dead collector makes the task wait.

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A read end of the FIFO that `fd` writes to; `None` when it is anything else, a pipe without a name among it:
/// whoever made that one wants its writers to know when it is gone.
pub(crate) fn hold_open(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(fd).ok()?.st_mode);
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let name = std::fs::read_link(&path).ok()?;
    if kind != FileType::Fifo || !name.is_absolute() {
        return None;
    }
    // Not the name, which may lead elsewhere by now: the descriptor itself, opened anew.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_fifo_survives_its_reader_and_a_pipe_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let open = |flags| openat(CWD, &path, flags | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let collector = open(OFlags::RDONLY);
        let mut task = std::fs::File::from(open(OFlags::WRONLY));
        let held = hold_open(task.as_fd()).unwrap();
        drop(collector);
        task.write_all(b"x").unwrap();
        drop(held);
        assert_eq!(task.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);

        let (_reader, writer) = std::io::pipe().unwrap();
        assert!(hold_open(writer.as_fd()).is_none());
        assert!(hold_open(std::fs::File::open("/dev/null").unwrap().as_fd()).is_none());
    }
}
