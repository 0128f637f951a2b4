//! A task's environment: from empty, what the face collected, then what depends on the task's user.

use crate::identity::Account;
use crate::options::quoted;

/// What programs are looked for in when a job says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's MAX_ARG_STRLEN: one string of an environment or an argument list, its end included.
const LONGEST: usize = 128 << 10;

/// Why a text cannot be part of an environment or an argument list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A name that no environment can hold.
    #[error("environment variable {0} is refused: a name is not empty and holds no `=` and no NUL byte")]
    Name(String),
    /// A value that no environment can hold.
    #[error("environment variable {0} is refused: its value holds a NUL byte")]
    Value(String),
    /// Longer than the kernel takes.
    #[error("environment variable {name} is refused: with its value it has {length} bytes; the kernel takes {}", LONGEST - 1)]
    Long {
        /// Which.
        name: String,
        /// Bytes of `NAME=value`.
        length: usize,
    },
    /// No `=`.
    #[error("environment entry {0} is refused: it has no `=`")]
    NoEquals(String),
    /// An argument with a NUL byte.
    #[error("argument {0} is refused: it holds a NUL byte")]
    Argument(usize),
    /// A long argument.
    #[error("argument {number} is refused: it has {length} bytes; the kernel takes {}", LONGEST - 1)]
    LongArgument {
        /// From 1.
        number: usize,
        /// Bytes.
        length: usize,
    },
}

/// Splits `NAME=value` at the first `=`.
///
/// # Errors
/// [`EnvironmentError::NoEquals`].
pub fn split(entry: &str) -> Result<(String, String), EnvironmentError> {
    let (name, value) = entry.split_once('=').ok_or_else(|| EnvironmentError::NoEquals(quoted(entry)))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The complete environment as `NAME=value`: what was given, a later one of a name in place of an earlier, `PATH`
/// if nobody set it, and `USER`, `LOGNAME`, `HOME` of the host's user database, which win over what was given.
///
/// # Errors
/// [`EnvironmentError`], the first.
pub fn build(given: &[(String, String)], account: &Account) -> Result<Vec<Vec<u8>>, EnvironmentError> {
    let home = if account.home.is_empty() { "/" } else { &account.home };
    let user = [("USER", account.name.as_str()), ("LOGNAME", account.name.as_str()), ("HOME", home)];
    let mut all: Vec<(&str, &str)> = vec![("PATH", DEFAULT_PATH)];
    all.extend(given.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.extend(user);
    let last: std::collections::HashMap<&str, usize> =
        all.iter().enumerate().map(|(index, (name, _))| (*name, index)).collect();
    let mut entries = Vec::with_capacity(all.len());
    for (index, (name, value)) in all.iter().enumerate() {
        check(name, value)?;
        if last.get(name) == Some(&index) {
            entries.push(format!("{name}={value}").into_bytes());
        }
    }
    Ok(entries)
}

fn check(name: &str, value: &str) -> Result<(), EnvironmentError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(EnvironmentError::Name(quoted(name)));
    }
    if value.contains('\0') {
        return Err(EnvironmentError::Value(quoted(name)));
    }
    let length = name.len() + 1 + value.len();
    if length >= LONGEST {
        return Err(EnvironmentError::Long { name: quoted(name), length });
    }
    Ok(())
}

/// Arguments as the kernel takes them.
///
/// # Errors
/// [`EnvironmentError::Argument`], [`EnvironmentError::LongArgument`].
pub fn arguments(args: &[String]) -> Result<Vec<Vec<u8>>, EnvironmentError> {
    let one = |(index, text): (usize, &String)| {
        if text.contains('\0') {
            return Err(EnvironmentError::Argument(index + 1));
        }
        if text.len() >= LONGEST {
            return Err(EnvironmentError::LongArgument { number: index + 1, length: text.len() });
        }
        Ok(text.clone().into_bytes())
    };
    args.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_sandbox::model::Identity;

    fn built(given: &[(&str, &str)], home: &str) -> Result<Vec<String>, String> {
        let given: Vec<(String, String)> =
            given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let identity = Identity { uid: 1000, gid: 1000, groups: vec![1000] };
        let account = Account { name: "runner".into(), home: home.into(), identity };
        let entries = build(&given, &account).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect())
    }

    /// Covers: X14, X15
    #[test]
    fn x14_x15_the_user_is_in_it_and_wins() {
        let entries =
            built(&[("A", "1"), ("HOME", "/x"), ("USER", "me"), ("A", "2=3"), ("B", "")], "/home/runner")
                .unwrap();
        assert_eq!(
            entries,
            [
                format!("PATH={DEFAULT_PATH}").as_str(),
                "A=2=3",
                "B=",
                "USER=runner",
                "LOGNAME=runner",
                "HOME=/home/runner"
            ]
        );
    }

    #[test]
    fn a_jobs_path_is_kept_and_no_home_is_the_root() {
        assert_eq!(
            built(&[("PATH", "/opt/bin")], "").unwrap(),
            ["PATH=/opt/bin", "USER=runner", "LOGNAME=runner", "HOME=/"]
        );
    }

    #[test]
    fn what_no_environment_can_hold_is_refused_by_name() {
        assert!(built(&[("", "x")], "/").unwrap_err().starts_with("environment variable \"\" is refused"));
        assert!(
            built(&[("A=B", "x")], "/").unwrap_err().starts_with("environment variable \"A=B\" is refused")
        );
        assert!(built(&[("A", "x\0")], "/").unwrap_err().ends_with("its value holds a NUL byte"));
        let long = "x".repeat(LONGEST);
        assert!(built(&[("A", &long)], "/").unwrap_err().contains("131074 bytes"));
        assert!(built(&[("A", long.get(3..).unwrap())], "/").is_ok());
        assert_eq!(split("A=B=C").unwrap(), ("A".into(), "B=C".into()));
        assert_eq!(split("A").unwrap_err().to_string(), "environment entry \"A\" is refused: it has no `=`");
        assert!(built(&[("BASH_FUNC_x%%", "() { :; }\n")], "/").is_ok());
    }

    #[test]
    fn arguments_keep_every_byte() {
        assert_eq!(arguments(&["".into(), "a\nb".into()]).unwrap(), [b"".to_vec(), b"a\nb".to_vec()]);
        assert_eq!(arguments(&["a".into(), "\0".into()]).unwrap_err(), EnvironmentError::Argument(2));
    }
}
