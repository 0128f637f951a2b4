//! The one rule on the host that is not the plugins': traffic into the bridge's subnet is accepted in the chain
//! that the `firewall` plugin asks first. Made once, idempotent, and the same for all allocations.

use super::{NetworkError, Settings};
use std::path::Path;
use std::process::{Command, Stdio};

/// The chain that administrators may add to; the `firewall` plugin is told its name.
pub(super) const ADMIN_CHAIN: &str = "BIVOUAC-ADMIN";

/// Accepts what goes to the subnet through the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    bridge: String,
    subnet: String,
}

impl Rule {
    pub(super) fn of(settings: &Settings) -> Rule {
        Rule { bridge: settings.bridge_name.clone(), subnet: settings.bridge_subnet.clone() }
    }

    fn words(&self) -> [&str; 7] {
        [ADMIN_CHAIN, "-o", &self.bridge, "-d", &self.subnet, "-j", "ACCEPT"]
    }

    /// Makes the chain and the rule where they are missing.
    ///
    /// # Errors
    /// [`NetworkError::Firewall`]: no iptables, or what it said.
    pub(super) fn ensure(&self) -> Result<(), NetworkError> {
        let words = self.words();
        if iptables(&[&["-C"], &words[..]].concat())?.is_ok() {
            return Ok(());
        }
        // Another allocation may have made it in between; what counts is that the rule can be put in.
        let _ = iptables(&["-N", ADMIN_CHAIN])?;
        iptables(&[&["-I"], &words[..]].concat())?.map_err(NetworkError::Firewall)
    }
}

/// Runs iptables on the filter table with a fixed environment; what it complained about, if it did.
fn iptables(words: &[&str]) -> Result<Result<(), String>, NetworkError> {
    let program = ["/usr/sbin/iptables", "/sbin/iptables", "/usr/bin/iptables"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| {
            NetworkError::Firewall(
                "iptables is missing, which bridge networks need; install the package \"iptables\"".into(),
            )
        })?;
    let output = Command::new(program)
        .args(["-w", "10", "-t", "filter"])
        .args(words)
        .env_clear()
        .env("PATH", super::cni::PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| NetworkError::Firewall(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}
