//! The environment of a task: the `NOMAD_*` variables, the metadata, then what the job file sets.

use bivouac_jobspec::{Cpu, Group, Job, MemoryMax, PortTarget, Task};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A port of the group on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Its number.
    pub number: u16,
    /// The address that it is bound on, where the job file names a network; else all of them.
    pub address: Option<IpAddr>,
}

/// What names one instance of a task.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// The job.
    pub job: &'a Job,
    /// The group.
    pub group: &'a Group,
    /// The task.
    pub task: &'a Task,
    /// The allocation's id: a UUID.
    pub alloc_id: &'a str,
    /// Which of the group's `count` it is, from 0.
    pub index: u32,
    /// The group's ports on the host, by label.
    pub ports: &'a BTreeMap<String, HostPort>,
}

/// All variables but the job file's own, sorted by name.
pub fn nomad(instance: &Instance<'_>) -> BTreeMap<String, String> {
    let Instance { job, group, task, alloc_id, index, .. } = *instance;
    let mut all = meta(instance);
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("NOMAD_ALLOC_DIR", "/alloc".to_owned());
    set("NOMAD_TASK_DIR", "/local".to_owned());
    set("NOMAD_SECRETS_DIR", "/secrets".to_owned());
    set("NOMAD_ALLOC_ID", alloc_id.to_owned());
    set("NOMAD_SHORT_ALLOC_ID", alloc_id.chars().take(8).collect());
    set("NOMAD_ALLOC_NAME", format!("{}.{}[{index}]", job.id, group.name));
    set("NOMAD_ALLOC_INDEX", index.to_string());
    set("NOMAD_TASK_NAME", task.name.clone());
    set("NOMAD_GROUP_NAME", group.name.clone());
    set("NOMAD_JOB_ID", job.id.clone());
    set("NOMAD_JOB_NAME", job.name.clone());
    set(
        "NOMAD_DC",
        job.datacenters.first().filter(|name| *name != "*").cloned().unwrap_or_else(|| "dc1".to_owned()),
    );
    set("NOMAD_REGION", job.region.clone());
    set("NOMAD_NAMESPACE", job.namespace.clone());
    set("NOMAD_MEMORY_LIMIT", task.resources.memory_mb.to_string());
    if let MemoryMax::Mb(megabytes) = task.resources.memory_max {
        set("NOMAD_MEMORY_MAX_LIMIT", megabytes.to_string());
    }
    let mhz = match task.resources.cpu {
        Cpu::Mhz(mhz) => u64::from(mhz),
        // Which processors they are is told when the task starts.
        Cpu::Cores(count) => crate::node::mhz_of(count),
    };
    set("NOMAD_CPU_LIMIT", mhz.to_string());
    ports(instance, &mut all);
    all
}

fn meta(instance: &Instance<'_>) -> BTreeMap<String, String> {
    let levels = [&instance.job.meta, &instance.group.meta, &instance.task.meta];
    let mut all = BTreeMap::new();
    for (key, value) in levels.into_iter().flatten() {
        for spelling in [key.clone(), key.to_uppercase()] {
            all.insert(format!("NOMAD_META_{}", plain(&spelling)), value.clone());
        }
    }
    all
}

fn ports(instance: &Instance<'_>, all: &mut BTreeMap<String, String>) {
    for port in &instance.group.network.ports {
        let label = plain(&port.label);
        let Some(HostPort { number: host, address }) = instance.ports.get(&port.label).copied() else {
            continue;
        };
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let whole = SocketAddr::new(address, host).to_string();
        let inside = match port.to {
            PortTarget::Port(number) => number,
            PortTarget::Unset | PortTarget::SameAsHost => host,
        };
        for (name, value) in [
            ("IP", address.to_string()),
            ("PORT", inside.to_string()),
            ("ADDR", whole.clone()),
            ("ALLOC_PORT", inside.to_string()),
            ("HOST_IP", address.to_string()),
            ("HOST_PORT", host.to_string()),
            ("HOST_ADDR", whole),
        ] {
            all.insert(format!("NOMAD_{name}_{label}"), value);
        }
    }
}

/// Names of variables hold letters, digits and `_`.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain() {
        assert_eq!(plain("a-b.c_1"), "a_b_c_1");
    }
}
