//! Ending what the built-in driver left running under our name.

use super::failed;
use crate::face::{EngineError, Foreign};
use crate::placement::placement;
use bivouac_driver::engine::Engine;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Ends the executor, with which its task dies, and everything that is left in the task's control groups.
pub(super) fn end(engine: &Engine, foreign: &Foreign) -> Result<(), EngineError> {
    if let Some(pid) = foreign.executor.and_then(Pid::from_raw)
        && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        // Looked at while it is held: the number may be somebody else's by now.
        && is_executor_of(foreign, &command_line(pid))
    {
        pidfd_send_signal(&process, Signal::KILL).map_err(failed)?;
    }
    let cgroup = foreign.resources.cgroup.as_deref();
    let groups = placement(engine.cgroups(), cgroup, &foreign.alloc_id, &foreign.task_name);
    match groups {
        Ok(groups) => engine.clear(&groups).map_err(failed),
        // A client without control groups made none for it either.
        Err(error) => {
            tracing::info!(task = foreign.task_id, %error, "nothing but the executor of a foreign task is ended");
            Ok(())
        }
    }
}

fn command_line(pid: Pid) -> Vec<u8> {
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default()
}

/// Whether a command line is `nomad executor {...}` with this task's log file in its configuration.
fn is_executor_of(foreign: &Foreign, line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let log = foreign.alloc_dir.join(&foreign.task_name).join("executor.out");
    let log = log.as_os_str().as_encoded_bytes();
    words.nth(1) == Some(b"executor") && words.any(|word| contains(word, log))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Resources;

    #[test]
    fn only_the_executor_of_this_very_task_is_ended() {
        let foreign = Foreign {
            task_id: "a/web/0".into(),
            alloc_id: "a".into(),
            task_name: "web".into(),
            alloc_dir: "/data/alloc/a".into(),
            executor: None,
            pid: None,
            resources: Resources::default(),
        };
        let is = |line: &str| is_executor_of(&foreign, line.as_bytes());
        assert!(is("/usr/bin/nomad\0executor\0{\"LogFile\":\"/data/alloc/a/web/executor.out\"}\0"));
        assert!(!is("/usr/bin/nomad\0executor\0{\"LogFile\":\"/data/alloc/b/web/executor.out\"}\0"));
        assert!(!is("/usr/bin/java\0-jar\0executor\0/data/alloc/a/web/executor.out\0"));
        assert!(!is("executor") && !is(""));
    }
}
