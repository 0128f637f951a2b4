//! Whether the blocks of a template are balanced: the engine would accept `{{ if true }}x` without a word.

/// Words that open a block, and those that only a block may hold.
const OPENING: [&str; 5] = ["if", "range", "with", "block", "define"];

/// Checks that each block has its end.
///
/// # Errors
/// A sentence with the line.
pub fn check(text: &str, left: &str, right: &str) -> Result<(), String> {
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some((before, after)) = rest.split_once(left) {
        line += before.matches('\n').count();
        let (action, behind) =
            action(after, right).ok_or_else(|| format!("line {line}: an action is not closed by {right}"))?;
        let word = action.trim_start_matches('-').trim_start();
        let word = word.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        match word {
            "end" => {
                open.pop().ok_or_else(|| format!("line {line}: `end` without a block"))?;
            }
            "else" if !open.last().is_some_and(|(word, _)| matches!(*word, "if" | "range" | "with")) => {
                return Err(format!("line {line}: `else` without if, range or with"));
            }
            _ => {
                if let Some(opening) = OPENING.iter().find(|opening| **opening == word) {
                    open.push((opening, line));
                }
            }
        }
        line += action.matches('\n').count();
        rest = behind;
    }
    match open.pop() {
        Some((word, line)) => Err(format!("line {line}: `{word}` has no `end`")),
        None => Ok(()),
    }
}

/// The content of an action, up to the closing delimiter outside of quotes and comments, and what is behind it.
pub(super) fn action<'a>(text: &'a str, right: &str) -> Option<(&'a str, &'a str)> {
    let start = text.strip_prefix('-').map_or(text, str::trim_start).trim_start();
    if start.starts_with("/*") {
        let skipped = text.len() - start.len();
        let end = skipped + start.find("*/")?;
        let close = end + text.get(end..)?.find(right)?;
        return Some((text.get(..close)?, text.get(close + right.len()..)?));
    }
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        if let Some(behind) = rest.strip_prefix(right) {
            return Some((text.get(..at)?, behind));
        }
        at += quoted(rest)?;
    }
}

/// The length of what a text begins with: something quoted with its quotes, or one character. `None` at the end, and where
/// a quote is not closed.
pub(super) fn quoted(text: &str) -> Option<usize> {
    let mut all = text.char_indices();
    let (_, quote) = all.next()?;
    if !matches!(quote, '"' | '\'' | '`') {
        return Some(quote.len_utf8());
    }
    let mut escaped = false;
    for (at, c) in all {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn blocks_must_be_balanced() {
        for good in [
            "",
            "x",
            "{{ if true }}x{{ else if false }}y{{ else }}z{{ end }}",
            "{{- range .x -}}{{ end }}",
            "{{ \"}}\" }}",
            "{{/* if }} */}}",
            "{{ `{{ if` }}",
            "{{ define \"a\" }}{{ end }}{{ '\\'' }}",
            "{{ endpoint }}",
        ] {
            assert_eq!(check(good, "{{", "}}"), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("a{{end}}b", "line 1: `end` without a block"),
            ("\n{{if true}}x", "line 2: `if` has no `end`"),
            ("{{else}}", "line 1: `else` without if, range or with"),
            ("{{ define \"x\" }}{{ else }}{{ end }}", "line 1: `else` without if, range or with"),
            ("x {{ y", "line 1: an action is not closed by }}"),
            ("{{ \"}}", "line 1: an action is not closed by }}"),
        ] {
            assert_eq!(check(bad, "{{", "}}"), Err(text.to_owned()), "{bad}");
        }
        assert_eq!(check("<% if x %>{{", "<%", "%>"), Err("line 1: `if` has no `end`".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{|\\}\\}|if|end|else|[\"'` \u{e4}-]|/\\*|\\*/){0,20}") {
            let _ = check(&text, "{{", "}}");
        }
    }
}
