//! Tests of [`super`]: plans for every layout as text, and what is refused.

use super::*;
use crate::testing::{HYBRID, V1, V2};
use crate::{Bytes, CpuMax, CpuShares, DeviceAccess, DeviceKind, Memory, Pids};

fn ours() -> Placement {
    Placement::Ours { parent: "/bivouac".parse().unwrap(), name: GroupName::new("b0c4.web").unwrap() }
}

fn full_limits() -> Limits {
    Limits {
        memory: Memory {
            max: Some(Bytes::from_mib(512)),
            low: Some(Bytes::from_mib(256)),
            swap: SwapPolicy::None,
        },
        cpu_shares: Some(CpuShares::new(1024)),
        cpu_max: Some(CpuMax::new(150_000, 50_000, 20_000).unwrap()),
        cpuset: Some("0-1".parse().unwrap()),
        pids: Some(Pids::max(4096).unwrap()),
        oom_kill: OomKill::Process,
    }
}

fn devices() -> DevicePolicy {
    DevicePolicy::Allow(vec![
        DeviceRule::every(DeviceKind::Char, DeviceAccess::MKNOD),
        DeviceRule::char(1, 3, DeviceAccess::ALL),
        DeviceRule::char(5, 0, DeviceAccess::READ_WRITE),
    ])
}

fn plan(mounts: &str, placement: &Placement, limits: &Limits, devices: &DevicePolicy) -> String {
    Plan::new(&Host::parse(mounts).unwrap(), placement, limits, devices).unwrap().to_string()
}

/// What Nomad 1.11 makes for a task without cores on version 1.
fn nomad_v1() -> Placement {
    let given = |path: &str, access| GivenGroup { path: path.parse().unwrap(), access };
    Placement::Given(Given {
        unified: None,
        v1: BTreeMap::from([
            (Controller::Freezer, given("/nomad/b0c4.web", GivenAccess::Full)),
            (Controller::Cpu, given("/nomad/b0c4.web", GivenAccess::Full)),
            (Controller::Memory, given("/nomad/b0c4.web", GivenAccess::Full)),
            (Controller::Cpuset, given("/nomad/share", GivenAccess::JoinOnly)),
        ]),
        parent: "/bivouac".parse().unwrap(),
        name: GroupName::new("b0c4.web").unwrap(),
    })
}

fn nomad_v2() -> Placement {
    Placement::Given(Given {
        unified: Some("/nomad.slice/share.slice/b0c4.web.scope".parse().unwrap()),
        v1: BTreeMap::new(),
        parent: GroupPath::ROOT,
        name: GroupName::new("unused").unwrap(),
    })
}

#[test]
fn plans_of_ours() {
    insta::assert_snapshot!("ours_v1", plan(V1, &ours(), &full_limits(), &devices()));
    insta::assert_snapshot!("ours_hybrid", plan(HYBRID, &ours(), &full_limits(), &devices()));
    insta::assert_snapshot!("ours_v2", plan(V2, &ours(), &full_limits(), &devices()));
}

#[test]
fn plans_with_given_groups() {
    let limits = Limits { cpuset: None, ..full_limits() };
    insta::assert_snapshot!("given_hybrid", plan(HYBRID, &nomad_v1(), &limits, &devices()));
    insta::assert_snapshot!("given_v2", plan(V2, &nomad_v2(), &limits, &devices()));
}

#[test]
fn a_plan_without_limits_writes_nothing() {
    for mounts in [V1, HYBRID, V2] {
        let host = Host::parse(mounts).unwrap();
        let plan = Plan::new(&host, &ours(), &Limits::none(), &DevicePolicy::Unrestricted).unwrap();
        assert!(plan.places.iter().all(|place| place.writes.is_empty() && place.devices.is_none()), "{plan}");
    }
}

#[test]
fn hierarchies_of_no_use_are_left_alone() {
    let carried = |mounts: &str, placement: &Placement, limits: &Limits| {
        let plan = Plan::new(&Host::parse(mounts).unwrap(), placement, limits, &devices()).unwrap();
        plan.places.iter().map(|place| place.hierarchy.to_string()).collect::<Vec<_>>().join(" ")
    };
    let plain = Limits { cpuset: None, ..full_limits() };
    assert_eq!(carried(HYBRID, &ours(), &plain), "freezer pids memory cpu cpuacct cpuset blkio devices");
    // Version 2 does what is missing on version 1: freezing and killing, or a program for devices.
    for missing in ["freezer", "devices"] {
        let rest: Vec<&str> = HYBRID.lines().filter(|line| !line.ends_with(missing)).collect();
        assert!(carried(&rest.join("\n"), &ours(), &plain).ends_with(" unified"), "{missing}");
    }
    assert_eq!(carried(V1, &ours(), &plain), "freezer pids memory cpu,cpuacct cpuset blkio devices");
    // What somebody gave is joined, whatever it is good for.
    let Placement::Given(mut given) = nomad_v1() else { unreachable!() };
    let named = GivenGroup { path: "/nomad/b0c4.web".parse().unwrap(), access: GivenAccess::JoinOnly };
    given.v1.insert(Controller::Systemd, named);
    assert!(carried(HYBRID, &Placement::Given(given), &plain).ends_with("name=systemd"));
}

#[test]
fn a_shared_plan() {
    let host = Host::parse(HYBRID).unwrap();
    let (parent, name) = ("/bivouac".parse().unwrap(), GroupName::new("shims").unwrap());
    insta::assert_snapshot!("shared_hybrid", Plan::shared(&host, &parent, &name));
    assert!(Plan::shared(&host, &parent, &name).saved().places().all(|(_, role, _)| role == Role::Shared));
}

#[test]
fn what_is_saved_is_known_before() {
    let host = Host::parse(HYBRID).unwrap();
    let limits = Limits { cpuset: None, ..full_limits() };
    let saved = Plan::new(&host, &nomad_v1(), &limits, &devices()).unwrap().saved();
    let json = serde_json::to_string(&saved).unwrap();
    assert_eq!(serde_json::from_str::<Saved>(&json).unwrap(), saved);
    let roles = |wanted| saved.places().filter(|(_, role, _)| *role == wanted).count();
    assert_eq!((roles(Role::Ours), roles(Role::Given), roles(Role::JoinOnly)), (4, 3, 1));
}

fn refusal(mounts: &str, placement: &Placement, limits: &Limits) -> String {
    let host = Host::parse(mounts).unwrap();
    Plan::new(&host, placement, limits, &DevicePolicy::Unrestricted).unwrap_err().to_string()
}

#[test]
fn impossible_limits_are_refused_with_their_name() {
    let memory = |max, low, swap| Limits { memory: Memory { max, low, swap }, ..Limits::default() };
    let (one, two) = (Some(Bytes::from_mib(1)), Some(Bytes::from_mib(2)));
    let zero = refusal(V2, &ours(), &memory(Some(Bytes(0)), None, SwapPolicy::None));
    insta::assert_snapshot!(zero, @"memory limit 0: nothing could run in it");
    let low = refusal(V2, &ours(), &memory(one, two, SwapPolicy::None));
    insta::assert_snapshot!(low, @"memory reservation 2097152: it is above the limit of memory");
    let swap = refusal(HYBRID, &ours(), &memory(None, None, SwapPolicy::Max(Bytes(5))));
    insta::assert_snapshot!(swap, @"swap limit 5: cgroup v1 limits memory and swap together: a limit of memory is missing");
    let group = Limits { oom_kill: OomKill::Group, ..Limits::default() };
    insta::assert_snapshot!(refusal(HYBRID, &ours(), &group), @"killing the whole group when memory runs out does not exist on a host with hybrid cgroups");
}

#[test]
fn missing_controllers_are_refused_with_what_needs_them() {
    let host = Host::parse(V2).unwrap().with_unified_controllers("cpu memory\n");
    let error = Plan::new(&host, &ours(), &full_limits(), &devices()).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"a set of processors needs the cpuset controller, which this host (cgroup v2) does not offer");
    let host = Host::parse("36 31 0:33 / /cg/m rw - cgroup cgroup rw,memory\n").unwrap();
    let error = Plan::new(&host, &ours(), &Limits::default(), &devices()).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"a list of allowed devices needs the devices controller, which this host (cgroup v1) does not offer");
}

#[test]
fn given_groups_must_fit() {
    let joined = refusal(HYBRID, &nomad_v1(), &full_limits());
    insta::assert_snapshot!(joined, @"the given control group for cpuset: it may only be joined, but a limit of this controller is asked for");
    let missing = refusal(V2, &nomad_v1(), &Limits::default());
    insta::assert_snapshot!(missing, @"the given control group for cgroup v2: it is missing, and this host has no other hierarchy");
    let foreign = refusal(V1, &nomad_v2(), &Limits::default());
    insta::assert_snapshot!(foreign, @"the given control group for cgroup v2: this host has no version 2 hierarchy");
    let Placement::Given(mut given) = nomad_v1() else { unreachable!() };
    let other = GivenGroup { path: "/other".parse().unwrap(), access: GivenAccess::Full };
    given.v1.insert(Controller::Cpuacct, other);
    let two = refusal(V1, &Placement::Given(given), &Limits::default());
    insta::assert_snapshot!(two, @"the given control group for cpu,cpuacct: two controllers of one hierarchy were given different groups");
}
