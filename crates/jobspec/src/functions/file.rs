//! File functions: only what the caller's [`FileAccess`](crate::FileAccess) shows.

use super::encoding::base64;
use super::{Answer, Call, Function, row};
use crate::files::FileAccess;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    row("abspath", "abspath(path)", 1, 1, |call| {
        let path = call.text(0)?;
        let full = files(call)?.absolute(&path).map_err(|message| call.bad(0, message))?;
        call.give(full)
    }),
    row("basename", "basename(path)", 1, 1, |call| {
        let path = call.text(0)?;
        let short = path.trim_end_matches('/');
        call.give(match (short.rsplit('/').next(), path.is_empty()) {
            (_, true) => ".",
            (Some(""), _) | (None, _) => "/",
            (Some(name), _) => name,
        })
    }),
    row("dirname", "dirname(path)", 1, 1, |call| {
        let path = call.text(0)?;
        call.give(match path.rsplit_once('/') {
            None => ".",
            Some((folder, _)) if folder.trim_end_matches('/').is_empty() => "/",
            Some((folder, _)) => folder.trim_end_matches('/'),
        })
    }),
    row("file", "file(path)", 1, 1, |call| {
        let bytes = read(call)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| call.bad(0, "the file is not UTF-8 text; use filebase64"))?;
        call.give(text)
    }),
    row("filebase64", "filebase64(path)", 1, 1, |call| {
        let bytes = read(call)?;
        call.charge(bytes.len() * 4 / 3)?;
        call.give(base64(&bytes))
    }),
    row("fileexists", "fileexists(path)", 1, 1, |call| {
        let path = call.text(0)?;
        files(call)?.exists(&path).map(Value::Bool).map_err(|message| call.bad(0, message))
    }),
    row("fileset", "fileset(folder, pattern)", 2, 2, fileset),
    row("pathexpand", "pathexpand(path)", 1, 1, |call| {
        let path = call.text(0)?;
        let Some(rest) = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))
        else {
            return call.give(path);
        };
        let home = files(call)?.home().ok_or_else(|| call.bad(0, "there is no home directory"))?;
        call.give(format!("{home}{rest}"))
    }),
];

fn files<'a>(call: &Call<'a>) -> Answer<&'a dyn FileAccess> {
    call.host.files.ok_or_else(|| "file functions are not allowed here".into())
}

fn read(call: &Call<'_>) -> Answer<Vec<u8>> {
    let path = call.text(0)?;
    let bytes = files(call)?.read(&path).map_err(|message| call.bad(0, message))?;
    call.charge(bytes.len())?;
    Ok(bytes)
}

fn fileset(call: &Call<'_>) -> Answer {
    let (folder, pattern) = (call.text(0)?, call.text(1)?);
    let names = files(call)?.list(&folder).map_err(|message| call.bad(0, message))?;
    let mut out = Vec::new();
    for name in names {
        call.budget.steps(pattern.len() / 4 + 1)?;
        if matches(&pattern, &name, call)? {
            out.push(Value::text(name));
        }
    }
    call.charge(out.len() * 64)?;
    Ok(Value::set(out))
}

/// `**` for any folders, `*` and `?` within a name, `{a,b}` for alternatives.
fn matches(pattern: &str, name: &str, call: &Call<'_>) -> Answer<bool> {
    let mut regex = String::from("^(?s:");
    let mut depth = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                regex.push_str(if chars.next_if_eq(&'/').is_some() { "(?:.*/)?" } else { ".*" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            c => regex.push_str(&regex_lite::escape(&c.to_string())),
        }
    }
    regex.push_str(")$");
    let regex =
        regex_lite::Regex::new(&regex).map_err(|_| call.bad(1, format!("{pattern:?} is not a pattern")))?;
    Ok(regex.is_match(name))
}
