//! What the operator says about this machine, in `/etc/bivouac/config.hcl`: the driver's options, host volumes, and
//! networks, the last two named as a Nomad client names them.

use crate::network::host::{HostNetwork, Place};
use crate::network::{Hairpin, HostNetworks, Settings};
use crate::volumes::{HostVolume, HostVolumes, check_name};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::options::Value;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Access;
use std::net::IpAddr;
use std::path::PathBuf;

/// All of it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The driver's options.
    pub operator: OperatorConfig,
    /// Volumes that job files may name.
    pub volumes: HostVolumes,
    /// How networks are made.
    pub network: Settings,
    /// What `host_network` may name.
    pub host_networks: HostNetworks,
}

impl Machine {
    /// Reads the tree of a configuration file; without a file, that of an empty one.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn of(tree: Value) -> Result<Machine, String> {
        let Value::Map(entries) = tree else {
            return Err("the configuration must be blocks and arguments".into());
        };
        let (mut volumes, mut network, mut rest) = (HostVolumes::new(), Settings::default(), Vec::new());
        let mut host_networks = HostNetworks::default();
        for (name, value) in entries {
            match (name.as_str(), value) {
                ("host_volume", value) => {
                    for (name, options) in blocks("host_volume", "path = \"/...\"", value)? {
                        let volume = host_volume(&name, options)?;
                        if volumes.insert(name.clone(), volume).is_some() {
                            return Err(format!("host_volume {name:?} stands twice"));
                        }
                    }
                }
                ("host_network", value) => {
                    for (name, options) in blocks("host_network", "cidr = \"192.0.2.0/24\"", value)? {
                        let network =
                            host_network(options).map_err(|why| format!("host_network {name:?}{why}"))?;
                        if host_networks.0.insert(name.clone(), network).is_some() {
                            return Err(format!("host_network {name:?} stands twice"));
                        }
                    }
                }
                ("cni_path", Value::String(text)) => {
                    network.cni_path = text.split(':').map(PathBuf::from).collect();
                    if network.cni_path.iter().any(|path| !path.is_absolute()) {
                        return Err(format!(
                            "cni_path: {text:?} must be absolute paths, with `:` between them"
                        ));
                    }
                }
                ("cni_config_dir", Value::String(text)) => network.cni_config_dir = text.into(),
                ("bridge_network_name", Value::String(text)) => network.bridge_name = bridge_name(text)?,
                ("bridge_network_subnet", Value::String(text)) => network.bridge_subnet = subnet(text)?,
                ("bridge_network_hairpin_mode", Value::Bool(on)) => {
                    network.hairpin = if on { Hairpin::On } else { Hairpin::Off };
                }
                (
                    name @ ("cni_path" | "cni_config_dir" | "bridge_network_name" | "bridge_network_subnet"),
                    _,
                ) => return Err(format!("{name} must be text")),
                ("bridge_network_hairpin_mode", _) => {
                    return Err("bridge_network_hairpin_mode must be true or false".into());
                }
                (_, value) => rest.push((name, value)),
            }
        }
        let operator = OperatorConfig::decode(&Value::Map(rest)).map_err(|refused| refused.to_string())?;
        Ok(Machine { operator, volumes, network, host_networks })
    }
}

/// The longest name of an interface, in bytes.
const LONGEST_NAME: usize = 15;

/// A name that the kernel takes for an interface.
fn bridge_name(text: String) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if text.is_empty() || text.len() > LONGEST_NAME || !plain || text == "." || text == ".." {
        return Err(format!(
            "bridge_network_name: {text:?} must be 1 to 15 letters, digits, `-`, `_` and `.`"
        ));
    }
    Ok(text)
}

fn subnet(text: String) -> Result<String, String> {
    let sound = text.split_once('/').is_some_and(|(address, bits)| {
        let bits = bits.parse::<u8>().ok().filter(|bits| (8..=30).contains(bits));
        address.parse::<std::net::Ipv4Addr>().is_ok() && bits.is_some()
    });
    if sound {
        Ok(text)
    } else {
        Err(format!("bridge_network_subnet: {text:?} is no IPv4 network such as \"172.26.80.0/20\""))
    }
}

/// A block's label and what stands in it.
type Labelled = (String, Vec<(String, Value)>);

/// Blocks with one label, as a list of maps from the label to a list of one. `like` is what may stand in one.
fn blocks(kind: &str, like: &str, value: Value) -> Result<Vec<Labelled>, String> {
    let wrong = || format!("{kind} must be a block: {kind} \"name\" {{ {like} }}");
    let Value::List(blocks) = value else { return Err(wrong()) };
    let mut found = Vec::new();
    for block in blocks {
        let Value::Map(labels) = block else { return Err(wrong()) };
        for (name, body) in labels {
            let Value::List(bodies) = body else { return Err(wrong()) };
            for body in bodies {
                let Value::Map(options) = body else { return Err(wrong()) };
                found.push((name.clone(), options));
            }
        }
    }
    Ok(found)
}

/// As in a Nomad client: `cidr` and `interface`, one of both or both; and what it does not have, the `address` itself.
/// The reason of a refusal goes on after the block's name.
fn host_network(options: Vec<(String, Value)>) -> Result<HostNetwork, String> {
    let (mut address, mut cidrs, mut interface) = (None, Vec::new(), None);
    let mut reserved = Default::default();
    for (option, value) in options {
        match (option.as_str(), value) {
            ("address", Value::String(text)) => {
                let parsed: IpAddr = text
                    .parse()
                    .map_err(|_| format!(": address: {text:?} is no IP address of this machine"))?;
                address = Some(parsed);
            }
            ("cidr", Value::String(text)) => {
                let parsed = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>();
                cidrs = parsed.map_err(|error| format!(": cidr: {error}"))?;
            }
            ("interface", Value::String(text)) if text.contains("{{") => {
                return Err(format!(
                    ": interface: {text:?} is a template of go-sockaddr, which is not evaluated here; name the interface (`ip -br address` lists them), or say cidr"
                ));
            }
            ("interface", Value::String(text)) => {
                let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
                if text.is_empty() || text.len() > LONGEST_NAME || text.contains(odd) {
                    return Err(format!(
                        ": interface: {text:?} is no name of an interface; `ip -br address` lists them"
                    ));
                }
                interface = Some(text);
            }
            ("reserved_ports", Value::String(text)) => {
                reserved = text.parse().map_err(|error| format!(": reserved_ports: {error}"))?;
            }
            (other, _) => {
                return Err(format!(
                    ": {other} is not known, or not of its type; there are cidr, interface, address and reserved_ports, all of them text"
                ));
            }
        }
    }
    let place = match (address, cidrs.is_empty() && interface.is_none()) {
        (Some(address), true) => Place::Address(address),
        (None, false) => Place::Found { cidrs, interface },
        (Some(_), false) => {
            return Err(": address stands for itself; leave it out, or cidr and interface".into());
        }
        (None, true) => return Err(" needs cidr, interface or address".into()),
    };
    Ok(HostNetwork { place, reserved })
}

fn host_volume(name: &str, options: Vec<(String, Value)>) -> Result<HostVolume, String> {
    check_name(name).map_err(|error| error.to_string())?;
    let (mut path, mut access) = (None, Access::ReadWrite);
    for (option, value) in options {
        match (option.as_str(), value) {
            ("path", Value::String(text)) => {
                path = Some(
                    HostPath::new(&text).map_err(|error| format!("host_volume {name:?}: path: {error}"))?,
                );
            }
            ("read_only", Value::Bool(true)) => access = Access::ReadOnly,
            ("read_only", Value::Bool(false)) => access = Access::ReadWrite,
            (other, _) => {
                return Err(format!(
                    "host_volume {name:?}: {other} is not known, or not of its type; there are path (text) and read_only (true or false)"
                ));
            }
        }
    }
    let path = path.ok_or_else(|| format!("host_volume {name:?} needs path"))?;
    Ok(HostVolume { path, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_jobspec::SourceFile;

    fn machine(text: &str) -> Result<Machine, String> {
        let file = SourceFile::new("config.hcl", text.as_bytes().to_vec());
        Machine::of(crate::convert::config(&bivouac_jobspec::settings(&file).unwrap()))
    }

    #[test]
    fn volumes_and_networks_beside_the_drivers_options() {
        let text = "allow_mount = true\ncni_path = \"/a:/b\"\nbridge_network_name = \"br0\"\nbridge_network_subnet = \"10.9.0.0/24\"\nbridge_network_hairpin_mode = true\nhost_volume \"data\" {\n path = \"/srv/data\"\n}\nhost_volume \"logs\" {\n path = \"/var/log\"\n read_only = true\n}\nhost_network \"six\" {\n address = \"fd00::1\"\n}\nhost_network \"lan\" {\n cidr = \"10.0.0.0/8, fd00::/8\"\n interface = \"eth0\"\n reserved_ports = \"22,8500-8600\"\n}\nhost_network \"wan\" {\n interface = \"eth1\"\n}\n";
        let machine = machine(text).unwrap();
        assert!(machine.operator.allow_mount);
        assert_eq!(machine.network.cni_path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!((machine.network.bridge_name.as_str(), machine.network.hairpin), ("br0", Hairpin::On));
        assert_eq!(machine.network.bridge_subnet, "10.9.0.0/24");
        let six = HostNetwork::at("fd00::1".parse().unwrap());
        assert_eq!(machine.host_networks.0["six"], six);
        let lan = &machine.host_networks.0["lan"];
        let cidrs = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(lan.place, Place::Found { cidrs, interface: Some("eth0".into()) });
        assert!(lan.reserved.has(22) && lan.reserved.has(8550) && !lan.reserved.has(23));
        let wan = &machine.host_networks.0["wan"].place;
        assert_eq!(*wan, Place::Found { cidrs: Vec::new(), interface: Some("eth1".into()) });
        assert_eq!(machine.volumes["data"].access, Access::ReadWrite);
        assert_eq!(
            (machine.volumes["logs"].access, machine.volumes["logs"].path.to_string()),
            (Access::ReadOnly, "/var/log".into())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, needle) in [
            ("cni_path = 3", "cni_path must be text"),
            ("cni_path = \"bin\"", "cni_path"),
            ("bridge_network_subnet = \"10.0.0.0\"", "bridge_network_subnet"),
            ("bridge_network_subnet = \"::/64\"", "bridge_network_subnet"),
            ("bridge_network_name = \"a b\"", "bridge_network_name"),
            ("bridge_network_name = \"../../../etc/passwd\"", "bridge_network_name"),
            ("bridge_network_hairpin_mode = \"yes\"", "true or false"),
            ("host_volume \"x\" {\n}\n", "needs path"),
            ("host_volume \"../x\" {\n path = \"/\"\n}\n", "../x"),
            ("host_volume \"x\" {\n path = \"relative\"\n}\n", "relative"),
            ("host_volume \"x\" {\n pth = \"/\"\n}\n", "pth"),
            ("host_volume \"x\" {\n path = \"/\"\n}\nhost_volume \"x\" {\n path = \"/\"\n}\n", "twice"),
            ("host_volume = 3", "must be a block"),
            ("host_network = 3", "must be a block"),
            ("host_network \"x\" {\n}\n", "host_network \"x\" needs cidr, interface or address"),
            ("host_network \"x\" {\n address = \"eth0\"\n}\n", "no IP address"),
            ("host_network \"x\" {\n cidr = \"10.0.0.0\"\n}\n", "cidr: \"10.0.0.0\" is no range"),
            ("host_network \"x\" {\n cidr = \"10.0.0.0/8,\"\n}\n", "cidr: \"\" is no range"),
            ("host_network \"x\" {\n interface = \"a/b\"\n}\n", "interface: \"a/b\" is no name"),
            (
                "host_network \"x\" {\n interface = \"{{ GetPrivateInterfaces }}\"\n}\n",
                "template of go-sockaddr",
            ),
            (
                "host_network \"x\" {\n interface = \"e\"\n reserved_ports = \"9-8\"\n}\n",
                "reserved_ports: \"9-8\"",
            ),
            ("host_network \"x\" {\n interface = \"e\"\n address = \"::1\"\n}\n", "stands for itself"),
            ("host_network \"x\" {\n speed = 3\n}\n", "speed is not known"),
            (
                "host_network \"x\" {\n address = \"::1\"\n}\nhost_network \"x\" {\n address = \"::1\"\n}\n",
                "twice",
            ),
            ("allow_caps_ = []", "allow_caps_"),
        ] {
            let error = machine(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
