//! Dates: `formatdate` and `timeadd` on RFC 3339 time stamps.

use super::{Answer, Call, Function, row};
use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::fmt::temporal::{DateTimeParser, Pieces};
use jiff::tz::Offset;

pub(super) const TABLE: &[Function] = &[
    row("formatdate", "formatdate(pattern, timestamp)", 2, 2, formatdate),
    row("timeadd", "timeadd(timestamp, duration)", 2, 2, timeadd),
];

struct Moment {
    time: DateTime,
    offset: Offset,
    zulu: bool,
}

fn read(call: &Call<'_>, at: usize) -> Answer<Moment> {
    let text = call.text(at)?;
    let bad = || call.bad(at, format!("{text:?} is not a time like 2006-01-02T15:04:05Z"));
    if text.len() > 64 || !text.contains(['T', 't']) {
        return Err(bad());
    }
    let stamp: Timestamp = DateTimeParser::new().parse_timestamp(&*text).map_err(|_| bad())?;
    let zulu = text.ends_with(['Z', 'z']);
    let offset = match Pieces::parse(text.as_bytes()).ok().and_then(|pieces| pieces.to_numeric_offset()) {
        Some(offset) => offset,
        None => Offset::UTC,
    };
    Ok(Moment { time: offset.to_datetime(stamp), offset, zulu })
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn weekday(time: DateTime) -> &'static str {
    match time.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn formatdate(call: &Call<'_>) -> Answer {
    let (pattern, moment) = (call.text(0)?, read(call, 1)?);
    let mut out = String::new();
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c == '\'' {
            at = quoted(call, &chars, at, &mut out)?;
            continue;
        }
        let run = chars.iter().skip(at).take_while(|next| **next == c).count();
        if c.is_ascii_alphabetic() {
            let text = field(c, run, &moment).ok_or_else(|| {
                call.bad(
                    0,
                    format!(
                        "there is no date field `{}`; text goes in single quotes",
                        c.to_string().repeat(run)
                    ),
                )
            })?;
            out.push_str(&text);
        } else {
            out.extend(chars.iter().skip(at).take(run));
        }
        at += run;
    }
    call.give(out)
}

/// Copies quoted text; two quotes inside stand for one. Returns the position behind it.
fn quoted(call: &Call<'_>, chars: &[char], start: usize, out: &mut String) -> Answer<usize> {
    let mut at = start + 1;
    loop {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('\''), Some('\'')) => {
                out.push('\'');
                at += 2;
            }
            (Some('\''), _) => return Ok(at + 1),
            (Some(c), _) => {
                out.push(*c);
                at += 1;
            }
            (None, _) => return Err(call.bad(0, "a quote in the pattern has no end")),
        }
    }
}

fn field(letter: char, run: usize, moment: &Moment) -> Option<String> {
    let time = moment.time;
    let month = MONTHS[usize::from(time.month().unsigned_abs()).saturating_sub(1) % 12];
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let short = |text: &str| text.chars().take(3).collect::<String>();
    Some(match (letter, run) {
        ('Y', 4) => format!("{:04}", time.year()),
        ('Y', 2) => format!("{:02}", time.year().rem_euclid(100)),
        ('M', 4) => month.to_owned(),
        ('M', 3) => short(month),
        ('M', 2) => format!("{:02}", time.month()),
        ('M', 1) => time.month().to_string(),
        ('D', 2) => format!("{:02}", time.day()),
        ('D', 1) => time.day().to_string(),
        ('E', 4) => weekday(time).to_owned(),
        ('E', 3) => short(weekday(time)),
        ('h', 2) => format!("{:02}", time.hour()),
        ('h', 1) => time.hour().to_string(),
        ('H', 2) => format!("{hour12:02}"),
        ('H', 1) => hour12.to_string(),
        ('A', 2) => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        ('a', 2) => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        ('m', 2) => format!("{:02}", time.minute()),
        ('m', 1) => time.minute().to_string(),
        ('s', 2) => format!("{:02}", time.second()),
        ('s', 1) => time.second().to_string(),
        ('Z', 1) if moment.offset.seconds() == 0 => "Z".to_owned(),
        ('Z', 3) if moment.offset.seconds() == 0 => "UTC".to_owned(),
        ('Z', 1 | 5) => zone(moment.offset, ":"),
        ('Z', 3 | 4) => zone(moment.offset, ""),
        _ => return None,
    })
}

fn zone(offset: Offset, separator: &str) -> String {
    let seconds = offset.seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
}

fn timeadd(call: &Call<'_>) -> Answer {
    let moment = read(call, 0)?;
    let text = call.text(1)?;
    let nanos = crate::duration::parse_nanos(&text).map_err(|message| call.bad(1, message))?;
    let moved = moment.time.checked_add(jiff::SignedDuration::from_nanos_i128(nanos));
    let moved = moved.map_err(|_| call.bad(1, "the result is outside the calendar"))?;
    let zone = if moment.zulu { "Z".to_owned() } else { zone(moment.offset, ":") };
    call.give(format!("{}{zone}", moved.strftime("%Y-%m-%dT%H:%M:%S")))
}
