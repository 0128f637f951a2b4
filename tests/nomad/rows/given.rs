//! What the client gives a task beside its command, and a driver must let through: devices, volumes, identities,
//! secrets, payloads, a collector for its output.

use super::{refused, sh, succeeded};
use crate::agent::{Agent, deadline};
use crate::job::{Job, Run};
use crate::shared::ours;
use crate::waiting::{A_WHILE, wait_until};
use serde_json::{Value, json};

/// Covers: W7, W30
#[test]
fn w7_what_a_device_plugin_gives_reaches_the_task() {
    if crate::shared::device_plugin().is_none() {
        return println!("SKIPPED: w7: the device plugin of the tests is not built");
    }
    ours(|agent| {
        let device = |name: &str| json!({"CPU": 20, "MemoryMB": 32, "Devices": [{"Name": format!("test/node/{name}"), "Count": 1}]});
        let script = "echo $TEST_DEVICE; cat /opt/device/brought; stat -c %t:%T /dev/test-zero; head -c 2 /dev/test-zero | wc -c\n\
            (touch /opt/device/x) 2>/dev/null || echo read-only\necho END";
        let job = Job::batch("w7", "bivouac", &["/bin/sh", "-c", script]).task("Resources", device("zero"));
        let (run, said) = succeeded(agent, &job);
        let (id, rest) = said.split_once('\n').expect("lines");
        assert!(id.starts_with("zero-"), "{said}");
        assert_eq!(rest, "brought along\n1:5\n2\nread-only\n", "{}", run.stderr());
        let job = Job::batch("w30", "bivouac", &["true"]).task("Resources", device("broken"));
        refused(agent, &job, &["this device cannot be had"]);
    });
}

/// Covers: W29
#[test]
fn w29_mounts_below_a_host_volume_travel_as_the_job_says() {
    ours(|agent| {
        let mount = |volume: &str, at: &str, propagation: &str| json!({"Volume": volume, "Destination": at, "PropagationMode": propagation});
        let volume = json!({"Name": "shared", "Type": "host", "Source": "shared"});
        let run = Job::service("w29", "bivouac", &["sleep", "600"])
            .group("Volumes", json!({"shared": volume}))
            .task("Meta", json!({"at": "/mnt/follows"}))
            .task(
                "VolumeMounts",
                json!([
                    mount("shared", "${NOMAD_META_at}", "host-to-task"),
                    mount("shared", "/mnt/private", "private"),
                ]),
            )
            .task("KillTimeout", json!(0))
            .start(agent);
        let late = agent.dir.join("shared/late");
        std::fs::create_dir_all(&late).expect("a mount point");
        let late = late.to_str().expect("a plain path");
        agent.house.ask("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", late]);
        agent.house.ask("touch", &[&format!("{late}/came")]);
        assert!(deadline(|| run.exec(&["ls", "/mnt/follows/late"]).stdout == "came\n"));
        assert_eq!(run.exec(&["ls", "/mnt/private/late"]).stdout, "");
        agent.house.ask("umount", &[late]);
        assert!(deadline(|| run.exec(&["ls", "/mnt/follows/late"]).stdout.is_empty()));
        run.stop();
        run.nothing_left();
    });
}

/// Which token is a good one is the server's to say, and only with ACLs.
#[test]
fn z15_the_task_api_asks_who_is_there() {
    ours(|agent| {
        let ask = "curl -sS -o /dev/null -w '%%{http_code}\\n' --unix-socket /secrets/api.sock";
        let script = format!(
            "{ask} http://localhost/v1/agent/self\n\
             {ask} -H \"Authorization: Bearer $NOMAD_TOKEN\" http://localhost/v1/agent/self\necho END"
        );
        let job = Job::batch("z15", "bivouac", &["/bin/sh", "-c", &script])
            .task("Identity", json!({"Name": "default", "Env": true}))
            .memory(64);
        assert_eq!(succeeded(agent, &job).1, "401\n200\n");
    });
}

/// Covers: W21
#[test]
fn w21_no_identity_is_written_unasked() {
    ours(|agent| {
        let (_, said) = sh(
            agent,
            "w21",
            "bivouac",
            "ls -A /secrets | grep -vx -e api.sock -e .nomad-mount; echo token=$NOMAD_TOKEN",
        );
        assert_eq!(said, "token=\n");
    });
}

/// Covers: Z28
#[test]
fn z28_secrets_stand_in_environment_and_options() {
    ours(|agent| {
        let path = "nomad/jobs/z28-bivouac";
        let body = json!({"Namespace": "default", "Path": path, "Items": {"word": "from a variable"}});
        agent.api.put(&format!("/v1/var/{path}"), &body).expect("a variable");
        let secrets = json!([
            {"Name": "own", "Provider": "nomad", "Path": path, "Config": {"namespace": "default"}},
            {"Name": "theirs", "Provider": "test-secrets", "Path": "some/path"},
        ]);
        let job = Job::batch("z28", "bivouac", &["printf", "%s|", "${secret.theirs.word}", "END\n"])
            .task("Secrets", secrets.clone());
        let run = job.finish(agent);
        run.stdout_is("from some/path|END\n|");
        let job = Job::batch("z28-env", "bivouac", &["/bin/sh", "-c", "echo $OWN, $THEIRS; echo END"])
            .task("Secrets", secrets)
            .task("Env", json!({"OWN": "${secret.own.word}", "THEIRS": "${secret.theirs.word}"}));
        assert_eq!(succeeded(agent, &job).1, "from a variable, from some/path\n");
    });
}

/// Covers: Z29
#[test]
fn z29_a_user_of_the_clients_own_reads_its_token_and_its_secret() {
    ours(|agent| {
        let script = "echo $NOMAD_JOB_ID; echo $USER; id -u; test -s /secrets/nomad_token && echo token; cat /secrets/word; echo END";
        let job = Job::batch("z29", "bivouac-users", &["/bin/sh", "-c", script])
            .template("secrets/word", "644", "a word\n")
            .task("Identity", json!({"Name": "default", "File": true}));
        let (_, said) = succeeded(agent, &job);
        let lines: Vec<&str> = said.lines().collect();
        let number = lines.get(1).and_then(|user| user.strip_prefix("nomad-")).unwrap_or_default();
        assert_eq!(lines, ["z29-bivouac-users", &format!("nomad-{number}"), number, "token", "a word"]);
        assert!(number.parse::<u32>().is_ok_and(|uid| uid >= 80_000), "{said}");
    });
}

/// The newest child of a job.
fn child<'a>(agent: &'a Agent, parent: &str) -> Run<'a> {
    let mut found = None;
    wait_until("a child job", || {
        let jobs = agent.api.get(&format!("/v1/jobs?prefix={parent}/")).unwrap_or_default();
        let newest = jobs.as_array().and_then(|all| all.first()).and_then(|job| job["ID"].as_str());
        found = newest.map(str::to_owned);
        found.is_some()
    });
    agent.found(&found.expect("a child").replace('/', "%2F"))
}

/// Covers: Z30, W11
#[test]
fn z30_dispatched_and_periodic_jobs_run_with_what_they_were_given() {
    ours(|agent| {
        let script = "echo $NOMAD_META_word; cat /local/input";
        let parent = Job::batch("z30-dispatch", "bivouac", &["/bin/sh", "-c", script])
            .top("ParameterizedJob", json!({"MetaRequired": ["word"], "Payload": "required"}))
            .task("DispatchPayload", json!({"File": "input"}))
            .send(agent);
        let payload = agent.dir.join("payload");
        std::fs::write(&payload, "the payload\n").expect("a payload");
        let path = payload.to_str().expect("a plain path");
        let said = agent.nomad(&["job", "dispatch", "-detach", "-meta", "word=given", &parent, path]);
        assert_eq!(said.code, 0, "{said:?}");
        let run = child(agent, &parent);
        run.stdout_is("given\nthe payload\n");
        run.wait_for("complete");

        let spec = json!({"Enabled": true, "SpecType": "cron", "Spec": "0 0 1 1 *"});
        let parent = Job::batch("z30-periodic", "bivouac", &["echo", "now and then"])
            .top("Periodic", spec)
            .send(agent);
        let said = agent.nomad(&["job", "periodic", "force", "-detach", &parent]);
        assert_eq!(said.code, 0, "{said:?}");
        let run = child(agent, &parent);
        run.stdout_is("now and then\n");
        run.wait_for("complete");
        for parent in [&parent, "z30-dispatch-bivouac"] {
            let _ = agent.api.delete(&format!("/v1/job/{parent}?purge=true"));
        }
    });
}

/// Covers: W20
#[test]
fn w20_a_task_that_waits_for_its_template_can_be_stopped() {
    ours(|agent| {
        let template = json!([{
            "DestPath": "local/word", "ChangeMode": "noop",
            "EmbeddedTmpl": "{{ with nomadVar \"nomad/jobs/w20-bivouac\" }}{{ .word }}{{ end }}",
        }]);
        let run = Job::service("w20", "bivouac", &["sleep", "600"]).task("Templates", template).submit(agent);
        wait_until("the wait", || run.events().contains("Missing: nomad.var"));
        run.stop();
        assert!(!run.event_types("main").contains(&"Started".to_owned()), "{}", run.events());
        run.nothing_left();
    });
}

/// Covers: W4
#[test]
fn w4_what_fails_before_the_start_starts_nothing() {
    ours(|agent| {
        let job = Job::batch("w4", "bivouac", &["true"])
            .task("Artifacts", json!([{"GetterSource": "http://127.0.0.1:1/nothing"}]));
        refused(agent, &job, &["Failed Artifact Download"]);
    });
}

/// Covers: W12
#[test]
fn w12_a_signal_that_the_driver_refuses_is_told() {
    ours(|agent| {
        let run =
            Job::service("w12", "bivouac", &["sleep", "600"]).task("KillTimeout", json!(0)).start(agent);
        let said = agent.nomad(&["alloc", "signal", "-s", "SIGNONE", &run.id]);
        assert!(said.code != 0 && said.stderr.contains("SIGNONE"), "{said:?}");
        assert_eq!(run.now()["ClientStatus"], "running");
    });
}

/// The log collectors that hold a run's pipes, by their numbers inside.
fn collectors(agent: &Agent, run: &Run<'_>) -> Vec<i32> {
    let holds = |pid: &i32| {
        let open = std::fs::read_dir(agent.house.root().join(format!("proc/{pid}/fd"))).into_iter().flatten();
        let mut open = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        open.any(|path| path.to_string_lossy().contains(&run.id))
    };
    agent.house.processes("logmon").into_iter().filter(holds).collect()
}

/// Covers: W26
#[test]
fn w26_a_task_outlives_its_log_collector_and_can_do_without() {
    ours(|agent| {
        let script = "trap 'exit 0' TERM; n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done";
        let run = Job::service("w26", "bivouac", &["/bin/sh", "-c", script])
            .task("KillSignal", json!("SIGTERM"))
            .start(agent);
        run.stdout_has("3\n");
        let before = run.exec(&["cat", "/proc/1/stat"]).stdout;
        let found = collectors(agent, &run);
        assert_eq!(found.len(), 1);
        agent.house.signal("KILL", found[0]);
        assert!(deadline(|| collectors(agent, &run).is_empty()));
        let after = run.exec(&["cat", "/proc/1/stat"]).stdout;
        let started = |stat: &str| stat.split(' ').nth(21).map(str::to_owned);
        assert_eq!(started(&before), started(&after), "it ended with its collector");
        // The client has a new one for the next run.
        assert_eq!(agent.nomad(&["alloc", "restart", &run.id]).code, 0);
        assert!(deadline(|| collectors(agent, &run).len() == 1 && collectors(agent, &run) != found));
        let written = run.stdout().len();
        assert!(deadline(|| run.stdout().len() > written + 100), "the output goes on");

        let run =
            Job::service("w26-none", "bivouac", &["/bin/sh", "-c", "echo nobody reads; exec sleep 600"])
                .task("LogConfig", json!({"MaxFiles": 1, "MaxFileSizeMB": 1, "Disabled": true}))
                .task("KillTimeout", json!(0))
                .start(agent);
        assert_eq!(collectors(agent, &run), Vec::<i32>::new());
        assert_eq!(run.exec(&["readlink", "/proc/1/fd/1"]).stdout, "/null\n");
    });
}

/// Covers: W51
#[test]
fn w51_own_logs_turn_over_and_keep_the_newest() {
    ours(|agent| {
        // 3 MiB in lines of 64 bytes.
        let script = "n=0; while [ $n -lt 49152 ]; do printf '%063d\\n' $n; n=$((n+1)); done; echo last";
        let run = Job::batch("w51", "bivouac-logs", &["/bin/busybox", "sh", "-c", script])
            .config("log_max_files", json!(2))
            .config("log_max_file_size", json!(1))
            .submit(agent);
        agent.api.wait_for_allocation(&run.job, A_WHILE, |one: &Value| one["ClientStatus"] == "complete");
        let logs = std::fs::read_dir(run.dir().join("alloc/logs")).expect("the logs");
        let mut names: Vec<String> =
            logs.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        assert_eq!(names, ["main.stderr.0", "main.stdout.2", "main.stdout.3"]);
        let said = agent.nomad(&["alloc", "logs", "-tail", "-n", "2", &run.id]).stdout;
        assert!(said.ends_with(&format!("{:063}\nlast\n", 49151)), "{said:?}");
        let whole = agent.nomad(&["alloc", "logs", &run.id]).stdout;
        assert!(whole.len() > 1 << 20 && whole.ends_with("last\n"), "{}", whole.len());
    });
}
