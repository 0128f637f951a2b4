//! A task that runs in the background while something is done to it.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that works.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Where shims keep what is known of their tasks.
const RUNNING: &str = "/run/bivouac/tasks";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A task that ends at once on the signal; a first process feels only signals that it handles.
pub const OBEDIENT: &str = "trap 'exit 0' INT; echo; sleep 1000 & wait";

/// A running task with its face; ended when dropped.
pub struct Task {
    /// Its name, which no other task has.
    pub name: String,
    /// Its shim's folder.
    pub folder: PathBuf,
    /// From the start of its face to its first word.
    pub took: Duration,
    face: Child,
}

impl Task {
    /// Starts one that says a line (`echo`) once it runs.
    ///
    /// # Errors
    /// It does not start, or says nothing.
    pub fn start(dist: &Path, options: &[&str], script: &str) -> Result<Self> {
        let name = format!("bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let before = folders();
        let begun = Instant::now();
        let mut face = Command::new(dist.join("bivouac"))
            .args(["run", "--quiet", "--name", &name])
            .args(options)
            .args(["--", "/bin/bash", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start bivouac")?;
        let mut said = [0u8];
        let output = face.stdout.as_mut().context("no pipe")?;
        if output.read(&mut said)? == 0 {
            let status = face.wait()?;
            bail!("the task did not start: {status}");
        }
        let took = begun.elapsed();
        let folder = folders().difference(&before).next().cloned().context("the task has no folder")?;
        Ok(Self { name, folder, took, face })
    }

    /// Waits for the end of its face, which comes after its own.
    ///
    /// # Errors
    /// It does not end.
    pub fn ended(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.face.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                bail!("{} did not end", self.name);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Asks its face to end it.
    ///
    /// # Errors
    /// kill(1) cannot be started.
    pub fn interrupt(&self) -> Result<()> {
        crate::ground::run("kill", &["-INT", &self.face.id().to_string()])
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if matches!(self.face.try_wait(), Ok(None)) {
            // Twice: the second one kills.
            let _gone = self.interrupt();
            let _gone = self.interrupt();
            let _late = self.ended();
        }
    }
}

fn folders() -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(RUNNING).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
