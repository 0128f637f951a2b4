//! Signal names as users write them, and as messages show them.

use crate::options::quoted;
use std::fmt;

/// A signal's number: 0 (which only checks) to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Signal(i32);

/// A name that no signal has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0}; use a name such as SIGTERM or a number from 0 to 64")]
pub struct UnknownSignal(String);

/// Names and numbers that x86-64 and arm64 share; see signal(7). Of two names of a number the first is shown.
const NAMES: &[(&str, i32)] = &[
    ("NULL", 0),
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The real-time signals that the C library leaves to programs.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    /// What a task is stopped with unless its job says otherwise.
    pub const INT: Signal = Signal(2);
    /// The one that cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// The polite one.
    pub const TERM: Signal = Signal(15);

    /// The signal of this number, if there is one.
    pub fn from_number(number: i32) -> Option<Signal> {
        (0..=*REAL_TIME.end()).contains(&number).then_some(Signal(number))
    }

    /// The kernel's number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
    ///
    /// # Errors
    /// [`UnknownSignal`] with the text.
    pub fn parse(text: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(quoted(text));
        let upper = text.to_ascii_uppercase();
        if let Some(number) = digits(text) {
            return Signal::from_number(number).ok_or_else(unknown);
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Signal(*number));
        }
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(*REAL_TIME.start()),
            (_, Some("")) => Some(*REAL_TIME.end()),
            (Some(rest), _) => {
                rest.strip_prefix('+').and_then(digits).map(|number| REAL_TIME.start() + number)
            }
            (_, Some(rest)) => rest.strip_prefix('-').and_then(digits).map(|number| REAL_TIME.end() - number),
            (None, None) => None,
        };
        number.filter(|number| REAL_TIME.contains(number)).map(Signal).ok_or_else(unknown)
    }
}

/// One or two digits and nothing else.
fn digits(text: &str) -> Option<i32> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if REAL_TIME.contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - REAL_TIME.start()),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Covers: T103
    #[test]
    fn t103_all_names_and_numbers() {
        for (name, number) in NAMES {
            for spelling in
                [(*name).to_owned(), format!("SIG{name}"), name.to_lowercase(), number.to_string()]
            {
                assert_eq!(Signal::parse(&spelling), Ok(Signal(*number)), "{spelling}");
            }
        }
        assert_eq!(Signal::parse("RTMIN+3"), Ok(Signal(37)));
        assert_eq!(Signal::parse("SIGRTMAX-1"), Ok(Signal(63)));
        assert_eq!(Signal::parse("0").map(Signal::number), Ok(0));
    }

    /// Covers: T103
    #[test]
    fn t103_bad_ones_are_refused() {
        for text in [
            "",
            "65",
            "-9",
            "+9",
            " 9",
            "099",
            "SIG",
            "RTMIN+31",
            "RTMIN+",
            "RTMAX+1",
            "SIGSIGINT",
            "9\0",
            "KILLL",
        ] {
            let error = Signal::parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("unknown signal {text:?}; use a name such as SIGTERM or a number from 0 to 64")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(number in 0..=64) {
            let signal = Signal(number);
            prop_assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
        }
    }
}
