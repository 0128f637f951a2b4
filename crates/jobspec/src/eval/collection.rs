//! Reaching into collections: names, indexes, splats, and `for`.

use super::{Evaluator, Fallible, Scope};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{For, Step, StepKind};
use crate::value::{Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Follows `.name`, `[index]` and splats from a value.
pub(super) fn follow(evaluator: &Evaluator<'_>, start: Value, steps: &[Step], scope: &Scope) -> Fallible {
    let mut value = start;
    let mut rest = steps;
    while let Some((step, after)) = rest.split_first() {
        evaluator.step(step.span)?;
        value = match &step.kind {
            StepKind::Name(name) => get_name(&value, name, step.span)?,
            StepKind::Position(at) => get_index(&value, &Value::int(*at), step.span)?,
            StepKind::Index(expr) => {
                let key = evaluator.eval(expr, scope)?;
                get_index(&value, &key, expr.span)?
            }
            StepKind::AttrSplat | StepKind::FullSplat => {
                // `.*` carries only the names behind it along, `[*]` carries everything.
                let carried = if matches!(step.kind, StepKind::FullSplat) {
                    after.len()
                } else {
                    after
                        .iter()
                        .take_while(|step| matches!(step.kind, StepKind::Name(_) | StepKind::Position(_)))
                        .count()
                };
                let (inner, outer) = after.split_at(carried);
                rest = outer;
                let each = |item: &Value| follow(evaluator, item.clone(), inner, scope);
                value = match &value {
                    Value::Null => Value::list(Vec::new()),
                    Value::List(items) | Value::Set(items) => {
                        evaluator.bytes(step.span, items.len() * size_of::<Value>())?;
                        Value::list(items.iter().map(each).collect::<Fallible<_>>()?)
                    }
                    single => Value::list(vec![each(single)?]),
                };
                continue;
            }
        };
        rest = after;
    }
    Ok(value)
}

fn get_name(value: &Value, name: &str, span: Span) -> Fallible {
    match value {
        Value::Map(items) => items.get(name).cloned().ok_or_else(|| {
            let problem = Diagnostic::new(span, format!("this map has no element `{name}`"));
            Box::new(problem.nearest(name, items.keys().map(|key| &**key)))
        }),
        other => Err(Diagnostic::boxed(span, format!("{} has no element `{name}`", other.kind()))),
    }
}

/// An element of a list by position or of a map by key.
pub(crate) fn get_index(value: &Value, key: &Value, span: Span) -> Fallible {
    match value {
        Value::Map(_) => {
            let Some(name) = key.to_text() else {
                return Err(Diagnostic::boxed(
                    span,
                    format!("a map's key must be a string, this is {}", key.kind()),
                ));
            };
            get_name(value, &name, span)
        }
        Value::List(items) => {
            let Some(at) = key.to_number() else {
                return Err(Diagnostic::boxed(
                    span,
                    format!("a list's index must be a number, this is {}", key.kind()),
                ));
            };
            let found = at.to_int().and_then(|at| usize::try_from(at).ok()).and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| {
                Diagnostic::boxed(span, format!("the index {at} is outside this list of {}", items.len()))
            })
        }
        Value::Set(_) => Err(Box::new(
            Diagnostic::new(span, "a set has no positions").help("turn it into a list: sort(...)"),
        )),
        other => Err(Diagnostic::boxed(span, format!("{} cannot be indexed", other.kind()))),
    }
}

/// What a loop over a value sees: positions of lists, keys of maps in order, elements of sets twice.
pub(crate) fn pairs(value: &Value, span: Span) -> Fallible<Vec<(Value, Value)>> {
    match value {
        Value::List(items) => {
            Ok(items.iter().enumerate().map(|(at, item)| (Value::int(at as i128), item.clone())).collect())
        }
        Value::Set(items) => Ok(items.iter().map(|item| (item.clone(), item.clone())).collect()),
        Value::Map(items) => {
            Ok(items.iter().map(|(key, item)| (Value::String(key.clone()), item.clone())).collect())
        }
        other => Err(Box::new(
            Diagnostic::new(span, format!("{} cannot be looped over", other.kind()))
                .label("expected a list, set or map"),
        )),
    }
}

impl Evaluator<'_> {
    pub(super) fn for_expr(&self, each: &For, span: Span, scope: &Scope) -> Fallible {
        let collection = self.eval(&each.collection, scope)?;
        let mut list = Vec::new();
        let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        for (key, value) in pairs(&collection, each.collection.span)? {
            self.step(span)?;
            let mut inner = scope.clone();
            if let Some(name) = &each.key_name {
                inner = inner.with(name.as_str(), key);
            }
            let inner = inner.with(each.value_name.as_str(), value);
            if let Some(condition) = &each.condition {
                let decided = self.eval(condition, &inner)?;
                match decided.to_bool() {
                    Some(true) => {}
                    Some(false) => continue,
                    None => {
                        let text = format!("the condition is {}", decided.kind());
                        return Err(Box::new(Diagnostic::new(condition.span, text).label("expected a bool")));
                    }
                }
            }
            self.bytes(span, 4 * size_of::<Value>())?;
            let Some(key_expr) = &each.key else {
                list.push(self.eval(&each.value, &inner)?);
                continue;
            };
            let key = self.eval(key_expr, &inner)?;
            let Some(key) = key.to_text() else {
                return Err(Diagnostic::boxed(
                    key_expr.span,
                    format!("{} cannot be a map's key", key.kind()),
                ));
            };
            let value = self.eval(&each.value, &inner)?;
            if each.grouping {
                groups.entry(key).or_default().push(value);
            } else if let Some(_first) = map.insert(key.clone(), value) {
                return Err(Box::new(
                    Diagnostic::new(key_expr.span, format!("two elements have the key {key:?}"))
                        .help("write `...` after the value to group values by key"),
                ));
            }
        }
        Ok(match (&each.key, each.grouping) {
            (None, _) => Value::list(list),
            (Some(_), true) => {
                Value::map(groups.into_iter().map(|(key, items)| (key, Value::list(items))).collect())
            }
            (Some(_), false) => Value::map(map),
        })
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Number::Int(value as i128)
    }
}
