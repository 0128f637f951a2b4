//! Rows X1 to X51: what the executor's own tests assert, with real tasks. The rows about control groups are in
//! `x_cgroups.rs`.

use crate::bench::{
    Bench, Options, Output, PATIENCE, Run, lives, namespace, read_all, read_line, until, wait,
};
use bivouac_driver::engine::{EngineError, Leftovers};
use bivouac_driver::options::Value;
use bivouac_driver::request::TaskRequest;
use bivouac_driver::signals::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A chroot environment with a few programs and what they load, and something that does not exist.
fn few_programs() -> Options {
    let mut entries =
        vec!["/etc/ld.so.cache", "/etc/passwd", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/no/such/thing"];
    let (below, programs) = if Path::new("/bin").is_symlink() {
        ("/usr/bin", ["/usr/bin/ls", "/usr/bin/echo", "/usr/bin/cat", "/usr/bin/sleep"])
    } else {
        ("/bin", ["/bin/ls", "/bin/echo", "/bin/cat", "/bin/sleep"])
    };
    assert!(Path::new(below).is_dir());
    entries.extend(programs);
    vec![("chroot_env", Value::map(entries.into_iter().map(|path| (path, path.into()))))]
}

/// Covers: X2
#[test]
fn x2_host_modes() {
    let Some(bench) = Bench::new("x2") else { return };
    let host = || vec![("pid_mode", "host".into()), ("ipc_mode", "host".into())];
    let mut run = bench.started(&bench.script("a", "ls /; echo; exec sleep 100", host()));
    let ours = std::process::id() as i32;
    for kind in ["pid", "ipc"] {
        assert_eq!(namespace(run.started.pid, kind), namespace(ours, kind));
    }
    for kind in ["mnt", "uts"] {
        assert_ne!(namespace(run.started.pid, kind), namespace(ours, kind));
    }
    let names: Vec<String> =
        std::iter::from_fn(|| Some(read_line(&mut run.out)).filter(|line| !line.is_empty())).collect();
    assert!(names.iter().any(|name| name == "usr"), "{names:?}");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

/// Covers: X3, T14
#[test]
fn x3_isolation_and_constraints() {
    let Some(bench) = Bench::with("x3", few_programs()) else { return };
    let run = bench.started(&bench.request("sleeps", "sleep", &["100"], vec![]));
    for kind in ["mnt", "pid", "ipc"] {
        assert_ne!(namespace(run.started.pid, kind), namespace(std::process::id() as i32, kind), "{kind}");
    }
    let limits: Vec<String> = bench
        .groups_of(&run.id)
        .iter()
        .flat_map(|group| ["memory.limit_in_bytes", "memory.max"].map(|file| group.join(file)))
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    assert!(limits.iter().any(|limit| limit.trim() == (128 << 20).to_string()), "{limits:?}");
    bench.engine.stop(&run.id, Signal::KILL, Duration::ZERO).unwrap();
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    assert!(bench.groups_of(&run.id).is_empty(), "the group is gone");

    let output = bench.run(&bench.request("lists", "ls", &["-F", "/", "/etc/"], vec![]));
    let names: Vec<&str> = output.out.lines().map(|line| line.trim_end_matches(['@', '/', '*'])).collect();
    let merged = Path::new("/bin").is_symlink();
    let mut expected = vec![
        "/:",
        "alloc",
        "dev",
        "etc",
        "lib",
        "lib64",
        "local",
        "proc",
        "secrets",
        "sys",
        "tmp",
        "usr",
        "",
        "/etc/:",
        "ld.so.cache",
        "passwd",
    ];
    if !merged {
        expected.insert(2, "bin");
    }
    // Where the distribution has no such directory there is none.
    expected.retain(|name| !name.starts_with("lib") || Path::new("/").join(name).exists());
    assert_eq!(names, expected, "{output:?}");
    bench.finish();
}

/// Covers: X4
#[test]
fn x4_oom_killed() {
    let Some(bench) = Bench::new("x4") else { return };
    let run = bench.started(&bench.request("a", "tail", &["/dev/zero"], vec![]));
    let exit = wait(run.started);
    assert!(exit.ending.code() > 0 && exit.oom_kills > 0, "{exit:?}");
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: X6
#[test]
fn x6_lookup_table() {
    let Some(bench) = Bench::with(
        "x6",
        vec![
            ("allow_mount_paths", Value::texts(["/var/tmp"])),
            (
                "chroot_env",
                Value::map([
                    ("/bin", Value::from("/bin")),
                    ("/lib", "/lib".into()),
                    ("/lib64", "/lib64".into()),
                    ("/usr/lib", "/usr/lib".into()),
                    ("/usr/lib64", "/usr/lib64".into()),
                    ("/usr/bin", "/usr/bin".into()),
                ]),
            ),
        ],
    ) else {
        return;
    };
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = |path: &Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\necho $0\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script(&data.path().join("tmp4.txt"));
    script(&data.path().join("bar/tmp5.txt"));
    let cases = [
        ("tmp0.txt", "/usr/local/bin/tmp0.txt"),
        ("/foo/tmp1.txt", "/foo/tmp1.txt"),
        ("/local/tmp2.txt", "/local/tmp2.txt"),
        ("local/tmp2.txt", "/local/tmp2.txt"),
        ("tmp2.txt", "/local/tmp2.txt"),
        ("/local/foo/tmp3.txt", "/local/foo/tmp3.txt"),
        ("/srv/tmp4.txt", "/srv/tmp4.txt"),
        ("/srv/bar/tmp5.txt", "/srv/bar/tmp5.txt"),
        ("tmp4.txt", ""),
        ("/bin/no-such-program", ""),
    ];
    for (number, (command, found)) in cases.into_iter().enumerate() {
        let mount =
            Value::map([("source", data.path().to_str().unwrap().into()), ("target", Value::from("/srv"))]);
        let id = format!("c{number}");
        let request = bench.request(&id, command, &[], vec![("mount", mount)]);
        let task = bench.path(&id).join("task");
        for path in ["usr/local/bin/tmp0.txt", "foo/tmp1.txt", "local/tmp2.txt", "local/foo/tmp3.txt"] {
            script(&task.join(path));
        }
        if found.is_empty() {
            let expected = format!("file {command} not found under path {}", task.display());
            let text = bench.refusal(&request);
            assert!(text.contains(&expected), "{text}");
        } else {
            assert_eq!(bench.run(&request), Output::new(&format!("{found}\n"), "", 0), "{command}");
        }
    }
    bench.finish();
}

/// Covers: X7, T11
#[test]
fn x7_escape_container() {
    let Some(bench) = Bench::with("x7", few_programs()) else { return };
    for (id, command) in [("a", "/bin/kill"), ("b", "kill")] {
        let text = bench.refusal(&bench.request(id, command, &[], vec![]));
        assert!(text.contains(&format!("file {command} not found under path")), "{text}");
    }
    assert_eq!(bench.run(&bench.request("c", "echo", &["here"], vec![])), Output::new("here\n", "", 0));
    bench.finish();
}

/// Covers: X8
#[test]
fn x8_oom_score_is_not_inherited() {
    let Some(bench) = Bench::new("x8") else { return };
    let file = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, "77").unwrap();
    let output = bench.shell("a", "cat /proc/self/oom_score_adj", vec![]);
    std::fs::write(file, before.trim()).unwrap();
    assert_eq!(output.out, "0\n", "{output:?}");
    bench.finish();
}

/// Covers: X9, T54, CVE-2019-12618
#[test]
fn x9_capabilities() {
    let Some(bench) = Bench::new("x9") else { return };
    let show = "grep Cap /proc/self/status | cut -f2";
    let held = u64::from_str_radix(
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix("CapPrm:\t"))
            .unwrap(),
        16,
    )
    .unwrap();
    let five = |value: u64| format!("{value:016x}\n").repeat(5);
    let default = 0xa804_05fb & held;
    assert_eq!(bench.shell("nobody", show, vec![]).out, five(default));
    let one = vec![("cap_drop", Value::texts(["all"])), ("cap_add", Value::texts(["net_bind_service"]))];
    assert_eq!(bench.shell("one", show, one).out, five(0x400));
    let root = bench.run(&bench.root_script("root", show, vec![]));
    let all = format!("{:016x}\n", 0x3f_ffff_ffff & held);
    let none = format!("{:016x}\n", 0);
    assert_eq!(root.out, format!("{none}{all}{all}{all}{none}"));
    bench.finish();
}

/// Covers: X10
#[test]
fn x10_client_cleanup() {
    let Some(bench) = Bench::new("x10") else { return };
    let Run { id, started: _started, mut out, .. } = bench.started(&bench.request("a", "yes", &[], vec![]));
    assert_eq!(read_line(&mut out), "y");
    let reader = std::thread::spawn(move || read_all(out).len());
    bench.engine.stop(&id, Signal::TERM, Duration::from_millis(100)).unwrap();
    until("nobody holds the other end any more", || reader.is_finished());
    assert!(reader.join().unwrap() > 0);
    bench.engine.destroy(&id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: X13
#[test]
fn x13_work_dir() {
    let Some(bench) = Bench::new("x13") else { return };
    let output = bench.request("a", "pwd", &[], vec![("work_dir", "/etc".into())]);
    assert_eq!(bench.run(&output), Output::new("/etc\n", "", 0));
    bench.finish();
}

/// Covers: X14, X15
#[test]
fn x14_x15_user_and_logname() {
    let Some(bench) = Bench::new("x14") else { return };
    let request =
        TaskRequest { user: "daemon".into(), ..bench.script("a", "echo $USER $LOGNAME; id -un", vec![]) };
    assert_eq!(bench.run(&request).out, "daemon daemon\ndaemon\n");
    bench.finish();
}

/// Covers: X26, X27, X28
#[test]
fn x26_x27_x28_start_and_its_end() {
    let Some(bench) = Bench::new("x28") else { return };
    let missing = bench.request("x26", "/bin/foobar", &[], vec![]);
    assert!(matches!(bench.start(&missing).map(drop), Err(EngineError::Launch { exit_code: 127, .. })));

    let hello = bench.request("x28", "/bin/echo", &["hello world"], vec![]);
    assert_eq!(bench.run(&hello), Output::new("hello world\n", "", 0));

    let run = bench.started(&bench.script("x27", "sleep 0.1; date fail", vec![]));
    assert!(run.started.pid > 0);
    assert_ne!(wait(run.started).ending.code(), 0);
    let stopped = bench.engine.stop(&run.id, Signal::INT, Duration::from_millis(100)).unwrap();
    assert!(stopped.is_some(), "stopping what has ended is no error and tells the end");
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: X29
#[test]
fn x29_wait_does_not_wait_for_children() {
    let Some(bench) = Bench::new("x29") else { return };
    let before = Instant::now();
    let run = bench.started(&bench.script("a", "(sleep 300 > /dev/null &) ; exec sleep 1", vec![]));
    assert_eq!(wait(run.started).ending.code(), 0);
    assert!(before.elapsed() < PATIENCE);
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: X30
#[test]
fn x30_wait_exit_signal() {
    let Some(bench) = Bench::new("x30") else { return };
    let run = bench.started(&bench.request("a", "sleep", &["100"], vec![]));
    let stats = bench.engine.stats(&run.id).unwrap().group;
    assert!(stats.pids == Some(1) && stats.memory.is_some(), "{stats:?}");
    let pid = rustix::process::Pid::from_raw(run.started.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait(run.started).ending.code(), 128 + 9);
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: X31, X32, X35, X36, T105
#[test]
fn x31_x32_x35_x36_stop_at_once() {
    let Some(bench) = Bench::new("x31") else { return };
    for (id, signal, grace) in [
        ("x31", Signal::INT, Duration::from_millis(100)),
        ("x35", Signal::KILL, Duration::ZERO),
        ("x36", Signal::TERM, Duration::from_millis(100)),
    ] {
        let run = bench.started(&bench.request(id, "sleep", &["1000"], vec![]));
        let pid = run.started.pid;
        let exit = bench.engine.stop(&run.id, signal, grace).unwrap().unwrap();
        assert!(exit.ending.code() > 128, "{id}: {exit:?}");
        assert_eq!(wait(run.started).ending, exit.ending);
        assert_eq!((read_all(run.out), read_all(run.err)), (String::new(), String::new()));
        assert!(!lives(pid), "{id}: the process is gone");
        bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    }
    bench.finish();
}

/// Covers: X37
#[test]
fn x37_a_script_without_execute_bit_in_the_chroot() {
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    let script = data.path().join("hello");
    std::fs::write(&script, "#!/bin/sh\necho hello world\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = script.to_str().unwrap();
    let mut entries: Vec<(&str, Value)> =
        ["/bin", "/lib", "/lib64", "/usr"].into_iter().map(|path| (path, path.into())).collect();
    entries.push((path, path.into()));
    let Some(bench) = Bench::with("x37", vec![("chroot_env", Value::map(entries))]) else { return };
    assert_eq!(bench.run(&bench.request("a", path, &[], vec![])), Output::new("hello world\n", "", 0));
    assert_eq!(
        std::fs::metadata(&script).unwrap().permissions().mode() & 0o777,
        0o600,
        "the host's is as it was"
    );
    bench.finish();
}
