//! `cargo bench -p bivouac-bench [-- --rounds N --runs N --out FOLDER]`: measures, writes the page, holds the budget.
//!
//! Wants root, and the release programs in `target/dist` (`cargo xtask bench` builds them first).
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use bivouac_bench::report::Findings;
use bivouac_bench::rounds::{Effort, Heat, Measured};
use bivouac_bench::subject::{Floor, is_pure_v2};
use bivouac_bench::{budget, shim};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const BUDGET: &str = include_str!("../budget.toml");

struct Wanted {
    effort: Effort,
    out: PathBuf,
}

fn wanted() -> Result<Wanted> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut wanted = Wanted { effort: Effort { rounds: 5, runs: 60 }, out: docs };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            // cargo says it to every benchmark.
            "--bench" => {}
            "--rounds" => wanted.effort.rounds = value()?.parse().context("`--rounds` needs a number")?,
            "--runs" => wanted.effort.runs = value()?.parse().context("`--runs` needs a number")?,
            "--out" => wanted.out = value()?.into(),
            other => bail!("the benchmark knows --rounds, --runs and --out, not `{other}`"),
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
    let floor = Floor::build()?;
    let subjects = floor.subjects(&dist, engine.as_deref())?;
    let measured = Measured::run(&subjects, wanted.effort);
    let idle = shim::measure(&dist).map_err(|error| format!("{error:#}"));
    let sizes = sizes(&dist)?;
    let machine = machine();
    let findings = Findings {
        machine: &machine,
        effort: wanted.effort,
        measured: &measured,
        idle: &idle,
        sizes: &sizes,
    };
    let verdicts = findings.verdicts(&budget::parse(BUDGET)?);
    // The two kinds of machine stand on a page each.
    let name = if is_pure_v2() { "benchmarks-v2" } else { "benchmarks" };
    let plot = format!("{name}.svg");
    let page = findings.page(&verdicts, &plot);
    for (file, text) in [(format!("{name}.md"), &page), (plot, &findings.plot())] {
        let path = wanted.out.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let _gone = std::io::stdout().lock().write_all(page.as_bytes());
    for subject in ["floor", "bivouac"] {
        if measured.median(subject, Heat::Cold).is_none() {
            bail!(
                "`{subject}` was not measured: {}",
                measured.lost.get(subject).map_or("it never ran", String::as_str)
            );
        }
    }
    Ok(!verdicts.iter().any(bivouac_bench::report::Verdict::is_exceeded))
}

fn sizes(dist: &Path) -> Result<Vec<(&'static str, f64)>> {
    ["bivouac", "bivouac-shim"]
        .into_iter()
        .map(|name| {
            let file = dist.join(name);
            let bytes =
                std::fs::metadata(&file).with_context(|| format!("cannot look at {}", file.display()))?.len();
            Ok((name, bytes as f64 / 1024.0))
        })
        .collect()
}

/// Kernel, processors, kind of cgroups and how busy the machine is.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    format!(
        "kernel {}, {} x {model}, cgroup {}, load {} at the end",
        read("/proc/sys/kernel/osrelease").trim(),
        processors.lines().filter(|line| line.starts_with("processor")).count(),
        if is_pure_v2() { "v2" } else { "v1 or hybrid" },
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}

fn main() -> ExitCode {
    let problem = match bench() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => "a budget is exceeded".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let _gone = writeln!(std::io::stderr().lock(), "error: {problem}");
    ExitCode::FAILURE
}
