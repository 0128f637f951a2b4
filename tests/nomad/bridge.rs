//! A group with a bridge network: the client makes it with the CNI plugins of the system, our tasks join it.
//!
//! The agent has a network namespace of its own, so that the host's firewall stays as it is.

use crate::agent::{Agent, Plugin, Setup, program};
use crate::house::Network;
use crate::real_plugin;
use std::path::Path;

/// Where Debian's `containernetworking-plugins` puts them.
const PLUGINS: &str = "/usr/lib/cni";

/// What this machine lacks, if anything.
fn lacking() -> Option<String> {
    let missing = |path: &str| (!Path::new(path).exists()).then(|| format!("there is no {path}"));
    ["bridge", "firewall", "portmap", "host-local", "loopback"]
        .iter()
        .find_map(|name| missing(&format!("{PLUGINS}/{name}")))
}

/// Covers: Z25, Z31
#[test]
fn z25_a_bridge_network_with_ports_and_name_resolution() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: bridge: {why}")) else { return };
    if let Some(why) = lacking() {
        return println!("SKIPPED: bridge: {why}");
    }
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugins = [Plugin { file: "bivouac", program: &plugin, block: "" }];
    let client = format!("cni_path = \"{PLUGINS}\"");
    let setup = Setup {
        plugins: &plugins,
        env: &[("BIVOUAC_SHIM", &shim)],
        client: &client,
        network: Network::Own,
        ..Setup::default()
    };
    let mut agent = Agent::prepare(&nomad, setup);
    agent.launch();
    agent.wait_for_driver("bivouac");
    let file = crate::face::job("z25");
    let file = file.to_str().expect("a plain path");
    let said = agent.nomad(&["job", "run", "-detach", file]);
    assert_eq!(said.code, 0, "{said:?}");
    let run = agent.found("z25");
    run.wait_for("running");
    let said = run.stdout_has("END\n");
    let fact = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name} in {said}")).to_owned()
    };
    assert_eq!((fact("interface").as_str(), fact("port").as_str()), ("eth0", "8080"));
    let address = fact("ip");
    assert!(address.starts_with("172.26."), "{address}");
    assert_eq!(fact("addr"), format!("{address}:8080"));
    assert!(said.contains("eth0:"), "{said}");
    assert!(said.contains("nameserver 192.0.2.53") && said.contains("search bridge.test"), "{said}");
    let own = run.exec(&["readlink", "/proc/self/ns/net"]).stdout;
    assert_ne!(own, agent.house.ask("readlink", &["/proc/self/ns/net"]));

    // The other task of the group is in the same network; the host reaches it over the bridge and the mapped port.
    let page = run.dir().join("alloc/data/fetched");
    crate::waiting::wait_until("the other task", || {
        std::fs::read_to_string(&page).is_ok_and(|text| text == "served\n")
    });
    let fetch =
        |at: &str| agent.house.ask("curl", &["-sS", "--max-time", "20", &format!("http://{at}/page")]);
    assert_eq!(fetch(&format!("{address}:8080")), "served\n");
    assert_eq!(fetch(&format!("127.0.0.1:{}", fact("host port"))), "served\n");
    run.stop();
    run.nothing_left();

    // The group's host name is the client's to refuse.
    let text = std::fs::read_to_string(file)
        .expect("the job")
        .replace("mode = \"bridge\"", "mode = \"bridge\"\n      hostname = \"theirs\"");
    let named = agent.dir.join("named.nomad.hcl");
    std::fs::write(&named, text.replace("job \"z25\"", "job \"z25-named\"")).expect("a job file");
    assert_eq!(agent.nomad(&["job", "run", "-detach", named.to_str().expect("a plain path")]).code, 0);
    agent.found("z25-named").wait_for("failed");
    assert!(!agent.log_lines("hostname is not currently supported on driver bivouac").is_empty());
}
