//! Services and the checks that say whether they are well.

use crate::source::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A service that a group or task offers. Nothing registers it on one machine; its checks run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Name, perhaps with `${...}`.
    pub name: String,
    /// Label of a port or a number.
    pub port: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Key and value pairs.
    pub meta: BTreeMap<String, String>,
    /// The task whose address and context it uses.
    pub task: Option<String>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// How a check asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A command in the task; exit status 0 is well.
    Script {
        /// Program.
        command: String,
        /// Arguments.
        args: Vec<String>,
    },
    /// A connection succeeds.
    Tcp,
    /// A request is answered with a status of 2xx.
    Http {
        /// `GET` and so on.
        method: String,
        /// Path of the request.
        path: String,
        /// `http` or `https`.
        protocol: String,
        /// Headers.
        headers: BTreeMap<String, Vec<String>>,
        /// Body of the request.
        body: Option<String>,
        /// Accept any certificate.
        tls_skip_verify: bool,
        /// The name that the certificate must be for; the address that is asked unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls_server_name: Option<String>,
    },
}

/// A repeated question to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name.
    pub name: String,
    /// How it asks.
    pub kind: CheckKind,
    /// Port label or number; the service's unless given.
    pub port: Option<String>,
    /// Time between two questions.
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// The task a script runs in; the service's unless given.
    pub task: Option<String>,
    /// Successes in a row before it counts as well.
    pub success_before_passing: u32,
    /// Failures in a row before it counts as ill.
    pub failures_before_critical: u32,
    /// When to restart the task.
    pub restart: Option<CheckRestart>,
    /// The block.
    #[serde(skip)]
    pub span: Span,
}

/// When a failing check restarts its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRestart {
    /// Failures in a row; 0 means never.
    pub limit: u32,
    /// Time after a start in which failures do not count.
    pub grace: Duration,
    /// Warnings do not count.
    pub ignore_warnings: bool,
}
