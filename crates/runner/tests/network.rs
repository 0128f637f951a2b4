//! Networks of allocations with the real CNI plugins: real traffic between namespaces, all of it inside a network
//! namespace that the test makes for itself, so that this machine's interfaces and firewall stay as they are.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what it skips, and fails by panicking"
)]

use bivouac_runner::network::{Attached, Mode, Port, Settings, Wish, plan, set_up, tear_down};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const INSIDE: &str = "BIVOUAC_TEST_OWN_NETWORK";

/// Runs the test of this name once more in a network and mount namespace of its own; true when this is that run.
fn in_own_network(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let lacks = [
        (!rustix::process::geteuid().is_root(), "needs root"),
        (!Path::new("/usr/lib/cni/bridge").exists(), "no CNI plugins (containernetworking-plugins)"),
        (!Path::new("/usr/sbin/iptables").exists(), "no iptables"),
    ];
    if let Some((_, why)) = lacks.iter().find(|(lacks, _)| *lacks) {
        println!("SKIPPED: {name}: {why}");
        return false;
    }
    // sysfs shows the network it was mounted from, and plugins write below it.
    let script = "ip link set lo up && mount -t sysfs sysfs /sys && mkdir -p /run/netns && mount -t tmpfs tmpfs /run && mkdir -p /run/netns && exec \"$0\" --exact \"$1\" --nocapture";
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    // Its lines are told only when it failed: one result a test.
    assert!(output.status.success(), "inside its own network: {}", said(&output));
    assert!(said(&output).contains("1 passed"), "it ran: {}", said(&output));
    false
}

fn inside(network: &Attached, program: &str, arguments: &[&str]) -> Output {
    let netns = format!("--net={}", network.namespace.path().display());
    Command::new("nsenter").arg(netns).arg(program).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A server that says one line to whoever connects, inside a network.
struct Server(std::process::Child);

impl Server {
    fn start(network: &Attached, port: u16, line: &str) -> Server {
        let netns = format!("--net={}", network.namespace.path().display());
        let script = format!("while :; do echo {line} | busybox nc -l -p {port} -w 5; done");
        let child = Command::new("nsenter")
            .args([netns.as_str(), "sh", "-c", &script])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        listens(network, port);
        Server(child)
    }
}

/// Waits until the server listens: it serves one connection, then begins anew.
fn listens(network: &Attached, port: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !said(&inside(network, "busybox", &["netstat", "-ltn"])).contains(&format!(":{port} ")) {
        assert!(Instant::now() < deadline, "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_line(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn wish<'a>(alloc_id: &'a str, mode: Mode, ports: &'a [Port]) -> Wish<'a> {
    Wish { alloc_id, mode, ports, args: BTreeMap::new() }
}

fn links() -> String {
    said(&Command::new("ip").args(["-o", "link"]).output().unwrap())
}

fn rules() -> String {
    said(&Command::new("iptables").args(["-w", "-t", "nat", "-S"]).output().unwrap())
}

/// Covers: T122, T123, W45, Z31, CVE-2025-67499
#[test]
fn bridge_networks_talk_and_leave_nothing() {
    if !in_own_network("bridge_networks_talk_and_leave_nothing") {
        return;
    }
    let settings = Settings::default();
    let ports = [Port { label: "http".into(), host: 18080, inside: 8080, address: None }];
    let server =
        set_up(&plan(&wish("alloc-a", Mode::Bridge, &ports), &settings).unwrap(), &settings).unwrap();
    let client = set_up(&plan(&wish("alloc-b", Mode::Bridge, &[]), &settings).unwrap(), &settings).unwrap();
    // The rule that accepts what goes to the bridge is there once, however many networks there are.
    let admin = said(&Command::new("iptables").args(["-w", "-S", "BIVOUAC-ADMIN"]).output().unwrap());
    let rule = "-A BIVOUAC-ADMIN -d 172.26.80.0/20 -o bivouac -j ACCEPT";
    assert_eq!(admin.lines().filter(|line| *line == rule).count(), 1, "{admin}");
    let namespace = said(&inside(&server, "readlink", &["/proc/self/ns/net"]));
    assert_ne!(namespace.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy());
    let address = server.outcome.interface.as_ref().unwrap().address.to_string();
    assert!(address.starts_with("172.26.8"), "{address}");
    assert_eq!(server.outcome.interface.as_ref().unwrap().name, "eth0");
    {
        let _running = Server::start(&server, 8080, "hello");
        // From another allocation, to the allocation's own address.
        let netns = format!("--net={}", client.namespace.path().display());
        let mut there = Command::new("nsenter");
        there.args([netns.as_str(), "busybox", "nc", "-w", "5", &address, "8080"]);
        assert_eq!(read_line(&mut there), "hello");
        // From the host, through the mapped port.
        listens(&server, 8080);
        let mut mapped = Command::new("busybox");
        mapped.args(["nc", "-w", "5", "127.0.0.1", "18080"]);
        assert_eq!(read_line(&mut mapped), "hello", "{}", rules());
    }
    // The mapped port is this host's: an address that is not is asked itself, and is not there.
    let netns = format!("--net={}", client.namespace.path().display());
    let mut foreign = Command::new("nsenter");
    foreign.args([netns.as_str(), "busybox", "nc", "-w", "2", "198.51.100.7", "18080"]);
    assert_eq!(read_line(&mut foreign), "", "{}", rules());
    // Loopback is up, IPv6 router advertisements are refused.
    assert!(inside(&client, "busybox", &["ping", "-c1", "127.0.0.1"]).status.success());
    let accept = inside(&client, "cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"]);
    assert_eq!(said(&accept).trim(), "0");
    assert!(rules().contains("18080"));

    for network in [&server, &client] {
        tear_down(network, &settings).unwrap();
        tear_down(network, &settings).expect("twice is no error");
        assert!(!network.namespace.path().exists());
    }
    let (links, rules) = (links(), rules());
    assert!(!links.contains("veth"), "{links}");
    assert!(!rules.contains("18080") && !rules.contains("alloc-a"), "{rules}");
}

/// A port on one of the host's networks answers there and on no other address of the host, and what a neighbour
/// says about routes is not believed.
///
/// Covers: CVE-2025-67499
#[test]
fn a_mapped_port_answers_on_the_address_that_was_asked_for_only() {
    if !in_own_network("a_mapped_port_answers_on_the_address_that_was_asked_for_only") {
        return;
    }
    for address in ["10.99.0.1/32", "10.99.0.2/32"] {
        assert!(Command::new("ip").args(["addr", "add", address, "dev", "lo"]).status().unwrap().success());
    }
    let settings = Settings::default();
    let port = |host, address: Option<&str>| Port {
        label: "http".into(),
        host,
        inside: 8080,
        address: address.map(|address| address.parse().unwrap()),
    };
    let ports = [port(18082, Some("10.99.0.1")), port(18083, None)];
    let server =
        set_up(&plan(&wish("alloc-j", Mode::Bridge, &ports), &settings).unwrap(), &settings).unwrap();
    {
        let _running = Server::start(&server, 8080, "hello");
        let answers = |address: &str, port: &str| {
            listens(&server, 8080);
            read_line(Command::new("busybox").args(["nc", "-w", "5", address, port]))
        };
        assert_eq!(answers("10.99.0.1", "18082"), "hello", "{}", rules());
        for other in ["10.99.0.2", "127.0.0.1", "172.26.80.1"] {
            assert_eq!(answers(other, "18082"), "", "{other}: {}", rules());
        }
        // The check can fail: a port without a host network is on all of them.
        assert_eq!(answers("10.99.0.2", "18083"), "hello", "{}", rules());
    }
    let accept = inside(&server, "cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"]);
    assert_eq!(said(&accept).trim(), "0");
    tear_down(&server, &settings).unwrap();
}

/// Covers: W46
#[test]
fn what_a_crash_left_is_torn_down_from_its_record() {
    if !in_own_network("what_a_crash_left_is_torn_down_from_its_record") {
        return;
    }
    let settings = Settings::default();
    let ports = [Port { label: "p".into(), host: 18081, inside: 81, address: None }];
    let planned = plan(&wish("alloc-c", Mode::Bridge, &ports), &settings).unwrap();
    let intent = serde_json::to_string(&planned.intent()).unwrap();
    set_up(&planned, &settings).unwrap();
    assert!(
        set_up(&planned, &settings).unwrap_err().to_string().contains("alloc-c"),
        "a used one never returns"
    );
    let recorded: Attached = serde_json::from_str(&intent).unwrap();
    tear_down(&recorded, &settings).unwrap();
    let (links, rules) = (links(), rules());
    assert!(!links.contains("veth") && !rules.contains("18081"), "{links}{rules}");
}

/// Covers: T120
#[test]
fn none_has_a_loopback_of_its_own() {
    if !in_own_network("none_has_a_loopback_of_its_own") {
        return;
    }
    let settings = Settings::default();
    let make = |id| set_up(&plan(&wish(id, Mode::None, &[]), &settings).unwrap(), &settings).unwrap();
    let (one, two) = (make("alloc-d"), make("alloc-e"));
    for network in [&one, &two] {
        let shown = said(&inside(network, "ip", &["-o", "link"]));
        assert!(shown.contains("lo:") && shown.lines().count() == 1 && shown.contains(",UP"), "{shown}");
    }
    let _first = Server::start(&one, 99, "one");
    let _second = Server::start(&two, 99, "two");
    let netns = format!("--net={}", two.namespace.path().display());
    let mut there = Command::new("nsenter");
    there.args([netns.as_str(), "busybox", "nc", "-w", "5", "127.0.0.1", "99"]);
    assert_eq!(read_line(&mut there), "two");
    for network in [&one, &two] {
        tear_down(network, &settings).unwrap();
    }
}

/// A plugin that is a script of ours, in a directory with a configuration that names it.
fn scripted(folder: &Path, script: &str) -> Settings {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(folder.join("odd"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(folder.join("odd"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("odd.conf"), r#"{"name":"odd","type":"odd"}"#).unwrap();
    Settings { cni_path: vec![folder.into()], cni_config_dir: folder.into(), ..Settings::default() }
}

/// Covers: CVE-2021-20206, 4-network
#[test]
fn plugins_that_misbehave_are_named_and_leave_nothing() {
    if !in_own_network("plugins_that_misbehave_are_named_and_leave_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let logged = format!("echo $CNI_COMMAND >>{}", log.display());
    for (script, part) in [
        ("cat >/dev/null; echo garbage", "cannot be used"),
        ("cat >/dev/null; echo '{} {}'", "cannot be used"),
        ("cat >/dev/null; echo 'text {\"ips\":[]}'", "cannot be used"),
        ("cat >/dev/null", "no interface"),
        (
            "cat >/dev/null; echo '{\"code\": 7, \"msg\": \"no\", \"details\": \"because\"}'",
            "no: because (code 7)",
        ),
        (
            "cat >/dev/null; echo '{\"code\": 7, \"msg\": \"no\"}'; exit 1",
            "refused to add the network: no (code 7)",
        ),
        ("echo words >&2; exit 3", "refused to add the network: words"),
        ("cat >/dev/null; head -c 3000000 /dev/zero", "says too much"),
    ] {
        let _ = std::fs::remove_file(&log);
        let settings =
            scripted(folder.path(), &format!("{logged}\n[ $CNI_COMMAND = DEL ] && exit 0\n{script}"));
        let planned = plan(&wish("alloc-f", Mode::Cni("odd".into()), &[]), &settings).unwrap();
        let text = set_up(&planned, &settings).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains("\"odd\""), "{script}: {text}");
        assert!(!planned.intent().namespace.path().exists(), "{script}");
        let calls = std::fs::read_to_string(&log).unwrap();
        assert!(calls.trim_end().ends_with("DEL"), "{script}: DEL is called after a failure: {calls}");
    }
    for kind in ["../odd", "/bin/sh", "a/b", ".", ""] {
        let text = format!("{{\"name\":\"evil\",\"type\":{kind:?}}}");
        std::fs::write(folder.path().join("evil.conf"), text).unwrap();
        let settings = scripted(folder.path(), "exit 0");
        let error = plan(&wish("alloc-g", Mode::Cni("evil".into()), &[]), &settings).unwrap_err().to_string();
        assert!(error.contains("one plain file name"), "{kind}: {error}");
    }
}

/// A plugin that has no address now may have one when what its first try left is gone.
///
/// Covers: W46
#[test]
fn a_refused_attachment_is_cleaned_up_and_tried_again_and_others_are_not() {
    if !in_own_network("a_refused_attachment_is_cleaned_up_and_tried_again_and_others_are_not") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let answer =
        r#"{"interfaces":[{"name":"eth0","sandbox":"%s"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}"#;
    let attempts = |refused: u32, garbage: &str| {
        let _ = std::fs::remove_file(&log);
        let script = format!(
            "cat >/dev/null; echo $CNI_COMMAND >>{log}; [ $CNI_COMMAND = DEL ] && exit 0\n\
             [ $(grep -c ADD {log}) -le {refused} ] && {{ {garbage} }}\nprintf '{answer}' $CNI_NETNS",
            log = log.display()
        );
        let settings = scripted(folder.path(), &script);
        let planned = plan(&wish("alloc-j", Mode::Cni("odd".into()), &[]), &settings).unwrap();
        let attached = set_up(&planned, &settings);
        let calls = std::fs::read_to_string(&log).unwrap().replace('\n', " ");
        if let Ok(attached) = &attached {
            tear_down(attached, &settings).unwrap();
        }
        (attached.map(|_| ()).map_err(|error| error.to_string()), calls)
    };
    let no_room = r#"echo '{"code":11,"msg":"no room"}'; exit 1;"#;
    assert_eq!(attempts(0, no_room), (Ok(()), "ADD ".into()));
    assert_eq!(attempts(2, no_room), (Ok(()), "ADD DEL ADD DEL ADD ".into()));
    let (given_up, calls) = attempts(9, no_room);
    assert!(given_up.unwrap_err().contains("no room"));
    // The last one is the network's own, which is taken down as a whole.
    assert_eq!(calls, "ADD DEL ADD DEL ADD DEL DEL ");
    // What makes no sense the first time makes none the second.
    let (refused, calls) = attempts(9, "echo garbage; exit 0;");
    assert!(refused.unwrap_err().contains("cannot be used"));
    assert_eq!(calls, "ADD DEL DEL ");
}

/// The environment of a plugin is the specification's and nothing else: no word of a job or of the caller reaches it.
///
/// Covers: CVE-2025-23266, Z26, W46
#[test]
fn a_plugin_sees_only_its_own_environment() {
    if !in_own_network("a_plugin_sees_only_its_own_environment") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!(
        "[ $CNI_COMMAND = DEL ] && exit 0\ntr '\\0' '\\n' </proc/$$/environ >{}\nexit 1",
        seen.display()
    );
    let settings = scripted(folder.path(), &script);
    let mut asked = wish("alloc-h", Mode::Cni("odd".into()), &[]);
    asked.args.insert("K8S".into(), "v".into());
    let planned = plan(&asked, &settings).unwrap();
    assert!(set_up(&planned, &settings).is_err());
    let seen = std::fs::read_to_string(&seen).unwrap();
    let names: Vec<&str> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    for name in &names {
        assert!(name.starts_with("CNI_") || matches!(*name, "PATH" | "PWD" | "SHLVL" | "_"), "{seen}");
    }
    assert!(seen.contains("IgnoreUnknown=true;NOMAD_ALLOC_ID=alloc-h;K8S=v"), "{seen}");
    asked.args.insert("X;NOMAD_ALLOC_ID".into(), "v".into());
    assert!(plan(&asked, &settings).unwrap_err().to_string().contains("X;NOMAD_ALLOC_ID"));
}

#[test]
fn missing_plugins_are_named_with_their_package() {
    if !in_own_network("missing_plugins_are_named_with_their_package") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { cni_path: vec![folder.path().into()], ..Settings::default() };
    let planned = plan(&wish("alloc-i", Mode::Bridge, &[]), &settings).unwrap();
    let text = set_up(&planned, &settings).unwrap_err().to_string();
    assert!(text.contains("containernetworking-plugins") && text.contains("loopback"), "{text}");
    assert!(!planned.intent().namespace.path().exists());
}
