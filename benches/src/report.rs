//! What people read: `docs/benchmarks.md` and its plot.

use crate::budget::{self, Budget};
use crate::rounds::{Effort, Heat, Measured};
use crate::shim::Idle;
use std::fmt::Write;

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
pub struct Findings<'f> {
    /// The machine, one line.
    pub machine: &'f str,
    /// How much was measured.
    pub effort: Effort,
    /// The launches.
    pub measured: &'f Measured,
    /// The idle shim, or why it was not measured.
    pub idle: &'f Result<Idle, String>,
    /// Program names and sizes in KiB.
    pub sizes: &'f [(&'static str, f64)],
}

/// The subjects in the order of the tables.
const SUBJECTS: [&str; 6] = ["floor", "engine", "bivouac", "bwrap", "runc", "crun"];

impl Findings<'_> {
    /// Holds the findings against the budget.
    #[must_use]
    pub fn verdicts(&self, budgets: &[Budget]) -> Vec<Verdict> {
        budgets
            .iter()
            .map(|budget| Verdict {
                name: format!("{}.{}", budget.table, budget.name),
                most: budget.most,
                measured: match (budget.table.as_str(), budget.name.as_str(), self.idle) {
                    ("ratio", name, _) => budget::ratio(name, self.measured),
                    ("shim", "private_kib", Ok(idle)) => Some(idle.private_kib as f64),
                    ("shim", "wakeups", Ok(idle)) => Some(idle.wakeups as f64),
                    ("size", name, _) => self
                        .sizes
                        .iter()
                        .find(|size| name.strip_suffix("_kib") == Some(size.0))
                        .map(|size| size.1),
                    _ => None,
                },
            })
            .collect()
    }

    /// The page, as Markdown.
    #[must_use]
    pub fn page(&self, verdicts: &[Verdict], plot: &str) -> String {
        let mut page = format!(
            "# Benchmarks\n\nWritten by `cargo xtask bench`; change the program in `benches/`, not this page.\n\n\
             Machine: {}. {} rounds, in each {} launches hot and {} cold (40 ms pause before each) per subject, by turns. \
             Figures are medians over the rounds, in microseconds, from the start of the command (floor and engine: of the \
             preparation) to the first instruction of the task; ratios are taken within a round.\n\n![launch times]({plot})\n\n\
             | subject | hot | p99 | to floor | cold | p99 | to floor |\n|---|---|---|---|---|---|---|\n",
            self.machine,
            self.effort.rounds,
            self.effort.runs,
            self.effort.runs.div_ceil(2),
        );
        for subject in SUBJECTS.iter().filter(|subject| self.measured.median(subject, Heat::Hot).is_some()) {
            let cells = Heat::ALL.map(|heat| {
                let time = |figure: Option<f64>| figure.map_or("-".into(), |figure| format!("{figure:.0}"));
                let ratio = self
                    .measured
                    .ratio(subject, "floor", heat)
                    .map_or("-".into(), |ratio| format!("{ratio:.2}"));
                format!(
                    "{} | {} | {ratio}",
                    time(self.measured.median(subject, heat)),
                    time(self.measured.p99(subject, heat))
                )
            });
            let _never = writeln!(page, "| {subject} | {} |", cells.join(" | "));
        }
        page.push_str(
            "\n`floor` is the cheapest launch the kernel allows with a default task's isolation (`benches/floor/README.md`); \
             `engine` is our sandbox launched in a loop; `bivouac` is `bivouac run -- tiny`. `bwrap` has no cgroups, overlay or \
             filter; `runc` and `crun` get a bundle with our default's namespaces, limits, masks and read-only binds, without a \
             filter.\n\n",
        );
        for (subject, reason) in &self.measured.lost {
            let _never = writeln!(page, "Not measured: `{subject}`: {reason}\n");
        }
        if let Err(reason) = self.idle {
            let _never = writeln!(page, "Not measured: idle shim: {reason}\n");
        }
        page.push_str("## Budget\n\n| budget | at most | measured | |\n|---|---|---|---|\n");
        for verdict in verdicts {
            let measured =
                verdict.measured.map_or("not measured here".into(), |measured| format!("{measured:.2}"));
            let mark = if verdict.is_exceeded() { "**exceeded**" } else { "" };
            let _never = writeln!(page, "| `{}` | {} | {measured} | {mark} |", verdict.name, verdict.most);
        }
        page
    }

    /// Bars of the medians, hot above cold, on one scale.
    #[must_use]
    pub fn plot(&self) -> String {
        const WIDTH: f64 = 460.0;
        let bars: Vec<(&str, Heat, f64)> = SUBJECTS
            .iter()
            .flat_map(|subject| Heat::ALL.map(|heat| (*subject, heat, self.measured.median(subject, heat))))
            .filter_map(|(subject, heat, time)| Some((subject, heat, time?)))
            .collect();
        let longest = bars.iter().map(|bar| bar.2).fold(1.0, f64::max);
        let height = 24 * bars.len() + 16;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"700\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>Start to first instruction, microseconds</title>\n"
        );
        for (place, (subject, heat, time)) in bars.iter().enumerate() {
            let y = 24 * place + 8;
            let colour = match heat {
                Heat::Hot => "#c2542d",
                Heat::Cold => "#3d6f9e",
            };
            let _never = writeln!(
                svg,
                "<text x=\"4\" y=\"{}\">{subject} {}</text><rect x=\"110\" y=\"{y}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{time:.0}</text>",
                y + 13,
                heat.name(),
                time / longest * WIDTH,
                time / longest * WIDTH + 116.0,
                y + 13
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exceeded_only_by_a_measurement() {
        let findings = Findings {
            machine: "m",
            effort: Effort { rounds: 1, runs: 1 },
            measured: &Measured::default(),
            idle: &Ok(Idle { private_kib: 120, wakeups: 0 }),
            sizes: &[("bivouac", 10.0)],
        };
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
        assert!(
            findings
                .page(&verdicts, "x.svg")
                .contains("| `shim.private_kib` | 100 | 120.00 | **exceeded** |")
        );
    }
}
