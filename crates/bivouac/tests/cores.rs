//! `resources { cores }`: processors that no other running task has, for as long as the task lives.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use support::{Bivouac, wait_for};

/// Both tests want all processors of this machine.
static PROCESSORS: Mutex<()> = Mutex::new(());

/// A job of one task `t` with so many processors, which says which it has.
fn job(bivouac: &Bivouac, name: &str, cores: usize) -> String {
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join(format!("{name}.nomad.hcl"));
    let text = format!(
        "job \"{name}\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 0\n mode = \"fail\"\n }}\n task \"t\" {{\n driver = \"exec\"\n kill_timeout = \"1s\"\n resources {{\n cores = {cores}\n memory = 32\n}}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"grep Cpus_allowed_list /proc/self/status; echo has $NOMAD_CPU_CORES limit $NOMAD_CPU_LIMIT; exec sleep 1000\"]\n}}\n}}\n}}\n}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Starts a job; the processors that its task says it has.
fn started(bivouac: &Bivouac, name: &str, cores: usize) -> String {
    let file = job(bivouac, name, cores);
    let (_, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert_eq!(code, Some(0), "{stderr}");
    wait_for("what it says", || {
        let said = bivouac.told(&["logs", name]).0;
        let mut lines = said.lines();
        let allowed = lines.next()?.strip_prefix("Cpus_allowed_list:")?.trim().to_owned();
        let has = lines.next()?.to_owned();
        assert!(has.starts_with(&format!("has {allowed} limit ")), "{has} {allowed}");
        Some(allowed)
    })
}

fn refused(bivouac: &Bivouac, name: &str, cores: usize) -> String {
    let file = job(bivouac, name, cores);
    let (_, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert_eq!(code, Some(125), "{stderr}");
    stderr
}

/// Kills the shim of a job's only task, and sees the task gone with it.
fn kill_shim(bivouac: &Bivouac, name: &str) {
    let state: serde_json::Value = serde_json::from_str(&bivouac.told(&["inspect", name]).0).unwrap();
    let first = state[0]["tasks"][0]["pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    // A process that has ended and waits for its parent is gone as well.
    let zombie = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    wait_for("the task's end", || {
        std::fs::read_to_string(format!("/proc/{first}/stat"))
            .map_or(Some(()), |stat| zombie(stat).then_some(()))
    });
}

fn stop(bivouac: &Bivouac, name: &str) {
    let (_, stderr, code) = bivouac.told(&["stop", name]);
    assert_eq!(code, Some(0), "{stderr}");
    wait_for("its end", || (!bivouac.told(&["ps"]).0.contains(name)).then_some(()));
}

/// Covers: W47
#[test]
fn processors_are_one_tasks_while_it_lives() {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(bivouac) = Bivouac::new("cores") else { return };
    let all = std::thread::available_parallelism().unwrap().get();
    let every = started(&bivouac, "every", all);
    let told = refused(&bivouac, "more", 1);
    let held = format!(
        "cores: 1 asked, 0 of {all} free; held by every.g[0]/t ({every}); stop one of them, or ask for fewer"
    );
    assert!(told.contains(&held), "{told}");
    let more = bivouac.state.join("more.nomad.hcl");
    let (_, stderr, code) = bivouac.told(&["inspect", "--plan", more.to_str().unwrap()]);
    assert!(code == Some(125) && stderr.contains(&held), "a plan is of what could start now: {stderr}");
    // Nobody has to say that it is over.
    kill_shim(&bivouac, "every");
    let (plan, stderr, _) = bivouac.told(&["inspect", "--plan", more.to_str().unwrap()]);
    let one = started(&bivouac, "one", 1);
    assert!(plan.contains(&format!("cpuset.cpus = {one}\n")), "{plan}{stderr}");
    let told = refused(&bivouac, "huge", all + 1);
    assert!(told.contains(&format!("{} of {all} free; this machine has no more", all - 1)), "{told}");
    if all > 1 {
        let rest = started(&bivouac, "rest", all - 1);
        let first = |set: &str| set.split(['-', ',']).next().map(str::to_owned);
        assert_ne!(first(&rest), first(&one), "{rest} {one}");
        assert!(refused(&bivouac, "more", 1).contains("0 of "), "all are held");
        stop(&bivouac, "one");
        assert_eq!(started(&bivouac, "next", 1), one, "what is free again");
        stop(&bivouac, "next");
        stop(&bivouac, "rest");
    } else {
        stop(&bivouac, "one");
    }
    let (_, stderr, code) = bivouac.told(&["gc"]);
    assert_eq!(code, Some(0), "{stderr}");
}

/// A task that starts again finds its processors taken: its restart policy goes on, and it runs when they are free.
#[test]
fn a_restart_waits_for_processors_that_others_took_meanwhile() {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(bivouac) = Bivouac::new("cores-restart") else { return };
    let all = std::thread::available_parallelism().unwrap().get();
    let file = job(&bivouac, "again", all);
    let text = std::fs::read_to_string(&file).unwrap();
    // Long enough for the other one to start in.
    let text = text
        .replace("attempts = 0\n", "attempts = 9\n delay = \"6s\"\n interval = \"10m\"\n")
        .replace("exec sleep 1000", "until test -e /alloc/end; do sleep 0.02; done; rm /alloc/end; exit 1");
    std::fs::write(&file, text).unwrap();
    let (id, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert_eq!(code, Some(0), "{stderr}");
    let events = || bivouac.told(&["events", "again"]).0;
    let runs = || bivouac.told(&["logs", "again"]).0.matches("has ").count();
    wait_for("its first run", || (runs() == 1).then_some(()));
    // Not by `exec`: a command that lets its task come to its end may be killed with it.
    std::fs::write(bivouac.state.join("allocs").join(id.trim()).join("alloc/end"), "").unwrap();
    wait_for("its end", || events().contains("Terminated").then_some(()));
    let one = started(&bivouac, "one", 1);
    let told = format!("cores: {all} asked, {} of {all} free; held by one.g[0]/t ({one})", all - 1);
    wait_for("a start that is refused", || events().contains(&told).then_some(()));
    assert_eq!(runs(), 1);
    stop(&bivouac, "one");
    wait_for("its second run", || (runs() == 2).then_some(()));
    stop(&bivouac, "again");
    assert_eq!(bivouac.told(&["gc"]).2, Some(0));
}

/// Two starts at once do not take the same.
#[test]
fn starts_at_once_share_no_processor() {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(bivouac) = Bivouac::new("cores-race") else { return };
    let all = std::thread::available_parallelism().unwrap().get();
    let names: Vec<String> = (0..all + 2).map(|index| format!("j{index}")).collect();
    let files: Vec<String> = names.iter().map(|name| job(&bivouac, name, 1)).collect();
    let runs: Vec<_> = files
        .iter()
        .map(|file| bivouac.command(&["run", "-d", file]).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let codes: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap().status.code()).collect();
    let ran = codes.iter().filter(|code| **code == Some(0)).count();
    assert_eq!((ran, codes.len() - ran), (all, 2), "{codes:?}");
    for (name, _) in names.iter().zip(&codes).filter(|(_, code)| **code == Some(0)) {
        stop(&bivouac, name);
    }
    assert_eq!(bivouac.told(&["gc"]).2, Some(0));
}
