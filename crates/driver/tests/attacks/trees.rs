//! `/dev`, `/proc`, `/sys` and `/etc`: fresh, masked, the task's own, and the host's stay as they are.

use crate::rig::{Bench, Report, program};
use bivouac_driver::options::Value;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::process::Command;

const MASKED: [&str; 15] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/selinux",
    "/sys/dev/block",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];
const WRITES: [&str; 9] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/kernel/sysrq",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/power/state",
];

/// What the program sees and can do outside of any task.
fn on_the_host(mode: &str) -> Report {
    let output = Command::new(program("trees")).arg(mode).output().unwrap();
    Report::of_host(&output)
}

/// What no task may see or change, whatever its powers.
fn closed(report: &Report) {
    for path in MASKED {
        let how = report.get(&format!("mask.{path}"));
        assert!(["absent", "empty", "null"].contains(&how), "{path} is {how}");
    }
    report.expect(&["masks.open", "secrets.open", "mounts.cgroup", "mounts.debug", "mounts.devices"], "0");
    report.expect(&["mounts.suid"], "0");
    for path in
        ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/fuse", "/dev/sda", "/dev/vda", "/dev/kvm"]
    {
        report.expect(&[&format!("open.{path}")], "ENOENT");
    }
    for seen in ["debugfs", "tracefs", "bpffs", "efivars", "binfmt"] {
        assert!(["absent", "empty"].contains(&report.get(seen)), "{seen} is {}", report.get(seen));
    }
    for path in WRITES {
        let answer = report.get(&format!("write.{path}"));
        assert!(["EROFS", "ENOENT", "EACCES"].contains(&answer), "writing {path} was answered {answer}");
    }
    report.expect(
        &["list./dev"],
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
    report.expect(&["list./dev/pts"], "ptmx");
    report.expect(&["list./sys/class/net"], "lo");
    assert_eq!(report.get("stdin"), "1:3 20000", "a null device");
}

/// Covers: CVE-2025-31133, 2-proc-read-only, 2-proc-masked, 2-sys, 2-cgroup-files, 2-core-pattern, 2-ports
/// Covers: 2-oom-score
/// Covers: T31, T35, T39, T117
#[test]
fn masks_hold_against_root_with_all_capabilities() {
    let Some(bench) = Bench::new("masks") else { return };
    let host = on_the_host("write");
    // Where nothing protects, the program reads and writes: what it does not get below is kept from it.
    assert!(host.count("masks.open") > 0, "{}", host.text);
    host.expect(&["write./proc/sys/kernel/core_pattern", "write./proc/sys/vm/overcommit_memory"], "OK");
    for seen in ["mounts.suid", "mounts.devices", "mounts.cgroup"] {
        assert_ne!(host.get(seen), "0", "{seen}");
    }

    std::fs::create_dir_all(bench.path("a/task/dev")).unwrap();
    std::fs::write(bench.path("a/task/dev/null"), "not a device").unwrap();
    let before = std::fs::metadata("/dev/null").unwrap();
    let default = bench.attack("a", "trees", &["write"]).run();
    closed(&default);
    default.expect(&["oom.raise"], "OK");
    default.expect(&["oom.lower"], "EACCES");
    for (id, attack) in [
        ("b", bench.attack("b", "trees", &["attack"]).mighty()),
        ("c", bench.attack("c", "trees", &["attack"]).strong()),
    ] {
        let report = attack.run();
        closed(&report);
        for path in MASKED.iter().filter(|path| report.get(&format!("mask.{path}")) != "absent") {
            for act in ["chmod", "xattr"] {
                let answer = report.get(&format!("{act}.{path}"));
                assert!(
                    ["EROFS", "EPERM", "EOPNOTSUPP"].contains(&answer),
                    "{id}: {act} of {path}: {answer}"
                );
            }
            for act in ["umount", "unlink"] {
                assert_ne!(report.get(&format!("{act}.{path}")), "OK", "{id}: {act} of {path}");
            }
        }
        report.expect(&["oom.raise"], "OK");
        report.expect(&["stdin.chmod", "stdin.chown"], "EROFS");
        report.expect(&["proc.mount", "cgroup.mount", "cgroup2.mount"], "EPERM");
        report.expect(&["mknod.fifo"], "OK");
        for node in ["sys.mkdir", "write.sysrq-trigger", "register.binfmt", "write.irq"] {
            assert_ne!(report.get(node), "OK", "{id}: {node}");
        }
    }
    // With SYS_RESOURCE, where this machine has it to give, a task may: what is refused above could be done.
    let lowered = if crate::identity::held() & (1 << 24) != 0 { "OK" } else { "EACCES" };
    bench.attack("b", "trees", &["write"]).mighty().run().expect(&["oom.lower"], lowered);
    bench.attack("c", "trees", &["write"]).strong().run().expect(&["oom.lower"], "EACCES");
    let after = std::fs::metadata("/dev/null").unwrap();
    assert!(after.file_type().is_char_device() && after.mode() & 0o777 == 0o666);
    assert_eq!(before.ctime_nsec(), after.ctime_nsec(), "the host's null device was touched");
    bench.finish();
}

/// Covers: 1b-prepared-tree, T37, T38
#[test]
fn nothing_that_one_task_does_to_its_kernel_trees_is_seen_by_another() {
    let Some(bench) = Bench::new("fresh") else { return };
    let older = bench.attack("older", "trees", &["stay"]).mighty().ready();
    let marked = bench.attack("marks", "trees", &["mark"]).mighty().ready();
    let pristine = "1:3 666 0:0";
    let newer = bench.attack("newer", "trees", &["look"]).mighty().run();
    let older_now = older.exec(&["/trees", "look"]).unwrap();
    for report in [&newer, &older_now] {
        closed_lists(report);
        report.expect(&["node./dev/null"], pristine);
        report.expect(&["node./dev/zero"], "1:5 666 0:0");
        report.expect(&["xattr./dev"], "ENODATA");
    }
    let mine = marked.exec(&["/trees", "look"]).unwrap();
    assert_eq!(mine.get("node./dev/null"), "1:3 600 0:0", "the mark is there where it was made");
    mine.expect(&["node./dev/zero"], "1:5 666 4321:4321");
    mine.expect(&["xattr./dev"], "OK");
    assert!(mine.get("list./dev").contains("planted") && mine.get("list./dev/mqueue").contains("planted"));
    let report = marked.kill();
    let marks =
        ["dev", "null", "zero", "xattr", "shm", "mqueue", "tmp", "ptmx"].map(|mark| format!("mark.{mark}"));
    report.expect(&marks.each_ref().map(String::as_str), "OK");
    older.kill();
    assert_eq!(std::fs::metadata("/dev/null").unwrap().mode() & 0o777, 0o666);
    bench.finish();
}

fn closed_lists(report: &Report) {
    report.expect(
        &["list./dev"],
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
    report.expect(&["list./dev/pts"], "ptmx");
    report.expect(&["list./dev/mqueue"], "");
    report.expect(&["list./sys/class/net"], "lo");
}

/// Covers: CVE-2019-16884, CVE-2026-41579, CVE-2026-87766, T34
#[test]
fn a_kept_root_whose_kernel_trees_are_links_is_refused_and_the_host_stays_as_it_is() {
    let Some(bench) = Bench::new("links") else { return };
    let victim = bench.victim("victim");
    std::fs::write(victim.path.join("ptmx"), "the host's").unwrap();
    let victim_now = crate::rig::tree(&victim.path);
    for tree in ["dev", "proc", "sys"] {
        for (number, target) in
            [victim.path.to_str().unwrap(), "../../victim", "/proc/1/root/tmp", "/proc/self/fd/5"]
                .into_iter()
                .enumerate()
        {
            let id = format!("{tree}{number}");
            let attack = bench.attack(&id, "trees", &[]);
            symlink(target, bench.path(&format!("{id}/task/{tree}"))).unwrap();
            let text = attack.refused();
            assert!(text.contains(&format!("/{tree}")) && text.contains("link"), "{text}");
        }
    }
    // Links where the launcher makes files and mount points of its own.
    for (number, (name, target)) in [
        ("etc", "../../../victim"),
        ("run", "/proc/1/root/run"),
        ("usr", "../victim"),
        ("local", "/etc"),
        ("tmp", "/root"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("link{number}");
        let attack = bench.attack(&id, "trees", &[]).env("A", "b");
        let place = bench.path(&format!("{id}/task/{name}"));
        let _ = std::fs::remove_dir(&place);
        symlink(target, &place).unwrap();
        match attack.start() {
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            Ok(live) => {
                live.end();
            }
        }
    }
    assert_eq!(crate::rig::tree(&victim.path), victim_now);
    bench.finish();
}

/// Covers: CVE-2019-16884, T10, T15
#[test]
fn nothing_is_mounted_on_or_below_the_kernel_trees() {
    let Some(bench) = Bench::new("ontop") else { return };
    let volume = bench.victim("volume");
    for target in
        ["/proc", "/proc/1", "/proc/sys/kernel", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm", "/proc/../dev"]
    {
        let text = bench.attack("a", "trees", &[]).bind(&volume.path, target).refused();
        assert!(
            text.contains("/proc, /sys and /dev are the task's own") || text.contains(".."),
            "{target}: {text}"
        );
    }
    let tmpfs = Value::map([("type", Value::from("tmpfs")), ("target", Value::from("/proc/acpi"))]);
    let text = bench.attack("a", "trees", &[]).option("mount", Value::List(vec![tmpfs])).refused();
    assert!(text.contains("made fresh"), "{text}");
    // A link to one of them is followed in the root, where nothing is yet.
    symlink("/proc", bench.path("a/task/other")).unwrap();
    let text = bench.attack("a", "trees", &[]).mighty().bind(&volume.path, "/other/sys").refused();
    assert!(text.contains("/other/sys"), "{text}");
    volume.unharmed();
    bench.finish();
}

/// Covers: 1d-etc-secrets, T6
#[test]
fn no_secret_of_the_hosts_etc_is_read_by_a_root_task() {
    let Some(bench) = Bench::new("secrets") else { return };
    let mut private = Vec::new();
    let mut rest = vec![std::path::PathBuf::from("/etc")];
    while let Some(directory) = rest.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let Ok(status) = std::fs::symlink_metadata(entry.path()) else { continue };
            let hidden = status.mode() & 0o004 == 0;
            match status.file_type() {
                kind if kind.is_dir() => rest.push(entry.path()),
                kind if kind.is_file() && status.len() > 0 && hidden => private.push(entry.path()),
                _ => {}
            }
        }
    }
    assert!(private.iter().any(|path| path.ends_with("shadow")), "{private:?}");
    let paths = private.iter().map(|path| path.to_str().unwrap()).chain(["/etc/passwd"]);
    let args: Vec<&str> = std::iter::once("read").chain(paths).collect();
    let outside = Report::of_host(&Command::new(program("root")).args(&args).output().unwrap());
    let inside = bench.attack("a", "root", &args).mighty().run();
    for path in args.iter().skip(1) {
        let name = format!("read.{path}");
        let same = outside.get(&name) == inside.get(&name);
        assert_eq!(same, *path == "/etc/passwd", "{path}: {}", inside.get(&name));
    }
    assert!(!inside.text.contains('$'), "a password is shown: {}", inside.text);
    bench.finish();
}
