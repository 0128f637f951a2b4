//! Mounts that a task asks for: sources of every kind, flags that hold, propagation, and what is left behind.

use crate::rig::{Attack, Bench, all, program};
use bivouac_driver::options::Value;
use bivouac_sandbox::HostPath;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One `mount` block.
fn mount(pairs: &[(&str, Value)]) -> Value {
    Value::map(pairs.iter().map(|(name, value)| (*name, value.clone())))
}

/// A bind with further options.
fn bound<'a>(attack: Attack<'a>, source: &Path, more: &[(&str, Value)]) -> Attack<'a> {
    let path = source.to_str().unwrap();
    let mut pairs = vec![("source", Value::from(path)), ("target", Value::from("/volume"))];
    pairs.extend(more.iter().cloned());
    attack.operator("allow_mount_paths", all(&[path])).option("mount", Value::List(vec![mount(&pairs)]))
}

/// A file system of the host's, taken away again however the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Mounted {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status();
        assert!(status.unwrap().success());
        Mounted(at.to_owned())
    }

    fn shared(self) -> Mounted {
        assert!(Command::new("mount").arg("--make-shared").arg(&self.0).status().unwrap().success());
        self
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Covers: T20, T22
#[test]
fn sources_of_every_kind_are_shown_and_missing_ones_refused() {
    let Some(bench) = Bench::new("kinds") else { return };
    let host = bench.victim("host");
    let socket = std::os::unix::net::UnixListener::bind(host.path.join("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(host.path.join("fifo")).status().unwrap().success());
    for (name, kind) in [("marker", "100"), ("socket", "140"), ("fifo", "10"), (".", "40")] {
        let report = bound(bench.attack("a", "root", &["look", "/volume"]), &host.path.join(name), &[]).run();
        let seen = report.get("look./volume");
        assert!(seen.starts_with(kind), "{name} is shown as {seen}");
        std::fs::remove_dir(bench.path("a/task/volume"))
            .or_else(|_| std::fs::remove_file(bench.path("a/task/volume")))
            .unwrap();
    }
    drop(socket);
    let text = bound(bench.attack("b", "root", &[]), &host.path.join("missing"), &[]).refused();
    assert!(text.contains("missing") && text.contains("does not exist"), "{text}");
    assert!(!bench.path("b/task/volume").exists(), "a mount point was made for nothing");
    bench.finish();
}

/// Covers: T23, T25
#[test]
fn flags_hold_on_what_is_below_too() {
    let Some(bench) = Bench::new("flags") else { return };
    let top = bench.path("source");
    let outer = Mounted::tmpfs(&top, "mode=777");
    let inner = Mounted::tmpfs(&top.join("inner"), "mode=777");
    let strict = Mounted::tmpfs(&top.join("strict"), "mode=777,noexec");
    for below in ["", "inner", "strict"] {
        std::fs::copy(program("fds"), top.join(below).join("fds")).unwrap();
        std::fs::set_permissions(top.join(below).join("fds"), std::fs::Permissions::from_mode(0o4755))
            .unwrap();
    }
    let write = ["write", "/volume", "/volume/inner"];
    let open = bound(bench.attack("rw", "root", &write), &top, &[]).run();
    open.expect(&["create./volume", "create./volume/inner"], "OK");
    let closed =
        bound(bench.attack("ro", "root", &write), &top, &[("readonly", Value::from(true))]).mighty().run();
    closed.expect(&["create./volume", "create./volume/inner", "caps./volume/inner"], "EROFS");
    // What the source's own mount forbids stays forbidden, and what ours forbids lies on all of it.
    let live = bound(bench.attack("run", "fds", &["stay"]), &top, &[]).ready();
    live.exec(&["/volume/inner/fds"]).unwrap().expect(&["fds"], "0 1 2");
    let text = live.exec(&["/volume/strict/fds"]).map(|report| report.text).unwrap_err().to_string();
    assert!(text.contains("ermission denied") || text.contains("noexec"), "{text}");
    let flags = live.exec(&["/bin/cat", "/proc/self/mountinfo"]).unwrap().text;
    let ours: Vec<_> = flags.lines().filter(|line| line.contains(" /volume")).collect();
    assert!(ours.len() == 3 && ours.iter().all(|line| line.contains("nosuid,nodev")), "{ours:?}");
    live.kill();
    drop((strict, inner, outer));
    bench.finish();
}

/// Covers: T26
#[test]
fn a_tmpfs_has_the_size_mode_and_programs_that_were_asked_for() {
    let Some(bench) = Bench::new("tmpfs") else { return };
    let tmpfs = |more: &[(&str, Value)]| {
        let mut pairs = vec![("type", Value::from("tmpfs")), ("target", Value::from("/memory"))];
        pairs.extend(more.iter().cloned());
        Value::List(vec![mount(&pairs)])
    };
    for (mode, seen) in [("0750", "40750"), ("1777", "41777")] {
        let attack = bench.attack("mode", "root", &["look", "/memory"]);
        let report = attack.option("mount", tmpfs(&[("mode", Value::from(mode))])).run();
        assert!(report.get("look./memory").starts_with(seen), "{}", report.text);
    }
    for bad in ["0", "-1", "18446744073709551616", "1.5m", "m"] {
        let text =
            bench.attack("size", "root", &[]).option("mount", tmpfs(&[("size", Value::from(bad))])).refused();
        assert!(text.contains("size"), "{bad}: {text}");
    }
    for bad in ["9", "-1", "17777", "rwx"] {
        let text =
            bench.attack("size", "root", &[]).option("mount", tmpfs(&[("mode", Value::from(bad))])).refused();
        assert!(text.contains("mode"), "{bad}: {text}");
    }
    for (programs, works) in [(true, true), (false, false)] {
        let script = "cp /fds /memory/fds && /memory/fds";
        let attack = bench.task("run", "/bin/sh", &["-c", script]);
        bench.place("run", "fds");
        let report = attack.option("mount", tmpfs(&[("exec", Value::from(programs))])).run();
        assert_eq!(report.status == 0, works, "exec = {programs}: {}", report.text);
    }
    bench.finish();
}

/// Covers: T28, T29
#[test]
fn mounts_travel_only_where_they_were_told_to() {
    let Some(bench) = Bench::new("travel") else { return };
    let top = bench.path("source");
    let _top = Mounted::tmpfs(&top, "mode=777").shared();
    std::fs::create_dir(top.join("later")).unwrap();
    std::fs::create_dir(top.join("tasks")).unwrap();
    let private =
        bound(bench.attack("private", "root", &["stay"]), &top, &[]).mighty().operator("allow_mount", true);
    let slave = [("propagation", Value::from("host-to-task"))];
    let slave =
        bound(bench.attack("slave", "root", &["stay"]), &top, &slave).mighty().operator("allow_mount", true);
    let (private, slave) = (private.ready(), slave.ready());
    let later = Mounted::tmpfs(&top.join("later"), "mode=755");
    std::fs::write(top.join("later/file"), "here").unwrap();
    for (live, seen) in [(&private, "ENOENT"), (&slave, "here")] {
        live.exec(&["/root", "read", "/volume/later/file"])
            .unwrap()
            .expect(&["read./volume/later/file"], seen);
    }
    // The other way: what a task with the operator's leave mounts stays in the task.
    for live in [&private, &slave] {
        let made = live.exec(&["/bin/mount", "-t", "tmpfs", "none", "/volume/tasks"]).unwrap();
        assert_eq!(made.status, 0, "{}", made.text);
        let hosts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!hosts.contains(top.join("tasks").to_str().unwrap()), "{hosts}");
    }
    private.kill();
    slave.kill();
    drop(later);
    drop(_top);
    bench.finish();
}

/// Covers: T32, T33, T36
#[test]
fn masks_lie_once_and_an_exec_adds_none() {
    let Some(bench) = Bench::new("once") else { return };
    let live = bench.attack("a", "root", &["stay"]).ready();
    let list = || live.exec(&["/root", "mounts"]).unwrap().text;
    let (first, second) = (list(), list());
    assert_eq!(first, second);
    let mut targets: Vec<_> = first.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    targets.sort_unstable();
    let all = targets.len();
    targets.dedup();
    assert_eq!(targets.len(), all, "something is mounted twice:\n{first}");
    let directories =
        live.exec(&["/root", "look", "/proc/acpi", "/sys/firmware", "/proc/scsi", "/sys/dev/block"]).unwrap();
    let mut devices: Vec<_> = directories.text.lines().filter_map(|line| line.split("dev ").nth(1)).collect();
    devices.dedup();
    assert!(devices.len() == 1, "the empty directories are one:\n{}", directories.text);
    live.kill();
    bench.finish();
}

/// Covers: T2, T4, T1
#[test]
fn working_directories_are_entered_with_the_tasks_own_rights() {
    let Some(bench) = Bench::new("enter") else { return };
    let local = bench.path("a/task/local");
    for (name, owner, mode) in [("users", 65534, 0o700), ("roots", 0, 0o700), ("sticky", 4321, 0o2775)] {
        let path = local.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(if name == "sticky" { 0 } else { owner }), Some(owner)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let start = |directory: &str| {
        bench.attack("a", "fds", &["look"]).option("work_dir", directory).option("cap_drop", all(&["all"]))
    };
    start("/local/users").run().expect(&["cwd"], "/local/users");
    let text = start("/local/roots").refused();
    assert!(text.contains("/local/roots") && text.contains("ermission denied"), "{text}");
    start("/local/roots").user("root").run().expect(&["cwd"], "/local/roots");
    start("/local/sticky/made/deep").run().expect(&["cwd"], "/local/sticky/made/deep");
    let made = std::fs::metadata(local.join("sticky/made")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o2755, 0, 4321));
    bench.finish();
}

/// Covers: 2-scm-rights
#[test]
fn a_passed_descriptor_gives_the_senders_view_and_no_more() {
    let Some(bench) = Bench::new("pass") else { return };
    // One in a mere chroot and one outside: the taker gets further, and makes a device.
    let prison = bench.path("prison");
    std::fs::create_dir(&prison).unwrap();
    std::fs::copy(program("pass"), prison.join("pass")).unwrap();
    let mut giver = Command::new("chroot").arg(&prison).args(["/pass", "give", "/socket"]).spawn().unwrap();
    crate::rig::until("somebody gives", || prison.join("socket").exists());
    let taker = Command::new(program("pass")).arg("take").arg(prison.join("socket")).output();
    giver.kill().unwrap();
    giver.wait().unwrap();
    let taker = crate::rig::Report::of_host(&taker.unwrap());
    taker.expect(&["connect", "take", "node"], "OK");
    taker.expect(&["climb"], "further");
    taker.expect(&["flags"], "SUID DEV");
    let giver = bench.attack("a", "pass", &["give", "/alloc/socket"]).user("root").ready();
    let taker = bench.attack("b", "pass", &["take", "/alloc/socket"]).mighty();
    let taker =
        taker.change(|request| request.directories.shared = HostPath::new(bench.path("a/alloc")).unwrap());
    let report = taker.run();
    report.expect(&["connect", "take"], "OK");
    report.expect(&["climb"], "top");
    report.expect(&["flags"], "nosuid nodev");
    report.expect(&["node"], "EPERM");
    giver.kill();
    bench.finish();
}
