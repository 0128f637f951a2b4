//! The end of a launch: descriptors in their places, the rest closed, `execve`.

use crate::{Errno, check};
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `argv` or `envp` laid out for the kernel: strings, and the null-terminated array that points to them.
///
/// Built before a clone, used after: the child must not allocate.
#[derive(Debug)]
pub struct StringArray {
    // The pointers aim at the heap buffers of `strings`, which do not move with the struct.
    pointers: Vec<*const c_char>,
    strings: Vec<CString>,
}

impl StringArray {
    /// Lays the strings out.
    pub fn new(strings: Vec<CString>) -> StringArray {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        StringArray { pointers, strings }
    }

    pub(crate) fn as_kernel(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// The strings as given.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces this program; comes back only to fail. See execve(2).
///
/// `first` takes the place of `argv[0]` (the path that was found), since the array was laid out before.
pub fn execve(path: &CStr, arguments: &mut StringArray, environment: &StringArray) -> Errno {
    if let Some(first) = arguments.pointers.first_mut() {
        *first = path.as_ptr();
    }
    let (argv, envp) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: both arrays end in a null pointer and their other elements point to terminated strings that
    // live as long as this call: the `CString`s beside them, and `path`.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv, envp) };
    crate::last_errno()
}

/// Makes `fd` also number `number`, closing what was there; the copy survives `execve` unless `close_on_exec`.
///
/// # Errors
/// `EBADF`, `EMFILE`.
pub fn place(fd: BorrowedFd<'_>, number: i32, on_exec: OnExec) -> Result<(), Errno> {
    let raw = fd.as_raw_fd();
    if raw == number {
        let flags = if on_exec == OnExec::Close { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: F_SETFD changes only the descriptor's own flag.
        return check(libc::c_long::from(unsafe { libc::fcntl(raw, libc::F_SETFD, flags) })).map(drop);
    }
    let flags = if on_exec == OnExec::Close { libc::O_CLOEXEC } else { 0 };
    // SAFETY: plain numbers. What is overwritten at `number` is, in the child that calls this, only ever a
    // copy of a descriptor that the parent still owns; no `OwnedFd` of the child is dropped after it.
    check(unsafe { libc::syscall(libc::SYS_dup3, raw, number, flags) }).map(drop)
}

/// What becomes of a descriptor at `execve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// It is closed.
    Close,
    /// It is kept.
    Keep,
}

/// Copies `fd` to the lowest free number that is at least `least`, close-on-exec. See fcntl(2).
///
/// # Errors
/// `EMFILE`.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: i32) -> Result<i32, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes plain numbers.
    check(libc::c_long::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }))
        .map(|number| number as i32)
}

/// Closes every descriptor from `first` on. See close_range(2), Linux 5.9.
///
/// # Errors
/// `EINVAL` never for these arguments; `ENOMEM`.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only called in a child that is about to become another program, or at entry before anything
    // is opened: no owner of such a descriptor is used afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Closes the descriptors from `first` to `last`, both included. See close_range(2), Linux 5.9.
///
/// # Errors
/// `EINVAL` when `last` is below `first`.
pub fn close_between(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: only called in a child that does nothing afterwards but wait and leave: no owner of such a descriptor
    // is used or dropped there.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec. See close_range(2), Linux 5.11.
///
/// # Errors
/// `ENOMEM`.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: changes flags only; no descriptor is closed here.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Runs the program that `fd` is open on (an `O_PATH` descriptor will do), with `path` as its `argv[1]`; comes
/// back only to fail. See execveat(2) with AT_EMPTY_PATH.
pub fn execve_behind(
    fd: BorrowedFd<'_>,
    path: &CStr,
    arguments: &mut StringArray,
    environment: &StringArray,
) -> Errno {
    if let Some(second) = arguments.pointers.get_mut(1) {
        *second = path.as_ptr();
    }
    let (argv, envp) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: as in `execve`; the path is empty and the descriptor names the file.
    unsafe {
        libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH)
    };
    crate::last_errno()
}

/// Takes the controlling terminal. See TIOCSCTTY(2const).
///
/// # Errors
/// `EPERM`: not a session leader, or another session's terminal.
pub fn take_terminal(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the argument is a plain number.
    check(libc::c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY as _, 0) })).map(drop)
}

/// A borrowed descriptor for a number that this process has just put something at.
///
/// # Errors
/// `EBADF` when nothing is open there.
pub fn borrow(number: i32) -> Result<BorrowedFd<'static>, Errno> {
    // SAFETY: F_GETFD only reads the descriptor's flags.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: it is open, and only used in a child on numbers that the launch itself filled and that stay
    // open until the program is replaced.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The path of the working directory as the kernel sees it from the root, written into `buffer`. See getcwd(2):
/// one that lies outside the root begins with `(unreachable)`.
///
/// # Errors
/// `ENOENT`: it has been removed; `ERANGE`: longer than the buffer.
pub fn working_directory(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let answer = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    let length = check(answer)? as usize;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::RANGE)
}
