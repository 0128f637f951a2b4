//! Tasks: one command each, and everything around it.

use super::{ConfigTree, Constraint, Restart, Service};
use crate::source::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a task is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// `exec`, and `bivouac`, which is the same under its own name.
    Exec,
}

/// When a task runs within its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The group exists for it.
    #[default]
    Main,
    /// Before the main tasks; a sidecar goes on beside them.
    Prestart {
        /// Whether it goes on.
        sidecar: bool,
    },
    /// After the main tasks have started.
    Poststart {
        /// Whether it goes on.
        sidecar: bool,
    },
    /// After all others have ended.
    Poststop,
}

/// A signal that Linux knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// `SIGTERM` and so on.
    pub name: String,
    /// Its number on Linux.
    pub number: i32,
}

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// A signal by name, with or without `SIG`, in either case.
    pub fn parse(text: &str) -> Option<Signal> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        let short = match short {
            "IOT" => "ABRT",
            "POLL" => "IO",
            other => other,
        };
        let at = SIGNALS.iter().position(|name| *name == short)?;
        Some(Signal { name: format!("SIG{short}"), number: i32::try_from(at).ok()? + 1 })
    }

    /// All names, with `SIG`.
    pub(crate) fn names() -> Vec<String> {
        SIGNALS.iter().map(|name| format!("SIG{name}")).collect()
    }
}

/// One command in one sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Name, unique in the group and safe as a file name.
    pub name: String,
    /// How it is run.
    pub driver: Driver,
    /// The driver's own settings; `${...}` in its strings is for the start of the task.
    pub config: ConfigTree,
    /// Environment, perhaps with `${...}`.
    pub env: BTreeMap<String, String>,
    /// Key and value pairs.
    pub meta: BTreeMap<String, String>,
    /// User, perhaps with `${...}`; the driver's default if none.
    pub user: Option<String>,
    /// When it runs.
    pub role: Role,
    /// When it ends, all others are ended.
    pub leader: bool,
    /// Limits.
    pub resources: Resources,
    /// Signal that asks it to end; the driver's default if none.
    pub kill_signal: Option<Signal>,
    /// Time between that signal and SIGKILL.
    pub kill_timeout: Duration,
    /// Wait between deregistering and killing.
    pub shutdown_delay: Duration,
    /// When it is started again.
    pub restart: Restart,
    /// Log files.
    pub logs: Logs,
    /// What is fetched first.
    pub artifacts: Vec<Artifact>,
    /// What is rendered first.
    pub templates: Vec<Template>,
    /// Volumes it sees.
    pub volume_mounts: Vec<VolumeMount>,
    /// What the machine must be like.
    pub constraints: Vec<Constraint>,
    /// File below `local/` for a dispatched payload.
    pub dispatch_payload: Option<String>,
    /// Named commands to run in it.
    pub actions: Vec<Action>,
    /// Its services.
    pub services: Vec<Service>,
    /// Tokens it gets.
    pub identities: Vec<Identity>,
    /// Secrets it may refer to.
    pub secrets: Vec<Secret>,
    /// When it may run.
    pub schedule: Option<Schedule>,
    /// The task's name in the text.
    #[serde(skip)]
    pub span: Span,
}

/// A share of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpu {
    /// MHz, as a weight.
    Mhz(u32),
    /// Whole cores for it alone.
    Cores(u32),
}

/// How far memory may grow above what is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMax {
    /// Not at all.
    Same,
    /// To this many MB.
    Mb(u64),
    /// Without limit.
    Unlimited,
}

/// How much a task cares for memory near its cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumaAffinity {
    /// Not.
    #[default]
    None,
    /// If possible.
    Prefer,
    /// Always.
    Require,
}

/// Limits of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors.
    pub cpu: Cpu,
    /// Memory in MB.
    pub memory_mb: u64,
    /// Upper bound.
    pub memory_max: MemoryMax,
    /// Size of the secrets directory in MB, charged to the task on top of its memory.
    pub secrets_mb: Option<u64>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Memory placement.
    pub numa: NumaAffinity,
}

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `vendor/type/model`, the first and last may be missing.
    pub name: String,
    /// How many.
    pub count: u32,
    /// What they must be like.
    pub constraints: Vec<Constraint>,
}

/// Log files of a task, per stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Files kept.
    pub max_files: u32,
    /// Size at which a new one begins, in MB.
    pub max_file_size_mb: u32,
    /// Nothing is collected.
    pub disabled: bool,
}

/// What an artifact becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactMode {
    /// Archives are unpacked, files kept.
    #[default]
    Any,
    /// Exactly one file.
    File,
    /// A directory.
    Dir,
}

/// Something to fetch before the task starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Address, perhaps with `${...}`.
    pub source: String,
    /// Place in the task's directory; `local/` unless given.
    pub destination: String,
    /// What it becomes.
    pub mode: ArtifactMode,
    /// Options of the address.
    pub options: BTreeMap<String, String>,
    /// Headers of HTTP requests.
    pub headers: BTreeMap<String, String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// Give the result to the task's user.
    pub chown: bool,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// Where a template's text comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// From the job file.
    Data(String),
    /// From a file in the task's directory.
    File(String),
}

/// A command that runs when a template changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeScript {
    /// Program.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Longest run.
    pub timeout: Duration,
    /// Whether its failure kills the task.
    pub fail_on_error: bool,
    /// Whether it also runs after the first rendering.
    pub run_on_first_render: bool,
}

/// What happens when a template's output changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The task is restarted.
    Restart,
    /// The task gets a signal.
    Signal(Signal),
    /// A command runs in the task.
    Script(ChangeScript),
    /// Nothing.
    Noop,
}

/// A file rendered before the task starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The text.
    pub source: TemplateSource,
    /// The file, perhaps with `${...}`.
    pub destination: String,
    /// Permission bits.
    pub perms: u32,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// What a change does.
    pub change: Change,
    /// Longest random wait before that.
    pub splay: Duration,
    /// Opens an action.
    pub left_delimiter: String,
    /// Closes an action.
    pub right_delimiter: String,
    /// The output is also environment.
    pub env: bool,
    /// Rendered once only.
    pub once: bool,
    /// A missing key is an error.
    pub error_on_missing_key: bool,
    /// Shortest and longest wait for values to settle.
    pub wait: Option<(Duration, Duration)>,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// How mounts travel between the machine and the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the machine to the task.
    HostToTask,
    /// Both ways.
    Bidirectional,
}

/// A volume in the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the group's volume, perhaps with `${...}`.
    pub volume: String,
    /// Where it is mounted, perhaps with `${...}`.
    pub destination: String,
    /// The task may not write.
    pub read_only: bool,
    /// How mounts travel.
    pub propagation: Propagation,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// A named command to run in the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Name.
    pub name: String,
    /// Program.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
}

/// A token of the task's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `default` unless given.
    pub name: String,
    /// Whom the token is for.
    pub audience: Vec<String>,
    /// In the environment.
    pub env: bool,
    /// In a file.
    pub file: bool,
    /// Path of that file, if not the default.
    pub filepath: Option<String>,
}

/// A value that is fetched at start and can be referred to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Name.
    pub name: String,
    /// Who has it.
    pub provider: String,
    /// Where it is.
    pub path: String,
    /// Settings of the provider.
    pub config: BTreeMap<String, String>,
    /// Environment of the provider.
    pub env: BTreeMap<String, String>,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// The times of day at which a task may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Cron expression of the start.
    pub start: String,
    /// Cron expression of the end.
    pub end: String,
    /// Time zone of both.
    pub time_zone: String,
}
