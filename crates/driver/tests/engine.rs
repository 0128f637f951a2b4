//! The engine with real shims and real sandboxes: start, exec, stop, recover, destroy, and nothing left behind.
//! Needs root; a missing shim program is a failure, not a skip.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_driver::config::{OperatorConfig, TaskConfig};
use bivouac_driver::engine::{Engine, EngineError, Places, Standing, Started};
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::options::Value;
use bivouac_driver::request::{Directories, ExecRequest, Secrets, StarterGone, Streams, TaskRequest};
use bivouac_driver::resources::Resources;
use bivouac_driver::signals::Signal;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Network;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Bench {
    engine: Engine,
    directory: tempfile::TempDir,
    name: String,
}

fn shim() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("bivouac-shim");
    let shim = std::env::var_os("BIVOUAC_SHIM").map_or_else(beside, PathBuf::from);
    assert!(shim.exists(), "{} is missing: cargo build -p bivouac-shim", shim.display());
    shim
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        if !rustix::process::geteuid().is_root() {
            skipped(test);
            return None;
        }
        // Not below /tmp: a task needs a file system on which an overlay's upper layer works.
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let name = format!("bivouac-test-{test}-{}", std::process::id());
        let (run, copies) = (directory.path().join("run"), directory.path().join("copies"));
        let places = Places { run, copies, shim: shim(), shims: format!("{name}-shims") };
        Some(Bench { engine: Engine::new(places).unwrap(), directory, name })
    }

    fn request(&self, id: &str, command: &str, args: &[&str], more: Vec<(&str, Value)>) -> TaskRequest {
        let top = self.directory.path().join(id);
        for name in ["task", "alloc"] {
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
            config: TaskConfig::decode(&Value::map(options.into_iter().chain(more))).unwrap(),
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
        }
    }

    fn start(
        &self,
        request: &TaskRequest,
    ) -> Result<(Started, std::io::PipeReader, std::io::PipeReader), EngineError> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let operator = OperatorConfig::decode(&Value::Null).unwrap();
        let task = self.engine.prepare(&operator, request)?;
        let streams = Streams::Files {
            stdin: None,
            stdout: Some(OwnedFd::from(stdout)),
            stderr: Some(OwnedFd::from(stderr)),
        };
        let started = self.engine.start(request, &task, streams.into(), StarterGone::Keep)?;
        Ok((started, out, err))
    }

    /// Runs a shell command to its end: what it wrote, and its status.
    fn shell(&self, id: &str, script: &str, more: Vec<(&str, Value)>) -> (String, String, i32) {
        let request = self.request(id, "/bin/sh", &["-c", script], more);
        let (started, mut out, mut err) = self.start(&request).unwrap_or_else(|error| panic!("{error}"));
        let exit = started.client.wait(None).unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        out.read_to_string(&mut stdout).unwrap();
        err.read_to_string(&mut stderr).unwrap();
        self.engine.destroy(&request.id, false).unwrap();
        (stdout, stderr, exit.ending.code())
    }

    /// What must be as before: groups, run directories, mounts, children.
    fn finish(self) {
        assert_eq!(self.engine.list().unwrap(), Vec::<String>::new());
        assert_eq!(
            groups(&self.name),
            [format!("{}-shims", self.name)],
            "only the group of the shims is left"
        );
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "{mounts}");
        remove_groups(&self.name);
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(test: &str) {
    eprintln!("SKIPPED: {test}: sandboxes need root");
}

/// Names of groups of a test in any hierarchy, each once.
fn groups(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |directory: &Path| {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(prefix)) {
                found.push(name.to_owned());
            }
        }
    };
    let top = Path::new("/sys/fs/cgroup");
    look(top);
    for hierarchy in std::fs::read_dir(top).unwrap().flatten() {
        look(&hierarchy.path());
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn remove_groups(prefix: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).unwrap().flatten().map(|entry| entry.path());
    for hierarchy in std::iter::once(top.to_owned()).chain(hierarchies) {
        for entry in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                for _ in 0..100 {
                    if std::fs::remove_dir(entry.path()).is_ok() || !entry.path().exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// Covers: X27, X28, E10
#[test]
fn x27_x28_e10_output_status_and_files() {
    let Some(bench) = Bench::new("output") else { return };
    let script = "echo out; echo err >&2; echo kept > $NOMAD_ALLOC_DIR/output.txt; exit 43";
    assert_eq!(bench.shell("a", script, vec![]), ("out\n".into(), "err\n".into(), 43));
    let kept = std::fs::read_to_string(bench.directory.path().join("a/alloc/output.txt")).unwrap();
    assert_eq!(kept, "kept\n");
    bench.finish();
}

/// Covers: X9, X8
#[test]
fn x9_x8_and_what_a_task_sees() {
    let Some(bench) = Bench::new("sees") else { return };
    let script = "id -u; id -g; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; pwd; umask; \
        echo $USER $HOME; head -c 99 /etc/shadow | head -n 1; ls -a /alloc/logs; touch /alloc/logs/x; echo $?";
    let (out, err, _) = bench.shell(
        "a",
        script,
        vec![("cap_drop", Value::texts(["all"])), ("cap_add", Value::texts(["net_bind_service"]))],
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines.get(..8).unwrap(),
        ["65534", "65534", "CapEff:\t0000000000000400", "0", "/", "0022", "nobody /nonexistent", "."],
        "{out}{err}"
    );
    assert!(err.contains("/etc/shadow") && err.contains("Read-only file system"), "{err}");
    bench.finish();
}

/// Covers: E5, E6, E20
#[test]
fn e5_e6_e20_recover_stop_and_signals() {
    let Some(bench) = Bench::new("stop") else { return };
    let request =
        bench.request("a", "/bin/sh", &["-c", "trap 'exit 7' INT; while :; do sleep 0.1; done"], vec![]);
    let (started, _out, _err) = bench.start(&request).unwrap();
    let handle = started.handle.clone();
    assert!(matches!(bench.start(&request), Err(EngineError::AlreadyStarted(_))));
    assert!(matches!(bench.engine.destroy(&request.id, false), Err(EngineError::Running)));
    drop(started);
    assert_eq!(bench.engine.inspect(&request.id).unwrap().first, handle.first);
    let stats = bench.engine.stats(&request.id).unwrap();
    assert_eq!(stats.oom_kills, 0);
    assert!(matches!(bench.engine.recover(&handle), Ok(Standing::Alive(_))));
    let mut foreign = handle.clone();
    foreign.shim.start_time += 1;
    assert!(matches!(bench.engine.recover(&foreign), Err(EngineError::Lost(_))));
    std::thread::sleep(Duration::from_millis(200));
    let exit = bench.engine.stop(&request.id, Signal::INT, Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 7);
    bench.engine.destroy(&request.id, false).unwrap();
    assert!(matches!(bench.engine.find(&request.id), Err(EngineError::Unknown)));
    assert!(bench.engine.destroy(&request.id, true).is_ok(), "by force, an unknown run is no error");
    bench.finish();
}

/// Covers: X4, E16
#[test]
fn x4_e16_lack_of_memory_is_told() {
    let Some(bench) = Bench::new("oom") else { return };
    let request = bench.request("a", "tail", &["/dev/zero"], vec![]);
    let (started, _out, _err) = bench.start(&request).unwrap();
    let exit = started.client.wait(None).unwrap();
    assert!(exit.oom_kills > 0 && exit.ending.code() != 0, "{exit:?}");
    assert!(bivouac_driver::engine::sentences(&exit, Some(128)).join("").contains("limit 128 MiB"));
    bench.engine.destroy(&request.id, false).unwrap();
    bench.finish();
}

#[test]
fn what_a_crash_left_is_collected_and_what_just_starts_is_not() {
    let Some(bench) = Bench::new("gc") else { return };
    let run_dir = bench.directory.path().join("run/tasks/left%2fover");
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.engine.list().unwrap(), ["left/over"]);
    assert!(bench.engine.gc().unwrap().is_empty(), "it may be just starting");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&run_dir).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(bench.engine.gc().unwrap(), ["left/over"]);
    bench.finish();
}

/// Covers: E7, X26
#[test]
fn e7_x26_a_start_that_fails_leaves_nothing() {
    let Some(bench) = Bench::new("fails") else { return };
    let missing = bench.request("a", "/bin/foobar", &[], vec![]);
    let error = bench.start(&missing).map(drop).unwrap_err();
    assert!(matches!(&error, EngineError::Launch { exit_code: 127, .. }), "{error}");
    assert!(error.to_string().contains("/bin/foobar"), "{error}");
    let unknown = TaskRequest { user: "alice".into(), ..bench.request("b", "/bin/true", &[], vec![]) };
    assert!(bench.start(&unknown).map(drop).unwrap_err().to_string().contains("user alice"));
    bench.finish();
}

/// Covers: D1, E12
#[test]
fn d1_e12_a_command_in_a_running_task() {
    let Some(bench) = Bench::new("exec") else { return };
    let request = bench.request("a", "/bin/sleep", &["100"], vec![]);
    let (_started, _out, _err) = bench.start(&request).unwrap();
    let exec = |command: &[&str]| {
        let (mut out, stdout) = std::io::pipe().unwrap();
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let streams = Streams::Files { stdin: None, stdout: Some(stdout.into()), stderr: None };
        let request = ExecRequest { command, streams, deadline: Some(Duration::from_secs(10)) };
        let mut session = bench.engine.exec("alloc/a", request)?;
        let end = session.wait(None)?;
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        Ok::<_, EngineError>((text, end.ending.code()))
    };
    assert_eq!(exec(&["sh", "-c", "id -u; exit 43"]).unwrap(), ("65534\n".into(), 43));
    assert!(matches!(exec(&["no-such-command"]), Err(EngineError::Launch { exit_code: 127, .. })));
    assert!(exec(&["../bin/sh"]).unwrap_err().to_string().contains("must not contain `..`"));
    bench.engine.destroy(&request.id, true).unwrap();
    bench.finish();
}
