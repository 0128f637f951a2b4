//! Every option of a task once end to end: what the kernel does is compared with what the option says.

use crate::bench::{Bench, Output, namespace, read_line, until, wait};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::options::Value;
use bivouac_driver::request::{StopRule, TaskRequest};
use bivouac_driver::signals::Signal;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Network;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

fn pairs<const N: usize>(pairs: [(&'static str, &str); N]) -> Value {
    Value::map(pairs.map(|(name, value)| (name, Value::from(value))))
}

/// Covers: T64
#[test]
fn limits_of_the_process() {
    let Some(bench) = Bench::new("limits") else { return };
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; cat /proc/self/oom_score_adj; hostname; uname -n";
    let options = vec![
        ("ulimit", pairs([("nofile", "1024:2048")])),
        ("core", "off".into()),
        ("oom_score_adj", 300.into()),
        ("hostname", "web-1".into()),
    ];
    // dash counts core dumps in blocks of 512 bytes: 1 byte shows as 0, and /proc tells it exactly.
    let output =
        bench.shell("a", &format!("{script}; grep 'core file' /proc/self/limits | tr -s ' '"), options);
    assert_eq!(output.out, "1024\n2048\n0\n300\nweb-1\nweb-1\nMax core file size 1 1 bytes \n", "{output:?}");
    bench.finish();
}

/// Covers: W1
#[test]
fn limits_of_the_group() {
    let Some(bench) = Bench::new("group") else { return };
    let run = bench.started(&TaskRequest {
        resources: bivouac_driver::resources::Resources {
            cpu_mhz: 500,
            total_mhz: 4000,
            memory_mib: Some(64),
            memory_max: bivouac_driver::resources::MemoryMax::Mib(96),
            ..Default::default()
        },
        ..bench.request(
            "a",
            "sleep",
            &["100"],
            vec![("pids_limit", 77.into()), ("cpu_hard_limit", true.into())],
        )
    });
    let groups = bench.groups_of(&run.id);
    let read = |file: &str| groups.iter().find_map(|group| std::fs::read_to_string(group.join(file)).ok());
    assert_eq!(read("pids.max").unwrap().trim(), "77");
    // An eighth of what the host has, by the clock: of each processor's 100 ms so many.
    let quota = read("cpu.max").or_else(|| read("cpu.cfs_quota_us")).unwrap();
    let quota: u64 = quota.split_whitespace().next().unwrap().parse().unwrap();
    let period = read("cpu.cfs_period_us").map_or(100_000, |text| text.trim().parse().unwrap());
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(quota, period * processors / 8);
    let swap = read("memory.swap.max").or_else(|| read("memory.memsw.limit_in_bytes"));
    assert!(
        swap.is_none_or(|swap| ["0".to_owned(), (96 << 20).to_string()].contains(&swap.trim().to_owned()))
    );
    let most = read("memory.max").or_else(|| read("memory.limit_in_bytes")).unwrap();
    let kept = read("memory.low").or_else(|| read("memory.soft_limit_in_bytes")).unwrap();
    assert_eq!(
        (most.trim(), kept.trim()),
        ((96 << 20).to_string().as_str(), (64 << 20).to_string().as_str())
    );
    let weight = bivouac_cgroup::CpuShares::new(500).weight().to_string();
    let (share, expected) = match read("cpu.shares") {
        Some(shares) => (shares, "500"),
        None => (read("cpu.weight").unwrap(), weight.as_str()),
    };
    assert_eq!(share.trim(), expected);
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

#[test]
fn what_is_mounted_and_made() {
    let options = vec![
        ("allow_mount_paths", Value::texts(["/var/tmp:ro"])),
        ("allow_devices", Value::texts(["/dev/full"])),
    ];
    let Some(bench) = Bench::with("mounts", options) else { return };
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    std::fs::write(data.path().join("f"), "from the host\n").unwrap();
    let mounts = vec![
        Value::map([
            ("source", data.path().to_str().unwrap().into()),
            ("target", "/in/deep".into()),
            ("readonly", true.into()),
        ]),
        pairs([("type", "tmpfs"), ("target", "/scratch"), ("size", "1m"), ("mode", "750")]),
    ];
    let script = "cat /in/deep/f; touch /in/deep/x 2>/dev/null || echo ro; stat -c %a /scratch; \
        df -k /scratch /dev/shm | tail -n 2 | tr -s ' ' | cut -d' ' -f2; stat -c %t:%T /dev/odd/full; \
        cat /etc/hosts | grep db; cat /proc/self/cgroup | cut -d: -f3 | sort -u; pwd";
    let options = vec![
        ("mount", Value::List(mounts)),
        ("devices", pairs([("host_path", "/dev/full"), ("container_path", "/dev/odd/full")])),
        ("shm_size", "2m".into()),
        ("extra_hosts", Value::texts(["db:192.0.2.7"])),
        ("cgroup_mode", "private".into()),
        ("work_dir", "/made/for/me".into()),
    ];
    let output = bench.run(&bench.root_script("a", script, options));
    assert_eq!(
        output.out, "from the host\nro\n750\n1024\n2048\n1:7\n192.0.2.7 db\n/\n/made/for/me\n",
        "{output:?}"
    );
    bench.finish();
}

/// Nothing but what stays writable by its documentation; the private layer over `/etc` is none of it.
///
/// Covers: T9
#[test]
fn a_readonly_root_cannot_be_written() {
    let Some(bench) = Bench::new("readonly") else { return };
    let script = "for d in / /etc /usr /usr/lib /run /alloc /local /tmp /secrets /dev/shm; do \
        [ -d $d ] && touch $d/x 2>/dev/null && echo $d; done; chmod 777 /etc/passwd 2>/dev/null && echo mode; \
        cat /etc/hostname; exit 0";
    let options = || vec![("readonly_root", true.into()), ("hostname", Value::from("sealed"))];
    let output = bench.run(&bench.root_script("a", script, options()));
    assert_eq!(output.out, "/alloc\n/local\n/tmp\n/secrets\n/dev/shm\nsealed\n", "{output:?}");
    // The same task again: what it was refused once it is refused again, and nothing was left in the layer.
    assert_eq!(bench.run(&bench.root_script("a", script, options())).out, output.out);
    bench.finish();
}

/// Covers: CVE-2026-31431
#[test]
fn a_copied_root_shares_no_file_with_the_host() {
    // A host of one static program: copying this machine's own would take the test's time.
    let host = tempfile::Builder::new().prefix("bivouac-test-host-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = host.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::fs::copy("/bin/busybox", programs.join("sh")).unwrap();
    let chroot = Value::map([(programs.to_str().unwrap(), Value::from("/bin"))]);
    let Some(bench) = Bench::with("copy", vec![("chroot_env", chroot)]) else { return };
    let copy = || vec![("root", "copy".into())];
    let before = std::fs::read(programs.join("sh")).unwrap();
    let script = "echo ready; read never; exec sleep 100";
    let run = bench.started(&bench.root_script("a", script, copy()));
    let copied: Vec<_> =
        walk(&bench.path("copies")).into_iter().filter(|path| path.ends_with("sh")).collect();
    let [copied] = copied.as_slice() else { panic!("one copy of the one program: {copied:?}") };
    let identity = |path: &std::path::Path| {
        let status = std::fs::metadata(path).unwrap();
        (status.dev(), status.ino())
    };
    assert_ne!(identity(copied), identity(&programs.join("sh")));
    assert_eq!(std::fs::read(copied).unwrap(), before);
    // The lower layer is the copy: what changes on the host is not seen in the task.
    std::fs::write(programs.join("new"), "").unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}/root/bin/new", run.started.pid)).exists());
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    std::fs::remove_file(programs.join("new")).unwrap();
    // A task's own writes stay its own: neither the host nor the next task sees them.
    assert_eq!(bench.run(&bench.root_script("b", "echo evil > /bin/sh; echo done", copy())).out, "done\n");
    assert_eq!(bench.run(&bench.root_script("c", "echo sound", copy())), Output::new("sound\n", "", 0));
    assert!(
        std::fs::read(programs.join("sh")).unwrap() == before && std::fs::read(copied).unwrap() == before
    );
    bench.finish();
}

/// Every file below a directory.
fn walk(top: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path())
            } else {
                found.push(entry.path())
            }
        }
    }
    found
}

/// Covers: T58, T57
#[test]
fn privileges_and_the_filter() {
    let Some(bench) = Bench::with("privileges", vec![("allow_unconfined", true.into())]) else { return };
    let show = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2 | tr '\\n' ' '; grep CapEff /proc/self/status | cut -f2";
    let cases = [
        ("default", vec![], "0 2 "),
        ("sealed", vec![("no_new_privs", true.into())], "1 2 "),
        ("open", vec![("seccomp", "unconfined".into())], "0 0 "),
    ];
    for (id, options, expected) in cases {
        let output = bench.shell(id, show, options);
        assert!(output.out.starts_with(expected), "{id}: {output:?}");
        assert!(!output.out.ends_with("0000000000000000\n"), "{id}: the defaults are in force: {output:?}");
    }
    let asked = vec![("ambient", "asked".into()), ("cap_add", Value::texts(["net_bind_service"]))];
    assert!(bench.shell("asked", show, asked).out.ends_with("0000000000000400\n"));
    bench.finish();
}

/// Covers: T48, T120
#[test]
fn tasks_of_one_allocation_share_a_network_and_nothing_else() {
    let Some(bench) = Bench::new("network") else { return };
    let own = TaskRequest {
        network: Network::Own,
        ..bench.script("a", "cat /proc/net/dev; echo; exec sleep 100", vec![])
    };
    let mut first = bench.started(&own);
    let devices: Vec<String> =
        std::iter::from_fn(|| Some(read_line(&mut first.out)).filter(|line| !line.is_empty())).collect();
    assert_eq!(devices.len(), 3, "two lines of a head, and the loopback: {devices:?}");
    let path = HostPath::new(format!("/proc/{}/ns/net", first.started.pid)).unwrap();
    let script = "cat /sys/class/net/lo/flags; ls /sys/class/net; exec sleep 100";
    let join = TaskRequest { network: Network::Join(path), ..bench.script("b", script, vec![]) };
    let mut second = bench.started(&join);
    assert_eq!((read_line(&mut second.out), read_line(&mut second.out)), ("0x9".into(), "lo".into()), "up");
    let (one, other) = (first.started.pid, second.started.pid);
    assert_eq!(namespace(one, "net"), namespace(other, "net"));
    for kind in ["pid", "ipc", "mnt", "uts"] {
        assert_ne!(namespace(one, kind), namespace(other, kind), "{kind}");
    }
    let wrong = HostPath::new(format!("/proc/{one}/ns/pid")).unwrap();
    let text =
        bench.refusal(&TaskRequest { network: Network::Join(wrong), ..bench.script("c", "true", vec![]) });
    assert!(text.contains("does not lead to a network namespace"), "{text}");
    for id in [first.id, second.id] {
        bench.engine.destroy(&id, Leftovers::Kill).unwrap();
    }
    bench.finish();
}

#[test]
fn a_reaper_and_the_whole_group() {
    let Some(bench) = Bench::new("init") else { return };
    // Without a handler PID 1 is deaf to SIGINT; behind the reaper it is not.
    let run = bench.started(&bench.request("a", "sleep", &["1000"], vec![("init", true.into())]));
    assert_eq!(
        bench.exec(&run.id, "tr '\\0' ' ' < /proc/1/cmdline", b"").out,
        "bivouac-init /usr/bin/sleep 1000 "
    );
    let exit = bench.engine.stop(&run.id, Signal::INT, Duration::from_secs(50)).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 128 + 2, "{exit:?}");
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    // A signal of a stop reaches the children too.
    let script = "sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.05; done' & \
        trap 'wait; echo parent; exit 5' TERM; while :; do sleep 0.05; done";
    let mut run = bench.started(&bench.script("b", script, vec![("kill_mode", "group".into())]));
    assert_eq!(read_line(&mut run.out), "ready");
    bench.engine.stop(&run.id, Signal::TERM, Duration::from_secs(50)).unwrap();
    assert_eq!((read_line(&mut run.out), read_line(&mut run.out)), ("child".into(), "parent".into()));
    assert_eq!(wait(run.started).ending.code(), 5);
    bench.engine.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// What a job said about its stop is found by a process that knows nothing but the id.
#[test]
fn the_rule_of_a_stop_is_recorded() {
    let Some(bench) = Bench::new("rule") else { return };
    let stop = StopRule { signal: Signal::parse("SIGUSR1").unwrap(), grace: Duration::from_secs(33) };
    let request = TaskRequest {
        stop,
        ..bench.script("a", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done", vec![])
    };
    let mut run = bench.started(&request);
    assert_eq!(read_line(&mut run.out), "ready");
    let other = bivouac_driver::engine::Engine::new(bench.places.clone()).unwrap();
    let rule = other.stop_rule(&run.id).unwrap();
    assert_eq!(rule, stop);
    assert_eq!(other.stop(&run.id, rule.signal, rule.grace).unwrap().unwrap().ending.code(), 9);
    other.destroy(&run.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

/// Covers: 1d-one-nobody
#[test]
fn tasks_without_a_user_have_numbers_of_their_own() {
    let options = vec![("dynamic_users", "3000000-3000009".into())];
    let Some(bench) = Bench::with("dynamic", options) else { return };
    let show = "id -u; id -g; id -G; echo $USER; echo mine > /local/kept 2>/dev/null; stat -c %u /local/kept";
    let numbers =
        |output: Output| -> Vec<u32> { output.out.lines().filter_map(|line| line.parse().ok()).collect() };
    let (one, other) = (numbers(bench.shell("a", show, vec![])), numbers(bench.shell("b", show, vec![])));
    for own in [&one, &other] {
        assert_eq!(own.len(), 4, "{own:?}");
        assert!((3_000_000..=3_000_009).contains(&own[0]) && own.iter().all(|id| *id == own[0]), "{own:?}");
    }
    assert_ne!(one[0], other[0]);
    assert_eq!(numbers(bench.shell("a", show, vec![])), one, "the same number at its next start");
    let named = TaskRequest { user: "nobody".into(), ..bench.script("c", "id -u", vec![]) };
    assert_eq!(bench.run(&named).out, "65534\n");
    bench.finish();
}

/// Covers: T29
#[test]
fn bidirectional_mounts_need_the_operator_and_reach_the_host() {
    let Some(bench) = Bench::with(
        "both-ways",
        vec![
            ("allow_mount_paths", Value::texts(["/var/tmp"])),
            ("allow_bidirectional", true.into()),
            ("allow_mount", true.into()),
            ("allow_caps", Value::texts(["all"])),
        ],
    ) else {
        return;
    };
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    let path = data.path().to_str().unwrap().to_owned();
    let mount = |propagation: &str| {
        Value::map([
            ("source", path.as_str().into()),
            ("target", "/both".into()),
            ("propagation", Value::from(propagation)),
        ])
    };
    let options =
        |propagation: &str| vec![("mount", mount(propagation)), ("cap_add", Value::texts(["sys_admin"]))];
    let script = "mkdir -p /both/sub && mount -t tmpfs none /both/sub && touch /both/sub/inside && echo done; \
        while [ -e /both/sub/inside ]; do sleep 0.05; done; echo unmounted; exec sleep 100";
    // On a private mount there is no way to the host.
    let text = bench.refusal(&bench.root_script("a", script, options("bidirectional")));
    assert!(text.contains("make-shared"), "{text}");

    rustix::mount::mount_bind(data.path(), data.path()).unwrap();
    let shared = rustix::mount::MountPropagationFlags::SHARED;
    rustix::mount::mount_change(data.path(), shared).unwrap();
    let mut run = bench.started(&bench.root_script("b", script, options("bidirectional")));
    assert_eq!(read_line(&mut run.out), "done");
    assert!(data.path().join("sub/inside").exists(), "the task's mount is on the host");
    rustix::mount::unmount(data.path().join("sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(read_line(&mut run.out), "unmounted");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    // One way only: what the host mounts appears, what the task mounts does not.
    let script = "mkdir -p /both/up; mount -t tmpfs none /both/up && touch /both/up/inside; echo done; \
        until [ -e /both/down/host ]; do sleep 0.05; done; echo seen; exec sleep 100";
    let mut run = bench.started(&bench.root_script("c", script, options("host-to-task")));
    assert_eq!(read_line(&mut run.out), "done");
    assert!(!data.path().join("up/inside").exists());
    std::fs::create_dir(data.path().join("down")).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", data.path().join("down"), "tmpfs", none, None).unwrap();
    std::fs::write(data.path().join("down/host"), "").unwrap();
    assert_eq!(read_line(&mut run.out), "seen");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    for path in [data.path().join("down"), data.path().to_owned()] {
        rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    let strict = bivouac_driver::config::OperatorConfig::decode(&Value::map([(
        "allow_mount_paths",
        Value::texts(["/var/tmp"]),
    )]))
    .unwrap();
    let request = bench.root_script("d", "true", vec![("mount", mount("bidirectional"))]);
    let text = bench.engine.prepare(&strict, &request).unwrap_err().to_string();
    assert!(text.contains("allow_bidirectional"), "{text}");
    until("nothing of the host is mounted there any more", || {
        !std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&path)
    });
    bench.finish();
}

/// What an operator allows is opened beneath it: a directory that becomes a link after the look leads nowhere.
///
/// Covers: CVE-2021-30465
#[test]
fn a_source_that_becomes_a_link_is_refused() {
    let Some(bench) = Bench::with("beneath", vec![("allow_mount_paths", Value::texts(["/var/tmp"]))]) else {
        return;
    };
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir_all(data.path().join("a/b")).unwrap();
    let source = data.path().join("a/b");
    let mount = Value::map([("source", source.to_str().unwrap().into()), ("target", Value::from("/data"))]);
    let request = bench.script("a", "ls /data", vec![("mount", mount)]);
    let task = bench.engine.prepare(&bench.operator, &request).unwrap();
    std::fs::rename(data.path().join("a"), data.path().join("was")).unwrap();
    std::os::unix::fs::symlink("/etc", data.path().join("a")).unwrap();
    std::fs::create_dir_all(data.path().join("was/ssl")).unwrap();
    let streams = bivouac_driver::request::Streams::Files { stdin: None, stdout: None, stderr: None };
    let gone = bivouac_driver::request::StarterGone::Keep;
    let text = bench.engine.start(&request, &task, streams.into(), gone).map(drop).unwrap_err().to_string();
    assert!(text.contains(source.to_str().unwrap()), "{text}");
    bench.finish();
}
