//! What a task's `/` is: host files that cannot be changed, masks, mounts, devices, links, read-only roots.

use crate::support::*;
use bivouac_sandbox::model::*;
use bivouac_sandbox::{EmptyMounts, RootSwitch};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn host_files_cannot_be_changed(bench: &Bench<'_>) {
    let before = (fs::read("/etc/passwd").unwrap(), fs::metadata("/usr/bin/env").unwrap().mode());
    let seen = bench.shell(
        "echo evil >> /etc/passwd && tail -n1 /etc/passwd; chmod 4777 /usr/bin/env && stat -c %a /usr/bin/env; rm /usr/bin/id && ls /usr/bin/id 2>/dev/null; touch /usr/new",
        |sandbox, _| as_root(sandbox),
    );
    assert_eq!(seen, "evil\n4777\n");
    assert_eq!((fs::read("/etc/passwd").unwrap(), fs::metadata("/usr/bin/env").unwrap().mode()), before);
    assert!(fs::exists("/usr/bin/id").unwrap() && !fs::exists("/usr/new").unwrap());
}

fn the_private_layer_survives_a_restart(bench: &Bench<'_>) {
    let home = Home::new();
    for (line, expected) in [("echo 1 > /usr/kept; echo 2 > /top", ""), ("cat /usr/kept /top", "1\n2\n")] {
        let mut sandbox = default_sandbox(&home, &["/bin/sh", "-c", line]);
        as_root(&mut sandbox);
        assert_eq!(bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}")).stdout, expected);
    }
    assert_eq!(fs::read_to_string(home.task_dir().join("top")).unwrap(), "2\n");
}

/// Covers: T31, 2-proc-masked, 2-proc-read-only, 2-sys
fn masks_and_locked_paths(bench: &Bench<'_>) {
    let script = "
        for f in interrupts kcore keys timer_list; do
            [ -e /proc/$f ] || continue
            stat -c '%t:%T' /proc/$f | grep -qx 1:3 || echo $f is not masked
            wc -c < /proc/$f | grep -qx 0 || echo $f is not empty
            chmod 777 /proc/$f 2>/dev/null && echo mask of $f can be changed
        done
        for d in acpi scsi asound; do [ -d /proc/$d ] && [ -n \"$(ls /proc/$d)\" ] && echo $d is not empty; done
        ls /sys/firmware /sys/dev/block
        for w in sys/kernel/hostname sysrq-trigger irq/default_smp_affinity; do
            [ -e /proc/$w ] && (echo 1 > /proc/$w) 2>/dev/null && echo $w can be written
        done
        (echo 1 > /sys/kernel/uevent_seqnum) 2>/dev/null && echo sysfs can be written
        mkdir /sys/firmware/x 2>/dev/null && echo mask directory can be written
        umount /proc/kcore 2>/dev/null && cat /proc/kcore | head -c1
        ls -A /sys/fs/cgroup; true";
    // Without allow_mount the filter refuses umount; here, without a filter, the capability is left out.
    let seen = bench.shell(script, |sandbox, _| {
        as_root(sandbox);
        // Born in no version 2 group of its own: a view would show its starter's.
        sandbox.namespaces.cgroup = Sharing::Private;
        let less = bivouac_sandbox::capability::CapSet::from_bits(
            sandbox.process.capabilities.bounding.bits() & !(1 << 21),
        );
        sandbox.process.capabilities =
            CapabilitySets { bounding: less, permitted: less, effective: less, ..CapabilitySets::default() };
    });
    let kept: Vec<&str> =
        seen.lines().filter(|line| !matches!(*line, "/sys/firmware:" | "/sys/dev/block:" | "")).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

/// Covers: T19, CVE-2024-9407
fn mounts_of_all_kinds(bench: &Bench<'_>) {
    let home = Home::new();
    let data = home.base.join("data, with:odd \\name");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(data.join("f"), "content\n").unwrap();
    let socket = home.base.join("sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let line = "cat /rw/f /ro/deep/f /file; echo x > /rw/new; echo x > /ro/deep/new; test -S /socket && echo socket; df -k /scratch | tail -n1 | tr -s ' ' | cut -d' ' -f2; touch /scratch/x; stat -c %a /scratch; cp /bin/true /scratch/true && /scratch/true";
    let mut sandbox = default_sandbox(&home, &["/bin/sh", "-c", line]);
    sandbox.mounts = vec![
        bind(&data, "/rw", Access::ReadWrite),
        bind(&data, "/ro/deep", Access::ReadOnly),
        bind(&data.join("f"), "/file", Access::ReadOnly),
        bind(&socket, "/socket", Access::ReadWrite),
        Mount {
            target: task("/scratch"),
            what: MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, programs: Programs::Refused },
        },
    ];
    let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.stdout, "content\ncontent\ncontent\nsocket\n1024\n1777\n");
    assert!(outcome.stderr.contains("/ro/deep/new: Read-only file system"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/scratch/true: Permission denied"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "x\n");
}

/// Covers: T18
fn later_mounts_lie_on_top(bench: &Bench<'_>) {
    let seen = bench.shell("cat /v/sub/name", |sandbox, home| {
        for name in ["one", "two"] {
            fs::create_dir_all(home.base.join(name).join("sub")).unwrap();
            fs::write(home.base.join(name).join("sub/name"), name).unwrap();
            fs::write(home.base.join(name).join("name"), name).unwrap();
        }
        sandbox.mounts = vec![
            bind(&home.base.join("one"), "/v", Access::ReadOnly),
            bind(&home.base.join("two"), "/v/sub", Access::ReadOnly),
        ];
    });
    assert_eq!(seen, "two");
}

/// Covers: T15, T16
fn targets_through_links_stay_inside(bench: &Bench<'_>) {
    let home = Home::new();
    let victim = home.base.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::create_dir(home.base.join("volume")).unwrap();
    fs::write(home.base.join("volume/here"), "").unwrap();
    // The task's earlier life has left links to places of the host.
    symlink(&victim, home.task_dir().join("absolute")).unwrap();
    symlink("../../../../../../../etc", home.task_dir().join("climbing")).unwrap();
    let mut sandbox =
        default_sandbox(&home, &["/bin/sh", "-c", "ls -d /climbing/deep/here; ls /absolute/new/here"]);
    sandbox.mounts = vec![
        bind(&home.base.join("volume"), "/absolute/new", Access::ReadOnly),
        bind(&home.base.join("volume"), "/climbing/deep", Access::ReadOnly),
    ];
    let result = bench.run(&sandbox);
    // A link to a place that the task's root lacks dangles: that is an error; nothing is made on the host.
    let failure = result.map(drop).expect_err("a dangling link is no mount point");
    assert!(failure.text.contains("/absolute/new"), "{failure}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    sandbox.mounts.remove(0);
    let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.stdout, "/climbing/deep/here\n");
    assert!(!fs::exists("/etc/deep").unwrap());
}

/// Covers: T34, CVE-2019-16884, CVE-2026-41579
fn kernel_trees_replaced_by_links_are_refused(bench: &Bench<'_>) {
    for tree in ["proc", "sys", "dev"] {
        let home = Home::new();
        let victim = home.base.join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("ptmx"), "mine").unwrap();
        symlink(&victim, home.task_dir().join(tree)).unwrap();
        let failure =
            bench.run(&default_sandbox(&home, &["/bin/true"])).map(drop).expect_err("a link is refused");
        assert!(failure.text.contains(&format!("at /{tree}")), "{failure}");
        assert!(failure.hint.unwrap().contains("link"));
        assert_eq!(fs::read_to_string(victim.join("ptmx")).unwrap(), "mine");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    }
}

fn no_way_up(bench: &Bench<'_>) {
    let seen = bench.shell(
        "cd /; for n in 1 2 3 4 5 6 7 8; do cd ..; done; [ \"$(stat -c %i:%d .)\" = \"$(stat -c %i:%d /)\" ] && echo top; ls -d /work /root 2>/dev/null; ls -l /proc/self/cwd /proc/1/root | sed 's/.*-> //'",
        |_, _| {},
    );
    assert_eq!(seen, "top\n/\n/\n");
}

/// Covers: T9
fn read_only_root(bench: &Bench<'_>) {
    let seen = bench.shell(
        "touch /x 2>&1; touch /usr/x 2>&1; touch /tmp/x 2>&1; ls /proc/self/status; echo > /dev/null",
        |sandbox, _| {
            as_root(sandbox);
            sandbox.root.access = Access::ReadOnly;
            sandbox.root.entries.iter_mut().for_each(|entry| entry.show = Show::ReadOnly);
            sandbox.mounts.push(Mount {
                target: task("/tmp"),
                what: MountKind::Tmpfs { size: None, mode: 0o1777, programs: Programs::Run },
            });
        },
    );
    assert_eq!(
        seen,
        "touch: cannot touch '/x': Read-only file system\ntouch: cannot touch '/usr/x': Read-only file system\n/proc/self/status\n"
    );
}

fn moved_root(bench: &Bench<'_>) {
    let empty = EmptyMounts::make(RootSwitch::Cover).unwrap();
    let seen = Bench { empty, ..*bench }
        .shell("ls -d /work /root 2>/dev/null; ls /proc/self/status; stat -f -c %T /proc /sys", |_, _| {});
    assert_eq!(seen, "/proc/self/status\nproc\nsysfs\n");
}

/// Covers: T116, T117
fn devices(bench: &Bench<'_>) {
    let seen = bench.shell(
        "cd /dev; for f in full null random tty urandom zero inserted/random; do stat -c '%n %t:%T %a %u' $f; done; ls | tr '\\n' ' '; readlink ptmx; head -c3 zero | wc -c; dd if=zero of=full count=1 2>&1 | grep -o 'No space left on device'; mknod -m 666 evil b 8 0 && head -c1 evil",
        |sandbox, _| {
            as_root(sandbox);
            sandbox.devices.push(Device { target: task("/dev/inserted/random"), kind: DeviceKind::Character, major: 1, minor: 8, mode: 0o640, uid: 3, gid: 4 });
        },
    );
    let (good, bad) = seen.split_once("pts/ptmx\n3\n").unwrap();
    assert_eq!(
        good,
        "full 1:7 666 0\nnull 1:3 666 0\nrandom 1:8 666 0\ntty 5:0 666 0\nurandom 1:9 666 0\nzero 1:5 666 0\ninserted/random 1:8 640 3\ncore fd full inserted mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert!(bad.contains("No space left on device"), "{bad}");
}

fn volumes_carry_no_devices_and_no_privileges(bench: &Bench<'_>) {
    let seen = bench.shell(
        "head -c1 /v/zero 2>&1 | head -n1; cp /usr/bin/id /v/id; chmod 4755 /v/id; grep ' /v ' /proc/self/mountinfo | grep -o 'nosuid,nodev'",
        |sandbox, home| {
            as_root(sandbox);
            let volume = home.base.join("volume");
            fs::create_dir(&volume).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, volume.join("zero"), rustix::fs::FileType::CharacterDevice, 0o666.into(), rustix::fs::makedev(1, 5)).unwrap();
            sandbox.mounts.push(bind(&volume, "/v", Access::ReadWrite));
        },
    );
    assert_eq!(seen, "head: cannot open '/v/zero' for reading: Permission denied\nnosuid,nodev\n");
}

fn layers_between(bench: &Bench<'_>) {
    let seen = bench.shell(
        "cat /etc/resolv.conf; ls /etc/shadow /etc/hidden 2>&1; head -n1 /etc/passwd | cut -d: -f1",
        |sandbox, home| {
            let (generated, sane) = (home.base.join("generated"), home.base.join("sane"));
            fs::create_dir(&generated).unwrap();
            fs::create_dir(&sane).unwrap();
            fs::write(generated.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
            for name in ["shadow", "hidden"] {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    sane.join(name),
                    rustix::fs::FileType::CharacterDevice,
                    0.into(),
                    0,
                )
                .unwrap();
            }
            let etc = sandbox.root.entries.iter_mut().find(|entry| entry.target == task("/etc")).unwrap();
            etc.show = Show::Overlay { above: vec![host(generated), host(sane)] };
        },
    );
    assert_eq!(
        seen,
        "nameserver 192.0.2.1\nls: cannot access '/etc/shadow': No such file or directory\nls: cannot access '/etc/hidden': No such file or directory\nroot\n"
    );
}

fn nothing_is_copied_and_few_inodes_are_made(bench: &Bench<'_>) {
    let home = Home::new();
    let outcome =
        bench.run(&default_sandbox(&home, &["/bin/true"])).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((outcome.ending, outcome.stderr.as_str()), (bivouac_sys::wait::Ending::Exited(0), ""));
    let (mut inodes, mut bytes) = (0, 0);
    let mut stack = vec![home.base.clone()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            inodes += 1;
            if data.is_dir() {
                stack.push(entry.path())
            } else if data.is_file() {
                bytes += data.len()
            }
        }
    }
    assert!(inodes <= 50, "{inodes} inodes");
    assert_eq!(bytes, 0);
}

pub(crate) const TESTS: &[Test] = &[
    ("host_files_cannot_be_changed", host_files_cannot_be_changed),
    ("the_private_layer_survives_a_restart", the_private_layer_survives_a_restart),
    ("masks_and_locked_paths", masks_and_locked_paths),
    ("mounts_of_all_kinds", mounts_of_all_kinds),
    ("later_mounts_lie_on_top", later_mounts_lie_on_top),
    ("targets_through_links_stay_inside", targets_through_links_stay_inside),
    ("kernel_trees_replaced_by_links_are_refused", kernel_trees_replaced_by_links_are_refused),
    ("no_way_up", no_way_up),
    ("read_only_root", read_only_root),
    ("moved_root", moved_root),
    ("devices", devices),
    ("volumes_carry_no_devices_and_no_privileges", volumes_carry_no_devices_and_no_privileges),
    ("layers_between", layers_between),
    ("nothing_is_copied_and_few_inodes_are_made", nothing_is_copied_and_few_inodes_are_made),
];
