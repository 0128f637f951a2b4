//! Running the subjects by turns, and what all rounds come to.

use crate::row::{Row, median};
use crate::subject::Subject;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

/// With or without time for caches and processors to fall asleep between launches.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Heat {
    /// One launch after the other.
    Hot,
    /// 40 ms of nothing before each launch.
    Cold,
}

impl Heat {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hot, Self::Cold];

    /// As it is written in the budget.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }

    fn gap(self) -> u32 {
        match self {
            Self::Hot => 0,
            Self::Cold => 40_000,
        }
    }
}

/// How much to measure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Rounds.
    pub rounds: u32,
    /// Launches of each subject in a round, hot; cold takes a quarter.
    pub runs: u32,
}

impl Effort {
    /// Launches of each subject in a round, cold.
    #[must_use]
    pub fn cold(self) -> u32 {
        self.runs.div_ceil(4)
    }
}

/// Everything measured: a row per round for every subject and heat, and why a subject dropped out.
#[derive(Default)]
pub struct Measured {
    rows: BTreeMap<(&'static str, Heat), Vec<Row>>,
    /// Subjects that failed, with the reason.
    pub lost: BTreeMap<&'static str, String>,
}

impl Measured {
    /// Runs all rounds. A subject that fails once is left out of what follows.
    #[must_use]
    pub fn run(subjects: &[Subject], effort: Effort) -> Self {
        let mut measured = Self::default();
        for round in 1..=effort.rounds {
            // On an emulated machine this takes a while.
            let _gone = writeln!(std::io::stderr(), "round {round} of {}", effort.rounds);
            for heat in Heat::ALL {
                for subject in subjects {
                    if !measured.lost.contains_key(subject.name) {
                        measured.turn(subject, heat, effort);
                    }
                }
            }
        }
        measured
    }

    fn turn(&mut self, subject: &Subject, heat: Heat, effort: Effort) {
        let runs = match heat {
            Heat::Hot => effort.runs,
            Heat::Cold => effort.cold(),
        };
        match once(subject, runs, heat.gap()) {
            Ok(row) => self.rows.entry((subject.name, heat)).or_default().push(row),
            Err(error) => {
                self.lost.insert(subject.name, format!("{error:#}"));
            }
        }
    }

    /// The median of a subject over the rounds, in microseconds.
    #[must_use]
    pub fn median(&self, subject: &str, heat: Heat) -> Option<f64> {
        self.figures(subject, heat, |row| row.median)
    }

    /// The middle one of the rounds' 99th percentiles, in microseconds.
    #[must_use]
    pub fn p99(&self, subject: &str, heat: Heat) -> Option<f64> {
        self.figures(subject, heat, |row| row.p99)
    }

    /// The ratio of the quickest launches of all rounds: what other programs on the machine disturb least.
    #[must_use]
    pub fn least_ratio(&self, subject: &str, to: &str, heat: Heat) -> Option<f64> {
        let least = |subject| self.of(subject, heat)?.iter().map(|row| row.least).min_by(f64::total_cmp);
        Some(least(subject)? / least(to)?)
    }

    fn figures(&self, subject: &str, heat: Heat, figure: fn(&Row) -> f64) -> Option<f64> {
        median(&self.of(subject, heat)?.iter().map(figure).collect::<Vec<_>>())
    }

    fn of(&self, subject: &str, heat: Heat) -> Option<&Vec<Row>> {
        self.rows.iter().find(|((name, its), _)| *name == subject && *its == heat).map(|(_, rows)| rows)
    }

    /// The median of the rounds' ratios of two subjects.
    #[must_use]
    pub fn ratio(&self, subject: &str, to: &str, heat: Heat) -> Option<f64> {
        let pairs = self.of(subject, heat)?.iter().zip(self.of(to, heat)?);
        median(&pairs.map(|(ours, theirs)| ours.median / theirs.median).collect::<Vec<_>>())
    }
}

fn once(subject: &Subject, runs: u32, gap: u32) -> Result<Row> {
    let output = subject
        .command(runs, gap)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", subject.name))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, said.lines().last().unwrap_or("said nothing"));
    }
    Row::parse(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut measured = Measured::default();
        let row = |median| Row { least: median / 2.0, median, p99: median * 2.0 };
        // The second round ran on a machine ten times as busy.
        measured.rows.insert(("a", Heat::Hot), vec![row(10.0), row(100.0), row(12.0)]);
        measured.rows.insert(("b", Heat::Hot), vec![row(20.0), row(200.0), row(24.0)]);
        assert_eq!(measured.ratio("a", "b", Heat::Hot), Some(0.5));
        assert_eq!(measured.median("a", Heat::Hot), Some(12.0));
        assert_eq!(measured.p99("a", Heat::Hot), Some(24.0));
        assert_eq!(measured.ratio("a", "c", Heat::Hot), None);
        assert_eq!(measured.least_ratio("a", "b", Heat::Hot), Some(0.5));
        assert_eq!(measured.least_ratio("a", "b", Heat::Cold), None);
    }
}
