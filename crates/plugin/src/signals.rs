//! Signal names as users and the client write them.

use std::fmt;

/// A signal's number: 0 (only a check) to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

/// Linux's own numbers on x86 and arm64; signal(7).
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

/// First and last real-time signal that programs may use.
const REAL_TIME: (i32, i32) = (34, 64);

impl Signal {
    /// What a task is stopped with unless its job says otherwise.
    pub const INT: Self = Self(2);
    /// The one that cannot be caught.
    pub const KILL: Self = Self(9);

    /// The signal of this number, if there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        (0..=REAL_TIME.1).contains(&number).then_some(Self(number))
    }

    /// The kernel's number for it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
    ///
    /// # Errors
    /// The text names no signal.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.chars().take(64).collect());
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(&(_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(number));
        }
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(REAL_TIME.0),
            (_, Some("")) => Some(REAL_TIME.1),
            (Some(up), _) => plain(up.strip_prefix('+')).map(|n| REAL_TIME.0 + n),
            (_, Some(down)) => plain(down.strip_prefix('-')).map(|n| REAL_TIME.1 - n),
            (None, None) => {
                return plain(Some(text)).and_then(Self::from_number).ok_or_else(unknown);
            }
        };
        number.filter(|n| (REAL_TIME.0..=REAL_TIME.1).contains(n)).map(Self).ok_or_else(unknown)
    }
}

/// One or two digits and nothing else: no sign, no blank.
fn plain(text: Option<&str>) -> Option<i32> {
    let text = text?;
    let sound = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// A name that no signal has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}; use a name such as SIGTERM or a number from 0 to 64")]
pub struct UnknownSignal(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_in_every_spelling() {
        for text in ["KILL", "SIGKILL", "kill", "9", "sigkill", "09"] {
            assert_eq!(Signal::parse(text).map(Signal::number), Ok(9), "{text}");
        }
        assert_eq!(Signal::parse("SIGRTMIN+3").map(Signal::number), Ok(37));
        assert_eq!(Signal::parse("RTMAX-1").map(Signal::number), Ok(63));
        assert_eq!(Signal::parse("0").map(Signal::number), Ok(0));
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for text in
            ["", "65", "-9", "+9", " 9", "SIG", "RTMIN+31", "RTMIN-1", "RTMAX+1", "DETACH", "9\0", "0x9"]
        {
            let error = Signal::parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(number in 0..=31) {
            let signal = Signal::from_number(number).unwrap();
            prop_assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
        }

        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = Signal::parse(&text);
        }
    }
}
