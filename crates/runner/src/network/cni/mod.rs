//! CNI, the container network interface: programs that attach a namespace to a network, told what to do by
//! environment variables and JSON on standard input, and answering with JSON (specification versions 0.4.0 and 1.0.0).
//!
//! [`config`] finds or generates the list of plugins, [`chain`] runs them in order and undoes them in reverse,
//! [`call`] starts one with a deadline and caps on what it may say, [`result`] reads what it said as a stranger's words.

mod call;
pub mod chain;
pub mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod result;

pub use result::{Interface, Outcome, Resolver};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// The search path of the programs that plugins start, whatever a job or the caller has set.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Why CNI cannot attach a namespace.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The name in `cni/<name>` or in a configuration's `type`.
    #[error("{what} {name:?} must be one plain file name")]
    Name {
        /// What was named.
        what: &'static str,
        /// How.
        name: String,
    },
    /// No plugin of this type.
    #[error(
        "the CNI plugin {name:?} is in none of {places}; install the package \"containernetworking-plugins\", or set cni_path"
    )]
    Missing {
        /// Which.
        name: String,
        /// Where it was looked for.
        places: String,
    },
    /// No configuration of this name.
    #[error("no CNI configuration named {name:?} in {}", directory.display())]
    NoConfiguration {
        /// Which.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A configuration that is not sound.
    #[error("CNI configuration {}: {text}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// An argument that would change others.
    #[error("CNI argument {name:?}: {text}")]
    Argument {
        /// Its name.
        name: String,
        /// What is wrong.
        text: &'static str,
    },
    /// The plugin could not be run, or did not end in time.
    #[error("the CNI plugin {plugin:?} {what}: {errno}")]
    Run {
        /// Which.
        plugin: String,
        /// What failed.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The plugin said no.
    #[error("the CNI plugin {plugin:?} refused to {verb} the network: {text}")]
    Refused {
        /// Which.
        plugin: String,
        /// What it was told.
        verb: &'static str,
        /// Its words.
        text: String,
    },
    /// The plugin's answer makes no sense.
    #[error("the CNI plugin {plugin:?} gave an answer that cannot be used: {text}")]
    Answer {
        /// Which.
        plugin: String,
        /// What is wrong.
        text: String,
    },
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One port of the host that leads inside: an entry of the `portMappings` capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// On the host.
    #[serde(rename = "hostPort")]
    pub host: u16,
    /// Inside.
    #[serde(rename = "containerPort")]
    pub inside: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// On which address of the host; on all where there is none.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
}

/// A name that stays one file in a directory.
fn plain_name(what: &'static str, name: &str) -> Result<(), CniError> {
    let bad = name.is_empty() || name.len() > 255 || name.starts_with('.') || name.contains(['/', '\0']);
    if bad { Err(CniError::Name { what, name: name.to_owned() }) } else { Ok(()) }
}
