//! Figures of a group that did something known.

use crate::common::{PATIENCE, Scope, eventually, start};
use bivouac_cgroup::{Bytes, CpuMax, Limits, Stats};

/// The same figures on every kind of host: `check` asks for each of them.
///
/// Covers: T113
#[test]
fn figures_are_those_of_the_work_done() {
    let test = "figures_are_those_of_the_work_done";
    for scope in Scope::new(test).into_iter().chain(Scope::without_unified(test)) {
        let limits = Limits { cpu_max: Some(CpuMax::new(25_000, 50_000, 0).unwrap()), ..Limits::default() };
        let group = scope.group(&limits);
        let fresh = group.stats().unwrap();
        assert_eq!(fresh.pids, Some(0));
        assert_eq!(fresh.memory.unwrap().anonymous, Bytes(0));
        // Burns processor time, keeps 20 MiB of its own, and stands still to be looked at, without a child that
        // somebody else would have to reap.
        let script =
            "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; x=$(head -c 20M /dev/zero | tr '\\0' x)
            echo; kill -STOP $$";
        let mut process = start(&group, script);
        process.line();
        let now = group.stats().unwrap();
        check(&now);
        let json = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), now);
        group.kill().unwrap();
        group.wait_empty(PATIENCE).unwrap();
        process.wait();
        eventually("nobody is counted", || group.stats().unwrap().pids == Some(0));
        let after = group.stats().unwrap();
        assert!(after.cpu.unwrap().user_ns >= now.cpu.unwrap().user_ns);
        assert!(after.memory.unwrap().anonymous < Bytes::from_mib(5));
        group.remove(PATIENCE).unwrap();
    }
}

fn check(stats: &Stats) {
    let cpu = stats.cpu.unwrap();
    assert!(cpu.user_ns + cpu.system_ns > 5_000_000, "{stats:?}");
    let throttling = stats.throttling.unwrap();
    assert!(throttling.throttled_periods > 0 && throttling.throttled_ns > 0, "{stats:?}");
    assert!(throttling.periods >= throttling.throttled_periods, "{stats:?}");
    let memory = stats.memory.unwrap();
    assert!(memory.anonymous >= Bytes::from_mib(20), "{stats:?}");
    assert!(memory.current >= memory.anonymous, "{stats:?}");
    assert!(memory.peak.is_none_or(|peak| peak >= memory.current), "{stats:?}");
    assert_eq!(memory.swap.unwrap_or(Bytes(0)), Bytes(0), "{stats:?}");
    assert!(memory.kernel.is_some(), "{stats:?}");
    assert!((1..=2).contains(&stats.pids.unwrap()), "{stats:?}");
    assert!(stats.io.is_some(), "{stats:?}");
}
