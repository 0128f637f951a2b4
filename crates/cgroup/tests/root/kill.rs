//! Freezing, killing and removing what fights back.

use crate::common::{PATIENCE, Scope, UNIFIED, eventually, host_without, run, start};
use bivouac_cgroup::{Controller, Error, Group, Limits, Memory, Pids, Saved, SwapPolicy};
use bivouac_sys::wait::Ending;
use std::fs;
use std::path::Path;
use std::time::Duration;

const KILLED: Ending = Ending::Signaled { signal: 9, core: false };

/// Every layout that this machine can stand for.
fn scopes(test: &str) -> Vec<Scope> {
    Scope::new(test).into_iter().chain(Scope::without_unified(test)).collect()
}

fn bomb_limits() -> Limits {
    let memory = Memory { max: None, low: None, swap: SwapPolicy::Unlimited };
    Limits { memory, pids: Some(Pids::max(300).unwrap()), ..Limits::default() }
}

/// Forks without end, and without waiting for anybody; bash tries again where dash gives up.
const BOMB: &str = "exec bash -c 'f() { while :; do f & done; }; echo; f 2>/dev/null'";

/// Covers: 2-bomb-fork
#[test]
fn a_fork_bomb_dies_as_a_whole() {
    for scope in scopes("a_fork_bomb_dies_as_a_whole") {
        let group = scope.group(&bomb_limits());
        let mut process = start(&group, BOMB);
        process.line();
        eventually("the bomb is at its limit", || group.stats().unwrap().pids.unwrap() >= 290);
        group.kill().unwrap();
        group.wait_empty(PATIENCE).unwrap();
        assert!(!group.is_populated().unwrap());
        assert!(!group.is_frozen().unwrap());
        group.remove(PATIENCE).unwrap();
    }
}

#[test]
fn removing_alone_ends_a_fork_bomb_too() {
    for scope in scopes("removing_alone_ends_a_fork_bomb_too") {
        let group = scope.group(&bomb_limits());
        let mut process = start(&group, BOMB);
        process.line();
        std::thread::sleep(Duration::from_millis(50));
        group.remove(PATIENCE).unwrap();
        assert!(!Path::new(&format!("/proc/{}/exe", process.pid)).exists());
    }
}

fn moves(process: &mut crate::common::Process) -> bool {
    let before = fs::read_to_string(format!("/proc/{}/io", process.pid)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    before != fs::read_to_string(format!("/proc/{}/io", process.pid)).unwrap()
}

#[test]
fn what_is_frozen_stands_still_until_it_is_thawed() {
    for scope in scopes("what_is_frozen_stands_still_until_it_is_thawed") {
        let group = scope.group(&Limits::default());
        let mut process = start(&group, "while :; do echo; done > /dev/null");
        eventually("it runs", || moves(&mut process));
        assert!(!group.is_frozen().unwrap());
        group.freeze(PATIENCE).unwrap();
        assert!(group.is_frozen().unwrap());
        assert!(!moves(&mut process));
        group.thaw().unwrap();
        assert!(!group.is_frozen().unwrap());
        eventually("it runs again", || moves(&mut process));
        group.remove(PATIENCE).unwrap();
        assert_eq!(process.wait().0, KILLED);
    }
}

/// Covers: T89
#[test]
fn a_frozen_group_is_killed_and_never_left_frozen() {
    for scope in scopes("a_frozen_group_is_killed_and_never_left_frozen") {
        let group = scope.group(&Limits::default());
        let mut process = start(&group, "echo; sleep 1000");
        process.line();
        group.freeze(PATIENCE).unwrap();
        group.kill().unwrap();
        group.wait_empty(PATIENCE).unwrap();
        assert!(!group.is_frozen().unwrap());
        assert_eq!(process.wait().0, KILLED);
        group.freeze(PATIENCE).unwrap();
        group.remove(PATIENCE).unwrap();
    }
}

#[test]
fn what_somebody_froze_in_version_1_below_us_is_killed_too() {
    for scope in scopes("what_somebody_froze_in_version_1_below_us_is_killed_too") {
        if scope.is_v2() {
            println!("SKIPPED: what_somebody_froze_in_version_1_below_us_is_killed_too: no cgroup v1");
            return;
        }
        let group = scope.group(&Limits::default());
        let inner = group.path(Controller::Freezer).unwrap().join("inner");
        fs::create_dir(&inner).unwrap();
        let script = format!("echo $$ > {}/cgroup.procs; echo; sleep 1000", inner.display());
        let mut process = start(&group, &script);
        process.line();
        fs::write(inner.join("freezer.state"), "FROZEN").unwrap();
        fs::write(inner.parent().unwrap().join("freezer.state"), "FROZEN").unwrap();
        assert!(group.is_frozen().unwrap());
        group.remove(PATIENCE).unwrap();
        assert_eq!(process.wait().0, KILLED);
    }
}

#[test]
fn a_process_that_left_the_freezer_is_still_killed() {
    let test = "a_process_that_left_the_freezer_is_still_killed";
    let Some(scope) = Scope::new(test) else { return };
    let Some(freezer) = scope.host.v1_mount(Controller::Freezer).map(|mount| mount.join("cgroup.procs"))
    else {
        println!("SKIPPED: {test}: it cannot leave the only hierarchy");
        return;
    };
    let group = scope.group(&Limits::default());
    let mut process = start(&group, &format!("echo $$ > {}; echo; exec sleep 1000", freezer.display()));
    process.line();
    eventually("it left", || !group.is_populated().unwrap());
    group.remove(PATIENCE).unwrap();
    assert_eq!(process.wait().0, KILLED);
}

#[test]
fn a_deadline_names_who_would_not_go() {
    for scope in scopes("a_deadline_names_who_would_not_go") {
        let group = scope.group(&Limits::default());
        let mut process = start(&group, "echo; sleep 1000");
        process.line();
        let error = group.wait_empty(Duration::from_millis(30)).unwrap_err();
        match &error {
            Error::Deadline { processes, .. } => assert!(processes.contains(&process.pid), "{error}"),
            other => panic!("{other}"),
        }
        group.remove(PATIENCE).unwrap();
    }
}

#[test]
fn who_is_inside_cannot_kill_or_freeze_itself() {
    const SAVED: &str = "BIVOUAC_TEST_SAVED";
    if let Ok(saved) = std::env::var(SAVED) {
        let group = Group::open(&serde_json::from_str::<Saved>(&saved).unwrap()).unwrap();
        assert!(matches!(group.kill().unwrap_err(), Error::Inside { .. }));
        assert!(matches!(group.freeze(PATIENCE).unwrap_err(), Error::Inside { .. }));
        assert!(matches!(group.remove(PATIENCE).unwrap_err(), Error::Inside { .. }));
        return;
    }
    for scope in scopes("who_is_inside_cannot_kill_or_freeze_itself") {
        let group = scope.group(&Limits::default());
        let program = std::env::current_exe().unwrap();
        let name = std::thread::current().name().unwrap().to_owned();
        let saved = format!("{SAVED}={}", serde_json::to_string(&group.saved()).unwrap());
        let entrance = group.entrance().unwrap();
        let arguments = ["test", "--exact", &name, "--nocapture"];
        let (ending, output) = run(&entrance, program.to_str().unwrap(), &arguments, &[&saved]).wait();
        assert_eq!(ending, Ending::Exited(0), "{output}");
        assert!(output.contains("1 passed"), "{output}");
        group.remove(PATIENCE).unwrap();
    }
}

#[test]
fn without_any_freezer_signals_suffice() {
    let test = "without_any_freezer_signals_suffice";
    let Some(whole) = Scope::new(test) else { return };
    if whole.is_v2() {
        println!("SKIPPED: {test}: every group of cgroup v2 can be frozen");
        return;
    }
    let scope = Scope::on(host_without(&[UNIFIED, ",freezer"]));
    let group = scope.group(&Limits::default());
    let mut process = start(&group, "for i in 1 2 3 4 5; do sleep 1000 & done; echo; wait");
    process.line();
    assert_eq!(group.processes().unwrap().len(), 6);
    assert!(matches!(group.freeze(PATIENCE).unwrap_err(), Error::Unsupported { .. }));
    assert!(!group.is_frozen().unwrap());
    group.kill().unwrap();
    group.wait_empty(PATIENCE).unwrap();
    assert_eq!(process.wait().0, KILLED);
    group.remove(PATIENCE).unwrap();
}
