//! Processes that die and come back: the plugin at any moment, its shims, and handles that are not what they say.

use super::client::{Plugin, until};
use super::house::{House, processes};
use super::{can_run, test};
use bivouac_plugin::wire::driver as pb;
use serde_json::json;
use std::time::Duration;

fn own_logs() -> serde_json::Value {
    json!({"log_collection": "bivouac"})
}

/// Covers: W9
#[test]
fn a_plugin_killed_over_a_stop_loses_neither_the_stop_nor_the_exit_code() {
    if !can_run("a_plugin_killed_over_a_stop_loses_neither_the_stop_nor_the_exit_code") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let mut plugin = Plugin::launch("bivouac", own_logs()).await;
        let script = "trap 'echo heard; sleep 1; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let config = task.shell("00000001", script);
        let id = config.id.clone();
        let handle = plugin.start(config).await.unwrap();
        until("the trap is set", || task.log("stdout").contains("ready")).await;
        let mut driver = plugin.driver();
        let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let request = pb::StopTaskRequest { task_id: id.clone(), timeout, signal: "SIGTERM".into() };
        let stopping = tokio::spawn(async move { driver.stop_task(request).await.map(drop) });
        until("it has heard", || task.log("stdout").contains("heard")).await;
        plugin.kill();
        assert!(stopping.await.unwrap().is_err());
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        plugin.recover(handle.clone()).await.unwrap();
        // Again, as the client does.
        plugin.stop(&id, "SIGTERM", Duration::from_secs(60)).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 9);
        assert_eq!(task.log("stdout").matches("ready").count(), 1, "it ran twice");
        plugin.destroy(&id).await.unwrap();
        assert!(plugin.recover(handle).await.is_err(), "what was destroyed is not recovered");
    });
}

#[test]
fn a_start_that_comes_again_after_a_crash_ends_what_the_first_left() {
    if !can_run("a_start_that_comes_again_after_a_crash_ends_what_the_first_left") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let mut plugin = Plugin::launch("bivouac", own_logs()).await;
        let config = task.shell("00000001", "echo run; exec sleep 1000");
        let id = config.id.clone();
        plugin.start(config.clone()).await.unwrap();
        until("the first run's word", || task.log("stdout") == "run\n").await;
        let group = task.groups.first().unwrap();
        let first = processes(group);
        assert_eq!(first.len(), 1);
        // The answer never reached the client.
        plugin.kill();
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        plugin.start(config).await.unwrap();
        until("the second run's word", || task.log("stdout") == "run\nrun\n").await;
        let second = processes(group);
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
        plugin.destroy(&id).await.unwrap();
        assert_eq!(house.groups_of_ours(&task).len(), 0);
    });
}

/// Covers: 4-reboot
#[test]
fn handles_that_are_not_of_a_running_task_of_ours_signal_nobody() {
    if !can_run("handles_that_are_not_of_a_running_task_of_ours_signal_nobody") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        let config = task.shell("00000001", "exec sleep 1000");
        let id = config.id.clone();
        let handle = plugin.start(config).await.unwrap();
        let other = Plugin::launch("bivouac", own_logs()).await;
        let with = |change: &dyn Fn(&mut serde_json::Value)| {
            #[derive(serde::Serialize, serde::Deserialize)]
            struct Saved {
                owner: String,
                #[serde(with = "serde_bytes")]
                engine: Vec<u8>,
            }
            let mut saved: Saved = rmp_serde::from_slice(&handle.driver_state).unwrap();
            let mut engine = rmp_serde::from_slice(&saved.engine).unwrap();
            change(&mut engine);
            saved.engine = rmp_serde::to_vec_named(&engine).unwrap();
            pb::TaskHandle { driver_state: rmp_serde::to_vec_named(&saved).unwrap(), ..handle.clone() }
        };
        // Another boot; a shim and a first process that are somebody else's by now.
        let victim = std::process::Command::new("sleep").arg("1000").spawn();
        let mut victim = victim.unwrap();
        let number = victim.id();
        for forged in [
            with(&|engine| engine["boot_id"] = json!("00000000-0000-0000-0000-000000000000")),
            with(&|engine| engine["shim"]["pid"] = json!(number)),
            with(&|engine| engine["first"]["pid"] = json!(number)),
            with(&|engine| engine["id"] = json!("another/run/1")),
            pb::TaskHandle { driver_state: vec![0xc1; 40], ..handle.clone() },
        ] {
            let refused = other.recover(forged).await.unwrap_err();
            assert!(!refused.message().is_empty());
        }
        // The client's own state, cut off by a loss of power.
        for length in 0..handle.driver_state.len() {
            let driver_state = handle.driver_state.get(..length).unwrap().to_vec();
            let refused = other.recover(pb::TaskHandle { driver_state, ..handle.clone() }).await.unwrap_err();
            assert!(refused.message().contains("is not readable"), "{length} bytes: {refused}");
        }
        assert!(victim.try_wait().unwrap().is_none(), "a stranger was ended");
        assert_eq!(processes(task.groups.first().unwrap()).len(), 1, "the task was ended");
        other.recover(handle).await.unwrap();
        // An id that nobody knows.
        other.destroy("nobody/main/00000000").await.unwrap();
        other.destroy(&id).await.unwrap();
        assert!(victim.try_wait().unwrap().is_none());
        victim.kill().unwrap();
        victim.wait().unwrap();
        // What was destroyed through another plugin is over for this one.
        let ended = plugin.wait(&id).await;
        assert!(ended.is_err() || ended.unwrap().result.unwrap().exit_code != 0);
    });
}

#[test]
fn a_killed_shim_ends_its_task_and_is_told_as_lost() {
    if !can_run("a_killed_shim_ends_its_task_and_is_told_as_lost") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        let config = task.shell("00000001", "exec sleep 1000");
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        let group = task.groups.first().unwrap();
        let first = processes(group).pop().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", first.as_raw_nonzero())).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
        let shim = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        let lost = plugin.wait(&id).await.unwrap();
        assert!(lost.err.contains("shim died"), "{}", lost.err);
        plugin.destroy(&id).await.unwrap();
        until("its processes are gone", || processes(group).is_empty()).await;
        assert_eq!(house.groups_of_ours(&task).len(), 0);
    });
}

/// The built-in driver's handle, and what it left: an executor that is none of this task's, and processes in its group.
#[test]
fn what_the_built_in_driver_left_in_the_tasks_group_is_ended_and_nothing_else() {
    if !can_run("what_the_built_in_driver_left_in_the_tasks_group_is_ended_and_nothing_else") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let plugin = Plugin::launch("exec", own_logs()).await;
        let config = task.shell("00000001", "echo ours");
        let mut orphan = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        for group in &task.groups {
            std::fs::write(group.join("cgroup.procs"), orphan.id().to_string()).unwrap();
        }
        // Its number went to somebody else.
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let state = json!({
            "ReattachConfig": {"Protocol": "grpc", "Network": "unix", "Addr": "/tmp/x", "Pid": stranger.id()},
            "TaskConfig": null, "Pid": orphan.id(), "StartedAt": null,
        });
        let handle = pb::TaskHandle {
            version: 1,
            config: Some(config.clone()),
            state: pb::TaskState::Running.into(),
            driver_state: rmp_serde::to_vec_named(&state).unwrap(),
        };
        let refused = plugin.recover(handle.clone()).await.unwrap_err();
        assert!(refused.message().contains("built-in driver"), "{refused}");
        plugin.destroy(&config.id).await.unwrap();
        until("the orphan has ended", || orphan.try_wait().unwrap().is_some()).await;
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        assert!(task.groups.iter().all(|group| group.exists()));

        // And when the client starts the task at once instead.
        let mut orphan = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        for group in &task.groups {
            std::fs::write(group.join("cgroup.procs"), orphan.id().to_string()).unwrap();
        }
        plugin.recover(handle).await.unwrap_err();
        let config = task.shell("00000002", "echo ours");
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        until("the orphan has ended", || orphan.try_wait().unwrap().is_some()).await;
        assert_eq!(plugin.exit_code(&id).await, 0);
        assert_eq!(task.log("stdout"), "ours\n");
        plugin.destroy(&id).await.unwrap();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}
