//! Job files before and beside their runs: made, laid out, checked, planned; replaced when they change; started by the
//! clock or by dispatch.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "support/process.rs"]
mod process;
mod support;

use bivouac_sys::seccomp::{SockFilter, load_filter};
use process::wait_until_gone;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use support::{Bivouac, wait_for};

/// A job of one group `g` with one task `t` that runs a shell line; `more` stands in the job.
fn job(kind: &str, more: &str, line: &str) -> String {
    format!(
        "job \"j\" {{\n  type = \"{kind}\"\n{more}\n  group \"g\" {{\n    restart {{\n attempts = 0\n mode = \"fail\"\n}}\n    task \"t\" {{\n      driver = \"exec\"\n      kill_timeout = \"1s\"\n      config {{\n        command = \"/bin/sh\"\n        args = [\"-c\", \"{line}\"]\n      }}\n    }}\n  }}\n}}\n"
    )
}

const EVERY_SECOND: &str = "  periodic {\n    crons = [\"* * * * * * *\"]\n  }\n";

impl Bivouac {
    fn write(&self, name: &str, text: &str) -> String {
        std::fs::create_dir_all(&self.state).unwrap();
        let path = self.state.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn listed(&self) -> Value {
        serde_json::from_str(&self.told(&["ps", "--all", "--json"]).0).unwrap()
    }

    /// The jobs that allocations belong to, sorted.
    fn jobs(&self) -> Vec<String> {
        let listed = self.listed();
        let rows = listed["allocations"].as_array().unwrap();
        let mut names: Vec<String> = rows.iter().map(|row| row["job"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Stops everything, and leaves nothing.
    fn end(&self) {
        self.told(&["resume"]);
        let listed = self.listed();
        for row in listed["jobs"].as_array().unwrap() {
            self.told(&["stop", row["job"].as_str().unwrap()]);
        }
        for row in self.listed()["allocations"].as_array().unwrap() {
            self.told(&["stop", "--timeout", "1s", row["id"].as_str().unwrap()]);
        }
        wait_for("gc", || {
            let told = self.told(&["gc"]);
            let listed = self.listed();
            let left =
                listed["allocations"].as_array().unwrap().len() + listed["jobs"].as_array().unwrap().len();
            if left > 0 {
                println!("{}{}", told.0, told.1);
            }
            (left == 0).then_some(())
        });
    }
}

#[test]
fn a_first_job_file_is_made_laid_out_and_valid() {
    let Some(bivouac) = Bivouac::new("first") else { return };
    let file = bivouac.write("first.nomad.hcl", "");
    let (_, stderr, code) = bivouac.told(&["job", "init", &file]);
    assert!(code == Some(125) && stderr.contains("is there already"), "{stderr}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(bivouac.told(&["job", "init", &file]).2, Some(0));
    assert_eq!(bivouac.told(&["job", "fmt", "-check", &file]), (String::new(), String::new(), Some(0)));
    assert_eq!(bivouac.told(&["validate", &file]).2, Some(0));
    assert_eq!(bivouac.told(&["run", "--quiet", &file]).2, Some(0));

    let crooked = "job \"j\"   {\n# a remark\n      type=\"batch\"\n}\n";
    let straight = "job \"j\" {\n  # a remark\n  type = \"batch\"\n}\n";
    let other = bivouac.write("other.nomad.hcl", crooked);
    assert_eq!(
        bivouac.told(&["job", "fmt", "-check", &other]),
        (format!("{other}\n"), String::new(), Some(1))
    );
    assert_eq!(std::fs::read_to_string(&other).unwrap(), crooked, "--check writes nothing");
    assert_eq!(bivouac.told(&["job", "fmt", &other, &file]), (format!("{other}\n"), String::new(), Some(0)));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), straight);
    let broken = bivouac.write("broken.nomad.hcl", "job \"j\" {");
    let (_, stderr, code) = bivouac.told(&["job", "fmt", &broken]);
    assert!(code == Some(125) && stderr.contains("broken.nomad.hcl:1"), "{stderr}");
    let mut child = bivouac.command(&["job", "fmt", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(crooked.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), straight);
}

#[test]
fn validate_finds_what_can_be_found_without_the_machine() {
    let Some(bivouac) = Bivouac::new("validate") else { return };
    let validate = |text: &str| {
        let file = bivouac.write("v.nomad.hcl", text);
        let (_, stderr, code) = bivouac.told(&["validate", &file]);
        (code, stderr)
    };
    let elsewhere =
        job("batch", "constraint {\n attribute = \"${attr.kernel.name}\"\n value = \"plan9\"\n}\n", "true")
            .replace(
                "restart {",
                "volume \"v\" {\n type = \"host\"\n source = \"nowhere\"\n per_alloc = true\n}\n restart {",
            )
            .replace(
                "driver = \"exec\"",
                "driver = \"exec\"\n volume_mount {\n volume = \"v\"\n destination = \"/v\"\n}",
            );
    assert_eq!(validate(&elsewhere).0, Some(0), "{}", validate(&elsewhere).1);
    for (text, needle) in [
        (
            job("batch", "periodic {\n cron = \"61 * * * *\"\n}\n", "true"),
            "minute \"61\" is not a number from 0 to 59",
        ),
        (
            job("batch", "periodic {\n cron = \"@daily\"\n time_zone = \"Mars/Olympus\"\n}\n", "true"),
            "Mars/Olympus",
        ),
        (job("service", EVERY_SECOND, "true"), "only batch and sysbatch"),
        (
            job("batch", &format!("{EVERY_SECOND} parameterized {{\n}}\n"), "true"),
            "both periodic and parameterized",
        ),
        (job("batch", "", "true").replace("command =", "comand ="), "comand"),
        (job("batch", "", "${nothing.known}"), "nothing.known"),
    ] {
        let (code, stderr) = validate(&text);
        assert!(code == Some(125) && stderr.contains(needle), "{needle}: {stderr}");
    }
}

#[test]
fn a_changed_job_is_planned_and_replaced_and_an_unchanged_one_stays() {
    let Some(bivouac) = Bivouac::new("plan") else { return };
    let secret = "variable \"token\" {\n type = string\n sensitive = true\n default = \"hush-1\"\n}\n";
    let text = |count: u32, line: &str| {
        secret.to_owned()
            + &job("service", "", line)
                .replace("restart {", &format!("count = {count}\n restart {{"))
                .replace("driver = ", "env {\n TOKEN = var.token\n}\n driver = ")
    };
    let file = bivouac.write("j.nomad.hcl", &text(2, "sleep 1001"));
    let plan = |more: &[&str]| bivouac.told(&[&["plan"], more, &[file.as_str()]].concat());
    let (stdout, _, code) = plan(&[]);
    assert_eq!((stdout.as_str(), code), ("+ job \"j\" is new\n+ j.g[0]\n+ j.g[1]\n", Some(1)));
    let run = || bivouac.told(&["run", "-d", &file]);
    let (first, stderr, code) = run();
    assert_eq!(code, Some(0), "{stderr}");
    let (stdout, _, code) = plan(&[]);
    assert_eq!((stdout.as_str(), code), ("= job \"j\" is as it runs\n= j.g[0]\n= j.g[1]\n", Some(0)));
    let (second, stderr, _) = run();
    assert!(stderr.contains("run already, unchanged"), "{stderr}");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&first), sorted(&second), "nothing was started twice");

    let (stdout, _, code) = plan(&["-var", "token=hush-2"]);
    assert!(code == Some(1) && stdout.contains("env.TOKEN") && stdout.contains("-/+ j.g[0]"), "{stdout}");
    assert!(!stdout.contains("hush-2"), "{stdout}");
    bivouac.write("j.nomad.hcl", &text(1, "sleep 1002"));
    let (stdout, _, code) = plan(&[]);
    assert_eq!(code, Some(1));
    for needle in [
        "~ job \"j\"\n",
        "  ~ groups[g].count: 2 -> 1\n",
        "  ~ groups[g].tasks[t].config.args[1]: \"sleep 1001\" -> \"sleep 1002\"\n",
        "-/+ j.g[0]\n- j.g[1]\n",
    ] {
        assert!(stdout.contains(needle), "{needle}: {stdout}");
    }
    let (third, stderr, code) = run();
    assert!(code == Some(0) && stderr.contains("differs from what runs: stopping 2"), "{stderr}");
    let live = bivouac.told(&["ps", "--json"]).0;
    let live: Value = serde_json::from_str(&live).unwrap();
    let live = live["allocations"].as_array().unwrap();
    assert_eq!((live.len(), live[0]["id"].as_str().unwrap()), (1, third.trim()));
    bivouac.write("j.nomad.hcl", "job \"j\" {");
    assert_eq!(plan(&[]).2, Some(255));
    bivouac.end();
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The scheduler's process.
fn scheduler(bivouac: &Bivouac) -> Option<i32> {
    let state = bivouac.state.to_str().unwrap();
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        ["schedule", state].iter().all(|word| line.split('\0').any(|part| part == *word))
    })
}

/// Runs `work` in a thread of its own in which, and in all that it starts, the disk cannot be told to keep anything:
/// fsync(2) answers `EIO`.
fn unsynced<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ANSWER: u32 = 0x0005_0000;
    let fsync = if cfg!(target_arch = "x86_64") { 74 } else { 82 };
    let eio = rustix::io::Errno::IO.raw_os_error().unsigned_abs();
    // The number of the call is the first word of what a filter sees.
    let filter = [
        SockFilter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        SockFilter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: fsync },
        SockFilter { code: RETURN, jt: 0, jf: 0, k: ANSWER | eio },
        SockFilter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ];
    let inside = move || {
        load_filter(&filter).unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let answer = file.sync_all().map_err(|error| error.raw_os_error());
        assert_eq!(answer, Err(Some(rustix::io::Errno::IO.raw_os_error())), "the filter is in force");
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

#[test]
fn what_the_disk_would_not_keep_is_told_and_does_not_run() {
    let Some(bivouac) = Bivouac::new("unsynced") else { return };
    // A run of its own: it was started meanwhile, and is stopped.
    let file = bivouac.write("s.nomad.hcl", &job("service", "", "echo up; exec sleep 1000"));
    let (stdout, stderr, code) = unsynced(|| bivouac.told(&["run", "-d", &file]));
    assert_eq!((stdout.as_str(), code), ("", Some(125)), "{stderr}");
    assert!(stderr.contains("plan.json: Input/output error"), "{stderr}");
    wait_for("the end of its tasks", || {
        let listed = bivouac.listed();
        let over = |row: &Value| row["status"] == "complete" && row["supervised"] == false;
        listed["allocations"].as_array().unwrap().iter().all(over).then_some(())
    });
    bivouac.end();

    // A schedule is kept or refused.
    let file = bivouac.write("j.nomad.hcl", &job("batch", EVERY_SECOND, "true"));
    let (_, stderr, code) = unsynced(|| bivouac.told(&["run", "-d", &file]));
    assert!(code == Some(125) && stderr.contains("Input/output error"), "{stderr}");
    assert_eq!(bivouac.listed()["jobs"].as_array().map(Vec::len), Some(0), "{stderr}");
    bivouac.end();

    // Runs that nobody waits for: the scheduler says so in its log, and the next is tried at its time.
    assert_eq!(bivouac.told(&["run", "-d", &file]).2, Some(0));
    kill_at_once(scheduler(&bivouac).unwrap());
    let before = bivouac.jobs();
    // Of a run that the scheduler began just before its end it may tell the same.
    let (_, stderr, _) = unsynced(|| bivouac.told(&["resume"]));
    assert!(stderr.contains("j goes on"), "{stderr}");
    let log = bivouac.state.join("jobs/j/supervisor.log");
    wait_for("two that did not start", || {
        let log = std::fs::read_to_string(&log).unwrap();
        (log.matches("plan.json: Input/output error").count() >= 2).then_some(())
    });
    assert!(bivouac.jobs().len() <= before.len(), "{before:?} {:?}", bivouac.jobs());
    bivouac.end();
}

fn kill_at_once(pid: i32) {
    kill(pid, rustix::process::Signal::KILL);
    wait_until_gone(pid);
}

#[test]
fn a_periodic_job_starts_by_the_clock_and_survives_the_death_of_its_scheduler() {
    let Some(bivouac) = Bivouac::new("periodic") else { return };
    let file =
        bivouac.write("j.nomad.hcl", &job("batch", EVERY_SECOND, "echo $NOMAD_JOB_PARENT_ID $NOMAD_JOB_ID"));
    let (stdout, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert_eq!((stdout.as_str(), code), ("j\n", Some(0)), "{stderr}");
    let two = wait_for("two runs", || Some(bivouac.jobs()).filter(|jobs| jobs.len() >= 2));
    assert!(two.iter().all(|name| name.starts_with("j/periodic-")), "{two:?}");
    let first = two[0].as_str();
    wait_for("its output", || (bivouac.told(&["logs", first]).0 == format!("j {first}\n")).then_some(()));
    let row = bivouac.listed()["jobs"][0].clone();
    assert_eq!(
        (row["job"].as_str(), row["kind"].as_str(), row["supervised"].as_bool()),
        (Some("j"), Some("periodic"), Some(true))
    );
    assert!(row["next"].is_string());
    let (_, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert!(code == Some(0) && stderr.contains("unchanged"), "{stderr}");

    kill_at_once(scheduler(&bivouac).unwrap());
    assert!(bivouac.told(&["ps"]).0.contains("periodic, unsupervised"));
    assert!(bivouac.told(&["gc"]).1.contains("bivouac resume"));
    let before = bivouac.jobs().last().cloned();
    assert!(bivouac.told(&["resume"]).1.contains("j goes on"));
    wait_for("later runs", || (bivouac.jobs().last().cloned() > before).then_some(()));
    let all = bivouac.jobs();
    let mut different = all.clone();
    different.dedup();
    assert_eq!(all, different, "nothing was started twice");

    let (_, stderr, code) = bivouac.told(&["restart", "j"]);
    assert!(code != Some(0), "{stderr}");
    assert_eq!(bivouac.told(&["stop", "j"]).2, Some(0));
    wait_for("the end of the scheduler", || scheduler(&bivouac).is_none().then_some(()));
    assert!(bivouac.listed()["jobs"].as_array().unwrap().is_empty());
    let (_, stderr, code) = bivouac.told(&["stop", "j"]);
    assert!(code != Some(0) && stderr.contains("no job"), "{stderr}");
    bivouac.end();
}

/// Who removes the state directory can say nothing to a scheduler any more.
#[test]
fn a_scheduler_whose_job_was_removed_by_hand_ends() {
    let Some(bivouac) = Bivouac::new("removed") else { return };
    let file = bivouac.write("j.nomad.hcl", &job("batch", EVERY_SECOND, "true"));
    assert_eq!(bivouac.told(&["run", "-d", &file]).2, Some(0));
    assert!(scheduler(&bivouac).is_some());
    std::fs::remove_dir_all(bivouac.state.join("jobs/j")).unwrap();
    wait_for("its end", || scheduler(&bivouac).is_none().then_some(()));
    bivouac.end();
}

#[test]
fn a_run_that_is_not_over_prohibits_the_next_and_what_was_missed_is_made_up_once() {
    let Some(bivouac) = Bivouac::new("overlap") else { return };
    let alone = EVERY_SECOND.replace("crons", "prohibit_overlap = true\n    crons");
    let file = bivouac.write("j.nomad.hcl", &job("batch", &alone, "exec sleep 1000"));
    assert_eq!(bivouac.told(&["run", "-d", &file]).2, Some(0));
    let log = bivouac.state.join("jobs/j/supervisor.log");
    wait_for("one left out", || std::fs::read_to_string(&log).unwrap().contains("left out").then_some(()));
    assert_eq!(bivouac.jobs().len(), 1, "{:?}", bivouac.jobs());
    bivouac.end();

    let daily = EVERY_SECOND.replace("* * * * * * *", "0 0 * * *");
    let file = bivouac.write("j.nomad.hcl", &job("batch", &daily, "true"));
    assert_eq!(bivouac.told(&["run", "-d", &file]).2, Some(0));
    kill_at_once(scheduler(&bivouac).unwrap());
    // As if it had died three days ago.
    let progress = bivouac.state.join("jobs/j/progress.json");
    let mut until: Value = serde_json::from_slice(&std::fs::read(&progress).unwrap()).unwrap();
    let then = until["until"].as_i64().unwrap() - 3 * 86_400;
    until["until"] = then.into();
    std::fs::write(&progress, until.to_string()).unwrap();
    assert_eq!(bivouac.told(&["resume"]).2, Some(0));
    let missed = (then / 86_400 + 1) * 86_400;
    wait_for("what was missed", || (!bivouac.jobs().is_empty()).then_some(()));
    assert_eq!(
        bivouac.jobs(),
        [format!("j/periodic-{missed}")],
        "once, under the first time that was missed"
    );
    bivouac.end();
}

#[test]
fn a_periodic_job_in_the_foreground_ends_when_it_is_told() {
    let Some(bivouac) = Bivouac::new("foreground") else { return };
    let file = bivouac.write("j.nomad.hcl", &job("batch", EVERY_SECOND, "echo ran; exec sleep 1000"));
    let mut child =
        bivouac.command(&["run", &file]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap(), "ran");
    }
    kill(i32::try_from(child.id()).unwrap(), rustix::process::Signal::INT);
    assert!(child.wait().unwrap().code().is_some(), "it ends by itself");
    assert!(bivouac.jobs().is_empty() && bivouac.listed()["jobs"].as_array().unwrap().is_empty());
}

/// Covers: W11
#[test]
fn w11_a_job_that_is_written_down_is_dispatched_by_its_name() {
    let Some(bivouac) = Bivouac::new("written") else { return };
    let rules = "  parameterized {\n    payload = \"required\"\n    meta_required = [\"a\"]\n  }\n";
    let text = job("batch", rules, "cat /local/in; echo $NOMAD_META_a")
        .replace("driver =", "dispatch_payload {\n file = \"in\"\n}\n driver =");
    let file = bivouac.write("j.nomad.hcl", &text);
    let (stdout, stderr, code) = bivouac.told(&["run", "-d", &file]);
    assert_eq!((stdout.as_str(), code), ("j\n", Some(0)), "{stderr}");
    assert!(bivouac.told(&["ps"]).0.contains("waits for dispatch"));
    std::fs::remove_file(PathBuf::from(&file)).unwrap();
    let payload = bivouac.write("payload", "p\n");
    assert_eq!(bivouac.told(&["dispatch", "-meta", "a=1", "j", &payload]).0, "p\n1\n");
    let (id, stderr, code) = bivouac.told(&["dispatch", "-d", "-meta", "a=2", "j", &payload]);
    assert_eq!(code, Some(0), "{stderr}");
    wait_for("its output", || (bivouac.told(&["logs", id.trim()]).0 == "p\n2\n").then_some(()));
    for (arguments, needle) in [
        (&["dispatch", "-meta", "a=1", "j"][..], "Payload is not provided but required by parameterized job"),
        (&["dispatch", "j", &payload], "required meta keys: [a]"),
        (&["dispatch", "k", &payload], "no written down job \"k\""),
    ] {
        let (_, stderr, code) = bivouac.told(arguments);
        assert!(code != Some(0) && stderr.contains(needle), "{stderr}");
    }
    assert_eq!(bivouac.told(&["stop", "j"]).2, Some(0));
    assert!(bivouac.told(&["dispatch", "-meta", "a=1", "j", &payload]).2 != Some(0));
    bivouac.end();
}

/// A real server on one address of the host, told so by its environment; checked before in words.
#[test]
fn a_port_on_a_network_that_the_operator_named() {
    let Some(bivouac) = Bivouac::new("host-network") else { return };
    let network = |name: &str| {
        format!("network {{\n port \"web\" {{\n host_network = \"{name}\"\n}}\n}}\n    task \"t\"")
    };
    let line = "echo hello > /local/x; busybox httpd -f -p $NOMAD_ADDR_web -h /local & \
                until busybox wget -q -O - http://$NOMAD_HOST_ADDR_web/x 2> /dev/null; do sleep 0.1; done; \
                echo $NOMAD_IP_web; kill $!";
    let text = |name: &str| job("batch", "", line).replacen("task \"t\"", &network(name), 1);
    let config = bivouac.write(
        "config.hcl",
        "host_network \"second\" {\n address = \"127.0.0.2\"\n}\nhost_network \"loop\" {\n cidr = \"127.0.0.0/8\"\n interface = \"lo\"\n}\nhost_network \"none\" {\n interface = \"no-such\"\n}\n",
    );
    let file = bivouac.write("web.nomad.hcl", &text("second"));
    let (stdout, stderr, code) = bivouac.told(&["--config", &config, "run", &file]);
    assert_eq!((stdout.as_str(), code), ("hello\n127.0.0.2\n", Some(0)), "{stderr}");
    let found = bivouac.write("loop.nomad.hcl", &text("loop"));
    let (stdout, stderr, code) = bivouac.told(&["--config", &config, "run", &found]);
    assert_eq!((stdout.as_str(), code), ("hello\n127.0.0.1\n", Some(0)), "{stderr}");
    let none = bivouac.write("none.nomad.hcl", &text("none"));
    let (_, stderr, code) = bivouac.told(&["--config", &config, "run", &none]);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("no address on interface \"no-such\"; it has lo 127.0.0.1"), "{stderr}");
    for arguments in
        [&["run", &file][..], &["--config", &config, "run", &bivouac.write("no.hcl", &text("third"))]]
    {
        let (_, stderr, code) = bivouac.told(arguments);
        assert_eq!(code, Some(125));
        assert!(stderr.contains("port \"web\": no host network"), "{stderr}");
    }
    // Which networks there are is the business of the machine where it runs.
    assert_eq!(bivouac.told(&["validate", &file]).2, Some(0));
    bivouac.end();
}
