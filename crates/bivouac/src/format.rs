//! Lists as the caller wants them written: a template of Go's for each row, with the names that `--json` has.

use anyhow::{Context, Result};
use gotmpl::{MissingKey, Template, Value};
use serde::Serialize;
use std::collections::BTreeMap;

/// Renders every row.
///
/// # Errors
/// What is wrong with the template; a name that rows do not have.
pub(crate) fn rows<T: Serialize>(template: &str, rows: &[T]) -> Result<Vec<String>> {
    let parsed = Template::new("--format").missing_key(MissingKey::Error).parse(template);
    let parsed = parsed.map_err(|error| anyhow::anyhow!("{error}")).context("--format")?;
    let mut lines = Vec::new();
    for row in rows {
        let mut line = String::new();
        let told = parsed.execute_fmt(&mut line, &value(serde_json::to_value(row)?));
        told.map_err(|error| anyhow::anyhow!("{error}")).context("--format")?;
        lines.push(line);
    }
    Ok(lines)
}

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => Value::from(items.into_iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(entries) => Value::from(
            entries.into_iter().map(|(name, item)| (name, value(item))).collect::<BTreeMap<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_the_template_says() {
        let row =
            serde_json::json!({"id": "a", "pid": 7, "tasks": [{"name": "x"}, {"name": "y"}], "none": null});
        let told = |template: &str| rows(template, &[&row]).map(|lines| lines.concat());
        assert_eq!(told("{{.id}} {{.pid}}").unwrap(), "a 7");
        assert_eq!(told("{{range .tasks}}{{.name}};{{end}}").unwrap(), "x;y;");
        for wrong in ["{{.nothing}}", "{{.id", "{{nothing}}"] {
            assert!(told(wrong).unwrap_err().to_string().contains("--format"), "{wrong}");
        }
    }
}
