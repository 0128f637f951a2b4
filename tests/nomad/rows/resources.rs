//! Limits and groups, as they stand in the control group file systems.

use super::sh;
use crate::job::{Job, Run};
use crate::shared::ours;
use serde_json::json;
use std::path::PathBuf;

/// The task's group in the hierarchy of a controller, on either version.
fn group(run: &Run<'_>, controller: &str) -> PathBuf {
    let first = PathBuf::from(format!("/sys/fs/cgroup/{controller}/nomad/{}.main", run.id));
    if first.is_dir() {
        return first;
    }
    format!("/sys/fs/cgroup/nomad.slice/share.slice/{}.main.scope", run.id).into()
}

fn limit(run: &Run<'_>, first: &str, second: &str) -> String {
    let group = group(run, "memory");
    let file = if group.join(first).exists() { group.join(first) } else { group.join(second) };
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        .trim()
        .to_owned()
}

/// Covers: X5
#[test]
fn x5_the_task_is_in_its_own_groups() {
    ours(|agent| {
        let (run, said) = sh(agent, "x5", "bivouac", "cat /proc/self/cgroup");
        let own = format!("/nomad/{}.main", run.id);
        let unified = said.lines().count() == 1;
        for line in said.lines() {
            let mut parts = line.splitn(3, ':');
            let (controllers, path) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
            let right = if unified {
                path.ends_with(&format!("{}.main.scope", run.id))
            } else {
                match controllers {
                    "cpuset" => path == "/nomad/share",
                    "" | "name=systemd" | "hugetlb" => continue,
                    _ => path == own,
                }
            };
            assert!(right, "{line} in\n{said}");
        }
    });
}

/// Covers: X25
#[test]
fn x25_nothing_but_the_task_is_in_its_groups() {
    ours(|agent| {
        let run =
            Job::service("x25", "bivouac", &["sleep", "3677"]).task("KillTimeout", json!(0)).start(agent);
        for controller in ["memory", "freezer", "cpu", "pids"] {
            let procs =
                std::fs::read_to_string(group(&run, controller).join("cgroup.procs")).expect("the group");
            assert_eq!(procs.lines().count(), 1, "{controller}: {procs}");
        }
    });
}

/// Covers: X39, Z12
#[test]
fn z12_memory_and_how_far_a_task_may_go_beyond() {
    ours(|agent| {
        let sleeper = |name| Job::service(name, "bivouac", &["sleep", "600"]).task("KillTimeout", json!(0));
        let run = sleeper("x39").start(agent);
        assert_eq!(limit(&run, "memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
        let resources = json!({"CPU": 20, "MemoryMB": 20, "MemoryMaxMB": 30});
        let run = sleeper("z12").task("Resources", resources).start(agent);
        assert_eq!(limit(&run, "memory.limit_in_bytes", "memory.max"), "31457280");
        assert_eq!(limit(&run, "memory.soft_limit_in_bytes", "memory.low"), (20 << 20).to_string());
        run.stop();
        run.nothing_left();
    });
}

/// Covers: X21
#[test]
fn x21_a_device_is_in_the_list_of_the_group() {
    ours(|agent| {
        let run = Job::service("x21", "bivouac", &["sleep", "600"])
            .config("devices", json!([{"host_path": "/dev/random", "container_path": "/dev/inserted"}]))
            .task("KillTimeout", json!(0))
            .start(agent);
        let list = group(&run, "devices").join("devices.list");
        match std::fs::read_to_string(&list) {
            Ok(list) => {
                assert!(
                    list.contains("c 1:8 rwm") && !list.lines().any(|line| line.starts_with("a ")),
                    "{list}"
                );
            }
            // On version 2 a program decides, which has no list: it is asked instead.
            Err(_) => assert_eq!(run.exec(&["head", "-c", "0", "/dev/inserted"]).code, 0),
        }
    });
}
