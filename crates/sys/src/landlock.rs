//! Landlock: rules about paths that a process puts on itself, for good. See landlock(7).

use crate::{Errno, check};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Rights over files and directories, as the bits of `LANDLOCK_ACCESS_FS_*`.
pub mod rights {
    /// Run a file.
    pub const EXECUTE: u64 = 1;
    /// Open a file to write.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open a file to read.
    pub const READ_FILE: u64 = 1 << 2;
    /// List a directory.
    pub const READ_DIR: u64 = 1 << 3;
    /// Remove a directory.
    pub const REMOVE_DIR: u64 = 1 << 4;
    /// Remove anything else.
    pub const REMOVE_FILE: u64 = 1 << 5;
    /// Make a directory.
    pub const MAKE_DIR: u64 = 1 << 7;
    /// Make a file.
    pub const MAKE_REG: u64 = 1 << 8;
    /// Make a socket.
    pub const MAKE_SOCK: u64 = 1 << 9;
    /// Make a FIFO.
    pub const MAKE_FIFO: u64 = 1 << 10;
    /// Make a link.
    pub const MAKE_SYM: u64 = 1 << 12;
    /// Move or link between directories.
    pub const REFER: u64 = 1 << 13;
    /// Cut a file (ABI 3).
    pub const TRUNCATE: u64 = 1 << 14;
    /// Control a device (ABI 5).
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// Those that a rule about something else than a directory may hold.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

    /// All that a kernel with this ABI can control.
    pub const fn of_abi(abi: u32) -> u64 {
        match abi {
            0 => 0,
            1 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3 | 4 => (1 << 15) - 1,
            _ => (1 << 16) - 1,
        }
    }
}

#[repr(C)]
struct RulesetAttribute {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: i32,
}

const RULE_PATH_BENEATH: u32 = 1;

/// Begins a set of rules: `handled` is what is refused wherever no rule allows it.
///
/// # Errors
/// What the kernel answers: `ENOSYS` and `EOPNOTSUPP` mean that it has no Landlock.
pub fn ruleset(handled: u64) -> Result<OwnedFd, Errno> {
    let attribute = RulesetAttribute { handled_access_fs: handled };
    let size = size_of::<RulesetAttribute>();
    // SAFETY: the attribute is one `u64` and lives over the call, which reads `size` bytes of it.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attribute, size, 0u32) };
    let fd = i32::try_from(check(answer)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows `access` to what `parent` is open on and all below it.
///
/// # Errors
/// What the kernel answers: `EINVAL` for rights that only directories have.
pub fn allow_beneath(ruleset: BorrowedFd<'_>, parent: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
    let rule = PathBeneath { allowed_access: access, parent: parent.as_raw_fd() };
    let set = ruleset.as_raw_fd();
    // SAFETY: the rule has the packed layout of the kernel's struct and lives over the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, RULE_PATH_BENEATH, &raw const rule, 0u32) };
    check(answer).map(drop)
}

/// Puts the rules on this thread and all that it starts.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` and `no_new_privs`.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and flags, no memory.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    check(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::rights::*;

    #[test]
    fn each_abi_adds_rights() {
        assert_eq!(of_abi(0), 0);
        assert_eq!(of_abi(1) & (REFER | TRUNCATE), 0);
        assert_eq!(of_abi(2) & (REFER | TRUNCATE), REFER);
        assert_eq!(of_abi(3) & (TRUNCATE | IOCTL_DEV), TRUNCATE);
        assert_eq!(of_abi(5) & IOCTL_DEV, IOCTL_DEV);
        assert_eq!(of_abi(99), of_abi(5));
    }
}
