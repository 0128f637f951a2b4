//! From the built-in driver to ours and back, as docs/nomad.md tells it.

use crate::agent::{Agent, Plugin, Setup, deadline, program};
use crate::job::Job;
use crate::real_plugin;
use crate::shared::furnish;
use crate::waiting::{A_WHILE, wait_until};
use serde_json::{Value, json};

/// Whether it is our plugin that owns `exec` on this node.
fn ours(node: &Value) -> bool {
    node["Attributes"].as_object().is_some_and(|all| all.keys().any(|key| key.starts_with("driver.exec.")))
}

fn started_anew(agent: &Agent, job: &str, than: &str) -> String {
    let found = agent.api.wait_for_allocation(job, A_WHILE, |allocation| {
        allocation["ID"] != than && allocation["ClientStatus"] == "running"
    });
    found["ID"].as_str().expect("an id").to_owned()
}

#[test]
fn the_owner_of_exec_changes_with_and_without_a_drained_node() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: going: {why}")) else { return };
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let mut agent = Agent::prepare(&nomad, Setup { env: &[("BIVOUAC_SHIM", &shim)], ..Setup::default() });
    agent.client = furnish(&agent.dir);
    agent.configure(&[]);
    agent.launch();
    agent.wait_for_driver("exec");
    let up = ["/bin/sh", "-c", "echo up; exec sleep 3701"];
    let sleepers = |agent: &Agent| agent.house.processes("sleep\x003701");
    let (job, id) = {
        let run = Job::service("going", "exec", &up).task("KillTimeout", json!(0)).start(&agent).keep();
        run.stdout_is("up\n");
        (run.job.clone(), run.id.clone())
    };
    let old = sleepers(&agent);
    assert_eq!(old.len(), 1);

    // Without a drain: what the built-in driver left ends before ours starts the task anew.
    agent.stop();
    agent.configure(&[Plugin { file: "exec", program: &plugin, block: "" }]);
    agent.launch();
    wait_until("our driver", || agent.node().is_some_and(|node| ours(&node)));
    wait_until("the task anew", || {
        let now = sleepers(&agent);
        now.len() == 1 && now != old
    });
    assert!(old.iter().all(|pid| !agent.house.alive(*pid)));
    wait_until("its executor's end", || agent.house.processes("\0executor\0").is_empty());
    let run = agent.found(&job);
    assert_eq!(run.id, id, "the same allocation goes on");
    wait_until("the task", || run.now()["ClientStatus"] == "running");
    assert_eq!(run.exec(&["/bin/sh", "-c", "grep -c . /proc/self/cgroup >/dev/null; pwd"]).stdout, "/\n");
    drop(run.keep());

    // Back, as documented: drain first, then take the plugin away.
    let drain = ["node", "drain", "-enable", "-self", "-yes", "-detach", "-deadline", "30s"];
    assert_eq!(agent.nomad(&drain).code, 0);
    wait_until("the drain", || sleepers(&agent).is_empty());
    agent.stop();
    agent.configure(&[]);
    agent.launch();
    wait_until("the built-in driver", || agent.node().is_some_and(|node| !ours(&node)));
    agent.wait_for_driver("exec");
    assert_eq!(agent.nomad(&["node", "drain", "-disable", "-self", "-yes"]).code, 0);
    started_anew(&agent, &job, &id);
    assert!(deadline(|| sleepers(&agent).len() == 1));
    assert_eq!(agent.house.processes("\0executor\0").len(), 1, "it is the built-in driver's");
    let _ = agent.api.delete(&format!("/v1/job/{job}"));
}
