//! Rows E1 to E23: what the exec driver's own tests assert, with real tasks.

use crate::bench::{Bench, Run, lives, log, namespace, read_line, until, wait};
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Standing};
use bivouac_driver::options::Value;
use bivouac_driver::request::{StarterGone, Streams, TaskRequest};
use bivouac_driver::signals::Signal;
use bivouac_shim::status::Phase;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Covers: E3
#[test]
fn e3_work_dir() {
    let Some(bench) = Bench::new("e3") else { return };
    let request = bench.request("a", "cat", &["foo.txt"], vec![("work_dir", "/local".into())]);
    std::fs::write(bench.path("a/task/local/foo.txt"), "foo\n").unwrap();
    let output = bench.run(&request);
    assert_eq!((output.out.as_str(), output.code), ("foo\n", 0), "{output:?}");
    bench.finish();
}

/// Covers: E4
#[test]
fn e4_start_wait() {
    let Some(bench) = Bench::new("e4") else { return };
    let output = bench.run(&bench.request("a", "cat", &["/proc/self/cgroup"], vec![]));
    assert!(output.code == 0 && output.out.contains("bivouac-test-e4"), "{output:?}");
    bench.finish();
}

/// Covers: E5
#[test]
fn e5_start_wait_stop_kill() {
    let Some(bench) = Bench::new("e5") else { return };
    let mut run = bench.started(&bench.request("a", "bash", &["-c", "echo hi; sleep 600"], vec![]));
    assert_eq!(read_line(&mut run.out), "hi");
    let exit = bench.engine.stop(&run.id, Signal::INT, Duration::from_secs(2)).unwrap().unwrap();
    assert_ne!(exit.ending.code(), 0);
    assert!(matches!(bench.engine.inspect(&run.id).unwrap().phase, Phase::Exited), "state exited");
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: E6
#[test]
fn e6_start_wait_recover() {
    let Some(bench) = Bench::new("e6") else { return };
    let request = bench.script("a", "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done", vec![]);
    let Run { id, started, mut out, err: _err } = bench.started(&request);
    assert_eq!(read_line(&mut out), "ready");
    let handle = started.handle.clone();
    assert_eq!(bench.refusal(&request), "task with ID \"alloc/a\" already started");
    assert!(matches!(bench.engine.destroy(&id, Leftovers::Refuse), Err(EngineError::Running)));
    // The wait is given up, and all that was known in memory with it: another engine, as after a restart.
    drop(started);
    let later = Engine::new(bench.places.clone()).unwrap();
    assert!(matches!(later.recover(&handle), Ok(Standing::Alive(_))));
    let mut foreign = handle.clone();
    foreign.shim.start_time += 1;
    assert!(matches!(later.recover(&foreign), Err(EngineError::Lost(_))));
    let exit = later.stop(&id, Signal::INT, Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 7);
    later.destroy(&id, Leftovers::Refuse).unwrap();
    assert!(matches!(later.find(&id), Err(EngineError::Unknown)));
    assert!(later.destroy(&id, Leftovers::Kill).is_ok(), "by force, an unknown run is no error");
    bench.finish();
}

/// Covers: E7, E11
#[test]
fn e7_no_orphans_of_a_start_that_fails() {
    let Some(bench) = Bench::new("e7") else { return };
    let missing = bench.request("a", "/bin/foobar", &[], vec![]);
    assert!(bench.refusal(&missing).contains("/bin/foobar"));
    let unknown = TaskRequest { user: "alice".into(), ..bench.request("b", "/bin/true", &[], vec![]) };
    assert!(bench.refusal(&unknown).contains("user alice"));
    until("no shim is left", || {
        bench
            .groups_of("alloc/shims")
            .iter()
            .all(|path| std::fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|list| list.is_empty()))
    });
    bench.finish();
}

/// Covers: E8
#[test]
fn e8_no_orphaned_tasks() {
    let Some(bench) = Bench::new("e8") else { return };
    let script = "sleep 3600 & echo $!; sleep 1; exit 0";
    let mut run = bench.started(&bench.script("a", script, vec![]));
    read_line(&mut run.out);
    let first = run.started.pid;
    let children =
        || std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
    let mut seen = Vec::new();
    until("the shell has two children", || {
        seen = children().split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect();
        seen.len() == 2
    });
    assert_eq!(wait(run.started).ending.code(), 0);
    until("the shell and both are gone", || !lives(first) && seen.iter().all(|pid| !lives(*pid)));
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: E9
#[test]
fn e9_stats() {
    let Some(bench) = Bench::new("e9") else { return };
    let run = bench.started(&bench.request("a", "sleep", &["100"], vec![]));
    let stats = bench.engine.stats(&run.id).unwrap();
    let memory = stats.group.memory.expect("memory is measured");
    assert!(memory.current.0 > 0 && stats.group.cpu.is_some() && stats.oom_kills == 0, "{stats:?}");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

/// Covers: E10
#[test]
fn e10_alloc_dir() {
    let Some(bench) = Bench::new("e10") else { return };
    let output = bench.shell("a", "echo kept > $NOMAD_ALLOC_DIR/output.txt", vec![]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(std::fs::read_to_string(bench.path("a/alloc/output.txt")).unwrap(), "kept\n");
    bench.finish();
}

/// Covers: E12
#[test]
fn e12_handler_exec() {
    let Some(bench) = Bench::new("e12") else { return };
    let run = bench.started(&bench.request("a", "sleep", &["9000"], vec![]));
    let own = bench.exec(&run.id, "cat /proc/self/cgroup; cat /proc/1/cgroup", b"");
    let lines: Vec<&str> = own.out.lines().collect();
    let (session, first) = lines.split_at(lines.len() / 2);
    assert_eq!(session, first, "the session is in the task's groups");
    assert!(session.iter().any(|line| line.contains("bivouac-test-e12")));
    let missing = bench.exec(&run.id, "/usr/bin/stat /no/such/file", b"");
    assert!(missing.code != 0 && missing.err.contains("No such file or directory"), "{missing:?}");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

/// Covers: E13
#[test]
fn e13_devices_and_mounts() {
    let Some(bench) = Bench::with(
        "e13",
        vec![
            ("allow_devices", Value::texts(["/dev/random"])),
            ("allow_mount_paths", Value::texts(["/var/tmp", "/tmp"])),
            ("allow_root", true.into()),
        ],
    ) else {
        return;
    };
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    std::fs::write(data.path().join("file"), "from the host\n").unwrap();
    let source = data.path().to_str().unwrap();
    let mount = |target: &str, readonly: bool| {
        Value::map([("source", source.into()), ("target", target.into()), ("readonly", readonly.into())])
    };
    let device = Value::map([
        ("host_path", Value::from("/dev/random")),
        ("container_path", "/dev/inserted-random".into()),
        ("cgroup_permissions", "rw".into()),
    ]);
    let script = "stat -c %t:%T /dev/inserted-random; cat /tmp/task-path-rw/file /tmp/task-path-ro/file; \
        touch /tmp/task-path-rw/file && echo from-exec > /tmp/task-path-rw/file-from-exec; \
        touch /tmp/task-path-ro/file; touch /tmp/task-path-ro/file-from-exec; exit 0";
    let request = bench.root_script(
        "a",
        script,
        vec![
            ("mount", Value::List(vec![mount("/tmp/task-path-rw", false), mount("/tmp/task-path-ro", true)])),
            ("devices", device),
        ],
    );
    let (out, err) = (bench.path("stdout"), bench.path("stderr"));
    let task = bench.engine.prepare(&bench.operator, &request).unwrap();
    let streams = Streams::Files { stdin: None, stdout: Some(log(&out)), stderr: Some(log(&err)) };
    let started = bench.engine.start(&request, &task, streams.into(), StarterGone::Keep).unwrap();
    let exit = wait(started);
    let (out, err) = (std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap());
    assert_eq!((exit.ending.code(), out.as_str()), (0, "1:8\nfrom the host\nfrom the host\n"), "{err}");
    assert_eq!(err.lines().filter(|line| line.ends_with("Read-only file system")).count(), 2, "{err}");
    assert_eq!(err.lines().count(), 2, "{err}");
    assert_eq!(std::fs::read_to_string(data.path().join("file-from-exec")).unwrap(), "from-exec\n");
    bench.engine.destroy(&request.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: E15
#[test]
fn e15_no_pivot_root() {
    let Some(bench) = Bench::with("e15", vec![("no_pivot_root", true.into())]) else { return };
    let run = bench.started(&bench.request("a", "sleep", &["100"], vec![]));
    assert_ne!(namespace(run.started.pid, "mnt"), std::fs::read_link("/proc/self/ns/mnt").unwrap());
    assert_eq!(bench.exec(&run.id, "ls -d /proc/self/status /root /var", b"").out, "/proc/self/status\n");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

/// Covers: E16
#[test]
fn e16_oom_killed() {
    let Some(bench) = Bench::new("e16") else { return };
    let request = bench.request("a", "tail", &["/dev/zero"], vec![]);
    let run = bench.started(&request);
    let exit = wait(run.started);
    assert!(exit.oom_kills > 0 && exit.ending.code() != 0, "{exit:?}");
    assert!(bivouac_driver::engine::sentences(&exit, Some(128)).join("").contains("limit 128 MiB"));
    bench.engine.destroy(&request.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: E20
#[test]
fn e20_start_wait_stop() {
    let Some(bench) = Bench::new("e20") else { return };
    let run = bench.started(&bench.request("a", "sleep", &["600"], vec![]));
    let exit = bench.engine.stop(&run.id, Signal::KILL, Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 128 + 9);
    assert_eq!(wait(run.started).ending, exit.ending);
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: E22, D11
#[test]
fn e22_dns_config() {
    let Some(bench) = Bench::new("e22") else { return };
    let servers = Value::texts(["1.1.1.1", "8.8.8.8"]);
    let all = Value::map([
        ("servers", servers.clone()),
        ("searches", Value::texts(["localdomain", "example.test"])),
        ("options", Value::texts(["ndots:2", "edns0"])),
    ]);
    let cases = [
        ("none", vec![]),
        ("servers", vec![("dns", Value::map([("servers", servers)]))]),
        ("all", vec![("dns", all)]),
    ];
    let system = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for (id, options) in cases {
        let seen = bench.shell(id, "cat /etc/resolv.conf", options).out;
        if id == "none" {
            assert_eq!(seen, system);
            continue;
        }
        assert!(seen.contains("nameserver 1.1.1.1\n") && seen.contains("nameserver 8.8.8.8\n"), "{seen}");
        if id == "all" {
            assert!(seen.contains("search localdomain example.test\n"), "{seen}");
            assert!(seen.contains("options ndots:2 edns0\n"), "{seen}");
        }
    }
    bench.finish();
}

/// Covers: T121
#[test]
fn t121_files_of_names_say_what_was_asked_and_everybody_may_read_them() {
    let Some(bench) = Bench::new("t121") else { return };
    let script = "stat -c '%a %u:%g' /etc/resolv.conf /etc/hosts; cat /etc/hosts";
    // The host's own, as they are there.
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = format!("{:o} 0:0\n{:o} 0:0\n", mode("/etc/resolv.conf"), mode("/etc/hosts"));
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(bench.shell("plain", script, vec![]).out, modes + &hosts);
    let options = vec![
        ("dns", Value::map([("servers", Value::texts(["1.1.1.1"]))])),
        ("extra_hosts", Value::texts(["db:192.0.2.7", "six:2001:db8::7"])),
    ];
    let asked = bench.shell("asked", script, options).out;
    assert!(asked.starts_with("644 0:0\n644 0:0\n"), "{asked}");
    assert!(asked.contains("localhost") && asked.ends_with("192.0.2.7 db\n2001:db8::7 six\n"), "{asked}");
    bench.finish();
}

/// Covers: E23
#[test]
fn e23_capabilities() {
    let cases: [(&str, &[&str], &[&str], &str); 4] = [
        ("drop-all-add", &["fowner", "mknod"], &["all"], ""),
        ("add-not-allowed", &["net_admin"], &[], "net_admin"),
        ("drop", &[], &["fowner", "mknod", "net_raw"], ""),
        ("add-many", &["net_admin", "mknod", "CAP_SYS_TIME"], &[], "net_admin, sys_time"),
    ];
    let Some(bench) = Bench::with("e23", vec![("no_pivot_root", true.into())]) else { return };
    for (id, add, drop, refusal) in cases {
        let options = vec![
            ("cap_add", Value::texts(add.iter().copied())),
            ("cap_drop", Value::texts(drop.iter().copied())),
        ];
        let request = bench.script(id, "exit 0", options);
        if refusal.is_empty() {
            assert_eq!(bench.run(&request).code, 0, "{id}");
        } else {
            let text = bench.refusal(&request);
            assert_eq!(text, format!("driver does not allow the following capabilities: {refusal}"), "{id}");
        }
    }
    bench.finish();
}
