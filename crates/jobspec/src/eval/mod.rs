//! The evaluator: expressions and templates to values, with Nomad's rule for names known only at run time.

mod budget;
mod collection;
mod operators;
mod scope;

pub(crate) use budget::Budget;
pub(crate) use collection::{get_index, pairs};
pub(crate) use scope::Scope;

use crate::diagnostic::Diagnostic;
use crate::functions::{self, Call};
use crate::source::{Sources, Span};
use crate::syntax::ast::{Expr, Key, Kind, Literal, Part, Step, StepKind};
use crate::value::{Number, Value, unify};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Fallible<T = Value> = Result<T, Box<Diagnostic>>;

/// What a name stands for that no loop has bound.
pub(crate) enum Names<'a> {
    /// Parsing a job file: `var`, `local`; all others are kept for run time as written.
    Job { vars: &'a BTreeMap<String, Value>, locals: &'a BTreeMap<String, Value> },
    /// Default values and variable files: no names at all.
    Constants,
    /// A task is about to start: dotted names and the environment, nothing else.
    Runtime(&'a dyn Fn(&str) -> Option<Value>),
}

pub(crate) struct Evaluator<'a> {
    pub(crate) names: Names<'a>,
    pub(crate) sources: &'a Sources,
    pub(crate) budget: &'a Budget,
    pub(crate) host: &'a functions::Host<'a>,
}

impl Evaluator<'_> {
    fn step(&self, span: Span) -> Fallible<()> {
        self.budget.steps(1).map_err(|message| Diagnostic::boxed(span, message))
    }

    /// For values that someone will walk through to their last part.
    pub(crate) fn weigh(&self, span: Span, value: &Value) -> Fallible<()> {
        self.budget.weigh(value).map_err(|message| Diagnostic::boxed(span, message))
    }

    fn bytes(&self, span: Span, bytes: usize) -> Fallible<()> {
        self.budget.bytes(bytes).map_err(|message| Diagnostic::boxed(span, message))
    }

    pub(crate) fn eval(&self, expr: &Expr, scope: &Scope) -> Fallible {
        self.step(expr.span)?;
        match &expr.kind {
            Kind::Null => Ok(Value::Null),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Number(Literal::Int(int)) => Ok(Value::Number(Number::Int(*int))),
            Kind::Number(Literal::Float(float)) => Number::from_f64(*float)
                .map(Value::Number)
                .ok_or_else(|| Diagnostic::boxed(expr.span, "the number is too large")),
            Kind::String(text) => {
                self.bytes(expr.span, text.len())?;
                Ok(Value::text(text))
            }
            Kind::Template(parts) => self.template(parts, expr.span, scope),
            Kind::Array(items) => {
                self.bytes(expr.span, items.len() * size_of::<Value>())?;
                items.iter().map(|item| self.eval(item, scope)).collect::<Fallible<Vec<_>>>().map(Value::list)
            }
            Kind::Object(items) => self.object(items, scope),
            Kind::Paren(inner) => self.eval(inner, scope),
            Kind::Variable(name) => self.variable(name, &[], expr, scope),
            Kind::Conditional(parts) => self.conditional(parts, scope),
            Kind::Call { name, args, expand } => self.call(expr.span, name, args, *expand, scope),
            Kind::Traversal { root, steps } => self.traversal(expr, root, steps, scope),
            Kind::Not(inner) => operators::not(self.eval(inner, scope)?, inner.span),
            Kind::Negate(inner) => operators::negate(self.eval(inner, scope)?, inner.span),
            Kind::Binary(operator, sides) => {
                let left = self.eval(&sides[0], scope)?;
                let right = self.eval(&sides[1], scope)?;
                self.weigh(expr.span, &left)?;
                self.weigh(expr.span, &right)?;
                operators::binary(*operator, (left, sides[0].span), (right, sides[1].span), expr.span)
            }
            Kind::For(each) => self.for_expr(each, expr.span, scope),
        }
    }

    fn object(&self, items: &[(Key, Expr)], scope: &Scope) -> Fallible {
        let mut map = BTreeMap::new();
        for (key, value) in items {
            let (name, span) = match key {
                Key::Word(word) => (Arc::from(word.text.as_str()), word.span),
                Key::Expr(expr) => (self.key(expr, scope)?, expr.span),
            };
            self.bytes(span, name.len() + 4 * size_of::<Value>())?;
            map.insert(name, self.eval(value, scope)?);
        }
        Ok(Value::map(map))
    }

    fn key(&self, expr: &Expr, scope: &Scope) -> Fallible<Arc<str>> {
        match &expr.kind {
            // A dotted name as a key is ambiguous; Nomad asks for quotes or parentheses.
            Kind::Traversal { .. } => Err(Box::new(
                Diagnostic::new(expr.span, "a dotted name cannot be an object key")
                    .help("put it in quotes to use it as it is, or in parentheses to use its value"),
            )),
            Kind::Null => Ok(Arc::from("null")),
            _ => self
                .eval(expr, scope)?
                .to_text()
                .ok_or_else(|| Diagnostic::boxed(expr.span, "an object key must be a string")),
        }
    }

    fn conditional(&self, parts: &[Expr; 3], scope: &Scope) -> Fallible {
        let [condition, then, otherwise] = parts;
        let decided = self.eval(condition, scope)?;
        let Some(decided) = decided.to_bool() else {
            return Err(Box::new(
                Diagnostic::new(condition.span, format!("the condition is {}", decided.kind()))
                    .label("expected a bool"),
            ));
        };
        let (taken, other) = if decided { (then, otherwise) } else { (otherwise, then) };
        let value = self.eval(taken, scope)?;
        // The branch not taken only lends its type, so its own errors do not count.
        let mut both = match self.eval(other, scope) {
            Ok(other) => [value, other],
            Err(_) => return Ok(value),
        };
        let simple = |value: &Value| value.to_text().is_some();
        let clash =
            both.iter().any(simple) && both.iter().any(|value| !simple(value) && *value != Value::Null);
        if clash {
            return Err(Diagnostic::boxed(
                then.span.to(otherwise.span),
                format!("the branches of the condition differ: {} and {}", both[0].kind(), both[1].kind()),
            ));
        }
        if let [Value::List(taken), Value::List(other)] = &both {
            let mut items: Vec<Value> = taken.iter().chain(other.iter()).cloned().collect();
            self.bytes(then.span, size_of_val(items.as_slice()))?;
            unify(&mut items);
            items.truncate(taken.len());
            return Ok(Value::list(items));
        }
        unify(&mut both);
        let [value, _] = both;
        Ok(value)
    }

    fn call(
        &self,
        span: Span,
        name: &crate::syntax::ast::Word,
        args: &[Expr],
        expand: bool,
        scope: &Scope,
    ) -> Fallible {
        match name.text.as_str() {
            "try" => return self.try_each(span, args, scope),
            "can" if args.len() == 1 => return Ok(Value::Bool(self.eval(&args[0], scope).is_ok())),
            "convert" => return self.convert(span, args, scope),
            _ => {}
        }
        let Some(function) = functions::find(&name.text) else {
            let problem = Diagnostic::new(name.span, format!("there is no function `{}`", name.text));
            return Err(Box::new(problem.nearest(&name.text, functions::names())));
        };
        let mut values = args.iter().map(|arg| self.eval(arg, scope)).collect::<Fallible<Vec<_>>>()?;
        if expand && let Some(last) = values.pop() {
            let Some(items) = last.elements() else {
                let at = args.last().map_or(span, |arg| arg.span);
                return Err(Diagnostic::boxed(at, format!("`...` needs a list, this is {}", last.kind())));
            };
            self.bytes(span, size_of_val(items))?;
            values.extend(items.iter().cloned());
        }
        self.budget.steps(values.len()).map_err(|message| Diagnostic::boxed(span, message))?;
        for value in &values {
            self.weigh(span, value)?;
        }
        let call = Call { args: &values, budget: self.budget, host: self.host };
        functions::call(function, &call).map_err(|problem| {
            let at = problem.argument.and_then(|at| args.get(at)).map_or(span, |arg| arg.span);
            let mut out = Diagnostic::new(at, format!("{}: {}", name.text, problem.message));
            if problem.argument.is_none() {
                out = out.help(format!("use: {}", function.usage));
            }
            Box::new(out)
        })
    }

    fn try_each(&self, span: Span, args: &[Expr], scope: &Scope) -> Fallible {
        let mut last = Diagnostic::boxed(span, "try needs at least one argument");
        for arg in args {
            match self.eval(arg, scope) {
                Ok(value) => return Ok(value),
                Err(problem) => last = problem,
            }
        }
        Err(last)
    }

    /// `convert(value, type)`: the second argument is a type, not a value.
    fn convert(&self, span: Span, args: &[Expr], scope: &Scope) -> Fallible {
        let [value, kind] = args else {
            return Err(Diagnostic::boxed(span, "convert needs a value and a type: convert(\"1\", number)"));
        };
        let kind = crate::variables::Type::read(kind)?;
        let value = self.eval(value, scope)?;
        self.weigh(span, &value)?;
        kind.convert(&value).map_err(|message| Diagnostic::boxed(args[0].span, message))
    }

    /// An expression whose value leaves the evaluator: small enough to be walked through.
    pub(crate) fn eval_whole(&self, expr: &Expr, scope: &Scope) -> Fallible {
        let value = self.eval(expr, scope)?;
        self.weigh(expr.span, &value)?;
        Ok(value)
    }

    /// A name alone or with steps behind it.
    fn variable(&self, name: &str, steps: &[Step], whole: &Expr, scope: &Scope) -> Fallible {
        if let Some(value) = scope.get(name) {
            return self.steps(value.clone(), steps, scope);
        }
        match &self.names {
            Names::Constants => Err(Box::new(
                Diagnostic::new(whole.span, format!("no variable can be used here: `{name}`"))
                    .help(format!("put text in quotes: \"{name}\"")),
            )),
            Names::Job { vars, locals } => {
                let (known, what) = match name {
                    "var" => (vars, "variable"),
                    "local" => (locals, "local value"),
                    _ => return self.verbatim(whole),
                };
                let Some((Step { kind: StepKind::Name(key), span }, rest)) = steps.split_first() else {
                    return Err(Diagnostic::boxed(
                        whole.span,
                        format!("`{name}` needs a name: {name}.<name>"),
                    ));
                };
                match known.get(key.as_str()) {
                    Some(value) => self.steps(value.clone(), rest, scope),
                    None => {
                        let problem = Diagnostic::new(*span, format!("there is no {what} `{key}`"));
                        Err(Box::new(problem.nearest(key, known.keys().map(String::as_str))))
                    }
                }
            }
            Names::Runtime(lookup) => runtime(lookup, name, steps, whole),
        }
    }

    /// The source text of a reference that only a running task can resolve.
    fn verbatim(&self, whole: &Expr) -> Fallible {
        let text = self.sources.text(whole.span);
        self.bytes(whole.span, text.len())?;
        Ok(Value::text(format!("${{{text}}}")))
    }

    fn traversal(&self, whole: &Expr, root: &Expr, steps: &[Step], scope: &Scope) -> Fallible {
        let Kind::Variable(name) = &root.kind else {
            return self.steps(self.eval(root, scope)?, steps, scope);
        };
        let known = scope.get(name).is_some() || !matches!(self.names, Names::Job { .. });
        if known || matches!(name.as_str(), "var" | "local") {
            return self.variable(name, steps, whole, scope);
        }
        if steps.iter().all(is_constant) {
            return self.verbatim(whole);
        }
        self.steps(self.verbatim(root)?, steps, scope)
    }

    fn steps(&self, value: Value, steps: &[Step], scope: &Scope) -> Fallible {
        collection::follow(self, value, steps, scope)
    }

    /// A quoted template; one that is a single interpolation keeps the value's type.
    pub(crate) fn template(&self, parts: &[Part], span: Span, scope: &Scope) -> Fallible {
        if let [Part::Interpolation(expr, whole)] = parts {
            return self.interpolation(expr, *whole, scope);
        }
        let mut out = String::new();
        self.parts(parts, &mut out, scope)?;
        self.bytes(span, out.len())?;
        Ok(Value::text(out))
    }

    /// Keeps the text between the braces as written, spaces too, if it is a reference for run time.
    fn interpolation(&self, expr: &Expr, whole: Span, scope: &Scope) -> Fallible {
        let runtime = match &expr.kind {
            Kind::Variable(name) => self.is_unknown(name, scope),
            Kind::Traversal { root, steps } => {
                steps.iter().all(is_constant)
                    && matches!(&root.kind, Kind::Variable(name) if self.is_unknown(name, scope))
            }
            _ => false,
        };
        let text = self.sources.text(whole);
        if runtime && !text.contains('~') {
            self.bytes(whole, text.len())?;
            return Ok(Value::text(text));
        }
        self.eval(expr, scope)
    }

    fn is_unknown(&self, name: &str, scope: &Scope) -> bool {
        matches!(self.names, Names::Job { .. })
            && !matches!(name, "var" | "local")
            && scope.get(name).is_none()
    }

    pub(crate) fn parts(&self, parts: &[Part], out: &mut String, scope: &Scope) -> Fallible<()> {
        for part in parts {
            match part {
                Part::Literal(text) => {
                    self.bytes(Span::default(), text.len())?;
                    out.push_str(text);
                }
                Part::Interpolation(expr, whole) => {
                    let value = self.interpolation(expr, *whole, scope)?;
                    let Some(text) = value.to_text() else {
                        return Err(Box::new(
                            Diagnostic::new(
                                expr.span,
                                format!("{} cannot be part of a string", value.kind()),
                            )
                            .label("expected a string, number or bool"),
                        ));
                    };
                    self.bytes(expr.span, text.len())?;
                    out.push_str(&text);
                }
                Part::If { condition, then, otherwise } => {
                    let decided = self.eval(condition, scope)?;
                    let Some(decided) = decided.to_bool() else {
                        return Err(Box::new(
                            Diagnostic::new(condition.span, format!("the condition is {}", decided.kind()))
                                .label("expected a bool"),
                        ));
                    };
                    self.parts(if decided { then } else { otherwise }, out, scope)?;
                }
                Part::For { key_name, value_name, collection, body } => {
                    let items = self.eval(collection, scope)?;
                    for (key, value) in pairs(&items, collection.span)? {
                        self.step(collection.span)?;
                        let mut inner = scope.clone();
                        if let Some(name) = key_name {
                            inner = inner.with(name.as_str(), key);
                        }
                        self.parts(body, out, &inner.with(value_name.as_str(), value))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_constant(step: &Step) -> bool {
    match &step.kind {
        StepKind::Name(_) | StepKind::Position(_) => true,
        StepKind::Index(expr) => matches!(expr.kind, Kind::String(_) | Kind::Number(_)),
        StepKind::AttrSplat | StepKind::FullSplat => false,
    }
}

/// Names at run time are flat: `attr.kernel.name` is one name, `env["X"]` looks into the environment.
fn runtime(lookup: &dyn Fn(&str) -> Option<Value>, name: &str, steps: &[Step], whole: &Expr) -> Fallible {
    let mut dotted = name.to_owned();
    for step in steps {
        match &step.kind {
            StepKind::Name(part) => dotted.extend([".", part]),
            StepKind::Position(at) => dotted.push_str(&format!(".{at}")),
            StepKind::Index(Expr { kind: Kind::String(key), .. }) => dotted.extend([".", key]),
            _ => return Err(Diagnostic::boxed(whole.span, format!("`{name}` cannot be indexed like this"))),
        }
    }
    lookup(&dotted).ok_or_else(|| {
        Box::new(
            Diagnostic::new(whole.span, format!("there is no variable `{dotted}` when the task starts"))
                .help("text for a shell needs `$${...}` in place of `${...}` (in a job file: `$$${...}`)"),
        )
    })
}
