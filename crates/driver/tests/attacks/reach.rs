//! What of the kernel is in reach by system calls: for a default task, for root, for root with all capabilities
//! added, and with the operator's word for mounts; each beside the same program without a filter.

use crate::rig::{Attack, Bench, Report, program};
use bivouac_sandbox::model::Network;

/// Open only with SYS_ADMIN *and* the operator's `allow_mount`.
const MOUNTS: &[&str] = &[
    "mount",
    "mount.remount",
    "mount.bind",
    "umount2",
    "pivot_root",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "swapon",
    "swapoff",
    "setns",
    "unshare.mnt",
    "unshare.uts",
    "unshare.ipc",
    "unshare.pid",
    "unshare.net",
    "unshare.cgroup",
    "unshare.time",
    "clone.mnt",
    "clone.uts",
    "clone.ipc",
    "clone.pid",
    "clone.net",
    "clone.cgroup",
    "unshare.files",
];

/// Open with a capability that the task added by name and the operator allows.
const WITH_CAPABILITY: &[&str] = &[
    "chroot",
    "pidfd_getfd",
    "kcmp",
    "process_madvise",
    "perf_event_open",
    "sethostname",
    "setdomainname",
    "quotactl",
    "fanotify_init",
    "syslog",
    "reboot",
    "acct",
    "vhangup",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "sched_setattr",
    "move_pages",
    "mbind",
    "sched.fifo",
    "nice.lower",
    "ioprio.rt",
    "iopl",
    "ioperm",
];

/// Closed whatever is granted.
const CLOSED: &[&str] = &[
    "unshare.user",
    "clone.user",
    "open_by_handle_at",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "uselib",
    "personality.norandom",
    "personality.execread",
    "ioctl.TIOCSTI",
    "ioctl.TIOCSTI.high",
    "ioctl.TIOCLINUX",
    "ioctl.TIOCLINUX.high",
    "ioctl.TIOCSETD",
    "ioctl.TIOCSETD.high",
    "fexecve.keyctl",
];

/// Answered as if this kernel had no such call.
const ABSENT: &[&str] = &["clone3", "open_tree_attr", "listns", "lookup_dcookie", "_sysctl", "x32"];

/// What ordinary programs need works in every task.
const OPEN: &[&str] = &[
    "name_to_handle_at",
    "process_vm_readv",
    "ptrace",
    "memfd_create",
    "fexecve",
    "seccomp",
    "clone.plain",
    "sched.batch",
    "nice.raise",
    "ioprio.idle",
    "affinity",
    "modify_ldt",
    "personality.read",
    "personality.linux32",
];

/// Where the kernel itself may answer as the filter does, because it was built without the thing: nothing is proved
/// there, so nothing else may stand on the list.
const MAY_BE_MISSING: &[&str] = &[
    "open_tree_attr",
    "listns",
    "lookup_dcookie",
    "_sysctl",
    "x32",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "uselib",
    "iopl",
    "ioperm",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "perf_event_open",
    "quotactl",
    "fanotify_init",
    "acct",
    "sched.fifo",
    "unshare.time",
    "swapon",
    "swapoff",
];

fn blocked(answer: &str) -> bool {
    ["EPERM", "ENOSYS"].contains(&answer)
}

fn run(bench: &Bench, id: &str, change: impl FnOnce(Attack<'_>) -> Attack<'_>) -> Report {
    change(bench.attack(id, "reach", &[])).run()
}

/// Covers: 2-mount, 2-chroot, 2-namespaces, 2-ptrace, 2-pidfd-bpf-perf, 2-keys-uffd-uring, 2-kexec-modules
/// Covers: 2-handles, 2-ports, 2-clock, 2-scheduling, 2-affinity-prlimit, 2-personality, 2-memfd, 2-syslog-etc
/// Covers: 2-tiocsti, 2-unknown-calls, 2-socketcall-x32, 1d-shocker, 1f-kernel-surfaces, CVE-2022-0185
/// Covers: CVE-2021-41133, CVE-2017-5226, T63, T68, T70, T74
#[test]
fn system_calls_are_open_as_far_as_somebody_opened_them() {
    let Some(bench) = Bench::new("reach") else { return };
    let default = run(&bench, "default", |attack| attack);
    let root = run(&bench, "root", |attack| attack.user("root"));
    let mighty = run(&bench, "mighty", |attack| attack.mighty());
    let granted = run(&bench, "granted", |attack| attack.mighty().operator("allow_mount", true));
    let free = run(&bench, "free", |attack| {
        attack.mighty().operator("allow_unconfined", true).option("seccomp", "unconfined")
    });
    let mut unproved = Vec::new();
    let mut seen_in = |name: &'static str, answer: &str| {
        if free.get(name) == answer {
            unproved.push(name);
        }
    };
    for name in MOUNTS {
        for report in [&default, &root, &mighty] {
            report.expect(&[name], "EPERM");
        }
        assert_eq!(granted.get(name), free.get(name), "{name} with allow_mount");
        seen_in(name, "EPERM");
    }
    for name in WITH_CAPABILITY {
        for report in [&default, &root] {
            report.expect(&[name], "EPERM");
        }
        assert_eq!(mighty.get(name), free.get(name), "{name} with its capability");
        seen_in(name, "EPERM");
    }
    for report in [&default, &root, &mighty, &granted] {
        report.expect(CLOSED, "EPERM");
        report.expect(ABSENT, "ENOSYS");
        report.expect(OPEN, "OK");
        report.expect(&["unknown.answered"], "0");
        report.expect(&["ioctl.TCGETS"], "EBADF");
    }
    CLOSED.iter().for_each(|name| seen_in(name, "EPERM"));
    ABSENT.iter().for_each(|name| seen_in(name, "ENOSYS"));
    let surprise: Vec<_> = unproved.iter().filter(|name| !MAY_BE_MISSING.contains(name)).collect();
    assert!(surprise.is_empty(), "without a filter these are refused too: {surprise:?}\n{}", free.text);
    assert!(!blocked(free.get("open_by_handle_at")) && !blocked(free.get("unshare.user")));
    assert_eq!(default.get("prlimit.up"), "EPERM");
    bench.finish();
}

/// Covers: 1b-no-pivot
#[test]
fn without_pivot_no_nested_namespace_mounts_the_hosts_proc_again() {
    let Some(bench) = Bench::new("nopivot") else { return };
    for (id, granted) in [("a", false), ("b", true)] {
        let attack = bench.attack(id, "reach", &[]).mighty().operator("no_pivot_root", true);
        let report = attack.operator("allow_mount", granted).run();
        report.expect(&["unshare.user", "clone.user"], "EPERM");
        let look = bench.attack(id, "trees", &["look"]).mighty().operator("no_pivot_root", true).run();
        look.expect(&["masks.open", "secrets.open"], "0");
        let climb = bench.attack(id, "fds", &["look"]).user("root").operator("no_pivot_root", true).run();
        climb.expect(&["climb"], "top");
        climb.expect(&["fds"], "0 1 2");
    }
    // Where no filter refuses the namespaces, the kernel itself must: it lets nobody mount a proc without masks who
    // sees none, and outside of any task, where one is seen, the same program gets it.
    let outside = std::process::Command::new(program("reach")).arg("nested").output().unwrap();
    Report::of_host(&outside).expect(&["nested.unshare", "nested.proc"], "OK");
    for (id, no_pivot) in [("c", true), ("d", false)] {
        let attack = bench.attack(id, "reach", &["nested"]).strong().operator("no_pivot_root", no_pivot);
        let report = attack.run();
        if report.get("nested.unshare") == "OK" {
            report.expect(&["nested.proc", "nested.sys"], "EPERM");
        }
    }
    bench.finish();
}

/// Whoever is granted to unmount what is there finds below the task's root an empty directory, and the host's root only
/// where that could not be left.
///
/// Covers: 1b-no-pivot, 2-mount
#[test]
fn below_a_tasks_root_lies_nothing_of_the_host() {
    let Some(bench) = Bench::new("below") else { return };
    let look = |id: &str, no_pivot: bool| {
        let attack = bench.attack(id, "reach", &["below"]).mighty().operator("allow_mount", true);
        attack.operator("no_pivot_root", no_pivot).run()
    };
    let report = look("pivoted", false);
    let is_host = |report: &Report, depth: &str| report.get(depth).split(' ').any(|name| name == "etc");
    report.expect(&["umount.1", "enter.1", "enter.2", "enter.3"], "OK");
    // What masks are cut from, the empty directory, and what the kernel put at the bottom of every namespace.
    let mut masks: Vec<_> = report.get("below.1").split(' ').collect();
    masks.sort_unstable();
    assert_eq!((&masks[..], report.get("below.2")), (&["empty", "null"][..], ""), "{}", report.text);
    assert!(!is_host(&report, "below.3"), "{}", report.text);
    // The same program finds the host where it is.
    let report = look("moved", true);
    assert!(is_host(&report, "below.3"), "{}", report.text);
    assert_eq!(report.get("mounts"), "2", "nothing is mounted there but this proc: {}", report.text);
    // And nobody unmounts who was not granted to.
    let attack = bench.attack("refused", "reach", &["below"]).mighty();
    attack.run().expect(&["umount.1", "enter.1"], "EPERM");
    bench.finish();
}

/// Which families answer, by name of the row.
fn families(report: &Report, row: &str) -> Vec<u32> {
    (0..48).filter(|family| report.get(&format!("{row}.{family}")) == "OK").collect()
}

/// Covers: CVE-2026-31431, 2-af-alg-vsock, 2-families, 2-packet-raw, 2-netlink, 2-socketcall-x32
/// Covers: 1f-kernel-surfaces
#[test]
fn only_known_socket_families_are_made_by_any_entry() {
    let Some(bench) = Bench::new("families") else { return };
    let task = |id: &str| bench.attack(id, "sockets", &["families"]);
    let free = task("free").mighty().operator("allow_unconfined", true).option("seccomp", "unconfined").run();
    let known = [1, 2, 10, 16];
    let beyond = families(&free, "family").into_iter().filter(|family| ![1, 2, 10, 16, 17].contains(family));
    assert!(beyond.count() > 0, "this kernel has none of the closed families:\n{}", free.text);
    for (id, attack, packet) in
        [("default", task("default"), false), ("mighty", task("mighty").mighty(), true)]
    {
        let report = attack.run();
        let expected: Vec<u32> = known.iter().copied().chain(packet.then_some(17)).collect();
        assert_eq!(families(&report, "family"), expected, "{id}");
        for family in (0..48).filter(|family| !expected.contains(family)) {
            let answer = report.get(&format!("family.{family}"));
            assert!(["EAFNOSUPPORT", "EPERM"].contains(&answer), "{id}: family {family}: {answer}");
        }
        if report.get("entry32") == "there" {
            assert_eq!(families(&report, "family32"), expected, "{id}");
            assert_eq!(families(&report, "socketcall"), Vec::<u32>::new(), "{id}");
        }
        report.expect(&["pair.unix", "route.read"], "OK");
        assert!(["EAFNOSUPPORT", "EPERM"].contains(&report.get("pair.tipc")), "{id}");
        let own = if packet { "OK" } else { "EPERM" };
        report.expect(&["raw", "packet", "route.write"], own);
        if !packet {
            assert_ne!(report.get("audit"), "OK", "{id}");
        }
    }
    if free.get("entry32") == "there" {
        assert!(!families(&free, "socketcall").is_empty());
        let full = task("full").operator("allow_compat32", true).option("compat32", "full").run();
        assert!(families(&full, "socketcall").contains(&2));
        assert_eq!(families(&full, "family32"), known);
    }
    bench.finish();
}

/// Covers: 1f-shared-netns, 2-abstract-sockets, CVE-2020-15257, T48, T120, T123
#[test]
fn sockets_and_queues_of_one_allocation_are_not_in_reach_of_another() {
    let Some(bench) = Bench::new("sockets") else { return };
    let port = (20_000 + std::process::id() % 20_000).to_string();
    let name = format!("bivouac-test-{}", std::process::id());
    let serve = |id: &str, network: Network| {
        let args = ["serve", &name, &port];
        bench.attack(id, "sockets", &args).change(|request| request.network = network)
    };
    let call = |id: &str, network: Network| {
        let args = ["call", &name, &port];
        bench.attack(id, "sockets", &args).change(|request| request.network = network).run()
    };
    let first = serve("first", Network::Own).ready();
    let other = call("other", Network::Own);
    other.expect(&["connect.name", "connect.port"], "ECONNREFUSED");
    other.expect(&["bind.name", "bind.port", "queue"], "OK");
    let report = first.kill();
    report.expect(&["bind.name", "bind.port", "queue"], "OK");

    // With the host's network both are in reach: the check can fail.
    let first = serve("third", Network::Host).ready();
    let other = call("fourth", Network::Host);
    other.expect(&["connect.name", "connect.port"], "OK");
    other.expect(&["bind.name", "bind.port"], "EADDRINUSE");
    let names = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(names.contains(&format!("@{name}")), "the task's own is there");
    let ours = names.lines().filter(|line| line.contains(" @") && line.contains("bivouac"));
    assert_eq!(
        ours.filter(|line| !line.contains("bivouac-test-")).count(),
        0,
        "no abstract name of ours:\n{names}"
    );
    first.kill();

    // What one left in a shared network is free at once.
    serve("fifth", Network::Host).ready().kill().expect(&["bind.name", "bind.port"], "OK");
    bench.finish();
}

/// Whoever may make a root of its own leaves that one by `..`, and is in the task's again.
///
/// Covers: 2-chroot
#[test]
fn who_climbs_out_of_a_chroot_ends_at_the_tasks_root() {
    let Some(bench) = Bench::new("chroot") else { return };
    let outside = ["outside", "/local"];
    for (id, attack) in [
        ("mighty", bench.attack("mighty", "fds", &outside).mighty()),
        ("strong", bench.attack("strong", "fds", &outside).strong()),
        ("moved", bench.attack("moved", "fds", &outside).strong().operator("no_pivot_root", true)),
    ] {
        let report = attack.run();
        report.expect(&["chroot", "stay"], "OK");
        assert_eq!(report.get("climb"), "ESCAPED", "{id}: its own root is no prison: {}", report.text);
        assert_eq!(report.get("arrived"), "in the task's root", "{id}: {}", report.text);
    }
    let report = bench.attack("default", "fds", &outside).user("root").run();
    report.expect(&["chroot"], "EPERM");
    // The same on the host ends at the host's root, where no such program lies.
    let prison = bench.path("mighty/task");
    let host = std::process::Command::new(program("fds")).arg("outside").arg(prison).output().unwrap();
    let host = Report::of_host(&host);
    host.expect(&["chroot"], "OK");
    assert_eq!((host.get("climb"), host.get("arrived")), ("ESCAPED", "elsewhere"), "{}", host.text);
    bench.finish();
}
