//! Limits to the files and values of the two versions.

use crate::plan::Role;
use crate::{Bytes, Controller, CpuMax, DevicePolicy, Limits, OomKill, SwapPolicy};
use std::fmt;

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) file: &'static str,
    pub(crate) value: String,
    pub(crate) need: Need,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The group is of no use without.
    Must,
    /// A kernel without the file has nothing to limit.
    IfPresent,
    /// An improvement, whatever the kernel answers.
    Wish,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = match self.need {
            Need::Must => "",
            Need::IfPresent => " if present",
            Need::Wish => " if possible",
        };
        write!(f, "{} = {}{need}", self.file, self.value)
    }
}

fn must(file: &'static str, value: impl fmt::Display) -> Write {
    Write { file, value: value.to_string(), need: Need::Must }
}

fn if_present(file: &'static str, value: impl fmt::Display) -> Write {
    Write { file, value: value.to_string(), need: Need::IfPresent }
}

fn wish(file: &'static str, value: impl fmt::Display) -> Write {
    Write { file, value: value.to_string(), need: Need::Wish }
}

/// For one controller of version 1 (kernel documentation, `admin-guide/cgroup-v1/`).
pub(crate) fn v1_writes(
    controller: Controller,
    limits: &Limits,
    devices: &DevicePolicy,
    role: Role,
) -> Vec<Write> {
    match controller {
        Controller::Memory => v1_memory(limits, role),
        Controller::Cpu => {
            let shares = limits.cpu_shares.map(|shares| must("cpu.shares", shares.get()));
            shares
                .into_iter()
                .chain(limits.cpu_max.into_iter().flat_map(|max| v1_bandwidth(max, role)))
                .collect()
        }
        Controller::Cpuset => limits.cpuset.iter().map(|set| must("cpuset.cpus", set)).collect(),
        Controller::Pids => limits.pids.iter().map(|pids| must("pids.max", pids)).collect(),
        Controller::Devices => match devices {
            DevicePolicy::Unrestricted => Vec::new(),
            DevicePolicy::Allow(rules) => {
                let allow = rules.iter().map(|rule| must("devices.allow", rule));
                std::iter::once(must("devices.deny", "a")).chain(allow).collect()
            }
        },
        Controller::Cpuacct | Controller::Freezer | Controller::Blkio | Controller::Systemd => Vec::new(),
    }
}

fn v1_memory(limits: &Limits, role: Role) -> Vec<Write> {
    let memory = limits.memory;
    let mut writes = Vec::new();
    if let Some(max) = memory.max {
        if role == Role::Given {
            // The group may have been used before: the limit may not rise above that of memory and swap.
            writes.push(if_present("memory.memsw.limit_in_bytes", "-1"));
        }
        writes.push(must("memory.limit_in_bytes", max));
        let both = |swap: u64| Bytes(max.0.saturating_add(swap));
        match memory.swap {
            SwapPolicy::None => writes.push(if_present("memory.memsw.limit_in_bytes", max)),
            SwapPolicy::Max(swap) => writes.push(must("memory.memsw.limit_in_bytes", both(swap.0))),
            SwapPolicy::Unlimited => {}
        }
    }
    if let Some(low) = memory.low {
        writes.push(must("memory.soft_limit_in_bytes", low));
    }
    if memory.swap == SwapPolicy::None {
        // The limit of both together still lets the host swap this group out when the host is short.
        writes.push(wish("memory.swappiness", 0));
    }
    writes
}

fn v1_bandwidth(max: CpuMax, role: Role) -> Vec<Write> {
    let mut writes = Vec::new();
    if max.period() != CpuMax::DEFAULT_PERIOD || role == Role::Given {
        writes.push(must("cpu.cfs_period_us", max.period()));
    }
    writes.push(must("cpu.cfs_quota_us", max.quota()));
    if max.burst() > 0 {
        writes.push(must("cpu.cfs_burst_us", max.burst()));
    }
    writes
}

/// For version 2 (kernel documentation, `admin-guide/cgroup-v2.rst`).
pub(crate) fn unified_writes(limits: &Limits, role: Role) -> Vec<Write> {
    let memory = limits.memory;
    let mut writes = Vec::new();
    writes.extend(limits.pids.iter().map(|pids| must("pids.max", pids)));
    writes.extend(memory.max.map(|max| must("memory.max", max)));
    writes.extend(memory.low.map(|low| must("memory.low", low)));
    match memory.swap {
        // Without the file there is no accounting of swap, or no memory controller and hence no limit.
        SwapPolicy::None => writes.push(if_present("memory.swap.max", 0)),
        SwapPolicy::Max(swap) => writes.push(must("memory.swap.max", swap)),
        SwapPolicy::Unlimited => {}
    }
    match limits.oom_kill {
        OomKill::Group => writes.push(must("memory.oom.group", 1)),
        // A given group may have been used before.
        OomKill::Process if role == Role::Given => writes.push(if_present("memory.oom.group", 0)),
        OomKill::Process => {}
    }
    writes.extend(limits.cpu_shares.map(|shares| must("cpu.weight", shares.weight())));
    if let Some(max) = limits.cpu_max {
        writes.push(must("cpu.max", format!("{} {}", max.quota(), max.period())));
        if max.burst() > 0 {
            writes.push(must("cpu.max.burst", max.burst()));
        }
    }
    writes.extend(limits.cpuset.iter().map(|set| must("cpuset.cpus", set)));
    writes
}
