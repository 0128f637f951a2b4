//! Detached runs: started in the background, supervised, killed at any moment, taken up again, restarted, stopped.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "support/process.rs"]
mod process;
mod support;

use process::wait_until_gone;
use serde_json::Value;
use support::{Bivouac, wait_for};

/// A job of one group `g`; `body` is what stands in the group.
fn job(kind: &str, body: &str) -> String {
    format!("job \"j\" {{\n type = \"{kind}\"\n group \"g\" {{\n{body}\n}}\n}}\n")
}

/// A task that runs a shell line.
fn task(name: &str, more: &str, line: &str) -> String {
    format!(
        "task \"{name}\" {{\n driver = \"exec\"\n {more}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", <<EOF\n{line}\nEOF\n]\n}}\n}}\n"
    )
}

const NO_RESTART: &str = "restart {\n attempts = 0\n mode = \"fail\"\n}\n";
const QUICK_RESTART: &str =
    "restart {\n attempts = 2\n interval = \"10m\"\n delay = \"1ms\"\n mode = \"fail\"\n}\n";

/// A run in the background, ended and collected when it is dropped.
struct Run<'a> {
    bivouac: &'a Bivouac,
    id: String,
}

impl Run<'_> {
    fn start<'a>(bivouac: &'a Bivouac, text: &str) -> Run<'a> {
        Run::with(bivouac, text, &[])
    }

    fn with<'a>(bivouac: &'a Bivouac, text: &str, flags: &[&str]) -> Run<'a> {
        std::fs::create_dir_all(&bivouac.state).unwrap();
        let file = bivouac.state.join("job.nomad.hcl");
        std::fs::write(&file, text).unwrap();
        let arguments = [&["run", "-d"], flags, &[file.to_str().unwrap()]].concat();
        let (stdout, stderr, code) = bivouac.told(&arguments);
        assert_eq!(code, Some(0), "{stderr}");
        Run { bivouac, id: stdout.trim().to_owned() }
    }

    fn state(&self) -> Value {
        let path = self.bivouac.state.join("state").join(&self.id).join("state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn wait_status(&self, wanted: &str) -> Value {
        wait_for(wanted, || Some(self.state()).filter(|state| state["status"] == wanted))
    }

    fn kinds(&self, task: usize) -> Vec<String> {
        let state = self.state();
        let events = state["tasks"][task]["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// What a task wrote, when it has written something.
    fn log(&self, task: &str) -> String {
        let (stdout, stderr, code) = self.bivouac.told(&["logs", "--stdout", "--task", task, &self.id]);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    }

    fn kill_supervisor(&self) {
        let pid = self.state()["supervisor"]["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let gone = || {
            let rows: Value = serde_json::from_str(&self.bivouac.told(&["ps", "--all", "--json"]).0).unwrap();
            let mut rows = rows["allocations"].as_array().unwrap().iter();
            rows.any(|row| row["id"] == self.id && row["supervised"] == false)
        };
        wait_for("the end of the supervisor", || gone().then_some(()));
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.bivouac.told(&["ps", "-a"]).0);
            println!("{}", self.bivouac.told(&["events", &self.id]).0);
        }
        self.bivouac.told(&["resume"]);
        let (_, stderr, code) = self.bivouac.told(&["stop", "--timeout", "1s", &self.id]);
        let over = || {
            let (_, stderr, _) = self.bivouac.told(&["gc"]);
            let kept = self.bivouac.state.join("state").join(&self.id).exists();
            (!kept).then_some(stderr)
        };
        wait_for("gc", over);
        if !std::thread::panicking() {
            assert_eq!(code, Some(0), "{stderr}");
        }
    }
}

/// Covers: Z22
#[test]
fn z22_a_plain_batch_writes_its_log_and_ends_complete() {
    let Some(bivouac) = Bivouac::new("batch") else { return };
    let text = job("batch", &task("t", "", "echo out; echo err >&2"));
    let run = Run::start(&bivouac, &text);
    run.wait_status("complete");
    assert_eq!(run.kinds(0), ["Received", "Task Setup", "Started", "Terminated"]);
    assert_eq!(run.log("t"), "out\n");
    assert_eq!(bivouac.told(&["logs", "--stderr", &run.id]).0, "err\n");
    assert!(
        !bivouac.told(&["ps"]).0.contains(run.id.get(..8).unwrap()),
        "ps shows what is over with -a only"
    );
    assert!(bivouac.told(&["ps", "-a"]).0.contains("complete"));
    let (events, _, _) = bivouac.told(&["events", &run.id]);
    assert!(events.contains("Exit Code: 0"), "{events}");
}

/// Covers: Z22, W4, W40
#[test]
fn z22_a_batch_that_fails_or_never_starts() {
    let Some(bivouac) = Bivouac::new("fails") else { return };
    let failing = Run::start(&bivouac, &job("batch", &format!("{QUICK_RESTART}{}", task("t", "", "exit 7"))));
    let state = failing.wait_status("failed");
    assert_eq!((&state["tasks"][0]["exit_code"], &state["tasks"][0]["restarts"]), (&7.into(), &2.into()));
    assert_eq!(failing.kinds(0).last().unwrap(), "Not Restarting");
    let text = state["tasks"][0]["events"].to_string();
    assert!(
        text.contains("Exceeded allowed attempts 2 in interval 10m0s and mode is \\\"fail\\\""),
        "{text}"
    );
    drop(failing);

    std::fs::write(
        bivouac.state.join("never.hcl"),
        job("batch", "task \"t\" {\n driver = \"exec\"\n config {\n command = \"/no/such\"\n}\n}\n"),
    )
    .unwrap();
    let (stdout, stderr, code) =
        bivouac.told(&["run", "-d", bivouac.state.join("never.hcl").to_str().unwrap()]);
    assert_eq!((stdout.as_str(), code), ("", Some(127)), "{stderr}");
    assert!(stderr.contains("/no/such"), "{stderr}");
    let (events, _, _) = bivouac.told(&["events", "--json", "j"]);
    let events: Vec<Value> = serde_json::from_str(&events).unwrap();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["Received", "Task Setup", "Driver Failure", "Not Restarting"]);
    assert_eq!(bivouac.told(&["gc"]).2, Some(0));
}

/// Covers: Z21, W34
#[test]
fn z21_hooks_run_in_order_beside_a_sidecar() {
    let Some(bivouac) = Bivouac::new("hooks") else { return };
    let hook =
        |hook: &str, sidecar: bool| format!("lifecycle {{\n hook = \"{hook}\"\n sidecar = {sidecar}\n}}\n");
    let mark = "echo $NOMAD_TASK_NAME >> /alloc/data/order";
    let tasks = [
        task("main", "", &format!("{mark}; until test -e /alloc/data/started; do sleep 0.05; done")),
        task("init", &hook("prestart", false), mark),
        task("side", &hook("prestart", true), "touch /alloc/data/side; exec sleep 1000"),
        task("started", &hook("poststart", false), &format!("{mark}; touch /alloc/data/started")),
        task("last", &hook("poststop", false), &format!("{mark}; cat /alloc/data/order")),
    ];
    let run = Run::start(&bivouac, &job("batch", &tasks.concat()));
    let state = run.wait_status("complete");
    let order = run.log("last");
    assert!(order.starts_with("init\n") && order.ends_with("last\n"), "{order}");
    assert_eq!(order.lines().count(), 4, "{order}");
    let side = state["tasks"][2]["events"].to_string();
    assert!(side.contains("Main Tasks Dead") && side.contains("Task successfully killed"), "{side}");
}

/// Covers: Z22, W2, A2
#[test]
fn z22_siblings_of_failed_and_of_leading_tasks() {
    let Some(bivouac) = Bivouac::new("siblings") else { return };
    let other = task(
        "b",
        "kill_signal = \"SIGTERM\"",
        "trap 'exit 143' TERM; touch /alloc/data/b; while :; do sleep 0.1; done",
    );
    let first = |more: &str, status: &str| {
        task("a", more, &format!("until test -e /alloc/data/b; do sleep 0.05; done; exit {status}"))
    };
    let failed = Run::start(&bivouac, &job("service", &format!("{NO_RESTART}{}{other}", first("", "3"))));
    let state = failed.wait_status("failed");
    wait_for("the sibling's end", || (failed.kinds(1).last().unwrap() == "Killed").then_some(()));
    let expected =
        ["Received", "Task Setup", "Started", "Sibling Task Failed", "Killing", "Terminated", "Killed"];
    assert_eq!(failed.kinds(1), expected);
    assert!(state["description"].as_str().unwrap().contains("\"a\" failed"), "{}", state["description"]);
    drop(failed);
    let led = Run::start(&bivouac, &job("batch", &format!("{}{other}", first("leader = true", "0"))));
    let state = led.wait_status("complete");
    assert_eq!(led.kinds(1)[3..], ["Leader Task Dead", "Killing", "Terminated", "Killed"]);
    assert_eq!(state["tasks"][1]["exit_code"], 143);
}

/// Covers: W3, W13, W17, Z23
#[test]
fn w3_a_killed_supervisor_is_followed_by_another_and_nothing_runs_twice() {
    let Some(bivouac) = Bivouac::new("resume") else { return };
    let line = "echo $$ $(cat /proc/sys/kernel/random/uuid) >> /alloc/data/runs; exec sleep 1000";
    let run = Run::start(&bivouac, &job("service", &task("t", "", line)));
    let runs = || {
        let path = bivouac.state.join("allocs").join(&run.id).join("alloc/data/runs");
        std::fs::read_to_string(path).unwrap_or_default().lines().count()
    };
    wait_for("the first run", || (runs() == 1).then_some(()));
    let pid = run.state()["tasks"][0]["pid"].clone();
    run.kill_supervisor();
    let (_, stderr, code) = bivouac.told(&["restart", &run.id]);
    assert!(code != Some(0) && stderr.contains("bivouac resume"), "{stderr}");
    let (_, stderr, code) = bivouac.told(&["resume"]);
    assert!(code == Some(0) && stderr.contains("goes on"), "{stderr}");
    assert_eq!((run.state()["tasks"][0]["pid"].clone(), runs()), (pid, 1), "the task was not touched");
    assert_eq!(bivouac.told(&["restart", "t"]).2, Some(0));
    wait_for("the second run", || (runs() == 2).then_some(()));
    wait_for("its event", || (run.kinds(0).last().unwrap() == "Started").then_some(()));
    let kinds = run.kinds(0);
    assert!(kinds.contains(&"Restart Signaled".to_owned()) && kinds.contains(&"Restarting".to_owned()));
    // The supervisor dies, and then the task: whoever comes next learns how it ended, and restarts it.
    run.kill_supervisor();
    let (stdout, _, _) = bivouac.told(&["exec", "t", "kill", "-9", "1"]);
    assert_eq!(stdout, "");
    assert_eq!(bivouac.told(&["stop", "t"]).2, Some(125), "nobody is there to stop it");
    assert_eq!(bivouac.told(&["resume"]).2, Some(0));
    assert_eq!(bivouac.told(&["stop", "t"]).2, Some(0));
    let state = run.wait_status("complete");
    assert_eq!(state["tasks"][0]["signal"], 9, "process 1 has no handler, so it was killed");
    let (_, stderr, code) = bivouac.told(&["restart", &run.id]);
    assert!(code != Some(0) && stderr.contains("restart of an alloc that should not run"), "{stderr}");
    let (_, stderr, _) = bivouac.told(&["signal", "-s", "HUP", &run.id]);
    assert!(stderr.contains("nobody supervises"), "{stderr}");
}

/// Covers: W3
#[test]
fn w3_a_plan_that_cannot_be_read_keeps_no_other_allocation_from_coming_back() {
    let Some(bivouac) = Bivouac::new("damaged") else { return };
    let runs = ["one", "two"].map(|name| {
        Run::start(
            &bivouac,
            &job("service", &task("t", "", "exec sleep 1000")).replace("\"j\"", &format!("\"{name}\"")),
        )
    });
    // Each of the two once, whichever comes first.
    for (damaged, whole) in [(0, 1), (1, 0)] {
        let (damaged, whole) = (&runs[damaged], &runs[whole]);
        damaged.kill_supervisor();
        whole.kill_supervisor();
        let path = bivouac.state.join("state").join(&damaged.id).join("plan.json");
        let plan = std::fs::read(&path).unwrap();
        std::fs::write(&path, &plan[..plan.len() / 2]).unwrap();
        let (_, stderr, code) = bivouac.told(&["resume"]);
        let told = |run: &Run<'_>, text: &str| {
            stderr.lines().any(|line| line.contains(&run.id) && line.contains(text))
        };
        assert!(code == Some(1) && told(damaged, "plan.json") && told(whole, "goes on"), "{stderr}");
        std::fs::write(&path, plan).unwrap();
        let (_, stderr, code) = bivouac.told(&["resume"]);
        assert!(code == Some(0) && stderr.contains(&damaged.id), "{stderr}");
    }
}

/// Covers: W35, Z24
#[test]
fn z24_the_longest_run_ends_complete_and_says_so() {
    let Some(bivouac) = Bivouac::new("longest") else { return };
    let last = task("last", "lifecycle {\n hook = \"poststop\"\n}\n", "touch /alloc/data/last");
    let body =
        format!("max_run_duration = \"1s\"\n{}{last}", task("t", "kill_timeout = \"1s\"", "exec sleep 1000"));
    let run = Run::start(&bivouac, &job("batch", &body));
    let state = run.wait_status("complete");
    assert!(state["description"].as_str().unwrap().contains("max_run_duration"), "{}", state["description"]);
    assert_eq!(run.kinds(1), ["Received", "Task Setup"]);
}

/// Covers: W38
#[test]
fn w38_names_signals_volumes_and_disks() {
    let Some(bivouac) = Bivouac::new("names") else { return };
    let body = format!(
        "count = 2\n ephemeral_disk {{\n sticky = true\n}}\n volume \"v\" {{\n type = \"host\"\n source = \"data\"\n}}\n{}",
        task(
            "t",
            "volume_mount {\n volume = \"v\"\n destination = \"/v\"\n}\n",
            "trap 'echo hup >> /v/signals' HUP; cat /local/kept 2>/dev/null; echo kept > /local/kept; echo $NOMAD_ALLOC_INDEX; while :; do sleep 0.05; done",
        )
    );
    let file = bivouac.state.join("job.nomad.hcl");
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::write(&file, job("service", &body)).unwrap();
    let file = file.to_str().unwrap();
    let (_, stderr, code) = bivouac.told(&["run", "-d", file]);
    assert!(code != Some(0) && stderr.contains("bivouac volume create data"), "{stderr}");
    assert_eq!(bivouac.told(&["volume", "create", "data"]).2, Some(0));
    for round in 0..2 {
        let (ids, stderr, code) = bivouac.told(&["run", "-d", file]);
        assert_eq!(code, Some(0), "{stderr}");
        let ids: Vec<&str> = ids.lines().collect();
        assert_eq!(ids.len(), 2);
        let expected = if round == 0 { "0\n" } else { "kept\n0\n" };
        let log = || Some(bivouac.told(&["logs", "j.g[0]"]).0).filter(|log| log == expected);
        wait_for("what the first run left", log);
        let (_, stderr, code) = bivouac.told(&["exec", "t", "true"]);
        assert!(code != Some(0) && ids.iter().all(|id| stderr.contains(id)), "both are named: {stderr}");
        let (_, stderr, code) = bivouac.told(&["volume", "rm", "data"]);
        assert!(code != Some(0) && stderr.contains("is used by"), "{stderr}");
        let (before, after) = (bivouac.state.join("volumes/data/signals"), 2 * round + 2);
        assert_eq!(bivouac.told(&["signal", "-s", "HUP", "j"]).2, Some(0));
        wait_for("both signals", || {
            (std::fs::read_to_string(&before).unwrap_or_default().lines().count() == after).then_some(())
        });
        assert_eq!(bivouac.told(&["stop", "--timeout", "100ms", "j"]).2, Some(0));
        wait_for("gc", || {
            bivouac.told(&["gc"]);
            // Tasks of other tests run beside.
            let (listed, _, _) = bivouac.told(&["ps", "-a", "--json"]);
            let listed: Value = serde_json::from_str(&listed).unwrap();
            listed["allocations"].as_array().unwrap().is_empty().then_some(())
        });
    }
    assert!(bivouac.state.join("volumes/data/signals").exists(), "gc never removes a volume");
    assert!(bivouac.state.join("disks/j.g[1]/t/local/kept").exists(), "nor a sticky disk");
    assert_eq!(bivouac.told(&["volume", "rm", "data"]).2, Some(0));
}

/// The whole of it inside a network namespace that the test makes, so that this machine's network stays as it is.
/// Covers: W43, T121
#[test]
fn w43_a_bridge_is_made_shared_reached_and_removed() {
    let Some(bivouac) = Bivouac::new("bridge") else { return };
    let lacks = ["/usr/lib/cni/bridge", "/usr/sbin/iptables"];
    if let Some(missing) = lacks.iter().find(|path| !std::path::Path::new(path).exists()) {
        println!("SKIPPED: w43_a_bridge_is_made_shared_reached_and_removed: no {missing}");
        return;
    }
    let serve = "mkdir -p /tmp/w; echo hello > /tmp/w/f; cd /tmp/w; exec python3 -m http.server 8000";
    let fetch = "until python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8000/f\").read().decode())'; do sleep 0.1; done 2>/dev/null; echo address $NOMAD_ALLOC_ADDR_http; grep -c \"$NOMAD_ALLOC_IP_http\" /etc/hosts; cat /etc/resolv.conf; stat -c %a /etc/hosts /etc/resolv.conf | sort -u; touch /alloc/data/done; exec sleep 1000";
    let network = "network {\n mode = \"bridge\"\n hostname = \"here\"\n dns {\n servers = [\"10.0.0.53\"]\n}\n port \"http\" {\n static = 18080\n to = 8000\n}\n}\n";
    let text =
        job("service", &format!("{network}{}{}", task("server", "", serve), task("client", "", fetch)));
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::write(bivouac.state.join("job.nomad.hcl"), text).unwrap();
    // sysfs shows the network it was mounted from, and plugins write below it.
    let script = "set -e; ip link set lo up; mkdir -p /run/netns $S/cg; mount -t tmpfs tmpfs /run/netns
        mount --rbind /sys/fs/cgroup $S/cg; mount -t sysfs sysfs /sys; mount --rbind $S/cg /sys/fs/cgroup
        $B run -d $S/job.nomad.hcl > $S/id; ID=$(cat $S/id)
        until test -e $S/allocs/$ID/alloc/data/done; do sleep 0.1; done
        $B logs --task client --stdout $ID
        ip -4 -o addr show bivouac | grep -o 172.26.80.1/20
        PID=$(sed 's/.*\"supervisor\":{\"pid\":\\([0-9]*\\).*/\\1/' $S/state/$ID/state.json); kill -9 $PID
        until $B resume 2>&1 | grep 'goes on'; do sleep 0.1; done
        $B stop --timeout 200ms $ID
        ls /run/netns | wc -l; until $B gc && ! test -e $S/state/$ID; do sleep 0.1; done; umount -l $S/cg";
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", script]);
    let program = format!("{} --state-dir {}", env!("CARGO_BIN_EXE_bivouac"), bivouac.state.display());
    let output = command.env("B", program).env("S", &bivouac.state).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = told.lines().filter(|line| !line.is_empty()).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert_eq!(lines.len(), 8, "{told}{errors}");
    assert_eq!(
        (lines[0], lines[2], lines[3], lines[4], lines[5], lines[7]),
        ("hello", "1", "nameserver 10.0.0.53", "644", "172.26.80.1/20", "0"),
        "{told}{errors}"
    );
    assert!(lines[1].starts_with("address 172.26.8") && lines[1].ends_with(":8000"), "{told}");
}

/// Covers: W14, W28
#[test]
fn w14_checks_ask_and_restart() {
    let Some(bivouac) = Bivouac::new("checks") else { return };
    let check = |kind: &str| {
        format!(
            "service {{\n name = \"s\"\n port = \"p\"\n check {{\n type = \"{kind}\"\n name = \"{kind}\"\n interval = \"1s\"\n timeout = \"5s\"\n command = \"/bin/sh\"\n args = [\"-c\", \"test -e /alloc/data/well\"]\n path = \"/f\"\n check_restart {{\n limit = 1\n grace = \"0s\"\n}}\n}}\n}}\n"
        )
    };
    let script = check("script").replace(" path = \"/f\"\n", "");
    let http =
        check("http").replace(" command = \"/bin/sh\"\n args = [\"-c\", \"test -e /alloc/data/well\"]\n", "");
    let serve =
        "mkdir -p /tmp/w; echo hello > /tmp/w/f; cd /tmp/w; exec python3 -m http.server $NOMAD_PORT_p";
    let body = format!(
        "network {{\n port \"p\" {{}}\n}}\n{QUICK_RESTART}{}{}",
        task("server", &http, serve),
        task("t", &format!("kill_timeout = \"100ms\"\n{script}"), "exec sleep 1000")
    );
    let run = Run::start(&bivouac, &job("service", &body));
    let checks = |task: usize, name: &str| run.state()["tasks"][task]["checks"][name].clone();
    wait_for("an unwell task's restart", || (run.state()["tasks"][1]["restarts"] == 1).then_some(()));
    let events = run.state()["tasks"][1]["events"].to_string();
    assert!(events.contains("check \\\"script\\\" unhealthy"), "{events}");
    let well = bivouac.state.join("allocs").join(&run.id).join("alloc/data/well");
    std::fs::write(well, "").unwrap();
    wait_for("both checks to pass", || {
        (checks(0, "http") == "passing" && checks(1, "script") == "passing").then_some(())
    });
}

#[test]
fn top_fills_a_real_terminal_and_gives_it_back() {
    let Some(bivouac) = Bivouac::new("top") else { return };
    if !std::path::Path::new("/usr/bin/tmux").exists() {
        println!("SKIPPED: top_fills_a_real_terminal_and_gives_it_back: no tmux");
        return;
    }
    let run = Run::start(&bivouac, &job("service", &task("t", "", "echo the last line; exec sleep 1000")));
    let socket = bivouac.state.join("tmux");
    let tmux = |arguments: &[&str]| {
        let mut command = std::process::Command::new("tmux");
        let output =
            command.arg("-S").arg(&socket).args(["-f", "/dev/null"]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shell = format!(
        "{} --state-dir {} top; echo given back; sleep 1000",
        env!("CARGO_BIN_EXE_bivouac"),
        bivouac.state.display()
    );
    tmux(&["new-session", "-d", "-x", "140", "-y", "30", &shell]);
    let screen = |wanted: &str| {
        wait_for(wanted, || Some(tmux(&["capture-pane", "-p"])).filter(|screen| screen.contains(wanted)))
    };
    let shown = screen("the last line");
    assert!(shown.contains("j.g[0]/t") && shown.contains("running") && shown.contains("/300"), "{shown}");
    tmux(&["send-keys", "q"]);
    let after = screen("given back");
    assert!(!after.contains("MEMORY"), "{after}");
    tmux(&["kill-server"]);
    drop(run);
    let (_, stderr, code) = bivouac.told(&["top"]);
    assert!(code != Some(0) && stderr.contains("needs a terminal"), "{stderr}");
}

/// Covers: W11
#[test]
fn w11_a_dispatched_job_gets_payload_and_metadata() {
    let Some(bivouac) = Bivouac::new("dispatch") else { return };
    let body = task(
        "t",
        "dispatch_payload {\n file = \"in/input.txt\"\n}\n",
        "cat /local/in/input.txt 2>/dev/null || echo none; echo $NOMAD_META_a-$NOMAD_META_b-$NOMAD_JOB_PARENT_ID",
    );
    let text = job("batch", &body).replace(
        "group \"g\"",
        "parameterized {\n meta_required = [\"a\"]\n meta_optional = [\"b\"]\n}\ngroup \"g\"",
    );
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let (file, payload) = (bivouac.state.join("job.hcl"), bivouac.state.join("payload"));
    std::fs::write(&file, text).unwrap();
    std::fs::write(&payload, "the payload\n").unwrap();
    let (file, payload) = (file.to_str().unwrap(), payload.to_str().unwrap());
    let (stdout, stderr, code) = bivouac.told(&["dispatch", "-meta", "a=1", file, payload]);
    assert_eq!((stdout.as_str(), code), ("the payload\n1--j\n", Some(0)), "{stderr}");
    assert_eq!(bivouac.told(&["dispatch", "--meta=a=2", file]).0, "none\n2--j\n");
    for (arguments, needle) in [
        (&["run", file][..], "bivouac dispatch"),
        (&["dispatch", file], "required meta keys: [a]"),
        (&["dispatch", "-meta", "a=1", "-meta", "c=1", file], "unpermitted metadata keys: [c]"),
    ] {
        let (_, stderr, code) = bivouac.told(arguments);
        assert!(code != Some(0) && stderr.contains(needle), "{stderr}");
    }
    let (id, stderr, _) = bivouac.told(&["dispatch", "-d", "-meta", "a=3", file]);
    let run = Run { bivouac: &bivouac, id: id.trim().to_owned() };
    let state = run.wait_status("complete");
    let name = state["job"].as_str().unwrap();
    assert!(name.starts_with("j/dispatch-"), "{stderr}");
    assert_eq!(bivouac.told(&["logs", name]).0, "none\n3--j\n");
    assert_eq!(bivouac.told(&["logs", &format!("{name}.g[0]/t")]).0, "none\n3--j\n");
}

/// Covers: CVE-2022-24683
#[test]
fn files_are_looked_at_and_copied_and_actions_run() {
    let Some(bivouac) = Bivouac::new("files") else { return };
    let action =
        "action \"greet\" {\n command = \"/bin/echo\"\n args = [\"hello from ${NOMAD_TASK_NAME}\"]\n}\n";
    let line = "echo mine > /local/out; ln -s /etc/shadow /local/link; ln -s /etc /local/etc; echo s > /secrets/s; touch /alloc/data/ready; exec sleep 1000";
    let run = Run::start(&bivouac, &job("service", &task("t", action, line)));
    let alloc = bivouac.state.join("allocs").join(&run.id);
    wait_for("the task's files", || alloc.join("alloc/data/ready").exists().then_some(()));
    let told = |arguments: &[&str]| bivouac.told(arguments);
    assert_eq!(told(&["fs", "cat", "j", "t/local/out"]).0, "mine\n");
    assert!(told(&["fs", "ls", "j", "/t/local"]).0.contains("out"));
    assert!(told(&["fs", "stat", "--json", "j", "t/local/out"]).0.contains("\"size\": 5"));
    for (path, needle) in [
        ("t/local/link", "Path escapes the alloc directory"),
        ("t/local/etc/passwd", "Path escapes the alloc directory"),
        ("../x", "Path escapes the alloc directory"),
        ("t/secrets/s", "Reading secret file prohibited: t/secrets/s"),
        (".secrets/t/s", "Reading secret file prohibited"),
    ] {
        let (stdout, stderr, code) = told(&["fs", "cat", "j", path]);
        assert!(stdout.is_empty() && code != Some(0) && stderr.contains(needle), "{path}: {stderr}");
    }
    let here = bivouac.state.join("copied");
    let here = here.to_str().unwrap();
    assert_eq!(told(&["cp", "t:/local/out", here]).2, Some(0));
    assert_eq!(std::fs::read_to_string(here).unwrap(), "mine\n");
    let (_, stderr, code) = told(&["cp", "t:/local/link", here]);
    assert!(code != Some(0) && stderr.contains("escapes"), "{stderr}");
    assert_eq!(told(&["cp", here, "t:/local/in"]).2, Some(0));
    assert_eq!(told(&["exec", "t", "cat", "/local/in"]).0, "mine\n");
    let (_, _, code) = told(&["cp", here, "t:/local/etc/bivouac-test"]);
    assert!(code != Some(0) && !std::path::Path::new("/etc/bivouac-test").exists());
    assert_eq!(told(&["action", "t"]).0, "greet\n");
    assert_eq!(told(&["action", "t", "greet"]).0, "hello from t\n");
    let (_, stderr, code) = told(&["action", "t", "other"]);
    assert!(code != Some(0) && stderr.contains("it has: greet"), "{stderr}");
}

/// Processes whose command line holds all of these words.
fn processes(words: &[&str]) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let holds = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        words.iter().all(|word| line.split('\0').any(|part| part == *word))
    };
    numbers.filter(holds).collect()
}

/// Covers: W3
#[test]
fn w3_killed_at_any_moment_one_supervisor_later_one_task_runs() {
    let Some(bivouac) = Bivouac::new("moments") else { return };
    let rounds = if std::env::var_os("BIVOUAC_NIGHTLY").is_some() { 60 } else { 6 };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("job.nomad.hcl");
    let state = bivouac.state.to_str().unwrap();
    for round in 0..rounds {
        let mark = format!("{}.{}", 3600 + round, std::process::id());
        let body = format!(
            "task \"t\" {{\n driver = \"exec\"\n kill_timeout = \"100ms\"\n config {{\n command = \"/bin/sleep\"\n args = [\"{mark}\"]\n}}\n}}\n"
        );
        std::fs::write(&file, job("service", &format!("{NO_RESTART}{body}"))).unwrap();
        let mut starting = bivouac.command(&["run", "-d", file.to_str().unwrap()]);
        let mut starting =
            starting.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // Each round a little later in its life; whatever the moment is, the end must be the same.
        let born = wait_for("a supervisor", || processes(&["supervise", state]).first().copied());
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 60));
        let pid = rustix::process::Pid::from_raw(born).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        starting.wait().unwrap();
        // Until it is dead it holds its lock, and to everybody it is the supervisor.
        wait_until_gone(born);
        wait_for("one supervisor and one task", || {
            let (_, stderr, code) = bivouac.told(&["resume"]);
            assert_eq!(code, Some(0), "{stderr}");
            let listed = bivouac.told(&["ps", "--json"]).0;
            (listed.contains("\"supervised\": true") && processes(&[&mark]).len() == 1).then_some(())
        });
        assert_eq!(processes(&["supervise", state]).len(), 1);
        let stopped = bivouac.told(&["stop", "j"]);
        assert_eq!(stopped.2, Some(0), "{stopped:?}");
        assert_eq!(processes(&[&mark]).len(), 0, "nothing runs on");
        wait_for("gc", || {
            bivouac.told(&["gc"]);
            std::fs::read_dir(bivouac.state.join("state")).unwrap().next().is_none().then_some(())
        });
    }
}
