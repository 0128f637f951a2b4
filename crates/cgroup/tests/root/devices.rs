//! Device rules as processes feel them, by version 1 files and by programs.

use crate::common::{PATIENCE, Scope, host_without, start};
use bivouac_cgroup::{
    DeviceAccess, DevicePolicy, DeviceRule, Given, Group, GroupName, Limits, Placement, Plan,
};
use bivouac_sys::bpf;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;

/// `/dev/null` as one likes, `/dev/zero` for reading only, nothing else.
fn rules() -> DevicePolicy {
    let read: DeviceAccess = "r".parse().unwrap();
    DevicePolicy::Allow(vec![DeviceRule::char(1, 3, DeviceAccess::ALL), DeviceRule::char(1, 5, read)])
}

const TRY: &str = "t() { if (eval \"$2\") 2>/dev/null; then echo \"$1 yes\"; else echo \"$1 no\"; fi; }
t null-write ': > /dev/null'; t zero-read ': < /dev/zero'; t zero-write ': > /dev/zero'
t full-read ': < /dev/full'; t mknod 'd=$(mktemp -u) && mknod $d c 1 3 && rm $d'
t mknod-other 'd=$(mktemp -u) && mknod $d c 1 7 && rm $d'";

fn check(group: &Group) {
    let (_, output) = start(group, TRY).wait();
    let lines: Vec<&str> = output.lines().collect();
    let expected =
        ["null-write yes", "zero-read yes", "zero-write no", "full-read no", "mknod yes", "mknod-other no"];
    assert_eq!(lines, expected);
}

/// This machine as it is, and one without the devices controller of version 1, if it has that.
#[test]
fn only_what_is_listed_can_be_opened_or_made() {
    let test = "only_what_is_listed_can_be_opened_or_made";
    let Some(scope) = Scope::new(test) else { return };
    let program = Scope::on(if scope.is_v2() { scope.host.clone() } else { host_without(&[",devices"]) });
    for scope in [scope, program] {
        let plan = Plan::new(&scope.host, &scope.placement("g"), &Limits::default(), &rules()).unwrap();
        let group = plan.create().unwrap();
        check(&group);
        group.remove(PATIENCE).unwrap();
    }
}

#[test]
fn a_group_used_again_does_not_collect_programs() {
    let test = "a_group_used_again_does_not_collect_programs";
    let Some(scope) = Scope::new(test) else { return };
    let Some(mount) = scope.host.unified_mount().map(ToOwned::to_owned) else { return };
    let scope = Scope::on(if scope.is_v2() { scope.host.clone() } else { host_without(&[",devices"]) });
    let path = scope.parent.join(&GroupName::new("x.scope").unwrap());
    fs::create_dir_all(path.below(&mount)).unwrap();
    let placement = Placement::Given(Given {
        unified: Some(path.clone()),
        v1: BTreeMap::new(),
        parent: scope.parent.clone(),
        name: GroupName::new("g").unwrap(),
    });
    let dir = fs::File::open(path.below(&mount)).unwrap();
    let attached = || bpf::attached_device_programs(dir.as_fd()).unwrap().len();
    // A program of somebody else, who allows everything and stays.
    let everything = [
        bpf::Insn { code: 0xb7, registers: 0, offset: 0, immediate: 1 },
        bpf::Insn { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let foreign = bpf::load_device_program(&everything, b"somebody\0\0\0\0\0\0\0\0").unwrap();
    bpf::attach_device_program(dir.as_fd(), foreign.as_fd()).unwrap();

    let plan = Plan::new(&scope.host, &placement, &Limits::none(), &rules()).unwrap();
    for _ in 0..3 {
        let group = plan.create().unwrap();
        assert_eq!(attached(), 2);
        check(&group);
        // As after a crash, when nobody took off what was attached before: on version 2 the next one replaces it.
        let group = if scope.is_v2() { plan.create().unwrap() } else { group };
        assert_eq!(attached(), 2);
        check(&group);
        group.remove(PATIENCE).unwrap();
        assert_eq!(attached(), 1);
    }
    fs::remove_dir(path.below(&mount)).unwrap();
}
