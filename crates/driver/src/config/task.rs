//! A task's `config` block, typed.

use super::ulimit::Ulimit;
use super::{Ambient, RootMode, ambient, because, root_mode, sharing};
use crate::options::{Place, Refused, Settings, TASK, Value, check, quoted};
use bivouac_sandbox::model::{Access, Hostname, Missing, PathRule, Programs, Propagation, Sharing};
use bivouac_sandbox::{HostPath, TaskPath};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a task asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskConfig {
    /// The program, as written; never empty.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts; `/` unless said.
    pub work_dir: Option<TaskPath>,
    /// Process numbers; the operator's default unless said.
    pub pid_mode: Option<Sharing>,
    /// Queues and shared memory; the operator's default unless said.
    pub ipc_mode: Option<Sharing>,
    /// Names of capabilities to add, as written.
    pub cap_add: Vec<String>,
    /// Names of capabilities to drop, as written.
    pub cap_drop: Vec<String>,
    /// Resource limits.
    pub ulimit: Vec<Ulimit>,
    /// Most processes and threads; the operator's default unless said.
    pub pids_limit: Option<u64>,
    /// The profile of system calls.
    pub seccomp: Seccomp,
    /// `no_new_privs`; the operator's default unless said.
    pub no_new_privs: Option<bool>,
    /// Which capabilities are in force; the operator's unless said.
    pub ambient: Option<Ambient>,
    /// Whether the root may be written.
    pub root_access: Access,
    /// How directories of the chroot environment are shown; the operator's default unless said.
    pub root: Option<RootMode>,
    /// Further mounts, in order.
    pub mounts: Vec<MountAsked>,
    /// Devices.
    pub devices: Vec<DeviceAsked>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Its own host name.
    pub hostname: Option<Hostname>,
    /// Lines of `/etc/hosts`.
    pub extra_hosts: Vec<HostLine>,
    /// Name resolution.
    pub dns: Option<Dns>,
    /// Whether a reaper is in front of the command.
    pub init: bool,
    /// What lack of memory kills.
    pub kill_mode: KillMode,
    /// The view of `/proc/self/cgroup`.
    pub cgroup_mode: Sharing,
    /// 0 to 1000.
    pub oom_score_adj: i16,
    /// Whether processor time is a limit and not only a share.
    pub cpu_hard_limit: bool,
    /// 32-bit programs.
    pub compat32: Compat32,
    /// Landlock rules; none: all paths are open.
    pub landlock: Vec<PathRule>,
    /// What a crash leaves.
    pub core: CoreDumps,
}

/// Which system calls a task may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Those of the default profile.
    Default,
    /// All.
    Unconfined,
}

/// What lack of memory kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillMode {
    /// One process, which the kernel picks.
    Process,
    /// All of the task.
    Group,
}

/// What 32-bit programs may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat32 {
    /// The same as others, without `socketcall`.
    Filtered,
    /// With `socketcall`.
    Full,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreDumps {
    /// What the host's settings say.
    Host,
    /// Nothing.
    Off,
}

/// A mount that a task asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountAsked {
    /// Something of the host.
    Bind {
        /// What; the operator must allow it.
        source: HostPath,
        /// Where.
        target: TaskPath,
        /// Whether it may be written.
        access: Access,
        /// How later mounts travel; from the task to the host only if the operator allows it.
        propagation: Propagation,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where.
        target: TaskPath,
        /// Bytes.
        size: Option<u64>,
        /// Mode of its top directory.
        mode: u32,
        /// Whether programs in it may be run.
        programs: Programs,
    },
}

/// A device that a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAsked {
    /// The node on the host.
    pub host: HostPath,
    /// Where in the task, below `/dev`.
    pub target: TaskPath,
    /// What is allowed.
    pub access: DeviceUse,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Make nodes of it.
    pub make: bool,
}

impl DeviceUse {
    /// Everything.
    pub const ALL: DeviceUse = DeviceUse { read: true, write: true, make: true };

    /// Reads `rwm` or a part of it, in any order; empty means all, as with Docker.
    ///
    /// # Errors
    /// What is allowed, to follow the option's name.
    pub fn parse(text: &str) -> Result<DeviceUse, String> {
        if text.is_empty() {
            return Ok(DeviceUse::ALL);
        }
        let mut access = DeviceUse { read: false, write: false, make: false };
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.make = true,
                _ => return Err(format!("must be made of the letters r, w and m, got {}", quoted(text))),
            }
        }
        Ok(access)
    }
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLine {
    /// The name.
    pub name: Hostname,
    /// Its address.
    pub address: IpAddr,
}

impl HostLine {
    /// Reads `name:address`; the address may be of IPv6, also in brackets.
    ///
    /// # Errors
    /// What is wrong, to follow the option's name.
    pub fn parse(text: &str) -> Result<HostLine, String> {
        let wrong = || format!("must be \"name:address\", got {}", quoted(text));
        let (name, address) = text.split_once(':').ok_or_else(wrong)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = bare.parse().map_err(|_| wrong())?;
        Ok(HostLine { name: Hostname::new(name).map_err(|_| wrong())?, address })
    }
}

/// Name resolution as somebody wants it; an empty list means as the system has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers; checked when the file is made.
    pub servers: Vec<String>,
    /// Domains to search.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl TaskConfig {
    /// Decodes a task's `config` block.
    ///
    /// # Errors
    /// The first option that is unknown, missing or wrong.
    pub fn decode(given: &Value) -> Result<TaskConfig, Refused> {
        let settings = check(TASK, given, &Place::top())?;
        let command =
            settings.text("command").ok_or_else(|| because(&settings, "command", "must not be empty"))?;
        let count = |name| settings.count(name);
        Ok(TaskConfig {
            command: command.to_owned(),
            args: settings.texts("args").to_vec(),
            work_dir: work_dir(&settings)?,
            pid_mode: sharing(&settings, "pid_mode"),
            ipc_mode: sharing(&settings, "ipc_mode"),
            cap_add: settings.texts("cap_add").to_vec(),
            cap_drop: settings.texts("cap_drop").to_vec(),
            ulimit: super::operator::ulimits(&settings, "ulimit")?,
            pids_limit: count("pids_limit").and_then(|number| u64::try_from(number).ok()),
            seccomp: word(&settings, "seccomp", "unconfined", Seccomp::Unconfined, Seccomp::Default),
            no_new_privs: settings.get("no_new_privs").map(|_| settings.flag("no_new_privs")),
            ambient: ambient(&settings),
            root_access: access(settings.flag("readonly_root")),
            root: root_mode(&settings, "root"),
            mounts: settings.blocks("mount").iter().map(mount).collect::<Result<_, _>>()?,
            devices: settings.blocks("devices").iter().map(device).collect::<Result<_, _>>()?,
            shm_size: settings.size("shm_size").unwrap_or(64 << 20),
            hostname: settings
                .text("hostname")
                .map(|name| {
                    Hostname::new(name).map_err(|text| Refused::says(&settings.place("hostname"), text))
                })
                .transpose()?,
            extra_hosts: extra_hosts(&settings)?,
            dns: settings.blocks("dns").first().map(dns),
            init: settings.flag("init"),
            kill_mode: word(&settings, "kill_mode", "group", KillMode::Group, KillMode::Process),
            cgroup_mode: sharing(&settings, "cgroup_mode").unwrap_or(Sharing::Host),
            oom_score_adj: count("oom_score_adj").and_then(|number| i16::try_from(number).ok()).unwrap_or(0),
            cpu_hard_limit: settings.flag("cpu_hard_limit"),
            compat32: word(&settings, "compat32", "full", Compat32::Full, Compat32::Filtered),
            landlock: super::landlock::rules(&settings, Missing::Refuse)?,
            core: word(&settings, "core", "off", CoreDumps::Off, CoreDumps::Host),
        })
    }
}

fn word<T>(settings: &Settings, name: &str, word: &str, then: T, or: T) -> T {
    if settings.text(name) == Some(word) { then } else { or }
}

fn access(readonly: bool) -> Access {
    if readonly { Access::ReadOnly } else { Access::ReadWrite }
}

fn work_dir(settings: &Settings) -> Result<Option<TaskPath>, Refused> {
    let Some(text) = settings.text("work_dir") else { return Ok(None) };
    if !text.starts_with('/') {
        let text = format!("work_dir must be absolute but got relative path {}", quoted(text));
        return Err(Refused::says(&settings.place("work_dir"), text));
    }
    TaskPath::new(text)
        .map(Some)
        .map_err(|error| because(settings, "work_dir", format!("is refused: {error}")))
}

fn mount(settings: &Settings) -> Result<MountAsked, Refused> {
    let target = settings.text("target").unwrap_or_default();
    let target =
        TaskPath::new(target).map_err(|error| because(settings, "target", format!("is refused: {error}")))?;
    let source = settings.text("source");
    if settings.text("type") == Some("tmpfs") {
        if source.is_some() {
            return Err(because(settings, "source", "has no meaning for a tmpfs"));
        }
        let mode = settings.text("mode").unwrap_or("1777");
        let parsed = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o1777);
        let wrong =
            || because(settings, "mode", format!("must be an octal mode up to 1777, got {}", quoted(mode)));
        return Ok(MountAsked::Tmpfs {
            target,
            size: settings.size("size"),
            mode: parsed.ok_or_else(wrong)?,
            programs: if settings.flag("exec") { Programs::Run } else { Programs::Refused },
        });
    }
    if settings.get("size").is_some() {
        return Err(because(settings, "size", "has no meaning for a bind"));
    }
    let source = source.ok_or_else(|| because(settings, "source", "is required for a bind and missing"))?;
    Ok(MountAsked::Bind {
        source: HostPath::new(source)
            .map_err(|error| because(settings, "source", format!("is refused: {error}")))?,
        target,
        access: access(settings.flag("readonly")),
        propagation: match settings.text("propagation") {
            Some("host-to-task") => Propagation::HostToTask,
            Some("bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

fn device(settings: &Settings) -> Result<DeviceAsked, Refused> {
    let text = settings.text("host_path").unwrap_or_default();
    let host = HostPath::new(text)
        .map_err(|error| because(settings, "host_path", format!("is refused: {error}")))?;
    let text = settings.text("container_path").unwrap_or(text);
    let target = TaskPath::new(text)
        .map_err(|error| because(settings, "container_path", format!("is refused: {error}")))?;
    let access = DeviceUse::parse(settings.text("cgroup_permissions").unwrap_or_default())
        .map_err(|error| because(settings, "cgroup_permissions", error))?;
    Ok(DeviceAsked { host, target, access })
}

fn extra_hosts(settings: &Settings) -> Result<Vec<HostLine>, Refused> {
    let place = settings.place("extra_hosts");
    let lines = settings.texts("extra_hosts").iter().enumerate();
    lines
        .map(|(n, line)| HostLine::parse(line).map_err(|text| Refused::at(&place.element(n), text)))
        .collect()
}

fn dns(settings: &Settings) -> Dns {
    let list = |name| settings.texts(name).to_vec();
    Dns { servers: list("servers"), searches: list("searches"), options: list("options") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: Vec<(&str, Value)>) -> Result<TaskConfig, String> {
        let command = ("command".to_owned(), Value::from("/bin/true"));
        let rest = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        TaskConfig::decode(&Value::map(std::iter::once(command).chain(rest)))
            .map_err(|error| error.to_string())
    }

    /// Covers: E14
    #[test]
    fn e14_command_and_args_decode_exactly() {
        let task = with(vec![("args", Value::texts(["-c", "echo  $HOME", ""]))]).unwrap();
        assert_eq!(task.command, "/bin/true");
        assert_eq!(task.args, ["-c", "echo  $HOME", ""]);
    }

    /// Covers: E19
    #[test]
    fn e19_modes_and_work_dir() {
        for (text, mode) in [("private", Some(Sharing::Private)), ("host", Some(Sharing::Host)), ("", None)] {
            assert_eq!(with(vec![("pid_mode", text.into())]).unwrap().pid_mode, mode);
            assert_eq!(with(vec![("ipc_mode", text.into())]).unwrap().ipc_mode, mode);
        }
        let error = |name, text: &str| with(vec![(name, text.into())]).unwrap_err();
        assert_eq!(error("pid_mode", "other"), "pid_mode must be \"private\" or \"host\", got \"other\"");
        assert_eq!(error("ipc_mode", "other"), "ipc_mode must be \"private\" or \"host\", got \"other\"");
        assert_eq!(error("work_dir", "foo"), "work_dir must be absolute but got relative path \"foo\"");
        assert_eq!(
            error("work_dir", "/a/../b"),
            "work_dir is refused: path \"/a/../b\" must not contain `..`"
        );
        assert_eq!(
            with(vec![("work_dir", "/foo".into())]).unwrap().work_dir,
            Some(TaskPath::new("/foo").unwrap())
        );
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let bare = with(vec![]).unwrap();
        let written = TASK.iter().filter_map(|option| Some((option.name, option.default.to_value()?)));
        assert_eq!(with(written.collect()).unwrap(), bare, "a default written down is the same as none");
        assert_eq!((bare.shm_size, bare.cgroup_mode, bare.init), (64 << 20, Sharing::Host, false));
    }

    #[test]
    fn a_command_is_needed() {
        let error = |value: Value| TaskConfig::decode(&value).unwrap_err().to_string();
        assert_eq!(error(Value::Map(vec![])), "command is required and missing");
        assert_eq!(error(Value::map([("command", "".into())])), "command must not be empty");
        assert_eq!(error(Value::texts(["x"])), "config must be a block, got a list of 1");
    }

    #[test]
    fn mounts_say_what_is_wrong_with_them() {
        let error = |pairs: Vec<(&str, &str)>| {
            let block = Value::map(pairs.into_iter().map(|(name, text)| (name, text.into())));
            with(vec![("mount", Value::List(vec![block]))]).unwrap_err()
        };
        assert_eq!(error(vec![("source", "/a")]), "mount[0].target is required and missing");
        assert_eq!(error(vec![("target", "/a")]), "mount[0].source is required for a bind and missing");
        assert_eq!(
            error(vec![("target", "a"), ("source", "/a")]),
            "mount[0].target is refused: path \"a\" must be absolute"
        );
        assert_eq!(
            error(vec![("type", "tmpfs"), ("target", "/a"), ("mode", "4777")]),
            "mount[0].mode must be an octal mode up to 1777, got \"4777\""
        );
        assert_eq!(
            error(vec![("type", "tmpfs"), ("target", "/a"), ("source", "/b")]),
            "mount[0].source has no meaning for a tmpfs"
        );
    }

    #[test]
    fn devices_and_hosts() {
        let block =
            Value::map([("host_path", "/dev/fuse".into()), ("cgroup_permissions", Value::from("rw"))]);
        let task = with(vec![("devices", block), ("extra_hosts", Value::texts(["db:10.0.0.1", "v6:[::1]"]))])
            .unwrap();
        let [device] = task.devices.as_slice() else { panic!("{:?}", task.devices) };
        assert_eq!(device.target.to_string(), "/dev/fuse");
        assert_eq!(device.access, DeviceUse { read: true, write: true, make: false });
        assert_eq!(task.extra_hosts.len(), 2);
        for line in ["db", "db:", "db:x", ":1.2.3.4", "a b:1.2.3.4", "db\n:1.2.3.4"] {
            let error = with(vec![("extra_hosts", Value::texts([line]))]).unwrap_err();
            assert_eq!(error, format!("extra_hosts[0] must be \"name:address\", got {line:?}"));
        }
    }
}
