//! The standalone face: detached runs, job files, many allocations, logs, archives.

use crate::ground::run;
use crate::row::median;
use crate::shim;
use crate::task::PATIENCE;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where allocations lie.
const STATE: &str = "/var/lib/bivouac";
/// How long a start may occupy those who stay.
const SETTLED: Duration = Duration::from_secs(1);
/// How long idle processes are watched.
const WATCHED: Duration = Duration::from_secs(10);
/// A task that stays and ends at once when it is told to.
const SLEEPER: (&str, &[&str]) = ("/bin/bash", &["-c", "trap 'exit 0' INT; sleep 100000 & wait"]);

/// A job of one group.
struct Job<'a> {
    name: &'a str,
    count: usize,
    tasks: usize,
    command: (&'a str, &'a [&'a str]),
    /// A block for the task.
    extra: &'a str,
}

impl Job<'_> {
    fn text(&self) -> String {
        let words: Vec<String> = self.command.1.iter().map(|word| format!("{word:?}")).collect();
        let tasks: String = (0..self.tasks)
            .map(|number| {
                format!(
                    "    task \"t{number}\" {{\n      driver = \"exec\"\n      config {{\n        command = {:?}\n        \
                     args = [{}]\n      }}\n{}    }}\n",
                    self.command.0,
                    words.join(", "),
                    self.extra,
                )
            })
            .collect();
        format!(
            "job {:?} {{\n  type = \"batch\"\n  group \"g\" {{\n    count = {}\n    restart {{\n      attempts = 0\n      \
             mode = \"fail\"\n    }}\n{tasks}  }}\n}}\n",
            self.name, self.count,
        )
    }
}

/// A job that runs in the background; stopped and forgotten when dropped.
struct Detached {
    bivouac: String,
    name: String,
    /// Its allocations.
    ids: Vec<String>,
}

impl Detached {
    fn start(dist: &Path, folder: &Path, job: &Job<'_>) -> Result<Self> {
        let bivouac = dist.join("bivouac").display().to_string();
        let file = folder.join(format!("{}.nomad.hcl", job.name));
        std::fs::write(&file, job.text()).context("cannot write the job file")?;
        let output = Command::new(&bivouac)
            .args(["run", "-d"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .context("cannot start bivouac")?;
        if !output.status.success() {
            bail!("`bivouac run -d`: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let ids = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        Ok(Self { bivouac, name: job.name.to_owned(), ids })
    }

    /// What a task has written.
    fn log(&self, id: &str, task: &str, stream: &str) -> PathBuf {
        Path::new(STATE).join("allocs").join(id).join("alloc/logs").join(format!("{task}.{stream}.0"))
    }

    /// The first so many bytes of it, once they are there.
    fn said(&self, stream: &str, least: usize) -> Result<Vec<u8>> {
        let id = self.ids.first().context("no allocation")?;
        let (path, begun) = (self.log(id, "t0", stream), Instant::now());
        loop {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.len() >= least {
                return Ok(bytes);
            }
            ensure!(begun.elapsed() < PATIENCE, "{} stays empty", path.display());
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // A job that has ended by itself is none to stop.
        let _over = run(&self.bivouac, &["stop", "--timeout", "5s", &self.name]);
        let _gone = run(&self.bivouac, &["gc"]);
    }
}

fn name(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("bivouac-bench-").tempdir_in("/var/tmp")?;
    // What fetches artifacts is nobody.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

fn monotonic() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Milliseconds on the monotonic clock, as `tiny` writes them: a `struct timespec`.
fn stamp(bytes: &[u8]) -> Result<f64> {
    let word =
        |at: usize| -> Option<i64> { Some(i64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
    let (seconds, nanos) = word(0).zip(word(8)).context("the task wrote no time")?;
    Ok(seconds as f64 * 1e3 + nanos as f64 / 1e6)
}

/// Milliseconds from the start of `bivouac run -d` to the first instruction of its task.
///
/// # Errors
/// A job does not start.
pub fn detached(dist: &Path, tiny: &Path, turns: u32) -> Result<f64> {
    let folder = folder()?;
    let mut times = Vec::new();
    for turn in 0..turns + 2 {
        let name = name(&format!("detached{turn}"));
        let command = tiny.display().to_string();
        let job = Job { name: &name, count: 1, tasks: 1, command: (&command, &[]), extra: "" };
        let begun = monotonic();
        let started = Detached::start(dist, folder.path(), &job)?;
        let first = stamp(&started.said("stdout", 16)?)?;
        if turn >= 2 {
            times.push(first - begun);
        }
    }
    median(&times).context("nothing was measured")
}

/// The same of `podman run`, on a root made of the host's directories; none where there is no podman.
///
/// # Errors
/// It does not start anything.
pub fn podman(tiny: &Path, turns: u32) -> Result<f64> {
    let podman =
        ["/usr/bin/podman", "/usr/local/bin/podman"].into_iter().find(|path| Path::new(path).is_file());
    let podman = podman.context("it is not installed")?;
    let folder = folder()?;
    for name in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    std::fs::copy(tiny, folder.path().join("bin/tiny"))?;
    let mut times = Vec::new();
    for _ in 0..turns {
        let begun = monotonic();
        let output = Command::new(podman)
            .args([
                "run",
                "--rm",
                "--network",
                "host",
                "--cgroup-manager",
                "cgroupfs",
                "--log-driver",
                "none",
                // Debian's crun refuses hybrid cgroups, and podman's own limits are above what a container may set.
                "--runtime",
                "runc",
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ])
            .arg("--rootfs")
            .arg(folder.path())
            .arg("/bin/tiny")
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        times.push(stamp(&output.stdout)? - begun);
    }
    median(&times).context("nothing was measured")
}

/// Milliseconds and MiB of reading a job file of 200 lines, as `parse_loop` finds them.
///
/// # Errors
/// It fails.
pub fn parse(parser: &Path) -> Result<(f64, f64)> {
    let output = Command::new(parser).stdin(Stdio::null()).output().context("cannot start parse_loop")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("too few numbers")?.context("no number");
    Ok((next()?, next()?))
}

/// A supervisor and its shim with nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Private memory of both, KiB.
    pub private_kib: u64,
    /// Of the supervisor alone.
    pub supervisor_kib: u64,
    /// Wake-ups of both in ten seconds.
    pub wakeups: u64,
}

/// Watches one.
///
/// # Errors
/// It does not start, or ends.
pub fn idle(dist: &Path) -> Result<Idle> {
    let folder = folder()?;
    // Pages of the programs are shared as soon as there are two of them.
    let names = [name("idle0"), name("idle1")];
    let job = |name| Job { name, count: 1, tasks: 1, command: SLEEPER, extra: "" };
    let _second = Detached::start(dist, folder.path(), &job(&names[0]))?;
    let shims = shim::shims();
    let started = Detached::start(dist, folder.path(), &job(&names[1]))?;
    let both: Vec<PathBuf> =
        shim::shims().difference(&shims).cloned().chain(supervisors(&started.ids)).collect();
    ensure!(both.len() == 2, "found {} processes of the run instead of two", both.len());
    sleep(SETTLED);
    let switches = || both.iter().map(|process| shim::switches(process)).sum::<Result<u64>>();
    let begun = switches()?;
    sleep(WATCHED);
    let wakeups = switches()?.saturating_sub(begun);
    let memory = both.iter().map(|process| shim::private_kib(process)).collect::<Result<Vec<u64>>>()?;
    Ok(Idle {
        private_kib: memory.iter().sum(),
        supervisor_kib: memory.last().copied().unwrap_or_default(),
        wakeups,
    })
}

/// The `/proc` folders of the supervisors of these allocations.
fn supervisors(ids: &[String]) -> BTreeSet<PathBuf> {
    let wanted: BTreeSet<&[u8]> = ids.iter().map(String::as_bytes).collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let supervises = |process: &PathBuf| {
        let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        words.any(|word| word == b"supervise") && words.any(|word| wanted.contains(word))
    };
    entries.filter(supervises).collect()
}

/// Many allocations of two tasks each.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Tasks that did not come up.
    pub missing: usize,
    /// `bivouac ps`, milliseconds.
    pub ps_ms: f64,
    /// `bivouac stats`, milliseconds.
    pub stats_ms: f64,
    /// Their shims' and supervisors' share of memory, MiB.
    pub pss_mib: f64,
}

/// Starts so many, lists them, ends them.
///
/// # Errors
/// They do not start.
pub fn crowd(dist: &Path, many: usize) -> Result<Crowd> {
    let folder = folder()?;
    let name = name("crowd");
    let before = shim::shims();
    let job = Job { name: &name, count: many, tasks: 2, command: SLEEPER, extra: "" };
    let started = Detached::start(dist, folder.path(), &job)?;
    let shims: Vec<PathBuf> = shim::shims().difference(&before).cloned().collect();
    let timed = |command: &str| {
        let times = (0..5).map(|_| {
            let begun = Instant::now();
            run(&started.bivouac, &[command])?;
            Ok(begun.elapsed().as_secs_f64() * 1000.0)
        });
        median(&times.collect::<Result<Vec<f64>>>()?).context("nothing was measured")
    };
    let (ps_ms, stats_ms) = (timed("ps")?, timed("stats")?);
    let all = shims.iter().cloned().chain(supervisors(&started.ids));
    let pss: u64 = all.map(|process| shim::pss_kib(&process)).sum::<Result<u64>>()?;
    let missing = (2 * many).saturating_sub(shims.len());
    Ok(Crowd { missing, ps_ms, stats_ms, pss_mib: pss as f64 / 1024.0 })
}

/// Output of a task on its way into rotated files.
#[derive(Clone, Copy, Debug)]
pub struct Logging {
    /// MB a second.
    pub speed: f64,
    /// Of `cat > file` to that.
    pub cat_to_log: f64,
    /// Private memory that the shim has more at the end, KiB.
    pub grown_kib: i64,
}

impl Logging {
    /// What a log is to reach, divided by what it reached: 500 MB a second, or four fifths of `cat > file`.
    #[must_use]
    pub fn to_bar(&self) -> f64 {
        (500.0 / self.speed).min(self.cat_to_log * 0.8)
    }
}

/// A program that writes so much in lines of 64 bytes, into a log and into `cat > file`, by turns.
///
/// # Errors
/// It fails.
pub fn logging(dist: &Path, load: &Path, turns: u32, mebibytes: usize) -> Result<Logging> {
    let folder = folder()?;
    let (mut ours, mut ratios, mut grown) = (Vec::new(), Vec::new(), 0);
    let (program, much) = (load.display().to_string(), mebibytes.to_string());
    for turn in 0..turns {
        let file = folder.path().join("cat");
        let script = format!("{program} lines {much} | cat > {}", file.display());
        let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output()?;
        let theirs = number(&output.stderr)?;
        std::fs::remove_file(&file)?;
        let name = name(&format!("logging{turn}"));
        let before = shim::shims();
        let job =
            Job { name: &name, count: 1, tasks: 1, command: (&program, &["lines", &much]), extra: LOGS };
        let started = Detached::start(dist, folder.path(), &job)?;
        let shim = shim::shims().difference(&before).next().cloned();
        let early = shim.as_deref().map(shim::private_kib);
        let mut late = None;
        let said = loop {
            late = shim.as_deref().and_then(|shim| shim::private_kib(shim).ok()).or(late);
            let id = started.ids.first().context("no allocation")?;
            let said = std::fs::read(started.log(id, "t0", "stderr")).unwrap_or_default();
            if said.ends_with(b"\n") {
                break said;
            }
            sleep(Duration::from_millis(20));
        };
        let speed = number(&said)?;
        ours.push(speed);
        ratios.push(theirs / speed);
        if let (Some(Ok(early)), Some(late)) = (early, late) {
            grown = grown.max(late.cast_signed() - early.cast_signed());
        }
    }
    let middle = |numbers: &[f64]| median(numbers).context("nothing was measured");
    Ok(Logging { speed: middle(&ours)?, cat_to_log: middle(&ratios)?, grown_kib: grown })
}

/// So that nothing is rotated away more often than for a usual job.
const LOGS: &str = "      logs {\n        max_files = 10\n        max_file_size = 10\n      }\n";

fn number(said: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(said);
    text.trim().parse().with_context(|| format!("the load said `{}`", text.trim()))
}

/// An archive of many files, made once.
pub struct Archives {
    folder: tempfile::TempDir,
}

/// The kinds that are measured: name, and how GNU tar makes one.
pub const KINDS: [(&str, &str); 2] = [("tar.zst", "--zstd"), ("tar.gz", "--gzip")];

impl Archives {
    /// So many files with so many MiB together, packed in each kind.
    ///
    /// # Errors
    /// No room, or no tar and its compressors.
    pub fn make(files: usize, mebibytes: usize) -> Result<Self> {
        let folder = folder()?;
        let tree = folder.path().join("tree");
        let mut noise = vec![0u8; 64 << 10];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
        let size = (mebibytes << 20) / files.max(1);
        let text =
            b"A line as programs and their documentation have them, over and over.\n".repeat(1 + size / 128);
        for number in 0..files {
            let place = tree.join(format!("{:03}", number / 100));
            std::fs::create_dir_all(&place)?;
            // Half of it compresses well, half hardly: about as sources and programs do.
            let at = number * 37 % (noise.len() / 2);
            let hard = noise.get(at..).unwrap_or_default().iter().copied().cycle().take(size / 2);
            let easy = text.iter().copied().cycle().take(size - size / 2);
            std::fs::write(place.join(format!("{number:05}")), hard.chain(easy).collect::<Vec<u8>>())?;
        }
        for (kind, option) in KINDS {
            let archive = folder.path().join(format!("x.{kind}")).display().to_string();
            run("tar", &[option, "-cf", &archive, "-C", &folder.path().display().to_string(), "tree"])?;
        }
        std::fs::remove_dir_all(tree)?;
        Ok(Self { folder })
    }

    /// How much longer an artifact takes than GNU tar: the whole of it, from the command to the task's first
    /// instruction, which includes the copy that is checked before it is unpacked.
    ///
    /// # Errors
    /// One of them fails.
    pub fn ratio(&self, dist: &Path, tiny: &Path, kind: &str, turns: u32) -> Result<f64> {
        let archive = self.folder.path().join(format!("x.{kind}"));
        let text = archive.display().to_string();
        let mut ratios = Vec::new();
        for _ in 0..turns {
            let out = self.folder.path().join("out");
            std::fs::create_dir(&out)?;
            let begun = monotonic();
            run("tar", &["-xf", &text, "-C", &out.display().to_string()])?;
            let theirs = monotonic() - begun;
            std::fs::remove_dir_all(&out)?;
            let extra = format!("      artifact {{\n        source = \"file://{text}\"\n      }}\n");
            let (name, command) = (name("unpack"), tiny.display().to_string());
            let job = Job { name: &name, count: 1, tasks: 1, command: (&command, &[]), extra: &extra };
            let file = self.folder.path().join("unpack.nomad.hcl");
            std::fs::write(&file, job.text())?;
            let begun = monotonic();
            let output = Command::new(dist.join("bivouac"))
                .args(["run", "--quiet"])
                .arg(&file)
                .stdin(Stdio::null())
                .output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
            ratios.push((stamp(&output.stdout)? - begun) / theirs);
        }
        median(&ratios).context("nothing was measured")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tiny_writes_is_a_time() {
        let mut bytes = 3i64.to_ne_bytes().to_vec();
        bytes.extend(500_000i64.to_ne_bytes());
        assert_eq!(stamp(&bytes).unwrap(), 3000.5);
        assert!(stamp(&bytes[..15]).is_err());
    }

    #[test]
    fn a_job_names_what_it_runs() {
        let job = Job { name: "n", count: 2, tasks: 2, command: ("/bin/x", &["a \"b\""]), extra: "" };
        let text = job.text();
        assert!(text.contains("count = 2") && text.contains("task \"t1\""), "{text}");
        assert!(text.contains("args = [\"a \\\"b\\\"\"]"), "{text}");
    }
}
