//! What depends on arguments or on what the operator allowed and the task asked for.

use super::super::checks;
use super::{Gate, Theme};
use crate::capability::CapSet;

#[rustfmt::skip]
pub(super) const THEMES: &[Theme] = &[
    Theme {
        name: "mounts and namespaces", gate: Gate::Mounts,
        reason: "without user namespaces no mount is locked: a mask could be taken off, a v1 hierarchy mounted; a swap file would hold other programs' memory",
        calls: &[
            "mount", "umount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree",
            "move_mount", "mount_setattr", "statmount", "listmount", "setns", "swapon", "swapoff",
        ],
    },
    Theme {
        name: "unsharing", gate: Gate::Look(checks::unshare),
        reason: "as mounts; a new user namespace opens most kernel bugs to everybody, so it stays closed then too",
        calls: &["unshare"],
    },
    Theme {
        name: "cloning", gate: Gate::Look(checks::clone),
        reason: "processes and threads, but no CLONE_NEW*",
        calls: &["clone"],
    },
    Theme {
        name: "making sockets", gate: Gate::Look(checks::socket),
        reason: "unix, inet, inet6, netlink; packet with NET_RAW: tasks share the host's page cache, and other families keep giving ways to write into it",
        calls: &["socket", "socketpair"],
    },
    Theme {
        name: "all of sockets in one call", gate: Gate::Look(checks::socketcall),
        reason: "the family lies in memory, where a filter cannot see it",
        calls: &["socketcall"],
    },
    Theme {
        name: "device requests", gate: Gate::Look(checks::ioctl),
        reason: "all but those that push input into terminals, and those that act on a whole file system, which is the host's",
        calls: &["ioctl"],
    },
    Theme {
        name: "execution domains", gate: Gate::Look(checks::personality),
        reason: "five values; the others take protections of memory away",
        calls: &["personality"],
    },
    Theme {
        name: "nodes by path", gate: Gate::Look(|request| checks::node(request, 1)),
        reason: "files, FIFOs and sockets; devices with MKNOD, where the device rules decide",
        calls: &["mknod"],
    },
    Theme {
        name: "nodes by descriptor", gate: Gate::Look(|request| checks::node(request, 2)),
        reason: "as by path; the mode is another argument",
        calls: &["mknodat"],
    },
    Theme {
        name: "scheduling policies", gate: Gate::Look(checks::scheduler),
        reason: "no real-time policy: the cgroup's share does not hold it; all with SYS_NICE",
        calls: &["sched_setscheduler"],
    },
    Theme {
        name: "scheduling attributes, placement of memory", gate: Gate::Capability(CapSet::SYS_NICE),
        reason: "the policy lies in memory, where a filter cannot see it; placement has leaked kernel memory and concerns other tasks' nodes",
        calls: &[
            "sched_setattr", "mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages",
            "move_pages",
        ],
    },
    Theme {
        name: "priorities", gate: Gate::Look(|request| checks::nice(request, 2)),
        reason: "not below zero, where it weighs against the host's own programs; all with SYS_NICE",
        calls: &["setpriority"],
    },
    Theme {
        name: "priorities, the old call", gate: Gate::Look(|request| checks::nice(request, 0)),
        reason: "as priorities; the change is the only argument",
        calls: &["nice"],
    },
    Theme {
        name: "priorities of input and output", gate: Gate::Look(checks::ioprio),
        reason: "no real-time class; all with SYS_NICE",
        calls: &["ioprio_set"],
    },
    Theme {
        name: "the root directory", gate: Gate::Capability(CapSet::SYS_CHROOT),
        reason: "climbing out of it ends at the task's root",
        calls: &["chroot"],
    },
    Theme {
        name: "the host's clock", gate: Gate::Capability(CapSet::SYS_TIME),
        reason: "there is one for all; whether adjtimex reads or sets lies in memory",
        calls: &[
            "settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime",
            "clock_adjtime64",
        ],
    },
    Theme {
        name: "other processes' descriptors and memory", gate: Gate::Capability(CapSet::SYS_PTRACE),
        reason: "descriptors can be taken from a process in the moment in which it loses its rights",
        calls: &["pidfd_getfd", "kcmp", "process_madvise"],
    },
    Theme {
        name: "performance counters", gate: Gate::Capability(CapSet::PERFMON),
        reason: "they show the kernel's and other programs' work",
        calls: &["perf_event_open"],
    },
    Theme {
        name: "names of the host, quotas, watching whole mounts", gate: Gate::Capability(CapSet::SYS_ADMIN),
        reason: "the kernel asks for SYS_ADMIN; they are no mount, namespace or cgroup call",
        calls: &["sethostname", "setdomainname", "quotactl", "quotactl_fd", "fanotify_init"],
    },
    Theme {
        name: "marks of watchers", gate: Gate::Look(checks::fanotify_mark),
        reason: "not on a file system, whose other files belong to the host",
        calls: &["fanotify_mark"],
    },
    Theme {
        name: "the kernel log", gate: Gate::Capability(CapSet::SYSLOG),
        reason: "it tells about the host",
        calls: &["syslog"],
    },
    Theme {
        name: "restart", gate: Gate::Capability(CapSet::SYS_BOOT),
        reason: "with the host's process numbers it is the host's",
        calls: &["reboot"],
    },
    Theme {
        name: "process accounting", gate: Gate::Capability(CapSet::SYS_PACCT),
        reason: "it writes a record for each process into a file",
        calls: &["acct"],
    },
    Theme {
        name: "hanging up terminals", gate: Gate::Capability(CapSet::SYS_TTY_CONFIG),
        reason: "only the login programs of old need it",
        calls: &["vhangup"],
    },
    Theme {
        name: "I/O ports", gate: Gate::Capability(CapSet::SYS_RAWIO),
        reason: "they reach the hardware past the kernel",
        calls: &["iopl", "ioperm"],
    },
];
