//! Properties of resolving: whatever is asked for, the answer is a plan or a sentence; and capability sets are what a
//! model with plain sets says.

use super::*;
use crate::capabilities::{Asked, Holder, Powers, grant};
use crate::config::{Ambient, OperatorConfig, TaskConfig};
use crate::options::{Kind, OPERATOR, Opt, TASK, Value};
use bivouac_sandbox::capability::CapSet;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A value of the option's kind, mostly one that somebody might write.
fn value_of(option: &'static Opt) -> BoxedStrategy<Value> {
    let words = || {
        prop_oneof![
            proptest::sample::select(vec![
                "/bin/true",
                "/srv:/x:ro",
                "/dev/null",
                "/dev/fuse",
                "/local/a",
                "../x",
                "/proc/1",
                "all",
                "NET_RAW",
                "chown",
                "10:20",
                "unlimited",
                "64m",
                "0",
                "web",
                "a:10.0.0.1",
                "::1",
                "tmpfs",
                "bind",
                "0-3",
                "/etc",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,12}",
        ]
    };
    match option.kind {
        Kind::Choice(choices) => proptest::sample::select(choices.to_vec()).prop_map(Value::from).boxed(),
        Kind::Flag => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Count { least, most } => (least..=most).prop_map(Value::Integer).boxed(),
        Kind::Text | Kind::Size => words().prop_map(Value::String).boxed(),
        Kind::Texts => {
            proptest::collection::vec(words().prop_map(Value::String), 0..4).prop_map(Value::List).boxed()
        }
        Kind::Pairs => proptest::collection::vec((words(), words().prop_map(Value::String)), 0..3)
            .prop_map(Value::Map)
            .boxed(),
        Kind::Block(inner) => block(inner).boxed(),
        Kind::Blocks(inner) => proptest::collection::vec(block(inner), 0..3).prop_map(Value::List).boxed(),
    }
}

/// Some of the options, each with a value of its kind.
fn block(options: &'static [Opt]) -> impl Strategy<Value = Value> {
    let chosen =
        proptest::sample::subsequence((0..options.len()).collect::<Vec<_>>(), 0..=options.len().min(9));
    chosen.prop_flat_map(move |chosen| {
        let one = |at: usize| {
            options.get(at).map(|option| value_of(option).prop_map(|value| (option.name.to_owned(), value)))
        };
        chosen.into_iter().filter_map(one).collect::<Vec<_>>().prop_map(Value::Map)
    })
}

fn with_command(value: Value) -> Value {
    let Value::Map(mut pairs) = value else { return value };
    if !pairs.iter().any(|(name, _)| name == "command") {
        pairs.push(("command".into(), "/bin/date".into()));
    }
    Value::Map(pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_task_is_a_plan_or_a_sentence(
        operator in block(OPERATOR), task in block(TASK), user in "|web|root|0|\\PC{0,5}",
        mib in proptest::option::of(any::<u64>()),
    ) {
        let (Ok(operator), Ok(task)) = (OperatorConfig::decode(&operator), TaskConfig::decode(&with_command(task)))
        else { return Ok(()) };
        let mut request = tests::request(Vec::new());
        (request.config, request.user, request.resources.memory_mib) = (task, user, mib);
        match tests::resolve_on_paper(&operator, &tests::facts(), &request) {
            Err(error) => prop_assert!(error.to_string().len() > 10),
            Ok(task) => {
                let identity = &task.sandbox.process.identity;
                prop_assert!(identity.uid != 0 || operator.allow_root);
                prop_assert!(!operator.denied_uids.contains(identity.uid));
                let sets = &task.sandbox.process.capabilities;
                prop_assert_eq!(sets.effective.bits() & !sets.permitted.bits(), 0);
                prop_assert_eq!(sets.ambient.bits() & !(sets.permitted.bits() & sets.inheritable.bits()), 0);
                // The same is asked, the same is answered: a plan prints and travels whole.
                let text = serde_json::to_string(&task.sandbox).unwrap();
                let again: Sandbox = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(again, task.sandbox);
            }
        }
    }

    /// The model: plain sets of names, by the words of the documentation.
    #[test]
    fn capabilities_are_what_plain_sets_say(
        allow in names(), add in names(), drop in names(), root: bool, asked: bool,
    ) {
        let all = CapSet::up_to(40);
        let powers = Powers { known: all, held: all };
        let ambient = if asked { Ambient::Asked } else { Ambient::All };
        let given = Asked { allow: &allow, add: &add, drop: &drop, ambient };
        let set = |words: &[String]| -> BTreeSet<u64> {
            words.iter().flat_map(|word| match word.as_str() {
                "all" => (0..=40).collect::<Vec<_>>(),
                name => NAMES.iter().filter(|(known, _)| *known == name).map(|(_, number)| *number).collect(),
            }).collect()
        };
        let (allow, add, drop) = (set(&allow), set(&add), set(&drop));
        let base: BTreeSet<u64> = match root {
            true => (0..=37).collect(),
            false => DEFAULTS.into_iter().filter(|number| allow.contains(number)).collect(),
        };
        let model: BTreeSet<u64> = base.difference(&drop).chain(&add).copied().collect();
        let bits = |set: &BTreeSet<u64>| set.iter().fold(0u64, |bits, number| bits | 1 << number);
        let Ok(granted) = grant(&given, if root { Holder::Root } else { Holder::Other }, powers) else {
            prop_assert!(!add.is_subset(&allow), "{:?} of {:?} was refused", add, allow);
            return Ok(());
        };
        prop_assert!(add.is_subset(&allow) && (root || model.is_subset(&allow)), "more than the operator allows");
        let sets = granted.sets;
        let in_force = if root || !asked { bits(&model) } else { bits(&add) };
        let handed_on = if root { 0 } else { in_force };
        prop_assert_eq!(sets.bounding.bits(), bits(&model));
        prop_assert_eq!([sets.permitted.bits(), sets.effective.bits()], [in_force; 2]);
        prop_assert_eq!([sets.inheritable.bits(), sets.ambient.bits()], [handed_on; 2]);
        prop_assert_eq!(granted.added.bits(), bits(&add));
    }
}

const NAMES: [(&str, u64); 6] = [
    ("chown", 0),
    ("kill", 5),
    ("net_bind_service", 10),
    ("net_raw", 13),
    ("sys_admin", 21),
    ("sys_time", 25),
];

/// The documented default set, by number.
const DEFAULTS: [u64; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];

fn names() -> impl Strategy<Value = Vec<String>> {
    let word = proptest::sample::select(
        NAMES.iter().map(|(name, _)| (*name).to_owned()).chain(["all".to_owned()]).collect::<Vec<_>>(),
    );
    proptest::collection::vec(word, 0..4)
}
