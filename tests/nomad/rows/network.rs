//! Name resolution.

use super::sh;
use crate::job::Job;
use crate::shared::ours;
use serde_json::json;

/// Covers: E22, D11, X46
#[test]
fn d11_name_resolution_as_the_group_says() {
    ours(|agent| {
        let job = |name, dns: serde_json::Value| {
            Job::batch(name, "bivouac", &["cat", "/etc/resolv.conf"])
                .group("Networks", json!([{"Mode": "host", "DNS": dns}]))
        };
        let all = json!({"Servers": ["192.0.2.1", "192.0.2.2"], "Searches": ["a.test", "b.test"], "Options": ["ndots:2", "edns0"]});
        let run = job("d11-all", all).finish(agent);
        let said = run.stdout_when(|seen| seen.contains("192.0.2.2"));
        for line in
            ["nameserver 192.0.2.1", "nameserver 192.0.2.2", "search a.test b.test", "options ndots:2 edns0"]
        {
            assert!(said.lines().any(|seen| seen == line), "{line} in {said}");
        }
        let run = job("d11-servers", json!({"Servers": ["192.0.2.3"]})).finish(agent);
        let said = run.stdout_when(|seen| seen.contains("nameserver"));
        let servers: Vec<&str> = said.lines().filter(|line| line.starts_with("nameserver")).collect();
        assert_eq!(servers, ["nameserver 192.0.2.3"]);

        let (_, said) = sh(agent, "d11-none", "bivouac", "cat /etc/resolv.conf");
        assert_eq!(said, std::fs::read_to_string("/etc/resolv.conf").expect("the host's file"));
    });
}
