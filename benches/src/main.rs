//! `cargo bench -p bivouac-bench [-- --rounds N --runs N --out FOLDER --check --runner --launches --smoke]`: measures,
//! writes the page, holds the budget.
//!
//! Wants root, a mount namespace of its own and the release programs (`cargo xtask bench` sees to all three). With
//! `--check` only what a busy machine can hold is measured, and no page is written. With `--launches`, meant for the
//! emulated machine, the programs are started and nothing else; of that a page is written where cgroups are v2 only.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use bivouac_bench::budget::{self, Budget};
use bivouac_bench::ground::{self, Ground};
use bivouac_bench::report::{Findings, Verdict};
use bivouac_bench::rounds::{Effort, Heat, Measured};
use bivouac_bench::subject::{Floor, Sleepers, is_pure_v2};
use bivouac_bench::{inside, life, plot, root, runner, shim};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const BUDGET: &str = include_str!("../budget.toml");
/// The tasks of the crowd; the virtual machine has no room for so many.
const MANY: usize = 1000;
/// Allocations of two tasks each, in the background.
const ALLOCATIONS: usize = 200;
/// What a task writes into its log, MiB.
const WRITTEN: usize = 512;
/// About a machine that is emulated.
const EMULATED: &str = " It is emulated in software: what a program or the kernel computes takes 10 to 50 times as \
                        long as elsewhere, what they wait for does not, and a pause cools nothing down. The floor's row \
                        loads no program of device rules, which version 2 needs and ours does.";
/// Files in an archive, and their size together in MiB.
const FILES: (usize, usize) = (20_000, 500);

#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// Everything, with a page at the end.
    Whole,
    /// The rows of the standalone face, with no page.
    Runner,
    /// What a busy machine can hold.
    Check,
    /// How programs start, which is all that an emulated machine can say something about.
    Launches,
}

impl Extent {
    /// Whether a page is written.
    fn has_page(self) -> bool {
        self == Extent::Whole || (self == Extent::Launches && is_pure_v2())
    }
}

struct Wanted {
    effort: Effort,
    out: PathBuf,
    extent: Extent,
    /// By what large numbers are divided.
    scale: usize,
}

fn wanted() -> Result<Wanted> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut wanted =
        Wanted { effort: Effort { rounds: 6, runs: 40 }, out: docs, extent: Extent::Whole, scale: 1 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            // cargo says the first to every benchmark, the virtual machine's script the second to every suite.
            "--bench" | "--show-output" => {}
            "--rounds" => wanted.effort.rounds = value()?.parse().context("`--rounds` needs a number")?,
            "--runs" => wanted.effort.runs = value()?.parse().context("`--runs` needs a number")?,
            "--out" => wanted.out = value()?.into(),
            "--check" => wanted.extent = Extent::Check,
            "--runner" => wanted.extent = Extent::Runner,
            "--launches" => {
                (wanted.extent, wanted.effort) = (Extent::Launches, Effort { rounds: 5, runs: 12 });
            }
            // The shape of everything, in a fraction of the time; its figures say little.
            "--smoke" => (wanted.scale, wanted.effort) = (20, Effort { rounds: 3, runs: 8 }),
            other => bail!(
                "the benchmark knows --rounds, --runs, --out, --check, --runner, --launches and --smoke, not \
                 `{other}`"
            ),
        }
    }
    if wanted.effort.rounds == 0 || wanted.effort.runs == 0 {
        bail!("at least one round of one run");
    }
    Ok(wanted)
}

/// Measures everything; whether all budgets hold.
fn bench() -> Result<bool> {
    let wanted = wanted()?;
    let dist = std::env::var_os("BIVOUAC_DIST")
        .map(PathBuf::from)
        .context("BIVOUAC_DIST is not set: use `cargo xtask bench`")?;
    let engine = std::env::var_os("BIVOUAC_ENGINE").map(PathBuf::from);
    let ground = Ground::new();
    let mut findings = Findings::new(wanted.effort);
    if let Err(error) = &ground {
        findings.lost.push(format!("a file system of its own: {error:#}"));
    }
    let floor = Floor::build()?;
    let mut sleepers = Sleepers::default();
    let subjects = match wanted.extent {
        Extent::Runner => Vec::new(),
        Extent::Check => floor.subjects(&dist, engine.as_deref())?.into_iter().take(2).collect(),
        Extent::Whole | Extent::Launches => {
            let mut all = floor.subjects(&dist, engine.as_deref())?;
            all.extend(floor.exec_subjects(&dist, &mut sleepers)?);
            all
        }
    };
    findings.measured = Measured::run(&subjects, wanted.effort);
    drop(sleepers);
    sizes(&dist, &mut findings)?;
    if wanted.extent != Extent::Runner {
        idle(&dist, &mut findings);
    }
    if wanted.extent == Extent::Whole {
        tasks(&dist, wanted.scale, &mut findings);
    }
    if matches!(wanted.extent, Extent::Whole | Extent::Runner) {
        runner(&dist, floor.tiny(), wanted.scale, &mut findings);
    }
    findings.machine = machine();
    if findings.machine.contains("TCG") {
        findings.about = EMULATED;
    }
    let kind = if is_pure_v2() { "v2" } else { "host" };
    let tables: &[&str] = match wanted.extent {
        Extent::Whole => &["ratio", kind, "shim", "size", "life", "root", "crowd", "inside", "runner"],
        Extent::Runner => &["runner"],
        Extent::Check => &["check", "shim", "size"],
        Extent::Launches => &["ratio", kind, "shim", "size"],
    };
    let budgets: Vec<Budget> =
        budget::parse(BUDGET)?.into_iter().filter(|budget| tables.contains(&budget.table.as_str())).collect();
    let verdicts = findings.verdicts(&budgets);
    publish(&wanted, &findings, &verdicts)?;
    for subject in ["floor", "engine"].into_iter().filter(|_| wanted.extent != Extent::Runner) {
        if findings.measured.median(subject, Heat::Cold).is_none() {
            let reason = findings.measured.lost.get(subject).map_or("it never ran", String::as_str);
            bail!("`{subject}` was not measured: {reason}");
        }
    }
    drop(ground);
    let unknown = |verdict: &Verdict| wanted.extent == Extent::Check && verdict.measured.is_none();
    Ok(!verdicts.iter().any(|verdict| verdict.is_exceeded() || unknown(verdict)))
}

fn publish(wanted: &Wanted, findings: &Findings, verdicts: &[Verdict]) -> Result<()> {
    if !wanted.extent.has_page() {
        let text = format!("{}{}\n", findings.bars(verdicts), findings.lost.join("\n"));
        let _gone = std::io::stdout().lock().write_all(text.as_bytes());
        return Ok(());
    }
    // The two kinds of machine stand on a page each.
    let (name, title) = if is_pure_v2() {
        ("benchmarks-v2", "Benchmarks with control groups of version 2")
    } else {
        ("benchmarks", "Benchmarks")
    };
    let picture = format!("{name}.svg");
    std::fs::create_dir_all(&wanted.out).with_context(|| format!("cannot make {}", wanted.out.display()))?;
    let page = findings.page(title, verdicts, &picture);
    for (file, text) in [(format!("{name}.md"), &page), (picture, &plot::bars(&findings.measured))] {
        let path = wanted.out.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let _gone = std::io::stdout().lock().write_all(page.as_bytes());
    Ok(())
}

fn sizes(dist: &Path, findings: &mut Findings) -> Result<()> {
    for (program, name) in [("bivouac", "size.bivouac_kib"), ("bivouac-shim", "size.bivouac-shim_kib")] {
        let file = dist.join(program);
        let about = std::fs::metadata(&file).with_context(|| format!("cannot look at {}", file.display()))?;
        findings.note(name, about.len() as f64 / 1024.0);
    }
    Ok(())
}

fn idle(dist: &Path, findings: &mut Findings) {
    if let Some(idle) = findings.keep("the idle shim", shim::measure(dist)) {
        findings.note("shim.private_kib", idle.private_kib as f64);
        findings.note("shim.wakeups", idle.wakeups as f64);
    }
}

/// What tasks are and what is done to them.
fn tasks(dist: &Path, scale: usize, findings: &mut Findings) {
    if let Some(root) = findings.keep("the root of a task", root::measure(dist)) {
        findings.note("root.bytes", root.bytes as f64);
        findings.note("root.inodes", root.inodes as f64);
        findings.note("root.mounts", root.mounts as f64);
    }
    for (name, outcome) in [
        ("life.stop_ms", life::stop(dist, 0)),
        ("life.stop_dirty_ms", life::stop(dist, 256 / scale)),
        ("life.exit_told_ms", life::exit_told(dist, 0)),
        ("life.exit_told_dirty_ms", life::exit_told(dist, 64 / scale)),
        ("life.kill_bomb_ms", life::kill_bomb(dist)),
    ] {
        if let Some(figure) = findings.keep(name, outcome) {
            findings.note(name, figure);
        }
    }
    if !is_pure_v2()
        && let Some(crowd) = findings.keep("a thousand tasks", life::crowd(dist, MANY / scale))
    {
        findings.note("crowd.first_ms", crowd.first);
        findings.note("crowd.last_to_first", crowd.last / crowd.first);
        findings.note("crowd.shims_mib", crowd.shims_mib);
        findings.note("crowd.end_seconds", crowd.end_seconds);
        findings.note("crowd.left", crowd.left as f64);
    }
    let speeds = inside::Load::build().and_then(|load| load.measure(dist, 8));
    findings.speeds = findings.keep("the task's own speed", speeds).unwrap_or_default();
}

/// What the standalone face does.
fn runner(dist: &Path, tiny: &Path, scale: usize, findings: &mut Findings) {
    let turns = if scale > 1 { 5 } else { 30 };
    if let Some(ours) = findings.keep("`run -d`", runner::detached(dist, tiny, turns)) {
        findings.note("runner.detached_ms", ours);
        if let Some(theirs) = findings.keep("podman", runner::podman(tiny, 5)) {
            findings.note("runner.podman_ms", theirs);
            findings.note("runner.detached_to_podman", ours / theirs);
        }
    }
    let parser = std::env::var_os("BIVOUAC_PARSER").map(PathBuf::from).context("BIVOUAC_PARSER is not set");
    if let Some((millis, mebibytes)) =
        findings.keep("reading a job file", parser.and_then(|parser| runner::parse(&parser)))
    {
        findings.note("runner.parse_ms", millis);
        findings.note("runner.parse_mib", mebibytes);
    }
    if let Some(idle) = findings.keep("an idle supervisor", runner::idle(dist)) {
        findings.note("runner.idle_kib", idle.private_kib as f64);
        findings.note("runner.idle_supervisor_kib", idle.supervisor_kib as f64);
        findings.note("runner.idle_wakeups", idle.wakeups as f64);
    }
    let crowd = runner::crowd(dist, if is_pure_v2() { ALLOCATIONS / 10 } else { ALLOCATIONS } / scale);
    if let Some(crowd) = findings.keep("many allocations", crowd) {
        findings.note("runner.crowd_missing", crowd.missing as f64);
        findings.note("runner.crowd_ps_ms", crowd.ps_ms);
        findings.note("runner.crowd_stats_ms", crowd.stats_ms);
        findings.note("runner.crowd_pss_mib", crowd.pss_mib);
    }
    let logging =
        inside::Load::build().and_then(|load| runner::logging(dist, load.program(), 5, WRITTEN / scale));
    if let Some(logging) = findings.keep("logs", logging) {
        findings.note("runner.log_to_bar", logging.to_bar());
        findings.note("runner.log_grown_kib", logging.grown_kib as f64);
    }
    let (files, mebibytes) = FILES;
    let archives = runner::Archives::make(files / scale, mebibytes / scale);
    if let Some(archives) = findings.keep("archives", archives) {
        for ((kind, _), name) in runner::KINDS.into_iter().zip(["runner.zst_to_tar", "runner.gz_to_tar"]) {
            if let Some(ratio) = findings.keep(kind, archives.ratio(dist, tiny, kind, 3)) {
                findings.note(name, ratio);
            }
        }
    }
}

/// Kernel, processors, kind of cgroups, file system, and how busy the machine is.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    format!(
        "kernel {}, {} x {model}, cgroup {}, everything written to {}, /run in memory, load {} at the end",
        read("/proc/sys/kernel/osrelease").trim(),
        processors.lines().filter(|line| line.starts_with("processor")).count(),
        if is_pure_v2() { "v2" } else { "v1 beside v2 (hybrid)" },
        ground::kind(Path::new("/var/tmp")),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}

fn main() -> ExitCode {
    let (problem, failed) = match bench() {
        Ok(true) => (None, 0),
        Ok(false) => (Some("a budget is exceeded".to_owned()), 1),
        Err(error) => (Some(format!("{error:#}")), 1),
    };
    if let Some(problem) = problem {
        let _gone = writeln!(std::io::stderr().lock(), "error: {problem}");
    }
    // As every suite ends, for whoever sums up.
    let passed = 1 - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let _gone = writeln!(
        std::io::stdout().lock(),
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
