//! `cargo xtask fuzz`: builds the fuzz targets of `fuzz/` with libFuzzer and runs each for a bounded time.
//!
//! Coverage is a plain code generation option, so the pinned compiler and crates.io are all it takes: no nightly, no
//! cargo-fuzz. There is no unsafe code outside `sys`, which no target reaches, so address sanitizing would find
//! nothing here. Seeds lie in `fuzz/seeds/<target>`; what is found grows in `target/fuzz/corpus`; the bytes of a
//! finding in `target/fuzz/artifacts`. A finding becomes a test beside the code, then it is mended.

use crate::shell::{self, say};
use crate::test::needs;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

/// What makes a program tell libFuzzer where it has been.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// One input may take so many seconds, and the process so many MiB.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"];
/// So many targets run at a time.
const AT_A_TIME: usize = 2;

/// What was asked for.
struct Wanted {
    seconds: u32,
    /// Where libFuzzer's dice begin; somewhere else each time when none is given.
    seed: Option<u32>,
    install: bool,
    targets: Vec<String>,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self { seconds: 60, seed: None, install: true, targets: Vec::new() };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            match argument {
                "--seconds" => {
                    let number = rest.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                    wanted.seconds = number.context("`--seconds` needs a number above 0")?;
                }
                "--seed" => {
                    let number = rest.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                    wanted.seed = Some(number.context("`--seed` needs a number above 0")?);
                }
                "--no-install" => wanted.install = false,
                option if option.starts_with('-') => {
                    bail!("`cargo xtask fuzz` knows --seconds, --seed and --no-install, not `{option}`")
                }
                target => wanted.targets.push(target.to_owned()),
            }
        }
        Ok(wanted)
    }
}

/// Runs the targets; fails if one finds something.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = Wanted::parse(arguments)?;
    for lack in needs::settle(wanted.install, needs::Lanes::Host) {
        say(format!("lacking: {lack}"));
    }
    let workspace = Workspace::load()?;
    let known = targets(&workspace)?;
    if let Some(unknown) = wanted.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", known.join(", "));
    }
    let chosen = if wanted.targets.is_empty() { known } else { wanted.targets.clone() };
    let home = Home { top: workspace.target.join("fuzz"), sources: workspace.root.join("fuzz") };
    let programs = home.build()?;
    let queue = Mutex::new(VecDeque::from(chosen));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(target) = next(&queue) {
                    if let Err(error) = home.fuzz(&programs, &target, &wanted)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(format!("{target}: {error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        bail!("{} fuzz targets found something\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

fn next(queue: &Mutex<VecDeque<String>>) -> Option<String> {
    queue.lock().ok()?.pop_front()
}

/// The names of all targets: each is one file.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("fuzz/targets");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    names.sort();
    Ok(names)
}

/// Where fuzzing happens.
struct Home {
    /// Builds, corpora, artifacts, logs.
    top: PathBuf,
    /// The package `fuzz/`.
    sources: PathBuf,
}

impl Home {
    /// Builds all targets and returns the folder of the programs.
    fn build(&self) -> Result<PathBuf> {
        let version = shell::capture(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not tell its host")?;
        let mut cargo = shell::cargo();
        // With a target named, the flags do not reach build scripts and macros.
        cargo
            .args(["build", "--release", "--locked", "--target", host])
            .arg("--manifest-path")
            .arg(self.sources.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&self.top)
            .env("RUSTFLAGS", COVERAGE);
        shell::run(&mut cargo)?;
        Ok(self.top.join(host).join("release"))
    }

    /// Runs one target and says its line.
    fn fuzz(&self, programs: &Path, target: &str, wanted: &Wanted) -> Result<()> {
        let begun = Instant::now();
        let (corpus, artifacts) = (self.top.join("corpus").join(target), self.top.join("artifacts"));
        // libFuzzer ends its process where it stands, and nothing is tidied up inside.
        let scratch = self.top.join("tmp").join(target);
        for folder in [&corpus, &artifacts, &scratch] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let path = self.top.join(format!("{target}.log"));
        let log = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new(programs.join(target));
        command
            .arg(format!("-max_total_time={}", wanted.seconds))
            .args(wanted.seed.map(|seed| format!("-seed={seed}")))
            .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
            .args(LIMITS)
            .arg(&corpus)
            .arg(self.sources.join("seeds").join(target))
            .env("TMPDIR", &scratch)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log between two streams")?)
            .stderr(log);
        let status = command.status().with_context(|| format!("cannot start {target}"))?;
        std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
        let said = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        let figure = |name: &str| figure(&said, name).unwrap_or("?").to_owned();
        let verdict = if status.success() { "ok" } else { "FAILED" };
        let (runs, taken) = (figure("stat::number_of_executed_units:"), begun.elapsed().as_secs());
        say(format!("fuzz  {target:<16} {verdict:<6} {runs:>9} inputs {taken:>4} s"));
        if !status.success() {
            let lines: Vec<&str> = said.lines().collect();
            let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            bail!("{status}; all it said is in {}\n{}", path.display(), end.join("\n"));
        }
        Ok(())
    }
}

/// A figure of libFuzzer's last lines.
fn figure<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().rev().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse =
            |words: &[&str]| Wanted::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let wanted = parse(&["--seconds", "5", "words", "--no-install"]).unwrap();
        assert_eq!((wanted.seconds, wanted.install, wanted.targets.len()), (5, false, 1));
        for bad in [&["--seconds"][..], &["--seconds", "0"], &["--seed", "0"], &["--minutes"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    /// A target without a row in the manifest would never be built, one without seeds starts blind.
    #[test]
    fn every_target_is_built_and_has_seeds() {
        let workspace = Workspace::load().unwrap();
        let manifest = shell::read(&workspace.root.join("fuzz/Cargo.toml")).unwrap();
        for target in targets(&workspace).unwrap() {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
            let seeds = workspace.root.join("fuzz/seeds").join(&target);
            assert!(std::fs::read_dir(seeds).unwrap().count() > 0, "{target}");
        }
    }

    #[test]
    fn figures_are_the_last_of_their_name() {
        let said = "#1 INITED\nstat::number_of_executed_units: 7\nstat::number_of_executed_units: 91\n";
        assert_eq!(figure(said, "stat::number_of_executed_units:"), Some("91"));
        assert_eq!(figure(said, "stat::peak_rss_mb:"), None);
    }
}
