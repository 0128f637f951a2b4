//! A driver's `config` as a tree in which every part knows its place.

use crate::source::Span;
use crate::value::{Number, Value};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A value of a driver's config and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigTree {
    /// Where.
    pub span: Span,
    /// What.
    pub value: ConfigValue,
}

/// The value itself. A map's entries are sorted by name.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text, perhaps with `${...}` that is resolved when the task starts.
    String(String),
    /// A list; a nested block is a list with one map per block.
    List(Vec<ConfigTree>),
    /// Names with their places and values.
    Map(Vec<(String, Span, ConfigTree)>),
}

impl ConfigTree {
    pub(crate) fn list(items: Vec<ConfigTree>, span: Span) -> Self {
        ConfigTree { span, value: ConfigValue::List(items) }
    }

    pub(crate) fn map(items: Vec<(String, Span, ConfigTree)>, span: Span) -> Self {
        ConfigTree { span, value: ConfigValue::Map(items) }
    }

    /// Adds to a list; false if this is none.
    pub(crate) fn push(&mut self, item: ConfigTree) -> bool {
        match &mut self.value {
            ConfigValue::List(items) => {
                items.push(item);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn from_value(value: &Value, span: Span) -> Self {
        let value = match value {
            Value::Null => ConfigValue::Null,
            Value::Bool(value) => ConfigValue::Bool(*value),
            Value::Number(number) => ConfigValue::Number(*number),
            Value::String(text) => ConfigValue::String(text.to_string()),
            Value::List(items) | Value::Set(items) => {
                ConfigValue::List(items.iter().map(|item| ConfigTree::from_value(item, span)).collect())
            }
            Value::Map(items) => ConfigValue::Map(
                items
                    .iter()
                    .map(|(key, item)| (key.to_string(), span, ConfigTree::from_value(item, span)))
                    .collect(),
            ),
        };
        ConfigTree { span, value }
    }

    /// An entry of a map.
    pub fn get(&self, name: &str) -> Option<&ConfigTree> {
        match &self.value {
            ConfigValue::Map(items) => items.iter().find(|(key, ..)| key == name).map(|(_, _, item)| item),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            ConfigValue::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Default for ConfigTree {
    fn default() -> Self {
        ConfigTree::map(Vec::new(), Span::default())
    }
}

/// Plain JSON; places are not kept.
impl Serialize for ConfigTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            ConfigValue::Null => serializer.serialize_unit(),
            ConfigValue::Bool(value) => serializer.serialize_bool(*value),
            ConfigValue::Number(number) => number.serialize(serializer),
            ConfigValue::String(text) => serializer.serialize_str(text),
            ConfigValue::List(items) => serializer.collect_seq(items),
            ConfigValue::Map(items) => serializer.collect_map(items.iter().map(|(key, _, item)| (key, item))),
        }
    }
}

impl<'de> Deserialize<'de> for ConfigTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;
        fn made<E>(value: ConfigValue) -> Result<ConfigTree, E> {
            Ok(ConfigTree { span: Span::default(), value })
        }
        impl<'de> Visitor<'de> for Tree {
            type Value = ConfigTree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<ConfigTree, E> {
                made(ConfigValue::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<ConfigTree, E> {
                made(ConfigValue::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<ConfigTree, E> {
                made(ConfigValue::Number(Number::Int(value.into())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<ConfigTree, E> {
                made(ConfigValue::Number(Number::Int(value.into())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<ConfigTree, E> {
                made(Number::from_f64(value).map_or(ConfigValue::Null, ConfigValue::Number))
            }
            fn visit_str<E>(self, value: &str) -> Result<ConfigTree, E> {
                made(ConfigValue::String(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<ConfigTree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                made(ConfigValue::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<ConfigTree, A::Error> {
                let mut items = Vec::new();
                while let Some((key, item)) = access.next_entry()? {
                    items.push((key, Span::default(), item));
                }
                made(ConfigValue::Map(items))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}
