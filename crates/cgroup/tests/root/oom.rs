//! Running out of memory: the counter is exact, the watch wakes.

use crate::common::{PATIENCE, Scope, start};
use bivouac_cgroup::{Bytes, Error, Limits, Memory, OomKill, OomWatch, SwapPolicy};
use bivouac_sys::wait::Ending;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::Duration;

fn small(oom_kill: OomKill) -> Limits {
    let memory = Memory { max: Some(Bytes::from_mib(24)), low: None, swap: SwapPolicy::None };
    Limits { memory, oom_kill, ..Limits::default() }
}

/// Wants 100 MiB at once, as one process.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=100M count=1";

fn wakes(watch: &OomWatch, within: Duration) -> bool {
    let timeout = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
    poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn every_kill_is_counted_once() {
    let Some(scope) = Scope::new("every_kill_is_counted_once") else { return };
    let group = scope.group(&small(OomKill::Process));
    assert_eq!(group.oom_kills().unwrap(), 0);
    for kills in 1..=5 {
        // The shell lives on, and its status is that of the hog: 128 + SIGKILL.
        let (ending, output) = start(&group, &format!("{HOG}; exit $?")).wait();
        assert_eq!(ending, Ending::Exited(137), "{output}");
        assert_eq!(group.oom_kills().unwrap(), kills);
    }
    let (ending, _) = start(&group, &format!("for i in 1 2 3; do {HOG}; done")).wait();
    assert_eq!(ending, Ending::Exited(137));
    assert_eq!(group.oom_kills().unwrap(), 8);
    group.remove(PATIENCE).unwrap();
}

#[test]
fn the_watch_wakes_for_a_kill_and_then_is_quiet() {
    let Some(scope) = Scope::new("the_watch_wakes_for_a_kill_and_then_is_quiet") else { return };
    let group = scope.group(&small(OomKill::Process));
    let watch = group.oom_watch().unwrap();
    assert!(!wakes(&watch, Duration::from_millis(50)));
    assert_eq!(watch.drain(), Ok(false));
    for kills in 1..=3 {
        start(&group, HOG).wait();
        assert!(wakes(&watch, PATIENCE), "kill {kills}");
        assert_eq!(group.oom_kills().unwrap(), kills);
        // Version 2 tells at most a hundred times a second, so one more may come.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(watch.drain(), Ok(true));
        assert!(!wakes(&watch, Duration::from_millis(50)));
    }
    group.remove(PATIENCE).unwrap();
}

#[test]
fn a_whole_group_is_killed_where_asked() {
    let Some(scope) = Scope::new("a_whole_group_is_killed_where_asked") else { return };
    if !scope.is_v2() {
        println!("SKIPPED: a_whole_group_is_killed_where_asked: cgroup v2 only");
        return;
    }
    let group = scope.group(&small(OomKill::Group));
    let (ending, _) = start(&group, &format!("sleep 1000 & {HOG}; exit 0")).wait();
    assert_eq!(ending, Ending::Signaled { signal: 9, core: false });
    group.wait_empty(PATIENCE).unwrap();
    assert!(group.oom_kills().unwrap() >= 2);
    group.remove(PATIENCE).unwrap();
}

#[test]
fn without_the_controller_it_is_said() {
    let Some(whole) = Scope::new("without_the_controller_it_is_said") else { return };
    if whole.is_v2() {
        println!("SKIPPED: without_the_controller_it_is_said: cgroup v1 only");
        return;
    }
    let scope = Scope::on(crate::common::host_without(&[",memory"]));
    let group = scope.group(&Limits::none());
    assert!(matches!(group.oom_kills().unwrap_err(), Error::Unsupported { .. }));
    assert!(matches!(group.oom_watch().unwrap_err(), Error::Unsupported { .. }));
    assert_eq!(group.stats().unwrap().memory, None);
    group.remove(PATIENCE).unwrap();
}
