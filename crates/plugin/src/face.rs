//! What the Nomad face needs of an engine: one narrow trait in plain types of our own.
//!
//! Nothing of gRPC, protobuf or MessagePack is known on the other side of [`Engine`], and nothing of
//! shims or sandboxes on this one. Every method may block for milliseconds (it runs on a small pool of
//! threads), none may block for as long as a task lives: long waits go through [`Engine::watch`].

mod session;
mod task;

pub use session::{ExecControl, ExecRequest, ExecSession, ExecStreams, TermSize};
pub use task::{
    Device, Dns, DynamicUsers, Exit, Hosts, Inspection, LogLimits, LogSeries, MemoryMax, Mount, Network,
    Output, ProcessUsage, Propagation, Resources, Started, TaskRecover, TaskStart, Usage,
};

use crate::options::{Opt, Values};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::signals::Signal;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The meaning of a task, as the face sees it.
///
/// Ids are the client's (`<allocation>/<task>/<8 hex>`); they contain slashes and name one run.
pub trait Engine: Send + Sync + 'static {
    /// The options that an operator may set in the plugin's `config` block.
    fn operator_options(&self) -> Vec<Opt>;

    /// The options that a job may set in a task's `config` block.
    fn task_options(&self) -> Vec<Opt>;

    /// Takes the operator's options. May be called again, also with other values.
    ///
    /// # Errors
    /// A value that is refused, with its name, what was given and what is allowed.
    fn configure(&self, values: &Values, purpose: &Purpose) -> Result<(), EngineError>;

    /// What this host can do now. Called at once and then every half minute.
    fn fingerprint(&self) -> Fingerprint;

    /// Starts a task and returns when its command runs. What an earlier try with the same id, or
    /// another program in the task's cgroup, left behind is ended first.
    ///
    /// # Errors
    /// The task did not start, and nothing is left of it.
    fn start(&self, task: &TaskStart) -> Result<Started, StartError>;

    /// Finds a task again that an earlier process started. Never starts anything.
    ///
    /// # Errors
    /// The task is gone without a trace, or the saved state is not about this machine's boot.
    fn recover(&self, task: &TaskRecover) -> Result<(), EngineError>;

    /// A descriptor that becomes readable, and stays so, when the task may be over.
    ///
    /// # Errors
    /// The task is unknown.
    fn watch(&self, id: &str) -> Result<OwnedFd, EngineError>;

    /// How the task ended, or `None` while it runs. The answer stays until [`Engine::destroy`].
    ///
    /// # Errors
    /// The task is unknown, or its end cannot be learnt any more.
    fn exited(&self, id: &str) -> Result<Option<Exit>, EngineError>;

    /// Begins to stop a task: `signal` now, a kill of everything after `timeout`. Returns at once and
    /// goes on by itself, also if this process dies; a second call may shorten the time.
    ///
    /// # Errors
    /// The task is unknown, or the signal could not be sent.
    fn stop(&self, id: &str, signal: Signal, timeout: Duration) -> Result<(), EngineError>;

    /// Ends what is left of a task, frees all it held and forgets it.
    ///
    /// # Errors
    /// The task runs and `leftovers` refuses that, or something could not be freed.
    fn destroy(&self, id: &str, leftovers: Leftovers) -> Result<(), EngineError>;

    /// The times and attributes of a task.
    ///
    /// # Errors
    /// The task is unknown.
    fn inspect(&self, id: &str) -> Result<Inspection, EngineError>;

    /// What the task has used so far, or `None` when it does not run.
    ///
    /// # Errors
    /// The task is unknown, or its counters cannot be read.
    fn stats(&self, id: &str) -> Result<Option<Usage>, EngineError>;

    /// Sends one signal to the task's first process.
    ///
    /// # Errors
    /// The task is unknown or over.
    fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError>;

    /// Runs a second command inside a running task.
    ///
    /// # Errors
    /// The task is unknown or over, or (at once) [`EngineError::NotStarted`].
    fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError>;

    /// Ends a task that another driver started under this driver's name, and all processes left in
    /// its cgroups. Nothing but that may be signalled.
    ///
    /// # Errors
    /// Something of it could not be ended.
    fn end_foreign(&self, foreign: &Foreign) -> Result<(), EngineError>;

    /// Where to report what a user should read about a task. Called once, before anything else.
    fn report_events_to(&self, sink: EventSink);
}

/// Takes events from any thread, without blocking.
pub type EventSink = Box<dyn Fn(TaskEvent) + Send + Sync>;

/// Why an engine is configured.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// Only to learn whether the values are accepted: no effect outside of this process.
    Check,
    /// To serve tasks.
    Serve(HostFacts),
}

/// What the client tells about the host. Older clients tell nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// Number of processor cores, reserved ones included; 0 if the client did not say.
    pub cores: u32,
    /// Processor capacity of the host, in MHz; 0 if the client did not say.
    pub total_mhz: u64,
    /// What of it tasks may use, in MHz; 0 if the client did not say.
    pub usable_mhz: u64,
}

/// An engine's view of its host.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    /// Whether jobs may be placed here.
    pub health: Health,
    /// One sentence for `nomad node status`.
    pub description: String,
    /// Facts for constraints; names without the driver's prefix.
    pub attributes: BTreeMap<String, Fact>,
}

/// Whether jobs may be placed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// This kind of host can never run tasks.
    Undetected,
    /// It could, but something is wrong at the moment.
    Unhealthy,
    /// It can.
    Healthy,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Count(i64),
    /// Text; an empty one takes the attribute away.
    Text(String),
}

/// Something that a user should read in `nomad alloc status`.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The run it is about.
    pub task_id: String,
    /// The allocation it belongs to.
    pub alloc_id: String,
    /// The task's name in the job.
    pub task_name: String,
    /// One sentence.
    pub message: String,
    /// Further facts, by name.
    pub annotations: BTreeMap<String, String>,
}

/// A task of another driver that answered to our name before us: the built-in one.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// The run's id.
    pub task_id: String,
    /// The allocation it belongs to.
    pub alloc_id: String,
    /// The task's name in the job.
    pub task_name: String,
    /// The helper process that holds it, as far as the saved state says. May be another's by now.
    pub executor: Option<i32>,
    /// The task's first process, as far as the saved state says. May be another's by now.
    pub pid: Option<i32>,
    /// The allocation's directory on the host.
    pub alloc_dir: PathBuf,
    /// What the client told about the task's limits, for its cgroups.
    pub resources: Resources,
}

/// Why an engine could not do as told. The text is what users read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No task of this id is known.
    #[error("task not found for given id")]
    UnknownTask,
    /// A command could not be started.
    #[error("{text}")]
    NotStarted {
        /// A sentence with its name.
        text: String,
        /// What a shell would exit with: 127 not found, 126 not runnable, 125 everything else.
        exit_code: u8,
    },
    /// Anything else, as a sentence that names its object.
    #[error("{0}")]
    Failed(String),
}

/// Why a task did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// What users read in `nomad alloc status`.
    pub text: String,
    /// Whether the same start may succeed on this host later, so that the restart policy applies.
    pub recoverable: bool,
}
