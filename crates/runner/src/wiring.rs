//! The network of an allocation as it is planned, and what its tasks are told once it stands.

use crate::network::{self, Attached, Mode, NetworkError, Port, Settings, Wish};
use bivouac_driver::config::Dns;
use bivouac_driver::request::TaskRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which network an allocation's tasks share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wiring {
    /// None of their own: the host's, or each task's own loopback.
    #[default]
    Nothing,
    /// One namespace.
    Namespace {
        /// The kind.
        mode: Mode,
        /// Its ports.
        ports: Vec<Port>,
        /// Further arguments for CNI plugins.
        args: BTreeMap<String, String>,
    },
}

impl Wiring {
    /// Plans it; nothing is done. `None` where there is nothing to do.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn plan(&self, alloc_id: &str, settings: &Settings) -> Result<Option<network::Plan>, NetworkError> {
        match self {
            Wiring::Nothing => Ok(None),
            Wiring::Namespace { mode, ports, args } => {
                let wish = Wish { alloc_id, mode: mode.clone(), ports, args: args.clone() };
                network::plan(&wish, settings).map(Some)
            }
        }
    }

    /// Tells a task about the network that stands: its address, its name servers, `NOMAD_ALLOC_*`.
    pub fn tell(&self, attached: &Attached, request: &mut TaskRequest) {
        let resolver = &attached.outcome.resolver;
        if request.dns.is_none() && !resolver.servers.is_empty() {
            request.dns = Some(Dns {
                servers: resolver.servers.iter().map(ToString::to_string).collect(),
                searches: resolver.searches.clone(),
                options: resolver.options.clone(),
            });
        }
        let Some(interface) = &attached.outcome.interface else { return };
        request.address = Some(interface.address);
        let Wiring::Namespace { ports, .. } = self else { return };
        for port in ports {
            let label = crate::environment::plain(&port.label);
            let address = std::net::SocketAddr::new(interface.address, port.inside);
            for (name, value) in [
                ("ALLOC_IP", interface.address.to_string()),
                ("ALLOC_ADDR", address.to_string()),
                ("ALLOC_INTERFACE", interface.name.clone()),
            ] {
                // What the job file sets itself wins.
                let name = format!("NOMAD_{name}_{label}");
                if request.env.iter().all(|(known, _)| *known != name) {
                    request.env.push((name, value));
                }
            }
        }
    }
}
