//! What a plugin answers, read as a stranger's words: every field that reaches a task or a file is checked.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

/// What a chain of plugins came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The interface that tasks are told about; none before anything was attached.
    pub interface: Option<Interface>,
    /// Name servers that the plugins gave.
    pub resolver: Resolver,
    /// The last plugin's whole answer, which each is shown again when the network is removed.
    pub(super) previous: Option<Value>,
}

/// An interface inside the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name there.
    pub name: String,
    /// Its first IPv4 address, or its first address of any kind.
    pub address: IpAddr,
    /// Its first IPv6 address beside that.
    pub ipv6: Option<IpAddr>,
}

/// Name resolution as plugins give it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    interfaces: Vec<RawInterface>,
    #[serde(default)]
    ips: Vec<RawAddress>,
    #[serde(default)]
    dns: RawDns,
}

#[derive(Deserialize)]
struct RawInterface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct RawAddress {
    address: String,
    interface: Option<usize>,
}

#[derive(Default, Deserialize)]
struct RawDns {
    #[serde(default)]
    nameservers: Vec<String>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    search: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

impl Outcome {
    /// Reads the last answer of a chain: among the interfaces in our namespace the first by name that has an
    /// address; one without falls back to the first address there is.
    ///
    /// # Errors
    /// A sentence: no interface of ours, no address, or a field that could not be what it says it is.
    pub(super) fn read(answer: Value, namespace: &Path) -> Result<Outcome, String> {
        let read = Answer::deserialize(&answer).map_err(|error| error.to_string())?;
        let namespace = namespace.to_string_lossy();
        let mut ours: Vec<(usize, &RawInterface)> = read
            .interfaces
            .iter()
            .enumerate()
            .filter(|(_, interface)| interface.sandbox == namespace)
            .collect();
        ours.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        let first = ours.first().ok_or("it names no interface in the allocation's namespace")?.1;
        let all = read.ips.iter().map(|ip| Ok((address(&ip.address)?, ip.interface)));
        let all: Vec<(IpAddr, Option<usize>)> = all.collect::<Result<_, String>>()?;
        let of = |index: usize| all.iter().filter(move |(_, at)| *at == Some(index)).map(|(ip, _)| *ip);
        let (name, addresses): (&str, Vec<IpAddr>) = ours
            .iter()
            .map(|(index, interface)| (interface.name.as_str(), of(*index).collect::<Vec<_>>()))
            .find(|(_, addresses)| !addresses.is_empty())
            .unwrap_or((&first.name, all.iter().map(|(ip, _)| *ip).collect()));
        check_name(name)?;
        let address = addresses
            .iter()
            .find(|ip| ip.is_ipv4())
            .or(addresses.first())
            .copied()
            .ok_or("it gives no address")?;
        let ipv6 = addresses.iter().copied().find(|ip| ip.is_ipv6() && *ip != address);
        let interface = Some(Interface { name: name.to_owned(), address, ipv6 });
        Ok(Outcome { interface, resolver: resolver(read.dns)?, previous: Some(answer) })
    }
}

/// `address/prefix`, an address that one machine can have.
fn address(text: &str) -> Result<IpAddr, String> {
    let bad = || format!("{text:?} is not an address with a prefix");
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix.parse().map_err(|_| bad())?;
    let disguised = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if prefix > longest || ip.is_unspecified() || ip.is_multicast() || disguised {
        return Err(bad());
    }
    Ok(ip)
}

/// A name that the kernel would take: see `IFNAMSIZ` in netdevice(7).
fn check_name(name: &str) -> Result<(), String> {
    let bad = name.is_empty()
        || name.len() > 15
        || name.contains(['/', ':'])
        || name.contains(|c: char| c.is_whitespace() || c.is_control())
        || matches!(name, "." | "..");
    if bad { Err(format!("{name:?} cannot be an interface")) } else { Ok(()) }
}

fn resolver(dns: RawDns) -> Result<Resolver, String> {
    let servers = dns
        .nameservers
        .iter()
        .map(|server| server.parse().map_err(|_| format!("bad nameserver address {server:?}")));
    let servers = servers.collect::<Result<_, String>>()?;
    let searches: Vec<String> =
        dns.domain.into_iter().filter(|text| !text.is_empty()).chain(dns.search).collect();
    for word in searches.iter().chain(&dns.options) {
        // Each becomes a word of one line in resolv.conf.
        if word.is_empty() || word.contains(char::is_whitespace) || word.contains(char::is_control) {
            return Err(format!("{word:?} is not one word of a resolv.conf"));
        }
    }
    Ok(Resolver { servers, searches, options: dns.options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HERE: &str = "/run/netns/a";

    fn read(answer: Value) -> Result<Outcome, String> {
        Outcome::read(answer, Path::new(HERE))
    }

    /// Found by the fuzz target: a plugin is given back what it said, to the last digit.
    #[test]
    fn a_number_is_the_same_after_it_was_saved() {
        let text = r#"{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "10.0.0.2/8", "weight": 184.6744073719551615}]}"#;
        let outcome = read(serde_json::from_str(text).unwrap()).unwrap();
        let saved = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&saved).unwrap(), outcome);
    }

    /// Covers: W46
    #[test]
    fn the_first_interface_with_an_address_wins() {
        let outcome = read(json!({
            "cniVersion": "0.4.0",
            "interfaces": [
                { "name": "bivouac" },
                { "name": "veth1" },
                { "name": "eth1", "sandbox": HERE },
                { "name": "eth0", "sandbox": HERE },
                { "name": "eth2", "sandbox": HERE },
            ],
            "ips": [
                { "version": "6", "address": "fd00::2/64", "interface": 2 },
                { "version": "4", "address": "10.0.0.2/24", "interface": 2 },
                { "version": "4", "address": "10.0.1.2/24", "interface": 4 },
            ],
            "dns": { "nameservers": ["10.0.0.1"], "domain": "d.example", "search": ["s.example"], "options": ["ndots:2"] },
        }))
        .unwrap();
        let interface = outcome.interface.unwrap();
        assert_eq!((interface.name.as_str(), interface.address.to_string()), ("eth1", "10.0.0.2".to_owned()));
        assert_eq!(interface.ipv6.unwrap().to_string(), "fd00::2");
        assert_eq!(outcome.resolver.searches, ["d.example", "s.example"]);
    }

    /// Covers: W46
    #[test]
    fn an_interface_without_address_takes_the_first() {
        let outcome = read(json!({
            "interfaces": [{ "name": "eth0", "sandbox": HERE }],
            "ips": [{ "address": "10.0.0.9/8" }],
        }));
        assert_eq!(outcome.unwrap().interface.unwrap().address.to_string(), "10.0.0.9");
    }

    /// Covers: CVE-2026-23953
    #[test]
    fn strange_answers_are_refused() {
        let with = |name: &str, sandbox: &str, address: &str| json!({ "interfaces": [{ "name": name, "sandbox": sandbox }], "ips": [{ "address": address, "interface": 0 }] });
        let good = with("eth0", HERE, "10.0.0.2/24");
        assert!(read(good.clone()).is_ok());
        let mut dns = good;
        dns["dns"] = json!({ "search": ["a\nnameserver 6.6.6.6"] });
        for (answer, part) in [
            (json!("words"), "invalid"),
            (json!({}), "no interface"),
            (with("eth0", "/run/netns/other", "10.0.0.2/24"), "no interface"),
            (json!({ "interfaces": [{ "name": "eth0", "sandbox": HERE }] }), "no address"),
            (with("../x", HERE, "10.0.0.2/24"), "interface"),
            (with("a-name-of-16-bytes", HERE, "10.0.0.2/24"), "interface"),
            (with("a\0b", HERE, "10.0.0.2/24"), "interface"),
            (with("a\u{1b}[31m", HERE, "10.0.0.2/24"), "interface"),
            (with("eth0", HERE, "0.0.0.0/0"), "not an address"),
            (with("eth0", HERE, "10.0.0.2"), "not an address"),
            (with("eth0", HERE, "fd00::1/129"), "not an address"),
            (with("eth0", HERE, "::ffff:10.0.0.2/64"), "not an address"),
            (with("eth0", HERE, "10.0.0.2/24\n"), "not an address"),
            (dns, "resolv.conf"),
        ] {
            let text = read(answer.clone()).unwrap_err();
            assert!(text.contains(part), "{answer}: {text}");
        }
    }
}
