//! The end-to-end rows: whole jobs, their files, hooks, events and logs.

use super::{refused, sh, succeeded};
use crate::agent::{Agent, deadline};
use crate::face::run as run_file;
use crate::job::{Job, Run, SECOND};
use crate::shared::ours;
use serde_json::json;

/// Runs a job file and finds its allocation.
fn file<'a>(agent: &'a Agent, name: &str) -> Run<'a> {
    run_file(agent, name);
    agent.found(name)
}

/// Covers: Z1
#[test]
fn z1_exec_uses_chroot() {
    ours(|agent| {
        let script = "printf '%s\\n' $NOMAD_ALLOC_DIR $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR $PATH";
        let (_, said) = sh(agent, "z1", "bivouac", script);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["/alloc", "/local", "/secrets"]);
        assert!(lines[3].split(':').any(|part| part == "/bin"), "{said}");
    });
}

/// Covers: Z2
#[test]
fn z2_download_chroot_exec() {
    ours(|agent| {
        let run = file(agent, "z2");
        run.stdout_is("fetched and run\n");
        run.wait_for("complete");
    });
}

/// Covers: Z4
#[test]
fn z4_devices_are_usable_after_another_allocation_ended() {
    ours(|agent| {
        let start = |name| {
            Job::service(name, "bivouac", &["sleep", "600"]).task("KillTimeout", json!(0)).start(agent)
        };
        let (first, second) = (start("z4-first"), start("z4-second"));
        let copy = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64k", "count=1"];
        assert_eq!((first.exec(&copy).code, second.exec(&copy).code), (0, 0));
        first.stop();
        first.nothing_left();
        assert_eq!(second.exec(&copy).code, 0);
    });
}

/// Covers: Z5
#[test]
fn z5_exec_namespace_pid() {
    ours(|agent| {
        let run = file(agent, "z5");
        run.stdout_is("my pid is 1\n");
        run.wait_for("complete");
    });
}

/// Covers: Z6
#[test]
fn z6_exec_host_pid() {
    ours(|agent| {
        let job =
            Job::batch("z6", "bivouac", &["/bin/sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l; echo END"]);
        let (_, said) = succeeded(agent, &job.config("pid_mode", json!("host")));
        let numbers: Vec<u32> = said.lines().map(|line| line.trim().parse().expect("a number")).collect();
        assert!(numbers[0] > 1 && numbers[1] > 3, "{said}");
    });
}

/// Covers: Z10
#[test]
fn z10_an_archive_that_unpacks_to_too_much() {
    ours(|agent| {
        let script = "mkdir -p /alloc/data/www && cd /alloc/data && dd if=/dev/zero of=zeros bs=1M count=30 2>/dev/null && \
            tar czf www/bomb.tar.gz zeros && rm zeros && exec busybox httpd -f -p 127.0.0.1:$NOMAD_PORT_http -h /alloc/data/www";
        let server = Job::service("z10-server", "bivouac", &["/bin/sh", "-c", script])
            .group("Networks", json!([{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}]))
            .group("EphemeralDisk", json!({"SizeMB": 100}))
            .task("KillTimeout", json!(0))
            .start(agent);
        let port = server.exec(&["/bin/sh", "-c", "echo $NOMAD_PORT_http"]).stdout;
        let address = format!("127.0.0.1:{}", port.trim());
        let source = format!("http://{address}/bomb.tar.gz");
        // The server comes after the archive.
        assert!(deadline(|| std::net::TcpStream::connect(&address).is_ok()));
        let run = Job::batch("z10", "bivouac", &["true"])
            .task("Artifacts", json!([{"GetterSource": source, "RelativeDest": "local/"}]))
            .finish(agent);
        let events = run.events();
        assert!(events.contains("Failed Artifact Download") && events.contains("limit"), "{events}");
    });
}

/// Covers: Z11
#[test]
fn z11_volume_mounts() {
    ours(|agent| {
        let write = |name: &str, word: &str| {
            let script = format!("mkdir -p /data/z11 && echo {word} > /data/z11/{word}; echo END");
            let job = Job::batch(name, "bivouac", &["/bin/sh", "-c", &script]).volume(&[("/data", false)]);
            succeeded(agent, &job);
        };
        let read = |name: &str| {
            let job = Job::batch(name, "bivouac", &["/bin/sh", "/usr/local/bin/myapplication.sh"])
                .template(
                    "usr/local/bin/myapplication.sh",
                    "755",
                    "cat /tmp/foo/z11/*; touch /tmp/foo/z11/no; echo END\n",
                )
                .volume(&[("/tmp/foo", true)]);
            let (run, said) = succeeded(agent, &job);
            assert!(run.stderr().contains("Read-only file system"), "{}", run.stderr());
            said
        };
        write("z11-a", "first");
        assert_eq!(read("z11-b"), "first\n");
        write("z11-c", "second");
        assert_eq!(read("z11-d"), "first\nsecond\n");
    });
}

/// Covers: Z13
#[test]
fn z13_template_update_triggers() {
    ours(|agent| {
        let path = "nomad/jobs/z13-bivouac";
        let item = |word: &str| {
            let body = json!({"Namespace": "default", "Path": path, "Items": {"word": word}});
            agent.api.put(&format!("/v1/var/{path}"), &body).expect("a variable");
        };
        item("before");
        let template = json!([{
            "DestPath": "local/word", "ChangeMode": "restart", "Splay": 0,
            "EmbeddedTmpl": "{{ with nomadVar \"nomad/jobs/z13-bivouac\" }}{{ .word }}\n{{ end }}",
        }]);
        let run = Job::service("z13", "bivouac", &["/bin/sh", "-c", "cat /local/word; exec sleep 600"])
            .task("Templates", template)
            .task("KillTimeout", json!(0))
            .start(agent);
        run.stdout_is("before\n");
        item("after");
        run.stdout_is("before\nafter\n");
        assert!(run.event_types("main").contains(&"Restart Signaled".to_owned()), "{}", run.events());
    });
}

/// Covers: Z14
#[test]
fn z14_template_paths() {
    ours(|agent| {
        let task = |name: &str, driver: &str| {
            json!({
                "Name": name, "Driver": driver, "Config": {"command": "/bin/sh", "args": ["-c", "sleep 1; cat ${NOMAD_ALLOC_DIR}/*.txt"]},
                "Resources": {"CPU": 20, "MemoryMB": 32}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
                "Templates": [{"EmbeddedTmpl": format!("from {name}\n"), "DestPath": format!("${{NOMAD_ALLOC_DIR}}/{name}.txt"), "ChangeMode": "noop"}],
            })
        };
        let run = Job::batch("z14", "bivouac", &["true"])
            .group("Tasks", json!([task("main", "bivouac"), task("other", "exec")]))
            .group("EphemeralDisk", json!({"SizeMB": 30}))
            .submit(agent);
        run.wait_for("complete");
        run.stdout_is("from main\nfrom other\n");
        let job = Job::batch("z14-bad", "bivouac", &["true"])
            .task("Meta", json!({"up": "../../.."}))
            .template("${NOMAD_META_up}/escape", "644", "x");
        refused(agent, &job, &["template destination path escapes alloc directory"]);
    });
}

/// Covers: Z16
#[test]
fn z16_the_task_api_is_reachable_from_within() {
    ours(|agent| {
        let script = "curl -sS --unix-socket \"${NOMAD_SECRETS_DIR}/api.sock\" -H \"Authorization: Bearer $NOMAD_TOKEN\" \
            -X POST -d '{\"Meta\":{\"set_by_task\":\"yes\"}}' http://localhost/v1/client/metadata; echo; echo END";
        let job = Job::batch("z16", "bivouac", &["/bin/sh", "-c", script])
            .task("Identity", json!({"Name": "default", "Env": true, "File": true}))
            .memory(64);
        let (_, said) = succeeded(agent, &job);
        assert!(said.contains("\"set_by_task\":\"yes\""), "{said}");
    });
}

/// Covers: Z17
#[test]
fn z17_the_identity_file_is_the_users_alone() {
    ours(|agent| {
        let script =
            "stat -c '%a %U' /secrets/nomad_token; test -s /secrets/nomad_token && echo read; echo END";
        let job = Job::batch("z17", "bivouac", &["/bin/sh", "-c", script])
            .user("nobody")
            .task("Identity", json!({"Name": "default", "Env": false, "File": true}));
        assert_eq!(succeeded(agent, &job).1, "600 nobody\nread\n");
    });
}

/// Covers: Z18
#[test]
fn z18_metrics_of_a_busy_task() {
    ours(|agent| {
        let _run = Job::service("z18", "bivouac", &["/bin/sh", "-c", "while :; do :; done"])
            .task("KillTimeout", json!(0))
            .start(agent);
        let positive = |name: &str| {
            let all = agent.client_api().get("/v1/metrics").unwrap_or_default();
            let gauges = all["Gauges"].as_array().cloned().unwrap_or_default();
            gauges.iter().any(|gauge| {
                gauge["Name"] == name
                    && gauge["Labels"]["job"] == "z18-bivouac"
                    && gauge["Value"].as_f64() > Some(0.0)
            })
        };
        for name in ["nomad.client.allocs.cpu.total_percent", "nomad.client.allocs.memory.usage"] {
            assert!(deadline(|| positive(name)), "{name}");
        }
    });
}

/// Covers: Z19
#[test]
fn z19_logs_of_both_streams_are_followed() {
    ours(|agent| {
        let run = Job::batch(
            "z19",
            "bivouac",
            &["/bin/sh", "-c", "for n in 1 2 3; do echo out $n; echo err $n >&2; sleep 0.5; done; sleep 2"],
        )
        .start(agent);
        // The command follows both streams for as long as it is let.
        let files = ["out", "err"].map(|name| agent.dir.join(format!("z19-{name}")));
        let [out, err] = [0, 1].map(|at| std::fs::File::create(&files[at]).expect("a file"));
        let mut following = agent.command(&["alloc", "logs", "-f", &run.id]);
        let mut following = following.stdout(out).stderr(err).spawn().expect("it follows");
        let said = || [0, 1].map(|at| std::fs::read_to_string(&files[at]).unwrap_or_default());
        let of = |word: &str, text: &str| {
            text.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect::<Vec<_>>()
        };
        let all = deadline(|| {
            let [out, err] = said();
            of("out", &out) == ["out 1", "out 2", "out 3"] && of("err", &err) == ["err 1", "err 2", "err 3"]
        });
        let pid = rustix::process::Pid::from_child(&following);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is told to end");
        following.wait().expect("its end");
        assert!(all, "{:?}", said());
    });
}

/// Covers: Z21
#[test]
fn z21_every_hook_runs_in_its_order() {
    ours(|agent| {
        let batch = file(agent, "z21-batch");
        batch.wait_for("complete");
        let service = file(agent, "z21-service");
        service.wait_for("running");
        let has = |name: &str| service.dir().join("alloc/data").join(name).exists();
        assert!(deadline(|| has("poststart-ran")));
        // It has nothing to end on a signal with.
        assert!(deadline(|| !has("poststart-running")));
        service.stop();
        for run in [&batch, &service] {
            let data = run.dir().join("alloc/data");
            let there = || {
                let names = std::fs::read_dir(&data).into_iter().flatten();
                let mut names: Vec<String> =
                    names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
                names.sort();
                names
            };
            let all = ["init-ran", "main-ran", "poststart-ran", "poststop-ran", "poststop-right", "side-ran"];
            assert!(deadline(|| there() == all), "{}: {:?}\n{}", run.job, there(), run.events());
        }
    });
}

/// Covers: Z22
#[test]
fn z22_sequences_of_events() {
    ours(|agent| {
        let run = Job::batch("z22-simple", "bivouac", &["true"]).finish(agent);
        assert_eq!(run.event_types("main"), ["Received", "Task Setup", "Started", "Terminated"]);
        let run = Job::batch("z22-failed", "bivouac", &["/no/such"]).finish(agent);
        assert_eq!(run.event_types("main"), ["Received", "Task Setup", "Driver Failure", "Not Restarting"]);

        let task = |name: &str, script: &str, leader: bool| {
            json!({
                "Name": name, "Driver": "bivouac", "Leader": leader, "Config": {"command": "/bin/sh", "args": ["-c", script]},
                "KillTimeout": SECOND / 10,
                "Resources": {"CPU": 20, "MemoryMB": 32}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
            })
        };
        let two = |name, first, second| {
            Job::batch(name, "bivouac", &["true"])
                .group("Tasks", json!([first, second]))
                .group("EphemeralDisk", json!({"SizeMB": 30}))
                .finish(agent)
        };
        let wait = "until [ -e /alloc/data/up ]; do sleep 0.1; done";
        let up = "touch /alloc/data/up; sleep 600";
        let run =
            two("z22-sibling", task("main", &format!("{wait}; exit 1"), false), task("other", up, false));
        let killed = |why| ["Received", "Task Setup", "Started", why, "Killing", "Terminated", "Killed"];
        assert!(deadline(|| run.event_types("other") == killed("Sibling Task Failed")), "{}", run.events());
        assert_eq!(run.now()["TaskStates"]["other"]["Failed"], false);
        let run = two("z22-leader", task("main", wait, true), task("other", up, false));
        assert!(deadline(|| run.event_types("other") == killed("Leader Task Dead")), "{}", run.events());
    });
}

/// Covers: Z23
#[test]
fn z23_a_dead_allocation_is_not_restarted() {
    ours(|agent| {
        let run = Job::batch("z23", "bivouac", &["true"]).finish(agent);
        run.wait_for("complete");
        let said = agent.nomad(&["alloc", "restart", &run.id]);
        assert!(
            said.code != 0 && said.stderr.contains("restart of an alloc that should not run"),
            "{said:?}"
        );
    });
}
