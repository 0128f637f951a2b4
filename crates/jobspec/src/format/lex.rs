//! Text to tokens. The text has been parsed before: what cannot be there is taken as a plain word.

/// What a token is, as far as the white space around it depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line break.
    Newline,
    /// A comment, without the line break that ends it.
    Comment,
    /// A name, keyword or number.
    Word,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// An operator or `,`.
    Operator,
    /// `"` where a quoted text begins.
    QuoteOpen,
    /// Text within quotes.
    Literal,
    /// `"` where it ends.
    QuoteClose,
    /// `${`, `%{`, with `~` or without.
    SequenceOpen,
    /// `}` or `~}` of a sequence.
    SequenceClose,
    /// The first line of a heredoc with its line break; literals and sequences follow, the last of them ends it.
    Heredoc,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

/// All tokens but white space.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { rest: text, out: Vec::new(), open: Vec::new() };
    lexer.run();
    lexer.out
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Heredoc,
    Quote,
    Sequence,
    Bracket,
}

struct Lexer<'a> {
    rest: &'a str,
    out: Vec<Token<'a>>,
    open: Vec<Within>,
}

/// Operators of more than one character; `*.` is the splat between two dots.
const OPERATORS: [&str; 10] = ["...", "=>", "==", "!=", "<=", ">=", "&&", "||", "::", "*."];

impl<'a> Lexer<'a> {
    fn take(&mut self, kind: Kind, length: usize) {
        let (text, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.out.push(Token { kind, text });
    }

    fn run(&mut self) {
        while !self.rest.is_empty() {
            match self.open.last() {
                Some(Within::Quote) => self.literal(b'"'),
                // No byte ends it: its text was cut out beforehand.
                Some(Within::Heredoc) => self.literal(0),
                _ => self.plain(),
            }
        }
    }

    /// Text up to a sequence or to the byte that ends it.
    fn literal(&mut self, end: u8) {
        let mut length = 0;
        let bytes = self.rest.as_bytes();
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        while length < bytes.len() {
            match (at(length), at(length + 1), at(length + 2)) {
                (b'\\', ..) if end != 0 => length += 2,
                (b'$', b'$', b'{') | (b'%', b'%', b'{') => length += 3,
                (byte, ..) if byte == end => break,
                (b'$' | b'%', b'{', _) => break,
                _ => length += 1,
            }
        }
        if length > 0 {
            self.take(Kind::Literal, floor(self.rest, length));
        }
        if end != 0 && self.rest.bytes().next() == Some(end) {
            self.take(Kind::QuoteClose, 1);
            self.open.pop();
        } else if !self.rest.is_empty() {
            let length = if self.rest.get(2..3) == Some("~") { 3 } else { 2 };
            self.take(Kind::SequenceOpen, length);
            self.open.push(Within::Sequence);
        }
    }

    fn plain(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().unwrap_or(' ');
        let until_line_end = rest.find('\n').unwrap_or(rest.len());
        match first {
            '\n' => self.take(Kind::Newline, 1),
            _ if first.is_whitespace() => self.rest = rest.get(first.len_utf8()..).unwrap_or(""),
            '#' => self.take(Kind::Comment, rest.get(..until_line_end).unwrap_or("").trim_end().len()),
            '/' if rest.starts_with("//") => {
                self.take(Kind::Comment, rest.get(..until_line_end).unwrap_or("").trim_end().len());
            }
            '/' if rest.starts_with("/*") => {
                self.take(Kind::Comment, rest.find("*/").map_or(rest.len(), |at| at + 2));
            }
            '<' if rest.starts_with("<<") => self.heredoc(),
            '"' => {
                self.take(Kind::QuoteOpen, 1);
                self.open.push(Within::Quote);
            }
            '(' | '[' | '{' => {
                self.take(Kind::Open, 1);
                self.open.push(Within::Bracket);
            }
            '~' if rest.starts_with("~}") && self.open.last() == Some(&Within::Sequence) => {
                self.take(Kind::SequenceClose, 2);
                self.open.pop();
            }
            ')' | ']' | '}' => {
                let kind = match self.open.pop() {
                    Some(Within::Sequence) => Kind::SequenceClose,
                    _ => Kind::Close,
                };
                self.take(kind, 1);
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let is_number = first.is_ascii_digit();
                let end = rest.find(|c: char| {
                    !(c.is_alphanumeric() || c == '_' || c == '-' && !is_number || c == '.' && is_number)
                });
                self.take(Kind::Word, end.unwrap_or(rest.len()));
            }
            _ => {
                let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
                let length = operator.map_or(first.len_utf8(), |operator| operator.len());
                self.take(Kind::Operator, length);
            }
        }
    }

    fn heredoc(&mut self) {
        let (whole, rest) = self.rest.split_at_checked(heredoc(self.rest)).unwrap_or((self.rest, ""));
        let (first, body) = whole.split_at(whole.find('\n').map_or(whole.len(), |at| at + 1));
        self.out.push(Token { kind: Kind::Heredoc, text: first });
        let mut inner = Lexer { rest: body, out: Vec::new(), open: vec![Within::Heredoc] };
        inner.run();
        self.out.append(&mut inner.out);
        self.rest = rest;
    }
}

/// Length of a heredoc up to the end of its last line, without that line's break.
fn heredoc(text: &str) -> usize {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or("");
    let word = first.trim_start_matches('<').trim_start_matches('-').trim();
    let mut length = first.len();
    for line in lines {
        if line.trim() == word {
            return length + line.trim_end_matches(['\n', '\r']).len();
        }
        length += line.len();
    }
    length
}

fn floor(text: &str, length: usize) -> usize {
    crate::source::floor_boundary(text, length)
}
