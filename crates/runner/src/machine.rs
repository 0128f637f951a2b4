//! What the operator says about this machine, in `/etc/bivouac/config.hcl`: the driver's options, host volumes, and
//! networks, the last two named as a Nomad client names them.

use crate::network::{Hairpin, Settings};
use crate::volumes::{HostVolume, HostVolumes, check_name};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::options::Value;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Access;
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
        for (name, value) in entries {
            match (name.as_str(), value) {
                ("host_volume", value) => volumes.extend(host_volumes(value)?),
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
        Ok(Machine { operator, volumes, network })
    }
}

/// A name that the kernel takes for an interface.
fn bridge_name(text: String) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if text.is_empty() || text.len() > 15 || !plain || text == "." || text == ".." {
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

/// Blocks `host_volume "<name>" { path, read_only }`, as a list of maps from the name to a list of one.
fn host_volumes(value: Value) -> Result<HostVolumes, String> {
    let wrong = || "host_volume must be a block: host_volume \"name\" { path = \"/...\" }".to_owned();
    let Value::List(blocks) = value else { return Err(wrong()) };
    let mut volumes = HostVolumes::new();
    for block in blocks {
        let Value::Map(labels) = block else { return Err(wrong()) };
        for (name, body) in labels {
            let Value::List(bodies) = body else { return Err(wrong()) };
            for body in bodies {
                let Value::Map(options) = body else { return Err(wrong()) };
                let volume = host_volume(&name, options)?;
                if volumes.insert(name.clone(), volume).is_some() {
                    return Err(format!("host_volume {name:?} stands twice"));
                }
            }
        }
    }
    Ok(volumes)
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
        let text = "allow_mount = true\ncni_path = \"/a:/b\"\nbridge_network_name = \"br0\"\nbridge_network_subnet = \"10.9.0.0/24\"\nbridge_network_hairpin_mode = true\nhost_volume \"data\" {\n path = \"/srv/data\"\n}\nhost_volume \"logs\" {\n path = \"/var/log\"\n read_only = true\n}\n";
        let machine = machine(text).unwrap();
        assert!(machine.operator.allow_mount);
        assert_eq!(machine.network.cni_path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!((machine.network.bridge_name.as_str(), machine.network.hairpin), ("br0", Hairpin::On));
        assert_eq!(machine.network.bridge_subnet, "10.9.0.0/24");
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
            ("allow_caps_ = []", "allow_caps_"),
        ] {
            let error = machine(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
