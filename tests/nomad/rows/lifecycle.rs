//! Start, wait, stop: how a task's end is seen.

use crate::job::{Job, SECOND};
use crate::shared::ours;
use serde_json::{Value, json};

/// Covers: E5
#[test]
fn e5_a_shell_that_ignores_the_signal_is_killed_after_its_grace() {
    ours(|agent| {
        let run = Job::service("e5", "bivouac", &["bash", "-c", "echo hi; sleep 600"])
            .task("KillSignal", json!("SIGINT"))
            .task("KillTimeout", json!(2 * SECOND))
            .start(agent);
        run.stdout_is("hi\n");
        run.stop();
        assert_eq!(run.end(), (137, 9, false));
        assert!(run.events().contains("init = true"), "{}", run.events());
        run.nothing_left();
    });
}

/// Covers: E20, X35
#[test]
fn e20_stopped_with_sigkill() {
    ours(|agent| {
        let run = Job::service("e20", "bivouac", &["sleep", "600"])
            .task("KillSignal", json!("SIGKILL"))
            .start(agent);
        run.stop();
        assert_eq!(run.end(), (137, 9, false));
        run.nothing_left();
        let run =
            Job::service("x35", "bivouac", &["sleep", "600"]).task("KillTimeout", json!(0)).submit(agent);
        run.stop();
        run.nothing_left();
    });
}

/// Covers: E8, X29
#[test]
fn e8_children_end_with_the_first_process() {
    ours(|agent| {
        let run = Job::batch("e8", "bivouac", &["/bin/sh", "-c", "sleep 3619 & sleep 4"]).start(agent);
        let seen = || agent.house.processes("sleep\x003619").len();
        assert!(crate::agent::deadline(|| seen() == 1), "the child");
        run.wait_for("complete");
        assert_eq!(run.code(), 0);
        assert!(crate::agent::deadline(|| seen() == 0), "the child lives on");

        let run =
            Job::batch("x29", "bivouac", &["/bin/sh", "-c", "(sleep 3631 >/dev/null &) ; exec sleep 1"])
                .finish(agent);
        let now = run.now();
        let events = now["TaskStates"]["main"]["Events"].as_array().cloned().unwrap_or_default();
        let time = |kind: &str| {
            events.iter().find(|event| event["Type"] == kind).and_then(|event| event["Time"].as_u64())
        };
        let took = time("Terminated").expect("an end") - time("Started").expect("a start");
        assert!(took < 7 * SECOND, "{took} ns");
    });
}

/// Covers: E16, X4
#[test]
fn e16_out_of_memory() {
    ours(|agent| {
        let run = Job::batch("e16", "bivouac", &["tail", "/dev/zero"]).finish(agent);
        let (code, _, oom) = run.end();
        assert!(code != 0 && oom, "{}", run.events());
        // As people read it.
        let said = agent.nomad(&["alloc", "status", &run.id]).stdout;
        let sentence = said.split("killed 1 process of the task for lack of memory").nth(1).expect(&said);
        let sentence: String = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
        let peak =
            sentence.strip_prefix("(limit 32 MiB); its peak was ").and_then(|rest| rest.split(' ').next());
        assert!(
            peak.and_then(|mib| mib.parse::<u64>().ok()).is_some_and(|mib| (16..=32).contains(&mib)),
            "{said}"
        );
        run.nothing_left();
    });
}

/// Covers: X10
#[test]
fn x10_after_a_stop_nothing_more_is_written() {
    ours(|agent| {
        let run =
            Job::service("x10", "bivouac", &["/bin/sh", "-c", "while :; do echo again; sleep 0.01; done"])
                .task("KillTimeout", json!(0))
                .start(agent);
        run.stdout_has("again\nagain\n");
        run.stop();
        run.nothing_left();
        let mut before = usize::MAX;
        assert!(crate::agent::deadline(|| {
            let now = run.stdout().len();
            std::thread::sleep(std::time::Duration::from_millis(300));
            std::mem::replace(&mut before, now) == now
        }));
    });
}

/// Covers: X27, E4
#[test]
fn x27_exit_codes_arrive() {
    ours(|agent| {
        let run = Job::batch("x27", "bivouac", &["/bin/sh", "-c", "sleep 1; date fail"]).finish(agent);
        assert_eq!(run.end(), (1, 0, false));
        let run =
            Job::batch("x27-own", "bivouac", &["/bin/sh", "-c", "kill -TERM $$; exit 33"]).finish(agent);
        assert_eq!(run.code(), 33, "the first process ignores what it has no handler for");
        let run = Job::batch("e4", "bivouac", &["cat", "/proc/self/cgroup"]).finish(agent);
        assert_eq!(run.code(), 0);
    });
}

/// The reaper in front of a command ends with a status; the client is told the signal all the same.
#[test]
fn behind_a_reaper_the_signal_that_ended_the_task_is_told() {
    ours(|agent| {
        let run = Job::service("init-signal", "bivouac", &["sleep", "600"])
            .config("init", json!(true))
            .task("KillSignal", json!("SIGTERM"))
            .start(agent);
        run.stop();
        assert_eq!(run.end(), (143, 15, false));
        run.nothing_left();
    });
}

/// Covers: X30, E9, X41
#[test]
fn x30_statistics_and_a_kill_from_outside() {
    ours(|agent| {
        let run = Job::service("x30", "bivouac", &["sleep", "3643"]).start(agent);
        let path = format!("/v1/client/allocation/{}/stats", run.id);
        let mut sample = Value::Null;
        let measured = || -> Option<Value> { Some(agent.api.get(&path).ok()?["Tasks"]["main"].clone()) };
        assert!(
            crate::agent::deadline(|| {
                sample = measured().unwrap_or(Value::Null);
                sample["ResourceUsage"]["MemoryStats"]["Usage"].as_u64().is_some_and(|usage| usage > 0)
            }),
            "{sample}"
        );
        let measures =
            sample["ResourceUsage"]["MemoryStats"]["Measured"].as_array().cloned().unwrap_or_default();
        assert!(!measures.is_empty(), "{sample}");
        // As the built-in driver: the sums, and each process by its number on the host.
        let fields = |of: &Value, kind: &str| -> Vec<String> {
            let fields = of[kind]["Measured"].as_array().cloned().unwrap_or_default();
            let mut fields: Vec<String> =
                fields.iter().filter_map(|field| field.as_str().map(str::to_owned)).collect();
            fields.sort_unstable();
            fields
        };
        let all = &sample["ResourceUsage"];
        let cpu = fields(all, "CpuStats");
        assert_eq!(cpu, ["Percent", "System Mode", "Throttled Periods", "Throttled Time", "User Mode"]);
        if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
            let memory = fields(all, "MemoryStats");
            let expected = ["Cache", "Kernel Max Usage", "Kernel Usage", "Max Usage", "RSS", "Swap", "Usage"];
            let expected: Vec<&str> = expected
                .into_iter()
                .filter(|field| {
                    memory.iter().any(|seen| seen == field) || !(field.contains("Kernel") || *field == "Swap")
                })
                .collect();
            assert_eq!(memory, expected, "what the kernel counts");
        }
        let pids = sample["Pids"].as_object().cloned().unwrap_or_default();
        assert_eq!(pids.len(), 1, "{sample}");
        for (pid, usage) in &pids {
            assert!(
                pid.parse::<i32>().is_ok_and(|pid| agent.house.command_line(pid).contains("sleep\x003643")),
                "{pid}"
            );
            assert_eq!(fields(usage, "CpuStats"), ["Percent", "System Mode", "User Mode"]);
            assert_eq!(fields(usage, "MemoryStats"), ["RSS", "Swap"]);
            assert!(usage["MemoryStats"]["RSS"].as_u64().is_some_and(|rss| rss > 0), "{usage}");
        }
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_nanos();
        let age = now.saturating_sub(u128::from(sample["Timestamp"].as_u64().expect("a time")));
        assert!(age < 30 * u128::from(SECOND), "{age} ns");

        let inside = agent.house.processes("sleep\x003643");
        assert_eq!(inside.len(), 1);
        agent.house.signal("KILL", inside[0]);
        run.wait_for("failed");
        assert_eq!(run.end(), (137, 9, false));
    });
}

/// Covers: X31, X36
#[test]
fn x31_a_short_grace() {
    ours(|agent| {
        let run = Job::service("x31", "bivouac", &["sleep", "10"])
            .task("KillTimeout", json!(SECOND / 10))
            .start(agent);
        run.stop();
        run.nothing_left();
        assert_eq!((run.stdout().as_str(), run.stderr().as_str()), ("", ""));
    });
}

/// Covers: X19
#[test]
fn x19_a_stray_process_in_the_tasks_group_ends_before_the_next_start() {
    ours(|agent| {
        let run = Job::service("x19", "bivouac", &["/bin/sh", "-c", "echo up; exec sleep 3659"])
            .task("KillTimeout", json!(0))
            .start(agent);
        run.stdout_has("up\n");
        let groups = crate::leftovers::groups_of(std::slice::from_ref(&run.id));
        let groups: Vec<String> =
            groups.iter().map(|group| format!("{}/cgroup.procs", group.display())).collect();
        let script = "for g; do echo $$ > $g || exit 1; done; exec sleep 3671";
        let mut stray = agent
            .house
            .enter("sh")
            .args(["-c", script, "stray"])
            .args(&groups)
            .spawn()
            .expect("nsenter runs");
        assert!(crate::agent::deadline(|| agent.house.processes("sleep\x003671").len() == 1));
        assert_eq!(agent.nomad(&["alloc", "restart", &run.id]).code, 0);
        run.stdout_when(|seen| seen == "up\nup\n");
        assert!(
            crate::agent::deadline(|| stray.try_wait().is_ok_and(|end| end.is_some())),
            "the stray lives"
        );
    });
}
