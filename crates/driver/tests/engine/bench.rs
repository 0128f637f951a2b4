//! What the tests share: an engine of their own, requests, runs, sessions, and the check that nothing is left.

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
use bivouac_shim::status::Exit;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough for the virtual machine and a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Options = Vec<(&'static str, Value)>;

/// An engine with directories and groups of one test.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) places: Places,
    pub(crate) operator: OperatorConfig,
    pub(crate) directory: tempfile::TempDir,
    /// With which the names of all its groups begin.
    pub(crate) name: String,
}

/// A task that runs.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) started: Started,
    pub(crate) out: PipeReader,
    pub(crate) err: PipeReader,
}

/// What a command wrote and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Output {
    pub(crate) fn new(out: &str, err: &str, code: i32) -> Output {
        Output { out: out.into(), err: err.into(), code }
    }
}

fn shim() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("bivouac-shim");
    let shim = std::env::var_os("BIVOUAC_SHIM").map_or_else(beside, PathBuf::from);
    assert!(shim.exists(), "{} is missing: cargo build -p bivouac-shim", shim.display());
    shim
}

impl Bench {
    /// As the operator has it by default; `None` (and a line) when not root.
    pub(crate) fn new(test: &str) -> Option<Bench> {
        Bench::with(test, vec![])
    }

    /// With options of the operator.
    pub(crate) fn with(test: &str, operator: Options) -> Option<Bench> {
        if !rustix::process::geteuid().is_root() {
            skipped(test);
            return None;
        }
        // Not below /tmp: a task needs a file system on which an overlay's upper layer works.
        let parent = std::env::var_os("BIVOUAC_TEST_DIR").map_or("/var/tmp".into(), PathBuf::from);
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in(parent).unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let name = format!("bivouac-test-{test}-{}", std::process::id());
        let (run, copies) = (directory.path().join("run"), directory.path().join("copies"));
        let places = Places { run, copies, shim: shim(), shims: format!("{name}-shims") };
        Some(Bench {
            engine: Engine::new(places.clone()).unwrap(),
            places,
            operator: OperatorConfig::decode(&Value::map(operator)).unwrap(),
            directory,
            name,
        })
    }

    /// A place in the test's directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// A task whose id is `alloc/<id>` and whose directories are `<id>/task` and `<id>/alloc`.
    pub(crate) fn request(&self, id: &str, command: &str, args: &[&str], more: Options) -> TaskRequest {
        let top = self.path(id);
        for name in ["task", "alloc", "task/local"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
            std::fs::set_permissions(top.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let path = |name: &str| HostPath::new(top.join(name)).unwrap();
        let options = [("command", Value::from(command)), ("args", Value::texts(args.iter().copied()))];
        let name = GroupName::new(format!("{}-{id}", self.name)).unwrap();
        TaskRequest {
            id: format!("alloc/{id}"),
            name: id.into(),
            directories: Directories {
                task: path("task"),
                shared: path("alloc"),
                secrets: Secrets::InTaskDirectory,
                private: path("private"),
                own: vec![HostPath::new(self.directory.path()).unwrap()],
            },
            config: TaskConfig::decode(&Value::map(options.into_iter().chain(more)))
                .unwrap_or_else(|error| panic!("{error}")),
            env: vec![("NOMAD_ALLOC_DIR".into(), "/alloc".into())],
            user: String::new(),
            root: RootRule::Refused,
            pseudo_users: PseudoUsers::Unknown,
            resources: Resources { cpu_mhz: 100, memory_mib: Some(128), ..Resources::default() },
            placement: Placement::Ours { parent: GroupPath::ROOT, name },
            network: Network::Host,
            hostname: None,
            address: None,
            dns: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            stop: StopRule::default(),
        }
    }

    /// A shell script as a task.
    pub(crate) fn script(&self, id: &str, script: &str, more: Options) -> TaskRequest {
        self.request(id, "/bin/sh", &["-c", script], more)
    }

    /// The same as user root.
    pub(crate) fn root_script(&self, id: &str, script: &str, more: Options) -> TaskRequest {
        TaskRequest { user: "root".into(), root: RootRule::Allowed, ..self.script(id, script, more) }
    }

    pub(crate) fn start(&self, request: &TaskRequest) -> Result<Run, EngineError> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let task = self.engine.prepare(&self.operator, request)?;
        let streams =
            Streams::Files { stdin: None, stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
        let started = self.engine.start(request, &task, streams.into(), StarterGone::Keep)?;
        Ok(Run { id: request.id.clone(), started, out, err })
    }

    /// Starts what must start.
    pub(crate) fn started(&self, request: &TaskRequest) -> Run {
        self.start(request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why a task does not start.
    pub(crate) fn refusal(&self, request: &TaskRequest) -> String {
        match self.start(request) {
            Ok(_) => panic!("{} started", request.config.command),
            Err(error) => error.to_string(),
        }
    }

    /// Runs a task to its end and removes it.
    pub(crate) fn run(&self, request: &TaskRequest) -> Output {
        let Run { id, started, out, err } = self.started(request);
        let exit = wait(started);
        let output = Output { out: read_all(out), err: read_all(err), code: exit.ending.code() };
        self.engine.destroy(&id, Leftovers::Refuse).unwrap();
        output
    }

    /// Runs a shell script as a task to its end.
    pub(crate) fn shell(&self, id: &str, script: &str, more: Options) -> Output {
        self.run(&self.script(id, script, more))
    }

    /// Runs a shell script in a running task to its end.
    pub(crate) fn exec(&self, id: &str, script: &str, input: &[u8]) -> Output {
        let (stdin, mut feed) = std::io::pipe().unwrap();
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let streams = Streams::Files {
            stdin: Some(stdin.into()),
            stdout: Some(stdout.into()),
            stderr: Some(stderr.into()),
        };
        let mut session = self.engine.exec(id, session(script, streams)).unwrap();
        feed.write_all(input).unwrap();
        drop(feed);
        let end = session.wait(soon()).unwrap();
        Output { out: read_all(out), err: read_all(err), code: end.ending.code() }
    }

    /// The directories of a task's group, one a hierarchy.
    pub(crate) fn groups_of(&self, id: &str) -> Vec<PathBuf> {
        let name = format!("{}-{}", self.name, id.strip_prefix("alloc/").unwrap_or(id));
        hierarchies().into_iter().map(|top| top.join(&name)).filter(|path| path.exists()).collect()
    }

    /// What must be as before: groups, run directories, mounts, children.
    pub(crate) fn finish(self) {
        assert_eq!(self.engine.list().unwrap(), Vec::<String>::new());
        // The group of the shims stays, once a first one was started.
        let shims = format!("{}-shims", self.name);
        let left: Vec<String> = groups(&self.name).into_iter().filter(|name| *name != shims).collect();
        assert_eq!(left, Vec::<String>::new(), "groups are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "{mounts}");
    }
}

impl Drop for Bench {
    /// Also after a failed test.
    fn drop(&mut self) {
        for id in self.engine.list().unwrap_or_default() {
            let _ = self.engine.destroy(&id, Leftovers::Kill);
        }
        for path in groups(&self.name)
            .iter()
            .flat_map(|name| hierarchies().into_iter().map(move |top| top.join(name)))
        {
            // A group is busy for a moment after its last process.
            let deadline = Instant::now() + Duration::from_secs(5);
            while path.exists() && std::fs::remove_dir(&path).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(test: &str) {
    eprintln!("SKIPPED: {test}: sandboxes need root");
}

pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// The end of a task, which must come.
pub(crate) fn wait(started: Started) -> Exit {
    started.client.wait(soon()).unwrap()
}

pub(crate) fn read_all(mut pipe: PipeReader) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One line, byte by byte, so that nothing after it is taken.
pub(crate) fn read_line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A shell script as an exec session.
pub(crate) fn session(script: &str, streams: Streams) -> ExecRequest {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { command, streams, deadline: Some(PATIENCE) }
}

/// A file opened for appending, as a log is.
pub(crate) fn log(path: &Path) -> OwnedFd {
    std::fs::File::options().create(true).append(true).open(path).unwrap().into()
}

/// Whether a process exists and is no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Where hierarchies are mounted, on any version.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(top).unwrap().flatten().map(|entry| entry.path());
    let below = below.filter(|path| path.join("cgroup.procs").exists() && !top.join("cgroup.procs").exists());
    std::iter::once(top.to_owned()).chain(below).collect()
}

/// Names of groups of a test in any hierarchy, each once.
pub(crate) fn groups(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for top in hierarchies() {
        for entry in std::fs::read_dir(top).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(prefix)) {
                found.push(name.to_owned());
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What a process of ours or its namespaces are.
pub(crate) fn namespace(pid: i32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}
