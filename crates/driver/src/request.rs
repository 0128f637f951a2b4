//! What a face asks for: one run of a task, in plain types. Nothing here touches the host.

use crate::config::{DeviceAsked, Dns, TaskConfig};
use crate::identity::{PseudoUsers, RootRule};
use crate::resources::Resources;
use crate::signals::Signal;
use bivouac_cgroup::Placement;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::{Hostname, Mount, Network, TerminalSize};
pub use bivouac_shim::protocol::{LogFiles, LogName, LogNameError, LogTimes};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// All that a face says about one run of a task.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// Names the run; never used twice. Any text up to 512 bytes.
    pub id: String,
    /// For messages: `<allocation>/<task>` or what the face likes.
    pub name: String,
    /// Directories.
    pub directories: Directories,
    /// The task's options.
    pub config: TaskConfig,
    /// The environment, but for what depends on the user.
    pub env: Vec<(String, String)>,
    /// The user that the job names; empty for the default.
    pub user: String,
    /// Whether user 0 has been decided about by who asks. [`RootRule::Refused`] leaves it to the operator's
    /// `allow_root`.
    pub root: RootRule,
    /// Whether names such as `nomad-80000` are users.
    pub pseudo_users: PseudoUsers,
    /// Limits.
    pub resources: Resources,
    /// Where in the cgroup tree.
    pub placement: Placement,
    /// Network namespace.
    pub network: Network,
    /// The allocation's host name, unless the task has its own.
    pub hostname: Option<Hostname>,
    /// The allocation's address, for its line in /etc/hosts.
    pub address: Option<IpAddr>,
    /// The group's name resolution, unless the task has its own.
    pub dns: Option<Dns>,
    /// Volumes, and what device plugins want mounted: allowed by whoever asks.
    pub mounts: Vec<Mount>,
    /// Devices of device plugins: allowed by whoever asks.
    pub devices: Vec<DeviceAsked>,
    /// How it is asked to end when nobody says otherwise.
    pub stop: StopRule,
}

/// How a task is asked to end. It is recorded, so that any process can stop the task as its job wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRule {
    /// The signal that asks.
    pub signal: Signal,
    /// How long the task has after it.
    pub grace: Duration,
}

impl Default for StopRule {
    /// As Nomad has it.
    fn default() -> StopRule {
        StopRule { signal: Signal::INT, grace: Duration::from_secs(5) }
    }
}

/// A task's directories on the host. All exist but `private`, which is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// What becomes `/`. `local` and `tmp` are made in it where they are missing.
    pub task: HostPath,
    /// What becomes `/alloc`; `logs` is made in it where it is missing.
    pub shared: HostPath,
    /// What becomes `/secrets`.
    pub secrets: Secrets,
    /// Root's alone, kept over restarts of the task; must lie outside of `task` and `shared`.
    pub private: HostPath,
    /// Directories that hold this and other allocations: no task sees them through the chroot environment.
    pub own: Vec<HostPath>,
}

/// What becomes `/secrets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// It is in the task's directory already, as Nomad mounts it.
    InTaskDirectory,
    /// This directory, mounted over it.
    Directory(HostPath),
    /// So many bytes of memory, made for this run and gone with it.
    Memory(u64),
}

/// What becomes descriptors 0 to 2 of a task.
#[derive(Debug)]
pub enum TaskStreams {
    /// Each for itself.
    Files {
        /// Standard input: a pipe, or nothing.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Output,
        /// Standard error.
        stderr: Output,
    },
    /// A terminal of the task's own, of this size.
    Terminal(TerminalSize),
}

/// Where one stream of a task goes.
#[derive(Debug)]
pub enum Output {
    /// Nowhere: a null device of the task's own.
    Null,
    /// Into a pipe, a FIFO or a log file opened for appending.
    Descriptor(OwnedFd),
    /// Into numbered files in a directory, written by the shim; they outlive the face.
    Log {
        /// The directory.
        directory: OwnedFd,
        /// Their name and limits.
        files: LogFiles,
    },
}

impl From<Option<OwnedFd>> for Output {
    fn from(descriptor: Option<OwnedFd>) -> Output {
        descriptor.map_or(Output::Null, Output::Descriptor)
    }
}

impl From<Streams> for TaskStreams {
    fn from(streams: Streams) -> TaskStreams {
        match streams {
            Streams::Terminal(size) => TaskStreams::Terminal(size),
            Streams::Files { stdin, stdout, stderr } => {
                TaskStreams::Files { stdin, stdout: stdout.into(), stderr: stderr.into() }
            }
        }
    }
}

/// What becomes descriptors 0 to 2 of a command in a running task.
#[derive(Debug)]
pub enum Streams {
    /// Pipes, FIFOs or log files opened for appending; a null device of the task's own where there is none.
    Files {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A terminal of the task's own, of this size.
    Terminal(TerminalSize),
}

/// What the end of the starting process means to the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StarterGone {
    /// Nothing.
    Keep,
    /// Its end.
    Stop,
}

/// A command to run in a running task.
#[derive(Debug)]
pub struct ExecRequest {
    /// Name and arguments; not empty.
    pub command: Vec<String>,
    /// What becomes its descriptors 0 to 2.
    pub streams: Streams,
    /// Killed after this time.
    pub deadline: Option<Duration>,
}
