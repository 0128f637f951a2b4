//! What a user should read about the end of a task, beyond its status.

use crate::signals::Signal;
use bivouac_shim::status::{Cause, Exit};

/// Sentences about an end: lack of memory with the limit, and a stop that its first process never heard.
pub fn sentences(exit: &Exit, memory_limit_mib: Option<u64>) -> Vec<String> {
    let mut sentences = Vec::new();
    if exit.oom_kills > 0 {
        let limit = memory_limit_mib.map_or_else(String::new, |mib| format!(" (limit {mib} MiB)"));
        let (count, noun) = (exit.oom_kills, if exit.oom_kills == 1 { "process" } else { "processes" });
        let peak = exit.usage.max_rss_kib / 1024;
        sentences.push(format!(
            "the kernel killed {count} {noun} of the task for lack of memory{limit}; its largest process had {peak} MiB; raise memory or memory_max"
        ));
    }
    if let Cause::Killed { signal, ignored } = exit.cause {
        let name =
            Signal::from_number(signal).map_or_else(|| signal.to_string(), |signal| signal.to_string());
        sentences.push(if ignored {
            format!(
                "the task was killed because its first process has no handler for {name}, which the kernel then ignores for PID 1; set init = true, or another kill_signal"
            )
        } else {
            format!("the task was killed because it did not end in time after {name}; raise kill_timeout if it needs longer")
        });
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_shim::process::Moment;
    use bivouac_shim::status::{Ending, Usage};

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
        let deaf = sentences(&exit(Cause::Killed { signal: 2, ignored: true }, 0), None).join("");
        assert!(deaf.contains("SIGINT") && deaf.contains("init = true"), "{deaf}");
        let slow = sentences(&exit(Cause::Killed { signal: 15, ignored: false }, 0), None).join("");
        assert!(slow.contains("SIGTERM") && slow.contains("kill_timeout"), "{slow}");
    }
}
