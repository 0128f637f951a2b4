//! Any text is a template that is rendered, or an error in words; what is rendered is bounded, the same again, and read
//! as variables only under plain names.
//!
//! What takes long is ended by the limits of the helper process, not by the engine: long numbers are left out here.
#![no_main]

use bivouac_runner::template::{LARGEST, Missing, Order, environment, helper};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::Arc;

fuzz_target!(|text: &str| {
    variables(text);
    if has_long_number(text) {
        return;
    }
    // A first line may hold other delimiters.
    let (left, right, text) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("delimiters ") => {
            let words = first.split_once(' ').map_or("", |(_, words)| words);
            let (left, right) = words.split_once(' ').unwrap_or((words, ""));
            (left, right, rest)
        }
        _ => ("{{", "}}", text),
    };
    for missing in [Missing::Empty, Missing::Error] {
        let env =
            BTreeMap::from([("NAME".to_owned(), "world".to_owned()), ("PORT".to_owned(), "80".to_owned())]);
        let order =
            Order { text: text.to_owned(), left: left.to_owned(), right: right.to_owned(), missing, env };
        match render(&order) {
            Ok(rendered) => {
                assert!(rendered.len() <= LARGEST);
                assert!(text.contains(left) || rendered == text, "nothing to do, and the text has changed");
                assert!(
                    text.contains("timestamp") || render(&order).as_ref() == Ok(&rendered),
                    "not the same again"
                );
                variables(&rendered);
            }
            Err(words) => assert!(!words.is_empty(), "a refusal without a reason"),
        }
    }
});

fn render(order: &Order) -> Result<String, String> {
    let files = |path: &str| match path {
        "f" => Ok("{\"a\": [1, 2.5, null, {\"b\": \"<&>\"}]}".to_owned()),
        "y" => Ok("a: &x [1, two]\nb: *x\n".to_owned()),
        _ => Err("refused".to_owned()),
    };
    helper::evaluate(order, Arc::new(files))
}

/// Whether a number in it, however written, could be above 99.
fn has_long_number(text: &str) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || b"xXoO_.+-pP".contains(byte);
    text.as_bytes().windows(3).any(|three| three[0].is_ascii_digit() && three[1..].iter().all(is_part))
}

fn variables(text: &str) {
    let Ok(all) = environment::parse(text) else { return };
    for (name, value) in all {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(plain), "{name:?}");
        assert!(!value.contains('\0'), "{value:?}");
    }
}
