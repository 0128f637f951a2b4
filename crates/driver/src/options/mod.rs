//! One definition per option of a task and of the operator: name, type, default, ceiling, help, error, effect.
//!
//! The plugin's schema, the job file's checks and the reference page come from [`TASK`] and [`OPERATOR`];
//! [`check`] turns a [`Value`] tree into [`Settings`] by them, and `crate::config` gives those their types.

mod check;
mod operator;
mod task;
mod value;

pub use check::{Setting, Settings, check, parse_size};
pub use operator::OPERATOR;
pub use task::TASK;
pub(crate) use value::quoted;
pub use value::{Place, Refused, Value};

/// The version that this list of options belongs to.
const FIRST: &str = "0.1.0";

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its name in the `config` block.
    pub name: &'static str,
    /// What it may hold; the error text for everything else follows from it ([`Kind::allowed`]).
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Preset,
    /// What bounds it.
    pub ceiling: Ceiling,
    /// One sentence for the reference page.
    pub help: &'static str,
    /// The version in which it came.
    pub since: &'static str,
    /// What setting it does.
    pub effect: Effect,
}

/// What an option may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// One of these words. An empty text means the default.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// A number of bytes from 1 to 2^63 - 1, or text such as `64m` (units b, k, m, g, powers of 1024). On the wire:
    /// text, which HCL also makes of a number.
    Size,
    /// A list of texts.
    Texts,
    /// Free names, each with a text.
    Pairs,
    /// At most one block.
    Block(&'static [Opt]),
    /// Any number of blocks, in order.
    Blocks(&'static [Opt]),
}

impl Kind {
    /// What is allowed, as the end of a sentence that begins with the option's name.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Text => "must be text".into(),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                match quoted.split_last() {
                    Some((last, [])) => format!("must be {last}"),
                    Some((last, rest)) => format!("must be {} or {last}", rest.join(", ")),
                    None => "must not be set".into(),
                }
            }
            Kind::Flag => "must be true or false".into(),
            Kind::Count { least, most: i64::MAX } => format!("must be a whole number from {least} on"),
            Kind::Count { least, most } => format!("must be a whole number from {least} to {most}"),
            Kind::Size => "must be a number of bytes, or text such as \"64m\"".into(),
            Kind::Texts => "must be a list of texts".into(),
            Kind::Pairs => "must be a map of texts".into(),
            Kind::Block(_) => "must be a block".into(),
            Kind::Blocks(_) => "must be one or more blocks".into(),
        }
    }
}

/// What an option is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It must be set.
    Required,
    /// Nothing; the text says what that means.
    Unset(&'static str),
    /// This text.
    Text(&'static str),
    /// This flag.
    Flag(bool),
    /// This number.
    Count(i64),
    /// These texts.
    Texts(&'static [&'static str]),
    /// These pairs.
    Pairs(&'static [(&'static str, &'static str)]),
}

impl Preset {
    /// The default as somebody would write it; `None` when there is nothing to write.
    pub fn to_value(self) -> Option<Value> {
        match self {
            Preset::Required | Preset::Unset(_) => None,
            Preset::Text(text) => Some(text.into()),
            Preset::Flag(flag) => Some(flag.into()),
            Preset::Count(number) => Some(number.into()),
            Preset::Texts(texts) => Some(Value::texts(texts.iter().copied())),
            Preset::Pairs(pairs) => {
                Some(Value::map(pairs.iter().map(|(name, value)| (*name, Value::from(*value)))))
            }
        }
    }
}

/// What bounds an option of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Nothing but its kind: it harms nobody else, or it makes the task stronger confined.
    None,
    /// The operator's option of this name.
    Operator(&'static str),
}

/// What setting an option does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What the help text says.
    Real,
    /// Accepted, because job files for the built-in driver may hold it, and without effect for this reason.
    Ignored(&'static str),
}

/// An option whose only bound is its kind.
const fn free(name: &'static str, kind: Kind, default: Preset, help: &'static str) -> Opt {
    Opt { name, kind, default, ceiling: Ceiling::None, help, since: FIRST, effect: Effect::Real }
}

/// An option that the operator's option `ceiling` bounds.
const fn bounded(
    name: &'static str,
    kind: Kind,
    default: Preset,
    ceiling: &'static str,
    help: &'static str,
) -> Opt {
    Opt { name, kind, default, ceiling: Ceiling::Operator(ceiling), help, since: FIRST, effect: Effect::Real }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn every<'a>(list: &'a [Opt], visit: &mut dyn FnMut(&'a [Opt], &'a Opt)) {
        for option in list {
            visit(list, option);
            if let Kind::Block(inner) | Kind::Blocks(inner) = option.kind {
                every(inner, visit);
            }
        }
    }

    #[test]
    fn names_are_unique_and_plain() {
        for list in [TASK, OPERATOR] {
            every(list, &mut |siblings, option| {
                let twins = siblings.iter().filter(|other| other.name == option.name).count();
                assert_eq!(twins, 1, "{}", option.name);
                assert!(
                    option.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                );
            });
        }
    }

    #[test]
    fn every_option_is_documented_in_one_sentence() {
        for list in [TASK, OPERATOR] {
            every(list, &mut |_, option| {
                assert!(option.help.len() > 15, "{}", option.name);
                assert!(option.help.starts_with(|c: char| c.is_uppercase()), "{}", option.name);
                assert!(
                    !option.help.ends_with('.'),
                    "{}: a fragment of a table has no full stop",
                    option.name
                );
                assert_eq!(option.since, FIRST);
            });
        }
    }

    #[test]
    fn ceilings_name_options_that_exist() {
        let names: BTreeSet<&str> = OPERATOR.iter().map(|option| option.name).collect();
        every(TASK, &mut |_, option| {
            if let Ceiling::Operator(name) = option.ceiling {
                assert!(names.contains(name), "{}: {name}", option.name);
            }
        });
        every(OPERATOR, &mut |_, option| assert_eq!(option.ceiling, Ceiling::None, "{}", option.name));
    }

    #[test]
    fn defaults_are_of_their_options_kind() {
        for list in [TASK, OPERATOR] {
            every(list, &mut |_, option| {
                let Some(default) = option.default.to_value() else { return };
                let one = std::slice::from_ref(option);
                let given = Value::map([(option.name, default)]);
                check(one, &given, &Place::top()).unwrap_or_else(|error| panic!("{error}"));
            });
        }
    }

    #[test]
    fn what_is_allowed_reads_as_a_sentence() {
        assert_eq!(Kind::Choice(&["private", "host"]).allowed(), "must be \"private\" or \"host\"");
        assert_eq!(Kind::Choice(&["a", "b", "c"]).allowed(), "must be \"a\", \"b\" or \"c\"");
        assert_eq!(
            Kind::Count { least: -1000, most: 1000 }.allowed(),
            "must be a whole number from -1000 to 1000"
        );
    }
}
