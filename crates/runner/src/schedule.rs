//! When a periodic job is due next: its cron expressions in its time zone.
//!
//! A time that a change of clocks skips does not come; one that it repeats comes twice. That is Nomad's rule.

use crate::allocation::PlanError;
use bivouac_jobspec::{Cron, Day, Periodic};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

/// A time table.
#[derive(Clone, Debug)]
pub struct Schedule {
    crons: Vec<Cron>,
    zone: TimeZone,
}

impl Schedule {
    /// Of a `periodic` block.
    ///
    /// # Errors
    /// An expression or a time zone that is none.
    pub fn of(periodic: &Periodic) -> Result<Schedule, PlanError> {
        let cron = |text: &String| {
            Cron::parse(text)
                .map_err(|why| PlanError::Other(format!("{text:?} is not a cron expression: {why}")))
        };
        let zone = match periodic.time_zone.as_str() {
            // Go's name for the machine's own: /etc/localtime, UTC where there is none.
            "Local" => TimeZone::try_system().unwrap_or(TimeZone::UTC),
            name => TimeZone::get(name).map_err(|_| {
                PlanError::Other(format!(
                    "time zone {name:?} is not known on this machine; expected a name such as \"Europe/Berlin\" (package tzdata), or \"Local\""
                ))
            })?,
        };
        Ok(Schedule { crons: periodic.crons.iter().map(cron).collect::<Result<_, _>>()?, zone })
    }

    /// The first moment after this one at which one of the expressions fits; nothing when no such moment comes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.crons.iter().filter_map(|cron| next(cron, &self.zone, after)).min()
    }
}

/// Goes from one moment that does not fit to the next that might, in steps of the coarsest part that does not fit.
fn next(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut at =
        Timestamp::from_second(after.as_second().checked_add(1)?).ok()?.to_zoned_datetime(zone.clone());
    loop {
        let year = u16::try_from(at.year()).ok()?;
        let number = |value: i8| u16::try_from(value).unwrap_or(0);
        if year > cron.last_year() {
            return None;
        }
        let day = Day {
            number: number(at.day()),
            weekday: number(at.weekday().to_sunday_zero_offset()),
            last: number(at.days_in_month()),
        };
        at = if !cron.fits_year(year) {
            begin(&at.date().last_of_year().tomorrow().ok()?, zone)?
        } else if !cron.fits_month(number(at.month())) {
            begin(&at.date().last_of_month().tomorrow().ok()?, zone)?
        } else if !cron.fits_day(day) {
            begin(&at.date().tomorrow().ok()?, zone)?
        } else if !cron.fits_hour(number(at.hour())) {
            let passed = i64::from(at.minute()) * 60 + i64::from(at.second());
            later(&at, 3600 - passed)?
        } else if !cron.fits_minute(number(at.minute())) {
            later(&at, 60 - i64::from(at.second()))?
        } else if !cron.fits_second(number(at.second())) {
            later(&at, 1)?
        } else {
            return Some(at.timestamp());
        };
    }
}

/// The first moment of a day: midnight, or what comes after it where clocks change just then.
fn begin(date: &jiff::civil::Date, zone: &TimeZone) -> Option<ZonedDateTime> {
    date.to_datetime(Time::midnight()).to_zoned_datetime(zone.clone()).ok()
}

fn later(at: &ZonedDateTime, seconds: i64) -> Option<ZonedDateTime> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(crons: &[&str], zone: &str, from: &str, count: usize) -> Vec<String> {
        let periodic = Periodic {
            crons: crons.iter().map(|text| (*text).to_owned()).collect(),
            prohibit_overlap: false,
            time_zone: zone.to_owned(),
            enabled: true,
        };
        let schedule = Schedule::of(&periodic).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut all = Vec::new();
        while let Some(next) = schedule.next(at).filter(|_| all.len() < count) {
            assert!(next > at, "time goes on");
            all.push(next.to_string());
            at = next;
        }
        all
    }

    #[test]
    fn expressions_in_universal_time() {
        let from = "2026-11-26T13:37:11Z";
        assert_eq!(
            times(&["*/20 * * * *"], "UTC", from, 2),
            ["2026-11-26T13:40:00Z", "2026-11-26T14:00:00Z"]
        );
        assert_eq!(
            times(&["*/30 * * * * * *"], "UTC", from, 2),
            ["2026-11-26T13:37:30Z", "2026-11-26T13:38:00Z"]
        );
        assert_eq!(times(&["@yearly"], "UTC", from, 1), ["2027-01-01T00:00:00Z"]);
        assert_eq!(times(&["0 0 29 2 *"], "UTC", from, 2), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
        assert_eq!(times(&["0 0 L * *"], "UTC", from, 2), ["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"]);
        assert_eq!(
            times(&["0 12 * * *", "30 14 * * *"], "UTC", from, 3),
            ["2026-11-26T14:30:00Z", "2026-11-27T12:00:00Z", "2026-11-27T14:30:00Z"],
            "the earliest of several"
        );
        assert_eq!(times(&["0 0 1 1 * 2026"], "UTC", from, 1), Vec::<String>::new(), "it never comes again");
        assert_eq!(times(&["@hourly"], "Local", from, 1).len(), 1, "the machine's own");
        assert_eq!(times(&["0 0 30 2 *"], "UTC", from, 1), Vec::<String>::new(), "it never comes at all");
        assert_eq!(times(&["0 0 * * * 2030"], "UTC", from, 1), ["2030-01-01T00:00:00Z"]);
        assert_eq!(
            times(&["59 59 23 31 12 * 2026"], "UTC", "2026-12-31T23:59:58Z", 1),
            ["2026-12-31T23:59:59Z"]
        );
    }

    #[test]
    fn clocks_that_change() {
        let zone = "America/Los_Angeles";
        // 8 March 2026: 2:00 becomes 3:00. 1 November 2026: 2:00 becomes 1:00.
        assert_eq!(
            times(&["30 2 * * *"], zone, "2026-03-07T00:00:00Z", 2),
            ["2026-03-07T10:30:00Z", "2026-03-09T09:30:00Z"],
            "a time that is skipped does not come"
        );
        assert_eq!(
            times(&["30 1 * * *"], zone, "2026-11-01T00:00:00Z", 3),
            ["2026-11-01T08:30:00Z", "2026-11-01T09:30:00Z", "2026-11-02T09:30:00Z"],
            "one that is repeated comes twice"
        );
        assert_eq!(
            times(&["0 9 * * *"], "Europe/Berlin", "2026-03-28T12:00:00Z", 1),
            ["2026-03-29T07:00:00Z"]
        );
        // Half an hour, and midnight itself.
        assert_eq!(
            times(&["45 1 4 10 *"], "Australia/Lord_Howe", "2026-10-01T00:00:00Z", 1),
            ["2026-10-03T15:15:00Z"]
        );
        assert_eq!(
            times(&["30 0 * * *"], "America/Havana", "2026-03-08T03:00:00Z", 1),
            ["2026-03-09T04:30:00Z"]
        );
    }

    #[test]
    fn what_is_no_zone_is_named() {
        let periodic = Periodic {
            crons: vec!["@daily".into()],
            prohibit_overlap: false,
            time_zone: "Mars/Olympus".into(),
            enabled: true,
        };
        assert!(Schedule::of(&periodic).unwrap_err().to_string().contains("Mars/Olympus"));
    }
}
