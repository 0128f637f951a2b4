//! A plugin of one version and shims of another: tasks outlive upgrades, and the way back.

use super::client::{Plugin, Release, until};
use super::house::{House, TaskHouse, processes};
use super::{can_run, test};
use bivouac_plugin::wire::driver as pb;
use bivouac_plugin::wire::driver::fingerprint_response::HealthState;
use serde_json::json;
use std::time::Duration;

async fn plugin_of(release: &Release) -> Plugin {
    let plugin = Plugin::launch_of(release, "bivouac").await;
    plugin.set_config(&json!({"log_collection": "bivouac"})).await.unwrap();
    plugin
}

const TRAP: &str =
    "trap 'echo heard; exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";

/// The version in which a task's shim answers, as its status file names it.
fn protocol(task: &TaskHouse) -> String {
    let runs = std::fs::read_dir("/run/bivouac/tasks").unwrap().flatten();
    let run = runs.map(|run| run.path()).find(|run| run.to_string_lossy().contains(&task.alloc)).unwrap();
    let status = std::fs::read(run.join("status.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&status).unwrap()["protocol"].to_string()
}

/// The number of a running task's first process.
async fn first_process(plugin: &Plugin, id: &str) -> String {
    let request = pb::InspectTaskRequest { task_id: id.into() };
    let inspected = plugin.driver().inspect_task(request).await.unwrap().into_inner();
    assert_eq!(inspected.task.unwrap().state, i32::from(pb::TaskState::Running));
    inspected.driver.unwrap().attributes.remove("pid").unwrap()
}

/// Tasks that `before` started, of which one ended while no plugin ran, are `after`'s in every respect.
async fn tasks_go_on(before: &Release, after: &Release) {
    let house = House::new();
    let (task, other) = (house.task(), house.task());
    let mut plugin = plugin_of(before).await;
    let config = task.shell("00000001", TRAP);
    let id = config.id.clone();
    let handle = plugin.start(config).await.unwrap();
    let config = other.shell("00000001", "read -r _ < /local/go; exit 6");
    let ended = config.id.clone();
    let go = other.task_dir().join("local/go");
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let ended_handle = plugin.start(config).await.unwrap();
    until("the trap is set", || task.log("stdout").contains("ready")).await;
    let first = first_process(&plugin, &id).await;
    let version = protocol(&task);
    plugin.kill();
    std::fs::write(&go, "\n").unwrap();
    until("the other has ended", || processes(other.groups.first().unwrap()).is_empty()).await;

    let plugin = plugin_of(after).await;
    plugin.recover(handle).await.unwrap();
    plugin.recover(ended_handle).await.unwrap();
    assert_eq!(plugin.exit_code(&ended).await, 6);
    assert_eq!(plugin.exec(&id, &["sh", "-c", "echo $SECRET; exit 4"]).await, ("hvs.secret\n".into(), 4));
    let signal = pb::SignalTaskRequest { task_id: id.clone(), signal: "SIGUSR1".into() };
    plugin.driver().signal_task(signal).await.unwrap();
    until("it has heard", || task.log("stdout").contains("usr1")).await;
    assert_eq!(first_process(&plugin, &id).await, first);
    plugin.stop(&id, "SIGTERM", Duration::from_secs(60)).await.unwrap();
    assert_eq!(plugin.exit_code(&id).await, 9);
    assert_eq!(task.log("stdout"), "ready\nusr1\nheard\n");
    plugin.destroy(&id).await.unwrap();
    plugin.destroy(&ended).await.unwrap();

    // What starts now has the shim of today.
    let config = task.shell("00000002", TRAP);
    let id = config.id.clone();
    plugin.start(config).await.unwrap();
    assert_ne!(protocol(&task), version);
    plugin.destroy(&id).await.unwrap();
    assert_eq!(house.groups_of_ours(&task).len() + house.groups_of_ours(&other).len(), 0);
}

/// Covers: 4-upgrade
#[test]
fn tasks_of_an_older_version_go_on_under_this_one() {
    if !can_run("tasks_of_an_older_version_go_on_under_this_one") {
        return;
    }
    let (older, today) = (Release::older(), Release::today());
    test(tasks_go_on(&older, &today));
}

/// Covers: 4-upgrade
#[test]
fn tasks_of_this_version_go_on_under_an_older_one() {
    if !can_run("tasks_of_this_version_go_on_under_an_older_one") {
        return;
    }
    let (older, today) = (Release::older(), Release::today());
    test(tasks_go_on(&today, &older));
}

/// The plugin was replaced, and the shim beside it was not, or the other way round: no task starts, and it is said why.
///
/// Covers: 4-upgrade
#[test]
fn a_plugin_and_a_shim_of_two_versions_start_nothing_and_say_so() {
    if !can_run("a_plugin_and_a_shim_of_two_versions_start_nothing_and_say_so") {
        return;
    }
    let halves =
        [Release::today().with_shim_of(Release::older()), Release::older().with_shim_of(Release::today())];
    test(async {
        for half in halves {
            let house = House::new();
            let task = house.task();
            let plugin = plugin_of(&half).await;
            let (health, said) = plugin.health().await;
            assert_eq!(health, HealthState::Unhealthy, "{said}");
            for word in ["speaks version", "of one release", "restart the agent"] {
                assert!(said.contains(word), "{word}: {said}");
            }
            let refused = plugin.start(task.shell("00000001", "echo ran")).await.unwrap_err();
            for word in
                ["speaks version", "a launch by a face of version", "start it with the shim of that version"]
            {
                assert!(refused.message().contains(word), "{word}: {refused}");
            }
            assert!(!task.log("stdout").contains("ran"));
            assert_eq!(house.groups_of_ours(&task).len(), 0);
            assert!(processes(task.groups.first().unwrap()).is_empty());
        }
    });
}

/// A shim that would start nothing makes the driver unhealthy, with what to do, until the right one is there.
///
/// Covers: 4-upgrade
#[test]
fn a_shim_that_is_missing_stale_or_no_program_makes_the_driver_unhealthy() {
    if !can_run("a_shim_that_is_missing_stale_or_no_program_makes_the_driver_unhealthy") {
        return;
    }
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in("/var/tmp").unwrap();
    let shim = directory.path().join("bivouac-shim");
    // As an installation does it: beside, and then in its place.
    let place = |command: &str, mode: &str| {
        let script = format!("{command} >\"$1.new\" && chmod {mode} \"$1.new\" && mv \"$1.new\" \"$1\"");
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-c", &script, "sh"]).arg(&shim).status().unwrap().success());
    };
    let right = format!("cat {}", super::client::shim().display());
    test(async {
        let plugin = plugin_of(&Release::today().with_shim(&shim)).await;
        let sick = async |words: [&str; 2]| {
            let (health, said) = plugin.health().await;
            assert_eq!(health, HealthState::Unhealthy, "{said}");
            assert!(said.contains(shim.to_str().unwrap()), "{said}");
            words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
        };
        let sound = async || assert_eq!(plugin.health().await, (HealthState::Healthy, "Healthy".into()));
        sick(["is missing", "install bivouac-shim"]).await;
        place(&right, "755");
        sound().await;
        place(&right, "644");
        sick(["cannot be run: Permission denied", "with mode 0755"]).await;
        // Of a release that does not know the question: it takes the word for a descriptor, and ends.
        place("printf '#!/bin/sh\\nexit 64\\n'", "755");
        sick(["does not say which version", "of one release"]).await;
        place(&right, "755");
        sound().await;
        // And what is healthy starts tasks.
        let house = House::new();
        let task = house.task();
        let config = task.shell("00000001", "exit 5");
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 5);
        plugin.destroy(&id).await.unwrap();
    });
}
