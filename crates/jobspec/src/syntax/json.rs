//! JSON job files: HCL's JSON syntax. Which names are blocks, and with how many labels, JSON cannot say: a table does.
//!
//! Texts may hold `${...}` as in HCL. Places in messages are those of the JSON text.

use super::ast::{Attr, Block, Body, Expr, Key, Kind, Literal, Word};
use super::parse_template;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Blocks with a name.
const NAMED: [&str; 10] =
    ["job", "group", "task", "port", "volume", "variable", "secret", "action", "device", "dynamic"];
/// Blocks without one. The same name with a value that is no object is an argument.
#[rustfmt::skip]
const PLAIN: [&str; 45] = [
    "affinity", "artifact", "change_script", "check", "check_restart", "cni", "config", "connect", "constraint",
    "consul", "content", "cron", "csi_plugin", "disconnect", "dispatch_payload", "dns", "ephemeral_disk", "header",
    "identity", "lifecycle", "locals", "logs", "migrate", "mount_options", "multiregion", "network", "numa",
    "parameterized", "periodic", "reschedule", "resources", "restart", "scaling", "schedule", "service", "spread",
    "template", "ui", "update", "validation", "variables", "vault", "volume_mount", "wait", "weights",
];
/// Blocks whose content is arguments only, whatever their names.
const LEAVES: [&str; 6] = ["config", "locals", "variables", "env", "meta", "options"];

/// Parses a whole JSON text as a file's body.
///
/// # Errors
/// The first syntax error, or every name that stands twice.
pub(super) fn parse(file: u16, text: &str) -> Result<Body, Vec<Diagnostic>> {
    let mut parser = Parser { file, text, at: 0 };
    let value = parser.document().map_err(|problem| vec![*problem])?;
    let mut problems = Vec::new();
    let Kind::Object(items) = value.kind else {
        return Err(vec![Diagnostic::new(value.span, "a JSON job file is one object: { \"job\": { ... } }")]);
    };
    if let Some((Key::Word(word), _)) = items.iter().find(
        |(key, _)| matches!(key, Key::Word(word) if ["Job", "TaskGroups"].contains(&word.text.as_str())),
    ) {
        let problem = Diagnostic::new(word.span, "this is a job as Nomad's HTTP interface writes it");
        return Err(vec![
            problem
                .help("Bivouac reads HCL and HCL's JSON: { \"job\": { \"name\": { \"group\": { ... } } } }"),
        ]);
    }
    let body = body(items, Content::Blocks, &mut problems);
    if problems.is_empty() { Ok(body) } else { Err(problems) }
}

/// What the names in an object can be.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    /// Arguments and blocks.
    Blocks,
    /// Arguments only.
    Arguments,
}

fn body(items: Vec<(Key, Expr)>, content: Content, problems: &mut Vec<Diagnostic>) -> Body {
    let mut out = Body::default();
    let mut seen: Vec<Word> = Vec::new();
    for (key, value) in items {
        let Key::Word(name) = key else { continue };
        // "//" is the comment of HCL's JSON.
        if name.text == "//" {
            continue;
        }
        if let Some(first) = seen.iter().find(|word| word.text == name.text) {
            let problem = Diagnostic::new(name.span, format!("`{}` stands twice in this object", name.text));
            problems.push(problem.related(first.span, "the first time"));
            continue;
        }
        seen.push(name.clone());
        let named = NAMED.contains(&name.text.as_str());
        let plain = PLAIN.contains(&name.text.as_str());
        if content == Content::Blocks && (named || plain) && is_blocks(&value) {
            blocks(&name, value, Labels::of(named), &mut out.blocks, problems);
        } else {
            out.attrs.push(Attr { name, value });
        }
    }
    out
}

/// Whether a block has a name in quotes before its brace.
#[derive(Clone, Copy, PartialEq)]
enum Labels {
    One,
    None,
}

impl Labels {
    fn of(named: bool) -> Labels {
        if named { Labels::One } else { Labels::None }
    }
}

/// An object, or a list of objects and nothing else.
fn is_blocks(value: &Expr) -> bool {
    let is_object = |value: &Expr| matches!(value.kind, Kind::Object(_));
    match &value.kind {
        Kind::Object(_) => true,
        Kind::Array(all) => !all.is_empty() && all.iter().all(is_object),
        _ => false,
    }
}

/// One block for each object; with labels, one for each object of each name.
fn blocks(kind: &Word, value: Expr, labels: Labels, out: &mut Vec<Block>, problems: &mut Vec<Diagnostic>) {
    let objects = match value.kind {
        Kind::Array(all) => all,
        _ => vec![value],
    };
    for object in objects {
        let Kind::Object(items) = object.kind else { continue };
        if labels == Labels::One {
            for (key, value) in items {
                let Key::Word(label) = key else { continue };
                if !is_blocks(&value) {
                    let message = format!("the {} {:?} must be an object", kind.text, label.text);
                    problems.push(Diagnostic::new(value.span, message));
                    continue;
                }
                let first = out.len();
                blocks(kind, value, Labels::None, out, problems);
                for block in out.iter_mut().skip(first) {
                    block.labels = vec![label.clone()];
                }
            }
        } else {
            let leaf = LEAVES.contains(&kind.text.as_str());
            let content = if leaf { Content::Arguments } else { Content::Blocks };
            let body = body(items, content, problems);
            out.push(Block { kind: kind.clone(), labels: Vec::new(), body });
        }
    }
}

/// A JSON text with a place in it. Depth and number of items have been checked before (see `source`).
struct Parser<'a> {
    file: u16,
    text: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

impl Parser<'_> {
    fn document(&mut self) -> Parsed<Expr> {
        let value = self.value()?;
        self.skip();
        if self.at < self.text.len() { Err(self.wrong("the end of the file")) } else { Ok(value) }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn span(&self, from: usize) -> Span {
        Span { file: self.file, start: from as u32, end: self.at as u32 }
    }

    fn wrong(&self, wanted: &str) -> Box<Diagnostic> {
        let span = Span { file: self.file, start: self.at as u32, end: self.at as u32 + 1 };
        Diagnostic::boxed(span, format!("this is not JSON: expected {wanted}"))
    }

    fn skip(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn eat(&mut self, word: &str) -> bool {
        self.skip();
        let there = self.rest().starts_with(word);
        if there {
            self.at += word.len();
        }
        there
    }

    fn value(&mut self) -> Parsed<Expr> {
        self.skip();
        let from = self.at;
        let kind = match self.rest().bytes().next() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => self.template()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ if self.eat("null") => Kind::Null,
            _ if self.eat("true") => Kind::Bool(true),
            _ if self.eat("false") => Kind::Bool(false),
            _ => return Err(self.wrong("a value")),
        };
        Ok(Expr { span: self.span(from), kind })
    }

    fn object(&mut self) -> Parsed<Kind> {
        self.at += 1;
        let mut items = Vec::new();
        if self.eat("}") {
            return Ok(Kind::Object(items));
        }
        loop {
            self.skip();
            let from = self.at;
            if !self.rest().starts_with('"') {
                return Err(self.wrong("a name in quotes"));
            }
            let text = self.string()?;
            let word = Word { text, span: self.span(from) };
            if !self.eat(":") {
                return Err(self.wrong("`:`"));
            }
            items.push((Key::Word(word), self.value()?));
            if self.eat("}") {
                return Ok(Kind::Object(items));
            }
            if !self.eat(",") {
                return Err(self.wrong("`,` or `}`"));
            }
        }
    }

    fn array(&mut self) -> Parsed<Kind> {
        self.at += 1;
        let mut items = Vec::new();
        if self.eat("]") {
            return Ok(Kind::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.eat("]") {
                return Ok(Kind::Array(items));
            }
            if !self.eat(",") {
                return Err(self.wrong("`,` or `]`"));
            }
        }
    }

    /// A quoted text; what it means is a matter of `serde_json`.
    fn string(&mut self) -> Parsed<String> {
        let mut end = None;
        let mut escaped = false;
        for (at, byte) in self.rest().bytes().enumerate().skip(1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        let token =
            end.and_then(|end| self.rest().get(..end)).ok_or_else(|| self.wrong("the end of the text"))?;
        let text = serde_json::from_str(token).map_err(|error| self.wrong(&format!("a text ({error})")))?;
        self.at += token.len();
        Ok(text)
    }

    fn template(&mut self) -> Parsed<Kind> {
        let from = self.at;
        let text = self.string()?;
        if !text.contains("${") && !text.contains("%{") {
            return Ok(Kind::String(text));
        }
        let parts = parse_template(self.file, from as u32 + 1, &text);
        let parts = parts.map_err(|problems| problems.into_iter().next().map(Box::new));
        parts.map(Kind::Template).map_err(|problem| problem.unwrap_or_else(|| self.wrong("a template")))
    }

    fn number(&mut self) -> Parsed<Kind> {
        let of_a_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let length = self.rest().find(|c| !of_a_number(c)).unwrap_or(self.rest().len());
        let token = self.rest().get(..length).unwrap_or("");
        let number: serde_json::Number =
            serde_json::from_str(token).map_err(|error| self.wrong(&format!("a number ({error})")))?;
        self.at += length;
        let int = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
        Ok(Kind::Number(match int {
            Some(int) => Literal::Int(int),
            None => Literal::Float(number.as_f64().unwrap_or(0.0)),
        }))
    }
}
