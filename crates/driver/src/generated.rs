//! Files made for an allocation: resolv.conf, hosts and hostname. Text in, text out; writing is the caller's.
//!
//! Every field is checked before it becomes part of a line, so that none can become a line of its own.

use crate::config::{Dns, HostLine};
use crate::options::quoted;
use bivouac_sandbox::model::Hostname;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where systemd-resolved keeps the servers behind its stub.
pub const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Why a file cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Not an address.
    #[error("bad nameserver address {0}: an IPv4 or IPv6 address is needed")]
    Server(String),
    /// Not a domain.
    #[error("dns search domain {0} is refused: letters, digits, `-`, `_` and `.`, at most 253 of them")]
    Search(String),
    /// Not an option.
    #[error("dns option {0} is refused: letters, digits, `-`, `_` and `:`")]
    Option(String),
}

/// What of a resolv.conf(5) matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or_default();
        let rest = words.map(str::to_owned);
        match key {
            "nameserver" => resolver.servers.extend(rest.take(1)),
            // The last one counts.
            "search" | "domain" => resolver.searches = rest.collect(),
            "options" => resolver.options.extend(rest),
            _ => {}
        }
    }
    resolver
}

/// Whether every server of a resolv.conf answers only on the host's own loopback.
pub fn is_stub(text: &str) -> bool {
    let servers = parse(text).servers;
    let local = |server: &String| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !servers.is_empty() && servers.iter().all(local)
}

/// The resolv.conf of an allocation. What `dns` leaves empty comes from `system`; nothing set means the system's
/// text as it is.
///
/// # Errors
/// [`GenerateError`] for the first field that cannot stand in the file.
pub fn resolv_conf(dns: &Dns, system: &str) -> Result<String, GenerateError> {
    if *dns == Dns::default() {
        return Ok(system.to_owned());
    }
    check_all(&dns.servers, is_server, GenerateError::Server)?;
    check_all(&dns.searches, is_domain, GenerateError::Search)?;
    check_all(&dns.options, is_option, GenerateError::Option)?;
    let system = parse(system);
    let or = |own: &[String], system: Vec<String>| if own.is_empty() { system } else { own.to_vec() };
    let mut text = String::new();
    for server in or(&dns.servers, system.servers) {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (key, words) in
        [("search", or(&dns.searches, system.searches)), ("options", or(&dns.options, system.options))]
    {
        if !words.is_empty() {
            let _ = writeln!(text, "{key} {}", words.join(" "));
        }
    }
    Ok(text)
}

fn check_all(
    fields: &[String],
    sound: fn(&str) -> bool,
    error: fn(String) -> GenerateError,
) -> Result<(), GenerateError> {
    match fields.iter().find(|field| !sound(field)) {
        Some(field) => Err(error(quoted(field))),
        None => Ok(()),
    }
}

/// An address; a link-local one of IPv6 may name its interface.
fn is_server(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let zone_is_name = |zone: &str| {
        (1..=15).contains(&zone.len())
            && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match (address.parse::<IpAddr>(), zone) {
        (Ok(_), None) => true,
        (Ok(IpAddr::V6(_)), Some(zone)) => zone_is_name(zone),
        _ => false,
    }
}

fn is_domain(text: &str) -> bool {
    text == "."
        || (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_option(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b))
}

/// What a hosts file says about the allocation itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHost {
    /// Its name.
    pub name: Hostname,
    /// Its address; 127.0.1.1 when it has none of its own.
    pub address: Option<IpAddr>,
}

/// The hosts file of an allocation: `base` (the host's own file, for a task in the host's network) or the usual
/// local names, then the allocation's own name, then `extra`.
pub fn hosts(base: Option<&str>, own: Option<&OwnHost>, extra: &[HostLine]) -> String {
    const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost\n::1 ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\n\
                         ff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\nff02::3 ip6-allhosts\n";
    let mut text = base.unwrap_or(LOCAL).to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(own) = own {
        let address = own.address.unwrap_or(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1)));
        let _ = writeln!(text, "# the name of this allocation\n{address} {}", own.name.as_str());
        if address == IpAddr::V6(Ipv6Addr::LOCALHOST) {
            let _ = writeln!(text, "127.0.1.1 {}", own.name.as_str());
        }
    }
    if !extra.is_empty() {
        text.push_str("# extra_hosts of the job\n");
    }
    for line in extra {
        let _ = writeln!(text, "{} {}", line.address, line.name.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SYSTEM: &str =
        "# by hand\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch corp.example example\noptions ndots:2\n";

    fn dns(servers: &[&str], searches: &[&str], options: &[&str]) -> Dns {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Dns { servers: own(servers), searches: own(searches), options: own(options) }
    }

    /// Covers: X46
    #[test]
    fn x46_nothing_set_is_the_systems_file() {
        assert_eq!(resolv_conf(&Dns::default(), SYSTEM).unwrap(), SYSTEM);
    }

    /// Covers: E22, D11
    #[test]
    fn e22_d11_what_is_set_appears_and_the_rest_is_the_systems() {
        let servers = dns(&["1.1.1.1", "fe80::1%eth0"], &[], &[]);
        assert_eq!(
            resolv_conf(&servers, SYSTEM).unwrap(),
            "nameserver 1.1.1.1\nnameserver fe80::1%eth0\nsearch corp.example example\noptions ndots:2\n"
        );
        let all = dns(&["8.8.4.4"], &["local.test"], &["ndots:5", "edns0"]);
        assert_eq!(
            resolv_conf(&all, SYSTEM).unwrap(),
            "nameserver 8.8.4.4\nsearch local.test\noptions ndots:5 edns0\n"
        );
        assert_eq!(resolv_conf(&dns(&["::1"], &[], &[]), "").unwrap(), "nameserver ::1\n");
    }

    #[test]
    fn no_field_becomes_a_line_of_its_own() {
        let error = |dns: Dns| resolv_conf(&dns, "").unwrap_err().to_string();
        for server in
            ["", "dns.example", "1.1.1.1\nnameserver 6.6.6.6", "1.1.1.1 ", "1.1.1", "1.1.1.1%x", "::1%a b"]
        {
            assert!(error(dns(&[server], &[], &[])).starts_with("bad nameserver address "), "{server}");
        }
        for search in ["", "a b", "a\nb", "a\0", "a;b", "ä"] {
            assert!(error(dns(&[], &[search], &[])).contains("search domain"), "{search}");
        }
        assert!(error(dns(&[], &[], &["a\rb"])).contains("dns option"));
    }

    #[test]
    fn a_stub_is_known_by_its_addresses() {
        assert!(is_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\n"));
        assert!(is_stub("nameserver ::1\nnameserver 127.0.0.1\n"));
        assert!(!is_stub(SYSTEM));
        assert!(!is_stub(""));
    }

    /// Covers: X50
    #[test]
    fn x50_hosts() {
        let own = |address: Option<&str>| OwnHost {
            name: Hostname::new("web-0").unwrap(),
            address: address.map(|a| a.parse().unwrap()),
        };
        let extra = [HostLine::parse("db:10.1.1.1").unwrap(), HostLine::parse("six:[2001:db8::1]").unwrap()];
        let text = hosts(None, Some(&own(Some("172.26.64.9"))), &extra);
        assert!(text.starts_with("127.0.0.1 localhost\n::1 localhost\n"), "{text}");
        assert!(text.ends_with(
            "# the name of this allocation\n172.26.64.9 web-0\n# extra_hosts of the job\n10.1.1.1 db\n2001:db8::1 six\n"
        ), "{text}");
        assert_eq!(
            hosts(Some("1.2.3.4 me"), Some(&own(None)), &[]),
            "1.2.3.4 me\n# the name of this allocation\n127.0.1.1 web-0\n"
        );
        assert_eq!(hosts(Some("1.2.3.4 me\n"), None, &[]), "1.2.3.4 me\n");
        assert!(hosts(None, Some(&own(Some("2001:db8::7"))), &[]).contains("2001:db8::7 web-0\n"));
    }

    proptest! {
        #[test]
        fn a_made_file_has_one_line_for_each_server(servers in proptest::collection::vec("\\PC{0,20}|[0-9.]{7}", 0..4), system in "\\PC{0,60}") {
            let dns = Dns { servers: servers.clone(), ..Dns::default() };
            if !servers.is_empty() && let Ok(text) = resolv_conf(&dns, &system) {
                prop_assert_eq!(text.lines().filter(|line| line.starts_with("nameserver ")).count(), servers.len());
            }
        }
    }
}
