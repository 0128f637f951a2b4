//! JSON and YAML.

use super::{Answer, Call, Function, row, row_with_nulls};
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    row("jsondecode", "jsondecode(string)", 1, 1, |call| {
        let text = call.text(0)?;
        call.charge(text.len() * 8)?;
        let json =
            serde_json::from_str(&text).map_err(|error| call.bad(0, format!("this is not JSON: {error}")))?;
        Ok(Value::from_json(&json))
    }),
    row_with_nulls("jsonencode", "jsonencode(value)", 1, 1, |call| {
        let mut out = String::new();
        encode(call.value(0), &mut |text| {
            call.charge(text.len() + 8)?;
            out.push_str(text);
            Ok::<(), super::Problem>(())
        })?;
        call.give(out)
    }),
    row("yamldecode", "yamldecode(string)", 1, 1, super::yaml::decode),
    row_with_nulls("yamlencode", "yamlencode(value)", 1, 1, |call| {
        let mut out = String::new();
        yaml(call, call.value(0), 0, &mut out)?;
        call.give(out)
    }),
];

/// Writes JSON as Go does: no spaces, `<`, `>` and `&` escaped.
///
/// # Errors
/// Whatever `write` answers.
pub(crate) fn encode<E>(value: &Value, write: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    match value {
        Value::Null => write("null"),
        Value::Bool(_) | Value::Number(_) => write(&value.to_text().unwrap_or_default()),
        Value::String(text) => write(&quote(text)),
        Value::List(items) | Value::Set(items) => {
            write("[")?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    write(",")?;
                }
                encode(item, write)?;
            }
            write("]")
        }
        Value::Map(items) => {
            write("{")?;
            for (at, (key, item)) in items.iter().enumerate() {
                if at > 0 {
                    write(",")?;
                }
                write(&quote(key))?;
                write(":")?;
                encode(item, write)?;
            }
            write("}")
        }
    }
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn yaml(call: &Call<'_>, value: &Value, depth: usize, out: &mut String) -> Answer<()> {
    call.charge(depth * 2 + 16)?;
    let pad = "  ".repeat(depth);
    match value {
        Value::List(items) | Value::Set(items) if !items.is_empty() => {
            for item in items.iter() {
                out.push_str(&pad);
                out.push('-');
                nested(call, item, depth, out, true)?;
            }
        }
        Value::Map(items) if !items.is_empty() => {
            for (key, item) in items.iter() {
                out.push_str(&pad);
                out.push_str(&quote(key));
                out.push(':');
                nested(call, item, depth, out, false)?;
            }
        }
        scalar => {
            out.push_str(&yaml_scalar(scalar, depth));
            out.push('\n');
        }
    }
    Ok(())
}

/// What stands behind `-` or `key:`: the first line of a map in a list shares the line of its dash.
fn nested(call: &Call<'_>, item: &Value, depth: usize, out: &mut String, in_list: bool) -> Answer<()> {
    let filled = match item {
        Value::List(items) | Value::Set(items) => !items.is_empty(),
        Value::Map(items) => !items.is_empty(),
        _ => false,
    };
    if !filled {
        out.push(' ');
        out.push_str(&yaml_scalar(item, depth + 1));
        out.push('\n');
        return Ok(());
    }
    if in_list {
        let mut inner = String::new();
        yaml(call, item, depth + 1, &mut inner)?;
        out.push(' ');
        out.push_str(inner.trim_start());
        return Ok(());
    }
    out.push('\n');
    // A list below a key is not indented further.
    let deeper = if matches!(item, Value::Map(_)) { depth + 1 } else { depth };
    yaml(call, item, deeper, out)
}

fn yaml_scalar(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) if text.contains('\n') => {
            let kept = text.len() - text.trim_end_matches('\n').len();
            let style = match kept {
                0 => "|-",
                1 => "|",
                _ => "|+",
            };
            let pad = "  ".repeat(depth.max(1));
            let body = text.strip_suffix('\n').unwrap_or(text);
            let lines: Vec<_> = body
                .split('\n')
                .map(|line| if line.is_empty() { String::new() } else { format!("{pad}{line}") })
                .collect();
            format!("{style}\n{}", lines.join("\n"))
        }
        Value::String(text) => quote(text),
        Value::List(_) | Value::Set(_) => "[]".into(),
        Value::Map(_) => "{}".into(),
        other => other.to_text().map_or("null".into(), |text| text.to_string()),
    }
}
