//! Durations as Go writes them: `1h30m`, `500ms`, `-1.5s`.

use std::time::Duration;

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Signed nanoseconds.
///
/// # Errors
/// A sentence that names the text and how a duration looks.
pub(crate) fn parse_nanos(text: &str) -> Result<i128, String> {
    let bad = || format!("{text:?} is not a duration such as 30s, 5m or 1h30m");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() || rest.len() > 64 {
        return Err(bad());
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit).ok_or_else(bad)?;
        let size = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size).ok_or_else(bad)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || whole.len() > 20 || fraction.contains('.') {
            return Err(bad());
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        total += whole * size;
        let fraction: String = fraction.chars().take(18).collect();
        if !fraction.is_empty() {
            let digits: i128 = fraction.parse().map_err(|_| bad())?;
            total += digits * size / 10_i128.pow(fraction.len() as u32);
        }
        rest = after;
    }
    if total > i128::from(i64::MAX) {
        return Err(format!("{text:?} is longer than 292 years"));
    }
    Ok(if negative { -total } else { total })
}

/// A duration that must not be negative.
///
/// # Errors
/// As [`parse_nanos`], and for negative ones.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let nanos = parse_nanos(text)?;
    let nanos = u64::try_from(nanos).map_err(|_| format!("the duration {text:?} is negative"))?;
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for bad in [
            "",
            "5",
            "-1s",
            "1x",
            "s",
            ".s",
            "1..5s",
            "1e9h",
            "9999999999h",
            "99999999999999999999999h",
            "1h 2m",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_nanos("-1m"), Ok(-60_000_000_000));
    }
}
