//! Control groups: a task stays in its own, whatever it is and however it is asked to leave.

use crate::rig::{Bench, Live, PATIENCE, groups, in_the_machine, nightly, program, race, skipped, until};
use bivouac_cgroup::{Bytes, GroupName, GroupPath, MemoryStats, Placement, Stats};
use bivouac_driver::engine::{EngineError, Leftovers};
use bivouac_driver::options::Value;
use bivouac_driver::signals::Signal;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The capability that raises a limit of one's own.
const SYS_RESOURCE: u64 = 1 << 24;

/// The lines of `/proc/PID/cgroup`.
fn membership(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

/// The directory and file that freeze a group, and the words that freeze and thaw.
fn freezer(group: &str) -> (PathBuf, &'static str, &'static str, PathBuf) {
    let v1 = Path::new("/sys/fs/cgroup/freezer").join(group);
    if v1.exists() {
        return (v1.join("freezer.state"), "FROZEN", "THAWED", v1);
    }
    let v2 = Path::new("/sys/fs/cgroup").join(group);
    (v2.join("cgroup.freeze"), "1", "0", v2)
}

/// Covers: CVE-2022-0492, 2-cgroup-files, T40, T84, T86, T87
#[test]
fn a_task_stays_in_its_group_and_the_shim_outside() {
    let Some(bench) = Bench::new("groups") else { return };
    let live = bench.attack("a", "trees", &["stay"]).mighty().ready();
    let (task, shim) = (membership(live.started.pid), membership(live.shim_pid()));
    let own = groups(&bench.group("a"));
    assert_eq!(own.len(), 1, "{own:?}");
    let name = own.first().unwrap();
    assert!(task.contains(name) && !shim.contains(&format!("{name}\n")), "{task}{shim}");
    let exec = live.exec(&["/trees", "attack"]).unwrap();
    exec.expect(&["mounts.cgroup"], "0");
    exec.expect(&["cgroup.mount", "cgroup2.mount"], "EPERM");
    assert_ne!(exec.get("sys.mkdir"), "OK");
    let (file, ..) = freezer(name);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(file).unwrap().uid(), 0, "nothing was handed to the task's user");
    live.kill();
    let private = bench.attack("b", "trees", &["attack"]).mighty().option("cgroup_mode", "private").run();
    private.expect(&["mounts.cgroup"], "0");
    assert_ne!(private.get("sys.mkdir"), "OK");
    for bad in ["..", ".", "a/b", "/a", "", "a\nb", "../../x"] {
        assert!(GroupName::new(bad).is_err(), "{bad:?}");
    }
    bench.finish();
}

/// Covers: T49, T50, T107, X29, 2-bomb-zombies
#[test]
fn daemons_and_orphans_die_with_the_task_in_every_pid_mode() {
    let Some(bench) = Bench::new("daemons") else { return };
    for mode in ["private", "host"] {
        for first_gone in [false, true] {
            let id = format!("{mode}-{first_gone}");
            // Daemons in sessions of their own, with the output closed so that nobody waits for it.
            let leave = if first_gone { "exit 0" } else { "sleep 1000" };
            let script = format!(
                "for n in 1 2 3; do (setsid sleep 4711 >/dev/null 2>&1 &) ; done; echo 'ready = yes'; {leave}"
            );
            let live = bench.task(&id, "/bin/sh", &["-c", &script]).option("pid_mode", mode).ready();
            let group = bench.group(&id);
            let name = groups(&group).first().unwrap().clone();
            let members = move || -> usize {
                let (.., directory) = freezer(&name);
                let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                text.lines().count()
            };
            if first_gone {
                let id = live.id().to_owned();
                until("the first process has ended", || {
                    bench.engine.inspect(&id).is_ok_and(|status| status.exit.is_some())
                });
            } else {
                assert!(members() >= 4, "{id}: {}", members());
            }
            let id = live.id().to_owned();
            let stopped = Instant::now();
            bench.engine.stop(&id, Signal::TERM, Duration::from_millis(100)).unwrap();
            bench.engine.destroy(&id, Leftovers::Kill).unwrap();
            assert!(stopped.elapsed() < PATIENCE / 2, "{:?}", stopped.elapsed());
            assert_eq!(members(), 0, "{id}");
            assert_eq!(groups(&group), Vec::<String>::new());
        }
    }
    bench.finish();
}

/// Covers: T82, T83, T88, T89, X19
#[test]
fn frozen_and_occupied_groups_are_ended_and_never_hang() {
    let Some(bench) = Bench::new("frozen") else { return };
    let live = bench.attack("a", "fds", &["stay"]).ready();
    let name = groups(&bench.group("a")).first().unwrap().clone();
    let (file, freeze, thaw, directory) = freezer(&name);
    std::fs::write(&file, freeze).unwrap();
    until("the group is frozen", || {
        let text = std::fs::read_to_string(directory.join("cgroup.events")).unwrap_or_default();
        text.contains("frozen 1")
            || std::fs::read_to_string(&file).is_ok_and(|state| state.trim() == "FROZEN")
    });
    let text = live.exec(&["/fds", "look"]).map(|report| report.text).unwrap_err().to_string();
    assert!(text.contains("paused") || text.contains("frozen"), "{text}");
    // The kill of a frozen task works, and takes the group away.
    live.kill();
    assert_eq!(groups(&bench.group("a")), Vec::<String>::new());
    let _ = thaw;

    // A group that the client named, with a stray process and a nested group in it, left frozen.
    let given = format!("{}-given", bench.group("b"));
    let place = |hierarchy: &Path| hierarchy.join(&given);
    let hierarchies: Vec<PathBuf> = crate::rig::controllers();
    for hierarchy in &hierarchies {
        std::fs::create_dir_all(place(hierarchy).join("nested")).unwrap();
    }
    let mut stray = Command::new("sleep").arg("1000").spawn().unwrap();
    let (file, freeze, _, directory) = freezer(&given);
    std::fs::write(directory.join("cgroup.procs"), stray.id().to_string()).unwrap();
    std::fs::write(&file, freeze).unwrap();
    let start = || {
        let attack = bench.attack("b", "fds", &["stay"]).change(|request| {
            request.placement =
                Placement::Ours { parent: GroupPath::ROOT, name: GroupName::new(given.clone()).unwrap() };
        });
        attack.start()
    };
    // Either the stray process is ended and the task starts, or the start is refused by name; never both in one group.
    let (mut tries, deadline) = (0, Instant::now() + PATIENCE);
    let live = loop {
        tries += 1;
        match start() {
            Ok(live) => break live,
            Err(error) => assert!(error.to_string().contains(&given), "{error}"),
        }
        assert!(Instant::now() < deadline && tries < 5, "it never starts");
    };
    until("the stray process is gone", || stray.try_wait().unwrap().is_some());
    live.kill();
    for hierarchy in &hierarchies {
        let _ = std::fs::remove_dir(place(hierarchy).join("nested"));
        let _ = std::fs::remove_dir(place(hierarchy));
    }
    bench.finish();
}

/// How many execs a hungry task is asked for at night; otherwise as many as there is time for.
const EXECS: u32 = 500;
/// How many of them are under way at a time.
const TOGETHER: u32 = 20;

/// A task whose processes are killed for lack of memory again and again, and which stops whatever enters it: the shim
/// is the same and answers. Version 2 ends the whole group at once (`memory.oom.group`), and the task with it.
///
/// Covers: 1a-shared-memory-oom
#[test]
fn the_shim_outlives_lack_of_memory_and_stopped_execs() {
    let Some(bench) = Bench::new("hungry") else { return };
    // Whoever enters has ten seconds for it and then its deadline, and whoever asked is told after a moment.
    let answered_within = Duration::from_secs(if in_the_machine() { 25 } else { 15 });
    let begun = Instant::now();
    let over = |asked: u32| asked >= EXECS || (!nightly() && begun.elapsed() >= race());
    let (mut asked, mut kills, mut answered, mut stopped) = (0, 0, 0, 0);
    while !over(asked) || kills == 0 {
        let attack = bench.attack("a", "watch", &["hungry", "3000"]).mighty();
        let live = attack.change(|request| request.resources.memory_mib = Some(48)).ready();
        let shim = live.shim_pid();
        let ended = || bench.engine.inspect(live.id()).unwrap().exit;
        let first = asked;
        let exec = || {
            let sent = Instant::now();
            (live.exec_within(&["/bin/true"], Duration::from_millis(300)), sent.elapsed())
        };
        while ended().is_none() && (asked == first || !over(asked)) {
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(exec)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            asked += TOGETHER;
            for (outcome, took) in outcomes {
                match outcome {
                    Ok(report) if report.status == 0 => answered += 1,
                    // Stopped, killed beside the others, or too late for a task that was over.
                    Ok(_) | Err(EngineError::Launch { .. } | EngineError::Shim(_)) => stopped += 1,
                    Err(other) => panic!("{other}"),
                }
                assert!(took < answered_within, "one of {asked} execs took {took:?}");
            }
        }
        assert_eq!(bench.engine.inspect(live.id()).unwrap().shim.pid, shim, "the shim was killed too");
        let exit = bench.engine.stop(live.id(), Signal::KILL, Duration::ZERO).unwrap().unwrap();
        kills += exit.oom_kills;
        live.kill();
    }
    assert!(stopped > 0, "nothing was stopped in {answered} execs beside {kills} kills");
    bench.finish();
}

/// A launcher that shares its memory with the child that it brings into a task's groups and pid namespace: the stop of
/// the child holds it, and the child's lack of memory is its end.
///
/// Covers: 1a-shared-memory-oom
#[test]
fn a_launcher_that_shared_its_memory_would_be_held_and_killed() {
    let Some(bench) = Bench::new("careless") else { return };
    let launch = |how: &str, live: &Live<'_>| {
        let name = groups(&bench.group(how)).first().unwrap().clone();
        let files = crate::rig::controllers().into_iter().map(|top| top.join(&name).join("cgroup.procs"));
        let mut command = Command::new(program("launcher"));
        command.args([how, &live.started.pid.to_string()]).args(files.filter(|file| file.exists()));
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let live = bench.attack("killed", "bomb", &["memory", "anonymous", "0", "stay"]);
    let live = live.change(|request| request.resources.memory_mib = Some(48)).ready();
    let mut launcher = launch("killed", &live);
    let mut line = String::new();
    BufReader::new(launcher.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "entered = yes\n");
    // Whatever becomes of this one, and of the task.
    let bomb = live.exec(&["/bomb", "memory", "anonymous", "256"]).map(|report| report.status);
    let mut status = None;
    until("the launcher is ended", || {
        status = launcher.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(137), "the child's end was not the launcher's: {bomb:?}");
    live.kill();
    let live = bench.attack("held", "watch", &["stop", "600"]).mighty().ready();
    let mut launcher = launch("held", &live);
    // The one that waits, and the one that stands still.
    let child_of = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.trim().to_owned()
    };
    let is = |pid: &str, state: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(state))
    };
    let waiting = || child_of(&launcher.id().to_string());
    until("the child stands still", || is(&child_of(&waiting()), ") T "));
    // The moment that the child wanted is over, and nobody but its end wakes who waits like this.
    std::thread::sleep(Duration::from_secs(2));
    assert!(is(&waiting(), ") D ") && is(&child_of(&waiting()), ") T "), "it was not held");
    let pid = rustix::process::Pid::from_child(&launcher);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    live.kill();
    assert_eq!(launcher.wait().unwrap().code(), Some(137));
    bench.finish();
}

/// Which processors a task has is its group's to say, and which limits it has, nobody's who cannot raise their own.
///
/// Covers: 2-affinity-prlimit
#[test]
fn who_asks_for_every_processor_and_more_limits_keeps_their_own() {
    let Some(bench) = Bench::new("spread") else { return };
    let limits = || Value::map([("nofile", Value::from("100:200"))]);
    let task = |id: &str, mode: &str| bench.attack(id, "state", &[mode]).option("ulimit", limits());
    let alone = |id: &str, mode: &str| task(id, mode).change(|request| request.resources.cores = "0".into());
    let live = alone("stays", "stay").ready();
    let exec = live.exec(&["/state", "spread"]).unwrap();
    live.kill();
    let default = alone("default", "spread").run();
    let root = alone("root", "spread").user("root").run();
    let mighty = alone("mighty", "spread").mighty().run();
    for report in [&exec, &default, &root, &mighty] {
        report.expect(&["cpus.before", "cpus.after", "cpus.last"], "0");
        report.expect(&["cpus.all"], "OK");
        report.expect(&["cpus.others"], "EINVAL");
        report.expect(&["limit.lower", "limit.back"], "OK");
        let capabilities = u64::from_str_radix(report.get("CapEff"), 16).unwrap();
        let raised = if capabilities & SYS_RESOURCE != 0 { "OK" } else { "EPERM" };
        report.expect(&["limit.set", "limit.prlimit", "limit.both"], raised);
    }
    default.expect(&["limit.both"], "EPERM");
    exec.expect(&["limit.both"], "EPERM");
    // Without cores of its own a task has what it asks for.
    let free = task("free", "spread").run();
    free.expect(&["cpus.all"], "OK");
    if std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim() == "0" {
        let why = "there is one processor only, and no other to be kept from";
        skipped("who_asks_for_every_processor_and_more_limits_keeps_their_own", why);
    } else {
        assert_ne!(free.get("cpus.after"), "0", "no task has another processor here");
    }
    bench.finish();
}

/// Every figure is there, whatever counts it; what a version cannot tell stands here.
///
/// Covers: T113
#[test]
fn the_same_figures_are_told_on_every_version() {
    let Some(bench) = Bench::new("figures") else { return };
    let live = bench.attack("a", "fds", &["stay"]).ready();
    let figures = || bench.engine.stats(live.id()).unwrap().group;
    // The kernel counts on each processor by itself, and adds up every two seconds.
    until("what programs have is counted", || figures().memory.is_some_and(|memory| memory.anonymous.0 > 0));
    let told = figures();
    let Stats { cpu: Some(_), throttling: Some(_), memory: Some(memory), pids: Some(1), io: Some(_) } = told
    else {
        panic!("{told:?}")
    };
    // Only version 1 remembers the most that the kernel held, and only a host that counts swap tells of it.
    let MemoryStats { current, peak, limit, anonymous, kernel, kernel_peak, swap, .. } = memory;
    assert!(current.0 > 0 && anonymous.0 > 0, "{memory:?}");
    assert!(peak >= Some(current) && limit == Some(Bytes(128 << 20)) && kernel.is_some(), "{memory:?}");
    let is_v1 = freezer(groups(&bench.group("a")).first().unwrap()).3.starts_with("/sys/fs/cgroup/freezer");
    assert_eq!(kernel_peak.is_some(), is_v1, "{memory:?}");
    let counts_swap = ["memory/memory.memsw.usage_in_bytes", "cgroup.controllers"];
    let counts_swap = counts_swap.iter().any(|file| Path::new("/sys/fs/cgroup").join(file).exists());
    assert_eq!(swap.is_some(), counts_swap, "{memory:?}");
    live.kill();
    bench.finish();
}

/// Covers: CVE-2022-0492, T78, T111
#[test]
fn what_a_child_uses_is_counted_in_the_task_and_its_end_for_lack_of_memory_is_told() {
    let Some(bench) = Bench::new("counted") else { return };
    let used = |live: &Live<'_>| bench.engine.stats(live.id()).unwrap().group.memory.unwrap().current.0 >> 20;
    let idle = bench.attack("idle", "bomb", &["memory", "anonymous", "0", "stay"]).ready();
    assert!(used(&idle) < 40, "{} MiB for nothing", used(&idle));
    idle.kill();
    let child = "/bomb memory anonymous 48 stay & wait";
    let live = bench.task("a", "/bin/sh", &["-c", child]);
    bench.place("a", "bomb");
    let live = live.ready();
    assert!(used(&live) >= 48, "a child's 48 MiB are told as {} MiB", used(&live));
    live.kill();
    // The child is killed, the first process tells its status: 128 + 9.
    let script = "/bomb memory anonymous 256; echo \"status = $?\"; exit 7";
    let live =
        bench.task("b", "/bin/sh", &["-c", script]).change(|request| request.resources.memory_mib = Some(64));
    bench.place("b", "bomb");
    let live = live.start().unwrap();
    let id = live.id().to_owned();
    until("the shell has ended", || bench.engine.inspect(&id).is_ok_and(|status| status.exit.is_some()));
    let exit = bench.engine.inspect(&id).unwrap().exit.unwrap();
    assert_eq!((exit.ending.code(), exit.oom_kills), (7, 1), "{exit:?}");
    let report = live.end();
    report.expect(&["status"], "137");
    let tmpfs = Value::map([("type", Value::from("tmpfs")), ("target", Value::from("/memory"))]);
    assert!(bench.attack("c", "fds", &[]).option("mount", Value::List(vec![tmpfs])).run().status == 0);
    bench.finish();
}
