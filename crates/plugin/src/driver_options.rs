//! The driver's options as the face describes options, and values back into the driver's.
//!
//! Here only forms are compared, so that the client can refuse unknown names and wrong types; what a
//! value may be is the driver's to say, in its own words.

use crate::options::{Kind, Opt, Value, Values};
use bivouac_driver::options as driver;

/// The driver's list as the face's.
#[must_use]
pub fn from_driver(options: &[driver::Opt]) -> Vec<Opt> {
    options.iter().map(option).collect()
}

fn option(option: &driver::Opt) -> Opt {
    let kind = match option.kind {
        // A size may be written as a number: the client turns that into text.
        driver::Kind::Text | driver::Kind::Choice(_) | driver::Kind::Size => Kind::Text,
        driver::Kind::Flag => Kind::Flag,
        driver::Kind::Count { .. } => Kind::Count,
        driver::Kind::Texts => Kind::TextList,
        driver::Kind::Pairs => Kind::TextMap,
        driver::Kind::Block(inner) => Kind::Block(from_driver(inner)),
        driver::Kind::Blocks(inner) => Kind::Blocks(from_driver(inner)),
    };
    let default = match option.default {
        driver::Preset::Required | driver::Preset::Unset(_) => None,
        // No expression of the schema stands for a map; the driver fills these in itself.
        driver::Preset::Pairs(_) => None,
        driver::Preset::Text(text) => Some(Value::Text(text.to_owned())),
        driver::Preset::Flag(flag) => Some(Value::Flag(flag)),
        driver::Preset::Count(count) => Some(Value::Count(count)),
        driver::Preset::Texts(texts) => {
            Some(Value::TextList(texts.iter().map(|&text| text.to_owned()).collect()))
        }
    };
    Opt {
        name: option.name,
        kind,
        required: option.default == driver::Preset::Required,
        default,
        help: option.help,
    }
}

/// A block's values as the driver takes them.
#[must_use]
pub fn to_driver(values: &Values) -> driver::Value {
    driver::Value::map(values.0.iter().map(|(name, value)| (name.as_str(), to_value(value))))
}

fn to_value(value: &Value) -> driver::Value {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::Flag(flag) => (*flag).into(),
        Value::Count(count) => (*count).into(),
        Value::Number(number) => driver::Value::Float(*number),
        Value::TextList(list) => driver::Value::texts(list.iter().map(String::as_str)),
        Value::TextMap(map) => {
            driver::Value::map(map.iter().map(|(name, text)| (name.as_str(), text.as_str().into())))
        }
        Value::Block(block) => to_driver(block),
        Value::Blocks(blocks) => driver::Value::List(blocks.iter().map(to_driver).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_driver::config::{OperatorConfig, TaskConfig};
    use serde_json::json;

    fn decode(sent: serde_json::Value, options: &[driver::Opt]) -> driver::Value {
        let bytes = rmp_serde::to_vec_named(&sent).unwrap();
        to_driver(&crate::msgpack::decode(&bytes, &from_driver(options)).unwrap())
    }

    #[test]
    fn the_schemas_that_an_agent_checks_with() {
        insta::assert_debug_snapshot!("operator", from_driver(driver::OPERATOR));
        insta::assert_debug_snapshot!("task", from_driver(driver::TASK));
    }

    #[test]
    fn the_faces_own_options_do_not_collide() {
        for (ours, theirs) in [
            (crate::options::face_operator_options(), driver::OPERATOR),
            (crate::options::face_task_options(), driver::TASK),
        ] {
            for opt in ours {
                assert!(theirs.iter().all(|other| other.name != opt.name), "{}", opt.name);
            }
        }
    }

    #[test]
    fn an_empty_block_means_the_same_on_both_ways() {
        let ours = OperatorConfig::decode(&decode(json!({}), driver::OPERATOR)).unwrap();
        assert_eq!(ours, OperatorConfig::decode(&driver::Value::Null).unwrap());
    }

    #[test]
    fn what_a_job_says_arrives_and_what_is_wrong_is_refused_in_the_drivers_words() {
        let sent = json!({
            "command": "/bin/true", "args": ["a"], "pid_mode": null, "ulimit": {"nofile": "10:20"},
            "mount": [{"type": null, "target": "/scratch", "source": "/srv"}],
        });
        TaskConfig::decode(&decode(sent, driver::TASK)).unwrap();
        let sent = json!({"command": "/bin/true", "pid_mode": "other"});
        let refused = TaskConfig::decode(&decode(sent, driver::TASK)).unwrap_err();
        assert_eq!(refused.to_string(), "pid_mode must be \"private\" or \"host\", got \"other\"");
    }
}
