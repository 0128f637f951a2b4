//! What `/proc` and the clocks say: who a process is beyond its number, which signals it would not feel, and how one
//! ended that cannot be reaped.

use crate::status::Ending;
use rustix::thread::CapabilitySet;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::OnceLock;

/// A process that cannot be confused with a later one of the same number, within one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`, see proc_pid_stat(5).
    pub start_time: u64,
}

impl ProcessId {
    /// Looks a process up. The answer means something only to its parent before it reaps, or to the process itself.
    ///
    /// # Errors
    /// What reading `/proc/<pid>/stat` answers; `InvalidData` when it does not read as the manual says.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read(&path)?;
        let start_time = start_time(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no start time")))?;
        Ok(ProcessId { pid, start_time })
    }

    /// Whether it runs still. One that has ended and waits to be reaped does not: its parent may be slow, or a
    /// container's first process that never reaps.
    pub fn runs(self) -> bool {
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        start_time(&stat) == Some(self.start_time) && !has_ended(&stat)
    }
}

/// Whether the state, which follows the name, is `Z` or `X`: ended, and not reaped yet.
fn has_ended(stat: &[u8]) -> bool {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')');
    let state = end_of_name.and_then(|at| stat.get(at + 2));
    matches!(state, None | Some(b'Z' | b'X'))
}

/// The name in parentheses may hold spaces and parentheses, so fields are counted from the last `)`.
pub(crate) fn start_time(stat: &[u8]) -> Option<u64> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?;
    // The first field after the name is number 3.
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Whether a process is the first of a pid namespace and has no handler for `signal`: the kernel then drops the
/// signal unless it comes from an ancestor namespace and is KILL or STOP. See pid_namespaces(7).
pub fn ignores_as_init(pid: i32, signal: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| init_ignores(&status, signal))
}

/// Whether no thread of a process runs any more that is not reaped yet.
pub(crate) fn is_dead(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut stats =
        threads.map(|thread| std::fs::read(thread.path().join("stat")).unwrap_or_default()).peekable();
    stats.peek().is_some() && stats.all(|stat| has_ended(&stat))
}

/// How a process ended that is dead and that somebody else is told of first. `None` where that cannot be known.
pub(crate) fn last_word(pid: i32) -> Option<Ending> {
    // To others the kernel shows 0, which must not pass for success.
    let own = rustix::thread::capabilities(None).ok()?;
    if !own.effective.contains(CapabilitySet::SYS_PTRACE) {
        return None;
    }
    ending(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 52 of `/proc/<pid>/stat`, in the form of waitpid(2), if the process is dead.
fn ending(stat: &[u8]) -> Option<Ending> {
    if !has_ended(stat) {
        return None;
    }
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?;
    let status: u32 = rest.split_ascii_whitespace().nth(52 - 3)?.parse().ok()?;
    Some(match (status & 0x7f, (status >> 8) & 0xff) {
        (0, code) => Ending::Exited { code: u8::try_from(code).ok()? },
        (signal, _) => Ending::Signaled { signal: i32::try_from(signal).ok()?, core: status & 0x80 != 0 },
    })
}

pub(crate) fn init_ignores(status: &str, signal: i32) -> bool {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let is_init = field("NSpid").and_then(|pids| pids.split_ascii_whitespace().last()) == Some("1");
    let mask = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
    // What is blocked waits to be taken, as the reaper of `init` does.
    let caught = mask("SigCgt").map(|caught| caught | mask("SigBlk").unwrap_or(0));
    let bit = signal
        .checked_sub(1)
        .and_then(|shift| u32::try_from(shift).ok())
        .and_then(|shift| 1u64.checked_shl(shift));
    match (is_init, caught, bit) {
        (true, Some(caught), Some(bit)) => caught & bit == 0,
        _ => false,
    }
}

/// Which boot this is: tasks of another one are gone.
///
/// # Errors
/// What reading the file answers.
pub fn boot_id() -> io::Result<String> {
    // It stays the same as long as any process lives.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(KNOWN.get_or_init(|| read).clone())
}

/// A moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Nanoseconds since 1970, by the wall clock, which may be set.
    pub unix_nanos: i64,
    /// Nanoseconds since boot, suspended time included, which only goes forward.
    pub boot_nanos: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let read = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
        };
        Moment { unix_nanos: read(ClockId::Realtime), boot_nanos: read(ClockId::Boottime) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (3..=30).map(|number| (number * 100).to_string()).collect();
        let line = format!("12 (a) (b 7 ) {}", fields.join(" "));
        assert_eq!(start_time(line.as_bytes()), Some(2200));
        assert_eq!(start_time(b"12 (a) S 1 2"), None);
        assert_eq!(start_time(b""), None);
    }

    #[test]
    fn the_end_of_a_dead_process_is_read_and_of_no_other() {
        let line = |state: &str, status: u32| {
            let fields: Vec<String> = (4..52).map(|number| number.to_string()).collect();
            ending(format!("12 (a) b) {state} {} {status}\n", fields.join(" ")).as_bytes())
        };
        assert_eq!(line("Z", 7 << 8), Some(Ending::Exited { code: 7 }));
        assert_eq!(line("Z", 9), Some(Ending::Signaled { signal: 9, core: false }));
        assert_eq!(line("Z", 0x80 | 11), Some(Ending::Signaled { signal: 11, core: true }));
        assert_eq!(line("S", 0), None);
        assert_eq!(ending(b"12 (a) Z 1 2"), None);
        let mut child = std::process::Command::new("sh").args(["-c", "exit 9"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = || std::fs::read(format!("/proc/{pid}/stat")).unwrap();
        while !has_ended(&stat()) {
            std::thread::yield_now();
        }
        assert_eq!(ending(&stat()), Some(Ending::Exited { code: 9 }));
        assert!(is_dead(pid) && !is_dead(i32::try_from(std::process::id()).unwrap()));
        child.wait().unwrap();
        assert_eq!((last_word(pid), is_dead(pid)), (None, false));
    }

    #[test]
    fn this_process_has_an_identity() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let first = ProcessId::of(pid).unwrap();
        assert!(first.start_time > 0);
        assert_eq!(ProcessId::of(pid).unwrap(), first);
        assert!(ProcessId::of(i32::MAX).is_err());
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_does_not_run() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while id.runs() {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as running");
            std::thread::yield_now();
        }
        assert_eq!(ProcessId::of(id.pid).unwrap(), id, "its number is still its own");
        child.wait().unwrap();
        assert!(!id.runs());
        assert!(ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap().runs());
    }

    #[test]
    fn only_the_first_of_a_namespace_can_ignore_by_having_no_handler() {
        // Bit 14 of the mask is SIGTERM (15).
        let status = |pids: &str, caught: &str| format!("Name:\tx\nNSpid:\t{pids}\nSigCgt:\t{caught}\n");
        assert!(init_ignores(&status("400\t1", "0000000000000000"), 15));
        assert!(!init_ignores(&status("400\t1", "0000000000004000"), 15));
        assert!(init_ignores(&status("400\t1", "0000000000004000"), 2));
        assert!(!init_ignores(&status("400\t7", "0000000000000000"), 15));
        assert!(!init_ignores("NSpid:\t4\t1\nSigBlk:\t4000\nSigCgt:\t0\n", 15));
        assert!(!init_ignores(&status("400", "0000000000000000"), 15));
        assert!(!init_ignores(&status("1", "zz"), 15));
        for odd in [i32::MIN, i32::MIN + 1, 0, -1, 65, i32::MAX] {
            assert!(!init_ignores(&status("1", "0"), odd));
        }
    }

    #[test]
    fn the_clocks_move_forward() {
        let (one, two) = (Moment::now(), Moment::now());
        assert!(two.boot_nanos >= one.boot_nanos && one.boot_nanos > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
