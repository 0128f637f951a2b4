//! Finding the command in the task's root, by descriptor, before any privilege is given up.
//!
//! Links are resolved as the task would see them; a missing execute bit is added only to a file of the task's
//! own that is reached without a link. What would make `execve` fail with a riddle (no interpreter, another
//! machine's program) is looked at here, so that the answer can name it.

use super::report::Report;
use crate::model::ExecuteBit;
use bivouac_sys::Errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, openat2};
use std::ffi::{CStr, CString};

/// A place to look, laid out for the kernel.
#[derive(Debug)]
pub(crate) struct Place {
    /// The path from the root, without its first `/`; `.` for the root itself.
    pub(crate) relative: CString,
    /// The path handed to `execve`.
    pub(crate) absolute: CString,
    pub(crate) execute_bit: ExecuteBit,
}

/// What is odd about a command's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hint {
    Nothing = 0,
    /// The ELF interpreter is not in the task's root.
    InterpreterMissing = 1,
    /// The script's interpreter is not in the task's root.
    ScriptInterpreterMissing = 2,
    /// An ELF file of another machine.
    OtherMachine = 3,
    /// Neither ELF nor `#!`.
    UnknownFormat = 4,
    /// A candidate exists and is no regular file.
    NotAFile = 5,
    /// The file lies on a mount from which nothing is run.
    NoExec = 6,
    /// No execute bit, and it may not be added there.
    NoExecuteBit = 7,
}

impl Hint {
    pub(crate) fn from_number(number: u8) -> Hint {
        use Hint::{
            InterpreterMissing, NoExec, NoExecuteBit, NotAFile, Nothing, OtherMachine,
            ScriptInterpreterMissing, UnknownFormat,
        };
        let all = [
            InterpreterMissing,
            ScriptInterpreterMissing,
            OtherMachine,
            UnknownFormat,
            NotAFile,
            NoExec,
            NoExecuteBit,
        ];
        all.into_iter().find(|hint| *hint as u8 == number).unwrap_or(Nothing)
    }
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const NO_LINKS: ResolveFlags = IN_ROOT.union(ResolveFlags::NO_SYMLINKS);

/// Looks through the places and tells the index of the first regular file.
pub(crate) fn find(root: BorrowedFd<'_>, places: &[Place], report: &Report) -> Result<usize, Errno> {
    for (index, place) in places.iter().enumerate() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = match openat2(root, place.relative.as_c_str(), flags, Mode::empty(), IN_ROOT) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            report.hint(Hint::NotAFile, place.absolute.to_bytes());
            continue;
        }
        report.found(index);
        report.hint(Hint::Nothing, b"");
        if stat.st_mode & 0o111 != 0o111 {
            make_executable(root, place, stat.st_mode, report)?;
        }
        look_inside(root, place, report);
        return Ok(index);
    }
    Err(Errno::NOENT)
}

/// Adds 0555 to a file of the task's own; never through a link, never to anybody else's.
fn make_executable(root: BorrowedFd<'_>, place: &Place, seen: u32, report: &Report) -> Result<(), Errno> {
    let missing = || {
        if seen & 0o111 == 0 {
            report.hint(Hint::NoExecuteBit, place.absolute.to_bytes());
        }
        Ok(())
    };
    if place.execute_bit == ExecuteBit::Leave {
        return missing();
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = openat2(root, place.relative.as_c_str(), flags, Mode::empty(), NO_LINKS) else {
        return missing();
    };
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return missing();
    }
    fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o555))
}

const HEADER: usize = 1024;

fn look_inside(root: BorrowedFd<'_>, place: &Place, report: &Report) {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = openat2(root, place.relative.as_c_str(), flags, Mode::empty(), IN_ROOT) else { return };
    let mut header = [0u8; HEADER];
    let Ok(length) = rustix::io::pread(&file, &mut header, 0) else { return };
    let header = header.get(..length).unwrap_or_default();
    if header.starts_with(b"#!") {
        if let Some(interpreter) = script_interpreter(header)
            && is_missing(root, interpreter)
        {
            report.hint(Hint::ScriptInterpreterMissing, interpreter);
        }
    } else if header.starts_with(b"\x7fELF") {
        look_at_elf(root, &file, header, report);
    } else {
        report.hint(Hint::UnknownFormat, place.absolute.to_bytes());
    }
}

fn script_interpreter(header: &[u8]) -> Option<&[u8]> {
    let line = header.get(2..)?.split(|byte| *byte == b'\n').next()?;
    let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    line.get(start..)?
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0))
        .next()
        .filter(|name| !name.is_empty())
}

fn look_at_elf(root: BorrowedFd<'_>, file: &OwnedFd, header: &[u8], report: &Report) {
    let Some(machine) = number_at(header, 18, 2) else { return };
    let native = if cfg!(target_arch = "x86_64") { [62, 3] } else { [183, 40] };
    if !native.contains(&machine) {
        report.hint(Hint::OtherMachine, machine_name(machine));
        return;
    }
    let mut name = [0u8; 256];
    let Some(length) = elf_interpreter(file.as_fd(), header, &mut name) else { return };
    let interpreter = name.get(..length).unwrap_or_default();
    if is_missing(root, interpreter) {
        report.hint(Hint::InterpreterMissing, interpreter);
    }
}

fn machine_name(machine: u64) -> &'static [u8] {
    match machine {
        3 => b"x86 (32 bit)",
        8 => b"MIPS",
        20 | 21 => b"PowerPC",
        22 => b"S/390",
        40 => b"ARM (32 bit)",
        62 => b"x86-64",
        183 => b"AArch64",
        243 => b"RISC-V",
        _ => b"an unknown machine",
    }
}

/// The content of the PT_INTERP segment; elf(5). Both widths, this machine's byte order.
fn elf_interpreter(file: BorrowedFd<'_>, header: &[u8], name: &mut [u8; 256]) -> Option<usize> {
    const PT_INTERP: u64 = 3;
    let wide = header.get(4) == Some(&2);
    let (table, entry_size, count) = if wide {
        (number_at(header, 32, 8)?, number_at(header, 54, 2)?, number_at(header, 56, 2)?)
    } else {
        (number_at(header, 28, 4)?, number_at(header, 42, 2)?, number_at(header, 44, 2)?)
    };
    for index in 0..count.min(64) {
        let mut entry = [0u8; 56];
        let at = table.checked_add(index.checked_mul(entry_size)?)?;
        rustix::io::pread(file, &mut entry, at).ok()?;
        if number_at(&entry, 0, 4)? != PT_INTERP {
            continue;
        }
        let (offset, size) = if wide {
            (number_at(&entry, 8, 8)?, number_at(&entry, 32, 8)?)
        } else {
            (number_at(&entry, 4, 4)?, number_at(&entry, 16, 4)?)
        };
        let wanted = usize::try_from(size).ok()?.min(name.len());
        let read = rustix::io::pread(file, name.get_mut(..wanted)?, offset).ok()?;
        let text = name.get(..read)?;
        return Some(text.iter().position(|byte| *byte == 0).unwrap_or(read));
    }
    None
}

fn number_at(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Whether a path named inside a file leads nowhere in this root.
fn is_missing(root: BorrowedFd<'_>, path: &[u8]) -> bool {
    let mut buffer = [0u8; 257];
    let Some(place) = buffer.get_mut(..path.len()) else { return false };
    place.copy_from_slice(path);
    let Ok(path) = CStr::from_bytes_until_nul(&buffer) else { return false };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    matches!(openat2(root, path, flags, Mode::empty(), IN_ROOT), Err(Errno::NOENT | Errno::NOTDIR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interpreters_of_scripts() {
        let of = |text: &'static str| script_interpreter(text.as_bytes());
        assert_eq!(of("#!/bin/sh\n"), Some(b"/bin/sh".as_slice()));
        assert_eq!(of("#! /usr/bin/env python\n"), Some(b"/usr/bin/env".as_slice()));
        assert_eq!(of("#!/bin/sh\r\n"), Some(b"/bin/sh".as_slice()));
        assert_eq!(of("#!\n"), None);
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
            let file = tempfile::tempfile().unwrap();
            let mut name = [0u8; 256];
            let mut elf = b"\x7fELF\x02".to_vec();
            elf.extend(&bytes);
            let _ = elf_interpreter(file.as_fd(), &elf, &mut name);
            let _ = script_interpreter(&bytes);
        }
    }
}
