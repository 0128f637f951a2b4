//! Functions on numbers.

use super::{Answer, Call, Function, MANY, row};
use crate::value::{Number, Value};

pub(super) const TABLE: &[Function] = &[
    row("abs", "abs(number)", 1, 1, abs),
    row("ceil", "ceil(number)", 1, 1, |call| round(call, f64::ceil)),
    row("floor", "floor(number)", 1, 1, |call| round(call, f64::floor)),
    row("log", "log(number, base)", 2, 2, |call| {
        let (number, base) = (call.number(0)?.to_f64(), call.number(1)?.to_f64());
        float(number.ln() / base.ln())
    }),
    row("max", "max(numbers...)", 1, MANY, |call| pick(call, std::cmp::Ordering::Greater)),
    row("min", "min(numbers...)", 1, MANY, |call| pick(call, std::cmp::Ordering::Less)),
    row("parseint", "parseint(string, base)", 2, 2, parseint),
    row("pow", "pow(number, power)", 2, 2, pow),
    row("signum", "signum(number)", 1, 1, |call| Ok(Value::int(call.number(0)?.order(Number::Int(0)) as i8))),
];

fn float(value: f64) -> Answer {
    // Logarithms of exact powers come out a hair beside the whole number.
    let near = value.round();
    let value = if (value - near).abs() < 1e-12 { near } else { value };
    Number::from_f64(value).map(Value::Number).ok_or_else(|| "the result is not a finite number".into())
}

fn abs(call: &Call<'_>) -> Answer {
    let number = call.number(0)?;
    let positive =
        if number.order(Number::Int(0)).is_lt() { Number::Int(0).checked_sub(number) } else { Some(number) };
    positive.map(Value::Number).ok_or_else(|| "the result is too large".into())
}

fn round(call: &Call<'_>, how: fn(f64) -> f64) -> Answer {
    match call.number(0)? {
        whole @ Number::Int(_) => Ok(Value::Number(whole)),
        Number::Float(value) => float(how(value)),
    }
}

fn pick(call: &Call<'_>, wanted: std::cmp::Ordering) -> Answer {
    let mut best = call.number(0)?;
    for at in 1..call.args.len() {
        let number = call.number(at)?;
        if number.order(best) == wanted {
            best = number;
        }
    }
    Ok(Value::Number(best))
}

fn pow(call: &Call<'_>) -> Answer {
    let (number, power) = (call.number(0)?, call.number(1)?);
    if let (Number::Int(number), Some(power)) =
        (number, power.to_int().and_then(|power| u32::try_from(power).ok()))
        && let Some(result) = number.checked_pow(power)
    {
        return Ok(Value::int(result));
    }
    float(number.to_f64().powf(power.to_f64()))
}

fn parseint(call: &Call<'_>) -> Answer {
    let (text, base) = (call.text(0)?, call.int(1)?);
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
    let base = base.ok_or_else(|| call.bad(1, "the base must be between 2 and 36"))?;
    let int = i128::from_str_radix(&text, base);
    int.map(Value::int).map_err(|_| call.bad(0, format!("{text:?} is not a number in base {base}")))
}
