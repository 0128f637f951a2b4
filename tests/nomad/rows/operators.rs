//! What an operator does to a running allocation, with the commands that operators type.

use super::{refused, succeeded};
use crate::agent::deadline;
use crate::job::{Job, SECOND};
use crate::shared::ours;
use crate::waiting::A_WHILE;
use serde_json::json;

/// A shell that tells its signals and ends on SIGTERM with code 5.
const TALKER: &str =
    "trap 'echo heard; exit 5' TERM; trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done";

fn talker(name: &str) -> Job {
    Job::service(name, "bivouac", &["/bin/sh", "-c", TALKER]).task("KillSignal", json!("SIGTERM"))
}

#[test]
fn alloc_restart_keeps_the_files_and_starts_anew() {
    ours(|agent| {
        let run = talker("restart").start(agent);
        run.stdout_is("up\n");
        assert_eq!(run.exec(&["/bin/sh", "-c", "echo kept | tee /local/kept > /etc/kept"]).code, 0);
        assert_eq!(agent.nomad(&["alloc", "restart", &run.id]).code, 0);
        run.stdout_is("up\nheard\nup\n");
        assert_eq!(run.exec(&["cat", "/local/kept", "/etc/kept"]).stdout, "kept\nkept\n");
        assert!(
            deadline(|| run.event_types("main").contains(&"Restart Signaled".to_owned())),
            "{}",
            run.events()
        );
    });
}

#[test]
fn alloc_restart_of_all_tasks_runs_the_prestart_again() {
    ours(|agent| {
        let task = |name: &str, script: &str, lifecycle: serde_json::Value| {
            json!({
                "Name": name, "Driver": "bivouac", "Config": {"command": "/bin/sh", "args": ["-c", script]},
                "Lifecycle": lifecycle, "KillTimeout": SECOND / 10,
                "Resources": {"CPU": 20, "MemoryMB": 16}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
            })
        };
        let before = task("before", "echo once >> /alloc/data/runs", json!({"Hook": "prestart"}));
        let main = task("main", TALKER, serde_json::Value::Null);
        let run = Job::service("restart-all", "bivouac", &["true"])
            .group("Tasks", json!([before, main]))
            .group("EphemeralDisk", json!({"SizeMB": 30}))
            .start(agent);
        run.stdout_is("up\n");
        let said = agent.nomad(&["alloc", "restart", "-all-tasks", &run.id]);
        assert_eq!(said.code, 0, "{said:?}");
        run.stdout_when(|seen| seen.matches("up\n").count() == 2);
        let runs = run.dir().join("alloc/data/runs");
        assert!(deadline(|| std::fs::read_to_string(&runs).is_ok_and(|text| text == "once\nonce\n")));
    });
}

#[test]
fn alloc_signal_and_alloc_stop() {
    ours(|agent| {
        let run = talker("signal").start(agent);
        run.stdout_is("up\n");
        assert_eq!(agent.nomad(&["alloc", "signal", "-s", "SIGUSR1", &run.id]).code, 0);
        run.stdout_is("up\nusr1\n");
        assert!(deadline(|| run.event_types("main").contains(&"Signaling".to_owned())), "{}", run.events());
        assert_eq!(agent.nomad(&["alloc", "stop", "-detach", &run.id]).code, 0);
        assert!(deadline(|| run.now()["ClientStatus"] == "complete"), "{}", run.events());
        assert_eq!(run.code(), 5);
    });
}

#[test]
fn an_action_of_the_job_runs_in_the_task() {
    ours(|agent| {
        let action = json!([{"Name": "greet", "Command": "/bin/sh", "Args": ["-c", "echo greeting from $NOMAD_TASK_NAME; id -un"]}]);
        let run = talker("action").task("Actions", action).start(agent);
        let said = agent.nomad(&[
            "action", "-job", &run.job, "-group", "main", "-task", "main", "-alloc", &run.id, "-i=false",
            "-t=false", "greet",
        ]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "greeting from main\nnobody\n"), "{said:?}");
    });
}

#[test]
fn a_namespace_decides_which_drivers_its_jobs_use() {
    ours(|agent| {
        let few = json!({"Name": "few", "Capabilities": {"EnabledTaskDrivers": ["exec"]}});
        agent.api.put("/v1/namespace", &few).expect("a namespace");
        let body = |driver: &str| json!({"Job": Job::batch("few", driver, &["true"]).in_namespace("few")});
        let said = agent.api.put("/v1/jobs?namespace=few", &body("bivouac")).expect_err("it is refused");
        assert!(said.contains("bivouac") && said.contains("not allowed"), "{said}");
        agent.api.put("/v1/jobs?namespace=few", &body("exec")).expect("the allowed driver");
    });
}

#[test]
fn a_job_changes_its_driver() {
    ours(|agent| {
        let job = Job::service("change", "exec", &["/bin/sh", "-c", "echo up; exec sleep 600"])
            .task("KillTimeout", json!(0));
        let first = job.start(agent);
        let job = job.task("Driver", json!("bivouac"));
        job.send(agent);
        let second = agent.api.wait_for_allocation(&first.job, A_WHILE, |allocation| {
            allocation["ID"] != first.id.as_str() && allocation["ClientStatus"] == "running"
        });
        assert!(deadline(|| first.now()["ClientStatus"] == "complete"), "{}", first.events());
        first.nothing_left();
        assert_eq!(second["JobVersion"], 1);
    });
}

#[test]
fn a_host_name_is_an_option_of_the_task() {
    ours(|agent| {
        let job = Job::batch("hostname", "bivouac", &["/bin/sh", "-c", "uname -n; echo END"]);
        assert_eq!(succeeded(agent, &job.config("hostname", json!("mine"))).1, "mine\n");
        // The group's is refused by the client, as for the built-in driver.
        let job = Job::batch("group-hostname", "bivouac", &["true"])
            .group("Networks", json!([{"Mode": "host", "Hostname": "theirs"}]))
            .submit(agent);
        job.wait_for("failed");
        let said = agent.log_lines("hostname cannot be set on task group using");
        assert!(said.iter().any(|line| line.contains(&job.id)), "{said:?}");
    });
}

#[test]
fn wrong_devices_and_mounts_are_refused_before_the_start() {
    ours(|agent| {
        let job = |name: &str| Job::batch(name, "bivouac", &["true"]);
        let device = json!([{"host_path": "/dev/kmsg"}]);
        refused(agent, &job("device").config("devices", device), &["/dev/kmsg", "allow_devices"]);
        let mount = json!([{"source": "/root", "target": "/mine"}]);
        refused(agent, &job("mount").config("mount", mount), &["/root", "allow_mount_paths"]);
    });
}
