//! What nobody may call, whatever is granted.

use super::{Gate, Theme};

const fn closed(name: &'static str, reason: &'static str, calls: &'static [&'static str]) -> Theme {
    Theme { name, reason, gate: Gate::Closed, calls }
}

const fn absent(name: &'static str, reason: &'static str, calls: &'static [&'static str]) -> Theme {
    Theme { name, reason, gate: Gate::Absent, calls }
}

#[rustfmt::skip]
pub(super) const THEMES: &[Theme] = &[
    closed("files by handle", "a handle names any file of a file system, and the task's root lies on the host's", &[
        "open_by_handle_at",
    ]),
    closed("keys", "rings are kept by user, not by task; a great part of the kernel behind three calls", &[
        "keyctl", "add_key", "request_key",
    ]),
    closed("programs in the kernel", "verifier bugs give the kernel away", &["bpf"]),
    closed("faults handled by programs", "it holds the kernel still in the middle of a copy, which is how races are won", &[
        "userfaultfd",
    ]),
    closed("input and output by rings", "its requests pass by this filter", &[
        "io_uring_setup", "io_uring_enter", "io_uring_register",
    ]),
    closed("another kernel", "the machine is the host's", &["kexec_load", "kexec_file_load"]),
    closed("kernel modules", "they are the host's", &[
        "init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms",
    ]),
    closed("relics that still work", "nothing uses them: real-mode programs, a.out libraries, tables of file systems and devices", &[
        "vm86", "vm86old", "uselib", "sysfs", "ustat",
    ]),
    absent("flags in memory", "which namespaces clone3 makes cannot be seen; C libraries fall back to clone", &["clone3"]),
    absent("newer mount and namespace calls", "nothing needs them yet; their older forms are gated", &[
        "open_tree_attr", "listns",
    ]),
    absent("security modules", "what they tell and set is in /proc/self/attr as well, where libraries look next", &[
        "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
    ]),
    absent("numbers without a call", "today's kernels answer the same", &[
        "_sysctl", "afs_syscall", "bdflush", "break", "epoll_ctl_old", "epoll_wait_old", "ftime", "getpmsg",
        "gtty", "idle", "lock", "lookup_dcookie", "mpx", "nfsservctl", "prof", "profil", "putpmsg", "security",
        "stty", "tuxcall", "ulimit", "vserver",
    ]),
];
