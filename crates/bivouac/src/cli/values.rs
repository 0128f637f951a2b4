//! What options hold: read where the command line is read, so that nonsense is refused with the option's name.

use bivouac_driver::signals::{Signal, UnknownSignal};
use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::time::Duration;

/// A text, and not an empty one.
pub(super) fn some() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// A signal by name or number.
pub(super) fn signal(text: &str) -> Result<Signal, UnknownSignal> {
    Signal::parse(text)
}

/// A duration as Go and job files write it: `5s`, `1m30s`, `250ms`; a number alone means seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => {
            bivouac_jobspec::parse_duration(text).map_err(|_| "no duration such as 5s, 1m30s or 250ms".into())
        }
    }
}

/// The beginning of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Since {
    pub(super) fn parse(text: &str) -> Result<Since, String> {
        if let Ok(ago) = bivouac_jobspec::parse_duration(text) {
            return Ok(Since::Ago(ago));
        }
        let local = || text.parse::<DateTime>().and_then(|time| TimeZone::system().to_timestamp(time));
        let time = text.parse::<Timestamp>().or_else(|_| local());
        time.map(Since::At)
            .map_err(|_| "neither a duration such as 2h30m nor a time such as 2026-01-31T08:00:00Z".into())
    }

    /// In milliseconds since 1970.
    pub(crate) fn unix_millis(self, now: Timestamp) -> i64 {
        match self {
            Since::Ago(ago) => {
                now.as_millisecond().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
            }
            Since::At(time) => time.as_millisecond(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration("soon"), Err("no duration such as 5s, 1m30s or 250ms".to_owned()));
    }

    #[test]
    fn a_beginning_is_a_duration_or_a_time() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let since = |text| Since::parse(text).map(|since| now.as_millisecond() - since.unix_millis(now));
        assert_eq!(since("90s"), Ok(90_000));
        assert_eq!(since("1h30m"), Ok(5_400_000));
        assert_eq!(since("2026-01-31T11:59:59.5Z"), Ok(500));
        assert_eq!(since("2026-01-31T12:59:00+01:00"), Ok(60_000));
        let zone = TimeZone::system().to_offset(now).seconds();
        assert_eq!(since("2026-01-31 12:00"), Ok(i64::from(zone) * 1000), "local time");
        for nonsense in ["", "yesterday", "5", "-1h", "2026-13-01T00:00:00Z"] {
            let words = "neither a duration such as 2h30m nor a time such as 2026-01-31T08:00:00Z";
            assert_eq!(since(nonsense), Err(words.to_owned()), "{nonsense}");
        }
    }
}
