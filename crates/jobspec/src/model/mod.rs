//! The typed job: what a file means, with defaults filled in and wrong states left out.

mod config;
mod group;
mod service;
mod task;

pub use config::{ConfigTree, ConfigValue};
pub use group::{
    Dns, EphemeralDisk, Group, Network, NetworkMode, Port, PortNumber, PortTarget, Restart, RestartMode,
    Volume, VolumeKind,
};
pub use service::{Check, CheckKind, CheckRestart, Service};
pub use task::{
    Action, Artifact, ArtifactMode, Change, ChangeScript, Cpu, Device, Driver, Identity, Logs, MemoryMax,
    NumaAffinity, Propagation, Resources, Role, Schedule, Secret, Signal, Task, Template, TemplateSource,
    VolumeMount,
};

use crate::source::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something the reader of the job file should know, though it is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One sentence.
    pub message: String,
    /// What it is about.
    pub span: Span,
}

/// What kind of job; decides restarts and what success means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Runs until stopped.
    #[default]
    Service,
    /// Runs to its end.
    Batch,
    /// A service on every machine: here, on this one.
    System,
    /// A batch job on every machine: here, on this one.
    SysBatch,
}

impl JobKind {
    /// Whether tasks are meant to end by themselves.
    pub fn is_batch(self) -> bool {
        matches!(self, JobKind::Batch | JobKind::SysBatch)
    }
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Unique name.
    pub id: String,
    /// Name shown to people; the id unless given.
    pub name: String,
    /// Kind of job.
    pub kind: JobKind,
    /// 1 to 100; only a cluster uses it.
    pub priority: u8,
    /// Region, for the environment of tasks.
    pub region: String,
    /// Data centres, for the environment of tasks.
    pub datacenters: Vec<String>,
    /// Namespace, for the environment of tasks.
    pub namespace: String,
    /// Key and value pairs for all tasks.
    pub meta: BTreeMap<String, String>,
    /// A template for jobs that `dispatch` starts.
    pub parameterized: Option<Parameterized>,
    /// When to start the job again and again.
    pub periodic: Option<Periodic>,
    /// What the machine must be like, for all groups.
    pub constraints: Vec<Constraint>,
    /// The groups, at least one.
    pub groups: Vec<Group>,
    /// The `job` word.
    #[serde(skip)]
    pub span: Span,
}

/// Whether a dispatched job takes a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// May be given.
    #[default]
    Optional,
    /// Must be given.
    Required,
    /// Must not be given.
    Forbidden,
}

/// What `dispatch` may and must give.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameterized {
    /// Whether there is a payload.
    pub payload: Payload,
    /// Keys that must be given.
    pub meta_required: Vec<String>,
    /// Keys that may be given; disjoint from the required ones.
    pub meta_optional: Vec<String>,
}

/// A time table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periodic {
    /// Cron expressions, at least one.
    pub crons: Vec<String>,
    /// Skip a start while the last one still runs.
    pub prohibit_overlap: bool,
    /// Name of the time zone the expressions are in.
    pub time_zone: String,
    /// Whether starts happen at all.
    pub enabled: bool,
}

/// How a constraint compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// `=`, `==`, `is`.
    #[serde(rename = "=")]
    Equal,
    /// `!=`, `not`.
    #[serde(rename = "!=")]
    NotEqual,
    /// `>`.
    #[serde(rename = ">")]
    Greater,
    /// `>=`.
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// `<`.
    #[serde(rename = "<")]
    Less,
    /// `<=`.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// Version constraint, lenient.
    #[serde(rename = "version")]
    Version,
    /// Version constraint by Semantic Versioning.
    #[serde(rename = "semver")]
    Semver,
    /// Regular expression.
    #[serde(rename = "regexp")]
    Regexp,
    /// All comma-separated items are in the attribute.
    #[serde(rename = "set_contains")]
    SetContains,
    /// One of the comma-separated items is in the attribute.
    #[serde(rename = "set_contains_any")]
    SetContainsAny,
    /// The attribute exists.
    #[serde(rename = "is_set")]
    IsSet,
    /// The attribute does not exist.
    #[serde(rename = "is_not_set")]
    IsNotSet,
}

/// A condition on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Left side, usually `${attr...}`.
    pub attribute: String,
    /// Comparison.
    pub operator: Operator,
    /// Right side.
    pub value: String,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}
