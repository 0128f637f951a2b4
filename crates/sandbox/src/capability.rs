//! Sets of capabilities: names, numbers and set algebra. See capabilities(7).

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A set of capabilities, one bit for each number, as the kernel keeps it.
///
/// Bits beyond the last name known here are kept: a newer kernel may give them a meaning.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(u64);

macro_rules! capabilities {
    ($($name:ident = $number:literal: $what:literal;)*) => {
        impl CapSet {
            $(#[doc = concat!("CAP_", stringify!($name), ": ", $what, ".")]
            pub const $name: CapSet = CapSet(1 << $number);)*
        }

        /// Every name with its number, in the order of `linux/capability.h`.
        const NAMES: &[(&str, u32)] = &[$((stringify!($name), $number)),*];
    };
}

capabilities! {
    CHOWN = 0: "change owners and groups of files";
    DAC_OVERRIDE = 1: "pass over the permissions of files";
    DAC_READ_SEARCH = 2: "pass over the permissions to read; open by handle";
    FOWNER = 3: "act as the owner of any file";
    FSETID = 4: "keep set-id bits when a file is changed";
    KILL = 5: "signal any process";
    SETGID = 6: "take any group";
    SETUID = 7: "take any user";
    SETPCAP = 8: "change the bounding set and secure bits";
    LINUX_IMMUTABLE = 9: "set the immutable and append-only flags";
    NET_BIND_SERVICE = 10: "bind ports below 1024";
    NET_BROADCAST = 11: "unused by the kernel";
    NET_ADMIN = 12: "configure networks";
    NET_RAW = 13: "raw and packet sockets";
    IPC_LOCK = 14: "lock memory";
    IPC_OWNER = 15: "pass over the permissions of System V objects";
    SYS_MODULE = 16: "load and remove kernel modules";
    SYS_RAWIO = 17: "I/O ports and raw device commands";
    SYS_CHROOT = 18: "change the root directory";
    SYS_PTRACE = 19: "look into any process";
    SYS_PACCT = 20: "process accounting";
    SYS_ADMIN = 21: "mounts, names, quotas and much else";
    SYS_BOOT = 22: "restart the machine";
    SYS_NICE = 23: "raise priorities, real-time policies, placement of memory";
    SYS_RESOURCE = 24: "pass over resource limits";
    SYS_TIME = 25: "set the clock";
    SYS_TTY_CONFIG = 26: "hang up and configure terminals";
    MKNOD = 27: "make device nodes";
    LEASE = 28: "leases on any file";
    AUDIT_WRITE = 29: "write to the audit log";
    AUDIT_CONTROL = 30: "configure auditing";
    SETFCAP = 31: "give capabilities to files";
    MAC_OVERRIDE = 32: "pass over mandatory access control";
    MAC_ADMIN = 33: "configure mandatory access control";
    SYSLOG = 34: "read and control the kernel log";
    WAKE_ALARM = 35: "timers that wake the machine";
    BLOCK_SUSPEND = 36: "keep the machine awake";
    AUDIT_READ = 37: "read the audit log";
    PERFMON = 38: "performance counters";
    BPF = 39: "BPF programs";
    CHECKPOINT_RESTORE = 40: "checkpoint and restore";
}

/// How names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `net_raw`: as in job files and messages of the exec driver.
    Bare,
    /// `CAP_NET_RAW`: as in the kernel's headers.
    Kernel,
}

/// Names that are no capabilities: bare, in lower case, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a capability: {}; capabilities(7) has the names", .names.join(", "))]
pub struct UnknownNames {
    /// The names.
    pub names: Vec<String>,
}

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);

    /// Every capability that has a name here.
    pub const KNOWN: CapSet = CapSet::up_to(40);

    /// The kernel's own form: bit `n` is capability `n`. Unknown bits are kept.
    pub const fn from_bits(bits: u64) -> CapSet {
        CapSet(bits)
    }

    /// The kernel's own form.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Capabilities 0 to `last`, both included: all that a kernel has whose `/proc/sys/kernel/cap_last_cap`
    /// says `last`. Numbers beyond 63 do not exist.
    pub const fn up_to(last: u32) -> CapSet {
        if last >= 63 { CapSet(u64::MAX) } else { CapSet((1 << (last + 1)) - 1) }
    }

    /// One capability by its name. Spaces around it, case and the prefix `CAP_` do not matter.
    pub fn named(name: &str) -> Option<CapSet> {
        let bare = bare(name).to_ascii_uppercase();
        NAMES.iter().find(|known| known.0 == bare).map(|known| CapSet(1 << known.1))
    }

    /// The set that a list of names means; `all` among them is the set `all`, an empty name is nothing.
    ///
    /// # Errors
    /// Every name that is not known, at once.
    pub fn parse<S: AsRef<str>>(
        names: impl IntoIterator<Item = S>,
        all: CapSet,
    ) -> Result<CapSet, UnknownNames> {
        let mut set = CapSet::EMPTY;
        let mut unknown = BTreeSet::new();
        for name in names {
            let name = name.as_ref();
            let written = bare(name);
            if name.trim().is_empty() {
                continue;
            } else if written.eq_ignore_ascii_case("all") {
                set = set.union(all);
            } else if let Some(one) = CapSet::named(name) {
                set = set.union(one);
            } else {
                unknown.insert(written.to_lowercase());
            }
        }
        if unknown.is_empty() { Ok(set) } else { Err(UnknownNames { names: unknown.into_iter().collect() }) }
    }

    /// The names, sorted. A capability without a name is its number.
    pub fn names(self, spelling: Spelling) -> Vec<String> {
        let unnamed = (0..64).filter(|number| !CapSet::KNOWN.contains(CapSet(1 << number)));
        let known =
            NAMES.iter().filter(|known| self.contains(CapSet(1 << known.1))).map(|known| known.0.to_owned());
        let beyond =
            unnamed.filter(|number| self.contains(CapSet(1 << number))).map(|number| number.to_string());
        let mut names: Vec<String> = known
            .chain(beyond)
            .map(|name| match spelling {
                Spelling::Bare => name.to_ascii_lowercase(),
                Spelling::Kernel => format!("CAP_{name}"),
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: CapSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// What is in it and not in `other`.
    #[must_use]
    pub const fn difference(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }
}

impl FromIterator<CapSet> for CapSet {
    fn from_iter<I: IntoIterator<Item = CapSet>>(sets: I) -> CapSet {
        sets.into_iter().fold(CapSet::EMPTY, CapSet::union)
    }
}

/// Bare names, separated by a comma and a space; with `{:#}` in the kernel's spelling.
impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spelling = if f.alternate() { Spelling::Kernel } else { Spelling::Bare };
        f.write_str(&self.names(spelling).join(", "))
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapSet({})", self.names(Spelling::Bare).join(" "))
    }
}

/// A name without the spaces around it and without the prefix.
fn bare(name: &str) -> &str {
    let name = name.trim();
    match name.split_at_checked(4) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("cap_") && !rest.is_empty() => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULTS: u64 = 0xa804_05fb;

    fn parse(names: &[&str]) -> Result<CapSet, UnknownNames> {
        CapSet::parse(names, CapSet::up_to(37))
    }

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        let numbers: Vec<u32> = NAMES.iter().map(|known| known.1).collect();
        assert_eq!(numbers, (0..=40).collect::<Vec<_>>());
        assert_eq!(CapSet::SYS_ADMIN.bits(), 1 << 21);
        assert_eq!(CapSet::CHECKPOINT_RESTORE.bits(), 1 << 40);
    }

    #[test]
    fn the_exec_drivers_defaults_have_its_number() {
        let names = [
            "audit_write",
            "chown",
            "dac_override",
            "fowner",
            "fsetid",
            "kill",
            "mknod",
            "net_bind_service",
            "setfcap",
            "setgid",
            "setpcap",
            "setuid",
            "sys_chroot",
        ];
        assert_eq!(parse(&names).map(CapSet::bits), Ok(DEFAULTS));
        assert_eq!(CapSet::from_bits(DEFAULTS).names(Spelling::Bare), names);
    }

    /// Covers: X45
    #[test]
    fn spaces_case_and_prefix_do_not_matter_and_empty_names_are_nothing() {
        for spelling in ["net_raw", " NET_RAW ", "CAP_NET_RAW", "cap_Net_Raw", "\tCap_net_raw\n"] {
            assert_eq!(parse(&[spelling, "", "  "]), Ok(CapSet::NET_RAW), "{spelling:?}");
        }
    }

    #[test]
    fn all_is_what_the_caller_says() {
        for spelling in ["all", "ALL", " All ", "cap_all"] {
            assert_eq!(parse(&[spelling]), Ok(CapSet::from_bits(0x3f_ffff_ffff)), "{spelling:?}");
        }
        assert_eq!(parse(&["all", "bpf"]), Ok(CapSet::up_to(37).union(CapSet::BPF)));
    }

    #[test]
    fn every_unknown_name_is_told_sorted_and_once() {
        let error = parse(&["zebra", "chown", "CAP_Not_Valid", "not_valid", "cap_", "40"]).unwrap_err();
        assert_eq!(error.names, ["40", "cap_", "not_valid", "zebra"]);
        assert_eq!(
            parse(&["not_valid"]).unwrap_err().to_string(),
            "not a capability: not_valid; capabilities(7) has the names"
        );
    }

    /// Covers: X45
    #[test]
    fn names_are_sorted_in_both_spellings() {
        let set = CapSet::SYS_TIME.union(CapSet::CHOWN).union(CapSet::NET_RAW);
        assert_eq!(set.to_string(), "chown, net_raw, sys_time");
        assert_eq!(format!("{set:#}"), "CAP_CHOWN, CAP_NET_RAW, CAP_SYS_TIME");
        assert_eq!(CapSet::EMPTY.to_string(), "");
    }

    #[test]
    fn a_capability_of_a_newer_kernel_is_kept_and_shown_by_number() {
        let set = CapSet::from_bits(1 << 41 | 1);
        assert_eq!(set.bits(), 1 << 41 | 1);
        assert_eq!(set.names(Spelling::Kernel), ["CAP_41", "CAP_CHOWN"]);
        assert_eq!(CapSet::up_to(41).difference(CapSet::KNOWN), CapSet::from_bits(1 << 41));
    }

    #[test]
    fn up_to_holds_at_its_edges() {
        assert_eq!(CapSet::up_to(0), CapSet::CHOWN);
        assert_eq!(CapSet::up_to(62).bits(), u64::MAX >> 1);
        assert_eq!(CapSet::up_to(63).bits(), u64::MAX);
        assert_eq!(CapSet::up_to(u32::MAX).bits(), u64::MAX);
    }

    #[test]
    fn a_set_travels_as_its_number() {
        let written = serde_json::to_string(&CapSet::from_bits(DEFAULTS)).unwrap();
        assert_eq!(written, DEFAULTS.to_string());
        assert_eq!(serde_json::from_str::<CapSet>(&written).unwrap().bits(), DEFAULTS);
    }

    proptest! {
        /// Covers: X45
        #[test]
        fn algebra_agrees_with_a_set_of_numbers(left: u64, right: u64) {
            let numbers = |bits: u64| (0..64).filter(|n| bits & 1 << n != 0).collect::<BTreeSet<u32>>();
            let set = |numbers: BTreeSet<u32>| CapSet(numbers.into_iter().map(|n| 1 << n).sum());
            let (a, b) = (numbers(left), numbers(right));
            let (x, y) = (CapSet(left), CapSet(right));
            prop_assert_eq!(x.union(y), set(a.union(&b).copied().collect()));
            prop_assert_eq!(x.intersection(y), set(a.intersection(&b).copied().collect()));
            prop_assert_eq!(x.difference(y), set(a.difference(&b).copied().collect()));
            prop_assert_eq!(x.contains(y), a.is_superset(&b));
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.names(Spelling::Bare).len(), a.len());
        }

        #[test]
        fn what_is_shown_is_read_again(bits in 0..=CapSet::KNOWN.0) {
            for spelling in [Spelling::Bare, Spelling::Kernel] {
                prop_assert_eq!(CapSet::parse(CapSet(bits).names(spelling), CapSet::EMPTY), Ok(CapSet(bits)));
            }
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in any::<String>()) {
            let _ = CapSet::parse([text], CapSet::KNOWN);
        }
    }
}
