//! A collector of Nomad's that a change of `log_collection` leaves behind, and who tells of it.

use crate::agent::{Agent, Output, Plugin, deadline, program};
use crate::bivouac;
use crate::job::Job;
use crate::waiting::wait_until;
use serde_json::json;

/// What the check of this agent's configuration says, asked where the agent runs.
fn doctor(agent: &Agent, bivouac: &std::path::Path, shim: &str) -> Output {
    let mut doctor = agent.house.enter(bivouac);
    doctor.args(["doctor", "--nomad"]).arg(agent.dir.join("agent.hcl")).env("BIVOUAC_SHIM", shim);
    Output::of(&doctor.output().expect("bivouac runs"))
}

#[test]
fn a_collector_that_a_change_of_log_collection_left_is_told_of() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: collectors: {why}")) else { return };
    let (program, shim) = bivouac();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugin = |block| [Plugin { file: "bivouac", program: &program, block }];
    let own = plugin("config { log_collection = \"bivouac\" }");
    let mut agent = Agent::start(&nomad, &plugin(""), "bivouac", &[("BIVOUAC_SHIM", &shim)]);
    let (job, id) = {
        let run = Job::service("left", "bivouac", &["/bin/sh", "-c", "echo up; exec sleep 6000"])
            .task("KillTimeout", json!(0))
            .start(&agent)
            .keep();
        run.stdout_is("up\n");
        (run.job.clone(), run.id.clone())
    };
    let collectors = |agent: &Agent| agent.house.processes("\0logmon");
    let left = collectors(&agent);
    assert_eq!(left.len(), 1);
    let told = |agent: &Agent| doctor(agent, &program, &shim);
    assert!(!told(&agent).stdout.contains("collector"), "it does its work");

    // Without a drain: the task goes on, and so does its collector.
    agent.stop();
    agent.configure(&own);
    agent.launch();
    agent.wait_for_driver("bivouac");
    let sentence = format!("process {} is Nomad's log collector of the task {id}/main", left[0]);
    let run = agent.found(&job);
    wait_until("the task again", || run.exec(&["true"]).code == 0);
    let said = told(&agent);
    assert!(said.code == 0 && said.stdout.contains(&sentence), "{said:?}");

    run.stop();
    run.nothing_left();
    // Nobody writes to its pipes any more, and nobody ends it.
    let said = told(&agent);
    assert_eq!(collectors(&agent), left);
    assert!(said.code == 0 && said.stdout.contains(&sentence), "{said:?}");
    agent.house.signal("TERM", left[0]);
    assert!(deadline(|| !agent.house.alive(left[0])));
    let said = told(&agent);
    assert!(said.code == 0 && !said.stdout.contains("collector"), "{said:?}");
}
