//! `scratch.Set "name" value` and its sisters: values that a template notes for itself.
//!
//! consul-template has them as methods of a value. The engine has no methods, so each call is read as a function of one
//! name, `scratch_Set`: as long as the text it stands for, so that places in errors stay right.

use super::balance::{action, quoted};
use super::functions::{add, argument, text, text_value, wrong};
use gotmpl::{FuncMap, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The methods.
const METHODS: [&str; 7] = ["Key", "Get", "Set", "SetX", "MapSet", "MapSetX", "MapValues"];
const OBJECT: &str = "scratch";

/// What is noted, by name.
type Notes = BTreeMap<Arc<str>, Value>;
/// What a method does with its arguments.
type Method = fn(&mut Notes, &[Value]) -> gotmpl::Result<Value>;

/// Whether what is there is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Replaced,
    Kept,
}

/// Adds the functions; what they note lasts as long as they do.
pub(super) fn all(map: &mut FuncMap) {
    let notes: Arc<Mutex<Notes>> = Arc::default();
    add(map, OBJECT, |_| {
        Err(wrong(format!(
            "scratch is no value: one of its methods stands right behind it, as in scratch.Get \"name\"; there are {}",
            METHODS.join(", ")
        )))
    });
    let mut method = |name: &str, f: Method| {
        let notes = notes.clone();
        add(map, &format!("{OBJECT}_{name}"), move |args| {
            f(&mut notes.lock().unwrap_or_else(PoisonError::into_inner), args)
        });
    };
    method("Key", |notes, args| Ok(Value::Bool(notes.contains_key(text(args, 0)?.as_str()))));
    method("Get", |notes, args| Ok(notes.get(text(args, 0)?.as_str()).cloned().unwrap_or(Value::Nil)));
    method("Set", |notes, args| set(notes, args, Old::Replaced));
    method("SetX", |notes, args| set(notes, args, Old::Kept));
    method("MapSet", |notes, args| map_set(notes, args, Old::Replaced));
    method("MapSetX", |notes, args| map_set(notes, args, Old::Kept));
    method("MapValues", |notes, args| {
        Ok(match notes.get(text(args, 0)?.as_str()) {
            Some(Value::Map(map)) => Value::List(map.values().cloned().collect()),
            _ => Value::List(Arc::default()),
        })
    });
}

/// Notes a value; what is shown of that is nothing.
fn set(notes: &mut Notes, args: &[Value], old: Old) -> gotmpl::Result<Value> {
    let (name, value) = (text(args, 0)?, argument(args, 1)?);
    put(notes, &name, value, old);
    Ok(text_value(""))
}

/// Notes a value in a map, which is made where there is none.
fn map_set(notes: &mut Notes, args: &[Value], old: Old) -> gotmpl::Result<Value> {
    let (name, key, value) = (text(args, 0)?, text(args, 1)?, argument(args, 2)?);
    match notes.entry(name.as_str().into()).or_insert_with(|| Value::Map(Arc::default())) {
        Value::Map(map) => put(Arc::make_mut(map), &key, value, old),
        _ => return Err(wrong(format!("scratch: {name:?} is not a map"))),
    }
    Ok(text_value(""))
}

fn put(map: &mut Notes, key: &str, value: &Value, old: Old) {
    if old == Old::Replaced || !map.contains_key(key) {
        map.insert(key.into(), value.clone());
    }
}

/// Reads calls of methods as calls of functions. A text whose actions are not closed is left to whoever checks that.
pub(super) fn as_functions(template: &str, left: &str, right: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once(left) {
        let Some((inside, behind)) = action(after, right) else { break };
        out.push_str(before);
        out.push_str(left);
        in_action(inside, &mut out);
        out.push_str(right);
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// One action: words outside of quotes and comments.
fn in_action(action: &str, out: &mut String) {
    let start = action.trim_start_matches('-').trim_start();
    let mut rest = action;
    if start.starts_with("/*") {
        out.push_str(rest);
        return;
    }
    while let Some(first) = rest.chars().next() {
        let in_word = |c| is_word(c) || matches!(c, '.' | '$');
        let length = if in_word(first) {
            rest.find(|c| !in_word(c)).unwrap_or(rest.len())
        } else {
            quoted(rest).unwrap_or(rest.len())
        };
        let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match piece.split_once('.') {
            Some((OBJECT, method)) if METHODS.contains(&method) => {
                out.push_str(&format!("{OBJECT}_{method}"));
            }
            _ => out.push_str(piece),
        }
        rest = behind;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::{Missing, Order, helper::evaluate};
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let order = Order {
            text: template.to_owned(),
            left: "{{".into(),
            right: "}}".into(),
            missing: Missing::Empty,
            env: BTreeMap::new(),
        };
        evaluate(&order, Arc::new(|path: &str| Err(format!("no {path}"))))
    }

    /// Covers: W57
    #[test]
    fn values_are_noted_and_read_again() {
        for (template, expected) in [
            ("{{ scratch.Set \"a\" 1 }}{{ scratch.Get \"a\" }}", "1"),
            ("{{ scratch.SetX \"a\" 1 }}{{ scratch.SetX \"a\" 2 }}{{ scratch.Get \"a\" }}", "1"),
            ("{{ scratch.Key \"a\" }} {{- scratch.Set \"a\" 1 -}} {{ scratch.Key \"a\" }}", "falsetrue"),
            ("{{ if not (scratch.Get \"a\") }}none{{ end }}", "none"),
            ("{{ \"x\" | scratch.Set \"a\" }}{{ printf \"%s%s\" (scratch.Get \"a\") \"y\" }}", "xy"),
            (
                "{{ scratch.MapSet \"m\" \"b\" 2 }}{{ scratch.MapSet \"m\" \"a\" 1 }}{{ scratch.MapSetX \"m\" \"a\" 9 }}{{ scratch.MapValues \"m\" }} {{ (scratch.Get \"m\").b }}",
                "[1 2] 2",
            ),
            ("{{ range scratch.MapValues \"m\" }}x{{ else }}nothing{{ end }}", "nothing"),
            ("{{ range loop 3 }}{{ scratch.Set \"n\" . }}{{ end }}{{scratch.Get \"n\"}}", "2"),
            (
                "{{ define \"t\" }}{{ scratch.Get \"a\" }}{{ end }}{{ scratch.Set \"a\" 5 }}{{ template \"t\" }}",
                "5",
            ),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_no_method_or_no_map_is_told() {
        let told = |template: &str| rendered(template).unwrap_err();
        assert!(told("{{ scratch.Add \"a\" 1 }}").contains("there are Key, Get, Set"));
        assert!(told("{{ $s := scratch }}").contains("stands right behind it"));
        let text = "{{ scratch.Set \"a\" 1 }}{{ scratch.MapSet \"a\" \"k\" 1 }}";
        assert!(told(text).contains("\"a\" is not a map"), "{}", told(text));
        assert!(told("{{ scratch.Set \"a\" }}").contains("argument is missing"));
    }

    #[test]
    fn only_calls_are_read_as_calls() {
        for same in [
            "scratch.Get {{ `scratch.Get` }} {{ \"scratch.Get \\\" scratch.Get\" }}",
            "{{/* scratch.Get */}}",
            "{{- /* scratch.Get */ -}}",
            "{{ .scratch.Get }} {{ $scratch.Get }} {{ myscratch.Get }} {{ scratch.Get.x }} {{ scratch.Other }}",
            "{{ scratch.Get",
            "{{ \"scratch.Get }}",
        ] {
            assert_eq!(as_functions(same, "{{", "}}"), same);
        }
        assert_eq!(as_functions("<% (scratch.Get \"ä\") %>", "<%", "%>"), "<% (scratch_Get \"ä\") %>");
    }

    proptest::proptest! {
        #[test]
        fn the_length_stays(text in "(\\{\\{|\\}\\}|scratch|\\.|Get|Set|[\"'` \u{e4}\\\\-]|/\\*|\\*/){0,30}") {
            proptest::prop_assert_eq!(as_functions(&text, "{{", "}}").len(), text.len());
        }
    }
}
