//! Races: a sibling exchanges what a start is made of, from beginning to end, and what is written to procfs stays there.

use crate::rig::{Bench, Load, PATIENCE, nightly, race, tree, until};
use crate::roots::volume;
use bivouac_driver::options::Value;
use bivouac_sandbox::HostPath;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

/// How many starts a race has at night, however long they take; otherwise as many of them as there is time for.
const STARTS: u32 = 2000;

/// The turns of a race that is not over.
struct Race {
    begun: Instant,
    turns: u32,
    most: u32,
}

impl Race {
    /// One of `parts` races that share the starts and the time.
    fn part(parts: u32) -> Race {
        Race { begun: Instant::now(), turns: 0, most: STARTS / parts }
    }

    /// The next turn. On a slow machine until what must be seen was `met`.
    fn turn(&mut self, met: bool) -> Option<u32> {
        let over = !nightly() && self.begun.elapsed() >= race() * self.most / STARTS;
        if self.turns >= self.most || (over && (met || self.begun.elapsed() >= PATIENCE)) {
            return None;
        }
        self.turns += 1;
        Some(self.turns)
    }
}

/// Runs a script where nothing protects: as root in a mount namespace of its own, by paths.
fn unprotected(script: &str, args: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.args(args).output().unwrap()
}

/// What a write to procfs that is led astray would change: the host's own settings, and this process.
fn kernel() -> Vec<String> {
    let settings = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/panic",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/self/oom_score_adj",
    ];
    settings
        .iter()
        .map(|path| format!("{path} {}", std::fs::read_to_string(path).unwrap_or_default()))
        .collect()
}

/// A directory that two tasks share, in which one of them exchanges `there` and `link` without end.
struct Shared<'a> {
    bench: &'a Bench,
    alloc: std::path::PathBuf,
}

impl<'a> Shared<'a> {
    /// `there` has a directory of each of these names, and the link leads to `to`.
    fn new(bench: &'a Bench, names: &[&str], to: &str) -> Shared<'a> {
        let alloc = bench.path("a/alloc");
        // Both anew: the sibling before may have been ended between two exchanges.
        let _ = std::fs::remove_dir_all(&alloc);
        for name in names {
            std::fs::create_dir_all(alloc.join("there").join(name)).unwrap();
        }
        std::fs::set_permissions(&alloc, std::fs::Permissions::from_mode(0o777)).unwrap();
        symlink(to, alloc.join("link")).unwrap();
        Shared { bench, alloc }
    }

    fn flip(&self) -> crate::rig::Live<'a> {
        let sibling = self.bench.attack("sibling", "root", &["flip", "/alloc/there", "/alloc/link"]);
        let shared = HostPath::new(&self.alloc).unwrap();
        sibling.change(|request| request.directories.shared = shared).ready()
    }

    fn there(&self, below: &str) -> String {
        self.alloc.join("there").join(below).to_str().unwrap().to_owned()
    }
}

/// Starts a task with `data` at `target` in what is exchanged. When it runs, the mount is below one of `tops` and
/// nowhere else, and what was written to procfs has arrived.
fn start_with(bench: &Bench, data: &Path, target: &str, tops: &[&str]) -> bool {
    let attack = bench.attack("a", "root", &["mounts"]).option("oom_score_adj", 321);
    let attack = attack.change(|request| request.mounts = vec![volume(data, target)]);
    let live = match attack.start() {
        Ok(live) => live,
        Err(error) => {
            assert!(error.to_string().contains("/alloc"), "{error}");
            return false;
        }
    };
    let report = live.end();
    report.expect(&["oom"], "321");
    assert!(!report.text.contains("/victim"), "{}", report.text);
    // 36 35 98:0 /root-of-mount /mount-point options ...
    let of_data = |line: &&str| line.split(' ').nth(3).is_some_and(|root| root.ends_with("/data"));
    let points: Vec<_> =
        report.text.lines().filter(of_data).filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(
        points.len() == 1 && points.iter().all(|point| tops.iter().any(|top| point.starts_with(top))),
        "{}",
        report.text
    );
    true
}

/// Covers: CVE-2021-30465, CVE-2024-45310, 4-races
#[test]
fn a_sibling_that_swaps_a_mount_target_gains_nothing() {
    let Some(bench) = Bench::new("target") else { return };
    let _load = Load::at_night();
    let (victim, data) = (bench.victim("victim"), bench.victim("data"));
    std::fs::create_dir(victim.path.join("in")).unwrap();
    let host = victim.path.to_str().unwrap();
    let links = [
        host.to_owned(),
        "../".repeat(12) + host.trim_start_matches('/'),
        // Of a process that may be looked at: the first one of a machine need not be.
        format!("/proc/{}/root{host}", std::process::id()),
    ];
    for to in &links {
        let shared = Shared::new(&bench, &["in"], to);
        let sibling = shared.flip();
        // Whoever goes by the path is led to the host: the mount lies there, and so does what was missing.
        let there = shared.there("in");
        until("a mount by path lies in the host's directory", || {
            let script = "mount --bind \"$1\" \"$2\" && cat /proc/self/mountinfo";
            let output = unprotected(script, &[data.path.to_str().unwrap(), &there]);
            String::from_utf8_lossy(&output.stdout).contains(&format!(" {host}/in "))
        });
        until("a directory made by path lies in the host's", || {
            let _ = unprotected("mkdir -p \"$1\"", &[&shared.there("new/deeper")]);
            victim.path.join("new/deeper").exists()
        });
        std::fs::remove_dir_all(victim.path.join("new")).unwrap();
        let victim_now = tree(&victim.path);

        let (mut starts, mut refused) = (0, 0);
        let mut race = Race::part(3);
        while let Some(turn) = race.turn(starts > 0) {
            // One target that is there, and one that must be made.
            let target = if turn % 2 == 0 { "/alloc/there/in" } else { "/alloc/there/new/deeper" };
            if start_with(&bench, &data.path, target, &["/alloc/"]) {
                starts += 1
            } else {
                refused += 1
            }
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(host) && !mounts.contains(data.path.to_str().unwrap()), "{mounts}");
        }
        assert!(starts > 0, "{starts} starts, {refused} refused");
        sibling.kill();
        assert_eq!(tree(&victim.path), victim_now, "{to}: the host was changed");
        data.unharmed();
    }
    bench.finish();
}

/// Covers: CVE-2025-52881, 4-races
#[test]
fn a_sibling_that_swaps_what_is_mounted_leads_no_write_to_procfs_astray() {
    let Some(bench) = Bench::new("astray") else { return };
    let _load = Load::at_night();
    let before = kernel();
    // A volume with a file called as the one of procfs that a start writes to.
    let data = bench.path("data");
    let bait = data.join("oom_score_adj");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&bait, "bait").unwrap();
    for to in ["/proc", "/proc/self/root/proc"] {
        let shared = Shared::new(&bench, &["self", "thread-self"], to);
        let sibling = shared.flip();
        // Whoever mounts and writes by path finds the volume in procfs, and its own write in the volume.
        until("a write by path ends in the volume", || {
            let script =
                "mkdir -p \"$2/$$\"; mount --bind \"$1\" \"$2/$$\" && echo 321 >/proc/self/oom_score_adj";
            let _ = unprotected(script, &[data.to_str().unwrap(), &shared.there("")]);
            std::fs::read_to_string(&bait).unwrap() == "321\n"
        });
        std::fs::write(&bait, "bait").unwrap();
        let (mut starts, mut refused) = (0, 0);
        // Led to /proc, the volume lies in what the task's own proc covers: what can be read there is proc's.
        let mut race = Race::part(2);
        while let Some(turn) = race.turn(starts > 0) {
            let target = if turn % 2 == 0 { "/alloc/there/self" } else { "/alloc/there/thread-self" };
            if start_with(&bench, &data, target, &["/alloc/", "/proc/"]) {
                starts += 1
            } else {
                refused += 1
            }
            assert_eq!(std::fs::read_to_string(&bait).unwrap(), "bait", "{to}: the write went astray");
        }
        assert!(starts > 0, "{starts} starts, {refused} refused");
        sibling.kill();
    }
    assert_eq!(before, kernel(), "a write to procfs went elsewhere");
    bench.finish();
}

/// What a start and an exec write to procfs, as told by whoever traces them: the score alone, to the file that it
/// belongs in, on a proc.
///
/// Covers: CVE-2025-52881
#[test]
fn a_start_and_an_exec_write_one_file_of_procfs_each() {
    const TRACED: &str = "BIVOUAC_TEST_TRACED";
    let Some(bench) = Bench::new("traced") else { return };
    if std::env::var_os(TRACED).is_some() {
        let live = bench.attack("a", "root", &["stay"]).option("oom_score_adj", 321).ready();
        live.exec(&["/root", "mounts"]).unwrap().expect(&["oom"], "321");
        live.kill();
        return bench.finish();
    }
    let told = bench.path("told");
    let traced = |program: &Path, args: &[&str]| {
        let output = Command::new(crate::rig::program("trace"))
            .arg("writes")
            .arg(&told)
            .arg(program)
            .args(args)
            .env(TRACED, "1")
            .output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}{}", String::from_utf8_lossy(&output.stdout));
        std::fs::read_to_string(&told).unwrap()
    };
    let test = "races::a_start_and_an_exec_write_one_file_of_procfs_each";
    let own = traced(&std::env::current_exe().unwrap(), &["--exact", test]);
    let lines: Vec<_> = own.lines().collect();
    assert_eq!(lines.len(), 2, "{own}");
    for line in lines {
        let path = line.strip_prefix("proc = ").and_then(|rest| rest.strip_suffix("/oom_score_adj 321"));
        let process = path.and_then(|path| path.rsplit('/').next());
        assert!(process.is_some_and(|process| process.parse::<u32>().is_ok()), "{own}");
    }

    // Writes by path, to the right file, to another one by a link, and to one that is none of proc's.
    let fake = bench.path("fake");
    std::fs::create_dir_all(fake.join("self")).unwrap();
    std::fs::write(fake.join("self/oom_score_adj"), "").unwrap();
    let comm = bench.path("comm");
    symlink("/proc/self/comm", &comm).unwrap();
    let script = "echo 3 >/proc/self/oom_score_adj; echo x >$1; mount --bind $2 /proc; echo 4 >/proc/self/oom_score_adj";
    let arguments = ["--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let paths = [comm.to_str().unwrap(), fake.to_str().unwrap()];
    let careless = traced(Path::new("/usr/bin/unshare"), &[&arguments[..], &paths[..]].concat());
    let kinds: Vec<_> = careless.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kinds, ["proc", "proc", "stray"], "{careless}");
    assert!(careless.contains("/oom_score_adj 3") && careless.contains("/comm x"), "{careless}");
    bench.finish();
}

/// Covers: CVE-2021-30465, T21
#[test]
fn a_task_that_swaps_a_source_below_an_allowed_path_does_not_get_the_host() {
    let Some(bench) = Bench::new("source") else { return };
    let _load = Load::at_night();
    let victim = bench.victim("victim");
    let shared = bench.path("shared");
    for name in ["", "sub", "sub/dir"] {
        std::fs::create_dir_all(shared.join(name)).unwrap();
        std::fs::set_permissions(shared.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::fs::create_dir(victim.path.join("dir")).unwrap();
    std::fs::write(victim.path.join("dir/secret"), "CANARY").unwrap();
    let before = tree(&victim.path);
    symlink(&victim.path, shared.join("link")).unwrap();
    let flip = ["flip", "/shared/sub", "/shared/link"];
    let sibling = bench.attack("sibling", "root", &flip).bind(&shared, "/shared").ready();
    let source = shared.join("sub/dir");
    until("a mount by path shows the host's secret", || {
        let script = "mount --bind \"$1\" /mnt && cat /mnt/secret";
        unprotected(script, &[source.to_str().unwrap()]).stdout == b"CANARY"
    });
    let (mut starts, mut refused) = (0, 0);
    let mut race = Race::part(1);
    while race.turn(starts > 0 && refused > 0).is_some() {
        let mount = [("source", Value::from(source.to_str().unwrap())), ("target", Value::from("/volume"))];
        let attack = bench.attack("a", "root", &["read", "/volume/secret"]);
        let attack = attack.operator("allow_mount_paths", Value::texts([shared.to_str().unwrap()]));
        match attack.option("mount", Value::List(vec![Value::map(mount)])).start() {
            Ok(live) => {
                let report = live.end();
                report.expect(&["read./volume/secret"], "ENOENT");
                starts += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(starts > 0 && refused > 0, "no race: {starts} starts, {refused} refused");
    sibling.kill();
    assert_eq!(tree(&victim.path), before);
    bench.finish();
}
