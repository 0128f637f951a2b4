//! The whole life of one task: what a client does with every one of them, and what an operator sees.

use super::client::{Plugin, until};
use super::house::{House, processes};
use super::{can_run, test};
use bivouac_plugin::wire::driver as pb;
use serde_json::json;
use std::time::Duration;

/// One sample of a running task.
async fn sample(plugin: &Plugin, id: &str) -> pb::TaskStats {
    let collection_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = pb::TaskStatsRequest { task_id: id.into(), collection_interval };
    let mut samples = plugin.driver().task_stats(request).await.unwrap().into_inner();
    samples.message().await.unwrap().unwrap().stats.unwrap()
}

#[test]
fn a_task_is_started_entered_measured_killed_in_part_recovered_and_stopped() {
    if !can_run("a_task_is_started_entered_measured_killed_in_part_recovered_and_stopped") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let own = || Plugin::launch("bivouac", json!({"log_collection": "bivouac"}));
        let mut plugin = own().await;
        let script = "trap 'echo heard; exit 9' TERM; echo ready; read -r _ < /local/go; tail /dev/zero; echo on; \
                      while :; do sleep 0.05; done";
        let go = task.task_dir().join("local/go");
        rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let config = task.shell("00000001", script);
        let id = config.id.clone();
        let handle = plugin.start(config).await.unwrap();
        until("the trap is set", || task.log("stdout").contains("ready")).await;
        // In the groups that the client made, and nothing else is.
        let first = processes(task.groups.first().unwrap());
        assert_eq!(first.len(), 1);
        assert!(task.groups.iter().all(|group| processes(group) == first));

        let script = format!("cat /proc/1/comm; grep -q {} /proc/self/cgroup && exit 3", task.alloc);
        assert_eq!(plugin.exec(&id, &["sh", "-c", &script]).await, ("sh\n".into(), 3));
        let stats = sample(&plugin, &id).await;
        let memory = stats.agg_resource_usage.unwrap().memory.unwrap();
        assert!(memory.rss > 0 && memory.usage > memory.rss, "{memory:?}");
        let number = first.first().unwrap().as_raw_nonzero().to_string();
        assert!(stats.resource_usage_by_pid.contains_key(&number), "{:?}", stats.resource_usage_by_pid);

        plugin.kill();
        let plugin = own().await;
        plugin.recover(handle).await.unwrap();
        std::fs::write(&go, "\n").unwrap();
        let told = plugin.events_until("lack of memory").await.pop().unwrap();
        assert!(told.message.contains("limit 64 MiB"), "{}", told.message);
        until("it goes on", || task.log("stdout").contains("on\n")).await;
        plugin.stop(&id, "SIGTERM", Duration::from_secs(100)).await.unwrap();
        let ended = plugin.wait(&id).await.unwrap().result.unwrap();
        assert_eq!((ended.exit_code, ended.signal, ended.oom_killed), (9, 0, true));
        assert_eq!(task.log("stdout"), "ready\non\nheard\n");
        plugin.destroy(&id).await.unwrap();
        assert_eq!(house.groups_of_ours(&task).len(), 0);
    });
}
