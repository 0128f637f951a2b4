//! The values of `secret` blocks.
//!
//! Values are read once, by
//! whoever starts the run, and kept beside it, also in memory: neither the plan nor the state on disk holds one, so
//! nothing that is made of them can show one. A text that came from elsewhere (an error of the driver) loses them
//! before anybody hears it.

use crate::allocation::PlanError;
use bivouac_driver::options::Value;
use bivouac_jobspec::{Secret, interpolate};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// In MiB, where a job file does not say.
pub const DEFAULT_SIZE: u64 = 1;
/// No secret is larger.
const LARGEST: u64 = 64 * 1024;
/// What stands in a text for a value that must not be seen.
const REDACTED: &str = "[redacted secret]";
/// Shorter values are not looked for in texts: they would be found everywhere.
const SHORTEST: usize = 4;
/// The file with the values, in a directory that only root enters.
const VALUES: &str = ".values";

/// The values of one task's `secret` blocks, by the names that its texts use: `secret.NAME.KEY`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values(BTreeMap<String, String>);

// Not derived: nothing that is printed to find an error may hold them.
impl std::fmt::Debug for Values {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl Values {
    /// No values.
    pub(crate) const NONE: Values = Values(BTreeMap::new());

    /// Reads what the blocks name, from files of this host and from the caller's environment.
    ///
    /// # Errors
    /// Which block, and why; never what is in it.
    pub fn gather(
        secrets: &[Secret],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Values, PlanError> {
        let mut values = BTreeMap::new();
        for secret in secrets {
            let wrong = |why: String| PlanError::Other(format!("secret {:?}: {why}", secret.name));
            let found = match secret.provider.as_str() {
                "env" => {
                    let text = environment(&secret.path)
                        .ok_or_else(|| wrong(format!("the variable {} is not set", secret.path)))?;
                    BTreeMap::from([("value".to_owned(), text)])
                }
                _ => of_file(secret).map_err(wrong)?,
            };
            let named = found.into_iter();
            values.extend(named.map(|(key, value)| (format!("secret.{}.{key}", secret.name), value)));
        }
        Ok(Values(values))
    }

    /// Keeps the values of all tasks of an allocation in its directory of secrets.
    pub(crate) fn keep(all: &BTreeMap<String, Values>, directory: &Path) -> Result<(), PlanError> {
        let path = directory.join(VALUES);
        let bytes = serde_json::to_vec(all).map_err(PlanError::other)?;
        let mut options = std::fs::OpenOptions::new();
        let opened = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
        let written = opened.and_then(|mut file| std::io::Write::write_all(&mut file, &bytes));
        written.map_err(|error| PlanError::other(crate::state::failed("write", &path)(error)))
    }

    /// What was kept; none after a reboot.
    pub(crate) fn kept(directory: &Path) -> Option<BTreeMap<String, Values>> {
        serde_json::from_slice(&std::fs::read(directory.join(VALUES)).ok()?).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text with its `${secret.NAME.KEY}` replaced.
    ///
    /// # Errors
    /// A key that the secret does not have.
    pub(crate) fn in_text(&self, text: &str) -> Result<String, PlanError> {
        let replaced = interpolate::replace(text, &|name| self.0.get(name).cloned());
        // Only ours can be left: a value may hold anything.
        let missing =
            interpolate::names(text).find(|name| name.starts_with("secret.") && !self.0.contains_key(*name));
        match missing {
            None => Ok(replaced),
            Some(name) => {
                let has = self.0.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(PlanError::Other(format!("there is no {name}; what there is: {has}")))
            }
        }
    }

    /// A map of texts, each with its values.
    pub(crate) fn in_map(
        &self,
        map: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, PlanError> {
        map.iter().map(|(key, text)| Ok((key.clone(), self.in_text(text)?))).collect()
    }

    /// Options of a task with their values.
    pub(crate) fn in_options(&self, value: &Value) -> Result<Value, PlanError> {
        Ok(match value {
            Value::String(text) => Value::String(self.in_text(text)?),
            Value::List(items) => {
                Value::List(items.iter().map(|item| self.in_options(item)).collect::<Result<_, _>>()?)
            }
            Value::Map(items) => {
                let pairs = items.iter().map(|(key, item)| Ok((key.clone(), self.in_options(item)?)));
                Value::Map(pairs.collect::<Result<_, PlanError>>()?)
            }
            other => other.clone(),
        })
    }

    /// A text without the values.
    pub fn redact(&self, text: &str) -> String {
        let mut values: Vec<&String> = self.0.values().filter(|value| value.len() >= SHORTEST).collect();
        // The longest first: one may hold another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.into_iter().fold(text.to_owned(), |text, value| {
            // As it is, and as errors quote it.
            let quoted = format!("{value:?}");
            let quoted = quoted.trim_matches('"');
            text.replace(value.as_str(), REDACTED).replace(quoted, REDACTED)
        })
    }
}

/// `NAME=value` lines, a JSON object of texts, or one text (`config { format = "json" }`, `"text"`).
fn of_file(secret: &Secret) -> Result<BTreeMap<String, String>, String> {
    let path = &secret.path;
    let mut text = String::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        openat(CWD, path, flags, Mode::empty()).map_err(|errno| format!("cannot read {path}: {errno}"))?;
    let file = std::fs::File::from(file);
    if !file.metadata().is_ok_and(|status| status.is_file()) {
        return Err(format!("{path} is no regular file"));
    }
    let read = file.take(LARGEST + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {path}: {error}"))?;
    if text.len() as u64 > LARGEST {
        return Err(format!("{path} is larger than 64 KiB"));
    }
    match secret.config.get("format").map(String::as_str) {
        None | Some("env") => {
            // A reason could quote the line, and with it the secret.
            let none =
                || format!("{path} is not NAME=value lines (config {{ format = \"json\" }} or \"text\"?)");
            crate::template::environment::parse(&text).map_err(|_| none())
        }
        Some("json") => {
            serde_json::from_str(&text).map_err(|_| format!("{path} is not a JSON object of texts"))
        }
        Some("text") => {
            Ok(BTreeMap::from([("value".to_owned(), text.trim_end_matches(['\r', '\n']).to_owned())]))
        }
        Some(other) => Err(format!("there is no format {other:?}: env, json or text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(provider: &str, path: &str, format: Option<&str>) -> Secret {
        let config = format.map(|format| ("format".to_owned(), format.to_owned())).into_iter().collect();
        Secret {
            name: "db".into(),
            provider: provider.into(),
            path: path.into(),
            config,
            env: BTreeMap::new(),
            span: bivouac_jobspec::Span::default(),
        }
    }

    /// Covers: Z28
    #[test]
    fn values_come_from_files_and_variables_and_stay_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let path = path.to_str().unwrap();
        let gather = |content: &str, format: Option<&str>| {
            std::fs::write(path, content).unwrap();
            Values::gather(&[secret("file", path, format)], &|_| None)
        };
        let values = gather("# comment\nuser=me\nexport password=\"s3cret\\\"x\"\n", None).unwrap();
        assert_eq!(
            values.in_text("${secret.db.user}:${ secret.db.password } ${HOME}").unwrap(),
            "me:s3cret\"x ${HOME}"
        );
        let text = values.in_text("${secret.db.pasword}").unwrap_err().to_string();
        assert!(
            text.contains("secret.db.pasword")
                && text.contains("secret.db.password")
                && !text.contains("s3c")
        );
        assert!(!format!("{values:?}").contains("s3cret"));
        assert_eq!(
            values.redact("no s3cret\"x, \"s3cret\\\"x\""),
            "no [redacted secret], \"[redacted secret]\""
        );
        let json = gather("{\"a\": \"deep\"}", Some("json")).unwrap();
        assert_eq!(json.in_text("${secret.db.a}").unwrap(), "deep");
        assert_eq!(gather("whole\n", Some("text")).unwrap().in_text("${secret.db.value}").unwrap(), "whole");
        for (content, format) in
            [("s3cret", None), ("{\"a\": [\"s3cret\"]}", Some("json")), ("s3cret", Some("x"))]
        {
            let text = gather(content, format).unwrap_err().to_string();
            assert!(!text.contains("s3cret") && text.starts_with("secret \"db\""), "{text}");
        }
        let named = |name: &str| (name == "PASSWORD").then(|| "fromenv".to_owned());
        let values = Values::gather(&[secret("env", "PASSWORD", None)], &named).unwrap();
        assert_eq!(values.in_text("${secret.db.value}").unwrap(), "fromenv");
        assert!(Values::gather(&[secret("env", "OTHER", None)], &named).is_err());
        assert!(Values::gather(&[secret("file", "/dev/zero", None)], &named).is_err());
    }
}
