//! What the attack tests share: an engine of their own, tasks that run an attack program, and what it told.

use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_driver::config::{OperatorConfig, TaskConfig};
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Places, Started};
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::options::Value;
use bivouac_driver::request::{
    Directories, ExecRequest, Secrets, StarterGone, StopRule, Streams, TaskRequest,
};
use bivouac_driver::resources::Resources;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Network;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "../../../../tests/attacks/program.rs"]
mod program;
pub(crate) use program::program;

/// Nothing here takes as long, however loaded the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with its own directories and groups.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) directory: tempfile::TempDir,
    name: String,
}

/// A task that is about to be started.
pub(crate) struct Attack<'a> {
    bench: &'a Bench,
    pub(crate) request: TaskRequest,
    options: Vec<(String, Value)>,
    operator: Vec<(String, Value)>,
}

/// A running task.
pub(crate) struct Live<'a> {
    bench: &'a Bench,
    pub(crate) started: Started,
    out: BufReader<PipeReader>,
    err: PipeReader,
    told: String,
}

/// What an attack program told, and how it ended.
#[derive(Debug)]
pub(crate) struct Report {
    told: HashMap<String, String>,
    pub(crate) text: String,
    pub(crate) status: i32,
}

impl Report {
    fn new(text: String, status: i32) -> Report {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let told = lines.map(|(name, rest)| {
            let seen = rest.strip_prefix("= ").or_else(|| rest.strip_prefix('='));
            (name.to_owned(), seen.or_else(|| rest.split(' ').next_back()).unwrap_or_default().to_owned())
        });
        Report { told: told.collect(), status, text: text.clone() }
    }

    /// What a program told on a terminal.
    pub(crate) fn of_text(text: String, status: i32) -> Report {
        Report::new(text, status)
    }

    /// What a program told outside of any task.
    pub(crate) fn of_host(output: &std::process::Output) -> Report {
        Report::new(String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1))
    }

    /// What was seen, or the name of the error; a check that was not made fails the test.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.told.get(name).unwrap_or_else(|| panic!("{name} was not tried:\n{}", self.text))
    }

    /// What was seen, as a number.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {}", self.get(name)))
    }

    /// Each of these had this result.
    pub(crate) fn expect(&self, names: &[&str], result: &str) {
        for name in names {
            assert_eq!(self.get(name), result, "{name}:\n{}", self.text);
        }
    }
}

/// The shim that tests start.
pub(crate) fn shim() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("bivouac-shim");
    let shim = std::env::var_os("BIVOUAC_SHIM").map_or_else(beside, PathBuf::from);
    assert!(shim.exists(), "{} is missing: cargo build -p bivouac-shim", shim.display());
    shim
}

/// Whether this is the long form of the tests.
pub(crate) fn nightly() -> bool {
    std::env::var_os("BIVOUAC_NIGHTLY").is_some()
}

/// Whether this is the cgroup v2 machine, where everything takes 10 to 50 times as long.
pub(crate) fn in_the_machine() -> bool {
    std::env::var("BIVOUAC_TEST_LANE").is_ok_and(|lane| lane == "vm")
}

/// How long a race is run.
pub(crate) fn race() -> Duration {
    Duration::from_secs(if nightly() { 30 } else { 3 })
}

/// What keeps every processor busy beside a race at night, when chance is to have more to play with.
pub(crate) struct Load(Vec<std::process::Child>);

impl Load {
    pub(crate) fn at_night() -> Load {
        let count = if nightly() { std::thread::available_parallelism().map_or(1, usize::from) } else { 0 };
        let burner = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Load((0..count).map(burner).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            let _ = burner.kill();
            let _ = burner.wait();
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED: {test}: {why}");
}

/// Waits until something is so; fails the test when it takes too long.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn all(names: &[&str]) -> Value {
    Value::texts(names.iter().copied())
}

impl Bench {
    pub(crate) fn new(test: &str) -> Option<Bench> {
        if !rustix::process::geteuid().is_root() {
            skipped(test, "sandboxes need root");
            return None;
        }
        // Not below /tmp: a task needs a file system on which an overlay's upper layer works.
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        // Process numbers are the same in many a namespace, and cgroups are the machine's.
        let own = directory.path().file_name().and_then(|name| name.to_str()).unwrap();
        let name = format!("{own}-{test}");
        let (run, copies) = (directory.path().join("run"), directory.path().join("copies"));
        let places = Places { run, copies, shim: shim(), shims: format!("{name}-shims") };
        Some(Bench { engine: Engine::new(places).unwrap(), directory, name })
    }

    /// The name of a task's group.
    pub(crate) fn group(&self, id: &str) -> String {
        format!("{}-{id}", self.name)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// A task that runs an attack program; tasks of the same `id` share their directories, one after the other.
    pub(crate) fn attack(&self, id: &str, theme: &str, args: &[&str]) -> Attack<'_> {
        let attack = self.task(id, &format!("/{theme}"), args);
        self.place(id, theme);
        attack
    }

    /// Puts an attack program at the top of a task's directory.
    pub(crate) fn place(&self, id: &str, theme: &str) {
        let there = self.path(id).join("task").join(theme);
        if std::fs::symlink_metadata(&there).is_err() {
            std::fs::copy(program(theme), &there).unwrap();
        }
    }

    /// A task that runs any command.
    pub(crate) fn task(&self, id: &str, command: &str, args: &[&str]) -> Attack<'_> {
        let top = self.path(id);
        for name in ["task", "alloc"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
            std::fs::set_permissions(top.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let path = |name: &str| HostPath::new(top.join(name)).unwrap();
        let group = GroupName::new(self.group(id)).unwrap();
        let request = TaskRequest {
            id: format!("alloc/{id}"),
            name: id.into(),
            directories: Directories {
                task: path("task"),
                shared: path("alloc"),
                secrets: Secrets::InTaskDirectory,
                private: path("private"),
                own: vec![HostPath::new(self.directory.path()).unwrap()],
            },
            config: TaskConfig::decode(&Value::map([("command", Value::from("x"))])).unwrap(),
            env: Vec::new(),
            user: String::new(),
            root: RootRule::Refused,
            pseudo_users: PseudoUsers::Unknown,
            resources: Resources { cpu_mhz: 100, memory_mib: Some(128), ..Resources::default() },
            placement: Placement::Ours { parent: GroupPath::ROOT, name: group },
            network: Network::Own,
            hostname: None,
            address: None,
            dns: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            stop: StopRule::default(),
        };
        let options = vec![("command".into(), command.into()), ("args".into(), all(args))];
        Attack { bench: self, request, options, operator: Vec::new() }
    }

    /// A directory of the host with a marker in it, which no attack may change.
    pub(crate) fn victim(&self, name: &str) -> Victim {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(path.join("marker"), "the host's").unwrap();
        std::fs::set_permissions(path.join("marker"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let before = tree(&path);
        Victim { path, before }
    }

    /// What must be as before: groups, run directories, mounts.
    pub(crate) fn finish(self) {
        assert_eq!(self.engine.list().unwrap(), Vec::<String>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "{mounts}");
        // The group of the shims stays, once a first one was started.
        let shims = format!("{}-shims", self.name);
        let left: Vec<String> = groups(&self.name).into_iter().filter(|name| *name != shims).collect();
        assert_eq!(left, Vec::<String>::new(), "groups are left");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.engine.list().unwrap_or_default() {
            let _ = self.engine.destroy(&id, Leftovers::Kill);
        }
        remove_groups(&self.name);
    }
}

/// A part of the host that must stay as it is.
pub(crate) struct Victim {
    pub(crate) path: PathBuf,
    before: Vec<String>,
}

impl Victim {
    pub(crate) fn unharmed(&self) {
        assert_eq!(tree(&self.path), self.before);
    }
}

/// Names, kinds, modes, owners, times and small contents of a tree.
pub(crate) fn tree(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = vec![top.to_owned()];
    while let Some(path) = rest.pop() {
        let status = std::fs::symlink_metadata(&path).unwrap();
        let content = match status.file_type() {
            kind if kind.is_dir() => {
                rest.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_file() && status.len() < 65536 => format!("{:?}", std::fs::read(&path).unwrap()),
            kind if kind.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
            _ => format!("{} bytes", status.len()),
        };
        let owner = (status.uid(), status.gid(), status.nlink(), status.mtime_nsec());
        lines.push(format!("{} {:o} {owner:?} {content}", path.display(), status.mode()));
    }
    lines.sort();
    lines
}

impl<'a> Attack<'a> {
    /// An option of the task.
    pub(crate) fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// An option of the operator.
    pub(crate) fn operator(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.operator.push((name.into(), value.into()));
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.request.user = user.into();
        self.operator("allow_root", true)
    }

    /// User root with all capabilities that this machine can give, named by the task and allowed.
    pub(crate) fn mighty(self) -> Self {
        self.user("root").operator("allow_caps", all(&["all"])).option("cap_add", all(&["all"]))
    }

    /// User root with every capability but SYS_ADMIN and what this machine cannot give, and no filter.
    pub(crate) fn strong(self) -> Self {
        let caps = [
            "chown",
            "dac_override",
            "dac_read_search",
            "fowner",
            "fsetid",
            "kill",
            "setgid",
            "setuid",
            "setpcap",
            "linux_immutable",
            "net_bind_service",
            "net_broadcast",
            "net_admin",
            "net_raw",
            "ipc_lock",
            "ipc_owner",
            "sys_module",
            "sys_rawio",
            "sys_chroot",
            "sys_ptrace",
            "sys_pacct",
            "sys_boot",
            "sys_nice",
            "sys_time",
            "sys_tty_config",
            "mknod",
            "lease",
            "audit_write",
            "setfcap",
            "syslog",
        ];
        let unconfined = self.operator("allow_unconfined", true).option("seccomp", "unconfined");
        let named = unconfined.user("root").operator("allow_caps", all(&["all"]));
        named.option("cap_drop", all(&["all"])).option("cap_add", all(&caps))
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.request.env.push((name.into(), value.into()));
        self
    }

    /// A directory or file of the host, allowed by the operator.
    pub(crate) fn bind(self, source: &Path, target: &str) -> Self {
        let mount = [("source", Value::from(source.to_str().unwrap())), ("target", Value::from(target))];
        let paths = Value::texts([source.to_str().unwrap()]);
        self.operator("allow_mount_paths", paths).option("mount", Value::List(vec![Value::map(mount)]))
    }

    /// A chroot environment of one directory of the host, and /usr.
    pub(crate) fn shows(mut self, source: &Path, target: &str) -> Self {
        // Without this the directory would be hidden as one of the engine's own.
        self.request.directories.own.clear();
        let pairs = [("/usr", "/usr"), (source.to_str().unwrap(), target)];
        self.operator("chroot_env", Value::map(pairs.map(|(from, to)| (from, Value::from(to)))))
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut TaskRequest)) -> Self {
        change(&mut self.request);
        self
    }

    fn settle(&mut self) -> Result<OperatorConfig, EngineError> {
        let task = |error| EngineError::Task(bivouac_driver::task::TaskError::Config(error));
        self.request.config = TaskConfig::decode(&Value::Map(self.options.clone())).map_err(task)?;
        OperatorConfig::decode(&Value::Map(self.operator.clone())).map_err(task)
    }

    /// Only what is refused before anything is touched.
    pub(crate) fn rehearse(mut self) -> Result<bivouac_driver::task::Task, EngineError> {
        let operator = self.settle()?;
        self.bench.engine.rehearse(&operator, &self.request)
    }

    pub(crate) fn start(self) -> Result<Live<'a>, EngineError> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let bench = self.bench;
        let streams =
            Streams::Files { stdin: None, stdout: Some(stdout.into()), stderr: Some(OwnedFd::from(stderr)) };
        let (started, ..) = self.start_with(streams, StarterGone::Keep)?;
        Ok(Live { bench, started, out: BufReader::new(out), err, told: String::new() })
    }

    /// Starts it with other streams; tells its id and whose it is.
    pub(crate) fn start_with(
        mut self,
        streams: Streams,
        gone: StarterGone,
    ) -> Result<(Started, String, &'a Engine), EngineError> {
        let operator = self.settle()?;
        let engine = &self.bench.engine;
        let task = engine.prepare(&operator, &self.request)?;
        Ok((engine.start(&self.request, &task, streams.into(), gone)?, self.request.id, engine))
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(self) -> Report {
        self.start().unwrap_or_else(|error| panic!("{error}")).end()
    }

    /// The sentence with which the start is refused.
    pub(crate) fn refused(self) -> String {
        match self.start() {
            Err(error) => error.to_string(),
            Ok(live) => panic!("it was started:\n{}", live.kill().text),
        }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn ready(self) -> Live<'a> {
        let mut live = self.start().unwrap_or_else(|error| panic!("{error}"));
        live.wait_for("ready");
        live
    }
}

impl Live<'_> {
    pub(crate) fn id(&self) -> &str {
        &self.started.handle.id
    }

    pub(crate) fn shim_pid(&self) -> i32 {
        self.started.handle.shim.pid
    }

    /// Reads until a line of this name comes.
    pub(crate) fn wait_for(&mut self, name: &str) {
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                let _ = self.err.read_to_string(&mut error);
                panic!("it ended before it said {name}:\n{}{error}", self.told);
            }
            self.told.push_str(&line);
            if line.split(' ').next() == Some(name) {
                return;
            }
        }
    }

    /// Runs a command beside it, to its end.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<Report, EngineError> {
        self.exec_within(command, PATIENCE)
    }

    pub(crate) fn exec_within(&self, command: &[&str], deadline: Duration) -> Result<Report, EngineError> {
        let (mut out, stdout) = std::io::pipe().unwrap();
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let both = stdout.try_clone().unwrap();
        let streams = Streams::Files { stdin: None, stdout: Some(stdout.into()), stderr: Some(both.into()) };
        let request = ExecRequest { command, streams, deadline: Some(deadline) };
        let mut session = self.bench.engine.exec(self.id(), request)?;
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        Ok(Report::new(text, session.wait(None)?.ending.code()))
    }

    /// Waits for its end and removes it.
    pub(crate) fn end(mut self) -> Report {
        self.out.read_to_string(&mut self.told).unwrap();
        self.err.read_to_string(&mut self.told).unwrap();
        let id = self.started.handle.id.clone();
        let exit = self.started.client.wait(Some(Instant::now() + PATIENCE)).unwrap();
        self.bench.engine.destroy(&id, Leftovers::Refuse).unwrap();
        Report::new(self.told, exit.ending.code())
    }

    /// Ends it by force.
    pub(crate) fn kill(self) -> Report {
        let id = self.started.handle.id.clone();
        self.bench.engine.destroy(&id, Leftovers::Kill).unwrap();
        let Live { mut out, mut err, mut told, .. } = self;
        out.read_to_string(&mut told).unwrap();
        err.read_to_string(&mut told).unwrap();
        Report::new(told, 137)
    }
}

/// Names of groups of a test in any hierarchy, each once.
pub(crate) fn groups(prefix: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for hierarchy in hierarchies() {
        let entries = std::fs::read_dir(hierarchy).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(names.filter(|name| name.starts_with(prefix)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The tops of the hierarchies that hold tasks' groups.
pub(crate) fn controllers() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    // A machine with version 2 only has one, and what lies in it are groups.
    if top.join("cgroup.controllers").exists() {
        return vec![top];
    }
    hierarchies().filter(|hierarchy| hierarchy.join("cgroup.procs").exists()).collect()
}

fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let below = std::fs::read_dir(&top).unwrap().flatten().map(|entry| entry.path());
    std::iter::once(top).chain(below)
}

fn remove_groups(prefix: &str) {
    for hierarchy in hierarchies() {
        for name in groups(prefix) {
            let group = hierarchy.join(name);
            let deadline = Instant::now() + Duration::from_secs(2);
            while group.exists() && std::fs::remove_dir(&group).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
