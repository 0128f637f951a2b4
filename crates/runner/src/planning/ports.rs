//! Ports of a group on this machine: those that the job file says, and free ones for the rest.

use super::Scene;
use crate::allocation::PlanError;
use crate::environment::HostPort;
use crate::network::host::ReservedPorts;
use bivouac_jobspec::{Group, PortNumber};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// So many ports that nobody may have are refused before the search is given up.
const TRIES: usize = 256;

/// The ports of a group by their label. Free ones are asked of the kernel, which does not hold them.
pub(super) fn of_group(group: &Group, scene: &Scene<'_>) -> Result<BTreeMap<String, HostPort>, PlanError> {
    let mut chosen = BTreeMap::new();
    let mut held = Vec::new();
    let none = ReservedPorts::default();
    for port in &group.network.ports {
        let network = port.host_network.as_deref();
        let on = scene.host_networks.on(&port.label, network, scene.interfaces).map_err(PlanError::other)?;
        let (address, reserved) = on.map_or((None, &none), |on| (Some(on.address), on.reserved));
        let number = match port.number {
            PortNumber::Static(number) if reserved.has(number) => {
                let (label, network) = (&port.label, network.unwrap_or("default"));
                return Err(PlanError::Other(format!(
                    "port {label:?}: {number} is kept free by reserved_ports of host_network {network:?}; choose another number"
                )));
            }
            PortNumber::Static(number) => number,
            PortNumber::Dynamic => {
                let on = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                free(on, reserved, &mut held).map_err(|why| {
                    PlanError::Other(format!("no free port for {:?} on {on}: {why}", port.label))
                })?
            }
        };
        chosen.insert(port.label.clone(), HostPort { number, address });
    }
    Ok(chosen)
}

/// A port that is free and not reserved. What was asked for stays held until all are chosen: none comes twice.
fn free(on: IpAddr, reserved: &ReservedPorts, held: &mut Vec<TcpListener>) -> Result<u16, String> {
    for _ in 0..TRIES {
        let socket = TcpListener::bind((on, 0)).map_err(|error| error.to_string())?;
        let number = socket.local_addr().map_err(|error| error.to_string())?.port();
        held.push(socket);
        if !reserved.has(number) {
            return Ok(number);
        }
    }
    Err(format!("{TRIES} that the kernel chose are all reserved_ports"))
}
