//! How tasks end, and what users are told about it.

use super::client::Plugin;
use super::house::House;
use super::{can_run, test};
use serde_json::json;
use std::time::Duration;

#[test]
fn lack_of_memory_is_told_while_the_task_goes_on_with_limit_and_peak() {
    if !can_run("lack_of_memory_is_told_while_the_task_goes_on_with_limit_and_peak") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let plugin = Plugin::launch("bivouac", json!({})).await;
        // A child dies of it, the task does not; then the task itself.
        let script = "tail /dev/zero; read line < /local/go; exec tail /dev/zero";
        let go = task.task_dir().join("local/go");
        rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let mut config = task.shell("00000001", script);
        (config.stdout_path, config.stderr_path) = (String::new(), String::new());
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        let told = plugin.events_until("lack of memory").await.pop().unwrap();
        assert_eq!((told.task_id.as_str(), told.alloc_id.as_str()), (id.as_str(), task.alloc.as_str()));
        for piece in ["killed 1 process", "limit 64 MiB", "its peak was 6", "memory_max"] {
            assert!(told.message.contains(piece), "{piece} in {}", told.message);
        }
        std::fs::write(&go, "go on\n").unwrap();
        let ended = plugin.wait(&id).await.unwrap();
        let result = ended.result.unwrap();
        assert!(result.oom_killed && result.exit_code == 137, "{result:?}");
        let again = plugin.events_until("lack of memory").await.pop().unwrap();
        assert!(again.message.contains("killed 1 process"), "one more, not two: {}", again.message);
        plugin.destroy(&id).await.unwrap();
    });
}

#[test]
fn a_first_process_that_cannot_hear_a_signal_is_named_as_the_reason() {
    if !can_run("a_first_process_that_cannot_hear_a_signal_is_named_as_the_reason") {
        return;
    }
    test(async {
        let house = House::new();
        let plugin = Plugin::launch("bivouac", json!({})).await;
        // It ends by itself where it hears the signal: only then may the time be long.
        for (options, grace, expected) in [
            (json!({"command": "/bin/sleep", "args": ["1000"]}), 500, Some("init = true")),
            (json!({"command": "/bin/sleep", "args": ["1000"], "init": true}), 60_000, None),
        ] {
            let task = house.task();
            let mut config = task.config("00000001", &options);
            (config.stdout_path, config.stderr_path) = (String::new(), String::new());
            let id = config.id.clone();
            plugin.start(config).await.unwrap();
            plugin.stop(&id, "SIGTERM", Duration::from_millis(grace)).await.unwrap();
            let ended = plugin.wait(&id).await.unwrap();
            match expected {
                Some(words) => {
                    assert!(ended.err.contains(words) && ended.err.contains("SIGTERM"), "{}", ended.err);
                    assert_eq!(ended.result.unwrap().exit_code, 137);
                }
                None => {
                    let result = ended.result.unwrap();
                    assert_eq!((ended.err.as_str(), result.exit_code, result.signal), ("", 143, 15));
                }
            }
            plugin.destroy(&id).await.unwrap();
            assert_eq!(house.groups_of_ours(&task).len(), 0, "{:?}", house.groups_of_ours(&task));
        }
    });
}
