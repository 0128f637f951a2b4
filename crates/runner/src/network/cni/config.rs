//! Lists of plugins: our bridge, generated, and those an administrator wrote.

use super::chain::Chain;
use super::{CniError, plain_name};
use crate::network::{Hairpin, Settings, firewall};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 256 * 1024;
/// The endings that other CNI programs look for.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// The chain of `mode = "bridge"`: loopback, bridge, firewall, port maps.
pub fn bridge(settings: &Settings) -> Chain {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": settings.bridge_subnet }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dataDir": "/run/bivouac/cni",
    });
    let plugins = json!([
        { "type": "loopback" },
        {
            "type": "bridge",
            "bridge": settings.bridge_name,
            "ipMasq": true,
            "isGateway": true,
            "forceAddress": true,
            "hairpinMode": settings.hairpin == Hairpin::On,
            "ipam": ipam,
        },
        {
            "type": "firewall",
            "backend": "iptables",
            "iptablesAdminChainName": firewall::ADMIN_CHAIN,
        },
        { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
    ]);
    let objects = |value: Value| match value {
        Value::Array(all) => all.into_iter().filter_map(object).collect(),
        _ => Vec::new(),
    };
    Chain { name: settings.bridge_name.clone(), version: "0.4.0".into(), plugins: objects(plugins) }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// The configuration of this name among the files of a directory, in the order of their names.
///
/// # Errors
/// [`CniError::NoConfiguration`], [`CniError::Configuration`] for the file of that name when it is not sound. A file
/// that is not sound and does not say its name is passed over: it may be somebody else's.
pub fn find(directory: &Path, name: &str) -> Result<Chain, CniError> {
    plain_name("the CNI network", name)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| {
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| ENDINGS.contains(&end))
    });
    files.sort();
    for path in files {
        let Some(map) =
            read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).and_then(object)
        else {
            continue;
        };
        if map.get("name").and_then(Value::as_str) == Some(name) {
            return chain(map).map_err(|text| CniError::Configuration { path, text });
        }
    }
    Err(CniError::NoConfiguration { name: name.to_owned(), directory: directory.to_path_buf() })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    if !std::fs::File::from(file.try_clone()?).metadata()?.is_file() {
        return Err(rustix::io::Errno::INVAL.into());
    }
    std::fs::File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A list of plugins, or a single one, as a chain.
fn chain(mut map: Map<String, Value>) -> Result<Chain, String> {
    let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text(&map, "name").unwrap_or_default();
    let version = text(&map, "cniVersion").unwrap_or_else(|| "0.4.0".into());
    if !matches!(version.as_str(), "0.3.0" | "0.3.1" | "0.4.0" | "1.0.0" | "1.1.0") {
        return Err(format!("version {version:?} is not known; 0.3.0 to 1.1.0 are"));
    }
    let plugins = match map.remove("plugins") {
        Some(Value::Array(plugins)) if !plugins.is_empty() => plugins
            .into_iter()
            .map(|plugin| object(plugin).ok_or("an entry of \"plugins\" is not an object".to_owned()))
            .collect::<Result<Vec<_>, _>>()?,
        Some(_) => return Err("\"plugins\" must be a list with at least one entry".into()),
        None => vec![map],
    };
    for plugin in &plugins {
        let kind = text(plugin, "type").ok_or("a plugin without \"type\"")?;
        plain_name("the type of a CNI plugin", &kind).map_err(|error| error.to_string())?;
    }
    Ok(Chain { name, version, plugins })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Nomad's five lists those that there are here: no IPv6 subnet can be set, and Consul is another system.
    ///
    /// Covers: W44
    #[test]
    fn the_bridge_as_a_snapshot() {
        let mut settings = Settings::default();
        insta::assert_json_snapshot!("bridge", bridge(&settings));
        settings.hairpin = Hairpin::On;
        settings.bridge_name = "quo\"ted".into();
        settings.bridge_subnet = "10.9.0.0/16".into();
        insta::assert_json_snapshot!("bridge_of_the_operator", bridge(&settings));
    }

    /// Covers: Z26, W46
    #[test]
    fn all_formats_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("10-a.conf", r#"{"cniVersion":"0.4.0","name":"one","type":"ptp"}"#);
        write(
            "20-b.conflist",
            r#"{"cniVersion":"1.0.0","name":"two","plugins":[{"type":"ptp"},{"type":"tuning"}]}"#,
        );
        write("30-c.json", r#"{"name":"three","type":"ptp"}"#);
        write("05-broken.conf", "{");
        write("40-evil.conflist", r#"{"name":"evil","plugins":[{"type":"../../bin/sh"}]}"#);
        write("50-empty.conflist", r#"{"name":"empty","plugins":[]}"#);
        write("60-new.conf", r#"{"cniVersion":"9.0.0","name":"new","type":"ptp"}"#);
        write("70-other.txt", r#"{"name":"other","type":"ptp"}"#);
        let found = |name: &str| find(dir.path(), name);
        assert_eq!(found("one").unwrap().plugins.len(), 1);
        assert_eq!(found("two").unwrap().plugins.len(), 2);
        assert_eq!(found("three").unwrap().version, "0.4.0");
        for (name, part) in [
            ("evil", "must be one plain file name"),
            ("empty", "at least one entry"),
            ("new", "9.0.0"),
            ("other", "no CNI configuration"),
            ("../one", "one plain file name"),
            ("", "one plain file name"),
            (".", "one plain file name"),
        ] {
            let text = found(name).unwrap_err().to_string();
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}
