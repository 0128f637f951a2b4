//! The functions that consul-template takes from sprig, under their names there: `sprig_` and what sprig calls them.
//! Those that reach out (the environment, host names), make random values or certificates are not here.

use super::functions::{add, argument, int, items, pattern, same, text, text_value, title, wrong};
use gotmpl::{FuncMap, Result, Value};
use std::sync::Arc;

/// No text or list that is made of repetition is longer.
const LONGEST: usize = 1 << 20;

/// Adds them all.
pub(super) fn all(map: &mut FuncMap) {
    texts(map);
    choices(map);
    numbers(map);
    lists(map);
    maps(map);
}

fn named(map: &mut FuncMap, name: &str, f: impl Fn(&[Value]) -> Result<Value> + Send + Sync + 'static) {
    add(map, &format!("sprig_{name}"), f);
}

fn texts(map: &mut FuncMap) {
    let mut one = |name: &str, f: fn(&str) -> String| {
        named(map, name, move |args| Ok(text_value(f(&text(args, 0)?))));
    };
    one("upper", str::to_uppercase);
    one("lower", str::to_lowercase);
    one("title", title);
    one("trim", |text| text.trim().to_owned());
    one("nospace", |text| text.chars().filter(|c| !c.is_whitespace()).collect());
    one("toString", str::to_owned);
    let mut two = |name: &str, f: fn(&str, &str) -> Value| {
        named(map, name, move |args| Ok(f(&text(args, 0)?, &text(args, 1)?)));
    };
    two("contains", |part, text| Value::Bool(text.contains(part)));
    two("hasPrefix", |part, text| Value::Bool(text.starts_with(part)));
    two("hasSuffix", |part, text| Value::Bool(text.ends_with(part)));
    two("trimAll", |set, text| text_value(text.trim_matches(|c| set.contains(c))));
    two("trimPrefix", |part, text| text_value(text.strip_prefix(part).unwrap_or(text)));
    two("trimSuffix", |part, text| text_value(text.strip_suffix(part).unwrap_or(text)));
    two("splitList", |by, text| Value::List(text.split(by).map(text_value).collect()));
    named(map, "replace", |args| Ok(text_value(text(args, 2)?.replace(&text(args, 0)?, &text(args, 1)?))));
    named(map, "regexMatch", |args| Ok(Value::Bool(pattern(&text(args, 0)?)?.is_match(&text(args, 1)?))));
    named(map, "regexFind", |args| {
        let (pattern, text) = (pattern(&text(args, 0)?)?, text(args, 1)?);
        Ok(text_value(pattern.find(&text).map_or("", |found| found.as_str())))
    });
    named(map, "quote", |args| Ok(quoted(args, '"')));
    named(map, "squote", |args| Ok(quoted(args, '\'')));
    named(map, "cat", |args| Ok(text_value(args.iter().map(Value::to_string).collect::<Vec<_>>().join(" "))));
    named(map, "repeat", |args| {
        let (count, text) = (usize::try_from(int(args, 0)?).unwrap_or(0), text(args, 1)?);
        if count.saturating_mul(text.len()) > LONGEST {
            return Err(wrong("repeat would make more than 1 MiB"));
        }
        Ok(text_value(text.repeat(count)))
    });
    named(map, "trunc", |args| {
        let (length, text) = (int(args, 0)?, text(args, 1)?);
        let count = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
        let skip = if length < 0 { text.chars().count().saturating_sub(count) } else { 0 };
        Ok(text_value(text.chars().skip(skip).take(count).collect::<String>()))
    });
    named(map, "substr", |args| {
        let (from, to, text) = (int(args, 0)?.max(0), int(args, 1)?, text(args, 2)?);
        let from = usize::try_from(from).unwrap_or(0);
        let to = usize::try_from(to).unwrap_or(usize::MAX);
        Ok(text_value(text.chars().take(to).skip(from).collect::<String>()))
    });
    named(map, "indent", |args| indented(args, ""));
    named(map, "nindent", |args| indented(args, "\n"));
    named(map, "join", |args| {
        let parts: Vec<String> = items(argument(args, 1)?)?.iter().map(Value::to_string).collect();
        Ok(text_value(parts.join(&text(args, 0)?)))
    });
}

fn quoted(args: &[Value], mark: char) -> Value {
    let one = |value: &Value| {
        if mark == '"' { format!("{:?}", value.to_string()) } else { format!("{mark}{value}{mark}") }
    };
    let there = args.iter().filter(|value| !matches!(value, Value::Nil));
    text_value(there.map(one).collect::<Vec<_>>().join(" "))
}

fn indented(args: &[Value], before: &str) -> Result<Value> {
    let spaces = " ".repeat(usize::try_from(int(args, 0)?).unwrap_or(0).min(256));
    let lines: Vec<String> = text(args, 1)?.split('\n').map(|line| format!("{spaces}{line}")).collect();
    Ok(text_value(format!("{before}{}", lines.join("\n"))))
}

/// What sprig calls empty: false, 0, and what has nothing in it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(items) => items.is_empty(),
        Value::Function(_) => false,
    }
}

fn choices(map: &mut FuncMap) {
    named(map, "default", |args| {
        let given = args.get(1).filter(|value| !is_empty(value));
        given.map_or_else(|| argument(args, 0).cloned(), |value| Ok(value.clone()))
    });
    named(map, "empty", |args| Ok(Value::Bool(is_empty(argument(args, 0)?))));
    named(map, "coalesce", |args| {
        Ok(args.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil))
    });
    named(map, "ternary", |args| {
        let at = usize::from(!matches!(argument(args, 2)?, Value::Bool(true)));
        argument(args, at).cloned()
    });
    named(map, "kindOf", |args| Ok(text_value(argument(args, 0)?.type_name())));
    named(map, "fail", |args| Err(wrong(text(args, 0)?)));
}

fn numbers(map: &mut FuncMap) {
    let mut fold = |name: &str, f: fn(i64, i64) -> Option<i64>| {
        let owned = name.to_owned();
        named(map, name, move |args| {
            let mut all = (0..args.len()).map(|at| int(args, at));
            let first = all.next().ok_or_else(|| wrong(format!("{owned} needs numbers")))??;
            let too_large = || wrong(format!("{owned}: division by zero, or too large"));
            all.try_fold(first, |sum, number| f(sum, number?).ok_or_else(too_large)).map(Value::Int)
        });
    };
    fold("add", i64::checked_add);
    fold("sub", i64::checked_sub);
    fold("mul", i64::checked_mul);
    fold("div", i64::checked_div);
    fold("mod", i64::checked_rem);
    fold("max", |a, b| Some(a.max(b)));
    fold("min", |a, b| Some(a.min(b)));
    for name in ["int", "int64", "atoi"] {
        named(map, name, |args| Ok(Value::Int(int(args, 0).unwrap_or(0))));
    }
    named(map, "add1", |args| int(args, 0)?.checked_add(1).map(Value::Int).ok_or_else(|| wrong("too large")));
    for name in ["until", "untilStep"] {
        named(map, name, |args| {
            let (from, to, step) = if args.len() == 3 {
                (int(args, 0)?, int(args, 1)?, int(args, 2)?)
            } else {
                (0, int(args, 0)?, 1)
            };
            let step = usize::try_from(step).ok().filter(|step| *step > 0);
            let step = step.ok_or_else(|| wrong("a step must be greater than 0"))?;
            if to.saturating_sub(from) > LONGEST as i64 {
                return Err(wrong("more than a million numbers"));
            }
            Ok(Value::List((from..to).step_by(step).map(Value::Int).collect()))
        });
    }
}

fn lists(map: &mut FuncMap) {
    for name in ["list", "tuple"] {
        named(map, name, |args| Ok(Value::List(args.to_vec().into())));
    }
    let mut part = |name: &str, f: fn(&[Value]) -> Value| {
        named(map, name, move |args| Ok(f(items(argument(args, 0)?)?)));
    };
    part("first", |items| items.first().cloned().unwrap_or(Value::Nil));
    part("last", |items| items.last().cloned().unwrap_or(Value::Nil));
    part("rest", |items| Value::List(items.iter().skip(1).cloned().collect()));
    part("initial", |items| Value::List(items.iter().take(items.len().saturating_sub(1)).cloned().collect()));
    part("reverse", |items| Value::List(items.iter().rev().cloned().collect()));
    part("compact", |items| Value::List(items.iter().filter(|item| !is_empty(item)).cloned().collect()));
    part("uniq", |items| {
        let mut out: Vec<Value> = Vec::new();
        for item in items {
            if !out.iter().any(|there| same(there, item)) {
                out.push(item.clone());
            }
        }
        Value::List(out.into())
    });
    part("sortAlpha", |items| {
        let mut texts: Vec<String> = items.iter().map(Value::to_string).collect();
        texts.sort_unstable();
        Value::List(texts.into_iter().map(text_value).collect())
    });
    named(map, "append", |args| {
        let items = items(argument(args, 0)?)?;
        Ok(Value::List(items.iter().chain(args.get(1)).cloned().collect()))
    });
    named(map, "prepend", |args| {
        let items = items(argument(args, 0)?)?;
        Ok(Value::List(args.get(1).into_iter().chain(items).cloned().collect()))
    });
    named(map, "concat", |args| {
        let all = args.iter().map(items).collect::<Result<Vec<_>>>()?;
        Ok(Value::List(all.concat().into()))
    });
    named(map, "has", |args| {
        let wanted = argument(args, 0)?;
        Ok(Value::Bool(items(argument(args, 1)?)?.iter().any(|item| same(item, wanted))))
    });
    named(map, "without", |args| {
        let unwanted = args.get(1..).unwrap_or_default();
        let kept =
            items(argument(args, 0)?)?.iter().filter(|item| !unwanted.iter().any(|other| same(item, other)));
        Ok(Value::List(kept.cloned().collect()))
    });
}

fn maps(map: &mut FuncMap) {
    named(map, "dict", |args| {
        let pairs = args.chunks(2).map(|pair| {
            let key = pair.first().map(Value::to_string).unwrap_or_default();
            (Arc::from(key.as_str()), pair.get(1).cloned().unwrap_or_else(|| text_value("")))
        });
        Ok(Value::Map(Arc::new(pairs.collect())))
    });
    named(map, "get", |args| {
        let key = text(args, 1)?;
        Ok(entries(argument(args, 0)?)?.get(key.as_str()).cloned().unwrap_or_else(|| text_value("")))
    });
    named(map, "hasKey", |args| {
        let key = text(args, 1)?;
        Ok(Value::Bool(entries(argument(args, 0)?)?.contains_key(key.as_str())))
    });
    named(map, "keys", |args| {
        let entries = entries(argument(args, 0)?)?;
        Ok(Value::List(entries.keys().map(text_value).collect()))
    });
    named(map, "values", |args| {
        let entries = entries(argument(args, 0)?)?;
        Ok(Value::List(entries.values().cloned().collect()))
    });
}

fn entries(value: &Value) -> Result<&std::collections::BTreeMap<Arc<str>, Value>> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(wrong(format!("a {} is no map", other.type_name()))),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Missing, Order};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn rendered(text: &str) -> Result<String, String> {
        let order = Order {
            text: text.to_owned(),
            left: "{{".into(),
            right: "}}".into(),
            missing: Missing::Empty,
            env: BTreeMap::new(),
        };
        crate::template::helper::evaluate(&order, Arc::new(|_| Err("refused".to_owned())))
    }

    /// Covers: W57
    #[test]
    fn functions_of_sprig() {
        for (text, expected) in [
            ("{{ \"a\" | sprig_upper }}{{ sprig_lower \"B\" }}{{ sprig_title \"x y\" }}", "AbX Y"),
            ("{{ sprig_trim \" a \" }}{{ sprig_nospace \"b c\" }}{{ sprig_trimAll \"-\" \"-d-\" }}", "abcd"),
            (
                "{{ sprig_repeat 3 \"ab\" }} {{ sprig_trunc 2 \"abc\" }} {{ sprig_trunc -2 \"abc\" }} {{ sprig_substr 1 3 \"abcd\" }}",
                "ababab ab bc bc",
            ),
            (
                "{{ sprig_contains \"b\" \"abc\" }} {{ sprig_hasPrefix \"b\" \"abc\" }} {{ sprig_hasSuffix \"c\" \"abc\" }}",
                "true false true",
            ),
            (
                "{{ sprig_quote \"a\" 1 }} {{ sprig_squote \"a\" }} {{ sprig_cat \"x\" 2 }}",
                "\"a\" \"1\" 'a' x 2",
            ),
            ("{{ sprig_nindent 2 \"a\\nb\" }}", "\n  a\n  b"),
            (
                "{{ sprig_default \"d\" \"\" }}{{ sprig_default \"d\" \"v\" }}{{ sprig_coalesce \"\" 0 \"c\" }}{{ true | sprig_ternary \"y\" \"n\" }}",
                "dvcy",
            ),
            (
                "{{ sprig_add 1 2 3 }} {{ sprig_sub 5 2 }} {{ sprig_mul 2 3 }} {{ sprig_div 7 2 }} {{ sprig_mod 7 4 }} {{ sprig_max 1 9 2 }} {{ sprig_atoi \"42\" }}",
                "6 3 6 3 3 9 42",
            ),
            (
                "{{ range sprig_until 3 }}{{ . }}{{ end }}{{ range sprig_untilStep 2 8 3 }}{{ . }}{{ end }}",
                "01225",
            ),
            (
                "{{ $l := sprig_list 3 1 3 }}{{ sprig_first $l }}{{ sprig_last $l }}{{ sprig_rest $l | len }} {{ sprig_uniq $l | sprig_sortAlpha | sprig_join \",\" }} {{ sprig_has 1 $l }} {{ sprig_without $l 3 | len }}",
                "332 1,3 true 1",
            ),
            (
                "{{ $d := sprig_dict \"a\" 1 \"b\" \"x\" }}{{ $d.b }}{{ sprig_get $d \"a\" }}{{ sprig_hasKey $d \"z\" }}{{ sprig_keys $d | sprig_join \"+\" }}",
                "x1falsea+b",
            ),
            (
                "{{ sprig_concat (sprig_list 1) (sprig_list 2) | toJSON }}{{ sprig_splitList \",\" \"a,b\" | toJSON }}",
                "[1,2][\"a\",\"b\"]",
            ),
            ("{{ sprig_regexFind \"[0-9]+\" \"ab12\" }} {{ sprig_replace \"a\" \"b\" \"aa\" }}", "12 bb"),
            (
                "{{ \"{\\\"a\\\":1,\\\"b\\\":{\\\"c\\\":[\\\"x\\\",2.5]},\\\"d\\\":\\\"q\\\\\\\"t\\\"}\" | parseJSON | toTOML }}",
                "a = 1\nd = \"q\\\"t\"\n\n[b]\nc = [\"x\", 2.5]\n",
            ),
        ] {
            assert_eq!(rendered(text), Ok(expected.to_owned()), "{text}");
        }
        for (text, says) in [
            ("{{ sprig_repeat 100000000 \"ab\" }}", "more than 1 MiB"),
            ("{{ sprig_until 100000000 }}", "more than a million"),
            ("{{ sprig_div 1 0 }}", "division by zero"),
            ("{{ sprig_fail \"because\" }}", "because"),
            ("{{ sprig_env \"HOME\" }}", "sprig_env"),
        ] {
            let told = rendered(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
    }
}
