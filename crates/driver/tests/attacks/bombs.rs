//! Bombs: a task that takes all it can gets no more than its limits, and nobody else feels it.

use crate::rig::{Bench, PATIENCE, Report, all, groups, until};
use bivouac_driver::identity::PseudoUsers;
use bivouac_driver::options::Value;
use bivouac_driver::request::TaskRequest;
use bivouac_driver::signals::Signal;
use std::time::{Duration, Instant};

/// A task beside the bomb that does what ordinary tasks do.
fn sibling_works(bench: &Bench, id: &str) {
    let report = bench.attack(id, "trees", &["mark"]).ready().kill();
    report.expect(&["mark.tmp", "mark.shm", "mark.ptmx", "mark.mqueue"], "OK");
}

fn tmpfs(target: &str, size: &str) -> Value {
    let options = [("type", "tmpfs"), ("target", target), ("size", size)];
    Value::List(vec![Value::map(options.map(|(name, value)| (name, Value::from(value))))])
}

/// Covers: 2-bomb-fork, 2-bomb-zombies
#[test]
fn forks_threads_and_zombies_end_at_the_pids_limit() {
    let Some(bench) = Bench::new("forks") else { return };
    for kind in ["fork", "zombie", "thread"] {
        let live = bench.attack(kind, "bomb", &[kind, "stay"]).option("pids_limit", 50).ready();
        sibling_works(&bench, "sibling");
        let report = live.kill();
        report.expect(&["bomb"], "EAGAIN");
        assert!((40..50).contains(&report.count("count")), "{kind}: {}", report.text);
        assert_eq!(groups(&bench.group(kind)), Vec::<String>::new());
    }
    bench.finish();
}

/// Covers: 2-bomb-fork, T105, T107
#[test]
fn a_fork_bomb_at_its_limit_is_stopped_at_once() {
    let Some(bench) = Bench::new("bomb") else { return };
    let live = bench.attack("a", "bomb", &["forever"]).option("pids_limit", 200).ready();
    let id = live.id().to_owned();
    let group = bench.group("a");
    until("the bomb is at its limit", || {
        bench.engine.stats(&id).is_ok_and(|stats| stats.group.pids == Some(200))
    });
    sibling_works(&bench, "sibling");
    let stopped = Instant::now();
    bench.engine.stop(&id, Signal::TERM, Duration::ZERO).unwrap();
    let took = stopped.elapsed();
    // How fast is the benchmark's matter; a kill that races with the forks for ever would not come back.
    assert!(took < PATIENCE, "the kill took {took:?}");
    live.kill();
    assert_eq!(groups(&group), Vec::<String>::new());
    bench.finish();
}

/// Covers: 2-bomb-memory, T111
#[test]
fn memory_of_every_kind_is_charged_to_the_task() {
    let Some(bench) = Bench::new("memory") else { return };
    for kind in ["anonymous", "shm", "tmpfs", "memfd", "mlock", "pipe"] {
        let attack = bench.attack(kind, "bomb", &["memory", kind, "300"]).option("shm_size", "1g");
        let attack = attack.option("mount", tmpfs("/memory", "1g")).option("oom_score_adj", 100);
        let live = attack.change(|request| request.resources.memory_mib = Some(48)).start();
        let live = live.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let id = live.id().to_owned();
        until("the bomb has gone off", || {
            bench.engine.inspect(&id).is_ok_and(|status| status.exit.is_some())
        });
        let exit = bench.engine.inspect(&id).unwrap().exit.unwrap();
        let report = live.end();
        if exit.oom_kills == 0 {
            // Refused inside before the limit was reached.
            assert_ne!(report.get("bomb"), "OK", "{kind}: {}", report.text);
            assert!(report.count("count") <= 64, "{kind}: {}", report.text);
            assert!(["mlock", "pipe"].contains(&kind), "{kind}: {}", report.text);
        } else {
            assert_eq!((report.status, exit.oom_kills), (137, 1), "{kind}: {}", report.text);
        }
    }
    // With room enough the same program has what it asks for: the check can fail.
    let report = bench.attack("room", "bomb", &["memory", "anonymous", "30"]).run();
    report.expect(&["bomb"], "OK");
    // A size is kept, whatever memory there is.
    let report = bench
        .attack("size", "bomb", &["memory", "tmpfs", "20"])
        .option("mount", tmpfs("/memory", "8m"))
        .run();
    report.expect(&["bomb"], "ENOSPC");
    assert_eq!(report.count("count"), 8);
    let report = bench.attack("shm", "bomb", &["memory", "shm", "20"]).option("shm_size", "4m").run();
    report.expect(&["bomb"], "ENOSPC");
    bench.finish();
}

/// A user of its own, and memory enough.
fn roomy(request: &mut TaskRequest, user: &str) {
    request.user = user.into();
    request.pseudo_users = PseudoUsers::Accepted;
    request.resources.memory_mib = Some(512);
}

/// Covers: 2-bomb-fds, 1d-one-nobody
#[test]
fn whoever_takes_all_of_a_kernel_resource_takes_only_their_own() {
    let Some(bench) = Bench::new("things") else { return };
    for kind in ["fd", "pty", "inotify", "epoll", "mq", "sysv", "timer", "sigqueue"] {
        // As two users, because some limits of the kernel are counted by user.
        let live =
            bench.attack(kind, "bomb", &[kind, "stay"]).change(|request| roomy(request, "nomad-80001"));
        let live = live.ready();
        let shim = live.shim_pid();
        let open = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
        assert!(open < 40, "{kind}: the shim has {open} descriptors");
        sibling_works(&bench, "sibling");
        let other =
            bench.attack("other", "bomb", &[kind, "stay"]).change(|request| roomy(request, "nomad-80002"));
        let other = other.ready().kill();
        let report = live.kill();
        let refused = ["EMFILE", "ENOSPC", "EAGAIN", "ENOMEM", "ENFILE", "EPERM"];
        assert!(refused.contains(&report.get("bomb")), "{kind}: {}", report.text);
        let (first, second) = (report.count("count"), other.count("count"));
        assert!(second > 0 && second >= first / 2, "{kind}: {first} for one, {second} for the other");
    }
    bench.finish();
}

/// Covers: 2-bomb-disk, 2-bomb-tree
#[test]
fn full_and_deep_trees_in_a_tasks_memory_go_with_the_task() {
    let Some(bench) = Bench::new("trees") else { return };
    let mounted = |id: &str, args: &[&str]| {
        bench
            .attack(id, "bomb", args)
            .option("mount", tmpfs("/memory", "16m"))
            .user("root")
            .operator("allow_caps", all(&["all"]))
            .option("cap_add", all(&["linux_immutable"]))
    };
    let disk = mounted("disk", &["disk", "/memory", "64"]).run();
    disk.expect(&["bomb"], "ENOSPC");
    assert_eq!(disk.count("count"), 16);
    let begun = Instant::now();
    let deep = mounted("deep", &["deep", "/memory", "4000"]).run();
    deep.expect(&["bomb"], "OK");
    let inodes = mounted("inodes", &["inodes", "/memory", "20000"]).run();
    assert!(inodes.count("count") > 1000, "{}", inodes.text);
    assert!(begun.elapsed() < PATIENCE * 2, "{:?}", begun.elapsed());
    bench.finish();
}

fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Covers: 2-bomb-log
#[test]
fn a_flood_of_output_blocks_the_task_and_costs_the_shim_nothing() {
    let Some(bench) = Bench::new("flood") else { return };
    let live = bench.attack("a", "bomb", &["log", "", "256"]).start().unwrap();
    let shim = live.shim_pid();
    let before = resident(shim);
    // Nobody reads: the task must stand still, asleep in its write.
    let wchan = || std::fs::read_to_string(format!("/proc/{}/stat", live.started.pid)).unwrap_or_default();
    until("the task waits for its reader", || wchan().contains(") S "));
    sibling_works(&bench, "sibling");
    assert!(resident(shim) <= before + 64, "{before} kB before, {} after", resident(shim));
    let text: Report = live.end();
    assert_eq!((text.status, text.text.len()), (0, 256 << 20), "every byte came");
    bench.finish();
}

/// Covers: 2-bomb-argv, T94
#[test]
fn too_long_arguments_are_refused_with_a_sentence() {
    let Some(bench) = Bench::new("argv") else { return };
    let report = bench.attack("inside", "bomb", &["args", "131073"]).run();
    report.expect(&["bomb"], "E2BIG");
    let long = "x".repeat(131_072);
    let piece = "y".repeat(100_000);
    let many = vec![piece.as_str(); 80];
    let fits = "x".repeat(131_000);
    bench.attack("fits", "fds", &["look", &fits]).run().expect(&["fds"], "0 1 2");
    for (id, attack) in [
        ("one", bench.attack("one", "fds", &["look", &long])),
        ("all", bench.attack("all", "fds", &many)),
        ("env", bench.attack("env", "fds", &[]).env("NAME", &long)),
    ] {
        let text = attack.refused();
        assert!(text.contains("the kernel takes") || text.contains("too long"), "{id}: {text:.300}");
        assert!(text.len() < 1000, "{id}: {} bytes of text", text.len());
    }
    bench.finish();
}
