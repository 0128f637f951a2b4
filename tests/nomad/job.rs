//! Jobs as the tests write them, and what became of them.

use crate::agent::{Agent, Output};
use crate::api;
use crate::waiting::{A_WHILE, client_status, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Nanoseconds of a second, as the interface counts durations.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A job of one group and one task, `main`, small and never restarted, unless more is said.
#[derive(Clone)]
pub(crate) struct Job(Value);

impl Job {
    /// A task that is expected to end.
    pub(crate) fn batch(name: &str, driver: &str, command: &[&str]) -> Self {
        Self::new("batch", name, driver, command)
    }

    /// A task that goes on until it is stopped.
    pub(crate) fn service(name: &str, driver: &str, command: &[&str]) -> Self {
        Self::new("service", name, driver, command)
    }

    fn new(kind: &str, name: &str, driver: &str, command: &[&str]) -> Self {
        let (command, args) = command.split_first().expect("a command");
        let task = json!({
            "Name": "main", "Driver": driver, "Config": {"command": command, "args": args},
            "Resources": {"CPU": 20, "MemoryMB": 32}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        });
        let group = json!({
            "Name": "main", "Tasks": [task], "EphemeralDisk": {"SizeMB": 20},
            "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": false},
        });
        // Names of the rows are short; the driver makes them distinct.
        let id = format!("{name}-{driver}");
        Self(json!({"ID": id, "Name": id, "Type": kind, "Datacenters": ["*"], "TaskGroups": [group]}))
    }

    pub(crate) fn config(mut self, option: &str, value: Value) -> Self {
        self.0["TaskGroups"][0]["Tasks"][0]["Config"][option] = value;
        self
    }

    pub(crate) fn task(mut self, field: &str, value: Value) -> Self {
        self.0["TaskGroups"][0]["Tasks"][0][field] = value;
        self
    }

    /// A field of the job itself.
    pub(crate) fn top(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    pub(crate) fn group(mut self, field: &str, value: Value) -> Self {
        self.0["TaskGroups"][0][field] = value;
        self
    }

    pub(crate) fn memory(mut self, mib: u64) -> Self {
        self.0["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(mib);
        self
    }

    pub(crate) fn user(self, user: &str) -> Self {
        self.task("User", json!(user))
    }

    /// A file written before the task starts.
    pub(crate) fn template(mut self, destination: &str, mode: &str, text: &str) -> Self {
        let template = json!({
            "DestPath": destination, "EmbeddedTmpl": text, "Perms": mode, "ChangeMode": "noop",
        });
        let task = &mut self.0["TaskGroups"][0]["Tasks"][0];
        match task["Templates"].as_array_mut() {
            Some(templates) => templates.push(template),
            None => task["Templates"] = json!([template]),
        }
        self
    }

    /// The host volume `data` in the group, and where the task sees it.
    pub(crate) fn volume(self, mounts: &[(&str, bool)]) -> Self {
        let mounts: Vec<Value> = mounts
            .iter()
            .map(|(at, readonly)| json!({"Volume": "data", "Destination": at, "ReadOnly": readonly}))
            .collect();
        self.group("Volumes", json!({"data": {"Name": "data", "Type": "host", "Source": "data"}}))
            .task("VolumeMounts", json!(mounts))
    }

    /// Another type of job: `system`.
    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.0["Type"] = json!(kind);
        self.group("ReschedulePolicy", Value::Null)
    }

    /// The job's own document, in another namespace.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Value {
        self.0["Namespace"] = json!(namespace);
        self.0
    }

    /// Sends it to the agent; its name.
    pub(crate) fn send(&self, agent: &Agent) -> String {
        let name = self.0["ID"].as_str().expect("an id").to_owned();
        agent.api.put("/v1/jobs", &json!({"Job": self.0})).unwrap_or_else(|why| panic!("{name}: {why}"));
        name
    }

    /// Sends it to the agent and waits for its allocation.
    pub(crate) fn submit<'a>(&self, agent: &'a Agent) -> Run<'a> {
        agent.found(&self.send(agent))
    }

    /// Runs it until its task runs.
    pub(crate) fn start<'a>(&self, agent: &'a Agent) -> Run<'a> {
        let run = self.submit(agent);
        run.wait_for("running");
        run
    }

    /// Runs it until its end.
    pub(crate) fn finish<'a>(&self, agent: &'a Agent) -> Run<'a> {
        let run = self.submit(agent);
        agent.api.wait_for_allocation(&run.job, A_WHILE, |allocation| {
            allocation["ClientStatus"] == "complete" || allocation["ClientStatus"] == "failed"
        });
        run
    }
}

/// One allocation of a job; its job is stopped when this goes.
pub(crate) struct Run<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) job: String,
    pub(crate) id: String,
    kept: bool,
}

impl Agent {
    /// The newest allocation of a job.
    pub(crate) fn found(&self, job: &str) -> Run<'_> {
        let found = self.api.wait_for_allocation(job, A_WHILE, |_| true);
        Run {
            agent: self,
            id: found["ID"].as_str().expect("an id").to_owned(),
            job: job.to_owned(),
            kept: false,
        }
    }
}

impl Run<'_> {
    /// Leaves the job alone when this goes.
    pub(crate) fn keep(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The allocation as it is now.
    pub(crate) fn now(&self) -> Value {
        self.agent.api.get(&format!("/v1/allocation/{}", self.id)).expect("an allocation")
    }

    pub(crate) fn wait_for(&self, status: &'static str) -> Value {
        self.agent.api.wait_for_allocation(&self.job, A_WHILE, client_status(status))
    }

    /// Types and texts of the task's events, a line each.
    pub(crate) fn events(&self) -> String {
        api::events(Some(&self.now()))
    }

    /// The types of a task's events.
    pub(crate) fn event_types(&self, task: &str) -> Vec<String> {
        let now = self.now();
        let events = now["TaskStates"][task]["Events"].as_array().cloned().unwrap_or_default();
        events.iter().filter_map(|event| event["Type"].as_str().map(str::to_owned)).collect()
    }

    /// What the last `Terminated` event says: code, signal, and whether memory ran out.
    pub(crate) fn end(&self) -> (i64, i64, bool) {
        let now = self.now();
        let events = now["TaskStates"]["main"]["Events"].as_array().cloned().unwrap_or_default();
        let Some(end) = events.iter().rev().find(|event| event["Type"] == "Terminated") else {
            panic!("{} did not end: {}", self.job, self.events())
        };
        let oom = end["Details"]["oom_killed"] == "true";
        (end["ExitCode"].as_i64().expect("a code"), end["Signal"].as_i64().expect("a signal"), oom)
    }

    /// The task is over, and this is its exit code.
    pub(crate) fn code(&self) -> i64 {
        self.end().0
    }

    /// The allocation's directory on the host.
    pub(crate) fn dir(&self) -> PathBuf {
        self.agent.dir.join("alloc").join(&self.id)
    }

    fn log(&self, stream: &str) -> String {
        let file = self.dir().join(format!("alloc/logs/main.{stream}.0"));
        String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.log("stdout")
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.log("stderr")
    }

    /// Waits until standard output satisfies `wanted`; it reaches the file a little later.
    pub(crate) fn stdout_when(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = String::new();
        let came = crate::agent::deadline(|| {
            seen = self.stdout();
            wanted(&seen)
        });
        assert!(came, "{}: stdout is {seen:?}, stderr {:?}; {}", self.job, self.stderr(), self.events());
        seen
    }

    pub(crate) fn stdout_is(&self, wanted: &str) {
        self.stdout_when(|seen| seen == wanted);
    }

    pub(crate) fn stdout_has(&self, wanted: &str) -> String {
        self.stdout_when(|seen| seen.contains(wanted))
    }

    /// Runs a command in the task without a terminal.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        self.exec_with(command, None)
    }

    /// The same with something to read.
    pub(crate) fn exec_with(&self, command: &[&str], input: Option<&str>) -> Output {
        let stdin = if input.is_some() { "-i=true" } else { "-i=false" };
        let mut args = vec!["alloc", "exec", stdin, "-t=false", &self.id];
        args.extend(command);
        self.agent.nomad_with_input(&args, input.unwrap_or_default())
    }

    /// Stops the job and waits until the allocation is over.
    pub(crate) fn stop(&self) -> Value {
        let output = self.agent.nomad(&["job", "stop", "-detach", &self.job]);
        assert_eq!(output.code, 0, "{output:?}");
        self.agent.api.wait_for_allocation(&self.job, A_WHILE, |allocation| {
            allocation["ClientStatus"] == "complete" || allocation["ClientStatus"] == "failed"
        })
    }

    /// Waits until nothing of the task is left but its files.
    pub(crate) fn nothing_left(&self) {
        let groups = || crate::leftovers::groups_of(std::slice::from_ref(&self.id));
        wait_until(&format!("the end of the groups of {}", self.job), || groups().is_empty());
        let house = &self.agent.house;
        let shims = || {
            house
                .processes("bivouac-shim")
                .into_iter()
                .filter(|pid| house.command_line(*pid).contains(&self.id))
                .count()
        };
        wait_until("the end of the shim", || shims() == 0);
        let mounts = house.ask("cat", &["/proc/self/mountinfo"]);
        let below = format!("{}/main/", self.dir().display());
        // The client's own file systems in memory stay until the allocation is collected.
        let of_ours: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(&below))
            .filter(|line| {
                !line.contains("/main/secrets ")
                    && !line.contains("/main/private ")
                    && !line.contains("/main/alloc ")
            })
            .collect();
        assert!(of_ours.is_empty(), "{of_ours:?}");
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let _ = self.agent.api.delete(&format!("/v1/job/{}", self.job));
    }
}
