//! Values of the language: numbers, strings, collections, and how they turn into each other.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A number: exact while it is whole and fits 128 bits, otherwise a double.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole number.
    Int(i128),
    /// Anything else; never infinite, never NaN.
    Float(f64),
}

impl Number {
    /// A double as a number, whole ones exactly; `None` for infinities and NaN.
    pub fn from_f64(value: f64) -> Option<Number> {
        if !value.is_finite() {
            None
        } else if value.fract() == 0.0 && value.abs() < 1e30 {
            Some(Number::Int(value as i128))
        } else {
            Some(Number::Float(value))
        }
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }

    /// The whole number, if it is one.
    pub fn to_int(self) -> Option<i128> {
        match self {
            Number::Int(int) => Some(int),
            Number::Float(_) => None,
        }
    }

    /// Reads what a number looks like in text: digits, optional fraction and exponent.
    pub fn parse(text: &str) -> Option<Number> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || digits.len() > 512 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if let Ok(int) = text.parse() {
            return Some(Number::Int(int));
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) {
            return Number::from_f64(text.parse().ok()?);
        }
        None
    }

    /// The shortest decimal form as digits and a power of ten; exact for what was written in decimal.
    fn decimal(self) -> Option<(i128, u32)> {
        match self {
            Number::Int(int) => Some((int, 0)),
            Number::Float(float) => {
                let text = format!("{float}");
                let (whole, fraction) = text.split_once('.')?;
                let digits = format!("{whole}{fraction}").parse().ok()?;
                Some((digits, u32::try_from(fraction.len()).ok().filter(|scale| *scale <= 30)?))
            }
        }
    }

    /// Exact decimal arithmetic where it fits, so that 0.1 + 0.2 is 0.3; doubles otherwise.
    fn combine(
        self,
        other: Number,
        exact: fn(i128, i128) -> Option<i128>,
        inexact: fn(f64, f64) -> f64,
    ) -> Option<Number> {
        let aligned = || {
            let ((a, scale_a), (b, scale_b)) = (self.decimal()?, other.decimal()?);
            let scale = scale_a.max(scale_b);
            let a = a.checked_mul(10_i128.checked_pow(scale - scale_a)?)?;
            let b = b.checked_mul(10_i128.checked_pow(scale - scale_b)?)?;
            Number::from_decimal(exact(a, b)?, scale)
        };
        aligned().or_else(|| Number::from_f64(inexact(self.to_f64(), other.to_f64())))
    }

    fn from_decimal(digits: i128, scale: u32) -> Option<Number> {
        if scale == 0 {
            return Some(Number::Int(digits));
        }
        Number::from_f64(format!("{digits}e-{scale}").parse().ok()?)
    }

    /// Sum; `None` if it leaves the range.
    pub fn checked_add(self, other: Number) -> Option<Number> {
        self.combine(other, i128::checked_add, |a, b| a + b)
    }

    /// Difference; `None` if it leaves the range.
    pub fn checked_sub(self, other: Number) -> Option<Number> {
        self.combine(other, i128::checked_sub, |a, b| a - b)
    }

    /// Product; `None` if it leaves the range.
    pub fn checked_mul(self, other: Number) -> Option<Number> {
        let exact = || {
            let ((a, scale_a), (b, scale_b)) = (self.decimal()?, other.decimal()?);
            Number::from_decimal(a.checked_mul(b)?, scale_a + scale_b)
        };
        exact().or_else(|| Number::from_f64(self.to_f64() * other.to_f64()))
    }

    /// Quotient; `None` for division by zero.
    pub fn checked_div(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) if b != 0 && a.checked_rem(b) == Some(0) => {
                a.checked_div(b).map(Number::Int)
            }
            _ => Number::from_f64(self.to_f64() / other.to_f64()),
        }
    }

    /// Remainder with the sign of the dividend; `None` for division by zero.
    pub fn checked_rem(self, other: Number) -> Option<Number> {
        if other.to_f64() == 0.0 {
            return None;
        }
        self.combine(other, i128::checked_rem, |a, b| a % b)
    }

    /// Total order of numbers.
    pub fn order(self, other: Number) -> std::cmp::Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            _ => self.to_f64().total_cmp(&other.to_f64()),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.order(*other).is_eq()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(int) => write!(f, "{int}"),
            Number::Float(float) => write!(f, "{float}"),
        }
    }
}

/// A value. Cloning is cheap: collections and strings are shared.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    String(Arc<str>),
    /// A list or tuple.
    List(Arc<Vec<Value>>),
    /// A set: sorted, without duplicates.
    Set(Arc<Vec<Value>>),
    /// A map or object.
    Map(Arc<BTreeMap<Arc<str>, Value>>),
}

impl Value {
    /// Text as a value.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::String(Arc::from(text.as_ref()))
    }

    /// A whole number as a value.
    pub fn int(int: impl Into<i128>) -> Value {
        Value::Number(Number::Int(int.into()))
    }

    /// A list as a value.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(items))
    }

    /// A set as a value: sorts and removes duplicates.
    pub fn set(mut items: Vec<Value>) -> Value {
        items.sort_by(Value::order);
        items.dedup();
        Value::Set(Arc::new(items))
    }

    /// A map as a value.
    pub fn map(items: BTreeMap<Arc<str>, Value>) -> Value {
        Value::Map(Arc::new(items))
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Set(_) => "a set",
            Value::Map(_) => "a map",
        }
    }

    /// The text of a string, number or bool; `None` for the rest.
    pub fn to_text(&self) -> Option<Arc<str>> {
        match self {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(Arc::from(number.to_string())),
            Value::Bool(value) => Some(Arc::from(if *value { "true" } else { "false" })),
            _ => None,
        }
    }

    /// A number, also from text that reads as one.
    pub fn to_number(&self) -> Option<Number> {
        match self {
            Value::Number(number) => Some(*number),
            Value::String(text) => Number::parse(text),
            _ => None,
        }
    }

    /// A bool, also from `"true"` and `"false"`.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match &**text {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements of a list or set.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Set(items) => Some(items),
            _ => None,
        }
    }

    /// A total order: kind first, then content. Sets are sorted by it.
    pub fn order(&self, other: &Value) -> std::cmp::Ordering {
        fn rank(value: &Value) -> u8 {
            match value {
                Value::Null => 0,
                Value::Bool(_) => 1,
                Value::Number(_) => 2,
                Value::String(_) => 3,
                Value::List(_) => 4,
                Value::Set(_) => 5,
                Value::Map(_) => 6,
            }
        }
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => a.order(*b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) | (Value::Set(a), Value::Set(b)) => sequence_order(a, b),
            (Value::Map(a), Value::Map(b)) => a.keys().cmp(b.keys()).then_with(|| {
                let pairs = a.values().zip(b.values());
                pairs
                    .map(|(a, b)| a.order(b))
                    .find(|order| order.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal)
            }),
            _ => rank(self).cmp(&rank(other)),
        }
    }

    /// Reads JSON text's value.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => {
                Number::parse(&number.to_string()).map_or(Value::Null, Value::Number)
            }
            serde_json::Value::String(text) => Value::text(text),
            serde_json::Value::Array(items) => Value::list(items.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(items) => Value::map(
                items.iter().map(|(key, item)| (Arc::from(key.as_str()), Value::from_json(item))).collect(),
            ),
        }
    }
}

fn sequence_order(a: &[Value], b: &[Value]) -> std::cmp::Ordering {
    let pairs = a.iter().zip(b.iter());
    pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::List(items) | Value::Set(items) => serializer.collect_seq(items.iter()),
            Value::Map(items) => serializer.collect_map(items.iter().map(|(key, value)| (&**key, value))),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Number::Int(int) => match (i64::try_from(*int), u64::try_from(*int)) {
                (Ok(int), _) => serializer.serialize_i64(int),
                (_, Ok(int)) => serializer.serialize_u64(int),
                _ => serializer.serialize_f64(*int as f64),
            },
            Number::Float(float) => serializer.serialize_f64(*float),
        }
    }
}

/// The common type of the values of a conditional or a collection: mixed simple values become strings.
pub(crate) fn unify(values: &mut [Value]) {
    let simple =
        |value: &Value| matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null);
    if !values.iter().all(simple) {
        return;
    }
    let kinds: Vec<_> =
        values.iter().filter(|value| **value != Value::Null).map(std::mem::discriminant).collect();
    if kinds.windows(2).all(|pair| pair[0] == pair[1]) {
        return;
    }
    for value in values {
        if let Some(text) = value.to_text() {
            *value = Value::String(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_arithmetic() {
        let number = |text: &str| Number::parse(text).unwrap();
        assert_eq!(number("0.1").checked_add(number("0.2")).unwrap().to_string(), "0.3");
        assert_eq!(number("1.1").checked_mul(number("1.1")).unwrap().to_string(), "1.21");
        assert_eq!(
            number("9007199254740993").checked_add(number("0")).unwrap().to_string(),
            "9007199254740993"
        );
        assert_eq!(number("7").checked_div(number("2")).unwrap().to_string(), "3.5");
        assert_eq!(number("-7").checked_rem(number("3")).unwrap().to_string(), "-1");
        assert!(number("1").checked_div(number("0")).is_none());
        assert!(Number::parse("1e400").is_none());
        assert!(Number::parse("0x10").is_none());
        assert!(Number::parse("inf").is_none());
    }

    #[test]
    fn mixed_values_become_strings() {
        let mut values = [Value::text("a"), Value::int(1), Value::Null];
        unify(&mut values);
        assert_eq!(values, [Value::text("a"), Value::text("1"), Value::Null]);
    }
}
