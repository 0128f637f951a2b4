//! Who owns the name `exec`: taking it over from the built-in driver, and both names at once.

use crate::agent::{Agent, Plugin, SCRATCH, program};
use crate::face::{diary_line, run};
use crate::waiting::{A_WHILE, client_status, wait_until};
use crate::{api, fake_plugin};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn diary(test: &str) -> PathBuf {
    let diary = Path::new(SCRATCH).join(format!("bivouac-test-diary-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&diary);
    diary
}

/// The descendants of this test's agent that sleep in the job's loop, as the built-in driver runs it.
fn executors(agent: &Agent) -> Vec<i32> {
    let ours = agent.house.processes(agent.dir.to_str().expect("a plain path"));
    ours.into_iter().filter(|pid| agent.house.command_line(*pid).contains("\0executor\0")).collect()
}

#[test]
fn the_name_exec_is_taken_over_and_the_built_in_drivers_task_recognised() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: owner: {why}")) else { return };
    let diary = diary("owner");
    let text = diary.to_str().expect("a plain path").to_owned();
    let mut agent = Agent::start(&nomad, &[], "exec", &[("FAKE_DIARY", &text)]);
    run(&agent, "exec");
    let first = agent.api.wait_for_allocation("exec", A_WHILE, client_status("running"));
    let before = executors(&agent);
    assert_eq!(before.len(), 1, "the built-in driver's executor");
    agent.stop();
    assert!(before.iter().all(|pid| agent.house.alive(*pid)));

    let plugin = fake_plugin();
    agent.configure(&[Plugin { file: "exec", program: &plugin, block: "" }]);
    agent.launch();
    // The server still knows the node as it was.
    let ours =
        |agent: &Agent| agent.node().is_some_and(|node| node["Attributes"]["driver.exec.fake"] == "true");
    wait_until("our fingerprint", || ours(&agent));
    assert_eq!(agent.node().expect("a node")["Attributes"]["driver.exec"], "1");
    wait_until("a new start", || diary_line(&diary, "start").is_some());
    let ended = diary_line(&diary, "end_foreign").expect("the foreign task is known");
    assert!(ended.contains(&format!("executor: Some({})", before[0])), "{ended} {before:?}");
    assert!(!ended.contains("pid: None"), "{ended}");
    let allocation =
        agent.api.wait_for_allocation("exec", A_WHILE, |a| api::events(Some(a)).contains("Runs as"));
    assert_eq!(allocation["ID"], first["ID"], "the same allocation goes on");
    assert_eq!(agent.nomad(&["job", "stop", "-detach", "exec"]).code, 0);
    agent.api.wait_for_allocation("exec", A_WHILE, client_status("complete"));
    let _ = std::fs::remove_file(diary);
}

#[test]
fn both_names_stand_beside_each_other_and_logs_can_be_ours() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: names: {why}")) else { return };
    let diary = diary("names");
    let text = diary.to_str().expect("a plain path").to_owned();
    let plugin = fake_plugin();
    let own = "config {\n  log_collection = \"bivouac\"\n  fs_isolation = \"chroot\"\n  log_max_files = 3\n}";
    let plugins = [
        Plugin { file: "exec", program: &plugin, block: "" },
        Plugin { file: "fake", program: &plugin, block: own },
    ];
    let mut agent = Agent::start(&nomad, &plugins, "exec", &[("FAKE_DIARY", &text)]);
    let node = agent.wait_for_driver("fake");
    assert_eq!(node["Attributes"]["driver.exec.fake"], "true");
    run(&agent, "sleep");
    let allocation = agent.api.wait_for_allocation("sleep", A_WHILE, client_status("running"));
    let started = diary_line(&diary, "start").expect("a start");
    assert!(started.contains("stdout: Collect") && started.contains("max_files: 3"), "{started}");
    let id = allocation["ID"].as_str().expect("an id");
    let logs = agent.dir.join("alloc").join(id).join("alloc/logs");
    assert_eq!(std::fs::read_dir(&logs).expect("the logs").count(), 0, "a log collector was started");
    // Under chroot the client puts its own environment in.
    assert!(started.contains("\"PATH\""), "{started}");
    let _: Value = agent.api.get(&format!("/v1/allocation/{id}")).expect("an allocation");
    assert_eq!(agent.nomad(&["job", "stop", "-detach", "sleep"]).code, 0);
    agent.api.wait_for_allocation("sleep", A_WHILE, client_status("complete"));
    let _ = std::fs::remove_file(diary);
}
