//! Input variables: their types, where their values come from, and which source wins.

use crate::diagnostic::Diagnostic;
use crate::eval::Fallible;
use crate::syntax::ast::{Expr, Key, Kind};
use crate::value::{Value, unify};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Type of a variable as its `type` argument says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Whatever is given.
    Any,
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// All elements of one type.
    List(Box<Type>),
    /// As a list, sorted and without duplicates.
    Set(Box<Type>),
    /// Keys with values of one type.
    Map(Box<Type>),
    /// Named attributes, each with its own type.
    Object(BTreeMap<String, Type>),
    /// A fixed number of elements, each with its own type.
    Tuple(Vec<Type>),
}

impl Type {
    /// Reads a type expression.
    pub(crate) fn read(expr: &Expr) -> Fallible<Type> {
        match &expr.kind {
            Kind::Paren(inner) => Type::read(inner),
            Kind::Variable(name) => match name.as_str() {
                "any" => Ok(Type::Any),
                "string" => Ok(Type::String),
                "number" => Ok(Type::Number),
                "bool" => Ok(Type::Bool),
                "list" => Ok(Type::List(Box::new(Type::Any))),
                "set" => Ok(Type::Set(Box::new(Type::Any))),
                "map" => Ok(Type::Map(Box::new(Type::Any))),
                other => Err(unknown(expr, other)),
            },
            Kind::Call { name, args, .. } => Type::constructor(expr, &name.text, args),
            // `type = "string"` was the way of an older syntax and is still common.
            Kind::String(name) => match name.as_str() {
                "string" => Ok(Type::String),
                "number" => Ok(Type::Number),
                "bool" => Ok(Type::Bool),
                other => Err(unknown(expr, other)),
            },
            _ => Err(Box::new(
                Diagnostic::new(expr.span, "this is not a type")
                    .label("expected string, number, bool, list(...), ..."),
            )),
        }
    }

    fn constructor(expr: &Expr, name: &str, args: &[Expr]) -> Fallible<Type> {
        let one = || match args {
            [inner] => Type::read(inner).map(Box::new),
            _ => Err(Diagnostic::boxed(expr.span, format!("{name} needs one type: {name}(string)"))),
        };
        match (name, args) {
            ("list", _) => one().map(Type::List),
            ("set", _) => one().map(Type::Set),
            ("map", _) => one().map(Type::Map),
            ("tuple", [Expr { kind: Kind::Array(items), .. }]) => {
                items.iter().map(Type::read).collect::<Fallible<_>>().map(Type::Tuple)
            }
            ("object", [Expr { kind: Kind::Object(items), .. }]) => {
                let mut attributes = BTreeMap::new();
                for (key, kind) in items {
                    let Key::Word(word) = key else {
                        return Err(Diagnostic::boxed(
                            expr.span,
                            "an object type's attribute needs a plain name",
                        ));
                    };
                    attributes.insert(word.text.clone(), Type::read(kind)?);
                }
                Ok(Type::Object(attributes))
            }
            ("tuple", _) => {
                Err(Diagnostic::boxed(expr.span, "tuple needs a list of types: tuple([string, number])"))
            }
            ("object", _) => {
                Err(Diagnostic::boxed(expr.span, "object needs attributes: object({ name = string })"))
            }
            ("optional", _) => Err(Diagnostic::boxed(expr.span, "optional() is not available in job files")),
            (other, _) => Err(unknown(expr, other)),
        }
    }

    /// Whether a value given as plain text is that text, and not an expression.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Type::Any | Type::String | Type::Number | Type::Bool)
    }

    /// The value as this type.
    ///
    /// # Errors
    /// A sentence that names what was expected and what came.
    pub fn convert(&self, value: &Value) -> Result<Value, String> {
        if *value == Value::Null {
            return Ok(Value::Null);
        }
        let wrong = || format!("expected {self}, got {}", value.kind());
        match (self, value) {
            (Type::Any, _) => Ok(value.clone()),
            (Type::String, _) => value.to_text().map(Value::String).ok_or_else(wrong),
            (Type::Number, _) => value.to_number().map(Value::Number).ok_or_else(wrong),
            (Type::Bool, _) => value.to_bool().map(Value::Bool).ok_or_else(wrong),
            (Type::List(inner) | Type::Set(inner), Value::List(items) | Value::Set(items)) => {
                let mut items = items
                    .iter()
                    .map(|item| inner.convert(item))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(within(self))?;
                if **inner == Type::Any {
                    unify(&mut items);
                }
                Ok(if matches!(self, Type::Set(_)) { Value::set(items) } else { Value::list(items) })
            }
            (Type::Map(inner), Value::Map(items)) => {
                let mut values = items
                    .values()
                    .map(|item| inner.convert(item))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(within(self))?;
                if **inner == Type::Any {
                    unify(&mut values);
                }
                Ok(Value::map(items.keys().cloned().zip(values).collect()))
            }
            (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => {
                let items = types.iter().zip(items.iter()).map(|(kind, item)| kind.convert(item));
                items.collect::<Result<Vec<_>, _>>().map(Value::list).map_err(within(self))
            }
            (Type::Object(attributes), Value::Map(items)) => {
                let mut out = BTreeMap::new();
                for (name, kind) in attributes {
                    let item = items
                        .get(name.as_str())
                        .ok_or_else(|| format!("the attribute `{name}` is missing"))?;
                    let item = kind.convert(item).map_err(|error| format!("attribute `{name}`: {error}"))?;
                    out.insert(Arc::from(name.as_str()), item);
                }
                Ok(Value::map(out))
            }
            _ => Err(wrong()),
        }
    }
}

fn within(kind: &Type) -> impl Fn(String) -> String {
    let kind = kind.to_string();
    move |error| format!("in {kind}: {error}")
}

fn unknown(expr: &Expr, name: &str) -> Box<Diagnostic> {
    let known = ["string", "number", "bool", "any", "list", "set", "map", "object", "tuple"];
    Box::new(Diagnostic::new(expr.span, format!("there is no type `{name}`")).nearest(name, known))
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::String => f.write_str("string"),
            Type::Number => f.write_str("number"),
            Type::Bool => f.write_str("bool"),
            Type::List(inner) => write!(f, "list({inner})"),
            Type::Set(inner) => write!(f, "set({inner})"),
            Type::Map(inner) => write!(f, "map({inner})"),
            Type::Object(attributes) => {
                f.write_str("object({")?;
                for (at, (name, kind)) in attributes.iter().enumerate() {
                    write!(f, "{}{name} = {kind}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("})")
            }
            Type::Tuple(types) => {
                f.write_str("tuple([")?;
                for (at, kind) in types.iter().enumerate() {
                    write!(f, "{}{kind}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("])")
            }
        }
    }
}

/// Values for variables, as the caller found them. Later kinds win over earlier ones, and within a kind
/// later entries win: environment, then files, then the command line.
#[derive(Clone, Debug, Default)]
pub struct VariableSources {
    /// `NOMAD_VAR_<name>` with the prefix taken off. Names that the file does not declare are ignored.
    pub environment: Vec<(String, String)>,
    /// `-var-file`: HCL attributes, or JSON if the name ends in `.json`.
    pub files: Vec<crate::source::SourceFile>,
    /// `-var name=value`.
    pub arguments: Vec<(String, String)>,
}
