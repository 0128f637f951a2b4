//! The command as a person uses it: every example runs, exit statuses, errors that name the thing, nothing left.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Bivouac, root, wait_for};

#[test]
fn every_batch_example_runs() {
    let Some(bivouac) = Bivouac::new("examples") else { return };
    let expected = [
        ("hello", "hello from pid 1 as nobody in /"),
        ("limits", "memory in MB: 16"),
        ("capabilities", "CapEff:\t0000000000000400"),
        ("host-modes", "not process 1"),
        ("two-tasks", "reader | a message from writer"),
        ("volumes", "No space left on device"),
    ];
    for (name, text) in expected {
        let (stdout, stderr, code) = bivouac.told(&["run", &format!("examples/{name}.nomad.hcl")]);
        assert!(stdout.contains(text), "{name}: {stdout}{stderr}");
        assert_eq!(code, Some(0), "{name}: {stderr}");
    }
    let all = std::fs::read_dir(root().join("examples")).unwrap();
    let files = all.flatten().filter(|entry| entry.path().to_string_lossy().ends_with(".nomad.hcl")).count();
    // With tests of their own: here, in book.rs.
    let elsewhere = [
        "web",
        "bridge-web",
        "two-services",
        "postgres",
        "batch-pipeline",
        "fetched-program",
        "nightly-backup",
    ];
    assert_eq!(files, expected.len() + elsewhere.len(), "every example is run by a test");
}

#[test]
fn the_web_example_serves_is_seen_entered_and_stopped() {
    let Some(bivouac) = Bivouac::new("web") else { return };
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let variable = format!("port={port}");
    let arguments = ["run", "--quiet", "-var", &variable, "examples/web.nomad.hcl"];
    let mut server = bivouac.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let fetched = wait_for("the server's answer", || fetch(port));
    assert!(fetched.contains("hello from a bivouac"), "{fetched}");
    let (listed, _, _) = bivouac.told(&["ps", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let task = &listed["allocations"][0]["tasks"][0];
    assert_eq!(task["task"], "web.web[0]/server");
    assert_eq!(task["state"], "running");
    let id = task["id"].as_str().unwrap();
    assert_eq!(bivouac.told(&["exec", id, "id", "-un"]), ("nobody\n".to_owned(), String::new(), Some(0)));
    assert_eq!(bivouac.told(&["exec", id, "sh", "-c", "exit 43"]).2, Some(43));
    let (_, text, code) = bivouac.told(&["exec", id, "no-such-command"]);
    assert!(text.contains("no-such-command"), "{text}");
    assert_eq!(code, Some(127));
    assert_eq!(bivouac.told(&["exec", id, "/usr"]).2, Some(126));
    let (figures, _, _) = bivouac.told(&["stats", "--json", id]);
    assert!(figures.contains("oom_kills"), "{figures}");
    assert_eq!(bivouac.told(&["stop", id]).2, Some(0));
    assert!(server.wait().unwrap().code().is_some());
}

fn fetch(port: u16) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /hello.txt HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn exit_statuses_are_those_of_shells() {
    let Some(bivouac) = Bivouac::new("status") else { return };
    let code = |command: &[&str]| bivouac.told(&[&["run", "--quiet", "--"], command].concat()).2;
    assert_eq!(code(&["/bin/sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["/bin/sh", "-c", "kill -9 $$; exit 3"]), Some(3), "process 1 cannot kill itself");
    assert_eq!(code(&["/no/such/command"]), Some(127));
    assert_eq!(code(&["/usr/bin"]), Some(126));
}

#[test]
fn flags_do_what_they_say() {
    let Some(bivouac) = Bivouac::new("flags") else { return };
    let line = "echo $A; pwd; hostname; cat /v/f; touch /v/x 2>&1; ulimit -n; ls /sys/class/net";
    std::fs::create_dir_all(bivouac.state.join("volume")).unwrap();
    std::fs::write(bivouac.state.join("volume/f"), "content\n").unwrap();
    let volume = format!("{}:/v:ro", bivouac.state.join("volume").display());
    let flags = ["run", "--quiet", "-e", "A=b", "-w", "/tmp", "--hostname", "a-task", "-v", &volume];
    let more = ["--ulimit", "nofile=99:99", "--net", "none", "--memory", "64m", "--", "/bin/sh", "-c", line];
    let (stdout, stderr, code) = bivouac.told(&[&flags[..], &more[..]].concat());
    let expected = "b\n/tmp\na-task\ncontent\ntouch: cannot touch '/v/x': Read-only file system\n99\nlo\n";
    assert_eq!(stdout, expected, "{stderr}");
    assert_eq!(code, Some(0));
}

#[test]
fn too_much_memory_is_said_so() {
    let Some(bivouac) = Bivouac::new("memory") else { return };
    let (_, stderr, code) = bivouac.told(&["run", "--memory", "32m", "--", "/usr/bin/tail", "/dev/zero"]);
    assert_eq!(code, Some(137), "{stderr}");
    assert!(stderr.contains("for lack of memory (limit 32 MiB)"), "{stderr}");
}

#[test]
fn mistakes_in_a_job_file_are_shown_with_their_place() {
    let Some(bivouac) = Bivouac::new("input") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("bad.nomad.hcl");
    let job = |config: &str| {
        format!(
            "job \"j\" {{\n group \"g\" {{\n task \"t\" {{\n driver = \"exec\"\n config {{\n{config}\n}}\n}}\n}}\n}}\n"
        )
    };
    for (config, needle, place) in [
        ("command = \"/bin/true\"\ncomand = 1", "comand", ":7:"),
        (
            "command = \"/bin/true\"\npid_mode = \"x\"",
            "pid_mode must be \"private\" or \"host\", got \"x\"",
            ":7:",
        ),
        (
            "command = \"/bin/true\"\nwork_dir = \"foo\"",
            "work_dir must be absolute but got relative path \"foo\"",
            ":7:",
        ),
        ("command = 5 +", "", "bad.nomad.hcl"),
    ] {
        std::fs::write(&file, job(config)).unwrap();
        let (_, stderr, code) = bivouac.told(&["run", file.to_str().unwrap()]);
        assert_ne!(code, Some(0), "{config}");
        assert!(stderr.contains(needle) && stderr.contains(place), "{config}: {stderr}");
    }
}

#[test]
fn wrong_flags_are_named() {
    let Some(bivouac) = Bivouac::new("wrong") else { return };
    for (arguments, needle) in [
        (&["run", "/no/such.hcl"][..], "/no/such.hcl"),
        (&["run", "--memory", "0", "--", "true"], "--memory"),
        (&["run", "--user", "no-such-user", "--", "true"], "no-such-user"),
        (&["run", "--user", "0", "--", "true"], "allow_root"),
        (&["run", "--cap-add", "net_admin", "--", "true"], "net_admin"),
        (&["run", "--", "../bin/true"], "`..`"),
        (&["run", "-v", "/no/such/dir:/v", "--", "true"], "/no/such/dir"),
    ] {
        let (_, stderr, code) = bivouac.told(arguments);
        assert_ne!(code, Some(0), "{arguments:?}");
        assert!(stderr.contains(needle), "{arguments:?}: {stderr}");
    }
}

#[test]
fn without_root_it_is_said_so() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let Some(bivouac) = Bivouac::new("rootless") else { return };
    // Where a checkout lies, nobody may have no way to.
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::set_permissions(&bivouac.state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (program, job) = (bivouac.state.join("bivouac"), bivouac.state.join("hello.nomad.hcl"));
    // By another process: what a thread of this one writes cannot be run while others are about to start theirs.
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_bivouac")).arg(&program).status();
    assert!(copied.unwrap().success());
    std::fs::copy(root().join("examples/hello.nomad.hcl"), &job).unwrap();
    let told = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(arguments).current_dir("/").uid(65534).gid(65534).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.code())
    };
    // As it is once something has run.
    let closed = bivouac.state.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    for (arguments, code, words) in [
        (&["--state-dir", closed.to_str().unwrap(), "validate", job.to_str().unwrap()][..], 0, "is valid"),
        (&["run", "--", "true"], 125, "Bivouac must run as root"),
        (&["run", job.to_str().unwrap()], 125, "Bivouac must run as root"),
        (&["doctor"], 1, "Driver must run as root"),
        (&["validate", job.to_str().unwrap()], 0, "is valid"),
    ] {
        let (text, status) = told(arguments);
        assert!(text.contains(words) && status == Some(code), "{arguments:?}: {status:?} {text}");
    }
}

#[test]
fn the_face_killed_ends_its_task() {
    let Some(bivouac) = Bivouac::new("killed") else { return };
    let mark = format!("3600.{}", std::process::id());
    let mut face = bivouac.command(&["run", "--quiet", "--", "/bin/sleep", &mark]).spawn().unwrap();
    let is_it = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|first| first.ends_with(b"bin/sleep"))
            && words.next() == Some(mark.as_bytes())
    };
    let runs = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
            .any(|line| is_it(&line))
    };
    let wait = |wanted: bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while runs() != wanted {
            assert!(Instant::now() < deadline, "wanted {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(true);
    face.kill().unwrap();
    face.wait().unwrap();
    wait(false);
    // What a killed face leaves: a status and a directory, for `gc`. Tasks of other tests are listed too.
    let left = || -> Vec<String> {
        let listed = bivouac.told(&["ps", "--json"]).0;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let all = listed["allocations"].as_array().expect("a list").iter();
        all.filter(|row| row["supervised"] == false).map(|row| row["id"].to_string()).collect()
    };
    let ours = left();
    assert!(!ours.is_empty());
    let deadline = Instant::now() + Duration::from_secs(60);
    while left().iter().any(|id| ours.contains(id)) {
        assert!(Instant::now() < deadline, "gc leaves {ours:?}");
        assert_eq!(bivouac.told(&["gc"]).2, Some(0));
    }
}

#[test]
fn gc_beside_short_runs_neither_fails_nor_disturbs_them() {
    let Some(bivouac) = Bivouac::new("gc-race") else { return };
    let rounds = if std::env::var_os("BIVOUAC_NIGHTLY").is_some() { 200 } else { 12 };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let (stdout, stderr, code) = bivouac.told(&["run", "--", "/bin/echo", "whole"]);
                        assert_eq!((stdout.as_str(), stderr.as_str(), code), ("whole\n", "", Some(0)));
                    }
                })
            })
            .collect();
        let gc = scope.spawn(|| {
            let mut times = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let (_, stderr, code) = bivouac.told(&["gc"]);
                assert_eq!(code, Some(0), "{stderr}");
                times += 1;
            }
            times
        });
        let results: Vec<_> = runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(gc.join().unwrap() > 0);
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn a_plan_is_printed_and_nothing_is_made() {
    let Some(bivouac) = Bivouac::new("plan") else { return };
    let (stdout, stderr, code) = bivouac.told(&["inspect", "--plan", "examples/hello.nomad.hcl"]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in ["/usr overlay usr over", "/proc/kcore NullFile", "pids"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!bivouac.state.exists());
}

#[test]
fn a_nomad_configuration_is_looked_at_without_an_agent() {
    let Some(bivouac) = Bivouac::new("doctor-nomad") else { return };
    let home = bivouac.state.join("nomad");
    let plugins = home.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let program = env!("CARGO_BIN_EXE_bivouac");
    for (name, program) in [("bivouac", program), ("exec", program), ("other", "/bin/true")] {
        std::os::unix::fs::symlink(program, plugins.join(name)).unwrap();
    }
    let doctor = |text: &str| {
        let path = home.join("agent.hcl");
        std::fs::write(&path, text.replace("/opt/nomad/plugins", plugins.to_str().unwrap())).unwrap();
        bivouac.told(&["doctor", "--nomad", path.to_str().unwrap()])
    };
    for example in ["agent", "override"] {
        let text = std::fs::read_to_string(root().join(format!("examples/nomad/{example}.hcl"))).unwrap();
        let (said, errors, code) = doctor(&text);
        assert!(said.contains("fine: plugin") && code == Some(0), "{said}{errors}");
        assert!(said.contains("no block `plugin"), "the other link has none: {said}");
    }
    let wrong = "plugin_dir = \"/opt/nomad/plugins\"\nplugin \"bivouac\" {\n  config {\n    allow_caps = [\"not_valid\"]\n  }\n}\n";
    let (said, errors, code) = doctor(wrong);
    assert!(
        said.contains("capabilities not supported by system: not_valid") && code == Some(1),
        "{said}{errors}"
    );
    let back = std::fs::read_to_string(root().join("examples/nomad/override.hcl")).unwrap();
    std::fs::remove_file(plugins.join("exec")).unwrap();
    let (said, errors, code) = doctor(&back);
    assert!(
        said.contains("the built-in driver reads this block; it refuses log_collection") && code == Some(1),
        "{said}{errors}"
    );
    let (said, errors, code) = doctor("plugin \"bivouac\" {");
    assert!(said.is_empty() && errors.contains("agent.hcl:1") && code != Some(0), "{said}{errors}");
    // A shim that this program would not start.
    let command = bivouac.command(&["doctor", "--nomad", home.join("agent.hcl").to_str().unwrap()]);
    let text = "plugin_dir = \"/opt/nomad/plugins\"\nplugin \"bivouac\" {}\n";
    doctor(text);
    let output = { command }.env("BIVOUAC_SHIM", "/bin/false").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "would start no task: the program /bin/false does not say which version";
    assert!(said.contains(expected) && output.status.code() == Some(1), "{said}");
}

#[test]
fn doctor_says_that_a_shim_would_start_nothing() {
    let Some(bivouac) = Bivouac::new("doctor-shim") else { return };
    let doctor = |shim: &str| {
        let output = bivouac.command(&["doctor"]).env("BIVOUAC_SHIM", shim).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    // A program that knows no such question says nothing, as a shim of an older release.
    for (shim, what, remedy) in [
        (
            "/no/such/bivouac-shim",
            "the program /no/such/bivouac-shim is missing",
            "install bivouac-shim beside",
        ),
        ("/etc/hostname", "the program /etc/hostname cannot be run", "with mode 0755"),
        ("/bin/false", "the program /bin/false does not say which version", "of one release"),
    ] {
        let (said, code) = doctor(shim);
        assert!(said.contains(what) && said.contains(remedy) && code == Some(1), "{said}");
    }
    let beside = std::path::Path::new(env!("CARGO_BIN_EXE_bivouac")).with_file_name("bivouac-shim");
    let shim = std::env::var_os("BIVOUAC_SHIM").map_or(beside, Into::into);
    let (said, _) = doctor(shim.to_str().unwrap());
    assert!(!said.contains("the program"), "{said}");
}
