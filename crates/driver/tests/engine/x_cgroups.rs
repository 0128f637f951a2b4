//! Rows of the executor about control groups, on whatever version this host has.

use crate::bench::{Bench, until};
use bivouac_cgroup::{Controller, Given, GivenAccess, GivenGroup, GroupName, GroupPath, Layout, Placement};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::request::TaskRequest;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Covers: X5
#[test]
fn x5_cgroup_paths() {
    let Some(bench) = Bench::new("x5") else { return };
    let output = bench.request("a", "cat", &["/proc/self/cgroup"], vec![]);
    let seen = bench.run(&output).out;
    let own = format!("/{}-a", bench.name);
    let line = |name: &str| {
        seen.lines()
            .find(|line| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|one| one == name)))
    };
    if bench.engine.cgroups().layout() == Layout::V2 {
        assert_eq!(seen, format!("0::{own}\n"));
    } else {
        for controller in ["cpu", "cpuset", "devices", "freezer", "memory", "pids"] {
            assert!(line(controller).is_some_and(|line| line.ends_with(&own)), "{controller}: {seen}");
        }
    }
    bench.finish();
}

/// Covers: X19, T82
#[test]
fn x19_old_processes_are_ended() {
    let Some(bench) = Bench::new("x19") else { return };
    let name = GroupName::new(format!("{}-a", bench.name)).unwrap();
    let own = GroupPath::ROOT.join(&name);
    let cgroups = bench.engine.cgroups();
    let (unified, v1, mount) = if cgroups.layout() == Layout::V2 {
        (Some(own.clone()), BTreeMap::new(), cgroups.unified_mount().unwrap())
    } else {
        let group = GivenGroup { path: own.clone(), access: GivenAccess::Full };
        (None, BTreeMap::from([(Controller::Freezer, group)]), cgroups.v1_mount(Controller::Freezer).unwrap())
    };
    let directory = own.below(mount);
    std::fs::create_dir(&directory).unwrap();
    let mut stray = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(directory.join("cgroup.procs"), stray.id().to_string()).unwrap();
    let placement = Placement::Given(Given { unified, v1, parent: GroupPath::ROOT, name });
    let request = TaskRequest { placement, ..bench.script("a", "exit 3", vec![]) };
    assert_eq!(bench.run(&request).code, 3);
    let mut ended = None;
    until("the stray process has ended", || {
        ended = stray.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().signal(), Some(9));
    std::fs::remove_dir(&directory).unwrap();
    bench.finish();
}

/// Covers: X25, T84
#[test]
fn x25_the_shim_is_outside() {
    let Some(bench) = Bench::new("x25") else { return };
    let run = bench.started(&bench.request("a", "sleep", &["100"], vec![]));
    let status = bench.engine.inspect(&run.id).unwrap();
    let groups = bench.groups_of(&run.id);
    assert!(!groups.is_empty());
    for group in groups {
        let inside = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        assert_eq!(inside, format!("{}\n", run.started.pid), "{}", group.display());
        assert_ne!(inside.trim(), status.shim.pid.to_string());
    }
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}
