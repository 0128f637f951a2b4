//! Between the wire's messages and the face's plain types.

use crate::face::{
    Device, Dns, DynamicUsers, Exit, Fact, Fingerprint, Health, HostFacts, Hosts, Inspection, MemoryMax,
    Mount, Network, Output, ProcessUsage, Propagation, Resources, TaskEvent, TaskStart, Usage,
};
use crate::options::Values;
use crate::wire::{base, driver as pb, structs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest task id that is taken, in bytes: the client's are some hundred.
const MAX_ID: usize = 4096;

/// What is wrong with a request, beyond its encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request names no task")]
    NoTask,
    #[error("the task's {field} is {value:?}: it must be {expected}")]
    Field { field: &'static str, value: String, expected: &'static str },
}

fn bad(field: &'static str, value: &str, expected: &'static str) -> RequestError {
    RequestError::Field { field, value: value.chars().take(128).collect(), expected }
}

/// The task to start, from what the client sent; options, environment and output come from elsewhere.
pub(crate) fn task(
    config: &pb::TaskConfig,
    options: Values,
    env: BTreeMap<String, String>,
    dynamic_users: DynamicUsers,
    [stdout, stderr]: [Output; 2],
) -> Result<TaskStart, RequestError> {
    if config.id.is_empty() {
        return Err(RequestError::NoTask);
    }
    if config.id.len() > MAX_ID || config.id.contains('\0') {
        return Err(bad("id", &config.id, "at most 4096 bytes without NUL"));
    }
    if !is_component(&config.name) {
        return Err(bad("name", &config.name, "one path component"));
    }
    let mounts = config.mounts.iter().map(mount).collect::<Result<_, _>>()?;
    let devices = config.devices.iter().map(device).collect::<Result<_, _>>()?;
    let resources = config.resources.clone().map_or_else(Resources::default, resources);
    Ok(TaskStart {
        id: config.id.clone(),
        name: config.name.clone(),
        alloc_id: config.alloc_id.clone(),
        job_name: config.job_name.clone(),
        group_name: config.task_group_name.clone(),
        user: Some(config.user.clone()).filter(|user| !user.is_empty()),
        dynamic_users,
        env,
        options,
        alloc_dir: absolute("allocation directory", &config.alloc_dir)?,
        stdout,
        stderr,
        mounts,
        devices,
        network: network(config.network_isolation_spec.as_ref())?,
        dns: config.dns.as_ref().map(|dns| Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        resources,
    })
}

fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(['/', '\0'])
}

/// An absolute path without `..`: the client never sends another.
pub(crate) fn absolute(field: &'static str, path: &str) -> Result<PathBuf, RequestError> {
    let sound = path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..");
    if sound { Ok(PathBuf::from(path)) } else { Err(bad(field, path, "an absolute path without `..`")) }
}

fn mount(mount: &pb::Mount) -> Result<Mount, RequestError> {
    let propagation = match mount.propagation_mode.as_str() {
        "" | "private" => Propagation::Private,
        "host-to-task" => Propagation::HostToTask,
        "bidirectional" => Propagation::Bidirectional,
        other => return Err(bad("mount propagation", other, "private, host-to-task or bidirectional")),
    };
    if mount.task_path.is_empty() || mount.task_path.contains('\0') {
        return Err(bad("mount path", &mount.task_path, "a path"));
    }
    Ok(Mount {
        task_path: mount.task_path.clone(),
        host_path: absolute("mount source", &mount.host_path)?,
        readonly: mount.readonly,
        propagation,
    })
}

fn device(device: &pb::Device) -> Result<Device, RequestError> {
    let permissions = &device.cgroup_permissions;
    if !permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(bad("device permissions", permissions, "some of r, w and m"));
    }
    Ok(Device {
        task_path: device.task_path.clone(),
        host_path: absolute("device", &device.host_path)?,
        permissions: permissions.clone(),
    })
}

fn network(spec: Option<&pb::NetworkIsolationSpec>) -> Result<Network, RequestError> {
    let Some(spec) = spec.filter(|spec| !spec.path.is_empty()) else { return Ok(Network::Host) };
    let hosts = spec.hosts_config.as_ref().filter(|hosts| !hosts.hostname.is_empty());
    let hosts = hosts.map(|hosts| Hosts { hostname: hosts.hostname.clone(), address: hosts.address.clone() });
    Ok(Network::Join { path: absolute("network namespace", &spec.path)?, hosts })
}

/// The task's limits. Negative numbers, but for memory_max, mean that nothing was said.
pub(crate) fn resources(resources: pb::Resources) -> Resources {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    let allocated = resources.allocated_resources.unwrap_or_default();
    let linux = resources.linux_resources.unwrap_or_default();
    let memory = allocated.memory.unwrap_or_default();
    Resources {
        cpu_mhz: allocated.cpu.map_or(0, |cpu| positive(cpu.cpu_shares)),
        memory_mib: positive(memory.memory_mb),
        memory_max: match memory.memory_max_mb {
            -1 => MemoryMax::Unlimited,
            n if n > 0 => MemoryMax::Mib(positive(n)),
            _ => MemoryMax::None,
        },
        cores: linux.cpuset_cpus,
        cgroup: Some(linux.cpuset_cgroup).filter(|path| !path.is_empty()).map(PathBuf::from),
    }
}

/// What the client knows about the host's processors, by its own rules for counting them.
pub(crate) fn host_facts(topology: Option<&base::ClientTopology>) -> HostFacts {
    let Some(topology) = topology else { return HostFacts::default() };
    let speed = |core: &base::ClientTopologyCore| {
        [core.base_speed, core.max_speed, core.guess_speed].into_iter().find(|mhz| *mhz > 0).unwrap_or(0)
    };
    let sum = |cores: &mut dyn Iterator<Item = u64>| cores.fold(0_u64, u64::saturating_add);
    let total = sum(&mut topology.cores.iter().map(speed));
    let usable = sum(&mut topology.cores.iter().filter(|core| !core.disable).map(speed));
    let forced = Some(topology.override_total_compute).filter(|mhz| *mhz > 0);
    HostFacts {
        cores: u32::try_from(topology.cores.len()).unwrap_or(u32::MAX),
        total_mhz: forced.unwrap_or(total),
        usable_mhz: forced.unwrap_or(usable.saturating_sub(topology.override_withold_compute)),
    }
}

pub(crate) fn exit_result(exit: &Exit) -> pb::ExitResult {
    pb::ExitResult { exit_code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed }
}

/// The client's spelling of "never": the first second of year 1.
const NEVER: prost_types::Timestamp = prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 };

pub(crate) fn timestamp(time: Option<SystemTime>) -> prost_types::Timestamp {
    let Some(since) = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) else { return NEVER };
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from the wire; a negative one is none at all.
pub(crate) fn duration(duration: Option<&prost_types::Duration>) -> Duration {
    let Some(duration) = duration else { return Duration::ZERO };
    let seconds = u64::try_from(duration.seconds).unwrap_or(0);
    let nanos = if duration.seconds < 0 { 0 } else { u32::try_from(duration.nanos).unwrap_or(0) };
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
}

pub(crate) fn inspection(id: String, name: String, inspection: Inspection) -> pb::InspectTaskResponse {
    let state = if inspection.exit.is_some() { pb::TaskState::Exited } else { pb::TaskState::Running };
    pb::InspectTaskResponse {
        task: Some(pb::TaskStatus {
            id,
            name,
            state: state.into(),
            started_at: Some(timestamp(Some(inspection.started_at))),
            completed_at: Some(timestamp(inspection.completed_at)),
            result: Some(inspection.exit.as_ref().map(exit_result).unwrap_or_default()),
        }),
        driver: Some(pb::TaskDriverStatus { attributes: inspection.attributes }),
        network_override: None,
    }
}

pub(crate) fn fingerprint(driver: &str, fingerprint: Fingerprint) -> pb::FingerprintResponse {
    use structs::attribute::Value;
    let health = match fingerprint.health {
        Health::Undetected => pb::fingerprint_response::HealthState::Undetected,
        Health::Unhealthy => pb::fingerprint_response::HealthState::Unhealthy,
        Health::Healthy => pb::fingerprint_response::HealthState::Healthy,
    };
    let attribute = |value| structs::Attribute { value: Some(value), unit: String::new() };
    let mut attributes: BTreeMap<_, _> = fingerprint
        .attributes
        .into_iter()
        .map(|(name, fact)| {
            let value = match fact {
                Fact::Flag(flag) => Value::BoolVal(flag),
                Fact::Count(count) => Value::IntVal(count),
                Fact::Text(text) => Value::StringVal(text),
            };
            (format!("driver.{driver}.{name}"), attribute(value))
        })
        .collect();
    if fingerprint.health != Health::Undetected {
        attributes.insert(format!("driver.{driver}"), attribute(Value::BoolVal(true)));
    }
    pb::FingerprintResponse {
        attributes,
        health: health.into(),
        health_description: fingerprint.description,
        err: String::new(),
    }
}

pub(crate) fn event(event: TaskEvent) -> pb::DriverTaskEvent {
    pb::DriverTaskEvent {
        task_id: event.task_id,
        alloc_id: event.alloc_id,
        task_name: event.task_name,
        timestamp: Some(timestamp(Some(SystemTime::now()))),
        message: event.message,
        annotations: event.annotations,
    }
}

/// One sample of a task's use; `earlier` is the sample before it and how long ago that was.
pub(crate) fn usage(
    id: String,
    now: &Usage,
    earlier: Option<(&Usage, Duration)>,
    host: &HostFacts,
) -> pb::TaskStatsResponse {
    use pb::cpu_usage::Fields as Cpu;
    use pb::memory_usage::Fields as Memory;
    let percent = |of: fn(&Usage) -> u64| match earlier {
        Some((before, passed)) if !passed.is_zero() => {
            let spent = Duration::from_nanos(of(now).saturating_sub(of(before)));
            spent.as_secs_f64() / passed.as_secs_f64() * 100.0
        }
        _ => 0.0,
    };
    let all = percent(|usage| usage.cpu_total_ns);
    let per_core = if host.cores == 0 { 0.0 } else { mhz(host.total_mhz) / f64::from(host.cores) };
    let mut cpu_fields = vec![Cpu::SystemMode, Cpu::UserMode, Cpu::Percent];
    cpu_fields.extend(now.throttled_periods.map(|_| Cpu::ThrottledPeriods));
    cpu_fields.extend(now.throttled_ns.map(|_| Cpu::ThrottledTime));
    let memory_fields = [
        (now.rss, Memory::Rss),
        (now.cache, Memory::Cache),
        (now.swap, Memory::Swap),
        (now.usage, Memory::Usage),
        (now.max_usage, Memory::MaxUsage),
        (now.kernel_usage, Memory::KernelUsage),
        (now.kernel_max_usage, Memory::KernelMaxUsage),
    ];
    let measured = memory_fields.iter().filter(|(value, _)| value.is_some());
    let sum = pb::TaskResourceUsage {
        cpu: Some(pb::CpuUsage {
            system_mode: percent(|usage| usage.cpu_system_ns),
            user_mode: percent(|usage| usage.cpu_user_ns),
            total_ticks: all / 100.0 * per_core,
            throttled_periods: now.throttled_periods.unwrap_or(0),
            throttled_time: now.throttled_ns.unwrap_or(0),
            percent: all,
            measured_fields: cpu_fields.into_iter().map(i32::from).collect(),
        }),
        memory: Some(pb::MemoryUsage {
            rss: now.rss.unwrap_or(0),
            cache: now.cache.unwrap_or(0),
            max_usage: now.max_usage.unwrap_or(0),
            kernel_usage: now.kernel_usage.unwrap_or(0),
            kernel_max_usage: now.kernel_max_usage.unwrap_or(0),
            measured_fields: measured.map(|(_, field)| i32::from(*field)).collect(),
            usage: now.usage.unwrap_or(0),
            swap: now.swap.unwrap_or(0),
        }),
    };
    pb::TaskStatsResponse {
        stats: Some(pb::TaskStats {
            id,
            timestamp: Some(timestamp(Some(SystemTime::now()))),
            agg_resource_usage: Some(sum),
            resource_usage_by_pid: processes(now, earlier, per_core),
        }),
    }
}

/// Each process by its number, with what the built-in driver tells about it.
fn processes(
    now: &Usage,
    earlier: Option<(&Usage, Duration)>,
    per_core: f64,
) -> BTreeMap<String, pb::TaskResourceUsage> {
    use pb::cpu_usage::Fields as Cpu;
    use pb::memory_usage::Fields as Memory;
    let one = |(pid, process): (&i32, &ProcessUsage)| {
        let before = earlier.and_then(|(usage, passed)| Some((usage.processes.get(pid)?, passed)));
        let percent = |of: fn(&ProcessUsage) -> u64| match before {
            Some((before, passed)) if before.started == process.started && !passed.is_zero() => {
                let spent = Duration::from_nanos(of(process).saturating_sub(of(before)));
                spent.as_secs_f64() / passed.as_secs_f64() * 100.0
            }
            _ => 0.0,
        };
        let all = percent(|process| process.cpu_user_ns.saturating_add(process.cpu_system_ns));
        let cpu = pb::CpuUsage {
            system_mode: percent(|process| process.cpu_system_ns),
            user_mode: percent(|process| process.cpu_user_ns),
            percent: all,
            total_ticks: all / 100.0 * per_core,
            measured_fields: [Cpu::SystemMode, Cpu::UserMode, Cpu::Percent].map(i32::from).to_vec(),
            ..Default::default()
        };
        let memory = pb::MemoryUsage {
            rss: process.rss,
            swap: process.swap,
            measured_fields: [Memory::Rss, Memory::Swap].map(i32::from).to_vec(),
            ..Default::default()
        };
        (pid.to_string(), pb::TaskResourceUsage { cpu: Some(cpu), memory: Some(memory) })
    };
    now.processes.iter().map(one).collect()
}

/// No host has so many MHz that a float would round them.
fn mhz(mhz: u64) -> f64 {
    f64::from(u32::try_from(mhz).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
