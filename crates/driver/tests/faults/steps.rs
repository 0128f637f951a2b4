//! An error, and the death of the doer, at every step of start, exec, stop and destroy, by a shim that is broken on
//! purpose (`examples/faulty_shim.rs`). The error names the step, nothing is left, and the next start works.

use crate::rig::{PATIENCE, Rig, example, start, thinned, until};
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Standing};
use bivouac_driver::options::Value;
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_driver::signals::Signal;
use bivouac_sandbox::launch::Injected;
use std::time::{Duration, Instant};

/// An engine whose shims have this fault.
fn broken(rig: &Rig, fault: &str) -> Engine {
    let link = rig.directory.path().join(fault);
    std::os::unix::fs::symlink(example("faulty_shim"), &link).unwrap();
    rig.engine_with(link)
}

/// Covers: 4-every-step
#[test]
fn every_step_of_a_start() {
    let Some(rig) = Rig::new("start-steps") else { return };
    let steps: Vec<String> = Injected::all_steps().iter().map(|step| format!("{step:?}")).collect();
    let faults =
        steps.iter().flat_map(|step| ["fail-step", "kill-step"].map(|kind| format!("{step}@{kind}")));
    let calls = ["launch@fail", "launch@before", "launch@after"].map(str::to_owned);
    let mut count = 0;
    for fault in thinned(faults.chain(calls)) {
        let engine = broken(&rig, &fault);
        let outcome = start(&engine, &rig.request("t", "sleep 1000"), None).map(drop);
        match (fault.as_str(), outcome) {
            // Killed at the very last step is a task that was killed.
            ("Execute@kill-step", Ok(())) => rig.forget("t"),
            (_, Ok(())) => panic!("{fault} did not keep the task from starting"),
            (_, Err(error)) => assert!(error.to_string().len() > 20, "{fault}: {error}"),
        }
        rig.retire(engine);
        assert!(matches!(rig.engine.find("t"), Err(EngineError::Unknown)), "{fault}: it left a run");
        count += 1;
        if count % 20 == 0 {
            rig.settle();
            rig.run("t", "exit 0");
            rig.forget("t");
        }
    }
    rig.finish(format!("{count} faults, each told, nothing left, the next start works"));
}

/// Covers: 4-every-step
#[test]
fn every_step_of_an_exec() {
    let Some(rig) = Rig::new("exec-steps") else { return };
    let steps = Injected::steps_of_entering();
    let faults =
        steps.iter().flat_map(|step| ["fail-entry", "kill-entry"].map(|kind| format!("{step:?}@{kind}")));
    let calls = ["enter@fail", "enter@before", "enter@after"].map(str::to_owned);
    let mut count = 0;
    for fault in thinned(faults.chain(calls)) {
        let engine = broken(&rig, &fault);
        let id = format!("t{count}");
        let started = start(&engine, &rig.request(&id, "sleep 1000"), None);
        let started = started.unwrap_or_else(|error| panic!("{fault}: {error}"));
        count += 1;
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        let asked = Instant::now();
        let exec = ExecRequest { command: vec!["true".into()], streams, deadline: Some(PATIENCE) };
        let session = engine.exec(&id, exec).and_then(|mut session| Ok(session.wait(None)?));
        assert!(session.is_err() || fault == "Execute@kill-entry", "{fault}: {session:?}");
        assert!(asked.elapsed() < PATIENCE);
        drop(started);
        rig.forget(&id);
        rig.retire(engine);
    }
    rig.finish(format!("{count} faults, each answered, nothing left"));
}

/// What is done to a task whose shim fails at a call, and how it may stand then.
fn end(rig: &Rig, fault: &str) {
    let engine = broken(rig, fault);
    // Whether the group is told first depends on the mode; both ways are walked.
    let mode = if fault.starts_with("signal_all") { "group" } else { "process" };
    let options = vec![("kill_mode", Value::from(mode)), ("pid_mode", Value::from("host"))];
    let request = rig.request_with("t", "trap 'exit 4' TERM; sleep 1000 & wait", options);
    let started = match start(&engine, &request, None) {
        Ok(started) => started,
        // The count of kills is asked for at the start, too; and hybrid cgroups know no mode of the whole group.
        Err(error) => {
            let is_known = fault.starts_with("oom_kills") || error.to_string().contains("hybrid cgroups");
            assert!(is_known, "{fault}: {error}");
            rig.forget("t");
            rig.retire(engine);
            return;
        }
    };
    drop(started);
    let _ = engine.stats("t");
    let begun = Instant::now();
    let _ = engine.stop("t", Signal::parse("SIGTERM").unwrap(), Duration::from_millis(200));
    assert!(begun.elapsed() < PATIENCE, "{fault}: a stop without an end");
    let _ = engine.destroy("t", Leftovers::Kill);
    until("it is over", || !matches!(rig.engine.find("t"), Ok(Standing::Alive(_))) || rig.is_over("t"));
    rig.forget("t");
    rig.retire(engine);
    rig.settle();
}

/// With a pid namespace of the host's, so that nothing ends by itself when the first process does.
///
/// Covers: 4-every-step
#[test]
fn every_call_of_a_stop_and_a_removal() {
    let Some(rig) = Rig::new("stop-calls") else { return };
    let calls = ["signal_all", "kill_all", "oom_kills", "stats", "release", "remove_group"];
    let mut count = 0;
    for call in calls {
        for kind in ["fail", "before", "after"] {
            end(&rig, &format!("{call}@{kind}"));
            count += 1;
        }
    }
    rig.finish(format!("{count} faults, every wait ended, nothing left"));
}
