//! Whole tasks resolved on a paper host: what comes out, and what is refused.

use super::*;
use crate::capabilities::Powers;
use crate::config::TaskConfig;
use crate::entries::DryLayers;
use crate::entries::tests::PaperHost;
use crate::host::ResolverFacts;
use crate::identity::{Database, DryNumbers, PseudoUsers};
use crate::options::Value;
use crate::request::{Directories, Secrets, StopRule};
use crate::resources::Resources;
use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::model::{Access, Init, MountKind, PrivilegeGain, Propagation, Sharing};
use bivouac_sys::features::KernelFeatures;

fn path(text: &str) -> HostPath {
    HostPath::new(text).unwrap()
}

pub(super) fn request(pairs: Vec<(&str, Value)>) -> TaskRequest {
    let command = ("command", Value::from("/bin/date"));
    let config = TaskConfig::decode(&Value::map(std::iter::once(command).chain(pairs))).unwrap();
    TaskRequest {
        id: "a/web/1".into(),
        name: "web".into(),
        directories: Directories {
            task: path("/opt/nomad/alloc/a/web"),
            shared: path("/opt/nomad/alloc/a/alloc"),
            secrets: Secrets::InTaskDirectory,
            private: path("/var/lib/bivouac/a/web"),
            own: vec![path("/opt/nomad/alloc")],
        },
        config,
        env: vec![("NOMAD_TASK_NAME".into(), "web".into())],
        user: String::new(),
        root: RootRule::Refused,
        pseudo_users: PseudoUsers::Unknown,
        resources: Resources {
            cpu_mhz: 100,
            total_mhz: 10_000,
            memory_mib: Some(300),
            ..Resources::default()
        },
        placement: Placement::Ours { parent: GroupPath::ROOT, name: GroupName::new("bivouac-test").unwrap() },
        network: Network::Host,
        hostname: None,
        address: None,
        dns: None,
        mounts: Vec::new(),
        devices: Vec::new(),
        stop: StopRule::default(),
    }
}

pub(super) fn facts() -> Facts {
    let all = CapSet::up_to(40);
    Facts {
        users: Database::from_text(
            "root:x:0:0::/root:\nnobody:x:65534:65534::/nonexistent:\nweb:x:1000:1000::/home/web:\n",
            "",
        ),
        powers: Powers { known: all, held: all },
        features: KernelFeatures::NEWEST,
        hard_limits: [u64::MAX; 16],
        processors: 4,
        resolver: ResolverFacts::default(),
        hosts: "127.0.0.1 localhost\n".into(),
    }
}

/// On a paper host with cgroups of version 2.
pub(super) fn resolve_on_paper(
    operator: &OperatorConfig,
    facts: &Facts,
    request: &TaskRequest,
) -> Result<Task, TaskError> {
    const V2: &str = "25 30 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    let cgroups = bivouac_cgroup::Host::parse(V2).unwrap();
    let files = PaperHost::usual();
    let resolver = Resolver {
        operator,
        facts,
        cgroups: &cgroups,
        files: &files,
        layers: &DryLayers,
        numbers: &DryNumbers,
    };
    resolver.resolve(request)
}

fn resolve_with(operator: Vec<(&str, Value)>, facts: &Facts, request: &TaskRequest) -> Result<Task, String> {
    let operator = OperatorConfig::decode(&Value::map(operator)).unwrap();
    resolve_on_paper(&operator, facts, request).map_err(|error| error.to_string())
}

fn resolve(operator: Vec<(&str, Value)>, task: Vec<(&str, Value)>) -> Result<Task, String> {
    resolve_with(operator, &facts(), &request(task))
}

#[test]
fn a_plain_task() {
    let task = resolve(vec![], vec![]).unwrap();
    let process = &task.sandbox.process;
    assert_eq!(process.identity.uid, 65534);
    assert_eq!(process.capabilities.ambient.bits(), 0xa804_05fb);
    assert!(process.confinement.filter.is_some(), "the default profile is a filter");
    assert_eq!(
        (process.confinement.gain, process.init, process.umask),
        (PrivilegeGain::Possible, Init::Command, 0o022)
    );
    let mounts: Vec<String> = task.sandbox.mounts.iter().map(|mount| mount.target.to_string()).collect();
    assert_eq!(mounts, ["/alloc", "/alloc/logs"]);
    assert!(task.preparations.is_empty() && task.notes.is_empty());
}

/// Covers: X1, X38
#[test]
fn x1_x38_isolation_modes() {
    use Sharing::{Host, Private};
    for (default, own, answer) in [
        ("private", "", Private),
        ("host", "", Host),
        ("private", "host", Host),
        ("host", "private", Private),
    ] {
        let operator = ["default_pid_mode", "default_ipc_mode"].map(|name| (name, default.into()));
        let task =
            resolve(operator.to_vec(), ["pid_mode", "ipc_mode"].map(|name| (name, own.into())).to_vec())
                .unwrap();
        assert_eq!(
            (task.sandbox.namespaces.pid, task.sandbox.namespaces.ipc),
            (answer, answer),
            "{default} {own}"
        );
    }
    let mixed = resolve(vec![], vec![("pid_mode", "host".into())]).unwrap().sandbox.namespaces;
    assert_eq!((mixed.pid, mixed.ipc), (Host, Private));
}

#[test]
fn what_the_operator_must_allow_is_refused_by_name() {
    let error = |task| resolve(vec![], task).unwrap_err();
    assert!(error(vec![("seccomp", "unconfined".into())]).contains("allow_unconfined"));
    assert!(error(vec![("compat32", "full".into())]).contains("allow_compat32"));
    assert_eq!(
        error(vec![("pids_limit", 40_000.into())]),
        "failed driver config validation: pids_limit 40000 is above what the operator allows (max_pids_limit 32768)"
    );
    assert_eq!(
        error(vec![("cap_add", Value::texts(["net_admin"]))]),
        "driver does not allow the following capabilities: net_admin"
    );
    let mount = |source: &str| Value::map([("source", Value::from(source)), ("target", "/data".into())]);
    assert_eq!(
        error(vec![("mount", mount("/srv/data"))]),
        "failed driver config validation: mount[0].source /srv/data is not below a path that the operator allows (allow_mount_paths: none are allowed)"
    );
    let device = Value::map([("host_path", Value::from("/dev/fuse"))]);
    assert!(
        error(vec![("devices", device)])
            .ends_with("is not among the devices that the operator allows (allow_devices)")
    );
    let ulimit = |name, value: &str| Value::map([(name, Value::from(value))]);
    assert!(error(vec![("ulimit", ulimit("rtprio", "50"))]).contains("max_ulimit rtprio = 0"));
    assert!(error(vec![("ulimit", ulimit("nproc", "50"))]).contains("pids_limit"));
}

/// Covers: X12
#[test]
fn x12_mounts_within_what_the_operator_allows() {
    let allow = |path: &str| vec![("allow_mount_paths", Value::texts([path]))];
    let mount = |source: &str, readonly: bool| {
        vec![(
            "mount",
            Value::map([
                ("source", Value::from(source)),
                ("target", "/data".into()),
                ("readonly", readonly.into()),
            ]),
        )]
    };
    let task = resolve(allow("/srv"), mount("/srv/data", false)).unwrap();
    let last = task.sandbox.mounts.last().unwrap();
    assert!(matches!(&last.what, MountKind::Bind { source, .. } if source.to_string() == "/srv/data"));
    let link = resolve(allow("/srv"), mount("/srv/link", true)).unwrap_err();
    assert!(link.contains("is not below a path"), "a link out of what is allowed: {link}");
    assert!(resolve(allow("/srv:ro"), mount("/srv/data", false)).unwrap_err().contains("readonly = true"));
    let task = resolve(allow("/srv:ro"), mount("/srv/data", true)).unwrap();
    let last = &task.sandbox.mounts.last().unwrap().what;
    assert!(matches!(
        last,
        MountKind::Bind { access: Access::ReadOnly, propagation: Propagation::Private, .. }
    ));
    assert!(resolve(allow("/srv"), mount("/srv/none", true)).unwrap_err().contains("does not exist"));
}

/// Covers: E13, X11
#[test]
fn e13_a_device_and_x11_its_place() {
    let device = Value::map(
        [("host_path", "/dev/fuse"), ("container_path", "/dev/inserted")].map(|(n, v)| (n, Value::from(v))),
    );
    let task =
        resolve(vec![("allow_devices", Value::texts(["/dev/fuse"]))], vec![("devices", device)]).unwrap();
    let [device] = task.sandbox.devices.as_slice() else { panic!("{:?}", task.sandbox.devices) };
    assert_eq!((device.target.to_string().as_str(), device.major, device.minor), ("/dev/inserted", 10, 229));
}

/// Covers: X37
#[test]
fn x37_a_file_entry_without_execute_bit_is_copied() {
    let env = Value::map([("/image/hello", Value::from("/bin/hello"))]);
    let task = resolve_with(
        vec![("chroot_env", env)],
        &facts(),
        &TaskRequest {
            config: TaskConfig::decode(&Value::map([("command", Value::from("/bin/hello"))])).unwrap(),
            ..request(vec![])
        },
    )
    .unwrap();
    assert_eq!(task.preparations, [Preparation::Executable { from: path("/image/hello"), name: "0".into() }]);
    assert_eq!(task.sandbox.root.entries[0].source, path("/var/lib/bivouac/a/web/files/0"));
}

#[test]
fn name_resolution_of_an_own_network() {
    let stub = ResolverFacts {
        text: "nameserver 127.0.0.53\n".into(),
        elsewhere: Some(path("/run/systemd/resolve/stub-resolv.conf")),
        upstream: Some("nameserver 10.0.0.1\n".into()),
    };
    let facts = Facts { resolver: stub, ..facts() };
    let own = TaskRequest {
        network: Network::Own,
        hostname: Some(Hostname::new("web-0").unwrap()),
        ..request(vec![])
    };
    let task = resolve_with(vec![], &facts, &own).unwrap();
    let names: Vec<(&str, &str)> = task
        .preparations
        .iter()
        .map(|one| match one {
            Preparation::File { name, text } => (*name, text.as_str()),
            Preparation::Executable { .. } => panic!("{one:?}"),
        })
        .collect();
    assert_eq!(names[0], ("resolv.conf", "nameserver 10.0.0.1\n"));
    assert!(names[1].1.contains("127.0.1.1 web-0\n"));
    assert_eq!(names[2], ("hostname", "web-0\n"));
    let host = resolve_with(vec![], &facts, &request(vec![])).unwrap();
    assert!(host.preparations.is_empty(), "the host's own stub answers in the host's network");
    let shown = |task: &Task| {
        task.sandbox.root.entries.iter().any(|entry| entry.source.to_string().ends_with("stub-resolv.conf"))
    };
    assert!(shown(&host) && !shown(&task));
}

#[test]
fn without_an_etc_generated_files_are_mounts() {
    let env = Value::map([("/usr", Value::from("/usr"))]);
    let dns = Value::map([("servers", Value::texts(["1.1.1.1"]))]);
    let task = resolve(vec![("chroot_env", env)], vec![("dns", dns)]).unwrap();
    assert!(task.sandbox.mounts.iter().any(|mount| mount.target.to_string() == "/etc/resolv.conf"));
}

#[test]
fn limits_and_cores() {
    let task = resolve(
        vec![],
        vec![("ulimit", Value::map([("nofile", Value::from("1024:4096"))])), ("core", "off".into())],
    )
    .unwrap();
    let limits: Vec<(u32, u64, u64)> =
        task.sandbox.process.rlimits.iter().map(|l| (l.resource, l.soft, l.hard)).collect();
    assert_eq!(limits, [(7, 1024, 4096), (4, 1, 1)]);
    let poor = Facts {
        hard_limits: [512; 16],
        powers: Powers { known: CapSet::up_to(40), held: CapSet::EMPTY },
        ..facts()
    };
    let request = request(vec![("ulimit", Value::map([("nofile", Value::from("1024"))]))]);
    assert!(resolve_with(vec![], &poor, &request).unwrap_err().contains("above Bivouac's own limit (512)"));
}

#[test]
fn root_needs_the_operator() {
    let root = || TaskRequest { user: "root".into(), ..request(vec![]) };
    assert!(
        resolve_with(vec![], &facts(), &root())
            .unwrap_err()
            .starts_with("failed host user validation: running as user \"root\" is disallowed")
    );
    let task = resolve_with(vec![("allow_root", true.into())], &facts(), &root()).unwrap();
    assert_eq!(task.sandbox.process.capabilities.effective.bits(), 0x3f_ffff_ffff);
}

/// To the letter: users search their logs, and the web, for these.
#[test]
fn the_words_that_users_search_for() {
    let decoded = |name: &str, value: Value| {
        let config = Value::map([("command", "x".into()), (name, value)]);
        TaskConfig::decode(&config).unwrap_err().to_string()
    };
    let operator = |name: &str, value: Value| {
        OperatorConfig::decode(&Value::map([(name, value)])).unwrap_err().to_string()
    };
    let of_user = |operator, user: &str| {
        let request = TaskRequest { user: user.into(), ..request(vec![]) };
        resolve_with(operator, &facts(), &request).unwrap_err()
    };
    let caps = |name: &'static str, list: &[&str]| {
        resolve(vec![], vec![(name, Value::texts(list.iter().copied()))]).unwrap_err()
    };
    for (said, text) in [
        (decoded("pid_mode", "x".into()), "pid_mode must be \"private\" or \"host\", got \"x\""),
        (decoded("ipc_mode", "x".into()), "ipc_mode must be \"private\" or \"host\", got \"x\""),
        (
            operator("default_pid_mode", "x".into()),
            "default_pid_mode must be \"private\" or \"host\", got \"x\"",
        ),
        (
            operator("default_ipc_mode", "x".into()),
            "default_ipc_mode must be \"private\" or \"host\", got \"x\"",
        ),
        (decoded("work_dir", "x".into()), "work_dir must be absolute but got relative path \"x\""),
        (
            caps("cap_add", &["b_cap", "a_cap"]),
            "failed driver config validation: cap_add configured with capabilities not supported by system: a_cap, b_cap",
        ),
        (
            caps("cap_drop", &["not_valid"]),
            "failed driver config validation: cap_drop configured with capabilities not supported by system: not_valid",
        ),
        (
            resolve(vec![("allow_caps", Value::texts(["not_valid"]))], vec![]).unwrap_err(),
            "failed driver config validation: allow_caps configured with capabilities not supported by system: not_valid",
        ),
        (
            caps("cap_add", &["CAP_SYS_TIME", "net_admin"]),
            "driver does not allow the following capabilities: net_admin, sys_time",
        ),
        (
            of_user(vec![("denied_host_uids", "1000".into())], "web"),
            "failed host user validation: running as uid 1000 is disallowed",
        ),
        (
            of_user(vec![("denied_host_gids", "900-1000".into())], "web"),
            "failed host user validation: running as gid 1000 is disallowed",
        ),
        (
            operator("denied_host_uids", "1-x".into()),
            "invalid range deniedHostUIDs \"1-x\": range bound not valid",
        ),
        (
            operator("denied_host_gids", "10-1".into()),
            "invalid range deniedHostGIDs \"10-1\": lower bound cannot be greater than upper bound",
        ),
    ] {
        assert_eq!(said, text);
    }
    assert!(of_user(vec![], "alice").starts_with("failed host user validation: unknown user alice"));
    assert!(decoded("colour", "x".into()).contains("colour"), "an unknown option is named");
    assert!(decoded("args", Value::map([("a", "b".into())])).starts_with("args must be a list of texts"));
}
