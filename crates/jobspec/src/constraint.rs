//! Constraints against the attributes of this machine: which of them fail, and why.

use crate::interpolate;
use crate::model::{Constraint, Operator};
use std::cmp::Ordering;

/// A constraint that does not hold here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet<'a> {
    /// The constraint.
    pub constraint: &'a Constraint,
    /// One sentence that names both sides as they are on this machine.
    pub reason: String,
}

/// The constraints that fail. `lookup` gives an attribute by its name within `${...}`.
pub fn unmet<'a>(
    constraints: impl IntoIterator<Item = &'a Constraint>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Vec<Unmet<'a>> {
    constraints.into_iter().filter_map(|constraint| test(constraint, lookup)).collect()
}

fn test<'a>(constraint: &'a Constraint, lookup: &dyn Fn(&str) -> Option<String>) -> Option<Unmet<'a>> {
    let resolve = |text: &str| {
        let out = interpolate::replace(text, lookup);
        if out.contains("${") { None } else { Some(out) }
    };
    let (left, right) = (resolve(&constraint.attribute), resolve(&constraint.value));
    let holds = match (constraint.operator, &left, &right) {
        (Operator::IsSet, left, _) => left.is_some(),
        (Operator::IsNotSet, left, _) => left.is_none(),
        (Operator::NotEqual, left, right) => left != right,
        (_, None, _) | (_, _, None) => false,
        (operator, Some(left), Some(right)) => compare(operator, left, right),
    };
    if holds {
        return None;
    }
    let shown = left.map_or_else(|| "not set".to_owned(), |left| format!("{left:?}"));
    let word =
        serde_json::to_value(constraint.operator).ok().and_then(|json| json.as_str().map(str::to_owned));
    let wanted = match constraint.operator {
        Operator::IsSet => "it must be set".to_owned(),
        Operator::IsNotSet => "it must not be set".to_owned(),
        _ => format!("the job wants {} {:?}", word.unwrap_or_default(), constraint.value),
    };
    Some(Unmet { constraint, reason: format!("{} is {shown} here, {wanted}", constraint.attribute) })
}

fn compare(operator: Operator, left: &str, right: &str) -> bool {
    match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::Greater => order(left, right).is_gt(),
        Operator::GreaterOrEqual => order(left, right).is_ge(),
        Operator::Less => order(left, right).is_lt(),
        Operator::LessOrEqual => order(left, right).is_le(),
        Operator::Version => version_holds(left, right, false),
        Operator::Semver => version_holds(left, right, true),
        Operator::Regexp => pattern(right).is_ok_and(|regex| regex.is_match(left)),
        Operator::SetContains => items(right).all(|wanted| items(left).any(|item| item == wanted)),
        Operator::SetContainsAny => items(right).any(|wanted| items(left).any(|item| item == wanted)),
        Operator::IsSet => true,
        Operator::IsNotSet => false,
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Numbers as numbers, the rest as text.
fn order(left: &str, right: &str) -> Ordering {
    if let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) {
        return left.cmp(&right);
    }
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return left.total_cmp(&right);
    }
    left.cmp(right)
}

fn pattern(text: &str) -> Result<regex_lite::Regex, String> {
    regex_lite::RegexBuilder::new(text)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| format!("{text:?} is not a pattern: {error}"))
}

/// Whether the right side makes sense for its operator, as far as it is known before the job runs.
pub(crate) fn check(operator: Operator, value: &str) -> Result<(), String> {
    if value.contains("${") {
        return Ok(());
    }
    match operator {
        Operator::Regexp => pattern(value).map(|_| ()),
        Operator::Version => wants(value, false).map(|_| ()),
        Operator::Semver => wants(value, true).map(|_| ()),
        _ => Ok(()),
    }
}

/// A version: numbers, and the words of a pre-release.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: Vec<u64>,
    pre: Vec<String>,
    written: usize,
}

impl Version {
    fn parse(text: &str, strict: bool) -> Option<Version> {
        let text = text.trim();
        let text = if strict { text } else { text.strip_prefix('v').unwrap_or(text) };
        let text = text.split('+').next()?;
        let (core, pre) = text.split_once('-').unwrap_or((text, ""));
        let numbers: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        if strict && numbers.len() != 3 {
            return None;
        }
        let written = numbers.len();
        let mut numbers = numbers;
        numbers.resize(numbers.len().max(3), 0);
        let pre = if pre.is_empty() { Vec::new() } else { pre.split('.').map(str::to_owned).collect() };
        Some(Version { numbers, pre, written })
    }

    fn order(&self, other: &Version) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let at = |version: &Version, at: usize| version.numbers.get(at).copied().unwrap_or(0);
        let numbers =
            (0..length).map(|place| at(self, place).cmp(&at(other, place))).find(|order| order.is_ne());
        numbers.unwrap_or_else(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => pre_order(&self.pre, &other.pre),
        })
    }
}

fn pre_order(left: &[String], right: &[String]) -> Ordering {
    for (left, right) in left.iter().zip(right) {
        let order = match (left.parse::<u64>(), right.parse::<u64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// Comma-separated conditions such as `>= 1.2, < 2`.
fn wants(text: &str, strict: bool) -> Result<Vec<(&str, Version)>, String> {
    items(text)
        .map(|item| {
            let operator =
                ["!=", ">=", "<=", "~>", "=", ">", "<"].into_iter().find(|word| item.starts_with(word));
            let rest = item.strip_prefix(operator.unwrap_or("")).unwrap_or(item);
            let version = Version::parse(rest, strict && operator != Some("~>"));
            if strict && operator == Some("~>") {
                return Err(format!("`~>` is not for semver: {item:?}"));
            }
            let version =
                version.ok_or_else(|| format!("{item:?} is not a version condition such as \">= 1.2.3\""))?;
            Ok((operator.unwrap_or("="), version))
        })
        .collect()
}

fn version_holds(left: &str, right: &str, strict: bool) -> bool {
    let (Some(version), Ok(wants)) = (Version::parse(left, strict), wants(right, strict)) else {
        return false;
    };
    wants.iter().all(|(operator, wanted)| {
        // A pre-release only answers conditions that speak of one, except under Semantic Versioning.
        if !strict && !version.pre.is_empty() && wanted.pre.is_empty() && *operator != "!=" {
            return false;
        }
        let order = version.order(wanted);
        match *operator {
            "=" => order.is_eq(),
            "!=" => order.is_ne(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            // `~> 1.2.3` allows the last written number to grow.
            _ => {
                let fixed = wanted.written.saturating_sub(1).max(1);
                order.is_ge() && version.numbers.iter().take(fixed).eq(wanted.numbers.iter().take(fixed))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        for (operator, left, right, holds) in [
            (Operator::Equal, "a", "a", true),
            (Operator::Greater, "10", "9", true),
            (Operator::Greater, "b", "a", true),
            (Operator::LessOrEqual, "1.5", "1.5", true),
            (Operator::Version, "1.2.3", ">= 1.2, < 2", true),
            (Operator::Version, "2.0.0", ">= 1.2, < 2", false),
            (Operator::Version, "1.2.9", "~> 1.2.3", true),
            (Operator::Version, "1.3.0", "~> 1.2.3", false),
            (Operator::Version, "1.3.0", "~> 1.2", true),
            (Operator::Version, "1.3.0-beta1", ">= 1.2", false),
            (Operator::Version, "6.1", ">= 5.13", true),
            (Operator::Semver, "1.3.0-beta1", ">= 1.2.0", true),
            (Operator::Semver, "1.3.0-beta.2", "> 1.3.0-beta.1", true),
            (Operator::Regexp, "linux", "^lin", true),
            (Operator::SetContains, "a,b, c", "c,a", true),
            (Operator::SetContains, "a,b", "c,a", false),
            (Operator::SetContainsAny, "a,b", "c,a", true),
        ] {
            assert_eq!(compare(operator, left, right), holds, "{left:?} {operator:?} {right:?}");
        }
    }

    #[test]
    fn reasons_name_both_sides() {
        let one = |attribute: &str, operator, value: &str| Constraint {
            attribute: attribute.into(),
            operator,
            value: value.into(),
            span: Default::default(),
        };
        let all = [
            one("${attr.driver.exec}", Operator::Equal, "1"),
            one("${attr.cpu.arch}", Operator::Equal, "arm64"),
            one("${attr.none}", Operator::IsSet, ""),
            one("${attr.none}", Operator::NotEqual, "x"),
        ];
        let lookup = |name: &str| match name {
            "attr.driver.exec" => Some("1".to_owned()),
            "attr.cpu.arch" => Some("amd64".to_owned()),
            _ => None,
        };
        let reasons: Vec<_> = unmet(&all, &lookup).into_iter().map(|unmet| unmet.reason).collect();
        assert_eq!(
            reasons,
            [
                "${attr.cpu.arch} is \"amd64\" here, the job wants = \"arm64\"",
                "${attr.none} is not set here, it must be set",
            ]
        );
    }
}
