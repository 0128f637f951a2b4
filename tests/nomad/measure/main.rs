//! What a task costs under a real Nomad: Bivouac beside the built-in drivers, one agent, runs interleaved.
//!
//! `cargo xtask bench nomad` builds the programs, starts this and keeps the page that it writes. Times are the client's
//! own: those of its task events, which are taken in the client's process, or, where it tells none, a clock's around the
//! `nomad` command.

#![expect(
    dead_code,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tests' helpers, of which a measurement needs few, and a measurement that tells how far it is"
)]

#[path = "../agent.rs"]
mod agent;
#[path = "../api.rs"]
mod api;
#[path = "../house.rs"]
mod house;
#[path = "../job.rs"]
mod job;
#[path = "../leftovers.rs"]
mod leftovers;
mod page;
#[path = "../waiting.rs"]
mod waiting;

use agent::{Agent, ONE_FILE, Plugin, Setup, program};
use job::{Job, Run};
use page::{Page, Samples};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use waiting::wait_until;

/// The drivers, the cheapest first: the client's own floor, the others, ours.
pub(crate) const MOCK: &str = "mock_driver";
pub(crate) const RAW: &str = "raw_exec";
pub(crate) const EXEC: &str = "exec";
pub(crate) const OURS: &str = "bivouac";
pub(crate) const OWN_LOGS: &str = "bivouac-logs";
/// Our face over an engine that isolates nothing, its children plain processes, with own logs: the least that a driver
/// without a collector can take in this agent.
pub(crate) const FLOOR: &str = "floor";
const ALL: [&str; 5] = [MOCK, RAW, EXEC, OURS, OWN_LOGS];
/// Those that run something.
const REAL: [&str; 4] = [RAW, EXEC, OURS, OWN_LOGS];

/// How often everything is done.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    rounds: usize,
    commands: usize,
    helpers: u64,
    crowd: u64,
    requests: usize,
}

const FULL: Size = Size { rounds: 30, commands: 20, helpers: 30, crowd: 200, requests: 100 };
const SHORT: Size = Size { rounds: 5, commands: 4, helpers: 10, crowd: 30, requests: 20 };

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    let nomad = match program() {
        Ok(nomad) => nomad,
        Err(why) => {
            eprintln!("nothing is measured: {why}");
            std::process::exit(1);
        }
    };
    let dist = PathBuf::from(std::env::var_os("BIVOUAC_DIST").expect("BIVOUAC_DIST: where the release lies"));
    let size = if short { SHORT } else { FULL };
    let mut page = Page::new(if short { "short" } else { "full" }, size.crowd, size.helpers);
    let begun = Instant::now();
    measure(&nomad, &dist, size, &mut page);
    let text = page.text(begun.elapsed());
    println!("{text}");
    if let Some(path) = std::env::var_os("BIVOUAC_PAGE") {
        std::fs::write(path, text).expect("the page");
    }
}

fn measure(nomad: &Path, dist: &Path, size: Size, page: &mut Page) {
    let plugin = dist.join("bivouac");
    let floor =
        PathBuf::from(std::env::var_os("BIVOUAC_FLOOR").expect("BIVOUAC_FLOOR: the plugin fake_plugin"));
    let own_logs = "config { log_collection = \"bivouac\" }";
    let plugins = [
        Plugin { file: FLOOR, program: &floor, block: own_logs },
        Plugin { file: OURS, program: &plugin, block: "" },
        Plugin { file: OWN_LOGS, program: &plugin, block: own_logs },
    ];
    let mut agent = Agent::prepare(nomad, Setup { plugins: &plugins, log_level: "INFO", ..Setup::default() });
    // Statistics cost what they cost; asked for they are, but not by these rows.
    agent.telemetry = String::new();
    agent.options = "\"driver.raw_exec.enable\" = \"1\"".to_owned();
    // First of all: an agent that keeps hundreds of dead allocations is busy with them.
    say("requests, as the plugin tells them");
    agent.log_level = "DEBUG".to_owned();
    agent.configure(&plugins);
    agent.launch();
    [FLOOR, OURS].iter().for_each(|driver| drop(agent.wait_for_driver(driver)));
    requests(&agent, size, page);
    agent.stop();

    agent.log_level = "INFO".to_owned();
    agent.client = ONE_FILE.to_owned();
    agent.configure(&plugins);
    agent.launch();
    ALL.iter().chain(&[FLOOR]).for_each(|driver| drop(agent.wait_for_driver(driver)));
    say("starts and stops, interleaved");
    starts_and_stops(&agent, size, page);
    say("commands in running tasks, interleaved");
    commands(&agent, size, page);
    say("helpers");
    for driver in REAL {
        helpers(&agent, driver, size, page);
    }
    say("a root on disk");
    root(&agent, page);
    say("a crowd");
    for driver in [MOCK, FLOOR, EXEC, OWN_LOGS] {
        crowd(&agent, driver, size, page);
    }
    agent.stop();

    say("the whole default root of the built-in driver, once");
    agent.client = String::new();
    agent.configure(&plugins);
    agent.launch();
    drop(agent.wait_for_driver(EXEC));
    let run = sleeper("default", EXEC).submit(&agent);
    agent.api.wait_for_allocation(&run.job, Duration::from_secs(240), |allocation| {
        allocation["ClientStatus"] == "running"
    });
    page.whole_root = Some(between(&run.now(), "Task Setup", "Started"));
    run.stop();
}

fn say(what: &str) {
    eprintln!("{what} ...");
}

/// A task that does nothing and ends at once when it is told to.
fn sleeper(name: &str, driver: &str) -> Job {
    let script = "trap 'exit 0' INT; /bin/busybox sleep 6000 & wait";
    let job = Job::service(name, driver, &["/bin/busybox", "sh", "-c", script])
        .group("EphemeralDisk", json!({"SizeMB": 10}))
        // Less does not hold the built-in driver's own start.
        .task("Resources", json!({"CPU": 20, "MemoryMB": 32}));
    if driver == MOCK { job.task("Config", json!({"run_for": "100m"})) } else { job }
}

/// The time of an event, in milliseconds since the epoch.
fn event(allocation: &Value, kind: &str) -> Option<f64> {
    let events = allocation["TaskStates"]["main"]["Events"].as_array()?;
    let found = events.iter().find(|event| event["Type"] == kind)?;
    Some(found["Time"].as_f64()? / 1e6)
}

fn between(allocation: &Value, from: &str, to: &str) -> f64 {
    let (Some(from), Some(to)) = (event(allocation, from), event(allocation, to)) else {
        panic!("no {from} and {to}: {}", api::events(Some(allocation)));
    };
    to - from
}

fn starts_and_stops(agent: &Agent, size: Size, page: &mut Page) {
    // One of each that nobody counts: caches, pages, prepared layers.
    for round in 0..=size.rounds {
        for driver in ALL {
            let run = sleeper(&format!("round-{round}"), driver).start(agent);
            let started = between(&run.now(), "Task Setup", "Started");
            // The shell needs a moment until it has its trap.
            std::thread::sleep(Duration::from_millis(50));
            run.stop();
            let stopped = between(&run.now(), "Killing", "Terminated");
            if round > 0 {
                page.starts.entry(driver).or_default().push(started);
                page.stops.entry(driver).or_default().push(stopped);
            }
        }
    }
}

fn commands(agent: &Agent, size: Size, page: &mut Page) {
    let runs: Vec<Run<'_>> = REAL.iter().map(|driver| sleeper("commands", driver).start(agent)).collect();
    for round in 0..=size.commands {
        for (run, driver) in runs.iter().zip(REAL) {
            let begun = Instant::now();
            let said = run.exec(&["/bin/busybox", "true"]);
            let took = begun.elapsed();
            assert_eq!(said.code, 0, "{driver}: {said:?}");
            if round > 0 {
                page.commands.entry(driver).or_default().push(took.as_secs_f64() * 1e3);
            }
        }
        // What the command line itself costs.
        let begun = Instant::now();
        agent.nomad(&["alloc", "exec", "-i=false", "-t=false", "ffffffff", "true"]);
        page.commands.entry("nobody").or_default().push(begun.elapsed().as_secs_f64() * 1e3);
    }
    runs.iter().for_each(|run| drop(run.stop()));
}

/// Memory that a process shares with nobody, in KiB.
fn private(agent: &Agent, pid: i32) -> f64 {
    let rollup = std::fs::read_to_string(agent.house.root().join(format!("proc/{pid}/smaps_rollup")));
    let rollup = rollup.unwrap_or_default();
    let of = |line: &str| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:");
    let figures = rollup.lines().filter(|line| of(line));
    figures.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum()
}

fn resident(agent: &Agent, pid: i32) -> f64 {
    let status = std::fs::read_to_string(agent.house.root().join(format!("proc/{pid}/status")));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Many allocations of a job at once; tells in how many seconds all of them ran.
fn many<'a>(agent: &'a Agent, name: &str, driver: &str, count: u64) -> (Run<'a>, f64) {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64() * 1e3;
    let job = sleeper(name, driver).group("Count", json!(count)).send(agent);
    let path = format!("/v1/job/{job}/allocations");
    let mut last = 0.0;
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        let all = agent.api.get(&path).ok().and_then(|all| all.as_array().cloned()).unwrap_or_default();
        let started: Vec<f64> = all
            .iter()
            .filter(|one| one["ClientStatus"] == "running")
            .filter_map(|one| event(one, "Started"))
            .collect();
        if u64::try_from(started.len()) == Ok(count) {
            last = started.into_iter().fold(last, f64::max);
            break;
        }
        assert!(Instant::now() < end, "{driver}: {} of {count} run", started.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    (agent.found(&job), (last - begun) / 1e3)
}

/// Stops a job of many allocations and waits until none of its helpers is left.
fn end(agent: &Agent, run: &Run<'_>, helpers: &[&str]) {
    assert_eq!(agent.nomad(&["job", "stop", "-detach", &run.job]).code, 0);
    let path = format!("/v1/job/{}/allocations", run.job);
    let over = || {
        let all = agent.api.get(&path).ok().and_then(|all| all.as_array().cloned()).unwrap_or_default();
        all.iter().all(|one| one["ClientStatus"] == "complete" || one["ClientStatus"] == "failed")
    };
    wait_until("the end of all", || {
        over() && helpers.iter().all(|word| agent.house.processes(word).is_empty())
    });
}

const LOGMON: &str = "\0logmon";
const EXECUTOR: &str = "\0executor\0";
const SHIM: &str = "bivouac-shim";

fn helpers(agent: &Agent, driver: &'static str, size: Size, page: &mut Page) {
    let (run, _) = many(agent, "helpers", driver, size.helpers);
    let mut row = BTreeMap::new();
    for (word, what) in [(LOGMON, "logmon"), (EXECUTOR, "executor"), (SHIM, "shim")] {
        let pids = agent.house.processes(word);
        let all: f64 = pids.iter().map(|pid| private(agent, *pid)).sum();
        if !pids.is_empty() {
            row.insert(what, all / 1024.0 / f64::from(u32::try_from(size.helpers).unwrap_or(1)));
        }
    }
    page.helpers.insert(driver, row);
    end(agent, &run, &[LOGMON, EXECUTOR, SHIM]);
}

/// What a task's root is on disk: files' bytes and inodes, of the task's directory and its private layer.
fn root(agent: &Agent, page: &mut Page) {
    let run = Job::service("root", OURS, &["/bin/busybox", "sleep", "6000"])
        .task("KillTimeout", json!(0))
        .start(agent);
    let (mut bytes, mut inodes) = (0, 0);
    let mut rest: Vec<PathBuf> = ["main", ".bivouac-main"].iter().map(|name| run.dir().join(name)).collect();
    while let Some(directory) = rest.pop() {
        inodes += 1;
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => rest.push(entry.path()),
                Ok(found) => {
                    inodes += 1;
                    bytes += if found.is_file() { found.len() } else { 0 };
                }
                Err(_) => {}
            }
        }
    }
    page.root = Some((bytes, inodes));
    run.stop();
}

/// The processor time that processes have used, in milliseconds.
fn spent(agent: &Agent, pids: &[i32]) -> f64 {
    let of = |pid: &i32| -> Option<f64> {
        let stat = std::fs::read_to_string(agent.house.root().join(format!("proc/{pid}/stat"))).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    // Ticks of a hundredth of a second.
    pids.iter().filter_map(of).sum::<f64>() * 10.0
}

fn crowd(agent: &Agent, driver: &'static str, size: Size, page: &mut Page) {
    let (run, seconds) = many(agent, "crowd", driver, size.crowd);
    page.crowds.insert(driver, seconds);
    if driver == OWN_LOGS {
        let plugin = agent.dir.join("plugins").join(OWN_LOGS);
        let plugins = agent.house.processes(plugin.to_str().expect("a plain path"));
        page.plugin_rss = Some(plugins.iter().map(|pid| resident(agent, *pid)).sum::<f64>() / 1024.0);
        let mut ours = agent.house.processes(SHIM);
        ours.extend(&plugins);
        // What the start itself left to do.
        std::thread::sleep(Duration::from_secs(3));
        let before = spent(agent, &ours);
        std::thread::sleep(Duration::from_secs(10));
        page.idle = Some((spent(agent, &ours) - before) / 10_000.0 * 100.0);
    }
    end(agent, &run, &[LOGMON, EXECUTOR, SHIM]);
}

/// From the arrival of a start to its answer, as the plugin measures it; interleaved.
fn requests(agent: &Agent, size: Size, page: &mut Page) {
    for number in 0..size.requests {
        for driver in [FLOOR, OURS] {
            Job::batch(&format!("request-{number}"), driver, &["/bin/busybox", "true"])
                .group("EphemeralDisk", json!({"SizeMB": 10}))
                .task("Resources", json!({"CPU": 20, "MemoryMB": 10}))
                .finish(agent);
            // The one before is gone with all that the agent does about it.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let micros = |line: &String| line.split("micros=").nth(1)?.split(' ').next()?.parse::<f64>().ok();
    let lines = agent.log_lines("task started");
    for driver in [FLOOR, OURS] {
        let of = format!("driver={driver} ");
        let own = lines.iter().filter(|line| line.contains(&of));
        // The first of a new plugin makes what the others use.
        let all: Samples = own.filter_map(micros).skip(1).map(|us| us / 1e3).collect();
        assert!(all.len() + 2 >= size.requests, "{} requests of {driver} were told", all.len());
        page.requests.insert(driver, all);
    }
}
