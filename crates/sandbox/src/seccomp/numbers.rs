//! System call numbers: which entries into the kernel a machine has, and what each number means there.

use syscall_numbers::{aarch64, x86, x86_64};

/// A processor that filters are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// 64-bit x86, with the 32-bit entry that its kernels have.
    X86_64,
    /// 64-bit ARM. Its 32-bit entry is not served: many of these processors lack it.
    Aarch64,
}

impl Machine {
    /// The one that this program runs on.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Machine = Machine::X86_64;
    /// The one that this program runs on.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Machine = Machine::Aarch64;

    /// The ways into its kernel, the native one first.
    pub fn entries(self) -> &'static [Entry] {
        match self {
            Machine::X86_64 => &[Entry::X86_64, Entry::I386],
            Machine::Aarch64 => &[Entry::Aarch64],
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("system call filters exist for x86_64 and aarch64 only");

/// A way into the kernel, with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `syscall` on x86. The x32 numbers (bit 30) come in by it and are all unknown.
    X86_64,
    /// `int 0x80` and `sysenter`, from 32-bit and from 64-bit programs.
    I386,
    /// `svc` on 64-bit ARM.
    Aarch64,
}

impl Entry {
    /// `AUDIT_ARCH_*` of `linux/audit.h`: how `struct seccomp_data` names the entry.
    pub const fn audit(self) -> u32 {
        match self {
            Entry::X86_64 => 0xc000_003e,
            Entry::I386 => 0x4000_0003,
            Entry::Aarch64 => 0xc000_00b7,
        }
    }

    /// The call behind a number; none if the number is newer than the tables, or was never given.
    pub fn name(self, number: u32) -> Option<&'static str> {
        let known = i32::try_from(number).ok()?.into();
        match self {
            Entry::X86_64 => x86_64::sys_call_name(known),
            Entry::I386 => match I386_CORRECTIONS.iter().find(|correction| correction.0 == number) {
                Some(correction) => Some(correction.1),
                None => x86::sys_call_name(known),
            },
            Entry::Aarch64 => aarch64::sys_call_name(known),
        }
    }

    /// The first number after the last one known.
    pub(super) const fn end(self) -> u32 {
        // The same on every machine since Linux 5.1: new calls get the same number everywhere.
        match self {
            Entry::X86_64 | Entry::I386 | Entry::Aarch64 => 471,
        }
    }
}

/// What the crate's table of i386 lacks, or calls by another name than the kernel's header does.
const I386_CORRECTIONS: &[(u32, &str)] = &[
    (76, "getrlimit"),
    (78, "gettimeofday"),
    (79, "settimeofday"),
    (260, "timer_settime"),
    (261, "timer_gettime"),
    (262, "timer_getoverrun"),
    (263, "timer_delete"),
    (264, "clock_settime"),
    (265, "clock_gettime"),
    (266, "clock_getres"),
    (267, "clock_nanosleep"),
    (278, "mq_unlink"),
    (279, "mq_timedsend"),
    (280, "mq_timedreceive"),
    (281, "mq_notify"),
    (282, "mq_getsetattr"),
    (325, "timerfd_settime"),
    (326, "timerfd_gettime"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ALL: [Entry; 3] = [Entry::X86_64, Entry::I386, Entry::Aarch64];

    #[test]
    fn the_tables_end_where_we_say() {
        for entry in ALL {
            assert_eq!(entry.name(entry.end() - 1), Some("listns"), "{entry:?}");
            assert!((entry.end()..5000).all(|number| entry.name(number).is_none()), "{entry:?}");
            assert_eq!(entry.name(u32::MAX), None);
        }
    }

    #[test]
    fn no_name_stands_twice_in_a_table() {
        for entry in ALL {
            let names: Vec<_> = (0..entry.end()).filter_map(|number| entry.name(number)).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{entry:?}");
        }
    }

    #[test]
    fn landmarks_of_the_kernel_headers() {
        let landmarks = [
            (Entry::X86_64, 0, "read"),
            (Entry::X86_64, 59, "execve"),
            (Entry::X86_64, 435, "clone3"),
            (Entry::I386, 11, "execve"),
            (Entry::I386, 102, "socketcall"),
            (Entry::I386, 120, "clone"),
            (Entry::I386, 265, "clock_gettime"),
            (Entry::I386, 359, "socket"),
            (Entry::Aarch64, 198, "socket"),
            (Entry::Aarch64, 220, "clone"),
            (Entry::Aarch64, 221, "execve"),
        ];
        for (entry, number, name) in landmarks {
            assert_eq!(entry.name(number), Some(name), "{entry:?} {number}");
        }
    }

    /// A hole in a table would turn a call that exists into an unknown one.
    #[test]
    fn the_i386_table_has_only_the_kernels_own_holes() {
        let holes: Vec<u32> = (0..385).filter(|number| Entry::I386.name(*number).is_none()).collect();
        assert_eq!(holes, [222, 223, 251, 285]);
    }
}
