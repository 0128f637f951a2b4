//! What a group has used, as far as its controllers count it.

use crate::files::{PER_DEVICE, SMALL};
use crate::group::Group;
use crate::place::Place;
use crate::{Bytes, Controller, Error, parse};
use serde::{Deserialize, Serialize};

/// Figures since the group was made; a given group may have been used before. `None`: this host does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// How often a limit of processor time held the group back.
    pub throttling: Option<Throttling>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Block devices.
    pub io: Option<IoStats>,
}

/// Processor time, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// In programs.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

/// Throttling by a limit of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// Periods in which the group wanted to run.
    pub periods: u64,
    /// Those of them in which it was stopped.
    pub throttled_periods: u64,
    /// For how long, over all processors, nanoseconds.
    pub throttled_ns: u64,
}

/// Memory, bytes, with groups below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// All that is charged now.
    pub current: Bytes,
    /// The most that ever was.
    pub peak: Option<Bytes>,
    /// The most that is allowed; none: as much as there is.
    #[serde(default)]
    pub limit: Option<Bytes>,
    /// Not backed by files: what Nomad calls RSS.
    pub anonymous: Bytes,
    /// The page cache.
    pub file: Bytes,
    /// Files mapped by processes.
    pub mapped: Bytes,
    /// Swapped out.
    pub swap: Option<Bytes>,
    /// Held by the kernel for the group.
    pub kernel: Option<Bytes>,
    /// The most of it that ever was; version 1 only.
    pub kernel_peak: Option<Bytes>,
}

/// Bytes to and from block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoStats {
    /// Read.
    pub read: Bytes,
    /// Written.
    pub written: Bytes,
}

pub(crate) fn read(group: &Group) -> Result<Stats, Error> {
    if !group.lead()?.is_alive() {
        return Err(group.lead()?.gone());
    }
    Ok(Stats {
        cpu: cpu(group)?,
        throttling: throttling(group)?,
        memory: memory(group)?,
        pids: match counted(group, Controller::Pids) {
            Some(place) => place.parse_optional("pids.current", SMALL, parse::number)?,
            None => None,
        },
        io: io(group)?,
    })
}

/// The place that counts for a controller. Figures of a group that is only joined are those of strangers.
fn counted(group: &Group, controller: Controller) -> Option<&Place> {
    match group.v1(controller) {
        Some(place) => (place.role != crate::plan::Role::JoinOnly).then_some(place),
        None => group.unified(),
    }
}

fn is_v1(place: &Place, controller: Controller) -> bool {
    place.hierarchy.carries(controller)
}

fn cpu(group: &Group) -> Result<Option<CpuStats>, Error> {
    // Version 2 counts processor time without any controller, and exactly.
    if let Some(unified) = group.unified() {
        return unified.parse_optional("cpu.stat", SMALL, |text| {
            let user = parse::required(text, "user_usec")?;
            let system = parse::required(text, "system_usec")?;
            let ns = |micros: u64| micros.saturating_mul(1_000);
            Ok(CpuStats { user_ns: ns(user), system_ns: ns(system) })
        });
    }
    let Some(place) = counted(group, Controller::Cpuacct) else { return Ok(None) };
    let user_ns = place.parse("cpuacct.usage_user", SMALL, parse::number)?;
    let system_ns = place.parse("cpuacct.usage_sys", SMALL, parse::number)?;
    Ok(Some(CpuStats { user_ns, system_ns }))
}

fn throttling(group: &Group) -> Result<Option<Throttling>, Error> {
    let Some(place) = counted(group, Controller::Cpu) else { return Ok(None) };
    let v1 = is_v1(place, Controller::Cpu);
    let throttling = place.parse_optional("cpu.stat", SMALL, |text| {
        let keys = ["nr_periods", "nr_throttled", if v1 { "throttled_time" } else { "throttled_usec" }];
        let unit = if v1 { 1 } else { 1_000 };
        Ok(match parse::keyed(text, keys)? {
            [Some(periods), Some(throttled_periods), Some(time)] => {
                Some(Throttling { periods, throttled_periods, throttled_ns: time.saturating_mul(unit) })
            }
            // Version 2 without the controller has the file without these keys.
            _ => None,
        })
    })?;
    Ok(throttling.flatten())
}

fn memory(group: &Group) -> Result<Option<MemoryStats>, Error> {
    match counted(group, Controller::Memory) {
        Some(place) if is_v1(place, Controller::Memory) => v1_memory(place).map(Some),
        Some(place) => unified_memory(place),
        None => Ok(None),
    }
}

fn v1_memory(place: &Place) -> Result<MemoryStats, Error> {
    let optional = |name| place.parse_optional(name, SMALL, parse::number).map(|value| value.map(Bytes));
    let stat = place.read("memory.stat", SMALL)?;
    let malformed = |error: parse::Malformed| error.at(place.path.join("memory.stat"));
    let required = |key| parse::required(&stat, key).map(Bytes).map_err(malformed);
    let [swap] = parse::keyed(&stat, ["total_swap"]).map_err(malformed)?;
    Ok(MemoryStats {
        current: Bytes(place.parse("memory.usage_in_bytes", SMALL, parse::number)?),
        peak: optional("memory.max_usage_in_bytes")?,
        // Without a limit the file holds the largest number of pages that fits.
        limit: optional("memory.limit_in_bytes")?.filter(|limit| limit.0 < 1 << 62),
        anonymous: required("total_rss")?,
        file: required("total_cache")?,
        mapped: required("total_mapped_file")?,
        swap: swap.map(Bytes),
        kernel: optional("memory.kmem.usage_in_bytes")?,
        kernel_peak: optional("memory.kmem.max_usage_in_bytes")?,
    })
}

fn unified_memory(place: &Place) -> Result<Option<MemoryStats>, Error> {
    let optional = |name| place.parse_optional(name, SMALL, parse::number).map(|value| value.map(Bytes));
    let Some(current) = optional("memory.current")? else { return Ok(None) };
    let stat = place.read("memory.stat", SMALL)?;
    let malformed = |error: parse::Malformed| error.at(place.path.join("memory.stat"));
    let required = |key| parse::required(&stat, key).map(Bytes).map_err(malformed);
    // `kernel` came with Linux 5.18; before, its parts are all there is.
    let [kernel, slab, stack] = parse::keyed(&stat, ["kernel", "slab", "kernel_stack"]).map_err(malformed)?;
    let parts = slab.zip(stack).map(|(slab, stack)| slab.saturating_add(stack));
    Ok(Some(MemoryStats {
        current,
        peak: optional("memory.peak")?,
        limit: place.parse_optional("memory.max", SMALL, parse::number_or_max)?.flatten().map(Bytes),
        anonymous: required("anon")?,
        file: required("file")?,
        mapped: required("file_mapped")?,
        swap: optional("memory.swap.current")?,
        kernel: kernel.or(parts).map(Bytes),
        kernel_peak: None,
    }))
}

fn io(group: &Group) -> Result<Option<IoStats>, Error> {
    let Some(place) = counted(group, Controller::Blkio) else { return Ok(None) };
    let stats = |(read, written)| IoStats { read: Bytes(read), written: Bytes(written) };
    let found = if is_v1(place, Controller::Blkio) {
        place.parse_optional("blkio.throttle.io_service_bytes_recursive", PER_DEVICE, parse::blkio)?
    } else {
        place.parse_optional("io.stat", PER_DEVICE, parse::io_stat)?
    };
    Ok(found.map(stats))
}
