//! The output of a template with `env = true`: lines of `KEY=VALUE`, as Nomad reads them.

use std::collections::BTreeMap;

/// Reads variables.
///
/// # Errors
/// A sentence with the line.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| format!("line {}: {why}", at + 1);
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("no `=`: a line is KEY=VALUE"))?;
        let key = key.trim_end();
        let plain = !key.is_empty()
            && !key.starts_with(|c: char| c.is_ascii_digit())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b));
        if !plain {
            return Err(wrong(&format!("{key:?} is no name of a variable")));
        }
        all.insert(key.to_owned(), unquoted(value.trim()).map_err(wrong)?);
    }
    Ok(all)
}

fn unquoted(text: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut blank = true;
    while let Some(c) = chars.next() {
        match c {
            // A comment begins at the start or behind a blank.
            '#' if blank => {
                out.truncate(out.trim_end().len());
                break;
            }
            '\'' => loop {
                match chars.next() {
                    None => return Err("a single quote is not closed"),
                    Some('\'') => break,
                    Some(c) => out.push(c),
                }
            },
            '"' => double(&mut chars, &mut out)?,
            '\\' => out.push(chars.next().ok_or("a backslash at the end")?),
            c => out.push(c),
        }
        blank = c.is_whitespace();
    }
    if out.contains('\0') { Err("a NUL byte") } else { Ok(out) }
}

fn double(chars: &mut impl Iterator<Item = char>, out: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a double quote is not closed";
    loop {
        match chars.next().ok_or(OPEN)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(OPEN)? {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => {
                    let digits: String = chars.take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).map_err(|_| "a \\u without four digits")?;
                    out.push(char::from_u32(code).ok_or("a \\u that is no character")?);
                }
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// Covers: W57, CVE-2026-23953
    #[test]
    fn lines_are_read_as_nomad_reads_them() {
        let text = "# comment\n\nA=1\nexport B = two words # not this\r\nC='# $x \\n'\nD=\"a\\n\\\"b\\\" \\u00e4\"\nE=\nF=a=b\nG=a#b\nH='x'\"y\"z\n";
        let all = parse(text).unwrap();
        let get = |key: &str| all.get(key).map(String::as_str);
        assert_eq!((get("A"), get("B"), get("C")), (Some("1"), Some("two words"), Some("# $x \\n")));
        assert_eq!((get("D"), get("E"), get("F")), (Some("a\n\"b\" \u{e4}"), Some(""), Some("a=b")));
        assert_eq!((get("G"), get("H")), (Some("a#b"), Some("xyz")));
        for bad in [
            "novalue",
            "=x",
            "1A=x",
            "A B=x",
            "A='x",
            "A=\"x",
            "A=\"\\u12\"",
            "A=\0",
            "A=\"\\u0000\"",
            "A='\0' # x",
            "A=\"\0\" # x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("ok=1\nbad").unwrap_err().starts_with("line 2:"));
    }
}
