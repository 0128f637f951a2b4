//! Base service and the life of a task, in order and out of order.

use super::{Served, pb, served, test};
use bivouac_plugin::face::Purpose;
use bivouac_plugin::wire::{base, hclspec};
use serde_json::json;
use std::time::{Duration, Instant};
use tonic::Code;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn stop(id: &str, signal: &str, timeout: i64) -> pb::StopTaskRequest {
    pb::StopTaskRequest { task_id: id.into(), timeout: seconds(timeout), signal: signal.into() }
}

async fn configure(served: &Served, config: serde_json::Value, serve: bool) -> Result<(), tonic::Status> {
    let request = base::SetConfigRequest {
        msgpack_config: rmp_serde::to_vec_named(&config).expect("a configuration"),
        nomad_config: serve.then(|| base::NomadConfig { driver: Some(base::NomadDriverConfig::default()) }),
        plugin_api_version: "v0.1.0".into(),
    };
    served.base().set_config(request).await.map(drop)
}

#[test]
fn the_plugin_says_who_it_is() {
    test(async {
        let served = served().await;
        let info = served.base().plugin_info(base::PluginInfoRequest {}).await.expect("info").into_inner();
        assert_eq!((info.name.as_str(), info.r#type), ("fake", i32::from(base::PluginType::Driver)));
        assert_eq!(info.plugin_api_versions, ["v0.1.0"]);
        let version: Vec<u32> =
            info.plugin_version.split('.').map(|n| n.parse().expect("a number")).collect();
        assert!(version >= vec![0, 1, 0], "{version:?} would give way to the built-in driver");
        let schema =
            served.base().config_schema(base::ConfigSchemaRequest {}).await.expect("a schema").into_inner();
        let Some(hclspec::spec::Block::Object(object)) = schema.spec.expect("a spec").block else {
            panic!("an object")
        };
        assert!(object.attributes.contains_key("greeting") && object.attributes.contains_key("fs_isolation"));
    });
}

#[test]
fn a_configuration_may_come_often_and_empty() {
    test(async {
        let served = served().await;
        served.base().set_config(base::SetConfigRequest::default()).await.expect("no bytes at all");
        configure(&served, json!({"greeting": null}), false).await.expect("a check");
        configure(&served, json!({"fs_isolation": "chroot", "log_collection": "bivouac"}), true)
            .await
            .expect("real");
        {
            let taken = served.record.configured.lock().expect("a lock");
            let purposes: Vec<bool> = taken.iter().map(|(_, purpose)| *purpose == Purpose::Check).collect();
            assert_eq!(purposes, [true, true, false]);
            assert!(taken.iter().all(|(values, _)| values.text("greeting") == Some("hi")));
            assert!(
                taken.iter().all(|(values, _)| values.text("fs_isolation").is_none()),
                "the face's own stay here"
            );
        }
        let said =
            served.driver().capabilities(pb::CapabilitiesRequest {}).await.expect("an answer").into_inner();
        let said = said.capabilities.expect("capabilities");
        assert_eq!(said.fs_isolation, i32::from(pb::driver_capabilities::FsIsolation::Chroot));
        assert!(said.disable_log_collection && said.send_signals && said.exec && !said.must_create_network);
        assert_eq!(said.network_isolation_modes, [0, 1]);
    });
}

#[test]
fn a_bad_configuration_is_refused_in_words_and_the_old_one_stays() {
    test(async {
        let served = served().await;
        for (config, words) in [
            (json!({"greeting": "rude"}), "greeting must be polite, got \"rude\""),
            (json!({"greeting": 3}), "option greeting: expected text, got 3"),
            (json!({"fs_isolation": "none"}), "fs_isolation must be \"image\" or \"chroot\", got \"none\""),
            (json!({"no_such": 1}), "there is no option no_such"),
        ] {
            let status = configure(&served, config, true).await.expect_err(words);
            assert_eq!((status.code(), status.message()), (Code::Unknown, words));
        }
        let version = base::SetConfigRequest { plugin_api_version: "v9".into(), ..Default::default() };
        assert!(served.base().set_config(version).await.is_err());
        let said =
            served.driver().capabilities(pb::CapabilitiesRequest {}).await.expect("an answer").into_inner();
        assert_eq!(said.capabilities.expect("capabilities").fs_isolation, 2);
    });
}

#[test]
fn fingerprints_begin_at_once_and_stay_open() {
    test(async {
        let served = served().await;
        let mut stream =
            served.driver().fingerprint(pb::FingerprintRequest {}).await.expect("a stream").into_inner();
        let first = stream.message().await.expect("a message").expect("a fingerprint");
        assert_eq!((first.health, first.health_description.as_str()), (2, "Healthy"));
        let names: Vec<&str> = first.attributes.keys().map(String::as_str).collect();
        assert_eq!(names, ["driver.fake", "driver.fake.cores", "driver.fake.fake"]);
        let second = tokio::time::timeout(Duration::from_millis(300), stream.message()).await;
        assert!(second.is_err(), "the stream ended or hurried: {second:?}");
    });
}

/// Covers: D12
#[test]
fn a_task_lives_as_the_client_drives_it() {
    test(async {
        let served = served().await;
        served.driver().init(pb::InitRequest {}).await.expect("init");
        let handle = served.start("a/main/1", "exit 7").await;
        assert!(handle.version >= 1);
        assert_eq!(handle.config.as_ref().map(|c| (c.id.as_str(), c.env.len())), Some(("a/main/1", 0)));
        let ended = served.wait("a/main/1").await.expect("an end");
        assert_eq!(ended.result.map(|r| (r.exit_code, r.signal)), Some((7, 0)));
        assert_eq!(served.wait("a/main/1").await.expect("again"), ended, "the result stays");
        let request = pb::InspectTaskRequest { task_id: "a/main/1".into() };
        let seen = served.driver().inspect_task(request).await.expect("an answer").into_inner();
        let task = seen.task.expect("a task");
        assert_eq!((task.state, task.name.as_str()), (i32::from(pb::TaskState::Exited), "main"));
        assert!(task.started_at.is_some() && task.completed_at.is_some() && task.result.is_some());
        served.driver().stop_task(stop("a/main/1", "SIGTERM", 5)).await.expect("a stop after the end");
        served.destroy("a/main/1").await;
        served.destroy("a/main/1").await;
        assert_eq!(served.wait("a/main/1").await.expect_err("gone").message(), "task not found for given id");
    });
}

#[test]
fn a_running_task_shows_when_it_has_not_ended() {
    test(async {
        let served = served().await;
        served.start("run", "sleep 60").await;
        let request = pb::InspectTaskRequest { task_id: "run".into() };
        let task = served
            .driver()
            .inspect_task(request)
            .await
            .expect("an answer")
            .into_inner()
            .task
            .expect("a task");
        assert_eq!(task.state, i32::from(pb::TaskState::Running));
        assert_eq!(task.completed_at.map(|t| t.seconds), Some(-62_135_596_800));
        assert_eq!(task.result, Some(pb::ExitResult::default()));
        served.destroy("run").await;
    });
}

#[test]
fn what_is_unknown_or_twice_does_no_harm() {
    test(async {
        let served = served().await;
        let mut driver = served.driver();
        driver.stop_task(stop("nobody", "SIGTERM", 1)).await.expect("stop of nobody");
        served.destroy("nobody").await;
        for status in [
            served.wait("nobody").await.map(drop),
            driver.inspect_task(pb::InspectTaskRequest { task_id: "nobody".into() }).await.map(drop),
            driver
                .signal_task(pb::SignalTaskRequest { task_id: "nobody".into(), signal: "SIGHUP".into() })
                .await
                .map(drop),
            driver
                .exec_task(pb::ExecTaskRequest { task_id: "nobody".into(), ..Default::default() })
                .await
                .map(drop),
        ] {
            let status = status.expect_err("nobody is there");
            assert_eq!((status.code(), status.message()), (Code::Unknown, "task not found for given id"));
        }
        served.start("twice", "sleep 60").await;
        let again = pb::StartTaskRequest { task: Some(served.task("twice", "true")) };
        let status = driver.start_task(again).await.expect_err("a second start");
        assert_eq!(status.message(), "task with ID \"twice\" already started");
        let request = pb::SignalTaskRequest { task_id: "twice".into(), signal: "SIGNONE".into() };
        let status = driver.signal_task(request).await.expect_err("no such signal");
        assert!(status.message().contains("\"SIGNONE\""), "{status:?}");
        let request = pb::DestroyTaskRequest { task_id: "twice".into(), force: false };
        let status = driver.destroy_task(request).await.expect_err("a running task");
        assert_eq!(status.message(), "cannot destroy running task");
        served.destroy("twice").await;
        served.start("twice", "true").await;
        for network in [
            driver.create_network(pb::CreateNetworkRequest::default()).await.map(drop),
            driver.destroy_network(pb::DestroyNetworkRequest::default()).await.map(drop),
        ] {
            assert_eq!(network.expect_err("not ours").code(), Code::Unimplemented);
        }
    });
}

#[test]
fn stop_signals_first_and_kills_in_time() {
    test(async {
        let served = served().await;
        served.start("polite", "trap 'exit 5' TERM; while true; do sleep 0.02; done").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        served.driver().stop_task(stop("polite", "SIGTERM", 10)).await.expect("a stop");
        assert_eq!(served.wait("polite").await.expect("an end").result.map(|r| r.exit_code), Some(5));

        served.start("deaf", "trap '' TERM INT; while true; do sleep 0.02; done").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        served.driver().stop_task(stop("deaf", "not-a-signal", 1)).await.expect("a stop");
        assert!(began.elapsed() >= Duration::from_millis(900) && began.elapsed() < Duration::from_secs(30));
        let result = served.wait("deaf").await.expect("an end").result.expect("a result");
        assert_eq!((result.exit_code, result.signal), (137, 9));
    });
}

#[test]
fn a_failed_start_leaves_nothing_and_says_whether_to_try_again() {
    test(async {
        let served = served().await;
        for (command, recoverable) in [("fail", 0_u8), ("fail-for-now", 1)] {
            let config = rmp_serde::to_vec_named(&json!({"command": command})).expect("a configuration");
            let task = pb::TaskConfig { msgpack_driver_config: config, ..served.task("f", "") };
            for _ in 0..2 {
                let request = pb::StartTaskRequest { task: Some(task.clone()) };
                let status = served.driver().start_task(request).await.expect_err("a failure");
                assert_eq!(status.code(), Code::FailedPrecondition);
                let flag: &[u8] = if recoverable == 1 { &[0x08, 0x01] } else { &[] };
                assert!(status.details().ends_with(flag), "{:?}", status.details());
            }
        }
        let task = pb::TaskConfig { msgpack_driver_config: vec![0x80], ..served.task("g", "") };
        let request = pb::StartTaskRequest { task: Some(task) };
        let status = served.driver().start_task(request).await.expect_err("no command");
        assert_eq!(status.message(), "failed driver config validation: option command is required");
        served.start("g", "true").await;
    });
}

#[test]
fn a_task_is_found_again_by_a_new_process() {
    test(async {
        let first = served().await;
        let handle = first.start("r", "sleep 60").await;
        let second = served().await;
        let request = pb::RecoverTaskRequest { task_id: String::new(), handle: Some(handle.clone()) };
        for _ in 0..2 {
            second.driver().recover_task(request.clone()).await.expect("a recovery");
        }
        let waiting = second.wait("r");
        first.destroy("r").await;
        assert_eq!(waiting.await.expect("an end").result.map(|r| r.exit_code), Some(3));
        let third = served().await;
        let status = third.driver().recover_task(request).await.expect_err("a task that is gone");
        assert_eq!(status.message(), "the task is gone");
        third.destroy("r").await;
    });
}

#[test]
fn the_built_in_drivers_task_is_ended_before_ours_starts() {
    test(async {
        let served = served().await;
        let state = json!({"ReattachConfig": {"Pid": 4711}, "Pid": 4712, "StartedAt": 0});
        let foreign = |id: &str| pb::RecoverTaskRequest {
            task_id: String::new(),
            handle: Some(pb::TaskHandle {
                version: 1,
                config: Some(served.task(id, "")),
                state: 1,
                driver_state: rmp_serde::to_vec_named(&state).expect("a state"),
            }),
        };
        let status = served.driver().recover_task(foreign("old-1")).await.expect_err("not ours");
        assert!(status.message().contains("built-in driver"), "{status:?}");
        served.destroy("old-1").await;
        served.driver().recover_task(foreign("old-2")).await.expect_err("not ours");
        served.start("new", "true").await;
        let ended: Vec<String> = served
            .record
            .ended
            .lock()
            .expect("a lock")
            .iter()
            .map(|foreign| foreign.task_id.clone())
            .collect();
        assert_eq!(ended, ["old-1", "old-2"]);
    });
}

#[test]
fn a_thousand_callers_wait_for_one_end() {
    test(async {
        let served = served().await;
        served.start("w", "sleep 60").await;
        let waits: Vec<_> = (0..1000)
            .map(|_| {
                let mut driver = served.driver();
                tokio::spawn(
                    async move { driver.wait_task(pb::WaitTaskRequest { task_id: "w".into() }).await },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        // All other calls still go through on the same connection.
        served.driver().stop_task(stop("w", "SIGKILL", 0)).await.expect("a stop");
        for wait in waits {
            let result =
                wait.await.expect("no panic").expect("an end").into_inner().result.expect("a result");
            assert_eq!((result.exit_code, result.signal), (137, 9));
        }
    });
}

/// Covers: E9
#[test]
fn statistics_come_until_the_end() {
    test(async {
        let served = served().await;
        served.start("s", "sleep 60").await;
        let request = |id: &str| pb::TaskStatsRequest {
            task_id: id.into(),
            collection_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        };
        let mut stream = served.driver().task_stats(request("s")).await.expect("a stream").into_inner();
        for _ in 0..3 {
            let sample = stream.message().await.expect("a message").expect("a sample").stats.expect("stats");
            assert!(sample.timestamp.is_some());
            assert_eq!(sample.agg_resource_usage.expect("a sum").memory.expect("memory").rss, 4096);
        }
        served.destroy("s").await;
        while stream.message().await.expect("no error").is_some() {}
        let mut none = served.driver().task_stats(request("nobody")).await.expect("a stream").into_inner();
        assert_eq!(none.message().await.expect("no error"), None);
    });
}

/// Covers: X51
#[test]
fn events_reach_every_listener() {
    test(async {
        let served = served().await;
        served.start("e/main/1", "true").await;
        let mut first =
            served.driver().task_events(pb::TaskEventsRequest {}).await.expect("a stream").into_inner();
        let early = first.message().await.expect("a message").expect("an event");
        assert_eq!((early.task_id.as_str(), early.alloc_id.as_str()), ("e/main/1", "a"));
        assert!(early.timestamp.is_some() && early.message.starts_with("Runs as process"));
        let mut second =
            served.driver().task_events(pb::TaskEventsRequest {}).await.expect("a stream").into_inner();
        served.start("e/main/2", "true").await;
        for stream in [&mut first, &mut second] {
            let event = stream.message().await.expect("a message").expect("an event");
            assert_eq!(event.task_id, "e/main/2");
        }
    });
}
