//! Loading a seccomp filter.

use crate::{Errno, check};

/// One instruction of classic BPF, as `struct sock_filter` lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// Puts this thread, and all it starts, under `filter`. See seccomp(2).
///
/// # Errors
/// `EACCES` without both CAP_SYS_ADMIN and `no_new_privs`; `EINVAL` when the kernel's checker refuses the
/// program or it is longer than 4096 instructions.
pub fn load_filter(filter: &[SockFilter]) -> Result<(), Errno> {
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let program = SockFprog { len, filter: filter.as_ptr() };
    // SAFETY: the program is as long as is said and lives through the call, in which the kernel copies it.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(answer).map(drop)
}
