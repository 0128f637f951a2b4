//! Groups: tasks that live together, their network, disk and volumes.

use super::{Constraint, Service, Task};
use crate::source::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tasks that run together on one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Name, unique in the job.
    pub name: String,
    /// Number of instances.
    pub count: u32,
    /// Key and value pairs for the group's tasks.
    pub meta: BTreeMap<String, String>,
    /// What the machine must be like.
    pub constraints: Vec<Constraint>,
    /// The network, host unless given.
    pub network: Network,
    /// The shared directory.
    pub ephemeral_disk: EphemeralDisk,
    /// Volumes by name.
    pub volumes: Vec<Volume>,
    /// Services of the group.
    pub services: Vec<Service>,
    /// Batch jobs only: all tasks are killed after this long.
    pub max_run_duration: Option<Duration>,
    /// Wait between deregistering and killing.
    pub shutdown_delay: Duration,
    /// The tasks, at least one main task among them.
    pub tasks: Vec<Task>,
    /// The group's name in the text.
    #[serde(skip)]
    pub span: Span,
}

/// What happens after the restarts of an interval are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartMode {
    /// The task has failed.
    Fail,
    /// Wait until the interval ends, then go on.
    Delay,
}

/// When a task that ended is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Restarts per interval.
    pub attempts: u32,
    /// Length of an interval.
    pub interval: Duration,
    /// Wait before each restart.
    pub delay: Duration,
    /// What happens over the limit.
    pub mode: RestartMode,
    /// Whether templates are rendered again.
    pub render_templates: bool,
}

/// Which network the group's tasks see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The machine's own.
    #[default]
    Host,
    /// None but the loopback.
    None,
    /// An own one behind a bridge.
    Bridge,
    /// An own one from a CNI configuration of this name.
    Cni(String),
}

/// The network of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Kind of network.
    pub mode: NetworkMode,
    /// Host name within the network, perhaps with `${...}`.
    pub hostname: Option<String>,
    /// Ports, unique by label.
    pub ports: Vec<Port>,
    /// Name servers in place of the machine's.
    pub dns: Option<Dns>,
    /// Arguments for CNI plugins.
    pub cni_args: BTreeMap<String, String>,
    /// The block, if there is one.
    #[serde(skip)]
    pub span: Option<Span>,
}

/// Port on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortNumber {
    /// Any free one.
    Dynamic,
    /// This one.
    Static(u16),
}

/// Port within the group's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortTarget {
    /// Not given: the machine's port number.
    Unset,
    /// `to = -1`: the machine's port number, asked for.
    SameAsHost,
    /// This one.
    Port(u16),
}

/// A port that the group uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name of the port.
    pub label: String,
    /// On the machine.
    pub number: PortNumber,
    /// Within the network.
    pub to: PortTarget,
    /// Name of the machine's network it is bound on.
    pub host_network: Option<String>,
    /// Host networks only: others may use the same static port.
    pub ignore_collision: bool,
    /// The label in the text.
    #[serde(skip)]
    pub span: Span,
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// The directory that a group's tasks share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralDisk {
    /// Size in MB.
    pub size_mb: u64,
    /// Kept for the next run.
    pub sticky: bool,
    /// A cluster's wish to copy it between machines; implies sticky.
    pub migrate: bool,
}

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// A directory of the machine that the operator has named.
    Host,
}

/// A volume that tasks may mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name used by `volume_mount`.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
    /// The operator's name of it.
    pub source: String,
    /// No task may write.
    pub read_only: bool,
    /// One per instance: `[index]` is added to the source.
    pub per_alloc: bool,
    /// Kept with the allocation.
    pub sticky: bool,
    /// `single-node-writer` and so on, as written.
    pub access_mode: Option<String>,
    /// The name in the text.
    #[serde(skip)]
    pub span: Span,
}
