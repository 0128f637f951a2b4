//! Rust source read just far enough to count and check: comments, strings, test code, functions, matching braces.
//!
//! [`Source::code`] is the text with the same length in which comments are blank and the content of strings is
//! filled with quotes, so that a place in one is the same place in the other.

use anyhow::{Context, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file.
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// As written.
    pub(crate) text: String,
    /// Without comments and string contents, byte for byte as long as `text`.
    pub(crate) code: String,
    /// Bytes of `cfg(test)` items.
    test_items: Vec<Range<usize>>,
    /// Whether the whole file is a test.
    test_file: bool,
}

impl Source {
    /// Reads and scans a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::new(path.to_path_buf(), text))
    }

    /// Scans a text.
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let code = mask(&text);
        let test_file = path
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "benches")));
        let test_items = test_items(&code);
        Self { path, text, code, test_items, test_file }
    }

    /// Whether a program wrote this file: tools say so in its first lines.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "generated")
            || self.text.lines().take(3).any(|line| line.contains("@generated"))
    }

    /// Whether the file says what it is for before anything else.
    pub(crate) fn opens_with_its_purpose(&self) -> bool {
        self.text
            .lines()
            .find(|line| !line.trim().is_empty() && !line.starts_with("#!/"))
            .is_some_and(|line| line.starts_with("//!"))
    }

    /// Whether a byte belongs to test code.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.test_file || self.test_items.iter().any(|range| range.contains(&at))
    }

    /// The number of the line that holds a byte, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }

    /// Lines with code outside tests, and inside.
    pub(crate) fn code_lines(&self) -> (usize, usize) {
        let (mut product, mut test, mut at) = (0, 0, 0);
        for line in self.code.split('\n') {
            if !line.trim().is_empty() {
                if self.is_test(at) { test += 1 } else { product += 1 }
            }
            at += line.len() + 1;
        }
        (product, test)
    }

    /// Every place where a word stands as a word.
    pub(crate) fn words<'s>(&'s self, word: &'s str) -> impl Iterator<Item = usize> + 's {
        words(&self.code, word)
    }

    /// The next byte of code after a place that is not white space, with its place.
    pub(crate) fn next_byte(&self, from: usize) -> Option<(usize, u8)> {
        self.code.bytes().enumerate().skip(from).find(|(_, byte)| !byte.is_ascii_whitespace())
    }

    /// The lengths, from `fn` to closing brace, of all functions outside tests that have a body.
    pub(crate) fn functions(&self) -> Vec<usize> {
        self.words("fn")
            .filter(|&at| !self.is_test(at))
            .filter_map(|at| {
                let (_, next) = self.next_byte(at + 2)?;
                // `fn(` is a type.
                (next != b'(').then_some(())?;
                let open = body(&self.code, at)?;
                let close = matching(&self.code, open)?;
                Some(self.line_of(close) - self.line_of(at) + 1)
            })
            .collect()
    }

    /// Unsafe blocks: their lines, and whether a safety comment stands within the six lines above.
    pub(crate) fn unsafe_blocks(&self) -> Vec<(usize, bool)> {
        let lines: Vec<&str> = self.text.lines().collect();
        self.words("unsafe")
            .filter(|&at| self.next_byte(at + 6).is_some_and(|(_, byte)| byte == b'{'))
            .map(|at| {
                let line = self.line_of(at);
                let near = lines.get(line.saturating_sub(7)..line).unwrap_or_default();
                (line, near.iter().any(|text| text.contains("SAFETY:")))
            })
            .collect()
    }
}

/// Places of a word that is not part of a longer one.
pub(crate) fn words<'s>(code: &'s str, word: &'s str) -> impl Iterator<Item = usize> + 's {
    let inside = |byte: Option<&u8>| byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        !inside(at.checked_sub(1).and_then(|before| bytes.get(before))) && !inside(bytes.get(at + word.len()))
    })
}

/// The opening brace of the item that begins at a place; none if it ends in a semicolon.
fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at a place.
fn matching(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The ranges of items marked `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(test)]")
        .map(|(at, mark)| {
            let item = at + mark.len();
            let end = body(code, skip_attributes(code, item)).and_then(|open| matching(code, open));
            let semicolon =
                || code.bytes().enumerate().skip(item).find(|(_, byte)| *byte == b';').map(|(end, _)| end);
            at..end.or_else(semicolon).map_or(code.len(), |end| end + 1)
        })
        .collect()
}

/// Steps over `#[...]` after a place.
fn skip_attributes(code: &str, mut at: usize) -> usize {
    loop {
        let rest = code.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        if !trimmed.starts_with("#[") {
            return at;
        }
        match trimmed.find(']') {
            Some(end) => at += rest.len() - trimmed.len() + end + 1,
            None => return at,
        }
    }
}

/// Where the scanner is.
enum Inside {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// Blanks comments and fills strings; keeps length and line breaks.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let (fill, step) = match inside {
            Inside::Code => match enter(bytes, at) {
                Some((new, fill, step)) => {
                    inside = new;
                    (fill, step)
                }
                None if byte == b'\'' => (b'\'', character(bytes, at)),
                None => (byte, 1),
            },
            Inside::LineComment => {
                if byte == b'\n' {
                    inside = Inside::Code;
                }
                (b' ', 1)
            }
            Inside::BlockComment(depth) => match (byte, next) {
                (b'*', Some(b'/')) => {
                    inside = if depth == 1 { Inside::Code } else { Inside::BlockComment(depth - 1) };
                    (b' ', 2)
                }
                (b'/', Some(b'*')) => {
                    inside = Inside::BlockComment(depth + 1);
                    (b' ', 2)
                }
                _ => (b' ', 1),
            },
            Inside::Text => match byte {
                b'\\' => (b'"', 2),
                b'"' => {
                    inside = Inside::Code;
                    (b'"', 1)
                }
                _ => (b'"', 1),
            },
            Inside::RawText(hashes) => {
                let closes = byte == b'"'
                    && bytes.get(at + 1..at + 1 + hashes).is_some_and(|end| end.iter().all(|&b| b == b'#'));
                if closes {
                    inside = Inside::Code;
                }
                (b'"', if closes { 1 + hashes } else { 1 })
            }
        };
        for &original in bytes.get(at..at + step).unwrap_or_default() {
            out.push(if original == b'\n' { b'\n' } else { fill });
        }
        at += step;
    }
    out.resize(bytes.len(), b' ');
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether something else than code begins here: what, how it is shown, how many bytes open it.
fn enter(bytes: &[u8], at: usize) -> Option<(Inside, u8, usize)> {
    let rest = bytes.get(at..)?;
    let in_word = at
        .checked_sub(1)
        .and_then(|before| bytes.get(before))
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    match rest {
        [b'/', b'/', ..] => Some((Inside::LineComment, b' ', 2)),
        [b'/', b'*', ..] => Some((Inside::BlockComment(1), b' ', 2)),
        [b'"', ..] => Some((Inside::Text, b'"', 1)),
        [b'b' | b'c', b'"', ..] if !in_word => Some((Inside::Text, b'"', 2)),
        [b'r', ..] | [b'b' | b'c', b'r', ..] if !in_word => {
            let prefix = if rest.first() == Some(&b'r') { 1 } else { 2 };
            let hashes = rest.iter().skip(prefix).take_while(|&&b| b == b'#').count();
            (rest.get(prefix + hashes) == Some(&b'"')).then_some((
                Inside::RawText(hashes),
                b'"',
                prefix + hashes + 1,
            ))
        }
        _ => None,
    }
}

/// The length of a character literal, or 1 for the tick of a lifetime.
fn character(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1..) {
        Some([b'\\', ..]) => bytes.iter().skip(at + 3).position(|&b| b == b'\'').map_or(1, |end| end + 4),
        Some(rest) => rest
            .iter()
            .take(5)
            .position(|&b| b == b'\'')
            .filter(|&end| end == 1 || rest.first().is_some_and(|b| !b.is_ascii()))
            .map_or(1, |end| end + 2),
        None => 1,
    }
}

/// Every Rust file below a folder but for build outputs, sorted.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
            if kind.is_dir() {
                let hidden = name.to_str().is_some_and(|name| name.starts_with('.'));
                // A fuzz target's corpus and artifacts are not ours to read either.
                if !hidden && !matches!(name.to_str(), Some("target" | "corpus" | "artifacts")) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/x.rs".into(), text.to_owned())
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "let a = \"unsafe { \\\" }\"; // unsafe {\n/* fn /* x */ */ let b = r#\"fn \"}\"# ; let c = '\"'; let d: &'a str = b\"}\";\n";
        let source = source(text);
        assert_eq!(source.code.len(), text.len());
        assert!(
            !source.code.contains("unsafe") && !source.code.contains("fn") && !source.code.contains('}'),
            "{}",
            source.code
        );
        assert!(source.code.contains("let c =") && source.code.contains("&'a str"), "{}", source.code);
        assert_eq!(source.code_lines(), (2, 0));
    }

    #[test]
    fn tests_are_counted_apart() {
        let source = source(
            "fn a() {\n}\n\n#[cfg(test)]\n#[rustfmt::skip]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n",
        );
        assert_eq!(source.code_lines(), (3, 5));
        assert_eq!(source.functions().len(), 2);
        assert_eq!(Source::new("crates/x/tests/y.rs".into(), "fn a() {}\n".into()).code_lines(), (0, 1));
    }

    #[test]
    fn functions_are_measured_by_their_braces() {
        let source = source(
            "type F = fn(u8);\nfn long(a: [u8; 4])\nwhere\n    u8: Copy,\n{\n    if true { '{' };\n}\ntrait T { fn none(&self); }\n",
        );
        assert_eq!(source.functions(), [6]);
    }

    #[test]
    fn an_unsafe_block_wants_its_reason_near() {
        let source = source(
            "// SAFETY: because\nlet a = unsafe { x() };\n\n\n\n\n\n\n\nlet b = unsafe { y() };\nunsafe fn z() {}\n",
        );
        assert_eq!(source.unsafe_blocks(), [(2, true), (10, false)]);
    }

    #[test]
    fn the_first_line_says_what_a_file_is() {
        assert!(source("\n//! A file.\n").opens_with_its_purpose());
        assert!(!source("use std::io;\n//! A file.\n").opens_with_its_purpose());
        assert!(!source("").opens_with_its_purpose());
    }
}
