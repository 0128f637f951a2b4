//! What an idle shim costs: private memory, and how often it wakes within ten seconds.

use crate::task::{OBEDIENT, Task};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How long a start may occupy it.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the shim is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Idle {
    /// Memory that belongs to this process alone, in KiB.
    pub private_kib: u64,
    /// Times it gave up the processor by itself in ten seconds: each is a wake-up before.
    pub wakeups: u64,
}

/// Starts a task that sleeps and watches its shim.
///
/// # Errors
/// The task or its shim does not appear, or ends while it is watched.
pub fn measure(dist: &Path) -> Result<Idle> {
    // The program's own pages are shared as soon as there are two; with one they would count as its.
    let _second = Task::start(dist, &[], OBEDIENT)?;
    let before = shims();
    let _task = Task::start(dist, &[], OBEDIENT)?;
    let after = shims();
    let shim = after.difference(&before).next().context("no new process bivouac-shim")?;
    sleep(SETTLED);
    watch(shim)
}

fn watch(shim: &Path) -> Result<Idle> {
    let begun = switches(shim)?;
    sleep(WATCHED);
    Ok(Idle { private_kib: private_kib(shim)?, wakeups: switches(shim)?.saturating_sub(begun) })
}

/// How often a process gave up the processor by itself.
///
/// # Errors
/// It has gone.
pub fn switches(process: &Path) -> Result<u64> {
    field(&process.join("status"), "voluntary_ctxt_switches:")
}

/// A process's share of the memory that it uses.
///
/// # Errors
/// It has gone.
pub fn pss_kib(process: &Path) -> Result<u64> {
    field(&process.join("smaps_rollup"), "Pss:")
}

/// Memory that belongs to one process alone, by its folder below `/proc`.
///
/// # Errors
/// The process has gone.
pub fn private_kib(process: &Path) -> Result<u64> {
    let rollup = process.join("smaps_rollup");
    Ok(field(&rollup, "Private_Clean:")? + field(&rollup, "Private_Dirty:")?)
}

fn field(file: &Path, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    number(&text, name).with_context(|| format!("{} has no {name}", file.display()))
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The `/proc` folders of all running shims.
#[must_use]
pub fn shims() -> BTreeSet<PathBuf> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| {
            std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim() == "bivouac-shim")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let text = "Rss:    900 kB\nPrivate_Clean:       4 kB\nPrivate_Dirty:      72 kB\n";
        assert_eq!(number(text, "Private_Dirty:"), Some(72));
        assert_eq!(number(text, "Swap:"), None);
    }
}
