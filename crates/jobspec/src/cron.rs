//! Cron expressions as Nomad takes them: five fields, six with a year behind, seven with seconds in front too, and
//! the words `@hourly` to `@yearly`. Days may be counted from the end (`L`), moved to a working day (`15W`) or
//! counted by weekday (`FRI#2`, `5L`).

use std::collections::BTreeSet;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is to happen, in the time of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: BTreeSet<u16>,
    minutes: BTreeSet<u16>,
    hours: BTreeSet<u16>,
    days: Days,
    months: BTreeSet<u16>,
    years: BTreeSet<u16>,
}

/// A day may fit by its number or by its weekday; where both are given, either is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    by_number: Option<Vec<ByNumber>>,
    by_weekday: Option<Vec<ByWeekday>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByNumber {
    Day(u16),
    Last,
    WorkdayNear(u16),
    LastWorkday,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByWeekday {
    Every(u16),
    Nth(u16, u16),
    Last(u16),
}

/// A day of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Its number, from 1.
    pub number: u16,
    /// Its weekday: Sunday is 0.
    pub weekday: u16,
    /// The number of its month's last day.
    pub last: u16,
}

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            word if word.starts_with('@') => {
                return Err(format!("{word:?} is not one of @hourly, @daily, @weekly, @monthly, @yearly"));
            }
            other => other,
        };
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        match fields.len() {
            5 => fields.push("*"),
            6 | 7 => {}
            count => {
                return Err(format!(
                    "{count} fields, expected 5 to 7: [second] minute hour day month weekday [year]"
                ));
            }
        }
        if fields.len() == 6 {
            fields.insert(0, "0");
        }
        let field = |at: usize| fields.get(at).copied().unwrap_or("*");
        let days = Days { by_number: numbers_of_days(field(3))?, by_weekday: weekdays(field(5))? };
        Ok(Cron {
            seconds: Field::new("second", 0, 59, &[]).read(field(0))?,
            minutes: Field::new("minute", 0, 59, &[]).read(field(1))?,
            hours: Field::new("hour", 0, 23, &[]).read(field(2))?,
            days,
            months: Field::new("month", 1, 12, &MONTHS).read(field(4))?,
            years: Field::new("year", 1970, 2099, &[]).read(field(6))?,
        })
    }

    /// Whether a year may fit.
    pub fn fits_year(&self, year: u16) -> bool {
        self.years.contains(&year)
    }

    /// The last year that may fit.
    pub fn last_year(&self) -> u16 {
        self.years.last().copied().unwrap_or(0)
    }

    /// Whether a month, from 1, may fit.
    pub fn fits_month(&self, month: u16) -> bool {
        self.months.contains(&month)
    }

    /// Whether a day may fit.
    pub fn fits_day(&self, day: Day) -> bool {
        let by_number = self.days.by_number.as_ref().map(|rules| rules.iter().any(|rule| rule.fits(day)));
        let by_weekday = self.days.by_weekday.as_ref().map(|rules| rules.iter().any(|rule| rule.fits(day)));
        match (by_number, by_weekday) {
            (Some(one), Some(other)) => one || other,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => true,
        }
    }

    /// Whether an hour may fit.
    pub fn fits_hour(&self, hour: u16) -> bool {
        self.hours.contains(&hour)
    }

    /// Whether a minute may fit.
    pub fn fits_minute(&self, minute: u16) -> bool {
        self.minutes.contains(&minute)
    }

    /// Whether a second fits.
    pub fn fits_second(&self, second: u16) -> bool {
        self.seconds.contains(&second)
    }
}

impl ByNumber {
    fn fits(self, day: Day) -> bool {
        match self {
            ByNumber::Day(number) => day.number == number,
            ByNumber::Last => day.number == day.last,
            ByNumber::WorkdayNear(number) => number <= day.last && day.number == workday_near(day, number),
            ByNumber::LastWorkday => day.number == workday_near(day, day.last),
        }
    }
}

/// The weekday of another day of the same month.
fn weekday_of(day: Day, number: u16) -> u16 {
    (day.weekday + 7 * 6 + number - day.number) % 7
}

/// Monday to Friday nearest to this number, within the month.
fn workday_near(day: Day, number: u16) -> u16 {
    match (weekday_of(day, number), number) {
        (6, 1) => 3,
        (6, number) => number - 1,
        (0, number) if number == day.last => number - 2,
        (0, number) => number + 1,
        (_, number) => number,
    }
}

impl ByWeekday {
    fn fits(self, day: Day) -> bool {
        match self {
            ByWeekday::Every(weekday) => day.weekday == weekday,
            ByWeekday::Nth(weekday, nth) => day.weekday == weekday && (day.number - 1) / 7 + 1 == nth,
            ByWeekday::Last(weekday) => day.weekday == weekday && day.number + 7 > day.last,
        }
    }
}

fn is_any(text: &str) -> bool {
    matches!(text, "*" | "?")
}

fn numbers_of_days(text: &str) -> Result<Option<Vec<ByNumber>>, String> {
    let field = Field::new("day", 1, 31, &[]);
    if is_any(text) {
        return Ok(None);
    }
    let mut rules = Vec::new();
    for part in text.split(',') {
        match part.to_ascii_uppercase().as_str() {
            "L" => rules.push(ByNumber::Last),
            "LW" | "WL" => rules.push(ByNumber::LastWorkday),
            upper => match upper.strip_suffix('W') {
                Some(number) => rules.push(ByNumber::WorkdayNear(field.number(number)?)),
                None => rules.extend(field.read(part)?.into_iter().map(ByNumber::Day)),
            },
        }
    }
    Ok(Some(rules))
}

fn weekdays(text: &str) -> Result<Option<Vec<ByWeekday>>, String> {
    // 7 is Sunday, too.
    let field = Field::new("weekday", 0, 7, &WEEKDAYS);
    if is_any(text) {
        return Ok(None);
    }
    let mut rules = Vec::new();
    for part in text.split(',') {
        if let Some((weekday, nth)) = part.split_once('#') {
            let nth = Field::new("weekday (behind #)", 1, 5, &[]).number(nth)?;
            rules.push(ByWeekday::Nth(field.number(weekday)? % 7, nth));
        } else if let Some(weekday) = part.strip_suffix(['L', 'l']).filter(|weekday| !weekday.is_empty()) {
            rules.push(ByWeekday::Last(field.number(weekday)? % 7));
        } else {
            rules.extend(field.read(part)?.into_iter().map(|weekday| ByWeekday::Every(weekday % 7)));
        }
    }
    Ok(Some(rules))
}

/// One field: its name, its bounds, and words for its numbers.
struct Field<'a> {
    name: &'static str,
    first: u16,
    last: u16,
    words: &'a [&'a str],
}

impl<'a> Field<'a> {
    fn new(name: &'static str, first: u16, last: u16, words: &'a [&'a str]) -> Field<'a> {
        Field { name, first, last, words }
    }

    fn number(&self, text: &str) -> Result<u16, String> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match word {
            Some(at) => u16::try_from(at).ok().map(|at| at + self.first),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            format!("{} {text:?} is not a number from {} to {}", self.name, self.first, self.last)
        })
    }

    /// Lists of `*`, `a`, `a-b`, each perhaps with `/step`.
    fn read(&self, text: &str) -> Result<BTreeSet<u16>, String> {
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if is_any(range) => (self.first, self.last),
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                // `5/15` is `5-59/15`.
                None if step.is_some() => (self.number(range)?, self.last),
                None => (self.number(range)?, self.number(range)?),
            };
            if first > last {
                return Err(format!("{} {range:?} ends before it begins", self.name));
            }
            let step = match step {
                None => 1,
                Some(step) => step
                    .parse::<usize>()
                    .ok()
                    .filter(|step| *step > 0 && *step <= usize::from(self.last))
                    .ok_or_else(|| {
                        format!("{} step {step:?} is not a number from 1 to {}", self.name, self.last)
                    })?,
            };
            all.extend((first..=last).step_by(step));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Cron {
        Cron::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn fields_from_the_left_and_from_the_right() {
        let five = cron("*/15 3 * * *");
        assert!(five.fits_minute(45) && !five.fits_minute(50) && five.fits_second(0) && !five.fits_second(1));
        assert_eq!(cron("*/15 3 * * * *"), five, "six fields end with a year");
        assert_eq!(cron("0 */15 3 * * * *"), five, "seven begin with seconds");
        let seconds = cron("*/5 * * * * * 2030");
        assert!(seconds.fits_second(55) && seconds.fits_year(2030) && !seconds.fits_year(2031));
        assert_eq!(cron("@hourly"), cron("0 * * * *"));
        assert_eq!(cron("5/20 * * * *"), cron("5,25,45 * * * *"));
        assert_eq!(cron("0 0 * JAN-mar mon"), cron("0 0 * 1-3 1"));
        assert_eq!(cron("0 0 * * 7"), cron("0 0 ? * SUN"));
    }

    #[test]
    fn days_of_months() {
        // October 2026: the first is a Thursday, the 31st a Saturday.
        let fits = |text: &str| {
            let cron = cron(text);
            let day = |number: u16| Day { number, weekday: (number + 3) % 7, last: 31 };
            (1..=31).filter(|number| cron.fits_day(day(*number))).collect::<Vec<u16>>()
        };
        assert_eq!(fits("0 0 L * *"), [31]);
        assert_eq!(fits("0 0 LW * *"), [30]);
        assert_eq!(fits("0 0 3W,4W,15W * *"), [2, 5, 15]);
        assert_eq!(fits("0 0 * * FRI#2"), [9]);
        assert_eq!(fits("0 0 * * 5L"), [30]);
        assert_eq!(fits("0 0 13 * 5"), [2, 9, 13, 16, 23, 30], "either is enough");
        assert_eq!(fits("0 0 31W * *"), [30]);
        let november = Day { number: 30, weekday: 1, last: 30 };
        assert!(cron("0 0 L * *").fits_day(november) && !cron("0 0 31W * *").fits_day(november));
        let may_first_on_saturday = |number| Day { number, weekday: (number + 5) % 7, last: 31 };
        assert!(cron("0 0 1W * *").fits_day(may_first_on_saturday(3)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, needle) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * * * *", "8 fields"),
            ("60 * * * *", "minute \"60\" is not a number from 0 to 59"),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "day \"0\""),
            ("* * * 13 *", "month \"13\""),
            ("* * * * MON#6", "from 1 to 5"),
            ("* * * * 8", "weekday \"8\""),
            ("*/0 * * * *", "minute step \"0\""),
            ("*/-1 * * * *", "minute step"),
            ("9-3 * * * *", "ends before it begins"),
            ("+1 * * * *", "minute \"+1\""),
            (", * * * *", "minute \"\""),
            ("@sometimes", "@hourly"),
            ("\u{0661} * * * *", "minute"),
            ("* * W * *", "day \"\""),
            ("1-2-3 * * * *", "minute \"2-3\""),
        ] {
            let error = Cron::parse(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
