//! The `bpf(2)` calls behind cgroup v2 device rules.
//!
//! Programs are built elsewhere, in safe code; here they are loaded, attached to a cgroup and found again.
//! Kernel documentation: `Documentation/bpf/prog_cgroup_sockopt.rst` and its neighbours, bpf(2).

use crate::{Errno, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of a program, as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    /// Destination register in the low half, source register in the high half (little-endian machines).
    pub registers: u8,
    /// Jump distance in instructions, or offset of a memory access.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

/// The number that the kernel gave to a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(u32);

/// The name of a program: at most 15 characters of letters, digits, `_` and `.`, padded with zeros.
pub type Name = [u8; 16];

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The kernel's own limit of programs attached to one cgroup.
const MAX_ATTACHED: usize = 64;

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: Name,
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name; the kernel fills no more than it is told there is room for.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited_insns: u64,
    xlated_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: Name,
}

/// Has the kernel verify `program` as a device program and keeps it loaded while the descriptor is open or the
/// program attached.
///
/// # Errors
/// `EINVAL`, `EACCES`: the verifier refused it; `E2BIG`: too long; `EPERM`: not privileged; `ENOSYS`.
pub fn load_device_program(program: &[Insn], name: &Name) -> Result<OwnedFd, Errno> {
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: c"MIT OR Apache-2.0".as_ptr() as u64,
        prog_name: *name,
        expected_attach_type: ATTACH_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    // SAFETY: `insns` points to `insn_cnt` instructions and `license` to a C string, both only read during the
    // call; no log buffer is given.
    let number = unsafe { bpf(PROG_LOAD, &attr) }?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Attaches a device program to the cgroup v2 directory, beside those attached already (all must allow).
///
/// # Errors
/// `EPERM`: a program above forbids others; `E2BIG`: 64 are attached; `EBADF`: no cgroup v2 directory.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: the struct holds no pointers.
    unsafe { bpf(PROG_ATTACH, &attr) }.map(drop)
}

/// Takes a device program off a cgroup v2 directory.
///
/// # Errors
/// `ENOENT`: it is not attached there.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: the struct holds no pointers.
    unsafe { bpf(PROG_DETACH, &attr) }.map(drop)
}

/// The device programs attached to this very cgroup v2 directory (not those of its parents).
///
/// # Errors
/// `EBADF`: no cgroup v2 directory; `EPERM`; `EINVAL`: a kernel without cgroup programs.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<ProgramId>, Errno> {
    let mut ids = [0u32; MAX_ATTACHED];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most `prog_cnt` numbers to `prog_ids`, and their count into the struct, which
    // is exclusively borrowed for the call.
    unsafe { bpf_mut(PROG_QUERY, &mut attr) }?;
    Ok(ids.iter().take(attr.prog_cnt as usize).map(|id| ProgramId(*id)).collect())
}

/// Opens a loaded program.
///
/// # Errors
/// `ENOENT`: it is no longer loaded; `EPERM`.
pub fn open_program(id: ProgramId) -> Result<OwnedFd, Errno> {
    let attr = ByIdAttr { prog_id: id.0, ..ByIdAttr::default() };
    // SAFETY: the struct holds no pointers.
    let number = unsafe { bpf(PROG_GET_FD_BY_ID, &attr) }?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// The name a program was loaded with.
///
/// # Errors
/// `EBADF`: no program.
pub fn program_name(program: BorrowedFd<'_>) -> Result<Name, Errno> {
    let mut info = ProgramInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: program.as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which lives through the call, and the length
    // into the struct; all lengths of buffers inside `info` are zero, so it follows no pointer from there.
    unsafe { bpf_mut(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.name)
}

/// # Safety
/// `attr` is laid out as `command` reads it, and every pointer in it is good for what the command does.
unsafe fn bpf<T>(command: u32, attr: &T) -> Result<libc::c_long, Errno> {
    // SAFETY: by the contract above; these commands only read `attr` itself, as long as is said.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) })
}

/// # Safety
/// As [`bpf`], for commands that answer in `attr` itself.
unsafe fn bpf_mut<T>(command: u32, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: by the contract above; the kernel writes within the size that is said.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const NAME: Name = *b"bivouac_test\0\0\0\0";

    #[test]
    fn a_loaded_program_tells_its_name() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a_loaded_program_tells_its_name: needs root");
            return;
        }
        let allow = [
            Insn { code: 0xb7, registers: 0, offset: 0, immediate: 1 },
            Insn { code: 0x95, registers: 0, offset: 0, immediate: 0 },
        ];
        let program = load_device_program(&allow, &NAME).unwrap();
        assert_eq!(program_name(program.as_fd()).unwrap(), NAME);
    }

    #[test]
    fn a_program_without_an_end_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a_program_without_an_end_is_refused: needs root");
            return;
        }
        let endless = [Insn { code: 0xb7, registers: 0, offset: 0, immediate: 1 }];
        assert_eq!(load_device_program(&endless, &NAME).unwrap_err(), Errno::INVAL);
    }
}
