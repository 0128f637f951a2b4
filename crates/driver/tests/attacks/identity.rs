//! Who a task is: users, groups, capabilities, namespaces, signals and limits, in its first process and in an exec.

use crate::rig::{Attack, Bench, Live, Report, all, in_the_machine, program, shim, skipped, until};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::options::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

const DEFAULT: u64 = 0xa804_05fb;
const ROOT: u64 = 0x3f_ffff_ffff;

/// What this machine gives to anybody: the bounding set of the test itself.
pub(crate) fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn sets(report: &Report) -> [u64; 5] {
    ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"]
        .map(|name| u64::from_str_radix(report.get(name), 16).unwrap())
}

/// What must be the same in a task's first process and in one that enters later.
const SHARED: [&str; 22] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "SigBlk",
    "SigIgn",
    "signals",
    "Umask",
    "oom",
    "cgroup",
    "hostname",
    "ns.mnt",
    "ns.pid",
    "ns.ipc",
    "ns.net",
    "limit.nofile",
];

fn first_and_exec(attack: Attack<'_>) -> (Report, Report) {
    let live = attack.ready();
    let exec = live.exec(&["/state", "look"]).unwrap();
    (live.kill(), exec)
}

/// Covers: CVE-2022-29162, CVE-2019-12618, CVE-2022-31214, T54, T55, T56, T57, T58, T74, T77, T85, T91
#[test]
fn all_five_capability_sets_in_start_and_exec() {
    let Some(bench) = Bench::new("caps") else { return };
    let none: &[&str] = &[];
    let (net_raw, bind, chown) = (1 << 13, 1 << 10, 1u64);
    let everybody = |set: u64| [set; 5];
    let root = |set: u64| [set & held(), set & held(), set & held(), 0, 0];
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str, bool, [u64; 5]);
    let rows: &[Row<'_>] = &[
        ("", none, none, "", false, everybody(DEFAULT)),
        ("", none, &["all"], "", false, everybody(0)),
        ("", &["net_bind_service"], &["all"], "", false, everybody(bind)),
        ("", none, none, "asked", false, [DEFAULT, 0, 0, 0, 0]),
        ("", &["net_raw"], none, "asked", false, [DEFAULT | net_raw, net_raw, net_raw, net_raw, net_raw]),
        ("", &["all"], none, "", false, everybody(held())),
        ("", none, none, "", true, everybody(DEFAULT)),
        ("root", none, none, "", false, root(ROOT)),
        ("root", none, &["all"], "", false, root(0)),
        ("root", &["chown"], &["all"], "", false, root(chown)),
        ("root", &["all"], none, "", false, root(u64::MAX)),
        ("root", none, none, "", true, root(ROOT)),
    ];
    for (number, (user, add, drop, ambient, sealed, expected)) in rows.iter().enumerate() {
        let id = format!("t{number}");
        let mut attack =
            bench.attack(&id, "state", &["stay"]).user(user).operator("allow_caps", all(&["all"]));
        attack =
            attack.option("cap_add", all(add)).option("cap_drop", all(drop)).option("no_new_privs", *sealed);
        if !ambient.is_empty() {
            attack = attack.option("ambient", *ambient);
        }
        let (first, exec) = first_and_exec(attack);
        for (which, report) in [("first", &first), ("exec", &exec)] {
            assert_eq!(sets(report), *expected, "row {number}, {which}");
            report.expect(&["NoNewPrivs"], if *sealed { "1" } else { "0" });
            report.expect(&["Seccomp"], "2");
            let raw = expected[2] & net_raw != 0 && add.iter().any(|name| ["all", "net_raw"].contains(name));
            // Root's fixed set has NET_RAW: raw sockets are the kernel's to allow, packet sockets the filter's.
            report.expect(&["socket.packet"], if raw { "OK" } else { "EPERM" });
            report.expect(&["socket.raw"], if expected[2] & net_raw != 0 { "OK" } else { "EPERM" });
            report.expect(&["bind.80"], if expected[2] & bind != 0 { "OK" } else { "EACCES" });
        }
        for name in SHARED {
            assert_eq!(first.get(name), exec.get(name), "row {number}: {name}");
        }
    }
    for (option, name) in [("cap_add", "no_such"), ("cap_drop", "cap_"), ("cap_add", "all,all")] {
        let text = bench.attack("x", "state", &[]).option(option, all(&[name])).refused();
        assert!(
            text.contains("not supported by system") && text.contains(name.trim_start_matches("cap_")),
            "{text}"
        );
    }
    bench.finish();
}

/// Covers: T47, T60, T61, T63, T66, T67, T69, T95, T102, CVE-2020-5291
#[test]
fn a_process_of_a_task_starts_from_a_clean_state() {
    let Some(bench) = Bench::new("clean") else { return };
    // A launcher that ignores a signal (as every Rust program does), sits on one processor, and has a group.
    let launched = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let mut one = rustix::thread::CpuSet::new();
                one.set(0);
                rustix::thread::sched_setaffinity(None, &one).unwrap();
                rustix::thread::set_thread_groups(&[rustix::process::Gid::from_raw(4321)]).unwrap();
                let live = bench.attack("a", "state", &["stay"]).ready();
                let exec = live.exec(&["/state", "look"]).unwrap();
                (live, exec)
            })
            .join()
            .unwrap()
    });
    let (live, exec) = launched;
    let other = bench
        .attack("b", "state", &["look"])
        .operator("allow_unconfined", true)
        .option("seccomp", "unconfined")
        .run();
    let third = bench
        .attack("c", "state", &["look"])
        .operator("allow_unconfined", true)
        .option("seccomp", "unconfined")
        .run();
    assert!(other.get("keyring").parse::<i64>().unwrap() > 0, "{}", other.text);
    assert_ne!(other.get("keyring"), third.get("keyring"), "each has a ring of its own");
    let first = live.kill();
    first.expect(&["pid"], "1");
    first.expect(&["pdeathsig"], "9");
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    for report in [&first, &exec] {
        report.expect(&["ppid", "oom", "securebits", "policy"], "0");
        report.expect(&["SigBlk", "SigIgn", "ShdPnd"], "0000000000000000");
        report.expect(&["signals"], "");
        report.expect(&["sid", "pgid"], "own");
        report.expect(&["Umask"], "0022");
        report.expect(&["Groups"], "65534");
        report.expect(&["keyring"], "-1");
        if online.trim() != "0" {
            assert_ne!(report.get("Cpus_allowed_list"), "0", "the launcher's processors were inherited");
        }
    }
    let streams = bench.attack("d", "fds", &["look"]).run();
    for stream in ["kind.1", "kind.2"] {
        assert!(streams.get(stream).ends_with(" 65534"), "{}", streams.get(stream));
    }
    streams.expect(&["reopen"], "OK");
    streams.expect(&["argv0"], "/fds");
    let null = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((null.uid(), null.mode() & 0o777), (0, 0o666));
    assert!(bench.task("e", "", &[]).refused().contains("command"));
    let live = bench.attack("f", "fds", &["stay"]).ready();
    for nothing in [&[][..], &[""]] {
        let refused = live.exec(nothing).map(|report| report.text).unwrap_err().to_string();
        assert!(refused.contains("command"), "{nothing:?}: {refused}");
    }
    live.exec(&["/fds", "look"]).unwrap().expect(&["argv0"], "/fds");
    live.kill().expect(&["argv0"], "/fds");
    bench.finish();
}

/// Covers: CVE-2022-2989, T59, T62
#[test]
fn groups_are_those_of_the_hosts_database_and_nobody_elses() {
    let Some(bench) = Bench::new("groups") else { return };
    let denied = bench.path("a/alloc/denied");
    std::fs::create_dir_all(bench.path("a/alloc")).unwrap();
    for (name, mode) in [("denied", 0o604), ("allowed", 0o644)] {
        let path = bench.path("a/alloc").join(name);
        std::fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(65534)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(denied.exists());
    let look = ["stay", "/alloc/denied", "/alloc/allowed"];
    let live = bench.attack("a", "state", &look).option("cap_drop", all(&["all"])).ready();
    let exec = live.exec(&["/state", "look", "/alloc/denied", "/alloc/allowed"]).unwrap();
    for report in [live.kill(), exec] {
        report.expect(&["read./alloc/denied"], "EACCES");
        report.expect(&["read./alloc/allowed"], "OK");
        report.expect(&["Groups"], "65534");
    }
    let text = std::fs::read_to_string("/etc/group").unwrap();
    let member = text.lines().find_map(|line| line.split(':').nth(3).filter(|members| !members.is_empty()));
    match member.and_then(|members| members.split(',').next()) {
        None => skipped(
            "groups_are_those_of_the_hosts_database_and_nobody_elses",
            "no user here has more than one group",
        ),
        Some(user) => {
            let ids = Command::new("id").args(["-G", user]).output().unwrap();
            let mut ids: Vec<u32> = String::from_utf8(ids.stdout)
                .unwrap()
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            ids.sort_unstable();
            let (first, exec) = first_and_exec(bench.attack("b", "state", &["stay"]).user(user));
            for report in [first, exec] {
                let mut seen: Vec<u32> =
                    report.get("Groups").split_whitespace().map(|id| id.parse().unwrap()).collect();
                seen.sort_unstable();
                assert_eq!(seen, ids, "{user}");
                report.expect(&["user"], user);
            }
            let uid = Command::new("id").args(["-u", user]).output().unwrap();
            let uid = String::from_utf8(uid.stdout).unwrap().trim().to_owned();
            let text = bench
                .attack("c", "state", &[])
                .user(user)
                .operator("denied_host_uids", format!("1-2,{uid}"))
                .refused();
            assert!(text.contains(&uid), "{text}");
            let last = ids.last().unwrap().to_string();
            let text = bench
                .attack("c", "state", &[])
                .user(user)
                .operator("denied_host_gids", last.as_str())
                .refused();
            assert!(text.contains(&last), "{text}");
        }
    }
    bench.finish();
}

/// Covers: CVE-2016-3697
#[test]
fn no_misread_user_ends_as_root() {
    let Some(bench) = Bench::new("users") else { return };
    let long = "9".repeat(10_240);
    let odd = [
        "+0",
        "-0",
        "-1",
        "00",
        "000",
        "0x0",
        " 0",
        "0 ",
        "\t0",
        "0\n",
        "1:0",
        ":",
        "1000:",
        ":0",
        "0:0",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "2147483648",
        "nobody\n",
        "root\0x",
        "root ",
        " root",
        "Root",
        "root:root",
        "\u{0660}",
        "\u{ff10}",
        "0e0",
        "0.0",
        "root\u{0}",
        "../root",
        "#0",
        "%0",
        long.as_str(),
    ];
    for user in odd {
        for root in [false, true] {
            let attack = bench.attack("a", "state", &[]).change(|request| request.user = user.into());
            match attack.operator("allow_root", root).rehearse() {
                Ok(task) => assert_ne!(task.sandbox.process.identity.uid, 0, "{user:?}"),
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
    }
    for (user, allowed) in [("root", true), ("0", true), ("root", false), ("0", false)] {
        let attack = bench.attack("a", "state", &[]).change(|request| request.user = user.into());
        let resolved = attack.operator("allow_root", allowed).rehearse();
        assert_eq!(resolved.is_ok_and(|task| task.sandbox.process.identity.uid == 0), allowed, "{user}");
    }
    bench.finish();
}

/// Covers: CVE-2025-23266, CVE-2020-5291
#[test]
fn a_jobs_environment_reaches_nobody_but_the_task() {
    let Some(bench) = Bench::new("environ") else { return };
    let names = ["LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "GIT_SSH_COMMAND", "ENV", "CANARY_NAME"];
    let mut attack = bench.attack("a", "fds", &["stay"]);
    for name in names {
        attack = attack.env(name, "/CANARY.so");
    }
    let live = attack.ready();
    let environ = std::fs::read(format!("/proc/{}/environ", live.shim_pid())).unwrap();
    assert_eq!(environ, b"", "the shim has an environment");
    let report = live.kill();
    assert_eq!(report.count("environ.canary"), names.len() as u64, "the task has it");
    assert_eq!(std::fs::metadata(shim()).unwrap().mode() & 0o7000, 0, "the shim is set-user-id");
    bench.finish();
}

/// Covers: CVE-2021-3283, T45, T48, T51
#[test]
fn each_namespace_is_the_tasks_own_or_the_hosts_as_asked() {
    let Some(bench) = Bench::new("spaces") else { return };
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned()
    };
    // Both at once: a namespace's number is free again after its end.
    let default = bench.attack("default", "state", &["stay"]).ready();
    let sibling = bench.attack("sibling", "state", &["look"]).run();
    let default = default.kill();
    for name in ["pid", "ipc", "mnt", "uts", "net"] {
        assert_ne!(default.get(&format!("ns.{name}")), own(name), "{name} is the host's by default");
        assert_ne!(
            default.get(&format!("ns.{name}")),
            sibling.get(&format!("ns.{name}")),
            "{name} is shared"
        );
    }
    for name in ["user", "cgroup"] {
        assert_eq!(default.get(&format!("ns.{name}")), own(name), "{name}");
    }
    for (pid, ipc) in [("private", "private"), ("private", "host"), ("host", "private"), ("host", "host")] {
        let id = format!("{pid}-{ipc}");
        let report = bench.attack(&id, "state", &[]).option("pid_mode", pid).option("ipc_mode", ipc).run();
        assert_eq!(report.get("ns.pid") == own("pid"), pid == "host", "{id}");
        assert_eq!(report.get("ns.ipc") == own("ipc"), ipc == "host", "{id}");
        assert_ne!(report.get("ns.mnt"), own("mnt"));
    }
    let private = bench.attack("private", "state", &[]).option("cgroup_mode", "private").run();
    assert_ne!(private.get("ns.cgroup"), own("cgroup"));
    let shows_top =
        |line: &str| line.split(' ').filter(|entry| !entry.is_empty()).all(|entry| entry.ends_with(":/"));
    assert!(shows_top(private.get("cgroup")) && !shows_top(default.get("cgroup")), "{}", private.text);
    for (length, works) in [(64, true), (65, false)] {
        let name = "h".repeat(length);
        match bench.attack("name", "state", &[]).option("hostname", name.as_str()).start() {
            Ok(live) => live.end().expect(&["hostname"], &name),
            Err(error) => assert!(!works && error.to_string().contains("64"), "{error}"),
        }
    }
    bench.finish();
}

/// Ends a process of the test however the test ends.
struct Bystander(std::process::Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Covers: 1e-pid-reuse
#[test]
fn a_state_file_that_names_a_foreign_process_gets_nobody_signalled() {
    use bivouac_driver::signals::Signal;
    let Some(bench) = Bench::new("reuse") else { return };
    let live = bench.attack("a", "fds", &["stay"]).ready();
    let id = live.id().to_owned();
    let shim = rustix::process::Pid::from_raw(live.shim_pid()).unwrap();
    let first = live.started.pid;
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    until("the task ends with its shim", || {
        let stat = std::fs::read_to_string(format!("/proc/{first}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z ")) || !Path::new(&format!("/proc/{first}")).exists()
    });
    let mut bystander = Bystander::new();
    let status = bench.path("run/tasks/alloc%2fa/status.json");
    let text = std::fs::read_to_string(&status).unwrap();
    // The numbers were given to somebody else meanwhile; the start times are of the dead.
    let pid = bystander.0.id().to_string();
    let forged = text.replace(&format!("\"pid\":{first}"), &format!("\"pid\":{pid}"));
    let forged = forged.replace(&format!("\"pid\":{}", shim.as_raw_nonzero()), &format!("\"pid\":{pid}"));
    assert_ne!(forged, text);
    std::fs::write(&status, forged).unwrap();
    assert!(bench.engine.signal(&id, Signal::INT).is_err());
    assert!(bench.engine.stop(&id, Signal::INT, std::time::Duration::ZERO).unwrap().is_none());
    bench.engine.gc().unwrap();
    bench.engine.destroy(&id, Leftovers::Kill).unwrap();
    assert!(bystander.lives(), "a foreign process was ended");
    drop(live);
    bench.finish();
}

/// Covers: CVE-2025-5054
#[test]
fn without_cores_no_core_is_left_and_no_handler_of_the_host_runs() {
    let Some(bench) = Bench::new("cores") else { return };
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let unlimited = || Value::map([("core", Value::from("unlimited"))]);
    let cores = |id: &str| -> usize {
        let entries =
            ["task", "task/local"].map(|below| std::fs::read_dir(bench.path(id).join(below)).unwrap());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("core"))
            .count()
    };
    if in_the_machine() {
        // A handler of the host's own: only this machine is ours to set it.
        let (marker, handler) = (bench.path("handler-ran"), bench.path("handler"));
        std::fs::write(&handler, format!("#!/bin/sh\ncat >/dev/null\necho $1 >>{}\n", marker.display()))
            .unwrap();
        std::fs::set_permissions(&handler, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write("/proc/sys/kernel/core_pattern", format!("|{} %p", handler.display())).unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bench.attack("off", "state", &["crash"]).option("core", "off").run();
            assert!(!marker.exists(), "the handler ran for a task without cores");
            bench.attack("on", "state", &["crash"]).option("ulimit", unlimited()).run();
            until("the handler runs for one with cores", || marker.exists());
        }));
        std::fs::write("/proc/sys/kernel/core_pattern", pattern).unwrap();
        ran.unwrap();
    } else if pattern.starts_with(['|', '/']) {
        skipped(
            "without_cores_no_core_is_left_and_no_handler_of_the_host_runs",
            "cores go elsewhere on this host",
        );
        return;
    } else {
        bench.attack("off", "state", &["crash"]).option("core", "off").run();
        assert_eq!(cores("off"), 0);
        let report = bench.attack("on", "state", &["crash"]).option("ulimit", unlimited()).run();
        assert_eq!(cores("on"), 1, "with cores allowed one is left, so the check can fail: {report:?}");
    }
    bench.attack("limit", "state", &[]).option("core", "off").run().expect(&["limit.core"], "1:1");
    let both =
        bench.attack("both", "state", &[]).option("core", "off").option("ulimit", unlimited()).refused();
    assert!(both.contains("contradicts"), "{both}");
    bench.finish();
}

/// Covers: T64, T65
#[test]
fn limits_are_set_for_start_and_exec_or_refused_by_name() {
    let Some(bench) = Bench::new("limits") else { return };
    let ulimit = |name: &str, value: &str| Value::map([(name.to_owned(), Value::from(value))]);
    let look = |live: Live<'_>| {
        let exec = live.exec(&["/state", "look"]).unwrap();
        [live.kill(), exec]
    };
    for (value, expected) in [("100:200", "100:200"), ("64", "64:64")] {
        for report in
            look(bench.attack("a", "state", &["stay"]).option("ulimit", ulimit("nofile", value)).ready())
        {
            report.expect(&["limit.nofile"], expected);
        }
    }
    for (name, value, word) in [
        ("nofile", "200:100", "200"),
        ("nofile", "1048577", "max_ulimit"),
        ("no_such", "1", "no_such"),
        ("nofile", "-1", "nofile"),
        ("nproc", "100", "pids_limit"),
        ("nofile", "1:2:3", "nofile"),
    ] {
        let text = bench.attack("a", "state", &[]).option("ulimit", ulimit(name, value)).refused();
        assert!(text.contains(word), "{name} {value}: {text}");
    }
    assert!(program("state").exists());
    bench.finish();
}
