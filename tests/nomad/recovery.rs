//! Agent and plugin are stopped, killed and started again; tasks do not notice.

use crate::agent::{Agent, Plugin, deadline, program};
use crate::job::{Job, SECOND};
use crate::real_plugin;
use crate::waiting::{A_WHILE, wait_until};
use serde_json::{Value, json};
use std::path::Path;

/// An agent with our driver under Nomad's logs and under its own.
fn start(nomad: &Path) -> Agent {
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugins = [
        Plugin { file: "bivouac", program: &plugin, block: "" },
        Plugin { file: "bivouac-logs", program: &plugin, block: "config { log_collection = \"bivouac\" }" },
    ];
    let mut agent = Agent::start(nomad, &plugins, "bivouac", &[("BIVOUAC_SHIM", &shim)]);
    agent.wait_for_driver("bivouac-logs");
    agent
}

fn plugins(agent: &Agent) -> Vec<i32> {
    let mut pids = agent.house.processes(agent.dir.join("plugins").to_str().expect("a plain path"));
    pids.sort_unstable();
    pids
}

fn kill_plugins(agent: &Agent) {
    plugins(agent).into_iter().for_each(|pid| agent.house.signal("KILL", pid));
}

fn restart(agent: &mut Agent) {
    agent.launch();
    agent.wait_for_driver("bivouac");
    agent.wait_for_driver("bivouac-logs");
}

/// Covers: E6, W9
#[test]
fn a_task_goes_on_and_its_driver_works_after_kills_of_agent_and_plugin() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: recovery: {why}")) else { return };
    let mut agent = start(&nomad);
    let script = "trap 'sleep 3; exit 5' TERM; echo up; while :; do sleep 0.1; done";
    let service = |name| {
        Job::service(name, "bivouac", &["/bin/sh", "-c", script])
            .task("KillSignal", json!("SIGTERM"))
            .task("KillTimeout", json!(25 * SECOND))
    };
    let (id, first) = {
        let run = service("goes-on").start(&agent).keep();
        run.stdout_is("up\n");
        (run.id.clone(), run.exec(&["cat", "/proc/1/stat"]).stdout)
    };
    let started = |stat: &str| stat.split(' ').nth(21).map(str::to_owned);

    let before = plugins(&agent);
    assert_eq!(before.len(), 2);
    agent.kill();
    restart(&mut agent);
    assert_eq!(plugins(&agent), before, "the plugin is found again after a kill of the agent");
    {
        let run = agent.found("goes-on-bivouac").keep();
        assert_eq!(
            (run.id.as_str(), started(&run.exec(&["cat", "/proc/1/stat"]).stdout)),
            (id.as_str(), started(&first))
        );
        let other = Job::batch("after-a-kill", "bivouac", &["echo", "started"]).finish(&agent);
        other.stdout_is("started\n");
        let other = Job::service("after-a-kill-too", "bivouac", &["sleep", "600"])
            .task("KillTimeout", json!(0))
            .start(&agent);
        other.stop();
        other.nothing_left();
    }
    agent.stop();
    restart(&mut agent);
    kill_plugins(&agent);
    let run = agent.found("goes-on-bivouac");
    wait_until("a way in again", || run.exec(&["true"]).code == 0);
    assert_eq!(started(&run.exec(&["cat", "/proc/1/stat"]).stdout), started(&first));

    // Killed in the middle of a stop: the task ends on its own signal, and its code is not lost.
    assert_eq!(agent.nomad(&["job", "stop", "-detach", &run.job]).code, 0);
    wait_until("the stop", || run.event_types("main").contains(&"Killing".to_owned()));
    kill_plugins(&agent);
    agent.api.wait_for_allocation(&run.job, A_WHILE, |allocation| allocation["ClientStatus"] == "complete");
    assert_eq!(run.code(), 5, "{}", run.events());
    assert_eq!(run.stdout(), "up\n", "it ran twice");
    run.nothing_left();
}

/// How many tasks of each kind.
fn crowd() -> u64 {
    if std::env::var_os("BIVOUAC_NIGHTLY").is_some() { 50 } else { 10 }
}

const LINES: u32 = 10_000;

/// Covers: W3
#[test]
fn a_crowd_loses_no_line_and_no_exit_code() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: crowd: {why}")) else { return };
    let mut agent = start(&nomad);
    let script = format!(
        "n=0; while [ $n -lt {LINES} ]; do echo $n; n=$((n+1)); [ $((n % 400)) != 0 ] || sleep 0.6; done; exit $((NOMAD_ALLOC_INDEX % 7))"
    );
    for driver in ["bivouac", "bivouac-logs"] {
        Job::batch("crowd", driver, &["/bin/sh", "-c", &script])
            .group("Count", json!(crowd()))
            .task("Resources", json!({"CPU": 20, "MemoryMB": 10}))
            .send(&agent);
    }
    let allocations = |agent: &Agent| -> Vec<Value> {
        let of = |job| agent.api.get(&format!("/v1/job/crowd-{job}/allocations")).ok()?.as_array().cloned();
        ["bivouac", "bivouac-logs"].into_iter().filter_map(of).flatten().collect()
    };
    let all = usize::try_from(2 * crowd()).expect("a number");
    let started =
        |agent: &Agent| allocations(agent).iter().filter(|one| one["ClientStatus"] == "running").count();
    wait_until("all of them run", || started(&agent) == all);

    agent.stop();
    restart(&mut agent);
    kill_plugins(&agent);
    agent.kill();
    restart(&mut agent);
    kill_plugins(&agent);
    wait_until("new plugins", || plugins(&agent).len() == 2);

    let over = |one: &Value| one["ClientStatus"] == "complete" || one["ClientStatus"] == "failed";
    assert!(
        deadline(|| allocations(&agent).iter().filter(|one| over(one)).count() == all)
            || deadline(|| { allocations(&agent).iter().all(over) })
    );
    let expected: String = (0..LINES).map(|n| format!("{n}\n")).collect();
    for one in allocations(&agent) {
        let (id, name) = (one["ID"].as_str().expect("an id"), one["Name"].as_str().expect("a name"));
        let index: i64 =
            name.split(['[', ']']).nth(1).and_then(|index| index.parse().ok()).expect("an index");
        let events = one["TaskStates"]["main"]["Events"].as_array().cloned().unwrap_or_default();
        let ends: Vec<i64> = events
            .iter()
            .filter(|event| event["Type"] == "Terminated")
            .filter_map(|event| event["ExitCode"].as_i64())
            .collect();
        assert_eq!(ends, [index % 7], "{name}: {}", crate::api::events(Some(&one)));
        let log = agent.dir.join("alloc").join(id).join("alloc/logs/main.stdout.0");
        let mut seen = String::new();
        let whole = deadline(|| {
            seen = std::fs::read_to_string(&log).unwrap_or_default();
            seen == expected
        });
        let first_gap = seen.lines().zip(expected.lines()).position(|(seen, expected)| seen != expected);
        assert!(whole, "{name}: {} lines, the first gap at {first_gap:?}", seen.lines().count());
    }
}

/// A system job and a drain, over a restart of the agent.
#[test]
fn a_system_job_survives_the_agent_and_a_drain_empties_the_node() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: drain: {why}")) else { return };
    let mut agent = start(&nomad);
    let up = ["/bin/sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"];
    let stops = |job: Job| job.task("KillSignal", json!("SIGTERM"));
    let system = stops(Job::service("everywhere", "bivouac", &up).kind("system"));
    let id = {
        let run = system.start(&agent).keep();
        stops(Job::service("somewhere", "bivouac", &up)).start(&agent).keep();
        run.stdout_is("up\n");
        run.id.clone()
    };
    agent.stop();
    restart(&mut agent);
    let run = agent.found("everywhere-bivouac").keep();
    assert_eq!(
        (run.id.as_str(), run.stdout().as_str()),
        (id.as_str(), "up\n"),
        "the same allocation, not started again"
    );
    assert_eq!(run.now()["ClientStatus"], "running");

    let said = agent.nomad(&["node", "drain", "-enable", "-self", "-yes", "-detach", "-deadline", "30s"]);
    assert_eq!(said.code, 0, "{said:?}");
    for job in ["everywhere-bivouac", "somewhere-bivouac"] {
        let over = agent.found(job);
        wait_until("the drain", || over.now()["ClientStatus"] == "complete");
        assert_eq!(over.code(), 0, "{}", over.events());
        over.nothing_left();
    }
    assert_eq!(agent.house.processes("bivouac-shim"), Vec::<i32>::new());
}
