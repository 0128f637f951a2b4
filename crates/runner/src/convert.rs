//! From a job file's tree to the driver's: the same values, other words.

use bivouac_driver::options::Value;
use bivouac_jobspec::{ConfigTree, ConfigValue, Number, Span};

/// The driver's tree of a task's `config`.
pub fn config(tree: &ConfigTree) -> Value {
    match &tree.value {
        ConfigValue::Null => Value::Null,
        ConfigValue::Bool(flag) => Value::Bool(*flag),
        ConfigValue::Number(number) => number_value(*number),
        ConfigValue::String(text) => Value::String(text.clone()),
        ConfigValue::List(items) => Value::List(items.iter().map(config).collect()),
        ConfigValue::Map(items) => {
            Value::Map(items.iter().map(|(name, _, item)| (name.clone(), config(item))).collect())
        }
    }
}

fn number_value(number: Number) -> Value {
    match number {
        Number::Int(value) => i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer),
        Number::Float(value) => Value::Float(value),
    }
}

/// The place in the job file of a path such as `mount[1].source`, or of the nearest part above it.
pub fn place(tree: &ConfigTree, path: &str) -> Option<Span> {
    let mut at = tree;
    for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let next = match &at.value {
            ConfigValue::List(items) => match part.parse::<usize>() {
                Ok(index) => items.get(index),
                // A block that may stand once is a list of one.
                Err(_) => items.first().and_then(|item| item.get(part)),
            },
            _ => at.get(part),
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    (at.span != Span::default()).then_some(at.span)
}
