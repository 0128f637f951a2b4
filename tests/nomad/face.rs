//! What the client sends and how it takes our answers; the engine behind the face is a fake.

use crate::agent::{Agent, Plugin, SCRATCH, Setup, program};
use crate::waiting::{A_WHILE, client_status, wait_until};
use crate::{api, fake_plugin};
use std::path::{Path, PathBuf};

pub(crate) fn job(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/nomad/jobs").join(format!("{name}.nomad.hcl"))
}

/// An agent whose only driver of ours is `fake`, and the file in which that writes what it was asked.
fn start(test: &str) -> Option<(Agent, PathBuf)> {
    let nomad = match program() {
        Ok(nomad) => nomad,
        Err(why) => {
            println!("SKIPPED: {test}: {why}");
            return None;
        }
    };
    let diary = Path::new(SCRATCH).join(format!("bivouac-test-diary-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&diary);
    let plugin = fake_plugin();
    let block = "args = [\"--name\", \"fake\"]\nconfig {\n  greeting = \"good day\"\n}";
    let plugins = [Plugin { file: "pretender", program: &plugin, block }];
    let diary_text = diary.to_str().expect("a plain path").to_owned();
    let agent =
        Agent::start(&nomad, &plugins, "fake", &[("FAKE_DIARY", &diary_text), ("VAULT_TOKEN", "hvs.agent")]);
    Some((agent, diary))
}

pub(crate) fn run(agent: &Agent, name: &str) {
    let path = job(name);
    let output = agent.nomad(&["job", "run", "-detach", path.to_str().expect("a plain path")]);
    assert_eq!(output.code, 0, "{output:?}");
}

/// The last line of the diary that is about `what`.
pub(crate) fn diary_line(diary: &Path, what: &str) -> Option<String> {
    let text = std::fs::read_to_string(diary).unwrap_or_default();
    text.lines().rfind(|line| line.starts_with(&format!("{what}: "))).map(str::to_owned)
}

#[test]
fn a_batch_job_runs_and_its_exit_code_arrives() {
    let Some((agent, diary)) = start("batch") else { return };
    let node = agent.node().expect("a node");
    let attributes = &node["Attributes"];
    assert_eq!(attributes["driver.fake.cores"], "2", "{attributes}");
    assert_eq!(node["Drivers"]["fake"]["HealthDescription"], "Healthy");
    // The agent tries a configuration out before it uses it, and says nothing about the host then.
    let text = std::fs::read_to_string(&diary).expect("the diary");
    let (checked, served): (Vec<&str>, Vec<&str>) =
        text.lines().filter(|line| line.starts_with("configure: ")).partition(|line| line.contains("Check"));
    assert_eq!((checked.len(), served.len()), (2, 1), "{text}");
    assert!(served[0].contains("good day") && served[0].contains("total_mhz"), "{served:?}");

    // Without this the client leaves memory_max out.
    let oversubscribe = serde_json::json!({"MemoryOversubscriptionEnabled": true});
    agent
        .api
        .put("/v1/operator/scheduler/configuration", &oversubscribe)
        .expect("a scheduler that oversubscribes");
    run(&agent, "batch");
    let allocation = agent.api.wait_for_allocation("batch", A_WHILE, client_status("failed"));
    let events = api::events(Some(&allocation));
    assert!(events.contains("Exit Code: 7"), "{events}");
    assert!(events.contains("Runs as process"), "{events}");
    let started = diary_line(&diary, "start").expect("a start");
    for piece in [
        "\"LATER\": \"/opt/bin:/",
        "\"GREETING\": \"hello\"",
        "\"NOMAD_ALLOC_DIR\": \"/alloc\"",
        "\"depth\": Count(3)",
        "\"share\": Number(0.1)",
        "\"nofile\": \"1024\"",
        "memory_mib: 16, memory_max: Mib(32)",
        ".main.stdout.fifo",
    ] {
        assert!(started.contains(piece), "{piece} in {started}");
    }
    for secret in ["hvs.agent", "MAGIC_COOKIE", "PLUGIN_MIN_PORT"] {
        assert!(!started.contains(secret), "{secret} in {started}");
    }
    let id = allocation["ID"].as_str().expect("an id");
    assert_eq!(agent.nomad(&["alloc", "logs", id]).stdout, "out hello\n");
    assert_eq!(agent.nomad(&["alloc", "logs", "-stderr", id]).stdout, "err\n");
    wait_until("the task's destruction", || diary_line(&diary, "destroy").is_some());
    let _ = std::fs::remove_file(diary);
}

#[test]
fn a_refused_configuration_stops_the_agent_with_our_words() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: refused: {why}")) else { return };
    let plugin = fake_plugin();
    let block = "config {\n  greeting = \"rude\"\n}";
    let plugins = [Plugin { file: "fake", program: &plugin, block }];
    let mut agent = Agent::prepare(&nomad, Setup { plugins: &plugins, ..Setup::default() });
    agent.launch();
    let said = agent.wait_for_end();
    assert!(said.contains("greeting must be polite, got \"rude\""), "{said}");
}

#[test]
fn a_task_is_signalled_entered_stopped_and_survives_agent_and_plugin() {
    let Some((mut agent, diary)) = start("life") else { return };
    run(&agent, "sleep");
    let allocation = agent.api.wait_for_allocation("sleep", A_WHILE, client_status("running"));
    let id = allocation["ID"].as_str().expect("an id").to_owned();

    let echoed = agent.nomad(&[
        "alloc",
        "exec",
        "-i=false",
        "-t=false",
        &id,
        "sh",
        "-c",
        "echo o; echo e >&2; exit 4",
    ]);
    assert_eq!((echoed.code, echoed.stdout.as_str(), echoed.stderr.as_str()), (4, "o\n", "e\n"));
    let long = "line\n".repeat(20_000);
    let copied = agent.nomad_with_input(&["alloc", "exec", "-i", "-t=false", &id, "cat"], &long);
    assert_eq!((copied.code, copied.stdout.len()), (0, long.len()), "{}", copied.stderr);
    let missing = agent.nomad(&["alloc", "exec", "-t=false", &id, "/no/such/command"]);
    assert!(missing.code != 0 && missing.stderr.contains("/no/such/command"), "{missing:?}");

    assert_eq!(agent.nomad(&["alloc", "signal", "-s", "SIGUSR1", &id]).code, 0);
    wait_until("the signal's echo", || agent.nomad(&["alloc", "logs", &id]).stdout == "usr1\n");

    // The same process goes on: through an orderly restart, a killed agent, and a killed plugin.
    let pid = diary_line(&diary, "start").map(|_| task_pid(&agent)).expect("a start");
    agent.stop();
    assert!(agent.house.alive(pid), "an orderly end of the agent ended the task");
    agent.launch();
    agent.wait_for_driver("fake");
    wait_until("the recovery", || diary_line(&diary, "recover").is_some());
    assert!(agent.house.alive(pid));
    let plugins = plugin_pids(&agent);
    agent.kill();
    assert!(agent.house.alive(pid));
    agent.launch();
    agent.wait_for_driver("fake");
    assert_eq!(plugin_pids(&agent), plugins, "the plugin is found again after a kill of the agent");
    let again = agent.nomad(&["alloc", "exec", "-t=false", &id, "echo", "again"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "again\n"), "{}", again.stderr);
    for plugin in plugins {
        agent.house.signal("KILL", plugin);
    }
    wait_until("a new plugin", || agent.nomad(&["alloc", "exec", "-t=false", &id, "true"]).code == 0);
    assert!(agent.house.alive(pid), "a killed plugin ended the task");

    assert_eq!(agent.nomad(&["job", "stop", "-detach", "sleep"]).code, 0);
    let ended = agent.api.wait_for_allocation("sleep", A_WHILE, client_status("complete"));
    let events = api::events(Some(&ended));
    assert!(!events.contains("Restarting"), "{events}");
    wait_until("the task's end", || !agent.house.alive(pid));
    let stopped = diary_line(&diary, "stop").expect("a stop");
    assert!(stopped.contains("Signal(15)") && stopped.contains("5s"), "{stopped}");
    let _ = std::fs::remove_file(diary);
}

/// The plugin's processes under this agent.
fn plugin_pids(agent: &Agent) -> Vec<i32> {
    agent.house.processes(agent.dir.join("plugins").to_str().expect("a plain path"))
}

/// The first process of the only task, which its event tells.
fn task_pid(agent: &Agent) -> i32 {
    let allocation =
        agent.api.wait_for_allocation("sleep", A_WHILE, |a| api::events(Some(a)).contains("process "));
    let events = api::events(Some(&allocation));
    let after = events.split("Runs as process ").nth(1).expect("the event");
    after.split(|c: char| !c.is_ascii_digit()).next().and_then(|pid| pid.parse().ok()).expect("a pid")
}
