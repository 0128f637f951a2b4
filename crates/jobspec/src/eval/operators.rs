//! Operators on values, with the conversions between strings, numbers and bools.

use super::Fallible;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::Binary;
use crate::value::{Number, Value};

pub(super) fn not(value: Value, span: Span) -> Fallible {
    boolean(&value, span).map(|value| Value::Bool(!value))
}

pub(super) fn negate(value: Value, span: Span) -> Fallible {
    let number = number(&value, span)?;
    Number::Int(0).checked_sub(number).map(Value::Number).ok_or_else(|| too_large(span))
}

/// A value with its place.
type At = (Value, Span);

pub(super) fn binary(operator: Binary, left: At, right: At, whole: Span) -> Fallible {
    match operator {
        Binary::Equal => Ok(Value::Bool(equal(left.0, right.0))),
        Binary::NotEqual => Ok(Value::Bool(!equal(left.0, right.0))),
        Binary::And => Ok(Value::Bool(boolean(&left.0, left.1)? & boolean(&right.0, right.1)?)),
        Binary::Or => Ok(Value::Bool(boolean(&left.0, left.1)? | boolean(&right.0, right.1)?)),
        Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
            let order = number(&left.0, left.1)?.order(number(&right.0, right.1)?);
            Ok(Value::Bool(match operator {
                Binary::Less => order.is_lt(),
                Binary::LessOrEqual => order.is_le(),
                Binary::Greater => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Remainder => {
            let (a, b) = (number(&left.0, left.1)?, number(&right.0, right.1)?);
            let result = match operator {
                Binary::Add => a.checked_add(b),
                Binary::Subtract => a.checked_sub(b),
                Binary::Multiply => a.checked_mul(b),
                Binary::Divide if b == Number::Int(0) => {
                    return Err(Diagnostic::boxed(right.1, "division by zero"));
                }
                Binary::Divide => a.checked_div(b),
                _ if b == Number::Int(0) => return Err(Diagnostic::boxed(right.1, "division by zero")),
                _ => a.checked_rem(b),
            };
            result.map(Value::Number).ok_or_else(|| too_large(whole))
        }
    }
}

/// As Nomad: equality converts nothing, so `"1" == 1` is false.
fn equal(left: Value, right: Value) -> bool {
    left == right
}

fn boolean(value: &Value, span: Span) -> Fallible<bool> {
    value.to_bool().ok_or_else(|| unsuitable(value, "a bool", span))
}

fn number(value: &Value, span: Span) -> Fallible<Number> {
    value.to_number().ok_or_else(|| unsuitable(value, "a number", span))
}

fn unsuitable(value: &Value, wanted: &str, span: Span) -> Box<Diagnostic> {
    let mut problem =
        Diagnostic::new(span, format!("this is {}", value.kind())).label(format!("expected {wanted}"));
    if matches!(value, Value::String(text) if text.starts_with("${")) {
        problem =
            problem.help("this value is known only when the task runs; it cannot be computed with here");
    }
    Box::new(problem)
}

fn too_large(span: Span) -> Box<Diagnostic> {
    Diagnostic::boxed(span, "the result is too large")
}
