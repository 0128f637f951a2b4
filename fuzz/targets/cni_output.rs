//! Whatever a CNI plugin prints, an interface that the kernel could have, an address that a machine can have and words
//! of one line, or a refusal in words; what was read is the same after it was saved.
#![no_main]

use bivouac_runner::network::cni::{Outcome, fuzzing};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    if let Some(words) = fuzzing::read_complaint(bytes) {
        assert!(words.chars().count() <= 500 && !words.contains(char::is_control), "{words:?}");
    }
    match fuzzing::read_answer(bytes, Path::new("/run/netns/a")) {
        Ok(outcome) => sound(&outcome),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn sound(outcome: &Outcome) {
    let interface = outcome.interface.as_ref().expect("an answer without an interface is refused");
    let name = interface.name.as_str();
    assert!((1..16).contains(&name.len()) && ![".", ".."].contains(&name), "{interface:?}");
    assert!(
        !name.contains(|c: char| "/:".contains(c) || c.is_whitespace() || c.is_control()),
        "{interface:?}"
    );
    for address in interface.ipv6.iter().chain([&interface.address]) {
        assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
    }
    assert!(interface.ipv6.is_none_or(|address| address.is_ipv6()));
    for word in outcome.resolver.searches.iter().chain(&outcome.resolver.options) {
        assert!(
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control()),
            "{word:?}"
        );
    }
    let saved = serde_json::to_string(outcome).expect("what was read can be saved");
    let again: Outcome = serde_json::from_str(&saved).expect("what was saved can be read");
    assert_eq!(&again, outcome);
}
