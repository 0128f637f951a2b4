//! Real tasks: the face over the real driver under a real agent.

use crate::agent::{Agent, Plugin, program};
use crate::face::run;
use crate::waiting::{A_WHILE, client_status, wait_until};
use crate::{api, real_plugin};

#[test]
fn a_task_runs_isolated_is_entered_stopped_and_survives_the_agent() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: real: {why}")) else { return };
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugins = [Plugin { file: "bivouac", program: &plugin, block: "" }];
    let mut agent = Agent::start(&nomad, &plugins, "bivouac", &[("BIVOUAC_SHIM", &shim)]);
    run(&agent, "real");
    let allocation = agent.api.wait_for_allocation("real", A_WHILE, client_status("running"));
    let id = allocation["ID"].as_str().expect("an id").to_owned();
    wait_until("the task's words", || agent.nomad(&["alloc", "logs", &id]).stdout.contains("nobody"));
    let said = agent.nomad(&["alloc", "logs", &id]).stdout;
    assert!(said.starts_with("pid 1 /local\n"), "{said}");
    assert!(said.contains(&format!("/nomad/{id}.main")) || said.contains(".scope"), "{said}");

    let entered = agent.nomad(&[
        "alloc",
        "exec",
        "-i=false",
        "-t=false",
        &id,
        "/bin/sh",
        "-c",
        "echo o; echo e >&2; exit 4",
    ]);
    assert_eq!((entered.code, entered.stdout.as_str(), entered.stderr.as_str()), (4, "o\n", "e\n"));
    let missing = agent.nomad(&["alloc", "exec", "-i=false", "-t=false", &id, "/no/such/command"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.contains("command /no/such/command not found"), "{missing:?}");

    agent.stop();
    agent.launch();
    agent.wait_for_driver("bivouac");
    wait_until("a way in again", || {
        agent.nomad(&["alloc", "exec", "-i=false", "-t=false", &id, "true"]).code == 0
    });
    assert_eq!(agent.nomad(&["job", "stop", "-detach", "real"]).code, 0);
    let ended = agent.api.wait_for_allocation("real", A_WHILE, client_status("complete"));
    let events = api::events(Some(&ended));
    assert!(events.contains("Exit Code: 5") && !events.contains("Restarting"), "{events}");
}
