//! `variable`, `variables` and `locals`: declarations, values by precedence, and the order of locals.

use crate::diagnostic::Diagnostic;
use crate::eval::{Budget, Evaluator, Fallible, Names, Scope};
use crate::functions::Host;
use crate::source::{Sources, Span};
use crate::syntax::ast::{Attr, Block, Body, Expr, Key, Kind, Part, StepKind};
use crate::value::Value;
use crate::variables::{Type, VariableSources};
use std::collections::{BTreeMap, BTreeSet};

/// Names that expressions of a job may use.
#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) vars: BTreeMap<String, Value>,
    pub(crate) locals: BTreeMap<String, Value>,
    /// Values of variables marked `sensitive`.
    pub(crate) sensitive: Vec<String>,
}

struct Declared<'b> {
    kind: Type,
    default: Option<Value>,
    sensitive: bool,
    validations: Vec<(&'b Expr, String)>,
    span: Span,
}

struct Reading<'a> {
    sources: &'a mut Sources,
    budget: &'a Budget,
    host: &'a Host<'a>,
    problems: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn keep<T>(&mut self, result: Fallible<T>) -> Option<T> {
        result.map_err(|problem| self.problems.push(*problem)).ok()
    }

    fn eval(&self, names: Names<'_>, expr: &Expr) -> Fallible {
        let evaluator = Evaluator { names, sources: self.sources, budget: self.budget, host: self.host };
        evaluator.eval_whole(expr, &Scope::default())
    }
}

/// Reads declarations and gives every variable its value.
pub(crate) fn read_inputs(
    body: &Body,
    given: &VariableSources,
    sources: &mut Sources,
    budget: &Budget,
    host: &Host<'_>,
) -> Result<Inputs, Vec<Diagnostic>> {
    let mut reading = Reading { sources, budget, host, problems: Vec::new() };
    let declared = declarations(&mut reading, body);
    let values = given_values(&mut reading, given, &declared);
    let mut inputs = Inputs::default();
    for (name, variable) in &declared {
        let Some(value) = values.get(name).cloned().or_else(|| variable.default.clone()) else {
            reading.problems.push(
                Diagnostic::new(variable.span, format!("the variable `{name}` has no value"))
                    .help(format!("give it a default, or a value with -var {name}=... or NOMAD_VAR_{name}")),
            );
            continue;
        };
        if variable.sensitive
            && let Some(text) = value.to_text()
        {
            inputs.sensitive.push(text.to_string());
        }
        inputs.vars.insert(name.clone(), value);
    }
    if reading.problems.is_empty() {
        validate(&mut reading, &declared, &inputs);
        read_locals(&mut reading, body, &mut inputs);
    }
    if reading.problems.is_empty() { Ok(inputs) } else { Err(reading.problems) }
}

fn declarations<'b>(reading: &mut Reading<'_>, body: &'b Body) -> BTreeMap<String, Declared<'b>> {
    let mut declared: BTreeMap<String, Declared<'b>> = BTreeMap::new();
    for block in &body.blocks {
        let found = match block.kind.text.as_str() {
            "variable" => declaration(reading, block).into_iter().collect(),
            "variables" => {
                block.body.attrs.iter().filter_map(|attr| shorthand(reading, attr)).collect::<Vec<_>>()
            }
            _ => continue,
        };
        for (name, variable) in found {
            if let Some(first) = declared.get(&name) {
                let problem =
                    Diagnostic::new(variable.span, format!("the variable `{name}` is declared twice"));
                reading.problems.push(problem.related(first.span, "the first time"));
            } else {
                declared.insert(name, variable);
            }
        }
    }
    declared
}

/// `variables { name = default }`.
fn shorthand<'b>(reading: &mut Reading<'_>, attr: &Attr) -> Option<(String, Declared<'b>)> {
    let result = reading.eval(Names::Constants, &attr.value);
    let default = reading.keep(result)?;
    let span = attr.name.span;
    let declared =
        Declared { kind: Type::Any, default: Some(default), sensitive: false, validations: Vec::new(), span };
    Some((attr.name.text.clone(), declared))
}

fn declaration<'b>(reading: &mut Reading<'_>, block: &'b Block) -> Option<(String, Declared<'b>)> {
    const KNOWN: [&str; 5] = ["type", "default", "description", "sensitive", "validation"];
    let [label] = block.labels.as_slice() else {
        reading.problems.push(
            Diagnostic::new(block.kind.span, "a variable block needs one name")
                .label("expected variable \"name\" {"),
        );
        return None;
    };
    let mut kind = Type::Any;
    if let Some(attr) = block.body.attrs.iter().find(|attr| attr.name.text == "type") {
        kind = reading.keep(Type::read(&attr.value)).unwrap_or(Type::Any);
    }
    let mut declared =
        Declared { kind, default: None, sensitive: false, validations: Vec::new(), span: label.span };
    for attr in &block.body.attrs {
        match attr.name.text.as_str() {
            "type" => {}
            "default" => {
                let result = reading.eval(Names::Constants, &attr.value).and_then(|value| {
                    let value = declared.kind.convert(&value);
                    value.map_err(|message| {
                        Diagnostic::boxed(attr.value.span, format!("the default: {message}"))
                    })
                });
                // A bad default is one error, not also a missing value.
                declared.default = Some(reading.keep(result).unwrap_or(Value::Null));
            }
            "description" | "sensitive" => {
                let result = reading.eval(Names::Constants, &attr.value);
                let value = reading.keep(result);
                if attr.name.text == "sensitive" {
                    declared.sensitive = value.and_then(|value| value.to_bool()).unwrap_or(false);
                }
            }
            other => {
                let problem =
                    Diagnostic::new(attr.name.span, format!("a variable block has no argument `{other}`"));
                reading.problems.push(problem.nearest(other, KNOWN));
            }
        }
    }
    for inner in &block.body.blocks {
        if inner.kind.text != "validation" {
            let message = format!("a variable block has no block `{}`", inner.kind.text);
            reading.problems.push(Diagnostic::new(inner.kind.span, message).nearest(&inner.kind.text, KNOWN));
            continue;
        }
        let attr = |name: &str| inner.body.attrs.iter().find(|attr| attr.name.text == name);
        match (attr("condition"), attr("error_message")) {
            (Some(condition), Some(message)) => {
                let result = reading.eval(Names::Constants, &message.value);
                let text = reading.keep(result).and_then(|value| value.to_text()).unwrap_or_default();
                declared.validations.push((&condition.value, text.to_string()));
            }
            _ => reading.problems.push(Diagnostic::new(
                inner.kind.span,
                "a validation block needs `condition` and `error_message`",
            )),
        }
    }
    Some((label.text.clone(), declared))
}

/// Values from outside, the strongest last.
fn given_values(
    reading: &mut Reading<'_>,
    given: &VariableSources,
    declared: &BTreeMap<String, Declared<'_>>,
) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for (name, text) in &given.environment {
        if let Some(variable) = declared.get(name)
            && let Some(value) = from_text(reading, name, text, variable, &format!("NOMAD_VAR_{name}"))
        {
            values.insert(name.clone(), value);
        }
    }
    for file in &given.files {
        for (name, value, span) in file_values(reading, file) {
            let Some(variable) = declared.get(&name) else {
                let problem = Diagnostic::new(span, format!("the job file declares no variable `{name}`"));
                reading.problems.push(problem.nearest(&name, declared.keys().map(String::as_str)));
                continue;
            };
            match variable.kind.convert(&value) {
                Ok(value) => {
                    values.insert(name, value);
                }
                Err(message) => {
                    let problem = Diagnostic::new(span, format!("variable `{name}`: {message}"));
                    reading.problems.push(problem.related(variable.span, "declared here"));
                }
            }
        }
    }
    for (name, text) in &given.arguments {
        let Some(variable) = declared.get(name) else {
            let problem =
                Diagnostic::nowhere(format!("-var {name}=...: the job file declares no variable `{name}`"));
            reading.problems.push(problem.nearest(name, declared.keys().map(String::as_str)));
            continue;
        };
        if let Some(value) = from_text(reading, name, text, variable, &format!("-var {name}")) {
            values.insert(name.clone(), value);
        }
    }
    values
}

fn from_text(
    reading: &mut Reading<'_>,
    name: &str,
    text: &str,
    variable: &Declared<'_>,
    origin: &str,
) -> Option<Value> {
    let value = if variable.kind.is_plain() {
        Value::text(text)
    } else {
        let file = crate::source::SourceFile::new(format!("<{origin}>"), text);
        let id = match reading.sources.add(&file) {
            Ok(id) => id,
            Err(problem) => {
                reading.problems.push(*problem);
                return None;
            }
        };
        match crate::syntax::parse_expr(id, 0, text) {
            Ok(expr) => {
                let result = reading.eval(Names::Constants, &expr);
                reading.keep(result)?
            }
            Err(problems) => {
                reading.problems.extend(problems);
                return None;
            }
        }
    };
    match variable.kind.convert(&value) {
        Ok(value) => Some(value),
        Err(message) => {
            let problem = Diagnostic::nowhere(format!("{origin}: variable `{name}`: {message}"));
            reading.problems.push(problem.related(variable.span, "declared here"));
            None
        }
    }
}

fn file_values(reading: &mut Reading<'_>, file: &crate::source::SourceFile) -> Vec<(String, Value, Span)> {
    let id = match reading.sources.add(file) {
        Ok(id) => id,
        Err(problem) => {
            reading.problems.push(*problem);
            return Vec::new();
        }
    };
    let start = Span { file: id, start: 0, end: 0 };
    if file.name.ends_with(".json") {
        return match serde_json::from_slice::<serde_json::Value>(&file.bytes) {
            Ok(serde_json::Value::Object(items)) => {
                items.iter().map(|(name, value)| (name.clone(), Value::from_json(value), start)).collect()
            }
            Ok(_) => {
                reading.problems.push(Diagnostic::new(start, "a variable file must hold a JSON object"));
                Vec::new()
            }
            Err(error) => {
                reading.problems.push(Diagnostic::new(start, format!("this is not JSON: {error}")));
                Vec::new()
            }
        };
    }
    let body = match crate::syntax::parse_file(reading.sources, id) {
        Ok(body) => body,
        Err(problems) => {
            reading.problems.extend(problems);
            return Vec::new();
        }
    };
    for block in &body.blocks {
        reading
            .problems
            .push(Diagnostic::new(block.kind.span, "a variable file holds `name = value` lines only"));
    }
    let mut out = Vec::new();
    for attr in &body.attrs {
        let result = reading.eval(Names::Constants, &attr.value);
        if let Some(value) = reading.keep(result) {
            out.push((attr.name.text.clone(), value, attr.value.span));
        }
    }
    out
}

fn validate(reading: &mut Reading<'_>, declared: &BTreeMap<String, Declared<'_>>, inputs: &Inputs) {
    let none = BTreeMap::new();
    for (name, variable) in declared {
        for (condition, message) in &variable.validations {
            let result = reading.eval(Names::Job { vars: &inputs.vars, locals: &none }, condition);
            match reading.keep(result).map(|value| value.to_bool()) {
                Some(Some(false)) => {
                    let problem = Diagnostic::new(
                        variable.span,
                        format!("the variable `{name}` is not valid: {message}"),
                    );
                    reading.problems.push(problem.related(condition.span, "this must hold"));
                }
                Some(None) => {
                    let problem = Diagnostic::new(condition.span, "the condition is neither true nor false");
                    reading.problems.push(problem);
                }
                _ => {}
            }
        }
    }
}

/// Evaluates locals so that each comes after those it uses.
fn read_locals(reading: &mut Reading<'_>, body: &Body, inputs: &mut Inputs) {
    let mut waiting: BTreeMap<&str, &Attr> = BTreeMap::new();
    for block in body.blocks.iter().filter(|block| block.kind.text == "locals") {
        for inner in &block.body.blocks {
            reading
                .problems
                .push(Diagnostic::new(inner.kind.span, "a locals block holds `name = value` lines only"));
        }
        for attr in &block.body.attrs {
            if let Some(first) = waiting.insert(&attr.name.text, attr) {
                let message = format!("the local value `{}` is defined twice", attr.name.text);
                let problem =
                    Diagnostic::new(attr.name.span, message).related(first.name.span, "the first time");
                reading.problems.push(problem);
            }
        }
    }
    let needs: BTreeMap<&str, BTreeSet<String>> = waiting
        .iter()
        .map(|(name, attr)| {
            let mut used = BTreeSet::new();
            uses(&attr.value, &mut used);
            used.retain(|other| waiting.contains_key(other.as_str()));
            (*name, used)
        })
        .collect();
    let mut missing: BTreeMap<&str, usize> = needs.iter().map(|(name, used)| (*name, used.len())).collect();
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, used) in &needs {
        for other in used {
            users.entry(other).or_default().push(name);
        }
    }
    let mut ready: Vec<&str> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        let Some(attr) = waiting.remove(name) else { continue };
        let result = reading.eval(Names::Job { vars: &inputs.vars, locals: &inputs.locals }, &attr.value);
        let value = reading.keep(result).unwrap_or(Value::Null);
        inputs.locals.insert(name.to_owned(), value);
        for user in users.get(name).into_iter().flatten() {
            if let Some(count) = missing.get_mut(user) {
                *count -= 1;
                if *count == 0 {
                    ready.push(user);
                }
            }
        }
    }
    if !waiting.is_empty() {
        reading.problems.push(cycle(&waiting, &needs));
    }
}

fn cycle(waiting: &BTreeMap<&str, &Attr>, needs: &BTreeMap<&str, BTreeSet<String>>) -> Diagnostic {
    let Some(mut name) = waiting.keys().next().copied() else {
        return Diagnostic::nowhere("a cycle of local values");
    };
    let mut path: Vec<&str> = Vec::new();
    while !path.contains(&name) {
        path.push(name);
        let next = needs[name].iter().find_map(|other| waiting.get_key_value(other.as_str()));
        let Some((next, _)) = next else { break };
        name = next;
    }
    let from = path.iter().position(|step| *step == name).unwrap_or(0);
    let mut round: Vec<String> = path.iter().skip(from).take(8).map(|step| format!("local.{step}")).collect();
    round.push(format!("local.{name}"));
    let at = waiting.get(name).map_or(Span::default(), |attr| attr.name.span);
    Diagnostic::new(at, format!("local values refer to each other in a circle: {}", round.join(" -> ")))
}

/// Names of locals that an expression uses.
fn uses(expr: &Expr, out: &mut BTreeSet<String>) {
    let mut all = |exprs: &[Expr]| exprs.iter().for_each(|expr| uses(expr, out));
    match &expr.kind {
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) | Kind::Variable(_) => {}
        Kind::Template(parts) => uses_in_parts(parts, out),
        Kind::Array(items) => all(items),
        Kind::Object(items) => {
            for (key, value) in items {
                if let Key::Expr(key) = key {
                    uses(key, out);
                }
                uses(value, out);
            }
        }
        Kind::Paren(inner) | Kind::Not(inner) | Kind::Negate(inner) => uses(inner, out),
        Kind::Conditional(parts) => all(parts.as_slice()),
        Kind::Binary(_, sides) => all(sides.as_slice()),
        Kind::Call { args, .. } => all(args),
        Kind::Traversal { root, steps } => {
            if matches!(&root.kind, Kind::Variable(name) if name == "local")
                && let Some(StepKind::Name(name)) = steps.first().map(|step| &step.kind)
            {
                out.insert(name.clone());
            }
            uses(root, out);
            for step in steps {
                if let StepKind::Index(expr) = &step.kind {
                    uses(expr, out);
                }
            }
        }
        Kind::For(each) => {
            let more =
                [Some(&each.collection), each.key.as_ref(), Some(&each.value), each.condition.as_ref()];
            more.into_iter().flatten().for_each(|expr| uses(expr, out));
        }
    }
}

fn uses_in_parts(parts: &[Part], out: &mut BTreeSet<String>) {
    for part in parts {
        match part {
            Part::Literal(_) => {}
            Part::Interpolation(expr, _) => uses(expr, out),
            Part::If { condition, then, otherwise } => {
                uses(condition, out);
                uses_in_parts(then, out);
                uses_in_parts(otherwise, out);
            }
            Part::For { collection, body, .. } => {
                uses(collection, out);
                uses_in_parts(body, out);
            }
        }
    }
}
