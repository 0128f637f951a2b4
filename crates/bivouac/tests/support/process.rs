//! Processes that a test kills.

use super::support::wait_for;

/// Waits until what was killed holds nothing any more, as a lock; its command line goes earlier.
pub(crate) fn wait_until_gone(pid: i32) {
    wait_for("the end of what was killed", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}
