//! MessagePack as the client encodes decoded `config` blocks, read by the options' descriptions.
//!
//! The client sends every option of the schema, unset ones as nil; numbers that no float holds exactly
//! come as text; a block that may repeat is a list, one that may not is a map or nil. No bytes at all
//! mean an empty block.

use crate::options::{Kind, Opt, Value, Values};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Deepest nesting that is read: a block in a block in a list needs six.
const MAX_DEPTH: usize = 32;

/// What is wrong with a `config` block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The bytes are no MessagePack.
    #[error("the configuration is not readable: {0}")]
    Unreadable(String),
    /// An option holds what it may not.
    #[error("option {path}: expected {expected}, got {got}")]
    Kind {
        /// Where: names and positions joined by dots.
        path: String,
        /// What is allowed there.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// An option is missing.
    #[error("option {path} is required")]
    Missing {
        /// Which one.
        path: String,
    },
    /// There is no such option.
    #[error("there is no option {path}")]
    Unknown {
        /// Which one.
        path: String,
    },
}

/// Reads a `config` block; fills in defaults.
///
/// # Errors
/// The bytes are no single MessagePack map, or an option holds what it may not.
pub fn decode(bytes: &[u8], options: &[Opt]) -> Result<Values, ConfigError> {
    if bytes.is_empty() {
        return block(Raw::Map(BTreeMap::new()), options, "");
    }
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(MAX_DEPTH);
    let raw = Raw::deserialize(&mut reader).map_err(|e| ConfigError::Unreadable(e.to_string()))?;
    if !rest.is_empty() {
        return Err(ConfigError::Unreadable(format!("{} bytes follow after its end", rest.len())));
    }
    let raw = if matches!(raw, Raw::Nil) { Raw::Map(BTreeMap::new()) } else { raw };
    block(raw, options, "")
}

fn block(raw: Raw, options: &[Opt], path: &str) -> Result<Values, ConfigError> {
    let mut map = match raw {
        Raw::Map(map) => map,
        other => return Err(wrong(path, "a block", &other)),
    };
    let mut values = BTreeMap::new();
    for opt in options {
        let here = join(path, opt.name);
        match map.remove(opt.name).unwrap_or(Raw::Nil) {
            Raw::Nil => match &opt.default {
                Some(default) => {
                    values.insert(opt.name.to_owned(), default.clone());
                }
                None if opt.required => return Err(ConfigError::Missing { path: here }),
                None => {}
            },
            raw => {
                values.insert(opt.name.to_owned(), value(raw, &opt.kind, &here)?);
            }
        }
    }
    match map.into_iter().find(|(_, raw)| !matches!(raw, Raw::Nil)) {
        Some((name, _)) => Err(ConfigError::Unknown { path: join(path, &name) }),
        None => Ok(Values(values)),
    }
}

fn value(raw: Raw, kind: &Kind, path: &str) -> Result<Value, ConfigError> {
    match kind {
        Kind::Text => text(raw, path).map(Value::Text),
        Kind::Flag => match raw {
            Raw::Flag(flag) => Ok(Value::Flag(flag)),
            other => Err(wrong(path, "true or false", &other)),
        },
        Kind::Count => count(raw, path).map(Value::Count),
        Kind::Number => number(raw, path).map(Value::Number),
        Kind::TextList => {
            let texts = list(raw, path, "a list of texts")?;
            let texts = texts.into_iter().enumerate().map(|(n, raw)| text(raw, &join(path, &n.to_string())));
            texts.collect::<Result<_, _>>().map(Value::TextList)
        }
        Kind::TextMap => match raw {
            Raw::Map(map) => {
                let texts = map.into_iter().map(|(key, raw)| {
                    let text = text(raw, &join(path, &key))?;
                    Ok((key, text))
                });
                texts.collect::<Result<_, _>>().map(Value::TextMap)
            }
            other => Err(wrong(path, "a map of texts", &other)),
        },
        Kind::Block(inner) => block(raw, inner, path).map(Value::Block),
        Kind::Blocks(inner) => {
            let blocks = list(raw, path, "blocks")?;
            let blocks =
                blocks.into_iter().enumerate().map(|(n, raw)| block(raw, inner, &join(path, &n.to_string())));
            blocks.collect::<Result<_, _>>().map(Value::Blocks)
        }
    }
}

fn text(raw: Raw, path: &str) -> Result<String, ConfigError> {
    match raw {
        Raw::Text(text) => Ok(text),
        other => Err(wrong(path, "text", &other)),
    }
}

fn list(raw: Raw, path: &str, expected: &'static str) -> Result<Vec<Raw>, ConfigError> {
    match raw {
        Raw::List(list) => Ok(list),
        other => Err(wrong(path, expected, &other)),
    }
}

fn count(raw: Raw, path: &str) -> Result<i64, ConfigError> {
    const EXPECTED: &str = "a whole number";
    let sound = match &raw {
        Raw::Int(int) => i64::try_from(*int).ok(),
        Raw::Float(float) if float.fract() == 0.0 && float.abs() < 9.0e15 => {
            format!("{float:.0}").parse().ok()
        }
        Raw::Text(digits) => digits.parse().ok(),
        _ => None,
    };
    sound.ok_or_else(|| wrong(path, EXPECTED, &raw))
}

fn number(raw: Raw, path: &str) -> Result<f64, ConfigError> {
    let sound = match &raw {
        Raw::Int(int) => int.to_string().parse().ok(),
        Raw::Float(float) => Some(*float),
        Raw::Text(digits) => digits.parse().ok(),
        _ => None,
    };
    sound.filter(|n: &f64| n.is_finite()).ok_or_else(|| wrong(path, "a number", &raw))
}

fn join(path: &str, name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn wrong(path: &str, expected: &'static str, got: &Raw) -> ConfigError {
    let path = if path.is_empty() { "config".to_owned() } else { path.to_owned() };
    ConfigError::Kind { path, expected, got: got.to_string() }
}

/// Any MessagePack value, before it means anything.
#[derive(Debug, Clone, PartialEq)]
enum Raw {
    Nil,
    Flag(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(usize),
    List(Vec<Raw>),
    Map(BTreeMap<String, Raw>),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nothing"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Int(int) => write!(f, "{int}"),
            Self::Float(float) => write!(f, "{float}"),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(64).collect::<String>()),
            Self::Bytes(len) => write!(f, "{len} bytes that are no text"),
            Self::List(list) => write!(f, "a list of {}", list.len()),
            Self::Map(map) => write!(f, "a block of {}", map.len()),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nil)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Flag(flag))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Raw, E> {
        Ok(Raw::Int(int.into()))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Raw, E> {
        Ok(Raw::Int(int.into()))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Raw, E> {
        Ok(Raw::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Raw, E> {
        Ok(std::str::from_utf8(bytes).map_or(Raw::Bytes(bytes.len()), |text| Raw::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, Raw>()? {
            if let Some(_earlier) = entries.insert(key.clone(), value) {
                return Err(serde::de::Error::custom(format_args!("{key:?} stands twice in a map")));
            }
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests;
