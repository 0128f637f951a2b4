//! What a mount gives and takes away, proven by what a task can do through it; masks; network namespaces by path.

use crate::support::*;
use bivouac_sandbox::model::*;
use rustix::mount::MountFlags;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn open_to_all(directory: &std::path::Path) {
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Covers: T23
fn read_only_reaches_what_is_mounted_below_the_source(bench: &Bench<'_>) {
    for (access, refused) in [(Access::ReadOnly, 2), (Access::ReadWrite, 0)] {
        let home = Home::new();
        let volume = home.base.join("volume");
        open_to_all(&volume);
        let below = HostMount::tmpfs(volume.join("below"), MountFlags::empty());
        let mut sandbox =
            default_sandbox(&home, &["/bin/sh", "-c", "touch /v/x; touch /v/below/x; stat -fc %T /v/below"]);
        sandbox.mounts.push(bind(&volume, "/v", access));
        let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(outcome.stdout, "tmpfs\n", "what is mounted below comes along");
        assert_eq!(outcome.stderr.matches("Read-only file system").count(), refused, "{outcome:?}");
        assert_eq!(below.path().join("x").exists(), access == Access::ReadWrite);
    }
}

/// `sync` and `*atime` are no options of ours; that they stay as the source has them is the next test.
///
/// Covers: T24
fn set_uid_bits_and_devices_mean_nothing_unless_trusted(bench: &Bench<'_>) {
    for (trust, seen) in [(Trust::Stripped, "65534\nrefused\n"), (Trust::Full, "0\nread\n")] {
        let home = Home::new();
        let volume = home.base.join("volume");
        fs::create_dir(&volume).unwrap();
        fs::copy("/usr/bin/id", volume.join("id")).unwrap();
        fs::set_permissions(volume.join("id"), fs::Permissions::from_mode(0o4755)).unwrap();
        let device = rustix::fs::makedev(1, 5);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, volume.join("zero"), kind, 0o666.into(), device).unwrap();
        fs::set_permissions(volume.join("zero"), fs::Permissions::from_mode(0o666)).unwrap();
        let line = "/v/id -u; head -c1 /v/zero >/dev/null 2>&1 && echo read || echo refused";
        let mut sandbox = default_sandbox(&home, &["/bin/sh", "-c", line]);
        let mut mount = bind(&volume, "/v", Access::ReadOnly);
        let MountKind::Bind { trust: own, .. } = &mut mount.what else { unreachable!() };
        *own = trust;
        sandbox.mounts.push(mount);
        let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(outcome.stdout, seen, "{trust:?}: {outcome:?}");
    }
    for (programs, code) in [(Programs::Refused, 126), (Programs::Run, 0)] {
        let seen = bench.shell("cp /bin/true /t/true && /t/true 2>/dev/null; echo $?", |sandbox, _| {
            let what = MountKind::Tmpfs { size: None, mode: 0o1777, programs };
            sandbox.mounts.push(Mount { target: task("/t"), what });
        });
        assert_eq!(seen, format!("{code}\n"), "{programs:?}");
    }
}

/// Covers: T25
fn the_flags_of_a_restricted_source_stay(bench: &Bench<'_>) {
    let home = Home::new();
    let flags = MountFlags::NOEXEC | MountFlags::NOATIME;
    let volume = HostMount::tmpfs(home.base.join("volume"), flags);
    fs::copy("/bin/true", volume.path().join("true")).unwrap();
    rustix::mount::mount_remount(volume.path(), flags | MountFlags::RDONLY, "").unwrap();
    let line = "/v/true 2>/dev/null; echo $?; touch /v/x 2>/dev/null; echo $?; grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6";
    let mut sandbox = default_sandbox(&home, &["/bin/sh", "-c", line]);
    let mut mount = bind(volume.path(), "/v", Access::ReadWrite);
    let MountKind::Bind { trust, .. } = &mut mount.what else { unreachable!() };
    // The most that can be asked for.
    *trust = Trust::Full;
    sandbox.mounts.push(mount);
    as_root(&mut sandbox);
    let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.stdout, "126\n1\nro,noexec,noatime\n", "{outcome:?}");
}

/// Covers: T32, T33
fn each_mask_is_there_once_and_all_are_of_one_file_system(bench: &Bench<'_>) {
    let script = "cut -d' ' -f5 /proc/self/mountinfo | sort | uniq -d; echo -; \
        for path in $(cut -d' ' -f5 /proc/self/mountinfo); do \
            case $path in /proc/?*|/sys/?*) stat -fc \"%T $path\" $path; esac; \
        done | grep '^tmpfs ' | cut -d' ' -f2 | xargs stat -c %d | sort | uniq -c | tr -s ' ' | cut -d' ' -f2";
    let seen = bench.shell(script, |_, _| {});
    let (twice, masks) = seen.split_once("-\n").unwrap();
    assert_eq!(twice, "", "mounted twice");
    let counts: Vec<u32> = masks.lines().map(|line| line.parse().unwrap()).collect();
    assert!(matches!(counts.as_slice(), [several] if *several > 3), "one file system for all masks: {seen}");
}

/// Covers: T46
fn only_a_network_namespace_can_be_joined(bench: &Bench<'_>) {
    let home = Home::new();
    let refused = |path: &std::path::Path| {
        let mut sandbox = default_sandbox(&home, &["/bin/true"]);
        sandbox.namespaces.network = Network::Join(host(path));
        let failure = bench.run(&sandbox).map(drop).expect_err("it is no network namespace");
        assert!(failure.text.contains(path.to_str().unwrap()), "{failure}");
        failure.to_string()
    };
    let file = home.base.join("file");
    fs::write(&file, "").unwrap();
    let fifo = home.base.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let wrong = ["/proc/self/ns/pid", "/proc/self/ns/user", "/proc/self/ns/mnt", "/dev/null", "/etc"];
    for path in wrong.map(std::path::Path::new).into_iter().chain([file.as_path(), fifo.as_path()]) {
        assert!(refused(path).contains("does not lead to a network namespace"), "{}", path.display());
    }
    assert!(refused(&home.base.join("absent")).contains("No such file"));
    // A name that held one: when the namespace is taken off, a plain file is left.
    let name = home.base.join("named");
    fs::write(&name, "").unwrap();
    rustix::mount::mount_bind("/proc/self/ns/net", &name).unwrap();
    let mut sandbox = default_sandbox(&home, &["/bin/readlink", "/proc/self/ns/net"]);
    sandbox.namespaces.network = Network::Join(host(&name));
    let joined = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(joined.stdout.trim_end(), own.to_str().unwrap());
    rustix::mount::unmount(&name, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(refused(&name).contains("does not lead to a network namespace"));
}

fn an_entry_has_its_own_mode_and_the_way_to_it_is_roots(bench: &Bench<'_>) {
    let seen = bench.shell("stat -c '%a %u %g' /made /made/for /made/for/it", |sandbox, home| {
        let source = home.base.join("source");
        fs::create_dir(&source).unwrap();
        std::os::unix::fs::chown(&source, Some(3), Some(4)).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o760)).unwrap();
        let show = Show::Overlay { above: Vec::new() };
        sandbox.root.entries.push(Entry { source: host(source), target: task("/made/for/it"), show });
    });
    assert_eq!(seen, "755 0 0\n755 0 0\n760 3 4\n");
}

pub(crate) const TESTS: &[Test] = &[
    (
        "read_only_reaches_what_is_mounted_below_the_source",
        read_only_reaches_what_is_mounted_below_the_source,
    ),
    (
        "set_uid_bits_and_devices_mean_nothing_unless_trusted",
        set_uid_bits_and_devices_mean_nothing_unless_trusted,
    ),
    ("the_flags_of_a_restricted_source_stay", the_flags_of_a_restricted_source_stay),
    (
        "each_mask_is_there_once_and_all_are_of_one_file_system",
        each_mask_is_there_once_and_all_are_of_one_file_system,
    ),
    ("only_a_network_namespace_can_be_joined", only_a_network_namespace_can_be_joined),
    (
        "an_entry_has_its_own_mode_and_the_way_to_it_is_roots",
        an_entry_has_its_own_mode_and_the_way_to_it_is_roots,
    ),
];
