//! YAML to values: the parser's events, one document, aliases expanded within the budget.

use super::{Answer, Call, Problem};
use crate::value::{Number, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::TScalarStyle;

/// Deepest nesting, as for job files themselves.
const MAX_DEPTH: usize = 60;

/// A collection that is not complete yet.
enum Open {
    List(Vec<Value>),
    Map { items: BTreeMap<Arc<str>, Value>, key: Option<Arc<str>> },
}

#[derive(Default)]
struct Builder {
    open: Vec<(usize, Open)>,
    anchors: HashMap<usize, Value>,
    document: Option<Value>,
}

/// Decodes one document.
pub(super) fn decode(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    call.charge(text.len() * 8)?;
    let wrong = |message: String| call.bad(0, format!("this is not YAML: {message}"));
    // Its loader recurses; its events do not.
    let mut parser = Parser::new_from_str(&text);
    let mut builder = Builder::default();
    loop {
        let (event, at) = parser.next_token().map_err(|error| wrong(error.to_string()))?;
        match event {
            Event::StreamEnd => return Ok(builder.document.unwrap_or(Value::Null)),
            Event::DocumentStart if builder.document.is_some() => {
                return Err(wrong("only one document can be a value".into()));
            }
            event => builder.take(call, event).map_err(|problem| {
                wrong(format!("{} at line {} column {}", problem.message, at.line(), at.col() + 1))
            })?,
        }
    }
}

impl Builder {
    fn take(&mut self, call: &Call<'_>, event: Event) -> Answer<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_ref())?;
                self.put(anchor, value)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Open::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, Open::Map { items: BTreeMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((anchor, open)) = self.open.pop() else { return Ok(()) };
                self.put(
                    anchor,
                    match open {
                        Open::List(items) => Value::list(items),
                        Open::Map { items, .. } => Value::map(items),
                    },
                )
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or("an alias of what is not complete yet")?;
                // An alias of aliases of aliases: what it stands for is paid for, although it is shared here.
                call.budget.weigh(&value)?;
                self.put(0, value)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, open: Open) -> Answer<()> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nesting is deeper than {MAX_DEPTH} levels").into());
        }
        self.open.push((anchor, open));
        Ok(())
    }

    fn put(&mut self, anchor: usize, value: Value) -> Answer<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|(_, open)| open) {
            None => self.document = Some(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map { items, key }) => match key.take() {
                None => *key = Some(value.to_text().ok_or("a key that is no text")?),
                Some(name) if &*name == "<<" => merge(items, value)?,
                Some(name) => {
                    items.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// The merge key: what is written beside it wins.
fn merge(items: &mut BTreeMap<Arc<str>, Value>, value: Value) -> Answer<()> {
    match value {
        Value::Map(others) => {
            for (key, item) in others.iter() {
                items.entry(Arc::clone(key)).or_insert_with(|| item.clone());
            }
            Ok(())
        }
        Value::List(all) => all.iter().try_for_each(|one| merge(items, one.clone())),
        _ => Err("`<<` needs a map".into()),
    }
}

/// A plain scalar is what it looks like (YAML 1.2's core schema), a quoted one is text; a tag decides.
fn scalar(text: &str, style: TScalarStyle, tag: Option<&Tag>) -> Answer {
    let core = tag.filter(|tag| tag.handle == "tag:yaml.org,2002:").map(|tag| tag.suffix.as_str());
    let number = || Number::parse(text).map(Value::Number);
    match core {
        Some("str") => return Ok(Value::text(text)),
        Some("int" | "float") => {
            return number().ok_or_else(|| Problem::from(format!("{text:?} is no number")));
        }
        _ if style != TScalarStyle::Plain => return Ok(Value::text(text)),
        _ => {}
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let based = |prefix: &str, radix| {
                text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
            };
            match based("0x", 16).or_else(|| based("0o", 8)) {
                Some(int) => Value::int(int),
                None => number().unwrap_or_else(|| Value::text(text)),
            }
        }
    })
}
