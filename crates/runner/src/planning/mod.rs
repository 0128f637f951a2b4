//! From a job to its allocations: environments, options and mounts of every task, all of it checked before
//! anything is made. Pure but for the choice of free ports.

mod checks;
mod ports;
#[cfg(test)]
mod tests;

use crate::allocation::{Allocation, Disk, Order, PlanError, PlannedTask, Planted, SECRETS, SecretsLast};
use crate::convert;
use crate::disk_limit::{Limit, Way};
use crate::environment::{HostPort, Instance, nomad};
use crate::inputs::Inputs;
use crate::lifecycle::Member;
use crate::network::host::Interfaces;
use crate::network::{HostNetworks, Mode, NAMESPACES, Namespace, Port};
use crate::node::Node;
use crate::restart::{OnSuccess, Tracker};
use crate::volumes::HostVolumes;
use crate::wiring::Wiring;
use bivouac_driver::config::{Dns, TaskConfig};
use bivouac_driver::resources::{self, Resources};
use bivouac_driver::signals::Signal;
use bivouac_jobspec::{
    Action, Cpu, Diagnostic, Diagnostics, Group, MemoryMax, NetworkMode, Outcome, PortTarget, Task,
};
use bivouac_sandbox::model::{Access, Hostname, Mount, MountKind, Network, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a plan depends on besides the job.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// This machine.
    pub node: &'a Node,
    /// Where allocations live.
    pub state_dir: &'a Path,
    /// Host volumes.
    pub volumes: &'a HostVolumes,
    /// What `host_network` may name.
    pub host_networks: &'a HostNetworks,
    /// Asks for this machine's addresses, where one of those has to be looked for.
    pub interfaces: Interfaces<'a>,
    /// What a dispatched job brings.
    pub payload: Option<&'a Payload>,
    /// How disks are kept to their size.
    pub disk: Way,
    /// Makes ids; tests give fixed ones.
    pub new_id: &'a dyn Fn() -> String,
}

/// What a dispatched job brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The payload; empty where there is none.
    pub bytes: Vec<u8>,
    /// The job that was dispatched.
    pub parent: String,
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
    let ports = ports::of_group(group, scene)?;
    let mut tasks = Vec::new();
    for task in &group.tasks {
        let instance = Instance { job: &outcome.job, group, task, alloc_id: &id, index, ports: &ports };
        let label = match (several, group.count) {
            (false, _) | (true, 1) => task.name.clone(),
            (true, _) => format!("{}[{index}]", task.name),
        };
        tasks.push(planned(outcome, &instance, label, scene)?);
    }
    Ok(Allocation {
        name: format!("{}.{}[{index}]", outcome.job.id, group.name),
        job: outcome.job.id.clone(),
        group: group.name.clone(),
        index,
        directory: scene.state_dir.join("allocs").join(&id),
        secrets: Path::new(SECRETS).join(&id),
        state_dir: scene.state_dir.to_owned(),
        shutdown_delay: group.shutdown_delay,
        max_run_duration: group.max_run_duration,
        limit: Limit { way: scene.disk, mib: group.ephemeral_disk.size_mb },
        disk: if group.ephemeral_disk.sticky { Disk::Sticky } else { Disk::Ephemeral },
        wiring: wiring(group, &ports),
        tasks,
        id,
    })
}

fn planned(
    outcome: &Outcome,
    instance: &Instance<'_>,
    label: String,
    scene: &Scene<'_>,
) -> Result<PlannedTask, PlanError> {
    let task = instance.task;
    let on_success = OnSuccess::of(instance.job.kind, task.role);
    let kill_signal = task.kill_signal.as_ref().map_or("SIGINT", |signal| signal.name.as_str());
    Signal::parse(kill_signal).map_err(PlanError::other)?;
    let names = Names::of(instance, scene);
    Ok(PlannedTask {
        label,
        member: Member {
            name: task.name.clone(),
            role: task.role,
            leader: task.leader,
            grace: task.kill_timeout,
            shutdown_delay: task.shutdown_delay,
            tracker: Tracker::new(task.restart.clone(), on_success),
        },
        kill_signal: kill_signal.to_owned(),
        logs: task.logs.clone(),
        planted: planted(task, scene, &|text| interpolated(&names, text)),
        actions: actions(task, &|text| interpolated(&names, text)),
        secrets: secrets(outcome, task)?,
        secrets_mib: task.resources.secrets_mb.unwrap_or(crate::secrets::DEFAULT_SIZE),
        secrets_last: SecretsLast::Allocation,
        checks: checks::of_task(instance, &|text| interpolated(&names, text))?,
        inputs: Inputs::plan(task, &|name| names.get(name))
            .map_err(|refused| text(vec![Diagnostic::new(refused.place, refused.text)], outcome))?,
        order: order(outcome, instance, scene, &names)?,
    })
}

/// What `${...}` may name in a task.
struct Names<'a> {
    env: BTreeMap<String, String>,
    node: &'a Node,
    secrets: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn of(instance: &Instance<'_>, scene: &Scene<'a>) -> Names<'a> {
        let mut env = nomad(instance);
        if let Some(payload) = scene.payload {
            env.insert("NOMAD_JOB_PARENT_ID".to_owned(), payload.parent.clone());
        }
        let node = scene.node;
        let known = env.clone();
        let lookup = |name: &str| known.get(name).cloned().or_else(|| node.get(name));
        for (name, value) in &instance.task.env {
            env.insert(name.clone(), bivouac_jobspec::interpolate::replace(value, &lookup));
        }
        let secrets = instance.task.secrets.iter().map(|secret| secret.name.clone()).collect();
        Names { env, node, secrets }
    }

    fn get(&self, name: &str) -> Option<String> {
        let declared = |rest: &str| rest.split('.').next().is_some_and(|name| self.secrets.contains(name));
        if name.strip_prefix("secret.").is_some_and(declared) {
            // Stays in the plan: the value comes when the task starts.
            return Some(format!("${{{name}}}"));
        }
        let env = name.strip_prefix("env.").unwrap_or(name);
        let meta = || self.env.get(&format!("NOMAD_META_{}", name.strip_prefix("meta.")?));
        self.env.get(env).cloned().or_else(|| self.node.get(name)).or_else(|| meta().cloned())
    }
}

fn interpolated(names: &Names<'_>, text: &str) -> String {
    bivouac_jobspec::interpolate::replace(text, &|name: &str| names.get(name))
}

/// The payload as a file of the task, if both want it.
fn planted(task: &Task, scene: &Scene<'_>, interpolated: &dyn Fn(&String) -> String) -> Vec<Planted> {
    match (&task.dispatch_payload, scene.payload) {
        (Some(file), Some(payload)) if !payload.bytes.is_empty() => {
            vec![Planted { path: Path::new("local").join(interpolated(file)), bytes: payload.bytes.clone() }]
        }
        _ => Vec::new(),
    }
}

fn actions(task: &Task, interpolated: &dyn Fn(&String) -> String) -> Vec<Action> {
    let action = |action: &Action| Action {
        name: action.name.clone(),
        command: interpolated(&action.command),
        args: action.args.iter().map(interpolated).collect(),
    };
    task.actions.iter().map(action).collect()
}

fn order(
    outcome: &Outcome,
    instance: &Instance<'_>,
    scene: &Scene<'_>,
    names: &Names<'_>,
) -> Result<Order, PlanError> {
    let (group, task) = (instance.group, instance.task);
    let lookup = |name: &str| names.get(name);
    let tree = bivouac_jobspec::interpolate::config(&task.config, &outcome.sources, &lookup)
        .map_err(|problems| PlanError::Text(Box::new(problems)))?;
    let config = convert::config(&tree);
    TaskConfig::decode(&config).map_err(|refused| {
        let place = convert::place(&task.config, refused.place.as_str()).unwrap_or(task.span);
        text(vec![Diagnostic::new(place, refused.text)], outcome)
    })?;
    let interpolated = |text: &String| interpolated(names, text);
    let hostname = group.network.hostname.as_ref().map(|name| Hostname::new(interpolated(name)));
    Ok(Order {
        name: format!("{}.{}[{}]/{}", instance.job.id, group.name, instance.index, task.name),
        config,
        env: names.env.clone().into_iter().collect(),
        user: task.user.as_ref().map(interpolated).unwrap_or_default(),
        resources: resources(task),
        cores: cores(task),
        network: network(group, instance.alloc_id)?,
        hostname: hostname.transpose().map_err(PlanError::other)?,
        dns: group.network.dns.as_ref().map(|dns| Dns {
            servers: dns.servers.iter().map(interpolated).collect(),
            searches: dns.searches.iter().map(interpolated).collect(),
            options: dns.options.iter().map(interpolated).collect(),
        }),
        mounts: volumes(outcome, instance, scene)?,
        devices: Vec::new(),
    })
}

/// A task's secrets: from files of this host and the caller's environment; everything else is another system.
fn secrets(outcome: &Outcome, task: &Task) -> Result<Vec<bivouac_jobspec::Secret>, PlanError> {
    let elsewhere = task.secrets.iter().filter(|secret| !matches!(secret.provider.as_str(), "file" | "env"));
    let problems: Vec<_> = elsewhere
        .map(|secret| {
            let message = format!("the secret provider {:?} is another system", secret.provider);
            let help = "here there are \"file\" (path is a file of this host) and \"env\" (path is a variable of whoever runs the job)";
            Diagnostic::new(secret.span, message).help(help)
        })
        .collect();
    if problems.is_empty() { Ok(task.secrets.clone()) } else { Err(text(problems, outcome)) }
}

/// Which network namespace the tasks of a group get.
fn network(group: &Group, alloc_id: &str) -> Result<Network, PlanError> {
    match &group.network.mode {
        NetworkMode::Host => Ok(Network::Host),
        NetworkMode::None if group.tasks.len() == 1 => Ok(Network::Own),
        NetworkMode::None | NetworkMode::Bridge | NetworkMode::Cni(_) => {
            let namespace = Namespace::named(Path::new(NAMESPACES), alloc_id).map_err(PlanError::other)?;
            Ok(Network::Join(HostPath::new(namespace.path()).map_err(PlanError::other)?))
        }
    }
}

/// What is set up before its tasks start.
fn wiring(group: &Group, ports: &BTreeMap<String, HostPort>) -> Wiring {
    let mode = match &group.network.mode {
        NetworkMode::Host => return Wiring::Nothing,
        NetworkMode::None if group.tasks.len() == 1 => return Wiring::Nothing,
        NetworkMode::None => Mode::None,
        NetworkMode::Bridge => Mode::Bridge,
        NetworkMode::Cni(name) => Mode::Cni(name.clone()),
    };
    let ports = group.network.ports.iter().map(|port| {
        let (host, address) = ports.get(&port.label).map_or((0, None), |port| (port.number, port.address));
        let inside = match port.to {
            PortTarget::Port(number) => number,
            PortTarget::Unset | PortTarget::SameAsHost => host,
        };
        Port { label: port.label.clone(), host, inside, address }
    });
    Wiring::Namespace { mode, ports: ports.collect(), args: group.network.cni_args.clone() }
}

fn resources(task: &Task) -> Resources {
    let asked = &task.resources;
    let secrets = asked.secrets_mb.unwrap_or(0);
    Resources {
        cpu_mhz: match asked.cpu {
            Cpu::Mhz(mhz) => u64::from(mhz),
            Cpu::Cores(count) => crate::node::mhz_of(count),
        },
        total_mhz: crate::node::total_mhz(),
        memory_mib: Some(asked.memory_mb.saturating_add(secrets)),
        memory_max: match asked.memory_max {
            MemoryMax::Same => resources::MemoryMax::Same,
            MemoryMax::Mb(mib) => resources::MemoryMax::Mib(mib.saturating_add(secrets)),
            MemoryMax::Unlimited => resources::MemoryMax::Unlimited,
        },
        ..Resources::default()
    }
}

fn cores(task: &Task) -> u32 {
    match task.resources.cpu {
        Cpu::Mhz(_) => 0,
        Cpu::Cores(count) => count,
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
                "host volume validation error: missing {source}; make it with `bivouac volume create {source}`, or name a directory with -volume {source}=/path"
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
