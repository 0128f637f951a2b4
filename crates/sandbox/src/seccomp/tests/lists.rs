//! The lists are whole: each call that exists stands in one theme, each name in them is a call.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

fn known() -> BTreeSet<&'static str> {
    ENTRIES.iter().flat_map(|entry| (0..entry.end()).filter_map(|number| entry.name(number))).collect()
}

#[test]
fn each_call_stands_in_exactly_one_theme() {
    let mut listed = BTreeMap::<_, Vec<_>>::new();
    for theme in themes::all() {
        for call in theme.calls {
            listed.entry(*call).or_default().push(theme.name);
        }
    }
    let twice: Vec<_> = listed.iter().filter(|(_, themes)| themes.len() > 1).collect();
    assert_eq!(twice, []);
    let unlisted: Vec<_> = known().into_iter().filter(|call| !listed.contains_key(call)).collect();
    assert_eq!(unlisted, [""; 0], "in no theme");
}

/// T75: a misspelt name would quietly open or close nothing.
/// Covers: T75
#[test]
fn t75_each_name_is_a_call() {
    let known = known();
    let wrong: Vec<_> =
        themes::all().flat_map(|theme| theme.calls).filter(|call| !known.contains(*call)).collect();
    assert_eq!(wrong, [&""; 0]);
}

#[test]
fn each_theme_has_its_own_name_and_a_reason() {
    let names: BTreeSet<_> = themes::all().map(|theme| theme.name).collect();
    assert_eq!(names.len(), themes::all().count());
    assert!(themes::all().all(|theme| theme.reason.len() > 10 && !theme.calls.is_empty()));
}

#[test]
fn no_look_has_a_value_twice_or_outside_its_mask() {
    fn check(verdict: &verdict::Verdict) {
        if let verdict::Verdict::Look(look) = verdict {
            let values: BTreeSet<_> = look.arms.iter().map(|arm| arm.0).collect();
            assert_eq!(values.len(), look.arms.len(), "{look:x?}");
            assert!(values.iter().all(|value| value & !look.mask == 0), "{look:x?}");
            assert!(look.argument < 6);
            look.arms.iter().for_each(|arm| check(&arm.1));
            check(&look.otherwise);
        }
    }
    for (_, request) in requests() {
        themes::all().for_each(|theme| check(&theme.gate.verdict(&request)));
    }
}

/// The page to read when a list changes.
#[test]
fn the_lists() {
    insta::assert_snapshot!("lists", lists());
}
