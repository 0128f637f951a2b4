//! The tree of values that a face hands in, before anybody knows what it means.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A value as a job file or a plugin message carries it. HCL and MessagePack both become this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Nothing given; the same as leaving the option out.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, or beyond 64 bits.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// Names and values, in the order given; a name given twice is refused when decoded.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A map from pairs, for callers that write options down in code.
    pub fn map<N: Into<String>>(pairs: impl IntoIterator<Item = (N, Value)>) -> Value {
        Value::Map(pairs.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::List(texts.into_iter().map(|text| Value::String(text.into())).collect())
    }

    /// What kind of value this is, for messages: `a list`, `the text "x"`.
    pub fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".into(),
            Value::Bool(flag) => format!("{flag}"),
            Value::Integer(number) => format!("{number}"),
            Value::Float(number) => format!("{number}"),
            Value::String(text) => quoted(text),
            Value::List(list) => format!("a list of {}", list.len()),
            Value::Map(_) => "a block".into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

/// Text as messages show it: quoted, escaped, and never longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 120;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head:?}... ({} bytes)", text.len())
}

/// Where in a configuration a value stands, such as `mount[1].source`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// The top of a configuration block.
    pub fn top() -> Place {
        Place::default()
    }

    /// The option `name` in this block.
    #[must_use]
    pub fn field(&self, name: &str) -> Place {
        if self.0.is_empty() { Place(name.into()) } else { Place(format!("{}.{name}", self.0)) }
    }

    /// Element `index` of this list, from 0.
    #[must_use]
    pub fn element(&self, index: usize) -> Place {
        Place(format!("{}[{index}]", self.0))
    }

    /// The path below the configuration block; empty for the block itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "config" } else { &self.0 })
    }
}

/// A value that was refused: where it stands, and one sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// Where it stands, for a caret in a job file.
    pub place: Place,
    /// The sentence. It names the option itself, so that it can stand alone.
    pub text: String,
}

impl Refused {
    /// A refusal whose text begins with the place.
    pub fn at(place: &Place, text: impl fmt::Display) -> Refused {
        Refused { place: place.clone(), text: format!("{place} {text}") }
    }

    /// A refusal in somebody else's words.
    pub fn says(place: &Place, text: impl Into<String>) -> Refused {
        Refused { place: place.clone(), text: text.into() }
    }
}
