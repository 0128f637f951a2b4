//! Reading blocks: every argument and block is asked for by name once, and what nobody asked for is an error.

use crate::diagnostic::Diagnostic;
use crate::eval::{Evaluator, Scope};
use crate::model::{ConfigTree, Note};
use crate::source::Span;
use crate::support::{Feature, Support};
use crate::syntax::ast::{Attr, Block, Body, Expr, Key, Kind, Word};
use crate::value::{Number, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What all readers of a file share: the evaluator, and where problems and notes go.
pub(crate) struct Context<'a> {
    pub(crate) evaluator: &'a Evaluator<'a>,
    pub(crate) support: &'a Support,
    pub(crate) problems: RefCell<Vec<Diagnostic>>,
    pub(crate) notes: RefCell<Vec<Note>>,
}

/// Problems kept of one file; nobody reads more.
const MAX_PROBLEMS: usize = 1_000;

impl Context<'_> {
    fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    pub(crate) fn report(&self, problem: impl Into<Box<Diagnostic>>) {
        if !self.is_full() {
            self.problems.borrow_mut().push(*problem.into());
        }
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::new(span, message));
    }

    pub(crate) fn note(&self, span: Span, message: impl Into<String>) {
        self.notes.borrow_mut().push(Note { message: message.into(), span });
    }

    /// Refuses what the running version cannot do.
    pub(crate) fn uses(&self, feature: Feature, span: Span) {
        if !self.support.has(feature) {
            self.error(span, format!("this version does not run {} yet", feature.describe()));
        }
    }
}

/// A value with the place it was written at.
pub(crate) struct Found {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// One block's content, dynamic blocks expanded.
pub(crate) struct Reader<'c, 'a> {
    pub(crate) cx: &'c Context<'a>,
    /// `task`, `network`, ...: for messages.
    pub(crate) kind: String,
    /// The block's kind word.
    pub(crate) span: Span,
    labels: Vec<Word>,
    attrs: &'c [Attr],
    blocks: RefCell<Vec<Option<Reader<'c, 'a>>>>,
    scope: Scope,
    asked: RefCell<Asked>,
}

#[derive(Default)]
struct Asked {
    attrs: Vec<&'static str>,
    blocks: Vec<&'static str>,
}

impl<'c, 'a> Reader<'c, 'a> {
    pub(crate) fn new(cx: &'c Context<'a>, block: &'c Block, scope: Scope) -> Self {
        Reader::open(cx, block.kind.clone(), block.labels.clone(), &block.body, scope)
    }

    /// A whole file, as if it were one block.
    pub(crate) fn file(cx: &'c Context<'a>, body: &'c Body) -> Self {
        let kind = Word { text: "file".to_owned(), span: Span::default() };
        Reader::open(cx, kind, Vec::new(), body, Scope::default())
    }

    fn open(cx: &'c Context<'a>, kind: Word, labels: Vec<Word>, body: &'c Body, scope: Scope) -> Self {
        let mut blocks = Vec::new();
        for block in &body.blocks {
            if block.kind.text == "dynamic" {
                expand(cx, block, &scope, &mut blocks);
            } else {
                blocks.push(Some(Reader::new(cx, block, scope.clone())));
            }
        }
        Reader {
            cx,
            kind: kind.text,
            span: kind.span,
            labels,
            attrs: &body.attrs,
            blocks: RefCell::new(blocks),
            scope,
            asked: RefCell::default(),
        }
    }

    /// The single label, or a problem; the span is the label's.
    pub(crate) fn label(&self) -> Word {
        match self.labels.as_slice() {
            [label] if !label.text.is_empty() => label.clone(),
            [label] => {
                self.cx.error(label.span, format!("the name of this {} is empty", self.kind));
                label.clone()
            }
            [] => {
                self.cx.report(
                    Diagnostic::new(self.span, format!("this {} block has no name", self.kind))
                        .label(format!("expected {} \"name\" {{", self.kind)),
                );
                Word { text: String::new(), span: self.span }
            }
            [first, extra, ..] => {
                self.cx.error(extra.span, format!("a {} block has one name only", self.kind));
                first.clone()
            }
        }
    }

    /// A label that may be left out.
    pub(crate) fn optional_label(&self) -> Option<Word> {
        self.labels.first().cloned()
    }

    /// Reports labels of a block that takes none.
    pub(crate) fn no_label(&self) {
        if let Some(label) = self.labels.first() {
            self.cx.error(label.span, format!("a {} block takes no name", self.kind));
        }
    }

    /// Where an argument's value stands, else the block.
    pub(crate) fn place_of(&self, name: &str) -> Span {
        self.attrs.iter().find(|attr| attr.name.text == name).map_or(self.span, |attr| attr.value.span)
    }

    /// Whether an argument is written, even as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attrs.iter().any(|attr| attr.name.text == name)
    }

    pub(crate) fn value(&self, name: &'static str) -> Option<Found> {
        self.asked.borrow_mut().attrs.push(name);
        let attr = self.attrs.iter().find(|attr| attr.name.text == name)?;
        match self.cx.evaluator.eval_whole(&attr.value, &self.scope) {
            Ok(Value::Null) => None,
            Ok(value) => Some(Found { value, span: attr.value.span }),
            Err(problem) => {
                self.cx.report(problem);
                None
            }
        }
    }

    fn wrong<T>(&self, name: &str, found: &Found, wanted: &str) -> Option<T> {
        self.cx.report(
            Diagnostic::new(found.span, format!("`{name}` is {}", found.value.kind()))
                .label(format!("expected {wanted}")),
        );
        None
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        let found = self.value(name)?;
        match found.value.to_text() {
            Some(text) => Some(text.to_string()),
            None => self.wrong(name, &found, "a string"),
        }
    }

    /// Text that must be there and not be empty.
    pub(crate) fn required_text(&self, name: &'static str) -> String {
        match self.text(name) {
            Some(text) if !text.is_empty() => text,
            Some(_) => {
                self.cx.error(self.place_of(name), format!("`{name}` is empty"));
                String::new()
            }
            None => {
                if !self.has(name) {
                    self.cx.error(self.span, format!("this {} block needs `{name}`", self.kind));
                }
                String::new()
            }
        }
    }

    pub(crate) fn boolean(&self, name: &'static str) -> Option<bool> {
        let found = self.value(name)?;
        found.value.to_bool().or_else(|| self.wrong(name, &found, "true or false"))
    }

    pub(crate) fn flag(&self, name: &'static str) -> bool {
        self.boolean(name).unwrap_or(false)
    }

    /// A whole number within bounds.
    pub(crate) fn int(&self, name: &'static str, low: i64, high: i64) -> Option<i64> {
        let found = self.value(name)?;
        let Some(number) = found.value.to_number() else { return self.wrong(name, &found, "a whole number") };
        let int =
            number.to_int().and_then(|int| i64::try_from(int).ok()).filter(|int| (low..=high).contains(int));
        if int.is_none() {
            let wanted = match (number, high) {
                (Number::Float(_), _) => "a whole number".to_owned(),
                (_, i64::MAX) => format!("at least {low}"),
                _ => format!("{low} to {high}"),
            };
            self.cx.report(
                Diagnostic::new(found.span, format!("`{name}` is {number}"))
                    .label(format!("expected {wanted}")),
            );
        }
        int
    }

    pub(crate) fn count(&self, name: &'static str, low: u32, high: u32) -> Option<u32> {
        self.int(name, low.into(), high.into()).and_then(|int| u32::try_from(int).ok())
    }

    pub(crate) fn duration(&self, name: &'static str) -> Option<Duration> {
        let found = self.value(name)?;
        let parsed = match &found.value {
            Value::String(text) => crate::duration::parse(text),
            // A bare number is nanoseconds, as in Nomad's own JSON.
            Value::Number(Number::Int(nanos)) => u64::try_from(*nanos)
                .map(Duration::from_nanos)
                .map_err(|_| format!("the duration {nanos} is negative")),
            _ => return self.wrong(name, &found, "a duration such as \"30s\""),
        };
        match parsed {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.cx.error(found.span, format!("`{name}`: {message}"));
                None
            }
        }
    }

    pub(crate) fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        let found = self.value(name)?;
        let Some(items) = found.value.elements() else {
            return self.wrong(name, &found, "a list of strings");
        };
        let texts =
            items.iter().map(|item| item.to_text().map(|text| text.to_string())).collect::<Option<_>>();
        texts.or_else(|| self.wrong(name, &found, "a list of strings"))
    }

    /// A word out of a table, or a problem that names all of them.
    pub(crate) fn choice<T: Copy>(&self, name: &'static str, table: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = table.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = table.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.cx.report(
                Diagnostic::new(self.place_of(name), format!("`{name}` cannot be {text:?}"))
                    .label(format!("expected {}", words.join(", ")))
                    .nearest(&text, table.iter().map(|(word, _)| *word)),
            );
        }
        found
    }

    /// `env`, `meta`, ...: an argument with a map, or blocks whose arguments are the keys.
    pub(crate) fn text_map(&self, name: &'static str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        if let Some(found) = self.value(name) {
            match &found.value {
                Value::Map(items) => self.map_entries(name, items, found.span, &mut out),
                _ => {
                    self.wrong::<()>(name, &found, "a map of strings");
                }
            }
        }
        for block in self.take(name) {
            block.no_label();
            for attr in block.attrs {
                match self.cx.evaluator.eval_whole(&attr.value, &block.scope) {
                    Ok(Value::Null) => {}
                    Ok(value) => match value.to_text() {
                        Some(text) => {
                            out.insert(attr.name.text.clone(), text.to_string());
                        }
                        None => {
                            let found = Found { value, span: attr.value.span };
                            self.wrong::<()>(&attr.name.text, &found, "a string");
                        }
                    },
                    Err(problem) => self.cx.report(problem),
                }
            }
            for inner in block.blocks.borrow().iter().flatten() {
                self.cx
                    .error(inner.span, format!("a {name} block holds arguments only: {} = ...", inner.kind));
            }
        }
        out
    }

    fn map_entries(
        &self,
        name: &str,
        items: &BTreeMap<Arc<str>, Value>,
        span: Span,
        out: &mut BTreeMap<String, String>,
    ) {
        for (key, value) in items {
            match value.to_text() {
                Some(text) => {
                    out.insert(key.to_string(), text.to_string());
                }
                None if *value == Value::Null => {}
                None => self.cx.error(span, format!("`{name}`: the value of {key:?} is {}", value.kind())),
            }
        }
    }

    /// All blocks of a kind, in order. Each is handed out once.
    pub(crate) fn take(&self, kind: &'static str) -> Vec<Reader<'c, 'a>> {
        self.asked.borrow_mut().blocks.push(kind);
        let mut blocks = self.blocks.borrow_mut();
        blocks
            .iter_mut()
            .filter(|slot| slot.as_ref().is_some_and(|block| block.kind == kind))
            .filter_map(Option::take)
            .collect()
    }

    /// The block of a kind that may stand once.
    pub(crate) fn one(&self, kind: &'static str) -> Option<Reader<'c, 'a>> {
        let mut found = self.take(kind).into_iter();
        let first = found.next()?;
        for extra in found {
            self.cx.report(
                Diagnostic::new(extra.span, format!("a second `{kind}` block in this {}", self.kind))
                    .related(first.span, "the first one"),
            );
        }
        Some(first)
    }

    /// Blocks that only a cluster's scheduler reads: accepted, one note each.
    pub(crate) fn cluster_only(&self, kinds: &[&'static str]) {
        for kind in kinds {
            for block in self.take(kind) {
                self.cx.note(
                    block.span,
                    format!("`{kind}` only concerns a cluster and has no effect on one machine"),
                );
            }
        }
    }

    /// Arguments that only a cluster reads.
    pub(crate) fn ignored(&self, names: &[&'static str]) {
        for name in names {
            // Evaluated all the same, so that mistakes in them are found.
            self.value(name);
        }
    }

    /// Blocks that need a system that is not here.
    pub(crate) fn elsewhere(&self, kinds: &[(&'static str, &str)]) {
        for (kind, system) in kinds {
            for block in self.take(kind) {
                self.cx.error(
                    block.span,
                    format!("`{kind}` needs {system}, which one machine alone does not have"),
                );
            }
        }
    }

    /// Reports whatever was not asked for.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for attr in self.attrs {
            let name = attr.name.text.as_str();
            if asked.attrs.contains(&name) || self.cx.is_full() {
                continue;
            }
            let problem =
                Diagnostic::new(attr.name.span, format!("a {} block has no argument `{name}`", self.kind));
            let config = ["command", "args", "work_dir"];
            let misplaced =
                crate::diagnostic::nearest(name, config).or(config.into_iter().find(|key| *key == name));
            self.cx.report(if let (Some(key), "task") = (misplaced, self.kind.as_str()) {
                problem.help(format!("`{key}` belongs into the task's config block"))
            } else if asked.blocks.contains(&name) {
                problem.help(format!("`{name}` is a block: write {name} {{ ... }} without `=`"))
            } else {
                problem.nearest(name, asked.attrs.iter().chain(&asked.blocks).copied())
            });
        }
        for block in self.blocks.borrow().iter().flatten() {
            let name = block.kind.as_str();
            let problem = Diagnostic::new(block.span, format!("a {} block has no block `{name}`", self.kind));
            self.cx.report(if asked.attrs.contains(&name) {
                problem.help(format!("`{name}` is an argument: write {name} = ..."))
            } else {
                problem.nearest(name, asked.blocks.iter().chain(&asked.attrs).copied())
            });
        }
    }

    /// The whole block as a tree: arguments, and blocks as lists of maps, as Nomad passes a driver's config.
    pub(crate) fn tree(&self) -> ConfigTree {
        let mut items: Vec<(String, Span, ConfigTree)> = Vec::new();
        for attr in self.attrs {
            match self.cx.evaluator.eval_whole(&attr.value, &self.scope) {
                Ok(value) => {
                    items.push((attr.name.text.clone(), attr.name.span, spanned(&value, &attr.value)))
                }
                Err(problem) => self.cx.report(problem),
            }
        }
        for block in self.blocks.borrow().iter().flatten() {
            let mut tree = block.tree();
            for label in block.labels.iter().rev() {
                let list = ConfigTree::list(vec![tree], label.span);
                tree = ConfigTree::map(vec![(label.text.clone(), label.span, list)], label.span);
            }
            match items.iter_mut().find(|(name, ..)| *name == block.kind) {
                Some((_, _, list)) => {
                    if !list.push(tree) {
                        self.cx
                            .error(block.span, format!("`{}` is both an argument and a block", block.kind));
                    }
                }
                None => {
                    items.push((block.kind.clone(), block.span, ConfigTree::list(vec![tree], block.span)))
                }
            }
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        ConfigTree::map(items, self.span)
    }
}

/// Gives each part of a value the place of the part of the expression it came from.
fn spanned(value: &Value, expr: &Expr) -> ConfigTree {
    match (value, &expr.kind) {
        (_, Kind::Paren(inner)) => spanned(value, inner),
        (Value::List(items), Kind::Array(exprs)) if items.len() == exprs.len() => ConfigTree::list(
            items.iter().zip(exprs).map(|(item, expr)| spanned(item, expr)).collect(),
            expr.span,
        ),
        (Value::Map(items), Kind::Object(exprs)) => {
            let place = |name: &str| {
                exprs.iter().find_map(|(key, value)| match key {
                    Key::Word(word) if word.text == name => Some((word.span, value)),
                    _ => None,
                })
            };
            let items = items.iter().map(|(name, item)| match place(name) {
                Some((span, expr)) => (name.to_string(), span, spanned(item, expr)),
                None => (name.to_string(), expr.span, ConfigTree::from_value(item, expr.span)),
            });
            ConfigTree::map(items.collect(), expr.span)
        }
        _ => ConfigTree::from_value(value, expr.span),
    }
}

/// `dynamic "kind" { for_each, iterator, labels, content }`: one block per element.
fn expand<'c, 'a>(
    cx: &'c Context<'a>,
    block: &'c Block,
    scope: &Scope,
    out: &mut Vec<Option<Reader<'c, 'a>>>,
) {
    if let Err(problem) = try_expand(cx, block, scope, out) {
        cx.report(problem);
    }
}

fn try_expand<'c, 'a>(
    cx: &'c Context<'a>,
    block: &'c Block,
    scope: &Scope,
    out: &mut Vec<Option<Reader<'c, 'a>>>,
) -> Result<(), Box<Diagnostic>> {
    let at = block.kind.span;
    let [kind] = block.labels.as_slice() else {
        return Err(Box::new(
            Diagnostic::new(at, "a dynamic block needs the kind of block it makes")
                .label("expected dynamic \"task\" {"),
        ));
    };
    let attr = |name: &str| block.body.attrs.iter().find(|attr| attr.name.text == name);
    let known = ["for_each", "iterator", "labels"];
    if let Some(other) = block.body.attrs.iter().find(|attr| !known.contains(&attr.name.text.as_str())) {
        let message = format!("a dynamic block has no argument `{}`", other.name.text);
        return Err(Box::new(Diagnostic::new(other.name.span, message).nearest(&other.name.text, known)));
    }
    let [content] = block.body.blocks.as_slice() else {
        return Err(Diagnostic::boxed(at, "a dynamic block needs exactly one `content` block"));
    };
    if content.kind.text != "content" {
        return Err(Diagnostic::boxed(content.kind.span, "a dynamic block holds a `content` block only"));
    }
    let each = attr("for_each").ok_or_else(|| Diagnostic::boxed(at, "a dynamic block needs `for_each`"))?;
    let iterator = match attr("iterator").map(|attr| (&attr.value.kind, attr.value.span)) {
        None => kind.text.as_str(),
        Some((Kind::Variable(name), _)) => name.as_str(),
        Some((_, span)) => {
            return Err(Diagnostic::boxed(span, "the iterator is a plain name without quotes"));
        }
    };
    let items = cx.evaluator.eval_whole(&each.value, scope)?;
    for (key, value) in crate::eval::pairs(&items, each.value.span)? {
        cx.evaluator.budget.steps(16).map_err(|message| Diagnostic::boxed(at, message))?;
        let pair = BTreeMap::from([(Arc::from("key"), key), (Arc::from("value"), value)]);
        let inner = scope.with(iterator, Value::map(pair));
        let labels = match attr("labels") {
            None => Vec::new(),
            Some(attr) => {
                let value = cx.evaluator.eval_whole(&attr.value, &inner)?;
                let texts = value
                    .elements()
                    .and_then(|items| items.iter().map(Value::to_text).collect::<Option<Vec<_>>>());
                let texts = texts
                    .ok_or_else(|| Diagnostic::boxed(attr.value.span, "labels must be a list of strings"))?;
                texts.iter().map(|text| Word { text: text.to_string(), span: attr.value.span }).collect()
            }
        };
        out.push(Some(Reader::open(cx, kind.clone(), labels, &content.body, inner)));
    }
    Ok(())
}
