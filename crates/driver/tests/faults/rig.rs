//! An engine of its own for each test, the ledger around it, and the table of what was measured.

use crate::request;
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Places, Standing, Started};
use bivouac_driver::options::Value;
use bivouac_driver::request::{StarterGone, Streams, TaskRequest};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No wait of a test is longer, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What ends by itself is gone by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// These tests count what the whole process has open and how fast things go: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn is_emulated() -> bool {
    std::env::var("BIVOUAC_TEST_LANE").is_ok_and(|lane| lane == "vm")
}

/// All of a long list, or every seventh where the machine is emulated.
pub(crate) fn thinned<T>(list: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    list.step_by(if is_emulated() { 7 } else { 1 })
}

/// How many rounds: few in the normal suite, fewer where the machine is emulated, all of them at night.
pub(crate) fn rounds(short: usize, full: usize) -> usize {
    if std::env::var_os("BIVOUAC_NIGHTLY").is_some() {
        full
    } else if is_emulated() {
        short.div_ceil(10)
    } else {
        short
    }
}

/// A program of ours that cargo built beside this test.
fn built(name: &str) -> PathBuf {
    let debug = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let path = debug.join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins --examples", path.display());
    path
}

pub(crate) fn shim() -> PathBuf {
    std::env::var_os("BIVOUAC_SHIM").map_or_else(|| built("bivouac-shim"), PathBuf::from)
}

pub(crate) fn example(name: &str) -> PathBuf {
    built("examples").join(name)
}

/// Asks until the answer is yes.
#[track_caller]
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !yes() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) name: String,
    test: &'static str,
    before: Ledger,
    begun: Instant,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    /// `None` where these tests cannot run.
    pub(crate) fn new(test: &'static str) -> Option<Rig> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: {test}: sandboxes need root");
            return None;
        }
        // A test that failed has told so; the next ones run all the same.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        // Not below /tmp: a task needs a file system on which an overlay's upper layer works.
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in("/var/tmp").unwrap();
        // Process numbers are the same in many a namespace, and cgroups are the machine's.
        let own = directory.path().file_name().and_then(|name| name.to_str()).unwrap();
        let name = format!("{own}-{test}");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let engine = Engine::new(places(directory.path(), &name, shim())).unwrap();
        let before = Ledger::take(&name, directory.path());
        let mut rig = Rig { engine, directory, name, test, before, begun, _alone: alone };
        // The first start opens the program of the shims, which the engine keeps.
        drop(rig.run("first", "exit 0"));
        rig.forget("first");
        until("the first shim is reaped", || {
            let _ = rig.engine.find("nobody");
            Ledger::take(&rig.name, rig.directory.path()).children == rig.before.children
        });
        rig.before = Ledger::take(&rig.name, rig.directory.path());
        Some(rig)
    }

    pub(crate) fn places(&self) -> Places {
        places(self.directory.path(), &self.name, shim())
    }

    /// A second engine over the same state, whose shims are another program.
    pub(crate) fn engine_with(&self, shim: PathBuf) -> Engine {
        Engine::new(places(self.directory.path(), &self.name, shim)).unwrap()
    }

    pub(crate) fn request(&self, id: &str, script: &str) -> TaskRequest {
        self.request_with(id, script, Vec::new())
    }

    pub(crate) fn request_with(&self, id: &str, script: &str, more: Vec<(&str, Value)>) -> TaskRequest {
        request::request(self.directory.path(), &self.name, id, script, more)
    }

    pub(crate) fn start(&self, request: &TaskRequest) -> Result<Started, EngineError> {
        start(&self.engine, request, None)
    }

    /// Starts a shell script without output that must start.
    pub(crate) fn run(&self, id: &str, script: &str) -> Started {
        self.start(&self.request(id, script)).unwrap_or_else(|error| panic!("{id}: {error}"))
    }

    /// Whether the run has ended or is lost.
    pub(crate) fn is_over(&self, id: &str) -> bool {
        match self.engine.find(id) {
            Ok(Standing::Alive(mut client)) => client.state().is_ok_and(|status| status.exit.is_some()),
            // The shim may be going at this very moment: the next look tells.
            Err(EngineError::Left(_)) => false,
            _ => true,
        }
    }

    /// Forgets a run, however it stands.
    #[track_caller]
    pub(crate) fn forget(&self, id: &str) {
        // A shim that was killed is still there for a moment.
        let begun = Instant::now();
        while let Err(error) = self.engine.destroy(id, Leftovers::Kill) {
            assert!(begun.elapsed() < PATIENCE, "{id} cannot be destroyed: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What differs from the beginning at this moment.
    pub(crate) fn difference(&self) -> Vec<String> {
        // Asking for any run reaps shims that have ended.
        let _ = self.engine.find("nobody");
        self.before.difference(&Ledger::take(&self.name, self.directory.path()))
    }

    /// Everything is as it was: what ends may take a moment.
    #[track_caller]
    pub(crate) fn settle(&self) {
        self.settle_after("");
    }

    /// The same, and what was done before is told where it is not so.
    #[track_caller]
    pub(crate) fn settle_after(&self, done: &str) {
        let begun = Instant::now();
        loop {
            let found = self.difference();
            if found.is_empty() {
                return;
            }
            assert!(begun.elapsed() < SETTLED_WITHIN, "the ledger differs: {found:#?} {done}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets another engine go when it has reaped the shims that it started, which nobody else can.
    #[track_caller]
    pub(crate) fn retire(&self, engine: Engine) {
        until("its shims are reaped", || {
            let _ = (engine.find("nobody"), self.engine.find("nobody"));
            Ledger::take(&self.name, self.directory.path()).children.is_subset(&self.before.children)
        });
    }

    /// The end of a test: ledger equal, and a line for the table.
    #[track_caller]
    pub(crate) fn finish(self, told: impl std::fmt::Display) {
        self.settle();
        drop(self.engine);
        remove_groups(&self.name);
        row(self.test, self.begun.elapsed(), &told.to_string());
    }
}

fn places(top: &Path, name: &str, shim: PathBuf) -> Places {
    Places { run: top.join("run"), copies: top.join("copies"), shim, shims: format!("{name}-shims") }
}

/// Starts a task that outlives its starter, with this as its standard output.
pub(crate) fn start(
    engine: &Engine,
    request: &TaskRequest,
    stdout: Option<OwnedFd>,
) -> Result<Started, EngineError> {
    let operator = OperatorConfig::decode(&Value::map([
        ("allow_caps", Value::texts(["all"])),
        ("allow_root", Value::from(true)),
        ("allow_mount_paths", Value::texts(["/"])),
        ("allow_devices", Value::texts(["/dev/null", "/dev/zero"])),
    ]))
    .unwrap();
    let task = engine.prepare(&operator, request)?;
    let streams = Streams::Files { stdin: None, stdout, stderr: None };
    engine.start(request, &task, streams.into(), StarterGone::Keep)
}

/// What must be as it was.
struct Ledger {
    mounts: BTreeSet<String>,
    groups: BTreeSet<String>,
    children: BTreeSet<String>,
    runs: BTreeSet<String>,
    descriptors: usize,
}

impl Ledger {
    fn take(prefix: &str, top: &Path) -> Ledger {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let children = |thread: std::fs::DirEntry| {
            std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()
        };
        let runs = std::fs::read_dir(top.join("run/tasks")).into_iter().flatten().flatten();
        Ledger {
            mounts: mounts.lines().map(str::to_owned).collect(),
            groups: groups(prefix).iter().map(|path| path.display().to_string()).collect(),
            children: threads()
                .map(children)
                .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .collect(),
            runs: runs.map(|entry| entry.path().display().to_string()).collect(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    fn difference(&self, now: &Ledger) -> Vec<String> {
        let mut found = Vec::new();
        // A mount that goes may be another's, whose directory was removed in another namespace; that none of the
        // host's own goes is held by the ledger around all suites.
        found.extend(now.mounts.difference(&self.mounts).map(|mount| format!("mount {mount}")));
        let sets = [
            ("group", &self.groups, &now.groups),
            ("child", &self.children, &now.children),
            ("run", &self.runs, &now.runs),
        ];
        for (what, before, after) in sets {
            found.extend(before.symmetric_difference(after).map(|thing| format!("{what} {thing}")));
        }
        if self.descriptors != now.descriptors {
            found.push(format!("descriptors: {}, now {}", self.descriptors, now.descriptors));
        }
        found
    }
}

/// Groups of a test in any hierarchy.
pub(crate) fn groups(prefix: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    };
    let tops = std::iter::once(top.to_owned()).chain(folders(top));
    let is_of_test = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
    };
    tops.flat_map(|path| folders(&path)).filter(is_of_test).collect()
}

fn remove_groups(prefix: &str) {
    for path in groups(prefix) {
        until("the group of the shims is empty", || std::fs::remove_dir(&path).is_ok() || !path.exists());
    }
}

/// Adds a line to the table that this suite leaves in `target/`.
fn row(test: &str, taken: Duration, told: &str) {
    static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(format!("| {test} | {:.1} s | {told} |\n", taken.as_secs_f64()));
    let lane = std::env::var("BIVOUAC_TEST_LANE").unwrap_or_else(|_| "here".into());
    let head = "| fault or load | took | what was seen |\n|---|---|---|\n";
    let target = built("deps").ancestors().nth(2).unwrap().to_owned();
    let text = format!("# Faults and load, lane {lane}\n\n{head}{}", rows.concat());
    std::fs::write(target.join(format!("faults-{lane}.md")), text).unwrap();
}

/// The value below which a share of the times lies.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = ((times.len() as f64 - 1.0) * share).round() as usize;
    times.get(at).copied().unwrap_or_default()
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The children of this process, whichever thread made them.
pub(crate) fn children() -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of =
        |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("children")).unwrap_or_default();
    threads
        .map(of)
        .flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

/// A process number that is not reused while it is our own child.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A figure of `/proc/PID/status`, such as `VmRSS` in KiB.
pub(crate) fn figure(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
