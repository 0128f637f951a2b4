//! From a [`Value`] tree to [`Settings`]: every name known, every value of its option's kind, defaults filled in.

use super::value::{Place, Refused, Value, quoted};
use super::{Kind, Opt, Preset};
use std::collections::BTreeMap;

/// The value of one option, of its option's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Of [`Kind::Text`] or [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Flag`].
    Flag(bool),
    /// Of [`Kind::Count`].
    Count(i64),
    /// Of [`Kind::Size`], in bytes.
    Size(u64),
    /// Of [`Kind::Texts`].
    Texts(Vec<String>),
    /// Of [`Kind::Pairs`], in the order given.
    Pairs(Vec<(String, String)>),
    /// Of [`Kind::Block`] (one) and [`Kind::Blocks`].
    Blocks(Vec<Settings>),
}

/// What is set in one block, defaults among it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    place: Place,
    set: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Where the option `name` stands.
    pub fn place(&self, name: &str) -> Place {
        self.place.field(name)
    }

    /// The value of an option, if it is set or has a default.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.set.get(name)
    }

    /// The text of an option; `None` when unset or empty, which always means the same.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.set.get(name) {
            Some(Setting::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Whether a flag is on.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.set.get(name), Some(Setting::Flag(true)))
    }

    /// The number of an option.
    pub fn count(&self, name: &str) -> Option<i64> {
        match self.set.get(name) {
            Some(Setting::Count(number)) => Some(*number),
            _ => None,
        }
    }

    /// The bytes of an option.
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.set.get(name) {
            Some(Setting::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    /// The texts of an option; none when unset.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.set.get(name) {
            Some(Setting::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// The pairs of an option; none when unset.
    pub fn pairs(&self, name: &str) -> &[(String, String)] {
        match self.set.get(name) {
            Some(Setting::Pairs(pairs)) => pairs,
            _ => &[],
        }
    }

    /// The blocks of an option; none when unset.
    pub fn blocks(&self, name: &str) -> &[Settings] {
        match self.set.get(name) {
            Some(Setting::Blocks(blocks)) => blocks,
            _ => &[],
        }
    }
}

/// Checks a block against its options.
///
/// Numbers, flags and texts turn into each other as HCL's own conversion does it, so that a job file means the
/// same whether Nomad or we evaluated it.
///
/// # Errors
/// The first name that is unknown or given twice, value that is not allowed, or required option that is missing.
pub fn check(options: &'static [Opt], given: &Value, place: &Place) -> Result<Settings, Refused> {
    let pairs: &[(String, Value)] = match given {
        Value::Map(pairs) => pairs,
        Value::Null => &[],
        other => return Err(Refused::at(place, format!("must be a block, got {}", other.describe()))),
    };
    let mut set = BTreeMap::new();
    for (name, value) in pairs {
        let Some(option) = options.iter().find(|option| option.name == name) else {
            return Err(unknown(options, name, place));
        };
        let place = place.field(option.name);
        if *value == Value::Null {
            continue;
        }
        if set.insert(option.name, convert(&option.kind, value, &place)?).is_some() {
            return Err(Refused::at(&place, "is given twice"));
        }
    }
    for option in options.iter().filter(|option| !set.contains_key(option.name)).collect::<Vec<_>>() {
        let place = place.field(option.name);
        match option.default.to_value() {
            Some(value) => drop(set.insert(option.name, convert(&option.kind, &value, &place)?)),
            None if option.default == Preset::Required => {
                return Err(Refused::at(&place, "is required and missing"));
            }
            None => {}
        }
    }
    Ok(Settings { place: place.clone(), set })
}

fn unknown(options: &[Opt], name: &str, place: &Place) -> Refused {
    let nearest = options
        .iter()
        .map(|option| (distance(name, option.name), option.name))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    let advice = match nearest {
        Some((_, known)) => format!("did you mean {known:?}?"),
        None => {
            let names: Vec<&str> = options.iter().map(|option| option.name).collect();
            format!("known here: {}", names.join(", "))
        }
    };
    Refused::says(&place.field(name), format!("{place} has no option {}; {advice}", quoted(name)))
}

/// Letters to add, drop or change to get from one name to the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(64).collect(), right.chars().collect());
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let change = at(&row, j) + usize::from(a != b);
            next.push(change.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn convert(kind: &Kind, value: &Value, place: &Place) -> Result<Setting, Refused> {
    let refused = || Refused::at(place, format!("{}, got {}", kind.allowed(), value.describe()));
    Ok(match kind {
        Kind::Text => Setting::Text(text(value).ok_or_else(refused)?),
        Kind::Choice(words) => {
            let text = text(value).ok_or_else(refused)?;
            if !text.is_empty() && !words.contains(&text.as_str()) {
                return Err(refused());
            }
            Setting::Text(text)
        }
        Kind::Flag => Setting::Flag(flag(value).ok_or_else(refused)?),
        Kind::Count { least, most } => {
            let number = whole(value).filter(|number| (least..=most).contains(&number));
            Setting::Count(number.ok_or_else(refused)?)
        }
        Kind::Size => match size(value).ok_or_else(refused)? {
            0 => return Err(Refused::at(place, "must be larger than 0")),
            // The kernel takes more, and wraps around or means something else by it.
            bytes if i64::try_from(bytes).is_err() => {
                return Err(Refused::at(place, "is larger than any memory"));
            }
            bytes => Setting::Size(bytes),
        },
        Kind::Texts => {
            let Value::List(list) = value else { return Err(refused()) };
            let texts = list.iter().enumerate().map(|(index, value)| {
                let place = place.element(index);
                text(value)
                    .ok_or_else(|| Refused::at(&place, format!("must be text, got {}", value.describe())))
            });
            Setting::Texts(texts.collect::<Result<_, _>>()?)
        }
        Kind::Pairs => Setting::Pairs(pairs(value, place).ok_or_else(refused)??),
        Kind::Block(options) => match value {
            Value::List(list) if list.is_empty() => Setting::Blocks(Vec::new()),
            Value::List(list) => match list.as_slice() {
                [one] => Setting::Blocks(vec![check(options, one, place)?]),
                _ => return Err(Refused::at(place, "may be given only once")),
            },
            Value::Map(_) => Setting::Blocks(vec![check(options, value, place)?]),
            _ => return Err(refused()),
        },
        Kind::Blocks(options) => match value {
            Value::List(list) => {
                let blocks =
                    list.iter().enumerate().map(|(index, one)| check(options, one, &place.element(index)));
                Setting::Blocks(blocks.collect::<Result<_, _>>()?)
            }
            Value::Map(_) => Setting::Blocks(vec![check(options, value, &place.element(0))?]),
            _ => return Err(refused()),
        },
    })
}

/// A map, or a list of maps as repeated blocks arrive, the later names added to the earlier.
fn pairs(value: &Value, place: &Place) -> Option<Result<Vec<(String, String)>, Refused>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let maps: Vec<&Value> = match value {
        Value::Map(_) => vec![value],
        Value::List(list) => list.iter().collect(),
        _ => return None,
    };
    for map in maps {
        let Value::Map(map) = map else { return None };
        for (name, value) in map {
            let place = place.field(name);
            if *value == Value::Null {
                continue;
            }
            let Some(text) = text(value) else {
                return Some(Err(Refused::at(&place, format!("must be text, got {}", value.describe()))));
            };
            if all.iter().any(|(known, _)| known == name) {
                return Some(Err(Refused::at(&place, "is given twice")));
            }
            all.push((name.clone(), text));
        }
    }
    Some(Ok(all))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i64> {
    // Beyond 2^53 a float no longer says which whole number is meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Integer(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => Some(*number as i64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn size(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => parse_size(text),
        other => whole(other).and_then(|number| u64::try_from(number).ok()),
    }
}

/// Bytes from `1048576`, `512k`, `64m`, `2g`, also with a `b` or `ib` after the unit, any case.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let power = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << power)
}

#[cfg(test)]
mod tests {
    use super::super::{TASK, free};
    use super::*;
    use proptest::prelude::*;

    static SMALL: &[Opt] = &[
        free(
            "word",
            Kind::Choice(&["private", "host"]),
            Preset::Unset("the operator's"),
            "A word of two words",
        ),
        free("number", Kind::Count { least: 1, most: 10 }, Preset::Count(3), "A number that is small"),
        free("size", Kind::Size, Preset::Unset("none at all"), "A size in bytes or so"),
        free("names", Kind::Pairs, Preset::Pairs(&[]), "Names with values of text"),
        free("inner", Kind::Blocks(INNER), Preset::Unset("none at all"), "Blocks within the block"),
    ];
    static INNER: &[Opt] = &[free("path", Kind::Text, Preset::Required, "A path of some kind")];

    fn small(pairs: Vec<(&str, Value)>) -> Result<Settings, String> {
        check(SMALL, &Value::map(pairs), &Place::top()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_value_is_told_with_what_is_allowed() {
        let text = |pairs| small(pairs).unwrap_err();
        assert_eq!(text(vec![("word", "x".into())]), "word must be \"private\" or \"host\", got \"x\"");
        assert_eq!(text(vec![("number", 11.into())]), "number must be a whole number from 1 to 10, got 11");
        assert_eq!(
            text(vec![("number", Value::Float(1.5))]),
            "number must be a whole number from 1 to 10, got 1.5"
        );
        assert_eq!(
            text(vec![("size", "64x".into())]),
            "size must be a number of bytes, or text such as \"64m\", got \"64x\""
        );
        assert_eq!(text(vec![("names", "x".into())]), "names must be a map of texts, got \"x\"");
        assert_eq!(text(vec![("number", 1.into()), ("number", 2.into())]), "number is given twice");
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest() {
        assert_eq!(
            small(vec![("numbr", 1.into())]).unwrap_err(),
            "config has no option \"numbr\"; did you mean \"number\"?"
        );
        assert_eq!(
            small(vec![("zzz", 1.into())]).unwrap_err(),
            "config has no option \"zzz\"; known here: word, number, size, names, inner"
        );
        let inner =
            Value::List(vec![Value::map([("path", "/a".into())]), Value::map([("pth", "/a".into())])]);
        assert_eq!(
            small(vec![("inner", inner)]).unwrap_err(),
            "inner[1] has no option \"pth\"; did you mean \"path\"?"
        );
        let missing = Value::List(vec![Value::Map(vec![])]);
        assert_eq!(small(vec![("inner", missing)]).unwrap_err(), "inner[0].path is required and missing");
    }

    #[test]
    fn values_turn_into_each_other_as_in_hcl() {
        let settings = small(vec![("number", "7".into()), ("size", 5.into()), ("word", "".into())]).unwrap();
        assert_eq!(
            (settings.count("number"), settings.size("size"), settings.text("word")),
            (Some(7), Some(5), None)
        );
        assert_eq!(small(vec![("number", Value::Null)]).unwrap().count("number"), Some(3));
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("64m", 64 << 20), ("64M", 64 << 20), ("1 GiB", 1 << 30), ("3kb", 3072)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1.5g", "99999999999999999999", "18446744073709551615k", "5x"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Float),
            ".{0,8}".prop_map(Value::String),
        ];
        let name = prop_oneof![
            proptest::sample::select(TASK.iter().map(|option| option.name.to_owned()).collect::<Vec<_>>()),
            ".{0,6}"
        ];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::vec((name.clone(), inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_panics_and_every_refusal_has_a_place(value in any_value()) {
            if let Err(error) = check(TASK, &value, &Place::top()) {
                prop_assert!(!error.text.is_empty());
            }
        }
    }
}
