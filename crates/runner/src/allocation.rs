//! Allocations: from a job to the directories, environments and requests of its tasks.
//!
//! [`plan`] is pure and complete; [`Allocation::make_directories`] and [`Allocation::remove_directories`] are the
//! only steps that touch the disk.

use crate::convert;
use crate::environment::{Instance, nomad};
use crate::node::Node;
use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_driver::config::{Dns, TaskConfig};
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::request::{Directories, Secrets, StopRule, TaskRequest};
use bivouac_driver::resources::{self, Resources};
use bivouac_driver::signals::Signal;
use bivouac_jobspec::{
    Cpu, Diagnostic, Diagnostics, Group, MemoryMax, NetworkMode, Outcome, PortNumber, Task,
};
use bivouac_sandbox::model::{Access, Hostname, Mount, MountKind, Network, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One instance of a group.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Its id: a UUID.
    pub id: String,
    /// `job.group[index]`.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its tasks, in the order of the file.
    pub tasks: Vec<PlannedTask>,
}

/// One task of an allocation.
#[derive(Clone, Debug)]
pub struct PlannedTask {
    /// What people see.
    pub label: String,
    /// Its name in the job.
    pub name: String,
    /// Whether the others end when it ends.
    pub leader: bool,
    /// What the driver is asked.
    pub request: TaskRequest,
}

/// Host volumes that the operator or the command line has named.
pub type HostVolumes = BTreeMap<String, HostVolume>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVolume {
    /// Where it is.
    pub path: HostPath,
    /// How far tasks may use it.
    pub access: Access,
}

/// Why a job cannot become allocations.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// With a place in the job file.
    #[error(transparent)]
    Text(Box<Diagnostics>),
    /// Without one.
    #[error("{0}")]
    Other(String),
}

impl PlanError {
    pub(crate) fn other(error: impl std::fmt::Display) -> PlanError {
        PlanError::Other(error.to_string())
    }
}

/// What a plan depends on besides the job.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// This machine.
    pub node: &'a Node,
    /// Where allocations live.
    pub state_dir: &'a Path,
    /// Host volumes.
    pub volumes: &'a HostVolumes,
    /// Makes ids; tests give fixed ones.
    pub new_id: &'a dyn Fn() -> String,
}

/// Plans every allocation of a job.
///
/// # Errors
/// [`PlanError`]: a constraint that this machine does not meet, an option that is refused, a volume nobody named.
pub fn plan(outcome: &Outcome, scene: &Scene<'_>) -> Result<Vec<Allocation>, PlanError> {
    let job = &outcome.job;
    check_constraints(outcome, scene)?;
    let several: usize = job.groups.iter().map(|group| group.tasks.len() * group.count as usize).sum();
    let mut allocations = Vec::new();
    for group in &job.groups {
        for index in 0..group.count {
            allocations.push(allocation(outcome, group, index, several > 1, scene)?);
        }
    }
    Ok(allocations)
}

fn check_constraints(outcome: &Outcome, scene: &Scene<'_>) -> Result<(), PlanError> {
    let job = &outcome.job;
    let groups = job.groups.iter().flat_map(|group| &group.constraints);
    let tasks = job.groups.iter().flat_map(|group| &group.tasks).flat_map(|task| &task.constraints);
    let all: Vec<_> = job.constraints.iter().chain(groups).chain(tasks).cloned().collect();
    let unmet = bivouac_jobspec::constraint::unmet(&all, &|name: &str| scene.node.get(name));
    let problems: Vec<Diagnostic> = unmet
        .iter()
        .map(|unmet| {
            let message = format!("this machine does not meet a constraint: {}", unmet.reason);
            Diagnostic::new(unmet.constraint.span, message)
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(text(problems, outcome)) }
}

fn text(problems: Vec<Diagnostic>, outcome: &Outcome) -> PlanError {
    PlanError::Text(Box::new(Diagnostics::new(problems, outcome.sources.clone())))
}

fn allocation(
    outcome: &Outcome,
    group: &Group,
    index: u32,
    several: bool,
    scene: &Scene<'_>,
) -> Result<Allocation, PlanError> {
    let id = (scene.new_id)();
    let directory = scene.state_dir.join("allocs").join(&id);
    let ports = dynamic_ports(group)?;
    let mut tasks = Vec::new();
    for task in &group.tasks {
        let instance = Instance { job: &outcome.job, group, task, alloc_id: &id, index, ports: &ports };
        let label = match (several, group.count) {
            (false, _) => task.name.clone(),
            (true, 1) => task.name.clone(),
            (true, _) => format!("{}[{index}]", task.name),
        };
        tasks.push(planned(outcome, &instance, &directory, label, scene)?);
    }
    Ok(Allocation { name: format!("{}.{}[{index}]", outcome.job.id, group.name), id, directory, tasks })
}

fn planned(
    outcome: &Outcome,
    instance: &Instance<'_>,
    directory: &Path,
    label: String,
    scene: &Scene<'_>,
) -> Result<PlannedTask, PlanError> {
    let (group, task) = (instance.group, instance.task);
    let mut env = nomad(instance);
    let known = env.clone();
    let lookup = |name: &str| known.get(name).cloned().or_else(|| scene.node.get(name));
    for (name, value) in &task.env {
        env.insert(name.clone(), bivouac_jobspec::interpolate::replace(value, &lookup));
    }
    let full = env.clone();
    let meta = |name: &str| full.get(&format!("NOMAD_META_{name}")).cloned();
    let lookup = |name: &str| {
        let env = name.strip_prefix("env.").unwrap_or(name);
        full.get(env).cloned().or_else(|| scene.node.get(name)).or_else(|| meta(name.strip_prefix("meta.")?))
    };
    let tree = bivouac_jobspec::interpolate::config(&task.config, &outcome.sources, &lookup)
        .map_err(|problems| PlanError::Text(Box::new(problems)))?;
    let config = TaskConfig::decode(&convert::config(&tree)).map_err(|refused| {
        let place = convert::place(&task.config, refused.place.as_str()).unwrap_or(task.span);
        text(vec![Diagnostic::new(place, refused.text)], outcome)
    })?;
    let interpolated = |text: &String| bivouac_jobspec::interpolate::replace(text, &lookup);
    Ok(PlannedTask {
        label,
        name: task.name.clone(),
        leader: task.leader,
        request: TaskRequest {
            id: format!("{}/{}", instance.alloc_id, task.name),
            name: format!("{}.{}[{}]/{}", instance.job.id, group.name, instance.index, task.name),
            directories: directories(directory, &task.name, scene.state_dir)?,
            config,
            env: env.into_iter().collect(),
            user: task.user.as_ref().map(interpolated).unwrap_or_default(),
            root: RootRule::Refused,
            pseudo_users: PseudoUsers::Unknown,
            resources: resources(task),
            placement: placement(instance.alloc_id, &task.name)?,
            network: network(group)?,
            hostname: group
                .network
                .hostname
                .as_ref()
                .map(|name| Hostname::new(interpolated(name)))
                .transpose()
                .map_err(PlanError::other)?,
            address: None,
            dns: group.network.dns.as_ref().map(|dns| Dns {
                servers: dns.servers.iter().map(interpolated).collect(),
                searches: dns.searches.iter().map(interpolated).collect(),
                options: dns.options.iter().map(interpolated).collect(),
            }),
            mounts: volumes(outcome, instance, scene)?,
            devices: Vec::new(),
            stop: StopRule {
                signal: match &task.kill_signal {
                    Some(signal) => Signal::parse(&signal.name).map_err(PlanError::other)?,
                    None => Signal::INT,
                },
                grace: task.kill_timeout,
            },
        },
    })
}

/// The directories of one task of an allocation.
///
/// # Errors
/// A state directory whose path is too long.
pub fn directories(allocation: &Path, task: &str, state_dir: &Path) -> Result<Directories, PlanError> {
    let path = |path: PathBuf| HostPath::new(path).map_err(PlanError::other);
    Ok(Directories {
        task: path(allocation.join(task))?,
        shared: path(allocation.join("alloc"))?,
        secrets: Secrets::Directory(path(allocation.join(".secrets").join(task))?),
        private: path(allocation.join(".private").join(task))?,
        own: vec![path(state_dir.to_path_buf())?],
    })
}

/// Where the task's group lies: `bivouac/<alloc>.<task>`.
///
/// # Errors
/// A task name that no group can have.
pub fn placement(alloc_id: &str, task: &str) -> Result<Placement, PlanError> {
    let parent = GroupPath::ROOT.join(&GroupName::new("bivouac").map_err(PlanError::other)?);
    let name = GroupName::new(format!("{alloc_id}.{task}")).map_err(PlanError::other)?;
    Ok(Placement::Ours { parent, name })
}

fn network(group: &Group) -> Result<Network, PlanError> {
    match &group.network.mode {
        NetworkMode::Host => Ok(Network::Host),
        NetworkMode::None if group.tasks.len() == 1 => Ok(Network::Own),
        NetworkMode::None => Err(PlanError::Other(format!(
            "group {:?}: network mode \"none\" for a group of several tasks is not done by this version yet",
            group.name
        ))),
        other => Err(PlanError::Other(format!(
            "group {:?}: network mode {other:?} is not done by this version yet",
            group.name
        ))),
    }
}

fn resources(task: &Task) -> Resources {
    let asked = &task.resources;
    let secrets = asked.secrets_mb.unwrap_or(0);
    let (cpu_mhz, cores) = match asked.cpu {
        Cpu::Mhz(mhz) => (u64::from(mhz), String::new()),
        Cpu::Cores(count) => (0, if count > 0 { format!("0-{}", count - 1) } else { String::new() }),
    };
    Resources {
        cpu_mhz,
        total_mhz: 0,
        memory_mib: Some(asked.memory_mb.saturating_add(secrets)),
        memory_max: match asked.memory_max {
            MemoryMax::Same => resources::MemoryMax::Same,
            MemoryMax::Mb(mib) => resources::MemoryMax::Mib(mib.saturating_add(secrets)),
            MemoryMax::Unlimited => resources::MemoryMax::Unlimited,
        },
        cores,
        ..Resources::default()
    }
}

fn volumes(outcome: &Outcome, instance: &Instance<'_>, scene: &Scene<'_>) -> Result<Vec<Mount>, PlanError> {
    let mut mounts = Vec::new();
    for mount in &instance.task.volume_mounts {
        let refused = |message: String| text(vec![Diagnostic::new(mount.span, message)], outcome);
        let Some(volume) = instance.group.volumes.iter().find(|volume| volume.name == mount.volume) else {
            return Err(refused(format!("no volume {:?} in group {:?}", mount.volume, instance.group.name)));
        };
        let source = if volume.per_alloc {
            format!("{}[{}]", volume.source, instance.index)
        } else {
            volume.source.clone()
        };
        let Some(host) = scene.volumes.get(&source) else {
            return Err(refused(format!(
                "host volume validation error: missing {source}; name it on the command line with -v {source}=/path"
            )));
        };
        let read_only = volume.read_only || mount.read_only || host.access == Access::ReadOnly;
        let target =
            TaskPath::new(&mount.destination).or_else(|_| TaskPath::new(format!("/{}", mount.destination)));
        mounts.push(Mount {
            target: target.map_err(|error| refused(error.to_string()))?,
            what: MountKind::Bind {
                source: host.path.clone(),
                route: Route::Anywhere,
                access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
                trust: Trust::Stripped,
                propagation: match mount.propagation {
                    bivouac_jobspec::Propagation::Private => Propagation::Private,
                    bivouac_jobspec::Propagation::HostToTask => Propagation::HostToTask,
                    bivouac_jobspec::Propagation::Bidirectional => Propagation::Bidirectional,
                },
            },
        });
    }
    Ok(mounts)
}

/// Free ports of this machine for those that are not static: asked of the kernel, which does not hold them.
fn dynamic_ports(group: &Group) -> Result<BTreeMap<String, u16>, PlanError> {
    let mut chosen = BTreeMap::new();
    let mut held = Vec::new();
    for port in group.network.ports.iter().filter(|port| port.number == PortNumber::Dynamic) {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0))
            .map_err(|error| PlanError::Other(format!("no free port for {:?}: {error}", port.label)))?;
        let number = socket.local_addr().map_err(PlanError::other)?.port();
        chosen.insert(port.label.clone(), number);
        held.push(socket);
    }
    Ok(chosen)
}

/// Whether a run was started by this face: `<allocation>/<task>`. Nomad's have a third part, and their status is
/// kept for Nomad.
pub fn is_ours(id: &str) -> bool {
    id.split('/').count() == 2
}

/// A fresh allocation id.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An allocation for one command from the command line.
pub fn adhoc(id: &str, state_dir: &Path, task: PlannedTask) -> Allocation {
    Allocation {
        id: id.to_owned(),
        name: task.name.clone(),
        directory: state_dir.join("allocs").join(id),
        tasks: vec![task],
    }
}

impl Allocation {
    /// Makes the directories: reachable through a directory that only root enters.
    ///
    /// # Errors
    /// What the disk answered, with the path.
    pub fn make_directories(&self) -> Result<(), PlanError> {
        let nobody = (65534, 65534);
        let base = &self.directory;
        if let Some(allocs) = base.parent() {
            make(allocs, 0o711, None)?;
        }
        make(base, 0o711, None)?;
        for name in ["alloc", "alloc/logs", "alloc/tmp", "alloc/data"] {
            make(&base.join(name), 0o777, Some(nobody))?;
        }
        for name in [".secrets", ".private"] {
            make(&base.join(name), 0o700, None)?;
        }
        for task in &self.tasks {
            make(&base.join(&task.name), 0o777, Some(nobody))?;
            for (name, mode) in [("local", 0o777), ("tmp", 0o1777)] {
                make(&base.join(&task.name).join(name), mode, Some(nobody))?;
            }
            make(&base.join(".secrets").join(&task.name), 0o777, Some(nobody))?;
            make(&base.join(".private").join(&task.name), 0o700, None)?;
        }
        Ok(())
    }

    /// Removes them, whatever the tasks have left in them. Never follows a link.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_directories(&self) -> Result<(), PlanError> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PlanError::Other(format!("cannot remove {}: {error}", self.directory.display())))
            }
            _ => Ok(()),
        }
    }
}

fn make(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), PlanError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "; Bivouac must run as root",
            std::io::ErrorKind::ReadOnlyFilesystem => "; choose another with --state-dir",
            std::io::ErrorKind::StorageFull => "; the disk is full",
            _ => "",
        };
        PlanError::Other(format!("cannot make {}: {error}{hint}", path.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok(())
}
