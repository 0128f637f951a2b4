//! `format` and `formatlist`: verbs as in C and Go.

use super::{Answer, Call, Function, MANY, Problem, row_with_nulls};
use crate::value::{Number, Value};

/// Widths and precisions beyond this are a mistake.
const MAX_WIDTH: usize = 4096;

pub(super) const TABLE: &[Function] = &[
    row_with_nulls("format", "format(pattern, values...)", 1, MANY, |call| {
        let text = format(call, &call.text(0)?, call.args.get(1..).unwrap_or(&[]))?;
        call.give(text)
    }),
    row_with_nulls("formatlist", "formatlist(pattern, lists...)", 1, MANY, formatlist),
];

fn formatlist(call: &Call<'_>) -> Answer {
    let pattern = call.text(0)?;
    let args = call.args.get(1..).unwrap_or(&[]);
    let lengths: Vec<_> = args.iter().filter_map(Value::elements).map(<[Value]>::len).collect();
    let count = lengths.first().copied().unwrap_or(1);
    if lengths.iter().any(|length| *length != count) {
        return Err("the lists have different lengths".into());
    }
    let mut out = Vec::new();
    for at in 0..count {
        let row: Vec<Value> = args
            .iter()
            .map(|arg| match arg.elements() {
                Some(items) => items.get(at).cloned().unwrap_or(Value::Null),
                None => arg.clone(),
            })
            .collect();
        call.budget.steps(row.len() + 1)?;
        let text = format(call, &pattern, &row)?;
        out.push(call.give(text)?);
    }
    call.give_list(out)
}

/// One `%...` of a pattern.
#[derive(Default)]
struct Verb {
    plus: bool,
    minus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

fn format(call: &Call<'_>, pattern: &str, args: &[Value]) -> Answer<String> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    let mut explicit = false;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "+-0 #".contains(*c)) {
            match flag {
                '+' => verb.plus = true,
                '-' => verb.minus = true,
                '0' => verb.zero = true,
                ' ' => verb.space = true,
                _ => verb.sharp = true,
            }
        }
        verb.width = digits(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars)?.unwrap_or(0));
        }
        if chars.next_if_eq(&'[').is_some() {
            next = digits(&mut chars)?.unwrap_or(0).checked_sub(1).ok_or("argument numbers begin at 1")?;
            explicit = true;
            chars.next_if_eq(&']').ok_or("`[` has no `]`")?;
        }
        let Some(letter) = chars.next() else { return Err("the pattern ends inside a `%`".into()) };
        if letter == '%' {
            out.push('%');
            continue;
        }
        let value = args
            .get(next)
            .ok_or_else(|| Problem::from(format!("`%{letter}` has no value: too few arguments")))?;
        next += 1;
        let text = verb.print(letter, value).map_err(|message| call.bad(next, message))?;
        call.charge(text.len())?;
        out.push_str(&text);
    }
    if next < args.len() && !explicit {
        return Err(format!("too many arguments: the pattern uses {next}, got {}", args.len()).into());
    }
    Ok(out)
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Answer<Option<usize>> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let grown = number.unwrap_or(0) * 10 + digit as usize;
        if grown > MAX_WIDTH {
            return Err(format!("a width of more than {MAX_WIDTH} makes no sense").into());
        }
        number = Some(grown);
    }
    Ok(number)
}

impl Verb {
    fn print(&self, letter: char, value: &Value) -> Result<String, String> {
        let wrong = |wanted: &str| format!("`%{letter}` needs {wanted}, this is {}", value.kind());
        let number = || value.to_number().ok_or_else(|| wrong("a number"));
        match letter {
            'v' => {
                let text = match value {
                    Value::String(text) if !self.sharp => text.to_string(),
                    other => json(other),
                };
                Ok(self.pad(text))
            }
            's' => {
                let text = value.to_text().ok_or_else(|| wrong("a string"))?;
                let text = match self.precision {
                    Some(precision) => text.chars().take(precision).collect(),
                    None => text.to_string(),
                };
                Ok(self.pad(text))
            }
            'q' => Ok(self.pad(json(&Value::String(value.to_text().ok_or_else(|| wrong("a string"))?)))),
            't' => Ok(self.pad(value.to_bool().ok_or_else(|| wrong("a bool"))?.to_string())),
            'd' | 'b' | 'o' | 'x' | 'X' => {
                let int = whole(number()?);
                let size = int.unsigned_abs();
                let digits = match letter {
                    'b' => format!("{size:b}"),
                    'o' => format!("{size:o}"),
                    'x' => format!("{size:x}"),
                    'X' => format!("{size:X}"),
                    _ => size.to_string(),
                };
                Ok(self.signed(int < 0, digits))
            }
            'f' | 'F' => {
                let float = number()?.to_f64();
                Ok(self.signed(float < 0.0, format!("{:.*}", self.precision.unwrap_or(6), float.abs())))
            }
            'e' | 'E' => {
                let float = number()?.to_f64();
                let text = exponent(&format!("{:.*e}", self.precision.unwrap_or(6), float.abs()));
                Ok(self.signed(float < 0.0, if letter == 'E' { text.to_uppercase() } else { text }))
            }
            'g' | 'G' => {
                let float = number()?.to_f64();
                let size = float.abs();
                let text = if size != 0.0 && !(1e-4..1e21).contains(&size) {
                    exponent(&format!("{size:e}"))
                } else {
                    size.to_string()
                };
                Ok(self.signed(float < 0.0, text))
            }
            _ => Err(format!("there is no verb `%{letter}`")),
        }
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        };
        let width = self.width.unwrap_or(0);
        if self.zero && !self.minus {
            let zeros = width.saturating_sub(sign.len() + digits.len());
            return format!("{sign}{}{digits}", "0".repeat(zeros));
        }
        self.pad(format!("{sign}{digits}"))
    }

    fn pad(&self, text: String) -> String {
        let fill = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.minus { format!("{text}{}", " ".repeat(fill)) } else { format!("{}{text}", " ".repeat(fill)) }
    }
}

/// Go writes exponents with a sign and at least two digits.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

fn whole(number: Number) -> i128 {
    number.to_int().unwrap_or_else(|| number.to_f64().trunc() as i128)
}

fn json(value: &Value) -> String {
    let mut out = String::new();
    let done: Result<(), std::convert::Infallible> = super::encode_json(value, &mut |text| {
        out.push_str(text);
        Ok(())
    });
    match done {
        Ok(()) => out,
    }
}
