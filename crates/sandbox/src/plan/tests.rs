//! Plans for kernels and hosts that this machine need not be, as text; and everything that a plan refuses.

use super::*;
use crate::capability::CapSet;
use crate::model::{
    Candidate, CapabilitySets, Confinement, DeviceKind, Entry, ExecuteBit, Hostname, Identity, Init, Missing,
    Mount, Network, PathAccess, PathRule, PrivilegeGain, Rlimit, Root, Show,
};
use crate::survey::Seen;
use serde_bytes::ByteBuf;

/// The oldest kernel that can run tasks: 5.14.
const OLD: KernelFeatures =
    KernelFeatures { overlay: OverlayLayers::ProcPaths, landlock_abi: 1, last_capability: 40 };

fn host(path: &str) -> HostPath {
    HostPath::new(path).unwrap()
}

fn task(path: &str) -> TaskPath {
    TaskPath::new(path).unwrap()
}

fn entry(source: &str, target: &str) -> Entry {
    Entry { source: host(source), target: task(target), show: Show::Overlay { above: Vec::new() } }
}

fn sandbox() -> Sandbox {
    let none = CapSet::from_bits(0);
    let environment = ["PATH=/usr/bin", "TOKEN=secret"].map(|entry| ByteBuf::from(entry.as_bytes()));
    Sandbox {
        root: Root {
            task_dir: host("/alloc/task"),
            private_dir: host("/private"),
            entries: vec![entry("/usr", "/usr"), entry("/bin", "/bin"), entry("/etc", "/etc")],
            access: Access::ReadWrite,
        },
        mounts: Vec::new(),
        devices: Vec::new(),
        shm_size: 64 << 20,
        namespaces: Namespaces {
            pid: Sharing::Private,
            ipc: Sharing::Private,
            cgroup: Sharing::Host,
            network: Network::Host,
        },
        hostname: None,
        process: Process {
            asked: "date".into(),
            candidates: vec![Candidate { path: task("/usr/bin/date"), execute_bit: ExecuteBit::Leave }],
            arguments: vec![ByteBuf::from(&b"-u"[..])],
            environment: environment.to_vec(),
            work_dir: task("/"),
            identity: Identity { uid: 65534, gid: 65534, groups: vec![65534] },
            capabilities: CapabilitySets {
                bounding: none,
                permitted: none,
                effective: none,
                inheritable: none,
                ambient: none,
            },
            confinement: Confinement { gain: PrivilegeGain::Possible, filter: None, landlock: Vec::new() },
            rlimits: Vec::new(),
            oom_score_adj: 0,
            umask: 0o022,
            init: Init::Command,
        },
    }
}

/// A host whose `/bin` is a link, and on which a file system is mounted below `/usr`.
fn survey() -> Survey {
    let below = vec![(host("/usr/local"), Shape::Directory)];
    let seen = [
        ("/usr", Seen::Directory(below)),
        ("/etc", Seen::Directory(Vec::new())),
        ("/srv", Seen::Directory(Vec::new())),
        ("/bin", Seen::Link(b"usr/bin".to_vec())),
        ("/opt/tool", Seen::File),
        ("/dev/log", Seen::Other),
    ];
    Survey {
        entries: seen.map(|(path, seen)| (host(path), seen)).into(),
        binds: [(host("/srv/data"), Shape::Directory), (host("/srv/file"), Shape::File)].into(),
        unshared: [host("/srv/data")].into(),
        throttled_processors: 1,
    }
}

fn plan(sandbox: &Sandbox, features: &KernelFeatures) -> Result<String, String> {
    let plan = Plan::for_sandbox(sandbox, &survey(), features);
    plan.map(|plan| plan.to_string()).map_err(|refusal| refusal.to_string())
}

#[test]
fn the_default_task_on_the_newest_kernel() {
    insta::assert_snapshot!(plan(&sandbox(), &KernelFeatures::NEWEST).unwrap());
}

/// Covers: 4-kernels
#[test]
fn everything_asked_for_on_an_old_kernel() {
    let mut all = sandbox();
    all.root.entries.extend([
        entry("/opt/tool", "/bin/tool"),
        entry("/dev/log", "/log"),
        entry("/no", "/no"),
    ]);
    all.root.access = Access::ReadOnly;
    let tmpfs = MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, programs: Programs::Refused };
    let bind = MountKind::Bind {
        source: host("/srv/file"),
        route: Route::Beneath(host("/srv")),
        access: Access::ReadOnly,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    };
    all.mounts = vec![Mount { target: task("/t"), what: tmpfs }, Mount { target: task("/f"), what: bind }];
    all.devices.push(device("/dev/fuse"));
    all.namespaces = Namespaces {
        pid: Sharing::Host,
        ipc: Sharing::Host,
        cgroup: Sharing::Private,
        network: Network::Join(host("/run/netns/a")),
    };
    all.hostname = Some(Hostname::new("a-task").unwrap());
    all.process.rlimits.push(Rlimit { resource: 7, soft: 100, hard: 200 });
    all.process.init = Init::Reaper;
    insta::assert_snapshot!(plan(&all, &OLD).unwrap());
}

fn device(target: &str) -> Device {
    Device {
        target: task(target),
        kind: DeviceKind::Character,
        major: 10,
        minor: 229,
        mode: 0o660,
        uid: 0,
        gid: 0,
    }
}

/// Covers: 4-kernels
#[test]
fn a_kernel_without_overlays_shows_directories_read_only_or_says_so() {
    let without = KernelFeatures { overlay: OverlayLayers::Unavailable, ..KernelFeatures::NEWEST };
    assert_eq!(
        plan(&sandbox(), &without).unwrap_err(),
        "this kernel makes no overlay mounts, which /etc needs; set root = \"readonly\""
    );
    let mut bare = sandbox();
    bare.root.entries.iter_mut().for_each(|entry| entry.show = Show::ReadOnly);
    let text = plan(&bare, &without).unwrap();
    assert!(text.contains("/usr bind /usr ReadOnly Stripped Private\n"), "{text}");
}

/// What is below a link comes after what the link leads to, or it would be covered.
#[test]
fn entries_below_a_link_lie_where_it_leads() {
    let mut linked = sandbox();
    linked.root.entries = vec![entry("/srv", "/bin/proof"), entry("/bin", "/bin"), entry("/usr", "/usr")];
    let places = |sandbox: &Sandbox| -> Vec<String> {
        let plan = Plan::for_sandbox(sandbox, &survey(), &KernelFeatures::NEWEST).unwrap();
        let places = plan.fill.iter().map(|fill| fill.target.to_string());
        places.take_while(|place| place != "/dev").collect()
    };
    assert_eq!(places(&linked), ["/bin", "/usr", "/usr/local", "/usr/bin/proof"]);
    // Two names of one place, and links that never end.
    linked.root.entries.push(entry("/srv", "/usr/bin/proof"));
    let text = plan(&linked, &KernelFeatures::NEWEST).unwrap_err();
    assert!(text.ends_with("the target /usr/bin/proof"), "{text}");
    for (link, content, asked, place) in [
        ("/a/b", "../../../c", "/a/b/d", "/c/d"),
        ("/a/b", "/c/./e", "/a/b/d", "/c/e/d"),
        ("/a/b", "c", "/a/b", "/a/b"),
        ("/a", "a", "/a/d", "/a/d"),
    ] {
        let mut paper = survey();
        paper.entries.insert(host("/link"), Seen::Link(content.into()));
        let mut asking = sandbox();
        asking.root.entries = vec![entry("/link", link), entry("/srv", asked)];
        if link == asked {
            asking.root.entries.pop();
        }
        let plan = Plan::for_sandbox(&asking, &paper, &KernelFeatures::NEWEST).unwrap();
        assert!(plan.fill.iter().any(|fill| fill.target == task(place)), "{asked}: {plan}");
    }
}

type Change = fn(&mut Sandbox);

#[test]
fn what_cannot_be_is_refused_by_name() {
    let table: [(Change, &str); 14] = [
        (|s| s.process.candidates.clear(), "the command is empty"),
        (|s| s.process.oom_score_adj = 1001, "oom_score_adj 1001 is not between -1000 and 1000"),
        (|s| s.process.arguments.push(ByteBuf::from(&b"a\0b"[..])), "argument \"a\\0b\" holds a NUL byte"),
        (
            |s| s.process.environment.push(ByteBuf::from(&b"=x"[..])),
            "environment entry \"=x\" is not NAME=value",
        ),
        (
            |s| s.process.environment.push(ByteBuf::from(&b"x"[..])),
            "environment entry \"x\" is not NAME=value",
        ),
        (|s| s.shm_size = 0, "shm_size must be larger than 0"),
        (|s| s.devices.push(device("/fuse")), "device /fuse must be below /dev in the task"),
        (
            |s| s.root.entries.push(entry("/srv", "/etc")),
            "two entries of the chroot environment have the target /etc",
        ),
        (
            |s| s.root.entries.push(entry("/srv", "/")),
            "the chroot environment maps /srv to /, where the task's directory is; map its parts instead",
        ),
        (
            |s| s.root.entries.push(entry("/srv", "/proc/x")),
            "cannot mount at /proc/x: /proc, /sys and /dev are",
        ),
        (|s| s.mounts.push(tmpfs("/dev/x", None)), "cannot mount at /dev/x: /proc, /sys and /dev are"),
        (|s| s.mounts.push(tmpfs("/", None)), "cannot mount at /: the task's directory is there"),
        (|s| s.mounts.push(tmpfs("/t", Some(0))), "the size of a tmpfs must be larger than 0"),
        (
            |s| {
                s.mounts.push(Mount {
                    target: task("/d"),
                    what: MountKind::Bind {
                        source: host("/srv/data"),
                        route: Route::Anywhere,
                        access: Access::ReadWrite,
                        trust: Trust::Stripped,
                        propagation: Propagation::Bidirectional,
                    },
                });
            },
            "cannot mount /srv/data with propagation: it is on a private mount of the host",
        ),
    ];
    for (change, words) in table {
        let mut bad = sandbox();
        change(&mut bad);
        let text = plan(&bad, &KernelFeatures::NEWEST).unwrap_err();
        assert!(text.starts_with(words), "{text}");
    }
    let mut ruled = sandbox();
    let access = PathAccess { read: true, write: false, run: true, make: false };
    ruled.process.confinement.landlock =
        vec![vec![PathRule { path: task("/usr"), access, missing: Missing::Refuse }]];
    let text = plan(&ruled, &OLD).unwrap_err();
    assert!(text.contains("(ABI 3, Linux 6.2), and this one has ABI 1;"), "{text}");
    assert!(plan(&ruled, &KernelFeatures::NEWEST).unwrap().contains("landlock 1 rx:/usr\n"));
}

fn tmpfs(target: &str, size: Option<u64>) -> Mount {
    Mount { target: task(target), what: MountKind::Tmpfs { size, mode: 0o1777, programs: Programs::Run } }
}
