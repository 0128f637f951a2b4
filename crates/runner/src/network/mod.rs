//! The network of an allocation: one namespace that its tasks join, never reused, set up before they start and torn
//! down after the last has ended.
//!
//! Data flow: [`Wish`] (what the group's `network` block asks for, with host ports chosen) -> [`Plan`] (pure: which
//! chain of CNI plugins, with which port maps; printable) -> [`set_up`] (makes the namespace, runs the plugins) ->
//! [`Attached`] (what tasks are told, and what the state keeps for [`tear_down`], also after a crash).

pub mod cni;
mod firewall;
pub mod host;
pub mod interfaces;
mod namespace;

pub use host::HostNetworks;
pub use namespace::Namespace;

use cni::chain::{Chain, Links};
use cni::{CniError, Mapping, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where namespaces lie: the place that `ip netns` looks at.
pub const NAMESPACES: &str = "/run/netns";
/// The interface that CNI plugins make inside, as Nomad names it.
const INTERFACE: &str = "eth0";

/// What an operator may say about networks. The defaults stand beside a Nomad client on the same machine: another
/// bridge, another subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Directories with CNI plugins, searched in this order.
    pub cni_path: Vec<PathBuf>,
    /// Directory with the configurations that `mode = "cni/<name>"` names.
    pub cni_config_dir: PathBuf,
    /// Name of the bridge of `mode = "bridge"`.
    pub bridge_name: String,
    /// Its IPv4 subnet.
    pub bridge_subnet: String,
    /// Whether a task may reach itself through its own mapped port.
    pub hairpin: Hairpin,
}

/// Whether frames may leave through the bridge port they came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hairpin {
    /// They may.
    On,
    /// They may not, as with Nomad.
    Off,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cni_path: ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"].map(PathBuf::from).to_vec(),
            cni_config_dir: "/opt/cni/config".into(),
            bridge_name: "bivouac".into(),
            bridge_subnet: "172.26.80.0/20".into(),
            hairpin: Hairpin::Off,
        }
    }
}

/// Which network an allocation gets, beyond the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A loopback interface and nothing else.
    None,
    /// Behind our bridge.
    Bridge,
    /// As the configuration of this name says.
    Cni(String),
}

/// A port of the group with its number on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its label, for messages.
    pub label: String,
    /// On the host.
    pub host: u16,
    /// Inside.
    pub inside: u16,
    /// The address of the host that it is bound on; all of them where there is none.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// What a group asks for.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The allocation: names the namespace and the CNI container.
    pub alloc_id: &'a str,
    /// The kind.
    pub mode: Mode,
    /// Its ports.
    pub ports: &'a [Port],
    /// Further arguments for CNI plugins (`network { cni { args } }`).
    pub args: BTreeMap<String, String>,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    namespace: Namespace,
    links: Option<Links>,
    firewall: Option<firewall::Rule>,
}

/// A network that stands. Kept in the allocation's state: enough to tear it down after any crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The namespace that tasks join.
    pub namespace: Namespace,
    /// What the plugins made; none where there is only a loopback.
    links: Option<Links>,
    /// What they answered.
    pub outcome: Outcome,
}

/// Why a network cannot be had. Each text stands alone.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The plugins or their configuration.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// The namespace.
    #[error("network namespace {}: cannot {what}: {errno}", path.display())]
    Namespace {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        errno: rustix::io::Errno,
    },
    /// A port map that cannot be.
    #[error(
        "port {label:?}: no host network {network:?}; known: {known}; host_network blocks of the configuration name them"
    )]
    HostNetwork {
        /// The port.
        label: String,
        /// What it asked for.
        network: String,
        /// What there is.
        known: String,
    },
    /// A network of the host that the machine has no address in.
    #[error(
        "port {label:?}: host network {network:?}: this machine has no address {wanted}; it has {there}; change cidr or interface of host_network {network:?}"
    )]
    NoAddress {
        /// The port.
        label: String,
        /// What it asked for.
        network: String,
        /// What that means.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// The machine's addresses.
    #[error("cannot ask the kernel for the addresses of this machine: {0}")]
    Interfaces(rustix::io::Errno),
    /// An id that would not be one file name.
    #[error("{0:?} cannot name a network namespace")]
    Id(String),
    /// The rule that lets the bridge's traffic through.
    #[error("firewall: {0}")]
    Firewall(String),
}

/// Plans a network. Reads the operator's CNI configuration for `cni/<name>`, and nothing else.
///
/// # Errors
/// [`NetworkError`]: a configuration that is missing or not sound.
pub fn plan(wish: &Wish<'_>, settings: &Settings) -> Result<Plan, NetworkError> {
    let namespace = Namespace::named(Path::new(NAMESPACES), wish.alloc_id)?;
    let mappings = wish.ports.iter().flat_map(mappings).collect();
    let (chain, firewall) = match &wish.mode {
        Mode::None => return Ok(Plan { namespace, links: None, firewall: None }),
        Mode::Bridge => (cni::config::bridge(settings), Some(firewall::Rule::of(settings))),
        Mode::Cni(name) => (cni::config::find(&settings.cni_config_dir, name)?, None),
    };
    let links = Links::new(chain, wish.alloc_id, INTERFACE, &wish.args, mappings)?;
    Ok(Plan { namespace, links: Some(links), firewall })
}

/// One map for each protocol, as Nomad makes them.
fn mappings(port: &Port) -> [Mapping; 2] {
    let Port { host, inside, address, .. } = *port;
    [cni::Protocol::Tcp, cni::Protocol::Udp].map(|protocol| Mapping { host, inside, protocol, address })
}

impl Plan {
    /// The chain that will be run, for printing.
    pub fn chain(&self) -> Option<&Chain> {
        self.links.as_ref().map(Links::chain)
    }

    /// What [`tear_down`] needs in case the set-up never comes back: to be written down before [`set_up`] is called.
    pub fn intent(&self) -> Attached {
        Attached { namespace: self.namespace.clone(), links: self.links.clone(), outcome: Outcome::default() }
    }
}

/// Makes the namespace and attaches it. After an error nothing of it is left.
///
/// # Errors
/// [`NetworkError`].
pub fn set_up(plan: &Plan, settings: &Settings) -> Result<Attached, NetworkError> {
    plan.namespace.create()?;
    match attach(plan, settings) {
        Ok(attached) => Ok(attached),
        Err(error) => {
            // The first error is the one to tell; what is left over is found again by the recorded intent.
            let _ = tear_down(&plan.intent(), settings);
            Err(error)
        }
    }
}

fn attach(plan: &Plan, settings: &Settings) -> Result<Attached, NetworkError> {
    let Some(links) = &plan.links else { return Ok(plan.intent()) };
    let outcome = links.add(plan.namespace.path(), &settings.cni_path)?;
    if let Some(rule) = &plan.firewall {
        rule.ensure()?;
    }
    Ok(Attached { namespace: plan.namespace.clone(), links: Some(links.clone()), outcome })
}

/// Takes a network down: asks the plugins to forget it, then removes the namespace. May be repeated, and works on
/// what a crash has left.
///
/// # Errors
/// The first thing that would not go; the rest is done all the same.
pub fn tear_down(attached: &Attached, settings: &Settings) -> Result<(), NetworkError> {
    let detached = match &attached.links {
        Some(links) => links
            .remove(attached.namespace.existing(), &attached.outcome, &settings.cni_path)
            .map_err(NetworkError::from),
        None => Ok(()),
    };
    attached.namespace.remove()?;
    detached
}
