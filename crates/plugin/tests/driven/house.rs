//! What a Nomad client prepares for a task: directories and control groups, and the proof that nothing else stays.

use bivouac_cgroup::{Host, Layout};
use bivouac_plugin::wire::driver as pb;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The hierarchies in which a client makes groups on version 1.
const MADE: [&str; 3] = ["freezer", "cpu", "memory"];
const MIB: i64 = 64;

/// One client's directories and groups.
pub(crate) struct House {
    /// Everything of it.
    pub(crate) dir: tempfile::TempDir,
    /// The name of its groups.
    name: String,
    layout: Layout,
}

/// One task of it, called `main`.
pub(crate) struct TaskHouse {
    pub(crate) alloc: String,
    pub(crate) alloc_dir: PathBuf,
    cpuset: String,
    /// Where the client made groups.
    pub(crate) groups: Vec<PathBuf>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn write(path: PathBuf, text: &str) {
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

impl House {
    pub(crate) fn new() -> House {
        let parent = std::env::var_os("BIVOUAC_TEST_DIR").map_or("/var/tmp".into(), PathBuf::from);
        let dir = tempfile::Builder::new().prefix("bivouac-test-driven-").tempdir_in(parent).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
        open_up(dir.path(), 0o711);
        // Not the process's number, which tests in other pid namespaces have too.
        let name = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let house = House { dir, name, layout: Host::detect().unwrap().layout() };
        house.make_top();
        house
    }

    fn is_v2(&self) -> bool {
        self.layout == Layout::V2
    }

    /// The group above all tasks, in one hierarchy.
    fn top(&self, controller: &str) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        if self.is_v2() { top.join(&self.name) } else { top.join(controller).join(&self.name) }
    }

    fn make_top(&self) {
        if self.is_v2() {
            let share = self.top("").join("share.slice");
            std::fs::create_dir_all(&share).unwrap();
            for above in [Path::new("/sys/fs/cgroup"), &self.top(""), &share] {
                write(above.join("cgroup.subtree_control"), "+cpuset +cpu +io +memory +pids");
            }
            return;
        }
        for controller in MADE {
            std::fs::create_dir_all(self.top(controller)).unwrap();
        }
        let share = self.top("cpuset").join("share");
        std::fs::create_dir_all(&share).unwrap();
        for group in [&self.top("cpuset"), &share] {
            for file in ["cpuset.mems", "cpuset.cpus"] {
                let above = std::fs::read_to_string(Path::new("/sys/fs/cgroup/cpuset").join(file)).unwrap();
                write(group.join(file), &above);
            }
        }
    }

    /// Directories and groups of one allocation with one task.
    pub(crate) fn task(&self) -> TaskHouse {
        let alloc = format!("0a1b2c3d-0000-4000-8000-{:012}", number());
        let alloc_dir = self.dir.path().join("alloc").join(&alloc);
        for (below, mode) in [
            ("", 0o755),
            ("alloc", 0o777),
            ("alloc/logs", 0o777),
            ("alloc/data", 0o777),
            ("alloc/tmp", 0o777),
            ("main", 0o777),
            ("main/local", 0o777),
            ("main/secrets", 0o777),
            ("main/tmp", 0o777),
        ] {
            let path = alloc_dir.join(below);
            std::fs::create_dir_all(&path).unwrap();
            open_up(&path, mode);
        }
        let mut house = TaskHouse { alloc, alloc_dir, cpuset: String::new(), groups: Vec::new() };
        self.make_groups(&mut house);
        house
    }

    fn make_groups(&self, task: &mut TaskHouse) {
        let own = format!("{}.main", task.alloc);
        let (named, made) = if self.is_v2() {
            let scope = self.top("").join("share.slice").join(format!("{own}.scope"));
            (scope.clone(), vec![scope])
        } else {
            let made = MADE.map(|controller| self.top(controller).join(&own));
            (self.top("cpuset").join("share"), made.to_vec())
        };
        made.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        task.cpuset = named.to_str().unwrap().to_owned();
        task.groups = made;
    }

    /// Every directory of control groups that carries an allocation's id, the client's own left out.
    pub(crate) fn groups_of_ours(&self, task: &TaskHouse) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut rest = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = rest.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.file_name().to_string_lossy().contains(&task.alloc) && !task.groups.contains(&path) {
                    found.push(path.clone());
                }
                rest.push(path);
            }
        }
        found
    }
}

fn open_up(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Drop for House {
    fn drop(&mut self) {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
        // On version 1 the driver makes groups in further hierarchies.
        for hierarchy in hierarchies.chain([top.to_owned()]) {
            remove_groups(&hierarchy.join(&self.name));
        }
    }
}

/// Removes groups from the leaves up; what a failed test left in them is killed.
fn remove_groups(path: &Path) {
    if !path.exists() {
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let end = Instant::now() + Duration::from_secs(10);
    while std::fs::remove_dir(path).is_err() && path.exists() && Instant::now() < end {
        for pid in processes(path) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes in a group.
pub(crate) fn processes(group: &Path) -> Vec<rustix::process::Pid> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)).collect()
}

impl TaskHouse {
    pub(crate) fn task_dir(&self) -> PathBuf {
        self.alloc_dir.join("main")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.alloc_dir.join("alloc/logs")
    }

    /// The newest log of a stream, or nothing.
    pub(crate) fn log(&self, stream: &str) -> String {
        std::fs::read_to_string(self.logs().join(format!("main.{stream}.0"))).unwrap_or_default()
    }

    /// What a client sends for a run of a shell.
    pub(crate) fn shell(&self, run: &str, script: &str) -> pb::TaskConfig {
        self.config(run, &serde_json::json!({"command": "/bin/sh", "args": ["-c", script]}))
    }

    /// What a client sends for a run with these options.
    pub(crate) fn config(&self, run: &str, options: &Value) -> pb::TaskConfig {
        let env = [("NOMAD_ALLOC_DIR", "/alloc"), ("NOMAD_TASK_DIR", "/local"), ("SECRET", "hvs.secret")];
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        pb::TaskConfig {
            id: format!("{}/main/{run}", self.alloc),
            name: "main".into(),
            alloc_id: self.alloc.clone(),
            alloc_dir: self.alloc_dir.to_str().unwrap().into(),
            env,
            msgpack_driver_config: rmp_serde::to_vec_named(options).unwrap(),
            // With collection of our own the path is only a sign that there is something to collect.
            stdout_path: self.logs().join(".main.stdout.fifo").to_str().unwrap().into(),
            stderr_path: self.logs().join(".main.stderr.fifo").to_str().unwrap().into(),
            resources: Some(pb::Resources {
                allocated_resources: Some(pb::AllocatedTaskResources {
                    cpu: Some(pb::AllocatedCpuResources { cpu_shares: 100 }),
                    memory: Some(pb::AllocatedMemoryResources { memory_mb: MIB, memory_max_mb: 0 }),
                    networks: Vec::new(),
                }),
                linux_resources: Some(pb::LinuxResources {
                    cpuset_cgroup: self.cpuset.clone(),
                    ..Default::default()
                }),
                ports: Vec::new(),
            }),
            ..Default::default()
        }
    }
}
