//! What is done to running tasks, timed: stopping, killing, telling of an end, a thousand at once.

use crate::row::median;
use crate::shim;
use crate::task::{OBEDIENT, PATIENCE, Task};
use anyhow::{Context, Result, ensure};
use bivouac_shim::client::Client;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Forks without end; bash tries again where other shells give up.
const BOMB: &str = "f() { while :; do f & done; }; echo; f 2>/dev/null";
const TURNS: u32 = 15;

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn middle(turns: u32, turn: impl FnMut() -> Result<f64>) -> Result<f64> {
    let times = std::iter::repeat_with(turn).take(turns as usize).collect::<Result<Vec<f64>>>()?;
    median(&times).context("nothing was measured")
}

/// Data that the disk has not seen yet, as some other program of the host leaves it.
struct Dirty(tempfile::NamedTempFile);

impl Dirty {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::NamedTempFile::new_in("/var/tmp")?))
    }

    fn write(&mut self, mebibytes: usize) -> Result<()> {
        self.0.as_file_mut().set_len(0)?;
        let file = self.0.as_file_mut();
        std::io::Seek::rewind(file)?;
        let block = vec![7u8; 1 << 20];
        (0..mebibytes).try_for_each(|_| file.write_all(&block))?;
        Ok(())
    }
}

/// Milliseconds of `bivouac stop` for a task that obeys, with so much dirty data on the disk.
///
/// # Errors
/// A task does not start or stop.
pub fn stop(dist: &Path, dirty: usize) -> Result<f64> {
    let mut data = Dirty::new()?;
    middle(TURNS, || {
        let mut task = Task::start(dist, &[], OBEDIENT)?;
        data.write(dirty)?;
        let begun = Instant::now();
        stop_command(dist, &task.name, "5s")?;
        let took = millis(begun);
        task.ended()?;
        Ok(took)
    })
}

fn stop_command(dist: &Path, name: &str, grace: &str) -> Result<()> {
    crate::ground::run(&dist.join("bivouac").display().to_string(), &["stop", "--timeout", grace, name])
}

/// Milliseconds until a fork bomb at its limit of processes, killed without grace, is gone.
///
/// # Errors
/// It does not start, or does not end.
pub fn kill_bomb(dist: &Path) -> Result<f64> {
    middle(3, || {
        let mut task = Task::start(dist, &["--pids-limit", "512"], BOMB)?;
        let mut client = Client::connect(&task.folder)?;
        let begun = Instant::now();
        while client.stats()?.group.pids.unwrap_or(0) < 500 {
            ensure!(begun.elapsed() < Duration::from_secs(30), "the bomb does not reach its limit");
            std::thread::sleep(Duration::from_millis(10));
        }
        let begun = Instant::now();
        stop_command(dist, &task.name, "0s")?;
        let took = millis(begun);
        task.ended()?;
        Ok(took)
    })
}

/// Milliseconds from the killing of a task's first process to its exit status in a client's hands.
///
/// # Errors
/// A task does not start, or its shim does not answer.
pub fn exit_told(dist: &Path, dirty: usize) -> Result<f64> {
    let mut data = Dirty::new()?;
    middle(TURNS, || {
        let mut task = Task::start(dist, &[], OBEDIENT)?;
        data.write(dirty)?;
        let mut killer = Client::connect(&task.folder)?;
        let mut watch = Client::connect(&task.folder)?.watch_end()?;
        let begun = Instant::now();
        killer.signal(9)?;
        while watch.take()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "the end is not told");
            std::thread::sleep(Duration::from_micros(50));
        }
        let took = millis(begun);
        task.ended()?;
        Ok(took)
    })
}

/// A thousand sleeping tasks.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Median start among the first and the last hundred, milliseconds.
    pub first: f64,
    /// The last hundred.
    pub last: f64,
    /// Private memory of all shims, MiB.
    pub shims_mib: f64,
    /// Seconds until all have ended and nothing is left.
    pub end_seconds: f64,
    /// Directories of tasks and control groups that are left.
    pub left: usize,
}

/// Starts so many, looks at their shims, ends them.
///
/// # Errors
/// One does not start or end.
pub fn crowd(dist: &Path, many: usize) -> Result<Crowd> {
    let shims = shim::shims();
    let groups_before = groups();
    let mut tasks = Vec::with_capacity(many);
    let mut starts = Vec::with_capacity(many);
    for _ in 0..many {
        let task = Task::start(dist, &[], OBEDIENT)?;
        starts.push(task.took.as_secs_f64() * 1000.0);
        tasks.push(task);
    }
    let ours: Vec<_> = shim::shims().difference(&shims).cloned().collect();
    let private = ours.iter().map(|shim| shim::private_kib(shim)).sum::<Result<u64>>()?;
    let begun = Instant::now();
    for task in &tasks {
        task.interrupt()?;
    }
    for task in &mut tasks {
        task.ended()?;
    }
    let left = || {
        let folders = tasks.iter().filter(|task| task.folder.exists()).count();
        folders + shim::shims().difference(&shims).count() + groups().saturating_sub(groups_before)
    };
    while left() > 0 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let share = (many / 10).max(1);
    let of = |times: Option<&[f64]>| times.and_then(median).context("nothing was measured");
    Ok(Crowd {
        first: of(starts.get(..share))?,
        last: of(starts.get(many - share..))?,
        shims_mib: private as f64 / 1024.0,
        end_seconds: begun.elapsed().as_secs_f64(),
        left: left(),
    })
}

/// Control groups of tasks in all hierarchies.
fn groups() -> usize {
    let find = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", "*bench-*"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    find.map_or(0, |found| String::from_utf8_lossy(&found.stdout).lines().count())
}
