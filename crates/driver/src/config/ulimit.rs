//! Resource limits: names, numbers and the spelling `soft:hard`.

use std::fmt;

/// One value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// At most this much.
    At(u64),
    /// No limit.
    Unlimited,
}

impl Limit {
    /// As the kernel takes it.
    pub fn number(self) -> u64 {
        match self {
            Limit::At(number) => number,
            Limit::Unlimited => u64::MAX,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::At(number) => write!(f, "{number}"),
            Limit::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// One resource limit that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: &'static str,
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// What is in force.
    pub soft: Limit,
    /// How far the task may raise it.
    pub hard: Limit,
}

/// Names of getrlimit(2) in lower case, with the numbers that x86-64 and arm64 share.
const RESOURCES: [(&str, u32); 16] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("as", 9),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// The number of a limit by its name.
pub fn resource_number(name: &str) -> Option<u32> {
    RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

impl Ulimit {
    /// Reads one limit: a name and `soft:hard`, one number for both, or `unlimited` (also `-1`).
    ///
    /// # Errors
    /// What is wrong and what is allowed, to follow the option's name.
    pub fn parse(name: &str, text: &str) -> Result<Ulimit, String> {
        let Some((name, resource)) = RESOURCES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
            return Err(format!("is no resource limit; known are {}", names.join(", ")));
        };
        let wrong = || format!("must be \"soft:hard\", one number for both, or \"unlimited\", got {text:?}");
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let (soft, hard) = (limit(soft).ok_or_else(wrong)?, limit(hard).ok_or_else(wrong)?);
        if soft > hard {
            return Err(format!("has a soft limit ({soft}) above its hard limit ({hard})"));
        }
        Ok(Ulimit { name, resource: *resource, soft, hard })
    }
}

fn limit(text: &str) -> Option<Limit> {
    match text.trim() {
        "unlimited" | "-1" => Some(Limit::Unlimited),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|number| *number < u64::MAX).map(Limit::At)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings() {
        let read = |text| Ulimit::parse("nofile", text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(read("5"), Ok((Limit::At(5), Limit::At(5))));
        assert_eq!(read("5:10"), Ok((Limit::At(5), Limit::At(10))));
        assert_eq!(read("5:unlimited"), Ok((Limit::At(5), Limit::Unlimited)));
        assert_eq!(read("-1"), Ok((Limit::Unlimited, Limit::Unlimited)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(
            Ulimit::parse("nofile", "10:5").unwrap_err(),
            "has a soft limit (10) above its hard limit (5)"
        );
        for text in ["", ":", "x", "+5", "5:", "1:2:3", "-2", "99999999999999999999", "18446744073709551615"]
        {
            assert!(Ulimit::parse("nofile", text).unwrap_err().ends_with(&format!("got {text:?}")), "{text}");
        }
        assert!(
            Ulimit::parse("files", "5")
                .unwrap_err()
                .starts_with("is no resource limit; known are cpu, fsize")
        );
    }
}
