//! The name under which this process is a driver.
//!
//! The client asks for it in a launch that never gets a configuration, so it can only come from the
//! plugin block's `args` or from the file's name.

use std::ffi::OsString;
use std::path::Path;

/// A driver's name: letters, digits, `-`, `_` and `.`, at most 63 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName(String);

/// Why there is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// `--name` stands last.
    #[error("--name needs a driver name after it")]
    NoValue,
    /// Names with other characters could not be used in a job or a constraint.
    #[error("{0:?} is no driver name: use up to 63 letters, digits, `-`, `_` and `.`")]
    Unusable(String),
}

impl DriverName {
    /// The name from the command line: `--name NAME` or `--name=NAME`, else the file name of the first
    /// argument. Other arguments are left alone.
    ///
    /// # Errors
    /// The name is missing or unusable.
    pub fn from_args(args: &[OsString]) -> Result<Self, NameError> {
        let mut rest = args.iter().skip(1);
        while let Some(arg) = rest.next() {
            let arg = arg.to_string_lossy();
            if let Some(name) = arg.strip_prefix("--name=") {
                return Self::new(name);
            }
            if arg == "--name" {
                return Self::new(&rest.next().ok_or(NameError::NoValue)?.to_string_lossy());
            }
        }
        let file = args.first().and_then(|arg| Path::new(arg).file_name());
        Self::new(&file.unwrap_or_default().to_string_lossy())
    }

    /// Checks a name.
    ///
    /// # Errors
    /// The name is unusable.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let sound = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !name.starts_with('.');
        if sound {
            Ok(Self(name.to_owned()))
        } else {
            Err(NameError::Unusable(name.chars().take(80).collect()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(args: &[&str]) -> Result<String, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        DriverName::from_args(&args).map(|name| name.0).map_err(|e| e.to_string())
    }

    #[test]
    fn the_argument_wins_over_the_file() {
        assert_eq!(name(&["/plugins/bivouac", "--name", "exec"]), Ok("exec".into()));
        assert_eq!(name(&["/plugins/bivouac", "plugin", "--name=exec"]), Ok("exec".into()));
        assert_eq!(name(&["/plugins/exec"]), Ok("exec".into()));
        assert_eq!(name(&["bivouac", "--verbose"]), Ok("bivouac".into()));
    }

    #[test]
    fn a_name_that_no_job_could_use_is_refused() {
        assert_eq!(name(&["bivouac", "--name"]), Err("--name needs a driver name after it".into()));
        for bad in ["", "a b", "a/b", "ä", ".hidden", &"x".repeat(64)] {
            assert!(name(&["bivouac", "--name", bad]).is_err(), "{bad}");
        }
        assert!(name(&[]).is_err());
    }
}
