//! Source texts with their names, spans into them, and the limits a text must keep before it is parsed.

use crate::diagnostic::Diagnostic;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest accepted job or variable file in bytes, as Nomad's own limit for stored job sources.
pub const MAX_BYTES: usize = 1 << 20;
/// Largest number of items (values, assignments, blocks, operators) in one file.
const MAX_ITEMS: usize = 60_000;
/// Largest number of assignments directly within one pair of braces.
const MAX_KEYS: usize = 5_000;
/// Deepest nesting of brackets, braces, parentheses and template sequences.
const MAX_DEPTH: usize = 60;

/// A piece of one source text: half-open byte range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub(crate) file: u16,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The smallest span that holds both; `other` must lie in the same text to count.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A place for people: file, line and column, both counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Name of the file as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One text given by the caller.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// Name shown in messages.
    pub name: String,
    /// The bytes as read.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// A text from memory.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        SourceFile { name: name.into(), bytes: bytes.into() }
    }
}

/// All texts that spans of one job point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    /// Checks a text (size, encoding) and adds it; the text is kept in any case so that errors can show it.
    ///
    /// # Errors
    /// The first thing wrong with the text as a whole.
    pub(crate) fn add(&mut self, file: &SourceFile) -> Result<u16, Box<Diagnostic>> {
        let id = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        if file.bytes.len() > MAX_BYTES {
            self.files.push((file.name.clone(), String::new()));
            return Err(Diagnostic::boxed(
                Span { file: id, start: 0, end: 0 },
                format!("{} is larger than {} KiB", file.name, MAX_BYTES / 1024),
            ));
        }
        match std::str::from_utf8(&file.bytes) {
            Ok(text) => {
                self.files.push((file.name.clone(), text.to_owned()));
                check_text(id, text)?;
            }
            Err(error) => {
                let at = error.valid_up_to() as u32;
                let utf16 = file.bytes.starts_with(&[0xff, 0xfe]) || file.bytes.starts_with(&[0xfe, 0xff]);
                self.files.push((file.name.clone(), String::from_utf8_lossy(&file.bytes).into_owned()));
                let span = Span { file: id, start: at, end: at + 1 };
                let mut problem = Diagnostic::new(span, format!("{} is not UTF-8 text", file.name));
                if utf16 {
                    problem = problem.help("the file looks like UTF-16: save it as UTF-8");
                }
                return Err(Box::new(problem));
            }
        }
        Ok(id)
    }

    /// Text and name of a file.
    pub(crate) fn file(&self, id: u16) -> (&str, &str) {
        self.files.get(usize::from(id)).map_or(("", ""), |(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text a span covers; empty if the span points nowhere.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file).1.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Where a span begins.
    pub fn place(&self, span: Span) -> Place {
        let (name, text) = self.file(span.file);
        let before = text.get(..floor_boundary(text, span.start as usize)).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            file: name.to_owned(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }
}

/// The nearest character boundary at or before `at`.
pub(crate) fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while at > 0 && !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Refuses texts that a recursive parser or a tree in memory could not bear.
fn check_text(file: u16, text: &str) -> Result<(), Box<Diagnostic>> {
    let fail = |at: usize, message: String| {
        Err(Diagnostic::boxed(Span { file, start: at as u32, end: at as u32 + 1 }, message))
    };
    if text.starts_with('\u{feff}') {
        let problem =
            Diagnostic::new(Span { file, start: 0, end: 3 }, "the file begins with a byte order mark");
        return Err(Box::new(problem.help("save the file as UTF-8 without a byte order mark")));
    }
    if let Some(at) = text.find('\0') {
        return fail(at, "the file contains a NUL byte".into());
    }
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, items: 0, open: Vec::new() };
    match scan.run() {
        Ok(()) => Ok(()),
        Err(Excess::Depth) => fail(scan.at, format!("nesting is deeper than {MAX_DEPTH} levels")),
        Err(Excess::Items) => fail(scan.at, format!("the file holds more than {MAX_ITEMS} items")),
        Err(Excess::Keys) => {
            fail(scan.at, format!("more than {MAX_KEYS} assignments within one pair of braces"))
        }
    }
}

enum Excess {
    Depth,
    Items,
    Keys,
}

/// A coarse walk over the text: it knows strings, comments and heredocs just well enough to count.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
    /// Open brackets with the number of assignments directly inside; `"` stands for an open quote.
    open: Vec<(u8, usize)>,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn run(&mut self) -> Result<(), Excess> {
        while self.at < self.bytes.len() {
            if self.open.last().is_some_and(|(byte, _)| *byte == b'"') {
                self.quoted()?;
            } else {
                self.plain()?;
            }
            self.at += 1;
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), Excess> {
        match (self.peek(0), self.peek(1), self.peek(2)) {
            (b'\\', _, _) => self.at += 1,
            (b'$', b'$', b'{') | (b'%', b'%', b'{') => self.at += 2,
            (b'$' | b'%', b'{', _) => {
                self.at += 1;
                self.push(b'{')?;
            }
            (b'"', _, _) => {
                self.open.pop();
            }
            _ => {}
        }
        Ok(())
    }

    fn plain(&mut self) -> Result<(), Excess> {
        match (self.peek(0), self.peek(1)) {
            (b'"', _) => self.push(b'"')?,
            (b'{' | b'[' | b'(', _) => self.push(self.peek(0))?,
            (b'}' | b']' | b')', _) => {
                self.open.pop();
            }
            (b'#', _) | (b'/', b'/') => self.skip_until(b'\n'),
            (b'/', b'*') => {
                let rest = self.bytes.get(self.at + 2..).unwrap_or(&[]);
                self.at += rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 3);
            }
            (b'<', b'<') => self.heredoc(),
            (b'=' | b':', _) => {
                self.item()?;
                if let Some((_, keys)) = self.open.last_mut() {
                    *keys += 1;
                    if *keys > MAX_KEYS {
                        return Err(Excess::Keys);
                    }
                }
            }
            (b',' | b'.' | b'?' | b'+' | b'-' | b'*' | b'/' | b'!' | b'<' | b'>' | b'&' | b'|', _) => {
                self.item()?
            }
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self) -> Result<(), Excess> {
        self.items += 1;
        if self.items > MAX_ITEMS { Err(Excess::Items) } else { Ok(()) }
    }

    fn push(&mut self, byte: u8) -> Result<(), Excess> {
        self.item()?;
        self.open.push((byte, 0));
        if self.open.len() > MAX_DEPTH { Err(Excess::Depth) } else { Ok(()) }
    }

    fn skip_until(&mut self, byte: u8) {
        while self.at < self.bytes.len() && self.peek(0) != byte {
            self.at += 1;
        }
    }

    /// Skips a heredoc's text; what looks like one but is not closed is left to the parser.
    fn heredoc(&mut self) {
        let start = self.at + 2 + usize::from(self.peek(2) == b'-');
        let line = self.bytes.get(start..).unwrap_or(&[]);
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else { return };
        let word = line.get(..end).unwrap_or(&[]).trim_ascii();
        if word.is_empty() {
            return;
        }
        let body = line.get(end + 1..).unwrap_or(&[]);
        let mut offset = start + end + 1;
        for row in body.split(|byte| *byte == b'\n') {
            if row.trim_ascii_start().starts_with(word) {
                self.at = offset + row.len().saturating_sub(row.trim_ascii_start().len()) + word.len() - 1;
                return;
            }
            // Each interpolation inside costs as much as one outside.
            self.items += row.windows(2).filter(|pair| *pair == b"${" || *pair == b"%{").count();
            offset += row.len() + 1;
        }
        self.at = self.bytes.len();
    }
}
