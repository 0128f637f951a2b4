//! What the client says, and what it reads.

use super::*;
use proptest::prelude::*;
use prost::Message;

fn config() -> pb::TaskConfig {
    pb::TaskConfig {
        id: "a/web/01234567".into(),
        name: "web".into(),
        alloc_id: "a".into(),
        alloc_dir: "/var/nomad/alloc/a".into(),
        ..Default::default()
    }
}

fn read(config: &pb::TaskConfig) -> Result<TaskStart, RequestError> {
    task(config, Values::default(), BTreeMap::new(), DynamicUsers::Off, [Output::Discard, Output::Discard])
}

/// Covers: D13
#[test]
fn a_whole_task_is_read() {
    let config = pb::TaskConfig {
        user: "alice".into(),
        mounts: vec![pb::Mount {
            task_path: "data".into(),
            host_path: "/srv".into(),
            readonly: true,
            propagation_mode: "host-to-task".into(),
            ..Default::default()
        }],
        devices: vec![pb::Device {
            task_path: "/dev/x".into(),
            host_path: "/dev/null".into(),
            cgroup_permissions: "rw".into(),
        }],
        network_isolation_spec: Some(pb::NetworkIsolationSpec {
            mode: 1,
            path: "/var/run/netns/a".into(),
            hosts_config: Some(pb::HostsConfig { hostname: "h".into(), address: "10.0.0.2".into() }),
            ..Default::default()
        }),
        dns: Some(pb::DnsConfig { servers: vec!["1.1.1.1".into()], ..Default::default() }),
        resources: Some(pb::Resources {
            allocated_resources: Some(pb::AllocatedTaskResources {
                cpu: Some(pb::AllocatedCpuResources { cpu_shares: 500 }),
                memory: Some(pb::AllocatedMemoryResources { memory_mb: 256, memory_max_mb: -1 }),
                networks: vec![],
            }),
            linux_resources: Some(pb::LinuxResources {
                cpuset_cpus: "0-1".into(),
                cpuset_cgroup: "/sys/fs/cgroup/nomad.slice/reserve.slice/a.web.scope".into(),
                ..Default::default()
            }),
            ports: vec![],
        }),
        ..config()
    };
    insta::assert_debug_snapshot!(read(&config).unwrap());
}

#[test]
fn what_must_not_be_is_refused_by_name() {
    let refused = |change: fn(&mut pb::TaskConfig)| {
        let mut config = config();
        change(&mut config);
        read(&config).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(|c| c.id.clear()), @"the request names no task");
    insta::assert_snapshot!(refused(|c| c.name = "..".into()), @r#"the task's name is "..": it must be one path component"#);
    insta::assert_snapshot!(refused(|c| c.name = "a/b".into()), @r#"the task's name is "a/b": it must be one path component"#);
    insta::assert_snapshot!(refused(|c| c.alloc_dir = "/a/../b".into()), @r#"the task's allocation directory is "/a/../b": it must be an absolute path without `..`"#);
    insta::assert_snapshot!(refused(|c| c.alloc_dir.clear()), @r#"the task's allocation directory is "": it must be an absolute path without `..`"#);
    insta::assert_snapshot!(
        refused(|c| c.devices = vec![pb::Device { cgroup_permissions: "rx".into(), ..Default::default() }]),
        @r#"the task's device permissions is "rx": it must be some of r, w and m"#
    );
    insta::assert_snapshot!(
        refused(|c| c.mounts = vec![pb::Mount { propagation_mode: "shared".into(), ..Default::default() }]),
        @r#"the task's mount propagation is "shared": it must be private, host-to-task or bidirectional"#
    );
}

#[test]
fn memory_max_has_three_meanings() {
    let max = |memory_max_mb| {
        let memory = Some(pb::AllocatedMemoryResources { memory_mb: 10, memory_max_mb });
        let allocated = pb::AllocatedTaskResources { memory, ..Default::default() };
        resources(pb::Resources { allocated_resources: Some(allocated), ..Default::default() }).memory_max
    };
    assert_eq!(
        [max(0), max(20), max(-1), max(-2)],
        [MemoryMax::None, MemoryMax::Mib(20), MemoryMax::Unlimited, MemoryMax::None]
    );
}

#[test]
fn durations_from_a_hostile_client_are_harmless() {
    let of = |seconds, nanos| duration(Some(&prost_types::Duration { seconds, nanos }));
    assert_eq!(of(5, 1), Duration::new(5, 1));
    assert_eq!(of(-5, -1), Duration::ZERO);
    assert_eq!(of(i64::MIN, i32::MAX), Duration::ZERO);
    assert_eq!(of(i64::MAX, -1).as_secs(), i64::MAX.unsigned_abs());
    assert_eq!(duration(None), Duration::ZERO);
}

#[test]
fn a_sample_says_what_was_measured() {
    let earlier = Usage { cpu_total_ns: 1_000_000_000, cpu_user_ns: 1_000_000_000, ..Default::default() };
    let now = Usage {
        cpu_total_ns: 2_000_000_000,
        cpu_user_ns: 1_500_000_000,
        cpu_system_ns: 500_000_000,
        rss: Some(4096),
        ..Default::default()
    };
    let host = HostFacts { cores: 2, total_mhz: 4000, usable_mhz: 4000 };
    let sample = usage("id".into(), &now, Some((&earlier, Duration::from_secs(2))), &host).stats.unwrap();
    let sum = sample.agg_resource_usage.unwrap();
    let (cpu, memory) = (sum.cpu.unwrap(), sum.memory.unwrap());
    assert_eq!((cpu.percent, cpu.user_mode, cpu.system_mode, cpu.total_ticks), (50.0, 25.0, 25.0, 1000.0));
    assert_eq!(memory.measured_fields, [i32::from(pb::memory_usage::Fields::Rss)]);
    assert!(sample.timestamp.is_some());
}

#[test]
fn processors_are_counted_as_the_client_does() {
    let core = |base_speed, guess_speed, disable| base::ClientTopologyCore {
        base_speed,
        guess_speed,
        disable,
        ..Default::default()
    };
    let cores = vec![core(2000, 0, false), core(0, 1500, true)];
    let topology = base::ClientTopology { cores, override_withold_compute: 500, ..Default::default() };
    assert_eq!(host_facts(Some(&topology)), HostFacts { cores: 2, total_mhz: 3500, usable_mhz: 1500 });
    let forced = base::ClientTopology { override_total_compute: 9000, ..topology };
    assert_eq!(host_facts(Some(&forced)), HostFacts { cores: 2, total_mhz: 9000, usable_mhz: 9000 });
    assert_eq!(host_facts(None), HostFacts::default());
}

proptest! {
    #[test]
    fn no_bytes_of_a_client_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(config) = pb::TaskConfig::decode(bytes.as_slice()) {
            let _ = read(&config);
        }
    }
}
