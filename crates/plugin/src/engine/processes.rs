//! What single processes of a task use, as `/proc` says: see proc_pid_stat(5) and proc_pid_status(5).

use crate::face::ProcessUsage;
use std::collections::BTreeMap;

/// More are not looked at one by one: reading them costs more than it tells.
const MOST: usize = 512;

/// The use of each process that still is one.
pub(super) fn usage(pids: &[i32]) -> BTreeMap<i32, ProcessUsage> {
    let read = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let of = |pid: &i32| {
        let (stat, status) = (read(*pid, "stat")?, read(*pid, "status")?);
        Some((*pid, parse(&stat, &status, rustix::param::clock_ticks_per_second(), page_size())?))
    };
    pids.iter().take(MOST).filter_map(of).collect()
}

fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

fn parse(stat: &str, status: &str, ticks: u64, page: u64) -> Option<ProcessUsage> {
    // The name in parentheses may hold anything; the first field after it is number 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
    let nanoseconds =
        |ticks_spent: u64| Some(ticks_spent.saturating_mul(1_000_000_000u64.checked_div(ticks)?));
    let swap = status.lines().find_map(|line| line.strip_prefix("VmSwap:")?.split_ascii_whitespace().next());
    Some(ProcessUsage {
        started: field(22)?,
        cpu_user_ns: nanoseconds(field(14)?)?,
        cpu_system_ns: nanoseconds(field(15)?)?,
        rss: field(24)?.saturating_mul(page),
        // A process without memory of its own, as one that has ended, has no such line.
        swap: swap.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: X41
    #[test]
    fn fields_are_counted_after_the_name() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 1 0 12345 2000000 300 184467";
        let status = "Name:\ta\nVmRSS:\t    1200 kB\nVmSwap:\t      16 kB\n";
        let usage = parse(stat, status, 100, 4096).unwrap();
        let expected = ProcessUsage {
            started: 12345,
            cpu_user_ns: 2_500_000_000,
            cpu_system_ns: 500_000_000,
            rss: 300 * 4096,
            swap: 16 << 10,
        };
        assert_eq!(usage, expected);
        assert_eq!(parse(stat, "Name:\ta\n", 100, 4096).unwrap().swap, 0);
        for bad in ["", "42 (a S 1", "42 (a) S 1 2 3", "42 (a) S x"] {
            assert_eq!(parse(bad, status, 100, 4096), None, "{bad}");
        }
    }

    /// Covers: X41
    #[test]
    fn this_process_is_measured_and_one_that_is_gone_is_left_out() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = usage(&[own, i32::MAX]);
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [own]);
        assert!(all[&own].rss > 0 && all[&own].started > 0, "{all:?}");
    }
}
