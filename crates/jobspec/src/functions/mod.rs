//! The functions a job file may call: the list of Nomad's language, one table per theme.

mod collection;
mod date;
mod encoding;
mod file;
mod format;
mod hash;
mod json;
mod net;
mod number;
mod string;
mod yaml;

pub(crate) use json::encode as encode_json;

use crate::eval::Budget;
use crate::files::FileAccess;
use crate::value::{Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What functions may see of the world.
#[derive(Default)]
pub(crate) struct Host<'a> {
    /// Files below the job file's folder; `None` refuses every file function.
    pub(crate) files: Option<&'a dyn FileAccess>,
}

/// One call with its evaluated arguments.
pub(crate) struct Call<'a> {
    pub(crate) args: &'a [Value],
    pub(crate) budget: &'a Budget,
    pub(crate) host: &'a Host<'a>,
}

/// Why a call failed, and which argument is to blame.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) argument: Option<usize>,
}

impl<T: Into<String>> From<T> for Problem {
    fn from(message: T) -> Self {
        Problem { message: message.into(), argument: None }
    }
}

pub(crate) type Answer<T = Value> = Result<T, Problem>;

/// A function as the table lists it.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// How to call it, for messages.
    pub(crate) usage: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// Whether null is a sensible argument.
    pub(crate) nulls: bool,
    pub(crate) run: fn(&Call<'_>) -> Answer,
}

pub(crate) const MANY: usize = usize::MAX;

/// A row of a table: name, usage, smallest and largest number of arguments, what it does.
pub(crate) const fn row(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&Call<'_>) -> Answer,
) -> Function {
    Function { name, usage, min, max, nulls: false, run }
}

/// As [`row`], for functions that take null.
pub(crate) const fn row_with_nulls(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&Call<'_>) -> Answer,
) -> Function {
    Function { name, usage, min, max, nulls: true, run }
}

const TABLES: &[&[Function]] = &[
    collection::TABLE,
    date::TABLE,
    encoding::TABLE,
    file::TABLE,
    format::TABLE,
    hash::TABLE,
    json::TABLE,
    net::TABLE,
    number::TABLE,
    string::TABLE,
];

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLES.iter().flat_map(|table| table.iter()).find(|function| function.name == name)
}

/// All names, those included that the evaluator handles itself.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|function| function.name)
        .chain(["try", "can", "convert"])
}

/// Checks number and nullness of the arguments and calls.
pub(crate) fn call(function: &Function, call: &Call<'_>) -> Answer {
    let given = call.args.len();
    if given < function.min || given > function.max {
        let wanted = match (function.min, function.max) {
            (min, max) if min == max => min.to_string(),
            (min, MANY) => format!("at least {min}"),
            (min, max) => format!("{min} to {max}"),
        };
        return Err(
            format!("needs {wanted} argument{}, got {given}", if wanted == "1" { "" } else { "s" }).into()
        );
    }
    if !function.nulls
        && let Some(at) = call.args.iter().position(|arg| *arg == Value::Null)
    {
        return Err(Problem { message: "the argument must not be null".into(), argument: Some(at) });
    }
    (function.run)(call)
}

impl Call<'_> {
    pub(crate) fn value(&self, at: usize) -> &Value {
        self.args.get(at).unwrap_or(&Value::Null)
    }

    pub(crate) fn wrong(&self, at: usize, wanted: &str) -> Problem {
        Problem { message: format!("expected {wanted}, got {}", self.value(at).kind()), argument: Some(at) }
    }

    pub(crate) fn bad(&self, at: usize, message: impl Into<String>) -> Problem {
        Problem { message: message.into(), argument: Some(at) }
    }

    pub(crate) fn text(&self, at: usize) -> Answer<Arc<str>> {
        self.value(at).to_text().ok_or_else(|| self.wrong(at, "a string"))
    }

    pub(crate) fn number(&self, at: usize) -> Answer<Number> {
        self.value(at).to_number().ok_or_else(|| self.wrong(at, "a number"))
    }

    pub(crate) fn int(&self, at: usize) -> Answer<i64> {
        let number = self.number(at)?;
        let int = number.to_int().and_then(|int| i64::try_from(int).ok());
        int.ok_or_else(|| self.bad(at, format!("expected a whole number, got {number}")))
    }

    pub(crate) fn list(&self, at: usize) -> Answer<&[Value]> {
        self.value(at).elements().ok_or_else(|| self.wrong(at, "a list"))
    }

    pub(crate) fn texts(&self, at: usize) -> Answer<Vec<Arc<str>>> {
        let items = self.list(at)?.iter().map(Value::to_text).collect::<Option<Vec<_>>>();
        items.ok_or_else(|| self.bad(at, "expected a list of strings"))
    }

    pub(crate) fn map(&self, at: usize) -> Answer<&BTreeMap<Arc<str>, Value>> {
        match self.value(at) {
            Value::Map(items) => Ok(items),
            _ => Err(self.wrong(at, "a map")),
        }
    }

    /// Counts the bytes of a result before it is made.
    pub(crate) fn charge(&self, bytes: usize) -> Answer<()> {
        self.budget.bytes(bytes).map_err(Problem::from)?;
        self.budget.steps(bytes / 256).map_err(Problem::from)
    }

    /// Text as the result.
    pub(crate) fn give(&self, text: impl AsRef<str>) -> Answer {
        self.charge(text.as_ref().len())?;
        Ok(Value::text(text))
    }

    /// A list as the result.
    pub(crate) fn give_list(&self, items: Vec<Value>) -> Answer {
        self.charge(items.len() * size_of::<Value>())?;
        Ok(Value::list(items))
    }
}
