//! `log_collection = "bivouac"`: what `nomad alloc logs` reads is written by the shim.

use super::client::{Plugin, until};
use super::house::House;
use super::{can_run, test};
use serde_json::json;

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn logs_are_there_at_the_start_go_on_over_restarts_and_survive_the_plugin() {
    if !can_run("logs_are_there_at_the_start_go_on_over_restarts_and_survive_the_plugin") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let own = json!({"log_collection": "bivouac"});
        let mut plugin = Plugin::launch("bivouac", own.clone()).await;
        let capabilities = plugin
            .driver()
            .capabilities(bivouac_plugin::wire::driver::CapabilitiesRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(capabilities.capabilities.unwrap().disable_log_collection);

        let script = "read line < /local/go; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo e >&2";
        let go = task.task_dir().join("local/go");
        rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let config = task.shell("00000001", script);
        let id = config.id.clone();
        let handle = plugin.start(config).await.unwrap();
        assert_eq!(
            names(&task.logs()),
            ["main.stderr.0", "main.stdout.0"],
            "before the task has said anything"
        );
        // Nobody but the shim is left to write.
        plugin.kill();
        std::fs::write(&go, "now\n").unwrap();
        let expected: String = (0..2000).map(|line| format!("line {line}\n")).collect();
        until("the whole log", || task.log("stdout") == expected).await;
        let plugin = Plugin::launch("bivouac", own).await;
        plugin.recover(handle).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 0);
        plugin.destroy(&id).await.unwrap();

        // The next run goes on in the same files, with limits of its own.
        let again =
            json!({"command": "/bin/sh", "args": ["-c", "echo again; echo over >&2"], "log_max_files": 1});
        let config = task.config("00000002", &again);
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 0);
        // Complete when the end is told.
        assert_eq!(task.log("stdout"), format!("{expected}again\n"));
        assert_eq!(task.log("stderr"), "e\nover\n");
        plugin.destroy(&id).await.unwrap();

        // `logs { disabled = true }`: nothing is collected.
        let quiet = house.task();
        let mut config = quiet.shell("00000003", "echo lost");
        (config.stdout_path, config.stderr_path) = ("/dev/null".into(), "/dev/null".into());
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 0);
        assert_eq!(names(&quiet.logs()), [""; 0]);
        plugin.destroy(&id).await.unwrap();
    });
}

/// Covers: CVE-2026-6959
#[test]
fn a_log_directory_that_is_a_link_is_refused() {
    if !can_run("a_log_directory_that_is_a_link_is_refused") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let elsewhere = house.dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::remove_dir(task.logs()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, task.logs()).unwrap();
        let plugin = Plugin::launch("bivouac", json!({"log_collection": "bivouac"})).await;
        let refused = plugin.start(task.shell("00000001", "echo out")).await.unwrap_err();
        assert!(refused.message().contains("alloc/logs"), "{refused}");
        assert_eq!(names(&elsewhere), [""; 0]);
        assert_eq!(house.groups_of_ours(&task), [""; 0].map(std::path::PathBuf::from));
    });
}
