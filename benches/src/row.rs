//! The rows that the floor programs print: `case,figure,runs,min,p25,median,p90,p99,mean` in microseconds.

use anyhow::{Context, Result};

/// The figure we compare: start to the first instruction of the task.
const FIGURE: &str = "exec_start";

/// What one call of a subject came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The quickest, in microseconds.
    pub least: f64,
    /// Median in microseconds.
    pub median: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
}

impl Row {
    /// Reads the row of our figure from a program's output.
    ///
    /// # Errors
    /// There is no such row, or its fields are no numbers.
    pub fn parse(output: &str) -> Result<Self> {
        let fields: Vec<&str> = output
            .lines()
            .map(|line| line.split(',').collect::<Vec<_>>())
            .find(|fields| fields.get(1) == Some(&FIGURE))
            .with_context(|| format!("no row `{FIGURE}` in: {output}"))?;
        let number = |at: usize| -> Result<f64> {
            let text = fields.get(at).with_context(|| format!("the row `{FIGURE}` has no field {at}"))?;
            text.trim().parse().with_context(|| format!("`{text}` is no number of microseconds"))
        };
        Ok(Self { least: number(3)?, median: number(5)?, p99: number(7)? })
    }
}

/// The middle of some numbers; the mean of the two middle ones where their count is even. None of none.
#[must_use]
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_figure() {
        let text = "launch/x,prep,5,1,1,1,1,1,1\nlaunch/x,exec_start,5,10.00,11.00,12.50,13,14.25,12\n";
        assert_eq!(Row::parse(text).unwrap(), Row { least: 10.0, median: 12.5, p99: 14.25 });
        assert!(Row::parse("").is_err() && Row::parse("a,exec_start,5,1,2").is_err());
    }

    #[test]
    fn the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
