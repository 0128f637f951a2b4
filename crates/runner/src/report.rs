//! What Bivouac itself has to say to people and to programs, beside what tasks say: one line each, as text or as JSON.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Sentences.
    #[default]
    Text,
    /// A JSON object a line: `time`, `level`, `message`, and what it is about under names of its own.
    Json,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Note,
    /// Something went wrong, and the command goes on.
    Warning,
    /// The command failed.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    level: Level,
    message: String,
    about: Vec<(&'static str, String)>,
}

impl Report {
    /// A sentence.
    pub fn new(level: Level, message: impl Into<String>) -> Report {
        Report { level, message: message.into(), about: Vec::new() }
    }

    /// Names what the sentence is about: in a text the value stands before it, in JSON beside it.
    #[must_use]
    pub fn about(mut self, name: &'static str, value: impl Into<String>) -> Report {
        self.about.push((name, value.into()));
        self
    }

    /// For people.
    pub fn text(&self) -> String {
        let before = self.about.iter().map(|(_, value)| format!("{value}: "));
        before.chain([self.message.clone()]).collect()
    }

    /// For programs.
    pub fn json(&self, now: Timestamp) -> String {
        let mut object = Map::new();
        object.insert("time".into(), Value::from(format!("{now:.3}")));
        object.insert("level".into(), Value::from(self.level.as_str()));
        object.insert("message".into(), Value::from(self.message.as_str()));
        object
            .extend(self.about.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
        Value::Object(object).to_string()
    }

    /// The line for either.
    pub fn line(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => self.json(Timestamp::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_sentence_or_an_object() {
        let report = Report::new(Level::Warning, "it \"failed\"\nagain").about("task", "web");
        assert_eq!(report.text(), "web: it \"failed\"\nagain");
        let now = "2026-01-31T08:00:00.12345Z".parse().unwrap();
        insta::assert_snapshot!(report.json(now), @r#"{"level":"warning","message":"it \"failed\"\nagain","task":"web","time":"2026-01-31T08:00:00.123Z"}"#);
    }
}
