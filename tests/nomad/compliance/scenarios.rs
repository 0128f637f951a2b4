//! The jobs, and what is looked at.

use super::Facts;
use crate::agent::{Agent, deadline};
use crate::job::{Job, Run, SECOND};
use serde_json::json;

/// Everything that is seen of a driver.
pub(super) fn all(agent: &Agent, driver: &str) -> Facts {
    let mut facts = Facts::new();
    inside(agent, driver, &mut facts);
    ends(agent, driver, &mut facts);
    entered(agent, driver, &mut facts);
    refusals(agent, driver, &mut facts);
    files(agent, driver, &mut facts);
    facts
}

fn put(facts: &mut Facts, name: &str, value: impl Into<String>) {
    let before = facts.insert(name.to_owned(), value.into());
    assert!(before.is_none(), "{name} is looked at twice");
}

/// One line per fact: what a process sees of itself and its root.
///
/// The shell looks at its own descriptors itself: a program that it runs for that may see a pipe between the two, whose
/// other end the shell has yet to close.
const PROBE: &str = r#"
say() { printf '%s=%s\n' "$1" "$(echo $2)"; }
status() { grep "^$1:" /proc/self/status | cut -f2-; }
say 'process id' $$
say 'working directory' "$(pwd)"
say 'umask' $(umask)
say 'standard input' "$(readlink /proc/$$/fd/0)"
set -- /proc/self/fd/*
say 'open descriptors' "$*"
say 'user' "$(id -u)"
say 'group' "$(id -g)"
say 'supplementary groups' "$(status Groups)"
say 'names of the user' "$USER $LOGNAME $HOME"
say 'inheritable capabilities' $(status CapInh)
say 'permitted capabilities' $(status CapPrm)
say 'effective capabilities' $(status CapEff)
say 'bounding capabilities' $(status CapBnd)
say 'ambient capabilities' $(status CapAmb)
say 'no_new_privs' $(status NoNewPrivs)
say 'system call filter' $(status Seccomp)
say 'ignored signals' $(status SigIgn)
say 'blocked signals' $(status SigBlk)
say 'score for the OOM killer' "$(cat /proc/self/oom_score_adj)"
set -- /proc/[0-9]*
say 'processes seen' $#
say 'directories of Nomad' "$NOMAD_ALLOC_DIR $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR"
say 'limits in the environment' "$NOMAD_CPU_LIMIT $NOMAD_MEMORY_LIMIT"
say 'names in the environment' "$NOMAD_TASK_NAME $NOMAD_GROUP_NAME $NOMAD_ALLOC_INDEX $NOMAD_DC $NOMAD_REGION"
say 'a variable of the agent' "$MARKED"
say 'a variable of the job' "$GREETING"
say 'an argument with interpolation' "$0"
say 'device nodes' "$(cd /dev; ls -d console full null ptmx pts random shm stderr stdin stdout tty urandom zero mqueue 2>/dev/null)"
say 'shared memory' "$(grep ' /dev/shm ' /proc/mounts | cut -d' ' -f3 | head -1)"
say 'secrets are in memory' "$(grep ' /secrets ' /proc/mounts | cut -d' ' -f3 | tail -1)"
say 'proc/sys can be written' "$( (echo x > /proc/sys/kernel/hostname) 2>&1 | grep -o 'Read-only file system')"
say 'proc/kcore is masked' "$(head -c 1 /proc/kcore 2>/dev/null | wc -c)"
say 'proc/keys is masked' "$(grep -q ' /proc/keys ' /proc/mounts && echo yes || echo no)"
say 'sys can be written' "$( (: > /sys/kernel/uevent_seqnum) 2>&1 | grep -o 'Read-only file system')"
say 'the top can be written' "$(touch /mine && echo yes)"
say 'etc can be written' "$(touch /etc/mine && echo yes)"
say 'local can be written' "$(touch /local/mine && echo yes)"
say 'alloc can be written' "$(touch /alloc/data/mine && echo yes)"
say 'alloc/logs can be written' "$( (touch /alloc/logs/mine) 2>/dev/null && rm -f /alloc/logs/mine && echo yes || echo no)"
say 'state of the runtime in alloc' "$(ls -d /alloc/container 2>/dev/null)"
say 'log of the runtime in the root' "$(ls -d /executor.out 2>/dev/null)"
say 'tmp' "$(stat -c %a /tmp)"
say 'host name' "$(uname -n | grep -c .)"
echo END=
"#;

/// Runs [`PROBE`].
fn inside(agent: &Agent, driver: &str, facts: &mut Facts) {
    let job =
        Job::batch("probe", driver, &["/bin/sh", "-c", PROBE, "${NOMAD_TASK_NAME}-${NOMAD_GROUP_NAME}"])
            .task("Env", json!({"GREETING": "good ${NOMAD_TASK_NAME}"}));
    let run = job.finish(agent);
    let said = run.stdout_has("END=\n");
    for line in said.lines() {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| *name != "END") {
            put(facts, name, value);
        }
    }
    put(facts, "exit code of a task that ends well", run.code().to_string());
    let job = Job::batch("group", driver, &["cat", "/proc/self/cgroup"]).finish(agent);
    let said = job.stdout_has("\n").replace(&job.id, "ALLOC");
    let memory = said
        .lines()
        .find(|line| line.contains("memory") || line.starts_with("0::/nomad"))
        .unwrap_or_default();
    put(facts, "control group", memory.split(':').nth(2).unwrap_or_default());
}

/// The root that operators have who set nothing: which the built-in driver builds from tens of thousands of links.
pub(super) fn default_root(agent: &Agent, driver: &str) -> Facts {
    const LOOK: &str = r#"
say() { printf '%s=%s\n' "$1" "$(echo $2)"; }
say 'default root: directories' "$(cd /; ls -d bin etc lib lib64 sbin usr)"
say 'default root: passwd' "$(cksum < /etc/passwd)"
say 'default root: programs' "$(ls /usr/bin | wc -l)"
say 'default root: bash runs' "$(bash -c 'echo $((40 + 2))')"
say 'default root: shadow passwords' "$(cksum < /etc/shadow)"
echo END="#;
    let begun = std::time::Instant::now();
    let run = Job::batch("default-root", driver, &["/bin/sh", "-c", LOOK]).memory(64).submit(agent);
    agent.api.wait_for_allocation(&run.job, std::time::Duration::from_secs(300), |one| {
        one["ClientStatus"] == "complete"
    });
    println!(
        "{driver}: the default root took {:.1} s from the job to its end",
        begun.elapsed().as_secs_f64()
    );
    let said = run.stdout_has("END=\n");
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    let host = std::process::Command::new("sh").args(["-c", "cksum < /etc/shadow"]).output();
    let host = String::from_utf8_lossy(&host.expect("the host's sum").stdout).trim().to_owned();
    pairs
        .filter(|(name, _)| *name != "END")
        .map(|(name, value)| (name.to_owned(), if value == host { "the host's" } else { value }.to_owned()))
        .collect()
}

fn seen_end(facts: &mut Facts, name: &str, run: &Run<'_>) {
    let (code, signal, oom) = run.end();
    put(facts, name, format!("code {code}, signal {signal}, oom {oom}"));
    put(facts, &format!("events: {name}"), run.event_types("main").join(" "));
}

fn ends(agent: &Agent, driver: &str, facts: &mut Facts) {
    let shell = |name: &str, script: &str| Job::batch(name, driver, &["/bin/sh", "-c", script]);
    seen_end(facts, "a task that fails", &shell("fails", "exit 7").finish(agent));
    let run = shell("memory", "tail /dev/zero; exit 1").finish(agent);
    put(facts, "a task whose child runs out of memory", format!("code {}", run.code()));
    let run = Job::batch("oom", driver, &["tail", "/dev/zero"]).finish(agent);
    let (code, _, _) = run.end();
    put(facts, "a task that runs out of memory", format!("code {code}"));
    // What is heard may be heard late on a busy machine.
    let patient = |name: &str, script: &str| {
        Job::service(name, driver, &["/bin/sh", "-c", script]).task("KillTimeout", json!(25 * SECOND))
    };
    let run = patient("heard", "trap 'exit 5' INT; echo up; while :; do sleep 0.1; done").start(agent);
    run.stdout_is("up\n");
    run.stop();
    seen_end(facts, "a stop that is heard", &run);
    let run = patient("deaf", "echo up; exec sleep 600").task("KillTimeout", json!(SECOND)).start(agent);
    run.stdout_is("up\n");
    run.stop();
    let (code, signal, _) = run.end();
    put(facts, "a stop that the first process ignores", format!("code {code}, signal {signal}"));
    let run = patient(
        "restarted",
        "echo up >> /local/ups; cat /local/ups; trap 'exit 0' INT; while :; do sleep 0.1; done",
    )
    .start(agent);
    run.stdout_is("up\n");
    assert_eq!(agent.nomad(&["alloc", "restart", &run.id]).code, 0);
    put(facts, "files after a restart", run.stdout_when(|seen| seen.matches("up").count() == 3));
}

fn entered(agent: &Agent, driver: &str, facts: &mut Facts) {
    let run = Job::service("entered", driver, &["sleep", "600"]).task("KillTimeout", json!(0)).start(agent);
    let said = run.exec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 9"]);
    put(
        facts,
        "alloc exec: streams and exit code",
        format!("{:?} {:?} {}", said.stdout, said.stderr, said.code),
    );
    let script = "id -u; pwd; echo $NOMAD_TASK_NAME $USER; grep ^CapEff /proc/self/status";
    put(facts, "alloc exec: user, directory, environment", run.exec(&["/bin/sh", "-c", script]).stdout);
    let said = run.exec_with(&["cat"], Some("some input\n"));
    put(facts, "alloc exec: standard input", format!("{:?} {}", said.stdout, said.code));
}

/// Starts that fail: with which words, told from which event.
fn refusals(agent: &Agent, driver: &str, facts: &mut Facts) {
    let job = |name: &str| Job::batch(name, driver, &["true"]);
    let wrong: [(&str, Job); 6] = [
        ("an unknown user", job("no-user").user("alice")),
        ("a wrong pid_mode", job("no-mode").config("pid_mode", json!("other"))),
        ("an unknown capability", job("no-cap").config("cap_add", json!(["not_valid"]))),
        (
            "a capability that is not allowed",
            job("not-allowed").config("cap_add", json!(["sys_time", "net_admin"])),
        ),
        ("a relative work_dir", job("relative").config("work_dir", json!("foo"))),
        ("a command that is missing", Job::batch("no-command", driver, &["/no/such/command"])),
    ];
    for (name, job) in wrong {
        let run = job.finish(agent);
        let words = [
            "unknown user",
            "pid_mode must be \"private\" or \"host\", got \"other\"",
            "cap_add configured with capabilities not supported by system: not_valid",
            "driver does not allow the following capabilities: net_admin, sys_time",
            "work_dir must be absolute but got relative path \"foo\"",
            "file /no/such/command not found under path",
        ];
        let events = run.events();
        let told: Vec<&str> = words.into_iter().filter(|words| events.contains(words)).collect();
        put(facts, &format!("refused: {name}"), told.join(" "));
        put(facts, &format!("events: {name}"), run.event_types("main").join(" "));
    }
    // The client refuses what it knows to be wrong in the same way for both.
    let run = job("unknown-key").config("no_such_option", json!(true)).finish(agent);
    put(facts, "refused: an unknown option", run.event_types("main").join(" "));
}

/// What lies on the host while a task runs and after.
fn files(agent: &Agent, driver: &str, facts: &mut Facts) {
    let run = Job::service(
        "files",
        driver,
        &[
            "/bin/sh",
            "-c",
            "echo own > /own; echo deep > /local/deep; mkdir -p /srv/x; echo up; exec sleep 600",
        ],
    )
    .template("etc/app.conf", "644", "from a template\n")
    .template("opt/app.conf", "644", "from a template\n")
    .volume(&[("/data", false)])
    .task("KillTimeout", json!(0))
    .start(agent);
    run.stdout_is("up\n");
    let at = |path: &str| std::fs::read_to_string(run.dir().join("main").join(path)).unwrap_or_default();
    put(facts, "alloc fs: a file at the top", at("own"));
    put(facts, "alloc fs: a file in local", at("local/deep"));
    put(facts, "a template in etc", run.exec(&["cat", "/etc/app.conf"]).stdout);
    put(facts, "a template elsewhere", run.exec(&["cat", "/opt/app.conf"]).stdout);
    put(facts, "a host volume", run.exec(&["cat", "/data/tmp4.txt"]).stdout);
    let said = agent.nomad(&["alloc", "fs", &run.id, "main/own"]);
    put(facts, "alloc fs over the command line", said.stdout);
    run.stop();
    let left = deadline(|| crate::leftovers::groups_of(std::slice::from_ref(&run.id)).is_empty());
    put(facts, "control groups are gone after the end", left.to_string());
}
