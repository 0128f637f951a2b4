//! Limits as values: what can be asked for, checked where it is written down.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many MiB; the most there are bytes for, if it is more.
    pub const fn from_mib(mib: u64) -> Bytes {
        Bytes(mib.saturating_mul(1 << 20))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a group may use. The default limits nothing but swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory and swap.
    pub memory: Memory,
    /// Weight against other groups.
    pub cpu_shares: Option<CpuShares>,
    /// Hard limit of processor time.
    pub cpu_max: Option<CpuMax>,
    /// The processors it may run on.
    pub cpuset: Option<CpuSet>,
    /// Largest number of processes and threads; `None` leaves what the parent has.
    pub pids: Option<Pids>,
    /// Whom the kernel kills when memory has run out.
    pub oom_kill: OomKill,
}

impl Limits {
    /// No limit at all, not even on swap.
    pub fn none() -> Limits {
        Limits { memory: Memory { swap: SwapPolicy::Unlimited, ..Memory::default() }, ..Limits::default() }
    }
}

/// Memory and swap of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Above this, memory is reclaimed, and if that is not enough, a process is killed. `None`: no limit.
    pub max: Option<Bytes>,
    /// Below this, memory is the last to be reclaimed when the host runs short (v2: as far as the parents are
    /// protected themselves).
    pub low: Option<Bytes>,
    /// Swap.
    pub swap: SwapPolicy,
}

/// What a group may swap out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapPolicy {
    /// Nothing. On v1 without accounting of swap, and without a limit of memory, this is a wish
    /// (`memory.swappiness`).
    #[default]
    None,
    /// At most this much, beside the limit of memory; on v1 that limit must be set.
    Max(Bytes),
    /// What the host has.
    Unlimited,
}

/// Whom the kernel kills when memory has run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OomKill {
    /// One process.
    #[default]
    Process,
    /// All of the group; version 2 only.
    Group,
}

/// A weight in the scale of `cpu.shares`, 2 to 262144; a number outside is moved to the end nearer to it, as the
/// kernel would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct CpuShares(u64);

impl CpuShares {
    const LEAST: u64 = 2;
    const MOST: u64 = 262_144;

    /// See the type.
    pub fn new(shares: u64) -> CpuShares {
        CpuShares(shares.clamp(CpuShares::LEAST, CpuShares::MOST))
    }

    /// For `cpu.shares`.
    pub fn get(self) -> u64 {
        self.0
    }

    /// For `cpu.weight`, 1 to 10000: both ends meet, and 1024 shares (the default of v1) give 100 (that of v2).
    /// The curve is the one that container runtimes agreed on, `10^((l² + 125 l) / 612 - 7/34)` with
    /// `l = log2(shares)`, rounded up.
    pub fn weight(self) -> u64 {
        if self.0 <= CpuShares::LEAST {
            return 1;
        }
        if self.0 >= CpuShares::MOST {
            return 10_000;
        }
        let log = (self.0 as f64).log2();
        let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
        // Exact powers (1024 shares) must not be rounded up because of the last bit of a float.
        let weight = (10f64.powf(exponent) - 1e-9).ceil();
        (weight as u64).clamp(1, 10_000)
    }
}

impl From<u64> for CpuShares {
    fn from(shares: u64) -> CpuShares {
        CpuShares::new(shares)
    }
}

impl From<CpuShares> for u64 {
    fn from(shares: CpuShares) -> u64 {
        shares.0
    }
}

/// A hard limit: so much processor time in every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuMax {
    quota: u64,
    period: u64,
    burst: u64,
}

impl CpuMax {
    /// The kernel's own period, microseconds.
    pub const DEFAULT_PERIOD: u64 = 100_000;

    /// All in microseconds: `quota` of processor time (over all processors) per `period`; up to `burst` of what
    /// was not used may be used later.
    ///
    /// # Errors
    /// [`Error::Value`]: the kernel takes periods of 1 ms to 1 s, quotas from 1 ms on and no burst above the quota.
    pub fn new(quota: u64, period: u64, burst: u64) -> Result<CpuMax, Error> {
        let bad = |what, value: u64, why| Err(Error::Value { what, value: value.to_string(), why });
        if !(1_000..=1_000_000).contains(&period) {
            return bad("cpu period", period, "it must be 1000 to 1000000 microseconds");
        }
        // The kernel's own ceiling lies at 2^44 nanoseconds or above.
        if !(1_000..=17_000_000_000).contains(&quota) {
            return bad("cpu quota", quota, "it must be 1000 to 17000000000 microseconds");
        }
        if burst > quota {
            return bad("cpu burst", burst, "it must not be above the quota");
        }
        Ok(CpuMax { quota, period, burst })
    }

    /// Microseconds per period.
    pub fn quota(self) -> u64 {
        self.quota
    }

    /// Microseconds.
    pub fn period(self) -> u64 {
        self.period
    }

    /// Microseconds.
    pub fn burst(self) -> u64 {
        self.burst
    }
}

/// The largest number of processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pids {
    /// So many.
    Max(PidsMax),
    /// As many as the host has.
    Unlimited,
}

impl Pids {
    /// At most `count`.
    ///
    /// # Errors
    /// [`Error::Value`]: 0 (nothing could start) or more than the 4194304 that a kernel can have.
    pub fn max(count: u32) -> Result<Pids, Error> {
        PidsMax::try_from(count).map(Pids::Max)
    }
}

/// `max`, or the number.
impl fmt::Display for Pids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pids::Max(count) => write!(f, "{}", count.0),
            Pids::Unlimited => f.write_str("max"),
        }
    }
}

/// 1 to 4194304.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PidsMax(u32);

impl TryFrom<u32> for PidsMax {
    type Error = Error;
    fn try_from(count: u32) -> Result<PidsMax, Error> {
        let why = match count {
            0 => "nothing could start; leave the limit out for as many as the host has",
            1..=4_194_304 => return Ok(PidsMax(count)),
            _ => "no kernel has more than 4194304",
        };
        Err(Error::Value { what: "pids limit", value: count.to_string(), why })
    }
}

impl From<PidsMax> for u32 {
    fn from(count: PidsMax) -> u32 {
        count.0
    }
}

/// A set of processors, never empty, in the kernel's notation `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(Vec<(u32, u32)>);

impl CpuSet {
    /// The largest number a kernel can be built for, less one.
    const LAST: u32 = 8191;

    /// The processors of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&cpu))
    }
}

/// Reads `0-3,8`, in any order; a newline at the end is what kernel files have.
impl FromStr for CpuSet {
    type Err = Error;
    fn from_str(text: &str) -> Result<CpuSet, Error> {
        let bad =
            |why| Error::Value { what: "cpuset", value: format!("`{}`", crate::error::excerpt(text)), why };
        let list = text.strip_suffix('\n').unwrap_or(text);
        if list.is_empty() {
            return Err(bad("it names no processor"));
        }
        let cpu = |word: &str| match word.parse::<u32>() {
            Ok(number) if word.bytes().all(|byte| byte.is_ascii_digit()) && number <= CpuSet::LAST => {
                Ok(number)
            }
            _ => Err(bad("expected processors 0 to 8191 as in `0-3,8`")),
        };
        let mut ranges = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (cpu(first)?, cpu(last)?);
            if first > last {
                return Err(bad("a range runs backwards"));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(CpuSet(merged))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = Error;
    fn try_from(text: String) -> Result<CpuSet, Error> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> String {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_follow_the_curve() {
        let cases = [(0, 1), (2, 1), (3, 2), (100, 17), (500, 58), (1024, 100), (262_143, 10_000)];
        for (shares, weight) in cases {
            assert_eq!(CpuShares::new(shares).weight(), weight, "{shares}");
        }
        assert_eq!(CpuShares::new(262_144).weight(), 10_000);
        assert_eq!(CpuShares::new(u64::MAX).weight(), 10_000);
        assert_eq!(CpuShares::new(1).get(), 2);
    }

    #[test]
    fn weights_never_fall() {
        let mut before = 0;
        for shares in (2..=262_144).step_by(7) {
            let weight = CpuShares::new(shares).weight();
            assert!(weight >= before && (1..=10_000).contains(&weight), "{shares}");
            before = weight;
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_refused_here() {
        assert!(CpuMax::new(50_000, 100_000, 0).is_ok());
        for (quota, period, burst) in
            [(999, 100_000, 0), (50_000, 999, 0), (50_000, 1_000_001, 0), (5_000, 10_000, 5_001), (0, 0, 0)]
        {
            let error = CpuMax::new(quota, period, burst).unwrap_err();
            assert!(matches!(error, Error::Value { .. }), "{error}");
        }
        assert_eq!(Pids::max(4096).unwrap().to_string(), "4096");
        assert_eq!(Pids::Unlimited.to_string(), "max");
        assert!(Pids::max(0).unwrap_err().to_string().starts_with("pids limit 0: nothing could start"));
        assert!(Pids::max(4_194_305).is_err());
        assert!(serde_json::from_str::<Pids>(r#"{"Max":0}"#).is_err());
    }

    #[test]
    fn processor_lists() {
        for (text, canonical) in
            [("0", "0"), ("0-3,8\n", "0-3,8"), ("8,1,0,2-3", "0-3,8"), ("5,5-6,6", "5-6")]
        {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), canonical);
        }
        for bad in
            ["", "\n", "3-1", "a", "0,", ",0", "-1", "0-", "0--2", "8192", "0 1", "+1", "0-1-2", "0-10:2/4"]
        {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad:?}");
        }
        let set: CpuSet = "0-2,7".parse().unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert!(set.contains(7) && !set.contains(3));
    }

    proptest! {
        #[test]
        fn lists_never_panic(text in "[-0-9, \n]{0,30}|\\PC{0,20}") {
            if let Ok(set) = text.parse::<CpuSet>() {
                let canonical = set.to_string();
                prop_assert_eq!(canonical.parse::<CpuSet>().unwrap(), set);
            }
        }

        #[test]
        fn a_list_is_the_set_of_its_members(cpus in proptest::collection::btree_set(0u32..200, 1..40)) {
            let text = cpus.iter().rev().map(u32::to_string).collect::<Vec<_>>().join(",");
            let set: CpuSet = text.parse().unwrap();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), cpus.into_iter().collect::<Vec<_>>());
        }
    }
}
