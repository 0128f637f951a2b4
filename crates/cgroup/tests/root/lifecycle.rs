//! Making groups, living in them and removing them.

use crate::common::{PATIENCE, Scope, eventually, read, run, start};
use bivouac_cgroup::{
    Bytes, Controller, CpuMax, CpuShares, DevicePolicy, Error, Given, GivenAccess, GivenGroup, Group,
    GroupName, GroupPath, Limits, Memory, OomKill, Pids, Placement, Plan, Saved, SwapPolicy,
    remove_empty_parents, remove_saved,
};
use bivouac_sys::wait::Ending;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

fn some_limits() -> Limits {
    Limits {
        memory: Memory {
            max: Some(Bytes::from_mib(64)),
            low: Some(Bytes::from_mib(32)),
            swap: SwapPolicy::None,
        },
        cpu_shares: Some(CpuShares::new(512)),
        cpu_max: Some(CpuMax::new(20_000, 50_000, 0).unwrap()),
        cpuset: Some("1".parse().unwrap()),
        pids: Some(Pids::max(100).unwrap()),
        oom_kill: OomKill::Process,
    }
}

/// Covers: T78, W48
#[test]
fn limits_land_in_the_files() {
    let Some(scope) = Scope::new("limits_land_in_the_files") else { return };
    let group = scope.group(&some_limits());
    use Controller::{Cpu, Cpuset, Memory, Pids};
    let expected: &[(Controller, &str, &str)] = if scope.is_v2() {
        &[
            (Memory, "memory.max", "67108864"),
            (Memory, "memory.low", "33554432"),
            (Memory, "memory.swap.max", "0"),
            (Cpu, "cpu.weight", "59"),
            (Cpu, "cpu.max", "20000 50000"),
            (Cpuset, "cpuset.cpus", "1"),
            (Pids, "pids.max", "100"),
        ]
    } else {
        &[
            (Memory, "memory.limit_in_bytes", "67108864"),
            (Memory, "memory.soft_limit_in_bytes", "33554432"),
            (Memory, "memory.memsw.limit_in_bytes", "67108864"),
            (Memory, "memory.swappiness", "0"),
            (Cpu, "cpu.shares", "512"),
            (Cpu, "cpu.cfs_quota_us", "20000"),
            (Cpu, "cpu.cfs_period_us", "50000"),
            (Cpuset, "cpuset.cpus", "1"),
            (Pids, "pids.max", "100"),
        ]
    };
    for (controller, file, value) in expected {
        assert_eq!(read(&group, *controller, file), *value, "{file}");
    }
    let (ending, output) = start(&group, "grep Cpus_allowed_list /proc/self/status").wait();
    assert_eq!(ending, Ending::Exited(0), "{output}");
    assert!(output.ends_with("\t1\n"), "{output}");
    group.remove(PATIENCE).unwrap();
}

/// At a reload systemd turns off controllers that none of its own units asks for. On version 2 that would take the
/// limits of groups below it away; they hold on because our parent group has the controllers on for its children.
///
/// Covers: T81
#[test]
fn controllers_turned_off_above_take_no_limits_away() {
    let Some(scope) = Scope::new("controllers_turned_off_above_take_no_limits_away") else { return };
    let Some(top) = scope.host.unified_mount().filter(|_| scope.is_v2()) else {
        println!("SKIPPED: controllers_turned_off_above_take_no_limits_away: version 1 turns none off");
        return;
    };
    let group = scope.group(&some_limits());
    for controller in ["cpu", "cpuset", "memory", "pids"] {
        let refused = fs::write(top.join("cgroup.subtree_control"), format!("-{controller}")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy, "{controller}: {refused}");
    }
    assert_eq!(read(&group, Controller::Pids, "pids.max"), "100");
    group.remove(PATIENCE).unwrap();
}

#[test]
fn a_child_is_in_every_group() {
    let Some(scope) = Scope::new("a_child_is_in_every_group") else { return };
    let group = scope.group(&Limits::default());
    let (ending, output) = start(&group, "cat /proc/self/cgroup").wait();
    assert_eq!(ending, Ending::Exited(0), "{output}");
    let inside = output.lines().filter(|line| line.ends_with(&format!("{}/g", scope.parent))).count();
    assert_eq!(inside, group.saved().places().count(), "{output}");
    // In the hierarchies that are of no use to it, it is where its starter is.
    let outside = fs::read_to_string("/proc/self/cgroup").unwrap();
    let moved = outside.lines().filter(|line| !output.lines().any(|inside| inside == *line)).count();
    assert_eq!(moved, inside, "{output}\nstarted from\n{outside}");
    // Written down and opened again, it is the same group.
    let json = serde_json::to_string(&group.saved()).unwrap();
    let again = Group::open(&serde_json::from_str::<Saved>(&json).unwrap()).unwrap();
    assert_eq!(again.id(), group.id());
    again.remove(PATIENCE).unwrap();
    group.remove(PATIENCE).unwrap();
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    let Some(scope) = Scope::new("a_failure_in_the_middle_leaves_nothing") else { return };
    // No machine has processor 8000; the groups before cpuset have been made by then.
    let limits = Limits { cpuset: Some("8000".parse().unwrap()), ..some_limits() };
    let error = scope.plan("g", &limits).create().unwrap_err().to_string();
    assert!(error.contains("cannot write `8000` to ") && error.contains("cpuset.cpus: "), "{error}");
    assert_eq!(scope.left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_group_that_is_there_already_is_not_touched() {
    let Some(scope) = Scope::new("a_group_that_is_there_already_is_not_touched") else { return };
    let mount = scope.host.v1_mount(Controller::Memory).or(scope.host.unified_mount()).unwrap().to_owned();
    let foreign = scope.parent.join(&GroupName::new("g").unwrap()).below(&mount);
    fs::create_dir_all(&foreign).unwrap();
    let error = scope.plan("g", &some_limits()).create().unwrap_err();
    assert!(matches!(&error, Error::Exists { path } if *path == foreign), "{error}");
    assert_eq!(scope.left(), [foreign.parent().unwrap(), foreign.as_path()]);
    // The name of a file of the kernel is no name for a group either.
    let file = scope.plan("cgroup.procs", &Limits::default()).create().unwrap_err();
    assert!(matches!(file, Error::Exists { .. }), "{file}");
    fs::remove_dir(&foreign).unwrap();
}

/// Covers: T83
#[test]
fn nested_groups_with_processes_are_removed() {
    let Some(scope) = Scope::new("nested_groups_with_processes_are_removed") else { return };
    let group = scope.group(&Limits::default());
    let inner: Vec<_> = group.saved().places().map(|(_, _, path)| path.join("a/b")).collect();
    for path in &inner {
        fs::create_dir_all(path).unwrap();
        fs::create_dir(path.parent().unwrap().join("c")).unwrap();
    }
    // New cpusets of version 1 are empty; the flag of ours reaches down to them.
    let moves: String =
        inner.iter().map(|path| format!("echo $$ > {}/cgroup.procs; ", path.display())).collect();
    let mut process = start(&group, &format!("{moves} cat /proc/self/cgroup; echo; sleep 1000"));
    loop {
        let line = process.line();
        assert!(line.is_empty() || line.ends_with("/g/a/b") || !line.contains("bivouac"), "{line}");
        if line.is_empty() {
            break;
        }
    }
    assert!(group.is_populated().unwrap());
    assert!(group.processes().unwrap().contains(&process.pid));
    group.remove(PATIENCE).unwrap();
    assert_eq!(process.wait().0, Ending::Signaled { signal: 9, core: false });
}

#[test]
fn a_removed_group_is_gone_and_not_zero() {
    let Some(scope) = Scope::new("a_removed_group_is_gone_and_not_zero") else { return };
    let group = scope.group(&Limits::default());
    let saved = group.saved();
    group.remove(PATIENCE).unwrap();
    group.remove(PATIENCE).unwrap();
    remove_saved(&saved, PATIENCE).unwrap();
    let gone = |error: Error| assert!(matches!(error, Error::Gone { .. }), "{error}");
    gone(group.stats().unwrap_err());
    gone(group.kill().unwrap_err());
    gone(group.thaw().unwrap_err());
    gone(group.is_frozen().unwrap_err());
    gone(group.is_populated().unwrap_err());
    gone(group.processes().unwrap_err());
    gone(group.oom_kills().unwrap_err());
    gone(group.oom_watch().unwrap_err());
    gone(Group::open(&saved).unwrap_err());
    if !scope.is_v2() {
        gone(group.entrance().unwrap_err());
    }
}

#[test]
fn another_group_at_the_saved_path_is_left_alone() {
    let Some(scope) = Scope::new("another_group_at_the_saved_path_is_left_alone") else { return };
    let plan = scope.plan("g", &Limits::default());
    let first = plan.create().unwrap();
    let saved = first.saved();
    first.remove(PATIENCE).unwrap();
    let second = plan.create().unwrap();
    let mut process = start(&second, "echo; sleep 1000");
    process.line();
    assert!(matches!(Group::open(&saved).unwrap_err(), Error::Replaced { .. }));
    assert!(matches!(remove_saved(&saved, PATIENCE).unwrap_err(), Error::Replaced { .. }));
    assert!(process.is_alive());
    // What a plan says suffices after a crash, processes or not, half made or whole.
    remove_saved(&plan.saved(), PATIENCE).unwrap();
    assert_eq!(process.wait().0, Ending::Signaled { signal: 9, core: false });
    remove_saved(&plan.saved(), PATIENCE).unwrap();
    for (_, _, path) in plan.saved().places().take(3) {
        fs::create_dir(path).unwrap();
    }
    remove_saved(&plan.saved(), PATIENCE).unwrap();
}

#[test]
fn a_tampered_state_file_reaches_no_other_directory() {
    let Some(scope) = Scope::new("a_tampered_state_file_reaches_no_other_directory") else { return };
    let group = scope.group(&Limits::default());
    let json = serde_json::to_string(&group.saved()).unwrap();
    let mount = scope.mounts().first().unwrap().display().to_string();
    let outside = std::env::temp_dir().join(format!("bivouac-test-state-{}", std::process::id()));
    fs::create_dir_all(&outside).unwrap();
    for path in [outside.to_str().unwrap(), &format!("{mount}/../"), "relative"] {
        let text = json.replacen(&format!("{mount}{}/g", scope.parent), path, 1);
        let error = remove_saved(&serde_json::from_str(&text).unwrap(), PATIENCE).unwrap_err();
        assert!(matches!(error, Error::Outside { .. }), "{path}: {error}");
    }
    assert!(outside.exists());
    fs::remove_dir(&outside).unwrap();
    group.remove(PATIENCE).unwrap();
}

#[test]
fn a_group_that_is_only_joined_is_never_touched() {
    let Some(scope) = Scope::new("a_group_that_is_only_joined_is_never_touched") else { return };
    let Some(mount) = scope.host.v1_mount(Controller::Cpuset).map(ToOwned::to_owned) else {
        println!("SKIPPED: a_group_that_is_only_joined_is_never_touched: cpuset is on cgroup v2");
        return;
    };
    // As Nomad does it: a share that everybody is in, and groups for one task.
    let share = scope.parent.join(&GroupName::new("share").unwrap());
    let theirs = scope.parent.join(&GroupName::new("theirs").unwrap());
    fs::create_dir_all(share.below(&mount)).unwrap();
    for path in [scope.parent.below(&mount), share.below(&mount)] {
        fs::write(path.join("cpuset.cpus"), "0").unwrap();
        fs::write(path.join("cpuset.mems"), "0").unwrap();
    }
    let given = |controller: Controller| {
        let path = theirs.below(scope.host.v1_mount(controller).unwrap());
        fs::create_dir_all(&path).unwrap();
        (controller, GivenGroup { path: theirs.clone(), access: GivenAccess::Full })
    };
    let mut v1 = BTreeMap::from([Controller::Freezer, Controller::Cpu, Controller::Memory].map(given));
    v1.insert(Controller::Cpuset, GivenGroup { path: share.clone(), access: GivenAccess::JoinOnly });
    let name = GroupName::new("g").unwrap();
    let placement = Placement::Given(Given { unified: None, v1, parent: scope.parent.clone(), name });
    let limits = Limits { cpuset: None, ..some_limits() };
    let plan = Plan::new(&scope.host, &placement, &limits, &DevicePolicy::Unrestricted).unwrap();

    let stranger_tasks = share.below(&mount).join("tasks");
    let mut stranger = std::process::Command::new("sh")
        .args(["-c", &format!("echo 0 > {}; echo; exec sleep 1000", stranger_tasks.display())])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the stranger is in", || !fs::read_to_string(&stranger_tasks).unwrap().is_empty());

    let group = plan.create().unwrap();
    let mut task = start(&group, "cat /proc/self/cgroup; echo; sleep 1000");
    let mut lines = Vec::new();
    loop {
        match task.line() {
            line if line.is_empty() => break,
            line => lines.push(line),
        }
    }
    assert!(lines.iter().any(|line| line.ends_with(&format!(":cpuset:{share}"))), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with(&format!(":freezer:{theirs}"))), "{lines:?}");
    assert_eq!(read(&group, Controller::Memory, "memory.limit_in_bytes"), "67108864");
    group.remove(PATIENCE).unwrap();
    assert_eq!(task.wait().0, Ending::Signaled { signal: 9, core: false });
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was killed");
    assert_eq!(fs::read_to_string(share.below(&mount).join("cpuset.cpus")).unwrap(), "0\n");
    assert!(theirs.below(scope.host.v1_mount(Controller::Memory).unwrap()).exists());

    // The same groups serve again.
    let again = plan.create().unwrap();
    again.remove(PATIENCE).unwrap();

    stranger.kill().unwrap();
    stranger.wait().unwrap();
    for controller in [Controller::Freezer, Controller::Cpu, Controller::Memory] {
        fs::remove_dir(theirs.below(scope.host.v1_mount(controller).unwrap())).unwrap();
    }
    eventually("the share is free", || fs::remove_dir(share.below(&mount)).is_ok());
}

#[test]
fn a_given_group_must_be_there_and_empty() {
    let Some(scope) = Scope::new("a_given_group_must_be_there_and_empty") else { return };
    let Some(mount) = scope.host.unified_mount().map(ToOwned::to_owned) else { return };
    let scoped = scope.parent.join(&GroupName::new("x.scope").unwrap());
    let placement = Placement::Given(Given {
        unified: Some(scoped.clone()),
        v1: BTreeMap::new(),
        parent: scope.parent.clone(),
        name: GroupName::new("g").unwrap(),
    });
    let plan = Plan::new(&scope.host, &placement, &Limits::none(), &DevicePolicy::Unrestricted).unwrap();
    let absent = plan.create().unwrap_err();
    assert!(matches!(absent, Error::Gone { .. }), "{absent}");
    assert_eq!(scope.left(), Vec::<std::path::PathBuf>::new());

    fs::create_dir_all(scoped.below(&mount)).unwrap();
    let group = plan.create().unwrap();
    let mut process = start(&group, "echo; sleep 1000");
    process.line();
    let second = plan.create().unwrap_err();
    assert!(!matches!(second, Error::Gone { .. }), "{second}");
    // Left-overs are cleared by what the plan says; the given group stays.
    remove_saved(&plan.saved(), PATIENCE).unwrap();
    assert_eq!(process.wait().0, Ending::Signaled { signal: 9, core: false });
    fs::write(scoped.below(&mount).join("cgroup.freeze"), "1").unwrap();
    assert!(matches!(plan.create().unwrap_err(), Error::Frozen { .. }));
    remove_saved(&plan.saved(), PATIENCE).unwrap();
    // What was killed in it does not keep the next one from living in it.
    let group = plan.create().unwrap();
    assert_eq!(start(&group, "exit 3").wait().0, Ending::Exited(3));
    group.remove(PATIENCE).unwrap();
    fs::remove_dir(scoped.below(&mount)).unwrap();
}

#[test]
fn a_shared_group_is_joined_by_many_and_killed_by_none() {
    let Some(scope) = Scope::new("a_shared_group_is_joined_by_many_and_killed_by_none") else { return };
    let plan = Plan::shared(&scope.host, &scope.parent, &GroupName::new("shims").unwrap());
    let (first, second) = (plan.create().unwrap(), plan.create().unwrap());
    let mut process = start(&first, "echo; exec sleep 1000");
    process.line();
    for error in [second.kill().unwrap_err(), second.freeze(Duration::from_secs(1)).unwrap_err()] {
        assert!(matches!(error, Error::Shared { .. }), "{error}");
    }
    second.remove(PATIENCE).unwrap();
    assert!(process.is_alive());
    assert!(first.processes().unwrap().contains(&process.pid));
    drop(process);
    eventually("the shared group is removed", || {
        first.remove(PATIENCE).unwrap();
        scope.left().iter().all(|path| !path.ends_with("shims"))
    });
}

#[test]
fn a_group_directly_below_the_root_works() {
    let Some(scope) = Scope::new("a_group_directly_below_the_root_works") else { return };
    let name = GroupName::new(format!("bivouac-test-{}-top", std::process::id())).unwrap();
    let placement = Placement::Ours { parent: GroupPath::ROOT, name };
    let plan = Plan::new(&scope.host, &placement, &Limits::default(), &DevicePolicy::Unrestricted).unwrap();
    let group = plan.create().unwrap();
    let entrance = group.entrance().unwrap();
    let (ending, output) = run(&entrance, "/bin/true", &["true"], &[]).wait();
    assert_eq!(ending, Ending::Exited(0), "{output}");
    group.remove(PATIENCE).unwrap();
    assert!(group.saved().places().all(|(_, _, path)| !path.exists()));
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let Some(scope) = Scope::new("many_at_once_do_not_disturb_each_other") else { return };
    let limits = Limits { cpuset: None, ..some_limits() };
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (scope, limits) = (&scope, &limits);
            threads.spawn(move || {
                for round in 0..10 {
                    let group = scope.plan(&format!("g{thread}-{round}"), limits).create().unwrap();
                    assert_eq!(start(&group, "exit 3").wait().0, Ending::Exited(3));
                    group.remove(PATIENCE).unwrap();
                }
            });
        }
        // Somebody tidies up all the time.
        threads.spawn(|| {
            for _ in 0..200 {
                remove_empty_parents(&scope.host, &scope.parent).unwrap();
                std::thread::sleep(Duration::from_micros(300));
            }
        });
    });
}
