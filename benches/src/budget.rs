//! `budget.toml`: tables of `name = number`, and nothing else of TOML.

use crate::rounds::{Heat, Measured};
use anyhow::{Context, Result};

/// One line of the budget.
#[derive(Debug, PartialEq)]
pub struct Budget {
    /// The table it stands in.
    pub table: String,
    /// Its name there.
    pub name: String,
    /// The most that is allowed.
    pub most: f64,
}

/// Reads the file.
///
/// # Errors
/// A line is neither blank, a comment, a table nor `name = number`; the text names it.
pub fn parse(text: &str) -> Result<Vec<Budget>> {
    let mut found = Vec::new();
    let mut table = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut table);
        } else if !line.is_empty() {
            let read = || {
                let (name, most) = line.split_once('=')?;
                Some(Budget {
                    table: table.clone(),
                    name: name.trim().into(),
                    most: most.trim().parse().ok()?,
                })
            };
            found.push(
                read().with_context(|| {
                    format!("budget.toml:{}: `{line}` is not `name = number`", number + 1)
                })?,
            );
        }
    }
    Ok(found)
}

/// The measured ratio that a budget's name asks for: `engine_to_floor_hot`, the median of the rounds' ratios, or
/// `engine_to_floor_hot_least`, that of the quickest launches.
#[must_use]
pub fn ratio(name: &str, measured: &Measured) -> Option<f64> {
    let (name, least) = name.strip_suffix("_least").map_or((name, false), |name| (name, true));
    let (subject, rest) = name.split_once("_to_")?;
    let (reference, heat) = rest.rsplit_once('_')?;
    let heat = Heat::ALL.into_iter().find(|known| known.name() == heat)?;
    if least {
        measured.least_ratio(subject, reference, heat)
    } else {
        measured.ratio(subject, reference, heat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_repository_is_understood() {
        let budgets = parse(include_str!("../budget.toml")).unwrap();
        assert!(
            budgets.iter().any(|b| b.table == "ratio" && b.name == "engine_to_floor_hot" && b.most > 1.0)
        );
        assert!(budgets.iter().any(|b| b.table == "shim" && b.name == "wakeups"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let text = parse("[ratio]\na = 1\n\nb = fast\n").unwrap_err().to_string();
        assert_eq!(text, "budget.toml:4: `b = fast` is not `name = number`");
    }
}
