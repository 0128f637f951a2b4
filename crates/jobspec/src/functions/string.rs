//! Functions on text.

use super::{Answer, Call, Function, MANY, row};
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    row("chomp", "chomp(string)", 1, 1, |call| call.give(call.text(0)?.trim_end_matches(['\n', '\r']))),
    row("indent", "indent(spaces, string)", 2, 2, indent),
    row("join", "join(separator, lists...)", 2, MANY, join),
    row("lower", "lower(string)", 1, 1, |call| call.give(call.text(0)?.to_lowercase())),
    row("regex_replace", "regex_replace(string, pattern, replacement)", 3, 3, regex_replace),
    row("replace", "replace(string, old, new)", 3, 3, replace),
    row("reverse", "reverse(string)", 1, 1, reverse),
    row("split", "split(separator, string)", 2, 2, split),
    row("strlen", "strlen(string)", 1, 1, |call| Ok(Value::int(call.text(0)?.chars().count() as i128))),
    row("strrev", "strrev(string)", 1, 1, reverse),
    row("substr", "substr(string, offset, length)", 3, 3, substr),
    row("title", "title(string)", 1, 1, title),
    row("trim", "trim(string, characters)", 2, 2, |call| {
        let cut = call.text(1)?;
        call.give(call.text(0)?.trim_matches(|c| cut.contains(c)))
    }),
    row("trimprefix", "trimprefix(string, prefix)", 2, 2, |call| {
        let text = call.text(0)?;
        call.give(text.strip_prefix(&*call.text(1)?).unwrap_or(&text))
    }),
    row("trimspace", "trimspace(string)", 1, 1, |call| call.give(call.text(0)?.trim())),
    row("trimsuffix", "trimsuffix(string, suffix)", 2, 2, |call| {
        let text = call.text(0)?;
        call.give(text.strip_suffix(&*call.text(1)?).unwrap_or(&text))
    }),
    row("upper", "upper(string)", 1, 1, |call| call.give(call.text(0)?.to_uppercase())),
];

fn indent(call: &Call<'_>) -> Answer {
    let spaces =
        usize::try_from(call.int(0)?).map_err(|_| call.bad(0, "the indentation must not be negative"))?;
    let text = call.text(1)?;
    let lines = text.matches('\n').count();
    call.charge(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    call.give(text.replace('\n', &format!("\n{}", " ".repeat(if lines == 0 { 0 } else { spaces }))))
}

fn join(call: &Call<'_>) -> Answer {
    let separator = call.text(0)?;
    let mut items = Vec::new();
    for at in 1..call.args.len() {
        items.extend(call.texts(at)?);
    }
    let size = items.iter().map(|item| item.len() + separator.len()).sum();
    call.charge(size)?;
    let mut out = String::with_capacity(size);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(&separator);
        }
        out.push_str(item);
    }
    call.give(out)
}

fn replace(call: &Call<'_>) -> Answer {
    let (text, old, new) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(&*old).count() };
    call.charge(text.len().saturating_add(found.saturating_mul(new.len())))?;
    call.give(text.replace(&*old, &new))
}

fn regex_replace(call: &Call<'_>) -> Answer {
    let (text, pattern, new) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let regex = compile(call, &pattern, 1, text.len())?;
    // Counted before it is built: every match may grow by the whole replacement (and what it captures).
    let found = regex.find_iter(&text).count();
    let captured = new.matches('$').count().saturating_mul(text.len());
    call.charge(text.len().saturating_add(found.saturating_mul(new.len().saturating_add(captured))))?;
    call.give(regex.replace_all(&text, &*new))
}

/// Compiles a pattern and charges what matching a text of `length` bytes may cost.
fn compile(call: &Call<'_>, pattern: &str, at: usize, length: usize) -> Answer<regex_lite::Regex> {
    let regex = regex_lite::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    let regex = regex.map_err(|error| call.bad(at, format!("{pattern:?} is not a pattern: {error}")))?;
    call.budget.steps(pattern.len().saturating_mul(length) / 64 + 1)?;
    Ok(regex)
}

fn reverse(call: &Call<'_>) -> Answer {
    call.give(call.text(0)?.chars().rev().collect::<String>())
}

fn split(call: &Call<'_>) -> Answer {
    let (separator, text) = (call.text(0)?, call.text(1)?);
    let count = if separator.is_empty() { text.len() } else { text.matches(&*separator).count() };
    call.charge(text.len() + (count + 1) * 2 * size_of::<Value>())?;
    if text.is_empty() {
        return Ok(Value::list(vec![Value::text("")]));
    }
    if separator.is_empty() {
        return call.give_list(text.chars().map(|c| Value::text(c.to_string())).collect());
    }
    call.give_list(text.split(&*separator).map(Value::text).collect())
}

fn substr(call: &Call<'_>) -> Answer {
    let (text, offset, length) = (call.text(0)?, call.int(1)?, call.int(2)?);
    let count = text.chars().count() as i64;
    let start = if offset < 0 { (count + offset).max(0) } else { offset.min(count) };
    let take = if length < 0 { count - start } else { length.min(count - start) };
    let part: String = text.chars().skip(start as usize).take(take.max(0) as usize).collect();
    call.give(part)
}

fn title(call: &Call<'_>) -> Answer {
    let mut out = String::new();
    let mut inside = false;
    for c in call.text(0)?.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_';
    }
    call.give(out)
}
