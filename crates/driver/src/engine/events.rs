//! What a user should read about the end of a task, beyond its status.

use crate::signals::Signal;
use bivouac_cgroup::{Bytes, MemoryStats};
use bivouac_shim::status::{Cause, Exit};

/// Sentences about an end: lack of memory with the limit, and a stop that its first process never heard.
pub fn sentences(exit: &Exit, memory_limit_mib: Option<u64>) -> Vec<String> {
    let mut sentences = Vec::new();
    if exit.oom_kills > 0 {
        let peak = exit.usage.max_rss_kib / 1024;
        let rest = format!("its largest process had {peak} MiB");
        sentences.push(killed_for_memory(exit.oom_kills, memory_limit_mib, &rest));
    }
    sentences.extend(killed_by_stop(exit));
    sentences
}

/// A sentence about processes that were killed while the task went on, or just ended.
pub fn lack_of_memory(kills: u64, memory: Option<&MemoryStats>) -> String {
    let mib = |bytes: Bytes| bytes.0 >> 20;
    let limit = memory.and_then(|memory| memory.limit).map(mib);
    let peak = memory.and_then(|memory| memory.peak).map(mib);
    let rest = peak.map_or_else(|| "its peak is not known".into(), |peak| format!("its peak was {peak} MiB"));
    killed_for_memory(kills, limit, &rest)
}

fn killed_for_memory(kills: u64, limit_mib: Option<u64>, rest: &str) -> String {
    let limit = limit_mib.map_or_else(String::new, |mib| format!(" (limit {mib} MiB)"));
    let noun = if kills == 1 { "process" } else { "processes" };
    format!(
        "the kernel killed {kills} {noun} of the task for lack of memory{limit}; {rest}; raise memory or memory_max"
    )
}

/// Why a stop had to end in a kill, if it had to.
pub fn killed_by_stop(exit: &Exit) -> Option<String> {
    let Cause::Killed { signal, ignored } = exit.cause else { return None };
    let name = Signal::from_number(signal).map_or_else(|| signal.to_string(), |signal| signal.to_string());
    Some(if ignored {
        format!(
            "the task was killed because its first process has no handler for {name}, which the kernel then ignores for PID 1; set init = true, or another kill_signal"
        )
    } else {
        format!(
            "the task was killed because it did not end in time after {name}; raise kill_timeout if it needs longer"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_shim::process::Moment;
    use bivouac_shim::status::{Ending, Usage};

    fn memory() -> MemoryStats {
        let none = Bytes(0);
        MemoryStats {
            current: none,
            peak: None,
            limit: None,
            anonymous: none,
            file: none,
            mapped: none,
            swap: None,
            kernel: None,
            kernel_peak: None,
        }
    }

    fn exit(cause: Cause, oom_kills: u64) -> Exit {
        let moment = Moment { unix_nanos: 0, boot_nanos: 0 };
        let usage = Usage { user_micros: 0, system_micros: 0, max_rss_kib: 2048 };
        Exit {
            ending: Ending::Exited { code: 0 },
            cause,
            oom_kills,
            usage,
            started: moment,
            finished: moment,
        }
    }

    #[test]
    fn lack_of_memory_and_deaf_processes_are_told_with_a_remedy() {
        assert!(sentences(&exit(Cause::Own, 0), Some(10)).is_empty());
        let oom = sentences(&exit(Cause::Own, 2), Some(10)).join("");
        assert!(
            oom.contains("2 processes") && oom.contains("limit 10 MiB") && oom.contains("2 MiB"),
            "{oom}"
        );
        let stats = MemoryStats { limit: Some(Bytes(64 << 20)), peak: Some(Bytes(65 << 20)), ..memory() };
        let oom = lack_of_memory(1, Some(&stats));
        assert!(oom.contains("1 process of") && oom.contains("64 MiB") && oom.contains("65 MiB"), "{oom}");
        assert!(!lack_of_memory(1, None).contains("limit"));
        let deaf = sentences(&exit(Cause::Killed { signal: 2, ignored: true }, 0), None).join("");
        assert!(deaf.contains("SIGINT") && deaf.contains("init = true"), "{deaf}");
        let slow = sentences(&exit(Cause::Killed { signal: 15, ignored: false }, 0), None).join("");
        assert!(slow.contains("SIGTERM") && slow.contains("kill_timeout"), "{slow}");
    }
}
