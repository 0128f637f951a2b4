//! What a job becomes: environments, interpolation, volumes, networks, by name of the rows that ask for it.

use super::*;
use crate::checks::Probe;
use crate::network::host::{HostNetwork, Place};
use crate::network::interfaces::Interface;
use crate::volumes::HostVolume;
use bivouac_jobspec::{Input, SourceFile, VariableSources};
use bivouac_sandbox::HostPath;

fn parse(text: &str) -> Outcome {
    let input = Input {
        job: SourceFile::new("j.hcl".to_owned(), text.as_bytes().to_vec()),
        variables: VariableSources::default(),
        files: None,
        support: crate::load::support(),
    };
    bivouac_jobspec::parse(&input).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

fn try_plan(text: &str, volumes: &HostVolumes) -> Result<Vec<Allocation>, PlanError> {
    let attributes = [("node.class", "big"), ("attr.kernel.name", "linux"), ("node.unique.name", "here")];
    let node = Node::of(attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let new_id = || "07e1f62d-eb85-49a3-a2c5-665a50c95ce0".to_owned();
    let scene = Scene {
        node: &node,
        state_dir: Path::new("/state"),
        volumes,
        host_networks: &networks(),
        interfaces: &|| {
            Ok([("eth9", "127.0.0.8")]
                .map(|(name, address)| Interface { name: name.into(), address: address.parse().unwrap() })
                .into())
        },
        payload: None,
        disk: Way::Off,
        new_id: &new_id,
    };
    plan(&parse(text), &scene)
}

fn networks() -> HostNetworks {
    let network = |place, reserved: &str| HostNetwork { place, reserved: reserved.parse().unwrap() };
    let found = Place::Found { cidrs: Vec::new(), interface: Some("eth9".into()) };
    let gone = Place::Found { cidrs: vec!["10.0.0.0/8".parse().unwrap()], interface: None };
    let networks = [
        ("inside", network(Place::Address("127.0.0.9".parse().unwrap()), "")),
        ("found", network(found.clone(), "8081")),
        ("full", network(found, "1-65535")),
        ("gone", network(gone, "")),
    ];
    HostNetworks(networks.map(|(name, network)| (name.to_owned(), network)).into())
}

fn planned_job(group: &str, task: &str) -> Vec<Allocation> {
    try_plan(&job(group, task), &HostVolumes::new()).unwrap()
}

fn job(group: &str, task: &str) -> String {
    format!(
        "job \"j\" {{\n meta {{\n common-user = \"nobody\"\n}}\n group \"g\" {{\n{group}\n task \"my-task\" {{\n driver = \"exec\"\n{task}\n config {{\n command = \"/bin/true\"\n args = [\"${{meta.common_user}}\", \"${{NOMAD_TASK_NAME}}\", \"${{NOMAD_ALLOC_INDEX}}\", \"${{node.class}}\"]\n}}\n}}\n}}\n}}\n"
    )
}

fn env(allocation: &Allocation) -> BTreeMap<String, String> {
    allocation.tasks[0].order.env.iter().cloned().collect()
}

/// Covers: W5, W58
#[test]
fn w5_text_in_the_drivers_config_is_resolved() {
    let planned = planned_job("count = 2", "env {\n OWN = \"${NOMAD_TASK_NAME}/${attr.kernel.name}\"\n}");
    let second = planned[1].request(0).unwrap();
    assert_eq!(second.config.args, ["nobody", "my-task", "1", "big"]);
    assert_eq!(env(&planned[0])["OWN"], "my-task/linux");
}

/// Covers: W58
#[test]
fn w58_the_environment_holds_what_nomad_tells_a_task() {
    let group = "network {\n port \"http-api\" {\n static = 8080\n to = 80\n}\n}\n meta {\n g-key = \"v\"\n}";
    let planned = planned_job(
        group,
        "env {\n OWN = \"x\"\n}\n resources {\n cpu = 500\n memory = 64\n memory_max = 128\n}",
    );
    let expected = [
        ("NOMAD_ADDR_http_api", "127.0.0.1:8080"),
        ("NOMAD_ALLOC_DIR", "/alloc"),
        ("NOMAD_ALLOC_ID", "07e1f62d-eb85-49a3-a2c5-665a50c95ce0"),
        ("NOMAD_ALLOC_INDEX", "0"),
        ("NOMAD_ALLOC_NAME", "j.g[0]"),
        ("NOMAD_ALLOC_PORT_http_api", "80"),
        ("NOMAD_CPU_LIMIT", "500"),
        ("NOMAD_DC", "dc1"),
        ("NOMAD_GROUP_NAME", "g"),
        ("NOMAD_HOST_ADDR_http_api", "127.0.0.1:8080"),
        ("NOMAD_HOST_IP_http_api", "127.0.0.1"),
        ("NOMAD_HOST_PORT_http_api", "8080"),
        ("NOMAD_IP_http_api", "127.0.0.1"),
        ("NOMAD_JOB_ID", "j"),
        ("NOMAD_JOB_NAME", "j"),
        ("NOMAD_MEMORY_LIMIT", "64"),
        ("NOMAD_MEMORY_MAX_LIMIT", "128"),
        ("NOMAD_META_COMMON_USER", "nobody"),
        ("NOMAD_META_G_KEY", "v"),
        ("NOMAD_META_common_user", "nobody"),
        ("NOMAD_META_g_key", "v"),
        ("NOMAD_NAMESPACE", "default"),
        ("NOMAD_PORT_http_api", "80"),
        ("NOMAD_REGION", "global"),
        ("NOMAD_SECRETS_DIR", "/secrets"),
        ("NOMAD_SHORT_ALLOC_ID", "07e1f62d"),
        ("NOMAD_TASK_DIR", "/local"),
        ("NOMAD_TASK_NAME", "my-task"),
        ("OWN", "x"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(env(&planned[0]), BTreeMap::from(expected));
}

#[test]
fn processors_are_counted_in_the_plan_and_chosen_at_the_start() {
    let order = planned_job("", "resources {\n cores = 2\n}")[0].tasks[0].order.clone();
    assert_eq!((order.cores, order.resources.cores.as_str()), (2, ""));
    let mhz = crate::node::mhz_of(2);
    assert_eq!(order.resources.cpu_mhz, mhz, "a weight as of so many");
    assert!(order.env.contains(&("NOMAD_CPU_LIMIT".to_owned(), mhz.to_string())), "{:?}", order.env);
}

/// Covers: W29
#[test]
fn w29_volumes_by_instance_read_only_where_anybody_says_so() {
    let group = "count = 2\n volume \"data\" {\n type = \"host\"\n source = \"disk\"\n per_alloc = true\n}";
    let task = "volume_mount {\n volume = \"data\"\n destination = \"/data\"\n}";
    let host = |path: &str, access| HostVolume { path: HostPath::new(path).unwrap(), access };
    let volumes = HostVolumes::from([
        ("disk[0]".to_owned(), host("/srv/a", Access::ReadWrite)),
        ("disk[1]".to_owned(), host("/srv/b", Access::ReadOnly)),
    ]);
    let planned = try_plan(&job(group, task), &volumes).unwrap();
    let mounts: Vec<_> =
        planned.iter().map(|allocation| allocation.tasks[0].order.mounts[0].clone()).collect();
    let access = |mount: &Mount| match &mount.what {
        MountKind::Bind { source, access, .. } => (source.to_string(), *access),
        other => panic!("{other:?}"),
    };
    assert_eq!(access(&mounts[0]), ("/srv/a".to_owned(), Access::ReadWrite));
    assert_eq!(access(&mounts[1]), ("/srv/b".to_owned(), Access::ReadOnly));
    assert!(planned[0].mounts_from(Path::new("/srv/a")) && !planned[0].mounts_from(Path::new("/srv/b")));
    let missing = try_plan(&job(group, task), &HostVolumes::new()).unwrap_err().to_string();
    assert!(missing.contains("missing disk[0]") && missing.contains("bivouac volume create"), "{missing}");
}

/// Covers: W60
#[test]
fn w60_networks_and_names_of_instances() {
    let group = "count = 3\n network {\n mode = \"bridge\"\n hostname = \"web-${NOMAD_ALLOC_INDEX}\"\n port \"a\" {\n static = 1\n}\n port \"b\" {}\n}";
    let planned = planned_job(group, "");
    let names: Vec<&str> = planned.iter().map(|allocation| allocation.name.as_str()).collect();
    assert_eq!(names, ["j.g[0]", "j.g[1]", "j.g[2]"]);
    assert_eq!(planned[2].tasks[0].order.hostname.as_ref().unwrap().as_str(), "web-2");
    let dynamic = |allocation: &Allocation| match &allocation.wiring {
        Wiring::Namespace { mode: Mode::Bridge, ports, .. } => {
            assert_eq!((ports[0].host, ports[0].inside), (1, 1));
            (ports[1].host, ports[1].inside)
        }
        other => panic!("{other:?}"),
    };
    for allocation in &planned {
        let (host, inside) = dynamic(allocation);
        assert_eq!(host, inside);
        assert_eq!(env(allocation)["NOMAD_HOST_PORT_b"], host.to_string());
        assert!(matches!(allocation.tasks[0].order.network, Network::Join(_)));
    }
}

/// Covers: W42
#[test]
fn w42_which_network_a_group_gets() {
    let network = |group: &str| {
        let planned = planned_job(group, "");
        let order = &planned[0].tasks[0].order;
        (planned[0].wiring.clone(), order.network.clone(), order.hostname.is_some())
    };
    assert_eq!(network("").0, Wiring::Nothing, "the host's by default");
    assert_eq!(network("network {\n mode = \"host\"\n}").1, Network::Host);
    assert_eq!(network("network {\n mode = \"none\"\n}").1, Network::Own);
    for mode in ["bridge", "cni/mynet"] {
        let (wiring, joined, named) =
            network(&format!("network {{\n mode = \"{mode}\"\n hostname = \"web\"\n}}"));
        assert!(
            matches!(wiring, Wiring::Namespace { .. }) && matches!(joined, Network::Join(_)) && named,
            "{mode}"
        );
    }
    let refused = std::panic::catch_unwind(|| network("network {\n mode = \"host\"\n hostname = \"web\"\n}"));
    let text = *refused.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("`hostname` cannot be set with network mode \"host\""), "{text}");
}

/// Covers: W1
#[test]
fn w1_memory_is_the_larger_of_both() {
    let limit = |resources: &str| {
        let planned = planned_job("", &format!("resources {{\n{resources}\n}}"));
        planned[0].tasks[0].order.memory_limit()
    };
    assert_eq!(limit("memory = 64"), Some(64));
    assert_eq!(limit("memory = 64\n memory_max = 128"), Some(128));
    assert_eq!(limit("memory = 64\n memory_max = -1"), None);
}

#[test]
fn a_constraint_that_this_machine_does_not_meet_is_shown_at_its_place() {
    let text = job("constraint {\n attribute = \"${node.class}\"\n value = \"small\"\n}", "");
    let told = try_plan(&text, &HostVolumes::new()).unwrap_err().to_string();
    assert!(told.contains("does not meet a constraint"), "{told}");
}

/// A port on one of the machine's networks: free on its address, asked there, and told so.
#[test]
fn a_port_on_a_network_of_the_host_has_its_address() {
    let group = |network: &str| {
        format!(
            "network {{\n port \"fixed\" {{\n static = 8080\n host_network = \"{network}\"\n}}\n port \"free\" {{\n host_network = \"{network}\"\n}}\n}}\n service {{\n port = \"fixed\"\n provider = \"nomad\"\n check {{\n type = \"tcp\"\n interval = \"10s\"\n timeout = \"2s\"\n}}\n}}"
        )
    };
    let planned = planned_job(&group("inside"), "");
    let env = env(&planned[0]);
    assert_eq!(env["NOMAD_IP_fixed"], "127.0.0.9");
    assert_eq!(env["NOMAD_ADDR_fixed"], "127.0.0.9:8080");
    assert!(env["NOMAD_HOST_ADDR_free"].starts_with("127.0.0.9:"), "{env:?}");
    assert_ne!(env["NOMAD_HOST_PORT_free"], "0");
    let Probe::Tcp(door) = &planned[0].tasks[0].checks[0].probe else { panic!("a tcp check") };
    assert_eq!(door.on, Some("127.0.0.9".parse().unwrap()));
    assert_eq!(self::env(&planned_job(&group("default"), "")[0])["NOMAD_IP_fixed"], "127.0.0.1");
    let told = try_plan(&job(&group("outside"), ""), &HostVolumes::new()).unwrap_err().to_string();
    assert!(
        told.contains("port \"fixed\": no host network \"outside\"; known: found, full, gone, inside"),
        "{told}"
    );
    let found = self::env(&planned_job(&group("found"), "")[0]);
    assert_eq!(found["NOMAD_IP_free"], "127.0.0.8");
}

#[test]
fn a_network_of_the_host_keeps_its_reserved_ports_and_must_have_an_address() {
    let refused = |port: &str| {
        let group = format!("network {{\n port \"p\" {{\n{port}\n}}\n}}");
        try_plan(&job(&group, ""), &HostVolumes::new()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(refused("static = 8080\n host_network = \"found\""), Ok(()));
    let told = refused("static = 8081\n host_network = \"found\"").unwrap_err();
    assert!(
        told.contains("port \"p\": 8081 is kept free by reserved_ports of host_network \"found\""),
        "{told}"
    );
    let told = refused("host_network = \"full\"").unwrap_err();
    assert!(
        told.contains("no free port for \"p\" on 127.0.0.8") && told.contains("reserved_ports"),
        "{told}"
    );
    let told = refused("host_network = \"gone\"").unwrap_err();
    assert!(told.contains("no address in 10.0.0.0/8; it has eth9 127.0.0.8"), "{told}");
}
