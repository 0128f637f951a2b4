//! Networks of this machine that ports may name: what the operator says of one, and which address that means today.
//!
//! As a Nomad client has them: `cidr` and `interface` narrow what the machine has, together if both are said. Pure: what
//! the machine has is an argument.

use super::NetworkError;
use super::interfaces::Interface;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Networks of this machine by the name that a port's `host_network` uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNetworks(pub BTreeMap<String, HostNetwork>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// Where its address comes from.
    pub place: Place,
    /// What no job gets of it.
    pub reserved: ReservedPorts,
}

impl HostNetwork {
    /// One of a known address, all of whose ports jobs may have.
    pub fn at(address: IpAddr) -> HostNetwork {
        HostNetwork { place: Place::Address(address), reserved: ReservedPorts::default() }
    }
}

/// Where the address of a network comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The operator says it.
    Address(IpAddr),
    /// The first that the machine has in one of these ranges and on this interface, where they are said.
    Found {
        /// Ranges of addresses; any where there is none.
        cidrs: Vec<Cidr>,
        /// The interface's name; any where there is none.
        interface: Option<String>,
    },
}

/// Asks the machine which addresses it has.
pub type Interfaces<'a> = &'a dyn Fn() -> Result<Vec<Interface>, rustix::io::Errno>;

/// A network that a port is on, and its address.
#[derive(Clone, Copy, Debug)]
pub struct On<'n> {
    /// The address that the port is bound on.
    pub address: IpAddr,
    /// What no job gets of it.
    pub reserved: &'n ReservedPorts,
}

impl HostNetworks {
    /// Where a port is bound: none is all addresses, where no network is named, or the default one and nothing is said
    /// about that. The machine is asked only where it has to be.
    ///
    /// # Errors
    /// [`NetworkError::HostNetwork`] for a name that nobody declared, [`NetworkError::NoAddress`] where the machine has
    /// no such address now, [`NetworkError::Interfaces`].
    pub fn on<'n>(
        &'n self,
        label: &str,
        network: Option<&str>,
        interfaces: Interfaces<'_>,
    ) -> Result<Option<On<'n>>, NetworkError> {
        let Some(name) = network else { return Ok(None) };
        let Some(found) = self.0.get(name) else {
            if name == "default" {
                return Ok(None);
            }
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "only \"default\"".into() } else { known.join(", ") };
            return Err(NetworkError::HostNetwork { label: label.into(), network: name.into(), known });
        };
        let address = match &found.place {
            Place::Address(address) => *address,
            Place::Found { cidrs, interface } => {
                let there = interfaces().map_err(NetworkError::Interfaces)?;
                let first = find(&there, cidrs, interface.as_deref());
                first.ok_or_else(|| NetworkError::NoAddress {
                    label: label.into(),
                    network: name.into(),
                    wanted: wanted(cidrs, interface.as_deref()),
                    there: listed(&there),
                })?
            }
        };
        Ok(Some(On { address, reserved: &found.reserved }))
    }
}

/// The first that fits, in the kernel's order (IPv4 first); one of the link alone only where there is no other, and of
/// IPv6 never: it means nothing without its interface, and a port map has no place for that.
fn find(there: &[Interface], cidrs: &[Cidr], interface: Option<&str>) -> Option<IpAddr> {
    let fits = |one: &&Interface| {
        interface.is_none_or(|name| one.name == name)
            && (cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.contains(one.address)))
    };
    let of_link = |address: IpAddr| match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(_) => false,
    };
    let usable = |one: &&Interface| match one.address {
        IpAddr::V4(_) => true,
        IpAddr::V6(six) => !six.is_unicast_link_local(),
    };
    let fitting = || there.iter().filter(fits).filter(usable).map(|one| one.address);
    fitting().find(|address| !of_link(*address)).or_else(|| fitting().next())
}

/// What was looked for, in words.
fn wanted(cidrs: &[Cidr], interface: Option<&str>) -> String {
    let ranges: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
    let ranges = (!ranges.is_empty()).then(|| format!("in {}", ranges.join(" or ")));
    let on = interface.map(|name| format!("on interface {name:?}"));
    ranges.into_iter().chain(on).collect::<Vec<_>>().join(" ")
}

fn listed(there: &[Interface]) -> String {
    let one = |one: &Interface| format!("{} {}", one.name, one.address);
    there.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A range of addresses: those that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u32,
}

impl Cidr {
    /// Whether an address lies in it. One of the other kind does not.
    pub fn contains(&self, other: IpAddr) -> bool {
        let ends = width(self.address) - self.bits;
        match (self.address, other) {
            // A shift by the whole width leaves nothing to differ.
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(ends).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)).checked_shr(ends).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// How many bits an address has.
fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// A text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no range of addresses such as \"10.0.0.0/8\" or \"fd00::/8\"; several stand with `,` between them"
)]
pub struct NoCidr(String);

impl FromStr for Cidr {
    type Err = NoCidr;

    fn from_str(text: &str) -> Result<Cidr, NoCidr> {
        let parsed = || {
            let (address, bits) = text.split_once('/')?;
            let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
            (bits <= width(address)).then_some(Cidr { address, bits })
        };
        parsed().ok_or_else(|| NoCidr(text.to_owned()))
    }
}

/// Ports that no job gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservedPorts(Vec<RangeInclusive<u16>>);

impl ReservedPorts {
    /// Whether a port is one of them.
    pub fn has(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

/// A text that is no list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of ports such as \"22,80,8500-8600\"")]
pub struct NoPorts(String);

impl FromStr for ReservedPorts {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<ReservedPorts, NoPorts> {
        let one = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some(from..=to)
        };
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        parts.map(one).collect::<Option<_>>().map(ReservedPorts).ok_or_else(|| NoPorts(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Interface> {
        [
            ("lo", "127.0.0.1"),
            ("eth0", "169.254.3.4"),
            ("eth0", "192.168.1.4"),
            ("eth1", "10.1.2.3"),
            ("eth1", "10.1.2.4"),
            ("usb0", "169.254.9.9"),
            ("lo", "::1"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::4"),
            ("tun0", "fe80::2"),
        ]
        .map(|(name, address)| Interface { name: name.into(), address: address.parse().unwrap() })
        .into()
    }

    fn networks(cidr: &str, interface: Option<&str>) -> HostNetworks {
        let cidrs = cidr.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap());
        let place = Place::Found { cidrs: cidrs.collect(), interface: interface.map(str::to_owned) };
        HostNetworks([("in".into(), HostNetwork { place, reserved: ReservedPorts::default() })].into())
    }

    fn on(cidr: &str, interface: Option<&str>) -> Result<IpAddr, String> {
        let networks = networks(cidr, interface);
        let found = networks.on("http", Some("in"), &|| Ok(machine()));
        found.map(|on| on.unwrap().address).map_err(|error| error.to_string())
    }

    #[test]
    fn a_range_and_an_interface_are_looked_for_together() {
        for (cidr, interface, expected) in [
            ("10.0.0.0/8", None, "10.1.2.3"),
            ("10.1.2.4/32", None, "10.1.2.4"),
            ("172.16.0.0/12,192.168.0.0/16", None, "192.168.1.4"),
            ("", Some("eth0"), "192.168.1.4"),
            ("fd00::/8", Some("eth0"), "fd00::4"),
            ("::/0", None, "::1"),
            ("0.0.0.0/0", Some("eth1"), "10.1.2.3"),
            ("", Some("usb0"), "169.254.9.9"),
            ("169.254.0.0/16", None, "169.254.3.4"),
        ] {
            assert_eq!(on(cidr, interface), Ok(expected.parse().unwrap()), "{cidr} {interface:?}");
        }
    }

    #[test]
    fn what_the_machine_does_not_have_is_named_with_what_it_has() {
        let told = on("10.0.0.0/8,fd01::/16", Some("eth0")).unwrap_err();
        let begin = "port \"http\": host network \"in\": this machine has no address in 10.0.0.0/8 or fd01::/16 on interface \"eth0\"; it has lo 127.0.0.1, eth0 ";
        assert!(told.starts_with(begin) && told.contains("host_network \"in\""), "{told}");
        assert!(on("", Some("tun0")).unwrap_err().contains("on interface \"tun0\""), "only of the link");
        assert!(on("", Some("eth")).is_err(), "a beginning is no name");
        let told = networks("", Some("eth0"))
            .on("http", Some("in"), &|| Err(rustix::io::Errno::NOBUFS))
            .unwrap_err();
        assert!(told.to_string().contains("cannot ask the kernel"), "{told}");
    }

    #[test]
    fn the_machine_is_asked_only_where_it_must_be() {
        let networks = HostNetworks([("in".into(), HostNetwork::at("192.0.2.1".parse().unwrap()))].into());
        let ask: Interfaces<'_> = &|| panic!("nobody needs it");
        assert!(networks.on("http", None, ask).unwrap().is_none());
        assert!(networks.on("http", Some("default"), ask).unwrap().is_none());
        let told = networks.on("http", Some("in"), ask).unwrap().unwrap();
        assert_eq!(told.address, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert!(networks.on("http", Some("out"), ask).unwrap_err().to_string().contains("known: in"));
    }

    #[test]
    fn ranges_and_ports_are_read_or_refused() {
        for wrong in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8", "x/8", "10.0.0.0/-1", ""] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
        let ports: ReservedPorts = "22, 80,8500-8600".parse().unwrap();
        let has = [21, 22, 80, 8499, 8500, 8600, 8601].map(|port| ports.has(port));
        assert_eq!(has, [false, true, true, false, true, true, false]);
        assert!("".parse::<ReservedPorts>().unwrap() == ReservedPorts::default());
        for wrong in ["x", "1-", "-1", "9-8", "0", "65536", "1-2-3"] {
            assert!(wrong.parse::<ReservedPorts>().is_err(), "{wrong}");
        }
    }
}
