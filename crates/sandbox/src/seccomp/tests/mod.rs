//! Tests of the filter: lists complete, answers as the security cases say, program equal to the table.

mod equality;
mod interpreter;
mod lists;
mod rows;

use super::*;
use numbers::Entry;

/// What matters about a task, by name.
fn requests() -> Vec<(&'static str, Request)> {
    let default = Request::default();
    let all = Request { granted: CapSet::KNOWN, ..default };
    vec![
        ("default", default),
        ("compat32 full", Request { compat32: Compat32::Full, ..default }),
        ("net_raw", Request { granted: CapSet::NET_RAW, ..default }),
        ("mknod, sys_nice", Request { granted: CapSet::MKNOD.union(CapSet::SYS_NICE), ..default }),
        ("sys_admin", Request { granted: CapSet::SYS_ADMIN, ..default }),
        ("mounts without sys_admin", Request { mount_allowed: MountGrant::Granted, ..default }),
        ("all", all),
        (
            "all, mounts, compat32 full",
            Request { mount_allowed: MountGrant::Granted, compat32: Compat32::Full, ..all },
        ),
    ]
}

const ENTRIES: [Entry; 3] = [Entry::X86_64, Entry::I386, Entry::Aarch64];

fn machine(entry: Entry) -> Machine {
    match entry {
        Entry::X86_64 | Entry::I386 => Machine::X86_64,
        Entry::Aarch64 => Machine::Aarch64,
    }
}

fn number(entry: Entry, name: &str) -> Option<u32> {
    (0..entry.end()).find(|number| entry.name(*number) == Some(name))
}
