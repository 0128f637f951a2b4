//! What a caller asks for: the typed description of one sandbox. Nothing here touches the kernel.

use crate::capability::CapSet;
use crate::path::{HostPath, TaskPath};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// One isolated process: where it lives, what it may reach, what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// What it sees as `/`.
    pub root: Root,
    /// What is mounted in it, in this order, after the entries of the root.
    pub mounts: Vec<Mount>,
    /// Nodes in `/dev` beside the default set.
    pub devices: Vec<Device>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// What it shares with the host.
    pub namespaces: Namespaces,
    /// Its own name; the host's when absent.
    pub hostname: Option<Hostname>,
    /// The first process.
    pub process: Process,
}

/// What becomes `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The task's own directory: bound as `/`, nosuid and nodev, with what is mounted below it.
    pub task_dir: HostPath,
    /// A directory that only root may enter, where the task's upper layers live over its restarts.
    pub private_dir: HostPath,
    /// The chroot environment.
    pub entries: Vec<Entry>,
    /// Whether the task may write at the top.
    pub access: Access,
}

/// Whether something may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// It may be written.
    ReadWrite,
    /// It may not, by nobody in the task.
    ReadOnly,
}

/// One line of the chroot environment: a path of the host shown in the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is shown. Missing: the entry is skipped. A link: the link itself is made in the task.
    pub source: HostPath,
    /// Where.
    pub target: TaskPath,
    /// How, when the source is a directory. A file is bound read-only.
    pub show: Show,
}

/// How a directory of the host is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Show {
    /// Under a private upper layer of the task. `above`: directories that lie between the upper layer and the
    /// source, topmost first (generated files, the sanitised layer).
    Overlay {
        /// The layers between.
        above: Vec<HostPath>,
    },
    /// A read-only bind.
    ReadOnly,
}

/// One mount asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the task. Missing parts are made: in the task's directory or the private layer.
    pub target: TaskPath,
    /// What.
    pub what: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory, file, socket or FIFO of the host, with what is mounted below it.
    Bind {
        /// The path on the host; must exist.
        source: HostPath,
        /// How it is reached.
        #[serde(default)]
        route: Route,
        /// Whether the task may write through it.
        access: Access,
        /// Whether set-user-id bits and device nodes mean anything through it.
        trust: Trust,
        /// How later mounts travel.
        propagation: Propagation,
    },
    /// An empty file system in memory, charged to the task. Always nosuid and nodev.
    Tmpfs {
        /// Bytes; half of the machine's memory (the kernel's default) when absent.
        size: Option<u64>,
        /// Mode of its top directory, such as 0o1777.
        mode: u32,
        /// Whether programs in it may be run.
        programs: Programs,
    },
    /// [`Memory::for_secrets`](crate::memory::Memory::for_secrets), which goes with the sandbox.
    Secrets {
        /// Bytes.
        size: u64,
    },
}

/// How the source of a bind is reached; it is opened once, and then only the descriptor counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Links are followed, wherever they lead: the path comes from the operator or the face.
    #[default]
    Anywhere,
    /// Beneath this directory (or file) of the operator's, without links: what was swapped since it was allowed is
    /// refused.
    Beneath(HostPath),
}

/// Whether the file system's own privileges count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// `nosuid,nodev`.
    Stripped,
    /// Set-user-id programs and device nodes work: the operator said so.
    Full,
}

/// Whether programs may be run from a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Programs {
    /// They may.
    Run,
    /// `noexec`.
    Refused,
}

/// How mounts made later below a bind travel. See mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Mounts of the host appear in the task.
    HostToTask,
    /// Both ways: a power over the host, which the operator must have granted.
    Bidirectional,
}

/// A device node made in the task's `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where; below `/dev`.
    pub target: TaskPath,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
}

/// What is shared with the host. Mount and UTS namespaces are always the task's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process numbers.
    pub pid: Sharing,
    /// System V and POSIX queues, shared memory.
    pub ipc: Sharing,
    /// The view of `/proc/self/cgroup`.
    pub cgroup: Sharing,
    /// Network.
    pub network: Network,
}

/// One namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// The task's own.
    Private,
    /// The host's.
    Host,
}

/// The network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// A new one with nothing but a loopback interface, which is up.
    Own,
    /// An existing one, by a path that must lead to a network namespace.
    Join(HostPath),
}

/// A host name: 1 to 64 bytes, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    /// Checks a name: 1 to 64 letters, digits, `-` and `.`, not beginning or ending with `-` or `.`.
    ///
    /// # Errors
    /// A sentence that names the name and the rule.
    pub fn new(name: impl Into<String>) -> Result<Hostname, String> {
        let name = name.into();
        let edge = |c: Option<char>| c.is_none_or(|c| c == '-' || c == '.');
        if name.len() > 64 {
            return Err(format!("hostname {name:?} has {} characters; the kernel takes 64", name.len()));
        }
        let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
        if !allowed || edge(name.chars().next()) || edge(name.chars().next_back()) {
            return Err(format!(
                "hostname {name:?} is not a valid DNS name: letters, digits, `-` and `.`, with a letter or digit at both ends"
            ));
        }
        Ok(Hostname(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Hostname {
    type Error = String;
    fn try_from(name: String) -> Result<Hostname, String> {
        Hostname::new(name)
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> String {
        name.0
    }
}

/// A process to run in a sandbox: the first one, or one that enters later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The command as the user wrote it, for messages.
    pub asked: String,
    /// Where to look for it, in this order; the first regular file wins.
    pub candidates: Vec<Candidate>,
    /// `argv[1]` and on; `argv[0]` is the path that was found.
    pub arguments: Vec<ByteBuf>,
    /// `NAME=value` each.
    pub environment: Vec<ByteBuf>,
    /// Where it starts; made (root, 0755) when missing.
    pub work_dir: TaskPath,
    /// Whose it is.
    pub identity: Identity,
    /// What it may do.
    pub capabilities: CapabilitySets,
    /// What it may call.
    pub confinement: Confinement,
    /// Resource limits; those not named are inherited.
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000; a task's score never comes from who starts it.
    pub oom_score_adj: i16,
    /// File mode creation mask.
    pub umask: u32,
    /// What is in front of the command.
    pub init: Init,
}

/// One place where the command may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The path, resolved in the task's root.
    pub path: TaskPath,
    /// Whether a missing execute bit may be added there.
    pub execute_bit: ExecuteBit,
}

/// What to do about a command without an execute bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecuteBit {
    /// The file is the task's own (its directory or private layer): add 0555, through a descriptor opened
    /// without following links.
    Add,
    /// The file is somebody else's: leave it.
    Leave,
}

/// User and groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// All five sets, computed by the caller. See capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// The most that can ever be had.
    pub bounding: CapSet,
    /// What can be made effective.
    pub permitted: CapSet,
    /// What is in force at the first instruction.
    pub effective: CapSet,
    /// Inheritable.
    pub inheritable: CapSet,
    /// Ambient; within permitted and inheritable.
    pub ambient: CapSet,
}

/// The filter, and whether privileges can be gained by `execve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// `no_new_privs`: decides also at which moment the filter is loaded.
    pub gain: PrivilegeGain,
    /// The compiled filter; none for the profile `unconfined`.
    pub filter: Option<crate::seccomp::Filter>,
    /// Landlock rules: sets that lie on each other, so that what is allowed is what each of them allows. None: all
    /// paths are open, as far as modes and mounts let them be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub landlock: Vec<Vec<PathRule>>,
}

/// What may be done at a path and below it. See landlock(7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// In the task's root; opened without following links.
    pub path: TaskPath,
    /// What.
    pub access: PathAccess,
    /// What it means when nothing is there, or a link.
    pub missing: Missing,
}

/// What a path rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathAccess {
    /// Read files, list directories.
    pub read: bool,
    /// Write and cut files, control devices.
    pub write: bool,
    /// Run files.
    pub run: bool,
    /// Make, move and remove files and directories.
    pub make: bool,
}

/// What it means that a path is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// Nothing is allowed by the rule.
    PassOver,
    /// The start is refused.
    Refuse,
}

/// Whether set-user-id bits and file capabilities mean anything to the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrivilegeGain {
    /// As the mounts allow (all of ours are nosuid).
    Possible,
    /// `no_new_privs`.
    Never,
}

/// One resource limit. See getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// Soft value; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard value; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Who is the first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// The command itself.
    Command,
    /// A tiny reaper, which passes signals on and ends with the command's status.
    Reaper,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}
