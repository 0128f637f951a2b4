//! The rows of the table "what a task may try" in the security cases, and the cases that name the filter.
//!
//! Each row without grants, and with the grant that opens it where there is one.

use super::*;

const EPERM: Action = Action::Refuse(Refusal::NotPermitted);
const ENOSYS: Action = Action::Refuse(Refusal::NoSuchCall);
const NO_FAMILY: Action = Action::Refuse(Refusal::NoSuchFamily);
const OK: Action = Action::Allow;

fn granted(granted: CapSet) -> Request {
    Request { granted, ..Request::default() }
}

fn with_mounts(granted: CapSet) -> Request {
    Request { granted, mount_allowed: MountGrant::Granted, ..Request::default() }
}

/// Every capability is granted, mounts are not.
fn all() -> Request {
    granted(CapSet::KNOWN)
}

fn policy(entry: Entry, request: &Request) -> Policy {
    Policy::new(machine(entry), request)
}

/// Asserts the answer to a call by name on every entry that has it; at least one must.
#[track_caller]
fn expect(request: &Request, name: &str, arguments: &[u64], action: Action) {
    let mut seen = false;
    for entry in ENTRIES {
        if let Some(number) = number(entry, name) {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            let call = Call { entry: entry.audit(), number, arguments: all };
            assert_eq!(policy(entry, request).decide(&call), action, "{name} {arguments:x?} on {entry:?}");
            seen = true;
        }
    }
    assert!(seen, "{name} is no call");
}

/// Asserts the answer to several calls without arguments, in a default task and in one with every capability.
#[track_caller]
fn expect_closed(names: &[&str], action: Action) {
    for name in names {
        expect(&Request::default(), name, &[], action);
        expect(&all(), name, &[], action);
        expect(&with_mounts(CapSet::KNOWN), name, &[], action);
    }
}

/// Asserts that calls are closed but for a task that was granted one capability, and that no other opens them.
#[track_caller]
fn expect_gated(names: &[&str], capability: CapSet) {
    for name in names {
        expect(&Request::default(), name, &[], EPERM);
        expect(&granted(CapSet::KNOWN.difference(capability)), name, &[], EPERM);
        expect(&granted(capability), name, &[], OK);
    }
}

const MOUNT_CALLS: &[&str] = &[
    "mount",
    "umount2",
    "pivot_root",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "setns",
    "statmount",
    "listmount",
    "swapon",
    "swapoff",
];

/// Covers: 2-mount
#[test]
fn row_mount() {
    for name in MOUNT_CALLS {
        expect(&Request::default(), name, &[], EPERM);
        expect(&all(), name, &[], EPERM);
        expect(&with_mounts(CapSet::KNOWN.difference(CapSet::SYS_ADMIN)), name, &[], EPERM);
        expect(&with_mounts(CapSet::SYS_ADMIN), name, &[], OK);
    }
}

/// Covers: 2-chroot
#[test]
fn row_chroot() {
    expect_gated(&["chroot"], CapSet::SYS_CHROOT);
}

/// `CLONE_NEW*` for mnt, cgroup, uts, ipc, user, pid, net.
const NAMESPACES: [u64; 7] =
    [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const NEW_USER: u64 = 0x1000_0000;
const SIGCHLD: u64 = 17;

/// Covers: 2-namespaces, CVE-2022-0185
#[test]
fn row_namespaces() {
    for request in [Request::default(), all(), with_mounts(CapSet::EMPTY)] {
        for flag in NAMESPACES {
            expect(&request, "clone", &[flag | SIGCHLD], EPERM);
            expect(&request, "clone", &[0xffff_ffff_0000_0000 | flag | SIGCHLD], EPERM);
            expect(&request, "unshare", &[flag], EPERM);
        }
        expect(&request, "unshare", &[0x80], EPERM);
        expect(&request, "setns", &[3, 0], EPERM);
        // A fork, a vfork, a thread of glibc.
        for flags in [SIGCHLD, 0x4111, 0x3d_0f00, 0x120_0011] {
            expect(&request, "clone", &[flags], OK);
        }
    }
    expect_closed(&["clone3"], ENOSYS);
}

#[test]
fn row_namespaces_with_the_operators_word_but_never_a_user_namespace() {
    let request = with_mounts(CapSet::SYS_ADMIN);
    for flag in NAMESPACES {
        let action = if flag == NEW_USER { EPERM } else { OK };
        expect(&request, "clone", &[flag | SIGCHLD], action);
        expect(&request, "unshare", &[flag], action);
        expect(&request, "unshare", &[flag | NEW_USER], EPERM);
        expect(&request, "clone", &[flag | NEW_USER | SIGCHLD], EPERM);
    }
}

/// Covers: 2-ptrace
#[test]
fn row_ptrace() {
    for name in ["ptrace", "process_vm_readv", "process_vm_writev"] {
        expect(&Request::default(), name, &[], OK);
    }
}

/// Covers: 2-pidfd-bpf-perf
#[test]
fn row_pidfd_getfd_bpf_perf() {
    expect_gated(&["pidfd_getfd", "kcmp", "process_madvise"], CapSet::SYS_PTRACE);
    expect_gated(&["perf_event_open"], CapSet::PERFMON);
    expect_closed(&["bpf"], EPERM);
}

/// Covers: 2-keys-uffd-uring
#[test]
fn row_keys_userfaultfd_io_uring() {
    let names = [
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
    ];
    expect_closed(&names, EPERM);
}

/// Covers: 2-kexec-modules
#[test]
fn row_kexec_modules_reboot_swap() {
    let names = ["kexec_load", "init_module", "finit_module", "delete_module", "create_module"];
    expect_closed(&names, EPERM);
    expect_closed(&["kexec_file_load"], EPERM);
    expect_gated(&["reboot"], CapSet::SYS_BOOT);
    expect(&all(), "swapon", &[], EPERM);
}

/// Covers: 2-handles
#[test]
fn row_open_by_handle() {
    expect_closed(&["open_by_handle_at"], EPERM);
    expect(&Request::default(), "name_to_handle_at", &[], OK);
}

/// Covers: 2-mknod
#[test]
fn row_mknod() {
    for (name, place) in [("mknod", 1), ("mknodat", 2)] {
        let call = |mode| {
            let mut arguments = [0; 4];
            arguments[place] = mode;
            arguments
        };
        for plain in [0o644, 0o100_644, 0o010_644, 0o140_755] {
            expect(&Request::default(), name, &call(plain), OK);
        }
        for device in [0o020_666, 0o060_660] {
            for high in [0, 0x1_0000, 0x1_0000_0000] {
                expect(&Request::default(), name, &call(device | high), EPERM);
                expect(&granted(CapSet::KNOWN.difference(CapSet::MKNOD)), name, &call(device | high), EPERM);
                expect(&granted(CapSet::MKNOD), name, &call(device | high), OK);
            }
        }
    }
}

/// Covers: 2-ports
#[test]
fn row_ports() {
    expect_gated(&["iopl", "ioperm"], CapSet::SYS_RAWIO);
}

/// Covers: 2-tiocsti
#[test]
fn row_terminal_requests() {
    for request in [Request::default(), all(), with_mounts(CapSet::KNOWN)] {
        for code in [0x5412, 0x541c, 0x5423] {
            for high in [0, 0x1_0000_0000, 0xffff_ffff_0000_0000] {
                expect(&request, "ioctl", &[0, code | high], EPERM);
            }
        }
        // TCGETS, TIOCSCTTY, TIOCGWINSZ, TIOCSWINSZ, FIONBIO, FIONREAD, FICLONE.
        for code in [0x5401, 0x540e, 0x5413, 0x5414, 0x5421, 0x541b, 0x4004_9409] {
            expect(&request, "ioctl", &[0, code], OK);
        }
    }
}

/// A root task of the exec driver holds SYS_ADMIN: it must not freeze the file system that is the host's too.
#[test]
fn row_whole_file_systems() {
    for code in [0xc004_5877, 0xc004_5878, 0xc018_5879, 0x8004_587d, 0x4008_6610, 0x4100_9432] {
        expect(&Request::default(), "ioctl", &[3, code], EPERM);
        expect(&all(), "ioctl", &[3, code | 7 << 32], EPERM);
        expect(&with_mounts(CapSet::SYS_ADMIN), "ioctl", &[3, code], OK);
    }
    for flags in [0x100, 0x101, 0x110, 0x1_0000_0100] {
        expect(&all(), "fanotify_mark", &[3, flags], EPERM);
        expect(&with_mounts(CapSet::SYS_ADMIN), "fanotify_mark", &[3, flags], OK);
    }
    expect(&all(), "fanotify_mark", &[3, 0x11], OK);
}

const UNIX: u64 = 1;
const INET: u64 = 2;
const INET6: u64 = 10;
const NETLINK: u64 = 16;
const PACKET: u64 = 17;

/// Covers: 2-families, CVE-2026-31431
#[test]
fn row_socket_families_0_to_45() {
    for name in ["socket", "socketpair"] {
        for high in [0, 0xffff_ffff_0000_0000] {
            for family in 0..=45 {
                let (without, with) = match family {
                    UNIX | INET | INET6 | NETLINK => (OK, OK),
                    PACKET => (EPERM, OK),
                    _ => (NO_FAMILY, NO_FAMILY),
                };
                expect(&Request::default(), name, &[family | high, 1, 0], without);
                expect(
                    &granted(CapSet::KNOWN.difference(CapSet::NET_RAW)),
                    name,
                    &[family | high, 1, 0],
                    without,
                );
                expect(&granted(CapSet::NET_RAW), name, &[family | high, 1, 0], with);
                expect(&all(), name, &[family | high, 1, 0], with);
                expect(&with_mounts(CapSet::KNOWN), name, &[family | high, 1, 0], with);
            }
        }
        for unspoken in [46, 255, 0x7fff_ffff, 0xffff_ffff] {
            expect(&all(), name, &[unspoken], NO_FAMILY);
        }
    }
}

/// Covers: 2-af-alg-vsock
#[test]
fn row_af_alg_and_vsock() {
    for family in [38, 40] {
        for request in [Request::default(), all(), with_mounts(CapSet::KNOWN)] {
            expect(&request, "socket", &[family, 5], NO_FAMILY);
        }
    }
}

/// `socket(AF_INET, SOCK_PACKET)` is a packet socket under another name; raw ones are left to the kernel's check.
/// Covers: 2-packet-raw
#[test]
fn row_packet_by_its_old_name() {
    const SOCK_PACKET: u64 = 10;
    const SOCK_CLOEXEC: u64 = 0o2_000_000;
    for kind in [SOCK_PACKET, SOCK_PACKET | SOCK_CLOEXEC, SOCK_PACKET | 0x800, SOCK_PACKET | 5 << 32] {
        expect(&Request::default(), "socket", &[INET, kind], EPERM);
        expect(&granted(CapSet::NET_RAW), "socket", &[INET, kind], OK);
    }
    for kind in [1, 2, 3, 1 | SOCK_CLOEXEC] {
        expect(&Request::default(), "socket", &[INET, kind], OK);
    }
}

/// Covers: 2-netlink
#[test]
fn row_netlink_protocols() {
    let no_protocol = Action::Refuse(Refusal::NoSuchProtocol);
    // ROUTE, SOCK_DIAG, AUDIT, NETFILTER, KOBJECT_UEVENT, GENERIC.
    for protocol in [0, 4, 9, 12, 15, 16] {
        expect(&Request::default(), "socket", &[NETLINK, 3, protocol], OK);
    }
    // XFRM, ISCSI, SCSITRANSPORT, RDMA, CRYPTO.
    for protocol in [6, 8, 18, 20, 21] {
        for high in [0, 1 << 32] {
            expect(&Request::default(), "socket", &[NETLINK, 3, protocol | high], no_protocol);
            expect(&granted(CapSet::NET_ADMIN), "socket", &[NETLINK, 3, protocol | high], OK);
        }
    }
}

/// Covers: 2-socketcall-x32
#[test]
fn row_socketcall_and_x32() {
    for call in 0..=20 {
        expect(&Request::default(), "socketcall", &[call], EPERM);
        expect(&all(), "socketcall", &[call], EPERM);
        expect(&Request { compat32: Compat32::Full, ..Request::default() }, "socketcall", &[call], OK);
    }
    let policy = policy(Entry::X86_64, &with_mounts(CapSet::KNOWN));
    for number in (0..=600).map(|number| 0x4000_0000 | number).chain(512..=547) {
        let call = Call { entry: Entry::X86_64.audit(), number, arguments: [0; 6] };
        assert_eq!(policy.decide(&call), ENOSYS, "{number:#x}");
    }
}

/// 32-bit programs run, under the same answers by their own numbers.
/// Covers: 2-socketcall-x32
#[test]
fn row_int_0x80_has_the_same_answers() {
    for (_, request) in requests() {
        let policy = policy(Entry::I386, &request);
        for native in 0..Entry::X86_64.end() {
            let Some(name) = Entry::X86_64.name(native) else { continue };
            let Some(old) = number(Entry::I386, name) else { continue };
            for argument in [0, 1, 2, 3, 10, 17, 38, 0x5412, 0x1000_0000, 0x8000_0000] {
                let answer = |entry: Entry, number| {
                    policy.decide(&Call { entry: entry.audit(), number, arguments: [argument; 6] })
                };
                assert_eq!(answer(Entry::X86_64, native), answer(Entry::I386, old), "{name} {argument:#x}");
            }
        }
    }
}

/// Covers: 2-clock
#[test]
fn row_clock() {
    let names = ["settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "stime", "clock_settime64"];
    expect_gated(&names, CapSet::SYS_TIME);
    expect(&Request::default(), "clock_gettime", &[], OK);
}

/// Covers: 2-scheduling
#[test]
fn row_scheduling() {
    const RESET_ON_FORK: u64 = 0x4000_0000;
    let nice = granted(CapSet::SYS_NICE);
    let others = granted(CapSet::KNOWN.difference(CapSet::SYS_NICE));
    // FIFO, RR, DEADLINE, and numbers without a policy.
    for policy in [1, 2, 6, 4, 7, 8, 0xffff_ffff] {
        for extra in [0, RESET_ON_FORK, 1 << 32] {
            expect(&Request::default(), "sched_setscheduler", &[0, policy | extra], EPERM);
            expect(&others, "sched_setscheduler", &[0, policy | extra], EPERM);
            expect(&nice, "sched_setscheduler", &[0, policy | extra], OK);
        }
    }
    for policy in [0, 3, 5] {
        expect(&Request::default(), "sched_setscheduler", &[0, policy | RESET_ON_FORK], OK);
    }
    for value in [0xffff_ffff, 0xffff_ffec, u64::MAX] {
        expect(&Request::default(), "setpriority", &[0, 0, value], EPERM);
        expect(&Request::default(), "nice", &[value], EPERM);
        expect(&nice, "setpriority", &[0, 0, value], OK);
    }
    expect(&Request::default(), "setpriority", &[0, 0, 19], OK);
    expect(&Request::default(), "nice", &[5], OK);
    // Real time is class 1, best effort 2, idle 3.
    for (class, action) in [(0, OK), (1, EPERM), (2, OK), (3, OK)] {
        expect(&Request::default(), "ioprio_set", &[1, 0, class << 13 | 4], action);
        expect(&nice, "ioprio_set", &[1, 0, class << 13 | 4], OK);
    }
    expect_gated(
        &["sched_setattr", "mbind", "set_mempolicy", "migrate_pages", "move_pages"],
        CapSet::SYS_NICE,
    );
}

/// Covers: 2-affinity-prlimit
#[test]
fn row_affinity_and_prlimit() {
    for name in ["sched_setaffinity", "prlimit64", "setrlimit"] {
        expect(&Request::default(), name, &[], OK);
    }
}

/// Covers: 2-personality
#[test]
fn row_personality() {
    for request in [Request::default(), with_mounts(CapSet::KNOWN)] {
        for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, 0x7_0000_0008] {
            expect(&request, "personality", &[value], OK);
        }
        // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, a foreign system, the question but for one bit.
        for value in [0x4_0000, 0x40_0000, 0x10_0000, 1, 0xffff_fffe] {
            expect(&request, "personality", &[value], EPERM);
        }
    }
}

/// Covers: 2-memfd
#[test]
fn row_memfd_and_exec() {
    for name in ["memfd_create", "execve", "execveat"] {
        expect(&Request::default(), name, &[], OK);
    }
}

/// Covers: 2-syslog-etc
#[test]
fn row_syslog_fanotify_quota_accounting_names() {
    expect_gated(&["syslog"], CapSet::SYSLOG);
    expect_gated(&["acct"], CapSet::SYS_PACCT);
    let admin = ["fanotify_init", "quotactl", "quotactl_fd", "sethostname", "setdomainname"];
    expect_gated(&admin, CapSet::SYS_ADMIN);
    expect_gated(&["vhangup"], CapSet::SYS_TTY_CONFIG);
}

/// Covers: 2-unknown-calls, CVE-2021-41133
#[test]
fn row_listns_open_tree_attr_and_unknown() {
    expect_closed(&["listns", "open_tree_attr", "lsm_set_self_attr"], ENOSYS);
    for (_, request) in requests() {
        for entry in ENTRIES {
            let policy = policy(entry, &request);
            for number in (entry.end()..entry.end() + 64).chain([5000, 0x7fff_ffff, u32::MAX]) {
                let call = Call { entry: entry.audit(), number, arguments: [0; 6] };
                assert_eq!(policy.decide(&call), ENOSYS, "{number} on {entry:?}");
            }
        }
    }
}

/// T70: unknown is ENOSYS, known and closed is EPERM.
/// Covers: T70
#[test]
fn t70_two_kinds_of_no() {
    let policy = policy(Entry::X86_64, &Request::default());
    let answer = |number| policy.decide(&Call { entry: Entry::X86_64.audit(), number, arguments: [0; 6] });
    assert_eq!(answer(471), ENOSYS);
    assert_eq!(answer(400), ENOSYS);
    assert_eq!(answer(165), EPERM);
}

/// T72: several conditions on one argument: family and the protocol or type below it, request codes.
/// Covers: T72
#[test]
fn t72_conditions_combine() {
    expect(&Request::default(), "socket", &[NETLINK, 3, 6], Action::Refuse(Refusal::NoSuchProtocol));
    expect(&Request::default(), "socket", &[INET, 3, 6], OK);
    expect(&Request::default(), "socket", &[UNIX, 10, 6], OK);
    expect(&Request::default(), "socket", &[INET6, 10, 6], OK);
}

/// T74, T76: what the launcher still calls under the filter, and what common programs cannot do without.
/// Covers: T74, T76
#[test]
fn t74_t76_launch_and_common_programs() {
    let names = [
        "capset",
        "capget",
        "prctl",
        "chdir",
        "fchdir",
        "close",
        "close_range",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "dup3",
        "openat2",
        "fstat",
        "statx",
        "read",
        "write",
        "wait4",
        "waitid",
        "setsid",
        "ppoll",
        "umask",
        "seccomp",
        "futex",
        "mmap",
        "mprotect",
        "getrandom",
        "rseq",
        "set_robust_list",
        "prlimit64",
        "epoll_pwait",
        "eventfd2",
        "pidfd_open",
        "pidfd_send_signal",
        "sched_getaffinity",
        "madvise",
        "setresuid",
        "setresgid",
        "setgroups",
        "kill",
        "pipe2",
        "accept4",
        "sendmsg",
        "recvmsg",
        "inotify_init1",
        "copy_file_range",
        "membarrier",
        "fchmodat2",
        "mseal",
        "futex_waitv",
        "cachestat",
        "map_shadow_stack",
        "setxattrat",
        "file_getattr",
    ];
    for name in names {
        expect(&Request::default(), name, &[], OK);
    }
    for name in ["newfstatat", "poll", "fork", "vfork", "arch_prctl", "waitpid", "set_thread_area", "mmap2"] {
        expect(&Request::default(), name, &[], OK);
    }
    const TIOCSCTTY: u64 = 0x540e;
    expect(&Request::default(), "ioctl", &[0, TIOCSCTTY], OK);
    expect(&Request::default(), "clone", &[0x8000 | SIGCHLD], OK);
}

/// T77: asked for, a filter is always there; only `unconfined` is none.
/// Covers: T77
#[test]
fn t77_a_filter_that_was_asked_for_is_there() {
    for (name, request) in requests() {
        assert!(compile(&request).is_some_and(|filter| !filter.instructions.is_empty()), "{name}");
        let unconfined = Request { profile: Profile::Unconfined, ..request };
        assert_eq!(compile(&unconfined), None);
        expect(&unconfined, "mount", &[], OK);
    }
}

/// Capabilities of a newer kernel, and those that open nothing here, change no answer.
#[test]
fn capabilities_without_a_call_change_nothing() {
    let opening = [
        CapSet::NET_RAW,
        CapSet::NET_ADMIN,
        CapSet::MKNOD,
        CapSet::SYS_NICE,
        CapSet::SYS_CHROOT,
        CapSet::SYS_TIME,
        CapSet::SYS_PTRACE,
        CapSet::PERFMON,
        CapSet::SYS_ADMIN,
        CapSet::SYSLOG,
        CapSet::SYS_BOOT,
        CapSet::SYS_PACCT,
        CapSet::SYS_TTY_CONFIG,
        CapSet::SYS_RAWIO,
    ];
    let none = compile(&Request::default());
    for number in 0..64 {
        let one = CapSet::from_bits(1 << number);
        // What it opens, ioperm and iopl, are calls of x86.
        let opens = opening.contains(&one) && (cfg!(target_arch = "x86_64") || one != CapSet::SYS_RAWIO);
        assert_eq!(compile(&granted(one)) != none, opens, "{one}");
    }
}
