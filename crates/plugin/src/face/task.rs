//! A task in plain types: what is to run, and how it went.

use crate::options::Values;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::SystemTime;

/// All that the client says about one run of a task, checked for form.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskStart {
    /// The run's id; never used twice.
    pub id: String,
    /// The task's name in the job: one path component.
    pub name: String,
    /// The allocation's id.
    pub alloc_id: String,
    /// The job's name.
    pub job_name: String,
    /// The group's name.
    pub group_name: String,
    /// The user that the job names, if any.
    pub user: Option<String>,
    /// Whether the client hands out users that no database knows.
    pub dynamic_users: DynamicUsers,
    /// The task's complete environment, but for what depends on its user.
    pub env: BTreeMap<String, String>,
    /// The job's options for this driver, defaults filled in.
    pub options: Values,
    /// The allocation's directory on the host; the task's own is `<alloc_dir>/<name>`.
    pub alloc_dir: PathBuf,
    /// Where standard output goes.
    pub stdout: Output,
    /// Where standard error goes.
    pub stderr: Output,
    /// Volumes and what device plugins want mounted.
    pub mounts: Vec<Mount>,
    /// What device plugins give.
    pub devices: Vec<Device>,
    /// The network to be in.
    pub network: Network,
    /// Name resolution, if it differs from the host's.
    pub dns: Option<Dns>,
    /// Limits.
    pub resources: Resources,
}

/// Users named `nomad-<number>`, whose numbers the client manages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamicUsers {
    /// Names like any other.
    Off,
    /// The user and group of that number.
    On,
}

/// Where one stream of a task goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Discard,
    /// Into this FIFO or file, opened without following links.
    Path(PathBuf),
    /// Into numbered files, written by us.
    Collect(LogSeries),
}

/// The numbered files `<name>.<n>` of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSeries {
    /// The directory that `nomad alloc logs` reads.
    pub directory: PathBuf,
    /// What stands before the number: `<task>.stdout` or `<task>.stderr`.
    pub name: String,
    /// When to begin a new file and how many to keep.
    pub limits: LogLimits,
}

/// The room that one stream's log may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Files kept.
    pub max_files: NonZeroU32,
    /// Size of one file, in MiB.
    pub max_file_size_mib: NonZeroU32,
}

/// A host directory or file shown in the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the task; may be relative to its root.
    pub task_path: String,
    /// What of the host.
    pub host_path: PathBuf,
    /// Whether the task may not write.
    pub readonly: bool,
    /// Whether later mounts below it travel.
    pub propagation: Propagation,
}

/// Which later mounts travel between host and task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// None.
    Private,
    /// The host's show in the task.
    HostToTask,
    /// Both ways.
    Bidirectional,
}

/// A device node given to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where in the task.
    pub task_path: String,
    /// Which node of the host.
    pub host_path: PathBuf,
    /// What is allowed: some of `r`, `w`, `m`.
    pub permissions: String,
}

/// The network that a task is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// The allocation's, joined by path.
    Join {
        /// The network namespace.
        path: PathBuf,
        /// What the group's hosts file should say, if the client knows.
        hosts: Option<Hosts>,
    },
}

/// One line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The allocation's host name.
    pub hostname: String,
    /// Its address.
    pub address: String,
}

/// Name resolution as the job wants it; an empty list means as the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Domains to search.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What a task may use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Processor time asked for, in MHz.
    pub cpu_mhz: u64,
    /// Memory asked for, in MiB; 0 if the client did not say.
    pub memory_mib: u64,
    /// How far the task may go beyond it.
    pub memory_max: MemoryMax,
    /// The cores reserved for it, as a list such as `0-1,5`; empty for none.
    pub cores: String,
    /// The cgroup that the client names, if any: all of it on v2, only the cpuset on v1.
    pub cgroup: Option<PathBuf>,
}

/// How far a task may go beyond the memory it asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryMax {
    /// Not at all.
    #[default]
    None,
    /// Up to so many MiB.
    Mib(u64),
    /// As far as the host has memory.
    Unlimited,
}

/// What an engine has to say when a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// All that [`super::Engine::recover`] needs after a restart. Holds no secrets: the client keeps it
    /// on disk.
    pub state: Vec<u8>,
}

/// A task that an earlier process started.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecover {
    /// The run's id.
    pub id: String,
    /// The task's name in the job.
    pub name: String,
    /// The allocation's id.
    pub alloc_id: String,
    /// The allocation's directory on the host.
    pub alloc_dir: PathBuf,
    /// What [`Started::state`] was.
    pub state: Vec<u8>,
}

/// How a task or a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit status; 128 + N if signal N ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// What the driver has to add; makes the run a failure.
    pub error: Option<String>,
}

/// What can be asked about a task at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// When the command began to run.
    pub started_at: SystemTime,
    /// When it ended.
    pub completed_at: Option<SystemTime>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Further facts, such as its process id.
    pub attributes: BTreeMap<String, String>,
}

/// What a task has used since its start. A `None` was not measured on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, in nanoseconds.
    pub cpu_user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Processor time in all, in nanoseconds.
    pub cpu_total_ns: u64,
    /// How often the task was held back.
    pub throttled_periods: Option<u64>,
    /// For how long, in nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Memory of its own, in bytes.
    pub rss: Option<u64>,
    /// File pages, in bytes.
    pub cache: Option<u64>,
    /// Swap, in bytes.
    pub swap: Option<u64>,
    /// Memory charged to it, in bytes.
    pub usage: Option<u64>,
    /// The largest that this ever was, in bytes.
    pub max_usage: Option<u64>,
    /// Kernel memory, in bytes.
    pub kernel_usage: Option<u64>,
    /// The largest that this ever was, in bytes.
    pub kernel_max_usage: Option<u64>,
    /// Its processes, by their numbers on the host.
    pub processes: BTreeMap<i32, ProcessUsage>,
}

/// What one process of a task has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// When it started, in clock ticks since boot: another process of the same number started later.
    pub started: u64,
    /// Processor time in user mode, in nanoseconds.
    pub cpu_user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Memory swapped out, in bytes.
    pub swap: u64,
}
