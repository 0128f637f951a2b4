//! A task as the client asks for it, in the driver's words. Pure: what the host says about it comes later.

use crate::face::{self, DynamicUsers, TaskStart};
use crate::placement::{PlacementError, placement};
use bivouac_cgroup::Host;
use bivouac_driver::config::{DeviceAsked, DeviceUse, Dns, TaskConfig};
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::options::{Place, Refused};
use bivouac_driver::request::{Directories, Secrets, StopRule, TaskRequest};
use bivouac_driver::resources::{CpusetOwner, MemoryMax, Resources};
use bivouac_sandbox::model::{Access, Hostname, Mount, MountKind, Network, Propagation, Route, Trust};
use bivouac_sandbox::path::PathError;
use bivouac_sandbox::{HostPath, TaskPath};
use std::net::{AddrParseError, IpAddr};

/// What the plugin knows beside the task.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The host's control groups.
    pub cgroups: &'a Host,
    /// All the processor time that the host has, in MHz; 0 when nobody knows.
    pub total_mhz: u64,
    /// The driver's name, by which the client decides about root itself.
    pub driver: &'a str,
}

/// What the name of a task's private directory begins with, in the allocation's directory. Where another task of the
/// group has just that name, the directory is not root's alone, and the start is refused.
pub(crate) const PRIVATE: &str = ".bivouac-";

/// The drivers whose tasks the client itself refuses to run as root.
const CHECKED_BY_CLIENT: [&str; 3] = ["exec", "java", "qemu"];
/// The only name by which it refuses: a number or another name of user 0 gets past it.
const ROOT: &str = "root";

/// Why a task cannot be said in the driver's words.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// An option is refused.
    #[error(transparent)]
    Option(#[from] Refused),
    /// A path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The control groups are not known.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The group's host name is none.
    #[error("{0}")]
    Hostname(String),
    /// The group's address is none.
    #[error("the group's address {0:?} is refused: {1}")]
    Address(String, AddrParseError),
}

/// One run of a task, as the driver takes it.
///
/// # Errors
/// The first thing that cannot be said.
pub fn ask(task: &TaskStart, around: &Around<'_>) -> Result<TaskRequest, AskError> {
    let (network, hostname, address) = network(&task.network)?;
    let decided = CHECKED_BY_CLIENT.contains(&around.driver) && task.user.as_deref() == Some(ROOT);
    Ok(TaskRequest {
        id: task.id.clone(),
        name: format!("{}/{}", task.alloc_id, task.name),
        directories: Directories {
            task: HostPath::new(task.alloc_dir.join(&task.name))?,
            shared: HostPath::new(task.alloc_dir.join("alloc"))?,
            secrets: Secrets::InTaskDirectory,
            // Beside the task's own, so that the client removes it together with the allocation.
            private: HostPath::new(task.alloc_dir.join(format!("{PRIVATE}{}", task.name)))?,
            // The directory of this and all other allocations.
            own: vec![HostPath::new(task.alloc_dir.parent().unwrap_or(&task.alloc_dir))?],
        },
        config: TaskConfig::decode(&crate::driver_options::to_driver(&task.options))?,
        env: task.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        user: task.user.clone().unwrap_or_default(),
        root: if decided { RootRule::Allowed } else { RootRule::Refused },
        pseudo_users: match task.dynamic_users {
            DynamicUsers::On => PseudoUsers::Accepted,
            DynamicUsers::Off => PseudoUsers::Unknown,
        },
        resources: resources(&task.resources, around.total_mhz),
        placement: placement(around.cgroups, task.resources.cgroup.as_deref(), &task.alloc_id, &task.name)?,
        network,
        hostname,
        address,
        dns: task.dns.as_ref().map(|dns| Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        mounts: task.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        devices: task.devices.iter().map(device).collect::<Result<_, _>>()?,
        // The client names signal and time when it stops a task.
        stop: StopRule::default(),
    })
}

fn resources(asked: &face::Resources, total_mhz: u64) -> Resources {
    Resources {
        cpu_mhz: asked.cpu_mhz,
        total_mhz,
        memory_mib: Some(asked.memory_mib).filter(|mib| *mib > 0),
        memory_max: match asked.memory_max {
            face::MemoryMax::None => MemoryMax::Same,
            face::MemoryMax::Mib(mib) => MemoryMax::Mib(mib),
            face::MemoryMax::Unlimited => MemoryMax::Unlimited,
        },
        cores: asked.cores.clone(),
        // The client makes the group of a task with cores, but only names them: they are ours to write.
        cpuset: CpusetOwner::Ours,
    }
}

fn network(network: &face::Network) -> Result<(Network, Option<Hostname>, Option<IpAddr>), AskError> {
    match network {
        face::Network::Host => Ok((Network::Host, None, None)),
        face::Network::Join { path, hosts: None } => Ok((Network::Join(HostPath::new(path)?), None, None)),
        face::Network::Join { path, hosts: Some(hosts) } => {
            let name = Hostname::new(hosts.hostname.as_str()).map_err(AskError::Hostname)?;
            let address = hosts.address.parse().map_err(|e| AskError::Address(hosts.address.clone(), e))?;
            Ok((Network::Join(HostPath::new(path)?), Some(name), Some(address)))
        }
    }
}

/// Paths of volumes may be written without a leading slash: they count from the task's root.
fn in_task(path: &str) -> Result<TaskPath, PathError> {
    if path.starts_with('/') { TaskPath::new(path) } else { TaskPath::new(format!("/{path}")) }
}

fn mount(mount: &face::Mount) -> Result<Mount, AskError> {
    Ok(Mount {
        target: in_task(&mount.task_path)?,
        what: MountKind::Bind {
            source: HostPath::new(&mount.host_path)?,
            route: Route::Anywhere,
            access: if mount.readonly { Access::ReadOnly } else { Access::ReadWrite },
            trust: Trust::Stripped,
            propagation: match mount.propagation {
                face::Propagation::Private => Propagation::Private,
                face::Propagation::HostToTask => Propagation::HostToTask,
                face::Propagation::Bidirectional => Propagation::Bidirectional,
            },
        },
    })
}

fn device(device: &face::Device) -> Result<DeviceAsked, AskError> {
    let host = HostPath::new(&device.host_path)?;
    let place = Place::top().field("devices");
    let access = DeviceUse::parse(&device.permissions).map_err(|text| Refused::at(&place, text))?;
    let target = if device.task_path.is_empty() {
        TaskPath::new(&device.host_path)
    } else {
        in_task(&device.task_path)
    };
    Ok(DeviceAsked { host, target: target?, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Value, Values};
    use std::path::PathBuf;

    const V2: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

    fn task() -> TaskStart {
        TaskStart {
            id: "a1/web/01234567".into(),
            name: "web".into(),
            alloc_id: "a1".into(),
            job_name: "job".into(),
            group_name: "group".into(),
            user: None,
            dynamic_users: DynamicUsers::Off,
            env: [("NOMAD_TASK_NAME".to_owned(), "web".to_owned())].into(),
            options: Values([("command".to_owned(), Value::Text("/bin/true".into()))].into()),
            alloc_dir: "/var/nomad/alloc/a1".into(),
            stdout: face::Output::Discard,
            stderr: face::Output::Discard,
            mounts: vec![face::Mount {
                task_path: "data".into(),
                host_path: "/srv".into(),
                readonly: true,
                propagation: face::Propagation::HostToTask,
            }],
            devices: vec![face::Device {
                task_path: String::new(),
                host_path: "/dev/fuse".into(),
                permissions: "rw".into(),
            }],
            network: face::Network::Join {
                path: "/var/run/netns/a1".into(),
                hosts: Some(face::Hosts { hostname: "web".into(), address: "10.0.0.2".into() }),
            },
            dns: None,
            resources: face::Resources {
                cpu_mhz: 100,
                memory_mib: 64,
                memory_max: face::MemoryMax::Unlimited,
                cores: String::new(),
                cgroup: Some(PathBuf::from("/sys/fs/cgroup/nomad.slice/share.slice/a1.web.scope")),
            },
        }
    }

    fn asked(task: &TaskStart, driver: &str) -> Result<TaskRequest, AskError> {
        let cgroups = Host::parse(V2).unwrap().with_unified_controllers("cpuset cpu io memory pids");
        ask(task, &Around { cgroups: &cgroups, total_mhz: 4000, driver })
    }

    #[test]
    fn a_whole_task_is_asked_for() {
        let asked = asked(&task(), "bivouac").unwrap();
        let own = &asked.directories;
        insta::assert_debug_snapshot!((
            &asked.name,
            own,
            &asked.resources,
            &asked.network,
            &asked.mounts,
            &asked.devices
        ));
    }

    #[test]
    fn root_is_allowed_only_where_the_client_was_asked() {
        let rule = |user: &str, driver| {
            asked(&TaskStart { user: Some(user.into()), ..task() }, driver).unwrap().root
        };
        assert_eq!(rule("root", "exec"), RootRule::Allowed);
        for (user, driver) in [("0", "exec"), ("toor", "exec"), ("root", "bivouac")] {
            assert_eq!(rule(user, driver), RootRule::Refused, "{user} under {driver}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused_in_words() {
        let refused = |task: TaskStart| asked(&task, "bivouac").unwrap_err().to_string();
        let options = Values(
            [
                ("command".to_owned(), Value::Text("x".into())),
                ("pid_mode".to_owned(), Value::Text("x".into())),
            ]
            .into(),
        );
        assert_eq!(
            refused(TaskStart { options, ..task() }),
            "pid_mode must be \"private\" or \"host\", got \"x\""
        );
        let resources = face::Resources { cgroup: None, ..task().resources };
        assert!(refused(TaskStart { resources, ..task() }).contains("named no cgroup"));
        let mut bad = task();
        bad.mounts = vec![face::Mount { task_path: "../up".into(), ..bad.mounts.remove(0) }];
        assert!(refused(bad).contains("../up"));
    }
}
