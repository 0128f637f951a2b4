//! From what a job asks for (MHz, MiB, cores) to cgroup limits, and the rules for devices.

use crate::config::{DeviceUse, KillMode};
use bivouac_cgroup::{
    Bytes, CpuMax, CpuSet, CpuShares, DeviceAccess, DeviceKind, DeviceNumber, DevicePolicy, DeviceRule,
    Limits, Memory, OomKill, Pids, SwapPolicy,
};
use bivouac_sandbox::model;
use serde::{Deserialize, Serialize};

/// What a job asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time in MHz; only a weight unless `cpu_hard_limit` is set.
    pub cpu_mhz: u64,
    /// All that the host has, in MHz; 0 when nobody knows.
    pub total_mhz: u64,
    /// Memory in MiB; no limit when absent.
    pub memory_mib: Option<u64>,
    /// How far the task may go beyond it.
    pub memory_max: MemoryMax,
    /// Processors that are the task's own, such as `0-1,5`; empty for none.
    pub cores: String,
    /// Whether `cores` is written to the task's cpuset. A client that made the cpuset itself did that already.
    pub cpuset: CpusetOwner,
}

/// How far a task may go beyond the memory that it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryMax {
    /// Not at all.
    #[default]
    Same,
    /// Up to so many MiB.
    Mib(u64),
    /// As far as the host has memory.
    Unlimited,
}

/// Who writes `cpuset.cpus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpusetOwner {
    /// We do.
    #[default]
    Ours,
    /// Whoever made the group.
    Given,
}

/// Why limits cannot be what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResourceError {
    /// Nothing fits into nothing.
    #[error("memory must be at least 1 MiB, got 0")]
    NoMemory,
    /// The hard limit below the reservation.
    #[error("memory_max ({max} MiB) must not be below memory ({memory} MiB)")]
    MaxBelow {
        /// `memory_max`.
        max: u64,
        /// `memory`.
        memory: u64,
    },
    /// A share of an unknown whole.
    #[error(
        "cpu_hard_limit needs to know how fast this host is, and nobody said; leave it out, or ask for cores"
    )]
    UnknownSpeed,
    /// A part of nothing.
    #[error("cpu_hard_limit needs a cpu of at least 1 MHz")]
    NoCpu,
    /// A number that the kernel does not take.
    #[error(transparent)]
    Cgroup(std::sync::Arc<bivouac_cgroup::Error>),
}

impl From<bivouac_cgroup::Error> for ResourceError {
    fn from(error: bivouac_cgroup::Error) -> ResourceError {
        ResourceError::Cgroup(std::sync::Arc::new(error))
    }
}

/// What of a task's options bounds its use of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most processes and threads.
    pub pids: u64,
    /// Whether processor time is a limit.
    pub cpu_hard_limit: bool,
    /// What lack of memory kills.
    pub kill_mode: KillMode,
    /// How many processors the host has.
    pub processors: u64,
}

/// The limits of a task's group.
///
/// # Errors
/// [`ResourceError`].
pub fn limits(asked: &Resources, bounds: &Bounds) -> Result<Limits, ResourceError> {
    let pids = u32::try_from(bounds.pids).unwrap_or(u32::MAX);
    let cpuset: Option<CpuSet> = match (asked.cores.as_str(), asked.cpuset) {
        ("", _) | (_, CpusetOwner::Given) => None,
        (cores, CpusetOwner::Ours) => Some(cores.parse()?),
    };
    Ok(Limits {
        memory: memory(asked)?,
        cpu_shares: (asked.cpu_mhz > 0).then(|| CpuShares::new(shares(asked.cpu_mhz, asked.total_mhz))),
        cpu_max: if bounds.cpu_hard_limit && asked.cores.is_empty() {
            Some(hard_limit(asked, bounds)?)
        } else {
            None
        },
        cpuset,
        pids: Some(Pids::max(pids)?),
        oom_kill: match bounds.kill_mode {
            KillMode::Process => OomKill::Process,
            KillMode::Group => OomKill::Group,
        },
    })
}

/// Memory that may be asked for and the limit above it; no swap, but for a task without limit.
fn memory(asked: &Resources) -> Result<Memory, ResourceError> {
    let unlimited = Memory { max: None, low: None, swap: SwapPolicy::Unlimited };
    let Some(memory) = asked.memory_mib else { return Ok(unlimited) };
    if memory == 0 {
        return Err(ResourceError::NoMemory);
    }
    let low = Some(Bytes::from_mib(memory));
    match asked.memory_max {
        MemoryMax::Same => Ok(Memory { max: low, low: None, swap: SwapPolicy::None }),
        MemoryMax::Mib(max) if max < memory => Err(ResourceError::MaxBelow { max, memory }),
        MemoryMax::Mib(max) => Ok(Memory { max: Some(Bytes::from_mib(max)), low, swap: SwapPolicy::None }),
        MemoryMax::Unlimited => Ok(Memory { low, ..unlimited }),
    }
}

/// Largest number of shares; a machine with more MHz than that is scaled down to it.
const MOST_SHARES: u64 = 262_144;

/// MHz as shares.
fn shares(mhz: u64, total: u64) -> u64 {
    let scaled = if total < MOST_SHARES {
        mhz
    } else {
        let product = u128::from(mhz) * u128::from(MOST_SHARES) / u128::from(total);
        u64::try_from(product).unwrap_or(u64::MAX)
    };
    scaled.clamp(2, MOST_SHARES)
}

/// So much of each period as the task's MHz are of one processor's.
fn hard_limit(asked: &Resources, bounds: &Bounds) -> Result<CpuMax, ResourceError> {
    if asked.cpu_mhz == 0 {
        return Err(ResourceError::NoCpu);
    }
    if asked.total_mhz == 0 || bounds.processors == 0 {
        return Err(ResourceError::UnknownSpeed);
    }
    let period = u128::from(CpuMax::DEFAULT_PERIOD);
    let quota =
        u128::from(asked.cpu_mhz) * u128::from(bounds.processors) * period / u128::from(asked.total_mhz);
    let quota = u64::try_from(quota).unwrap_or(u64::MAX).max(1_000);
    Ok(CpuMax::new(quota, CpuMax::DEFAULT_PERIOD, 0)?)
}

/// One device node and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceGrant {
    /// Node in the task.
    pub node: model::Device,
    /// What may be done.
    pub access: DeviceUse,
}

/// The rules for devices: the default nodes, pseudo-terminals, the tunnel device, and what was granted. Making other
/// nodes is not allowed, unlike with the built-in driver: a node on a shared directory would outlive the task.
pub fn device_policy(granted: &[DeviceGrant]) -> DevicePolicy {
    let fixed = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)];
    let fixed = fixed.into_iter().map(|(major, minor)| DeviceRule::char(major, minor, DeviceAccess::ALL));
    let terminals = DeviceRule {
        kind: DeviceKind::Char,
        major: DeviceNumber::Is(136),
        minor: DeviceNumber::Any,
        access: DeviceAccess::ALL,
    };
    let extra = granted.iter().filter_map(rule);
    DevicePolicy::Allow(fixed.chain([terminals]).chain(extra).collect())
}

fn rule(grant: &DeviceGrant) -> Option<DeviceRule> {
    let letters: String = [(grant.access.read, 'r'), (grant.access.write, 'w'), (grant.access.make, 'm')]
        .into_iter()
        .filter_map(|(set, letter)| set.then_some(letter))
        .collect();
    let kind = match grant.node.kind {
        model::DeviceKind::Character => DeviceKind::Char,
        model::DeviceKind::Block => DeviceKind::Block,
    };
    let (major, minor) = (DeviceNumber::Is(grant.node.major), DeviceNumber::Is(grant.node.minor));
    // No letters are no permission: then there is no rule.
    Some(DeviceRule { kind, major, minor, access: letters.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Bounds =
        Bounds { pids: 4096, cpu_hard_limit: false, kill_mode: KillMode::Process, processors: 4 };

    fn asked(memory: u64, max: MemoryMax) -> Resources {
        Resources {
            cpu_mhz: 100,
            total_mhz: 10_000,
            memory_mib: Some(memory),
            memory_max: max,
            ..Resources::default()
        }
    }

    /// Covers: X39
    #[test]
    fn x39_memory_limits() {
        let mib = |mib| Some(Bytes::from_mib(mib));
        let row = |max| {
            limits(&asked(100, max), &PLAIN).map(|limits| (limits.memory.low, limits.memory.max)).unwrap()
        };
        assert_eq!(row(MemoryMax::Same), (None, mib(100)));
        assert_eq!(row(MemoryMax::Mib(200)), (mib(100), mib(200)));
        assert_eq!(row(MemoryMax::Unlimited), (mib(100), None));
        let error = |asked| limits(&asked, &PLAIN).unwrap_err().to_string();
        assert_eq!(error(asked(0, MemoryMax::Same)), "memory must be at least 1 MiB, got 0");
        assert_eq!(
            error(asked(100, MemoryMax::Mib(99))),
            "memory_max (99 MiB) must not be below memory (100 MiB)"
        );
        assert_eq!(limits(&asked(1, MemoryMax::Same), &PLAIN).unwrap().memory.swap, SwapPolicy::None);
    }

    /// Covers: X22
    #[test]
    fn x22_clamp_cpu_shares() {
        for (mhz, total, answer) in [
            (262_144, 12_000, 262_144),
            (1000, 12_000, 1000),
            (262_144, 262_144, 262_144),
            (262_144, 262_145, 262_143),
            (1, 262_145, 2),
            (1000, 524_288, 500),
            (262_144, 524_288, 131_072),
            (1, 12_000, 2),
            (1000, 0, 1000),
        ] {
            assert_eq!(shares(mhz, total), answer, "{mhz} of {total}");
        }
    }

    #[test]
    fn a_hard_limit_is_a_part_of_the_host() {
        let hard = Bounds { cpu_hard_limit: true, ..PLAIN };
        let quota =
            |resources: &Resources| limits(resources, &hard).map(|limits| limits.cpu_max.map(CpuMax::quota));
        // 100 of 10,000 MHz on 4 processors: 4 % of one processor.
        assert_eq!(quota(&asked(1, MemoryMax::Same)).unwrap(), Some(4_000));
        let cores = Resources { cores: "0-1".into(), ..asked(1, MemoryMax::Same) };
        assert_eq!(quota(&cores).unwrap(), None, "cores are a limit by themselves");
        let unknown = Resources { total_mhz: 0, ..asked(1, MemoryMax::Same) };
        assert!(quota(&unknown).unwrap_err().to_string().contains("how fast"));
    }

    #[test]
    fn cores_become_a_cpuset_unless_the_client_wrote_it() {
        let cores = |owner| Resources { cores: "0,2-3".into(), cpuset: owner, ..asked(1, MemoryMax::Same) };
        let ours = limits(&cores(CpusetOwner::Ours), &PLAIN).unwrap().cpuset.unwrap();
        assert_eq!(ours.iter().collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(limits(&cores(CpusetOwner::Given), &PLAIN).unwrap().cpuset, None);
        let odd = Resources { cores: "3-".into(), ..asked(1, MemoryMax::Same) };
        assert!(limits(&odd, &PLAIN).is_err());
    }

    /// Covers: X21
    #[test]
    fn x21_an_added_device_gets_a_rule() {
        let node = model::Device {
            target: bivouac_sandbox::TaskPath::new("/dev/fuse").unwrap(),
            kind: model::DeviceKind::Character,
            major: 10,
            minor: 229,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let DevicePolicy::Allow(rules) = device_policy(&[DeviceGrant { node, access: DeviceUse::ALL }])
        else {
            panic!()
        };
        let lines: Vec<String> = rules.iter().map(ToString::to_string).collect();
        assert!(lines.contains(&"c 10:229 rwm".to_owned()), "{lines:?}");
        assert!(lines.contains(&"c 136:* rwm".to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("*:*")), "{lines:?}");
    }
}
