//! What people read: `docs/benchmarks.md`.

use crate::budget::{self, Budget};
use crate::inside::Speed;
use crate::rounds::{Effort, Heat, Measured};
use crate::subject::SUBJECTS;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What it costs where a bar is missed, as far as that is known: the beginning of the budget's name, and the reason.
const COSTS: [(&str, &str); 5] = [
    (
        "host.bivouac_to_runc",
        "overlays that keep what a task writes, a filter, and what is written down of a run, none of which runc has here",
    ),
    (
        "host.bivouac_to_bwrap",
        "control groups in every hierarchy, a shim, overlays, a filter and what is written down, beside bubblewrap, which has \
         none of them",
    ),
    ("v2.bivouac_to_crun_cold", "a pause changes nothing on an emulated machine: hot and cold are the same"),
    (
        "runner.detached",
        "all that a run in the foreground costs, and a second program, the supervisor, started, told and heard before",
    ),
    (
        "inside to outside: getpid",
        "with a filter the kernel takes its longer way into every call: some 10 ns",
    ),
];

/// One budget with what was measured for it.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// `table.name`.
    pub name: String,
    /// The most that is allowed.
    pub most: f64,
    /// What was measured; none if this machine or this run cannot.
    pub measured: Option<f64>,
}

impl Verdict {
    /// Whether the budget is exceeded.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.measured.is_some_and(|measured| measured > self.most)
    }
}

/// Everything one run learned.
#[derive(Default)]
pub struct Findings {
    /// The machine, one line.
    pub machine: String,
    /// What else must be known of it to read the figures.
    pub about: &'static str,
    /// How much was measured.
    pub effort: Effort,
    /// The launches.
    pub measured: Measured,
    /// Inside against outside.
    pub speeds: Vec<Speed>,
    /// What was not measured, with the reason.
    pub lost: Vec<String>,
    /// Single figures by the name of their budget.
    figures: BTreeMap<&'static str, f64>,
}

impl Findings {
    /// Nothing yet.
    #[must_use]
    pub fn new(effort: Effort) -> Self {
        Self { effort, ..Self::default() }
    }

    /// Keeps a figure under the name of its budget.
    pub fn note(&mut self, name: &'static str, figure: f64) {
        self.figures.insert(name, figure);
    }

    /// The outcome, if there is one; else the reason is kept.
    pub fn keep<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(outcome) => Some(outcome),
            Err(error) => {
                self.lost.push(format!("{what}: {error:#}"));
                None
            }
        }
    }

    /// Holds the findings against the budget.
    #[must_use]
    pub fn verdicts(&self, budgets: &[Budget]) -> Vec<Verdict> {
        let single = budgets.iter().map(|budget| {
            let name = format!("{}.{}", budget.table, budget.name);
            let measured = match budget.table.as_str() {
                "ratio" | "host" | "v2" | "check" => budget::ratio(&budget.name, &self.measured),
                _ => self.figures.get(name.as_str()).copied(),
            };
            Verdict { name, most: budget.most, measured }
        });
        let speeds = self.speeds.iter().map(|speed| Verdict {
            name: format!("inside to outside: {}", speed.what),
            most: speed.most,
            measured: Some(speed.ratio),
        });
        single.chain(speeds).collect()
    }

    /// The page, as Markdown.
    #[must_use]
    pub fn page(&self, title: &str, verdicts: &[Verdict], plot: &str) -> String {
        let mut page = format!(
            "# {title}\n\nWritten by `cargo xtask bench`; change the program in `benches/`, not this page.\n\n\
             Machine: {}.{}\n\n{} rounds, in each {} launches hot and {} cold (40 ms pause before each) per subject, by turns. \
             Times are medians over the rounds in milliseconds, from the start of the command (floor and engine: of the \
             preparation) to the first instruction of the task; ratios are taken within a round, and the median of those \
             counts.\n\n![launch times]({plot})\n\n\
             | subject | hot | p99 | to floor | cold | p99 | to floor |\n|---|---|---|---|---|---|---|\n",
            self.machine,
            self.about,
            self.effort.rounds,
            self.effort.runs,
            self.effort.cold(),
        );
        for subject in SUBJECTS.iter().filter(|subject| self.measured.median(subject, Heat::Hot).is_some()) {
            let cells = Heat::ALL.map(|heat| {
                let time = |figure: Option<f64>| {
                    figure.map_or("-".into(), |figure| format!("{:.2}", figure / 1000.0))
                };
                let ratio = self.measured.ratio(subject, "floor", heat);
                format!(
                    "{} | {} | {}",
                    time(self.measured.median(subject, heat)),
                    time(self.measured.p99(subject, heat)),
                    ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
                )
            });
            let _never = writeln!(page, "| {subject} | {} |", cells.join(" | "));
        }
        page.push_str(
            "\n`floor` is the cheapest launch the kernel allows with a default task's isolation (`benches/floor/README.md`); \
             `engine` is our sandbox launched in a loop; `bivouac` is `bivouac run -- tiny`; `bivouac-exec`, `runc-exec` and \
             `crun-exec` execute `tiny` in something that sleeps. `bwrap` has no cgroups, overlay or filter; `runc` and `crun` \
             get a bundle with our default's namespaces, limits, masks and read-only binds, without a filter.\n\n",
        );
        page.push_str("## Bars\n\n");
        page.push_str(&self.bars(verdicts));
        if !self.speeds.is_empty() {
            page.push_str(&self.speeds());
        }
        if !(self.lost.is_empty() && self.measured.lost.is_empty()) {
            page.push_str("\n## Not measured\n\n");
        }
        for reason in &self.lost {
            let _never = writeln!(page, "- {reason}");
        }
        for (subject, reason) in &self.measured.lost {
            let _never = writeln!(page, "- `{subject}`: {reason}");
        }
        page
    }

    /// Every budget beside what was measured.
    #[must_use]
    pub fn bars(&self, verdicts: &[Verdict]) -> String {
        let mut text = String::from("| what | at most | measured | |\n|---|---|---|---|\n");
        for verdict in verdicts {
            let measured =
                verdict.measured.map_or("not measured here".into(), |measured| format!("{measured:.2}"));
            let cost = COSTS.iter().find(|(name, _)| verdict.name.starts_with(name));
            let cost = cost.map(|(_, cost)| format!(": {cost}")).unwrap_or_default();
            let mark = match (verdict.is_exceeded(), verdict.measured) {
                (true, Some(measured)) if verdict.most > 0.0 => {
                    format!("**missed, {:.2} times the bar**{cost}", measured / verdict.most)
                }
                (true, _) => format!("**missed**{cost}"),
                (false, _) => String::new(),
            };
            let _never =
                writeln!(text, "| {} | {} | {measured} | {mark} |", verdict.name, shown(verdict.most));
        }
        text
    }

    fn speeds(&self) -> String {
        let mut text = String::from(
            "\n## The task's own speed\n\nNanoseconds per operation (`benches/load/load.c`; the best of \
             eight rounds of five turns).\n\n| work | outside | inside | inside to outside |\n|---|---|---|---|\n",
        );
        for speed in &self.speeds {
            let _never = writeln!(
                text,
                "| {} | {:.0} | {:.0} | {:.3} |",
                speed.what, speed.outside, speed.inside, speed.ratio
            );
        }
        text
    }
}

/// Without digits that say nothing.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number}") } else { format!("{number:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exceeded_only_by_a_measurement() {
        let mut findings = Findings::default();
        findings.note("shim.private_kib", 120.0);
        findings.note("shim.wakeups", 0.0);
        findings.note("size.bivouac_kib", 10.0);
        let budgets = budget::parse(
            "[shim]\nprivate_kib = 100\nwakeups = 0\n[size]\nbivouac_kib = 11\n[ratio]\na_to_b_hot = 1\n",
        )
        .unwrap();
        let verdicts = findings.verdicts(&budgets);
        assert_eq!(
            verdicts.iter().map(Verdict::is_exceeded).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert_eq!(
            verdicts.iter().map(|v| v.measured).collect::<Vec<_>>(),
            [Some(120.0), Some(0.0), Some(10.0), None]
        );
        let page = findings.page("Benchmarks", &verdicts, "x.svg");
        assert!(
            page.contains("| shim.private_kib | 100 | 120.00 | **missed, 1.20 times the bar** |"),
            "{page}"
        );
        assert!(page.contains("| ratio.a_to_b_hot | 1 | not measured here |  |"), "{page}");
    }

    #[test]
    fn a_failure_is_kept_with_its_reason() {
        let mut findings = Findings::default();
        assert_eq!(findings.keep::<u8>("the moon", Err(anyhow::anyhow!("too far"))), None);
        assert!(findings.page("Benchmarks", &[], "x.svg").contains("- the moon: too far\n"));
    }
}
