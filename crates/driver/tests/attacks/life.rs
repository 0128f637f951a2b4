//! A task's life from outside: names, namespaces to join, signals and figures after its end, its environment.

use crate::rig::{Bench, until};
use bivouac_driver::engine::EngineError;
use bivouac_driver::signals::Signal;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Network;
use std::time::Duration;

/// Covers: T46
#[test]
fn only_a_network_namespace_is_joined_as_one() {
    let Some(bench) = Bench::new("join") else { return };
    let file = bench.path("file");
    std::fs::write(&file, "").unwrap();
    for path in [
        "/proc/self/ns/uts",
        "/proc/self/ns/mnt",
        file.to_str().unwrap(),
        "/no/such/namespace",
        "/dev/null",
        "/",
    ] {
        let text = bench.attack("a", "fds", &[]).change(|request| {
            request.network = Network::Join(HostPath::new(path).unwrap());
        });
        let text = text.refused();
        assert!(text.contains("network"), "{path}: {text}");
    }
    bench.finish();
}

/// Covers: T104, T112, T109
#[test]
fn after_the_end_there_are_errors_and_no_zeros() {
    let Some(bench) = Bench::new("ended") else { return };
    let live = bench.task(
        "a",
        "/bin/sh",
        &["-c", "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; echo 'ready = yes'; read x < /local/fifo"],
    );
    let fifo = bench.path("a/task/local/fifo");
    std::fs::create_dir_all(fifo.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status().unwrap().success());
    let live = live.ready();
    let id = live.id().to_owned();
    let used = || bench.engine.stats(&id).map(|stats| stats.group.cpu.map(|cpu| cpu.user_ns + cpu.system_ns));
    let (first, second) = (used().unwrap(), used().unwrap());
    assert!(first > Some(0) && second >= first, "{first:?} then {second:?}");
    std::fs::write(&fifo, "end\n").unwrap();
    until("it has ended", || bench.engine.inspect(&id).is_ok_and(|status| status.exit.is_some()));
    let before = bench.engine.inspect(&id).unwrap();
    assert!(bench.engine.signal(&id, Signal::TERM).is_err());
    assert!(matches!(used(), Err(EngineError::Shim(_) | EngineError::Lost(_))), "{:?}", used());
    let exit = bench.engine.stop(&id, Signal::TERM, Duration::ZERO).unwrap().unwrap();
    assert_eq!(Some(exit), before.exit);
    assert_eq!(bench.engine.inspect(&id).unwrap(), before);
    live.end();
    bench.finish();
}

/// Covers: T130
#[test]
fn tasks_that_end_at_once_are_never_lost() {
    let Some(bench) = Bench::new("short") else { return };
    for round in 0..10 {
        let report = bench.task("a", "/bin/sh", &["-c", &format!("echo round {round}; exit {round}")]).run();
        assert_eq!((report.text.trim(), report.status), (format!("round {round}").as_str(), round));
    }
    bench.finish();
}

/// Covers: T134
#[test]
fn any_id_is_one_directory_below_ours() {
    let Some(bench) = Bench::new("ids") else { return };
    let long = "x".repeat(80);
    for (number, id) in
        ["..", ".", "-x", "/", "a/../../b", "new\nline", "\u{1}\u{7f}", "%2e%2e", "ünïcode", long.as_str()]
            .into_iter()
            .enumerate()
    {
        let attack = bench.attack(&format!("t{number}"), "fds", &["stay"]);
        let live = attack.change(|request| request.id = id.into()).ready();
        assert_eq!(bench.engine.list().unwrap(), [id]);
        assert_eq!(std::fs::read_dir(bench.path("run/tasks")).unwrap().count(), 1, "{id:?}");
        live.kill();
    }
    let too_long = "y".repeat(600);
    let text = bench.attack("long", "fds", &[]).change(|request| request.id = too_long).refused();
    assert!(text.len() < 2000, "{text}");
    bench.finish();
}

/// Covers: 1h-agent-env
#[test]
fn nothing_of_the_launchers_environment_reaches_a_task() {
    let Some(bench) = Bench::new("env") else { return };
    let report = bench.task("a", "/usr/bin/env", &[]).env("NOMAD_ALLOC_DIR", "/alloc").run();
    let mut names: Vec<_> = report.text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LOGNAME", "NOMAD_ALLOC_DIR", "PATH", "USER"]);
    assert!(std::env::vars_os().count() > 5, "this process has an environment that could be inherited");
    bench.finish();
}

/// Covers: 2-other-processes
#[test]
fn a_task_sees_and_signals_its_own_processes_only() {
    let Some(bench) = Bench::new("others") else { return };
    let sibling = bench.attack("sibling", "fds", &["stay"]).ready();
    let target = sibling.started.pid.to_string();
    // The shell is process 1; `kill -0` and the list are its own.
    let script = format!("kill -0 {target} && echo reached; cd /proc; echo [0-9]*");
    let own = bench.task("own", "/bin/sh", &["-c", &script]).run();
    assert!(!own.text.contains("reached"), "{}", own.text);
    assert!(own.text.lines().any(|line| line == "1"), "{}", own.text);
    let host = bench.task("host", "/bin/sh", &["-c", &script]).option("pid_mode", "host").run();
    assert!(
        host.text.contains("reached") && host.text.contains(&target),
        "with the host's numbers it is in reach"
    );
    sibling.kill();
    bench.finish();
}
