//! The protocol between a face and a shim: what is asked, what is answered.
//!
//! Shims outlive upgrades, so a face of tomorrow speaks to a shim of today. The rules that make it work:
//! a field or variant is never renamed and never changes its meaning; a new field has `#[serde(default)]`; a field
//! that a reader does not know is passed over. Whatever would protect a task and must not be passed over comes
//! with a new [`frame::VERSION`]; the client sees in every answer which version the shim speaks. A launch is
//! only taken from a face of the shim's own version, since all of it protects. Golden frames of every version
//! lie in `golden/`.

pub mod frame;
pub mod wire;

use bivouac_cgroup::{Saved, Stats};
use bivouac_sandbox::model::{Process, Sandbox, TerminalSize};
use bivouac_sandbox::path::HostPath;
use bivouac_sys::features::{KernelFeatures, OverlayLayers};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroU64};

pub use crate::status::{Exit, Status};

/// What a face asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Start the task. Only as the first message on the socket that the shim was born with. The first descriptor that
    /// comes along is the [`EmptyMounts`](bivouac_sandbox::EmptyMounts) to start from; with [`TaskStreams::Files`] more
    /// follow. Answered by [`Response::Launched`].
    Launch(Box<Launch>),
    /// Answered by [`Response::State`].
    State,
    /// Answered by [`Response::Exited`] when the task has ended: the socket is readable then, and not before.
    Wait,
    /// Answered by [`Response::Oom`] when more processes of the task than `seen` have been killed for lack of
    /// memory, or by [`Response::Exited`] when the task has ended.
    WaitOom {
        /// The count that the face knows of.
        seen: u64,
    },
    /// Send a signal to the first process, or on a connection with an exec session to that process.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Send a signal, and after the grace period kill everything. Answered by [`Response::Exited`] when the
    /// task has ended, or refused as [`Refusal::Stuck`].
    Stop {
        /// Its number.
        signal: i32,
        /// Milliseconds; 0 kills at once.
        grace_ms: u64,
    },
    /// Run a further process in the sandbox. With [`StreamsKind::Files`] descriptors come along. Answered
    /// by [`Response::Started`], and by [`Response::Ended`] when it has ended. The connection is the session:
    /// when it closes, the process is killed.
    Exec(Box<Exec>),
    /// Set the size of the terminal: of the session on this connection, else of the task.
    Resize(TerminalSize),
    /// Hand out the task's terminal: [`Response::Done`] with one descriptor.
    Terminal,
    /// Answered by [`Response::Stats`].
    Stats,
    /// Remove what is left of the task, the run directory included, and end. Answered by [`Response::Done`].
    Destroy(Leftovers),
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The task runs. With a terminal, its master comes along as one descriptor.
    Launched(Started),
    /// How things stand.
    State(Box<Status>),
    /// The task has ended.
    Exited(Exit),
    /// Processes of the task have been killed for lack of memory.
    Oom {
        /// How many since it started.
        kills: u64,
    },
    /// It was done.
    Done,
    /// An exec session runs. With a terminal, its master comes along as one descriptor.
    Started(Started),
    /// The process of an exec session has ended.
    Ended(ExecEnd),
    /// Statistics.
    Stats(Box<TaskStats>),
    /// It was not done.
    Refused(Refusal),
}

/// What becomes a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Name of the task, for messages and the status file.
    pub task: String,
    /// A directory that the face made: root's, mode 0700. The socket and the status file are made in it.
    pub run_dir: HostPath,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The task's control group, which exists.
    pub cgroup: Saved,
    /// What the kernel can do, as the face probed it.
    pub features: Features,
    /// What the task's descriptors 0-2 are.
    pub streams: TaskStreams,
    /// What to do when the starter's socket closes while the task runs.
    pub on_starter_gone: OnStarterGone,
    /// Whom a stop reaches first.
    pub kill_mode: KillMode,
    /// Milliseconds that the set-up of the sandbox may take.
    pub deadline_ms: u64,
}

/// What becomes an exec session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The process.
    pub process: Process,
    /// What its descriptors 0-2 are.
    pub streams: StreamsKind,
    /// Milliseconds, from the moment its command runs, after which it is killed.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
}

/// What descriptors 0-2 of a task are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskStreams {
    /// Descriptors that come with the message after the first, in this order, those that need one.
    Files {
        /// Standard input.
        stdin: Stream,
        /// Standard output.
        stdout: Output,
        /// Standard error.
        stderr: Output,
    },
    /// A terminal of the task's own.
    Terminal(TerminalSize),
}

/// What standard output or error of a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The next descriptor of the message.
    Given,
    /// A null device of the task's own.
    Null,
    /// A pipe that the shim empties into numbered files. The next descriptor of the message is their directory.
    /// They exist when [`Response::Launched`] comes, and hold everything when the end is told.
    Log(LogFiles),
}

/// Numbered log files `<name>.<n>` in a directory: `n` grows for ever, the oldest go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFiles {
    /// What stands before the number: one file name.
    pub name: LogName,
    /// How many are kept.
    pub most_files: NonZeroU32,
    /// How long each becomes.
    pub most_bytes: NonZeroU64,
    /// Whether it is kept when what is written came.
    #[serde(default, skip_serializing_if = "LogTimes::is_none")]
    pub times: LogTimes,
}

/// Whether the times of what is written are kept beside a log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogTimes {
    /// They are not.
    #[default]
    None,
    /// They are: see [`crate::log_times`].
    Kept,
}

impl LogTimes {
    fn is_none(&self) -> bool {
        *self == LogTimes::None
    }
}

/// The first part of a log file's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogName(String);

/// A text that is no name of a log file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot begin the name of a log file: it must be 1 to 230 bytes without `/` and NUL")]
pub struct LogNameError(String);

impl LogName {
    /// With a dot and the longest number it is still no longer than the 255 bytes of a file name.
    const LONGEST: usize = 230;

    /// Checks a name.
    ///
    /// # Errors
    /// [`LogNameError`].
    pub fn new(name: String) -> Result<LogName, LogNameError> {
        if name.is_empty() || name.len() > LogName::LONGEST || name.contains(['/', '\0']) {
            return Err(LogNameError(name));
        }
        Ok(LogName(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogName {
    type Error = LogNameError;

    fn try_from(name: String) -> Result<LogName, LogNameError> {
        LogName::new(name)
    }
}

impl From<LogName> for String {
    fn from(name: LogName) -> String {
        name.0
    }
}

/// What descriptors 0-2 of an exec session are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamsKind {
    /// Descriptors that come with the message, in this order, those that are [`Stream::Given`].
    Files {
        /// Standard input.
        stdin: Stream,
        /// Standard output.
        stdout: Stream,
        /// Standard error.
        stderr: Stream,
    },
    /// A terminal of the task's own.
    Terminal(TerminalSize),
}

/// What one of descriptors 0-2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// The next descriptor of the message.
    Given,
    /// A null device of the task's own.
    Null,
}

impl StreamsKind {
    /// How many descriptors come with the message.
    pub fn descriptors(self) -> usize {
        match self {
            StreamsKind::Files { stdin, stdout, stderr } => {
                [stdin, stdout, stderr].into_iter().filter(|stream| *stream == Stream::Given).count()
            }
            StreamsKind::Terminal(_) => 0,
        }
    }
}

impl TaskStreams {
    /// How many descriptors come with the message.
    pub fn descriptors(&self) -> usize {
        match self {
            TaskStreams::Files { stdin, stdout, stderr } => {
                let outputs = [stdout, stderr].into_iter().filter(|output| **output != Output::Null).count();
                usize::from(*stdin == Stream::Given) + outputs
            }
            TaskStreams::Terminal(_) => 0,
        }
    }
}

/// What the death of the starter means to a running task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStarterGone {
    /// Nothing: it runs on, another face will come.
    Keep,
    /// Its end: the starter was a foreground run.
    Stop,
}

/// Whom the signal of a stop reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillMode {
    /// The first process.
    Process,
    /// Every process of the task.
    Group,
}

/// What to do about a task that still runs when it is to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftovers {
    /// Refuse.
    Refuse,
    /// Kill it first.
    Kill,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its number on the host.
    pub pid: i32,
    /// The path in the task at which the command was found.
    pub command: String,
}

/// How the process of an exec session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// How.
    pub ending: crate::status::Ending,
    /// Why, when it was not of its own accord.
    #[serde(default)]
    pub cause: ExecCause,
}

/// Why an exec session ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecCause {
    /// Of its own accord, or by a signal that we did not send.
    #[default]
    Own,
    /// Its deadline passed.
    Deadline,
}

/// Statistics of a running task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStats {
    /// The group's.
    pub group: Stats,
    /// Processes killed for lack of memory so far.
    pub oom_kills: u64,
}

/// [`KernelFeatures`] as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    overlay: Overlay,
    landlock_abi: u32,
    last_capability: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Overlay {
    Descriptors,
    ProcPaths,
    Unavailable,
}

impl From<KernelFeatures> for Features {
    fn from(features: KernelFeatures) -> Features {
        let KernelFeatures { overlay, landlock_abi, last_capability } = features;
        let overlay = match overlay {
            OverlayLayers::Descriptors => Overlay::Descriptors,
            OverlayLayers::ProcPaths => Overlay::ProcPaths,
            OverlayLayers::Unavailable => Overlay::Unavailable,
        };
        Features { overlay, landlock_abi, last_capability }
    }
}

impl From<Features> for KernelFeatures {
    fn from(features: Features) -> KernelFeatures {
        let Features { overlay, landlock_abi, last_capability } = features;
        let overlay = match overlay {
            Overlay::Descriptors => OverlayLayers::Descriptors,
            Overlay::ProcPaths => OverlayLayers::ProcPaths,
            Overlay::Unavailable => OverlayLayers::Unavailable,
        };
        KernelFeatures { overlay, landlock_abi, last_capability }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The sandbox, or a process in it, could not be started. The text is the engine's own sentence.
    #[error("{text}")]
    NotStarted {
        /// One sentence.
        text: String,
        /// What a shell would exit with: 127 not found, 126 not runnable, 125 everything else.
        exit_code: u8,
    },
    /// The task has ended, or is being killed.
    #[error("the task is not running")]
    NotRunning,
    /// It must be stopped first.
    #[error("the task is still running; stop it first, or destroy it by force")]
    StillRunning,
    /// Killed, and still there.
    #[error(
        "the task did not end within {seconds} seconds after it was killed; it is stuck in the kernel (often a dead network file system or device)"
    )]
    Stuck {
        /// How long was waited.
        seconds: u64,
    },
    /// Too many at once.
    #[error("{what}: at most {most} at once")]
    TooMany {
        /// What there are too many of.
        what: String,
        /// The cap.
        most: u64,
    },
    /// Resizing what has no size.
    #[error("attempted to resize a non-tty session")]
    NoTerminal,
    /// The group is frozen: a process started in it would never run.
    #[error("the task is paused; resume it first")]
    Paused,
    /// The kernel, or the cgroup room, said no.
    #[error("cannot {what}: {answer}")]
    Failed {
        /// What was wanted.
        what: String,
        /// What was answered.
        answer: String,
    },
    /// Not a message that this shim knows, or not at this moment.
    #[error("the shim of this task speaks version {version} of the protocol and refuses: {text}")]
    NotUnderstood {
        /// The version that the shim speaks.
        version: u16,
        /// What was wrong.
        text: String,
    },
}

#[cfg(test)]
pub(crate) mod tests;
