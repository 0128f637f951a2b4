//! What is wrong in a job file, where, and what to do: collected, sorted, shown with the line and a caret.

use crate::source::{Sources, Span, floor_boundary};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::sync::Arc;

/// More than this many errors of one run are counted, not shown.
const SHOWN: usize = 50;
/// Lines longer than this are not printed.
const MAX_LINE: usize = 400;

/// One problem: a sentence, the place, what was expected there, and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, naming its object.
    pub message: String,
    /// Where; `None` only for what comes from no file (a variable given on the command line).
    pub span: Option<Span>,
    /// Text beside the caret: what was expected. May be empty.
    pub label: String,
    /// What to do, one sentence each.
    pub help: Vec<String>,
    /// Other places that matter, each with a word on why.
    pub related: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Diagnostic {
            message: message.into(),
            span: Some(span),
            label: String::new(),
            help: Vec::new(),
            related: Vec::new(),
        }
    }

    /// A problem that belongs to no file.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Diagnostic { span: None, ..Diagnostic::new(Span::default(), message) }
    }

    pub(crate) fn boxed(span: Span, message: impl Into<String>) -> Box<Self> {
        Box::new(Diagnostic::new(span, message))
    }

    /// Adds the text beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn related(mut self, span: Span, why: impl Into<String>) -> Self {
        self.related.push((span, why.into()));
        self
    }

    /// Adds "did you mean" if a known name is near `wrong`.
    #[must_use]
    pub fn nearest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// Everything wrong with the input of one run, in the order of the text.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    sources: Arc<Sources>,
}

impl Diagnostics {
    /// Problems, and the texts that their places point into.
    pub fn new(mut items: Vec<Diagnostic>, sources: Arc<Sources>) -> Self {
        items.sort_by_key(|item| item.span);
        items.dedup();
        Diagnostics { items, sources }
    }

    /// The problems, sorted by place.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// The texts that the spans point into.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// All problems with their lines and carets; `colour` adds terminal colours.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for item in self.items.iter().take(SHOWN) {
            out.push_str(&render_one(&renderer, item, &self.sources));
            out.push_str("\n\n");
        }
        out.truncate(out.trim_end().len());
        if self.items.len() > SHOWN {
            out.push_str(&format!("\n\n... and {} more errors", self.items.len() - SHOWN));
        }
        out.push('\n');
        out
    }
}

/// Plain text, one problem a line: `file:line:column: message`, advice indented below.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.items.iter().take(SHOWN).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match item.span {
                Some(span) => write!(f, "{}: {}", self.sources.place(span), item.message)?,
                None => write!(f, "{}", item.message)?,
            }
            if !item.label.is_empty() {
                write!(f, " ({})", item.label)?;
            }
            for help in &item.help {
                write!(f, "\n  help: {help}")?;
            }
        }
        if self.items.len() > SHOWN {
            write!(f, "\n... and {} more errors", self.items.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The line of a span's start, its number, and the span within that line.
fn line_of(sources: &Sources, span: Span) -> (&str, usize, std::ops::Range<usize>) {
    let (_, text) = sources.file(span.file);
    let at = floor_boundary(text, span.start as usize);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = after.find('\n').map_or(text.len(), |stop| at + stop);
    let line = text.get(start..end).unwrap_or("").trim_end_matches('\r');
    let from = (at - start).min(line.len());
    let mut to = floor_boundary(line, (span.end as usize).saturating_sub(start)).max(from);
    if to == from {
        to = line.get(from..).and_then(|rest| rest.chars().next()).map_or(from, |c| from + c.len_utf8());
    }
    (line, before.bytes().filter(|byte| *byte == b'\n').count() + 1, from..to)
}

fn render_one(renderer: &Renderer, item: &Diagnostic, sources: &Sources) -> String {
    let mut group = Group::with_title(Level::ERROR.primary_title(clean(&item.message)));
    let main = item.span.map(|span| (span, item.label.clone(), AnnotationKind::Primary));
    let more = item.related.iter().map(|(span, why)| (*span, why.clone(), AnnotationKind::Context));
    for (span, label, kind) in main.into_iter().chain(more) {
        let (line, number, range) = line_of(sources, span);
        let (name, _) = sources.file(span.file);
        let (line, range) = if line.len() > MAX_LINE { ("(a very long line)", 0..0) } else { (line, range) };
        let annotation = kind.span(range);
        let annotation = if label.is_empty() { annotation } else { annotation.label(clean(&label)) };
        group = group.element(Snippet::source(line).line_start(number).path(name).annotation(annotation));
    }
    for help in &item.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    renderer.render(&[group])
}

/// Control characters from a job file must not reach a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The known name that is nearest to `wrong`, if any is near enough to be meant.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > 64 {
        return None;
    }
    let limit = wrong.chars().count().div_ceil(3).min(3);
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(far, name)| *far <= limit && name != &wrong)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut cost = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *b && *a == right[j - 1] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("comand", ["command", "args"]), Some("command"));
        assert_eq!(nearest("atrgs", ["command", "args"]), Some("args"));
        assert_eq!(nearest("xyz", ["command", "args"]), None);
        assert_eq!(nearest("", ["a"]), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
