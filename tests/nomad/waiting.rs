//! Waiting for what an agent does, each time with a deadline.

use serde_json::Value;
use std::time::{Duration, Instant};

/// Longest time that anything usual may take.
pub(crate) const A_WHILE: Duration = Duration::from_secs(60);

/// Whether an allocation is in this state.
pub(crate) fn client_status(wanted: &'static str) -> impl Fn(&Value) -> bool {
    move |allocation| allocation["ClientStatus"] == wanted
}

/// Polls a condition and fails when it does not come true.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + A_WHILE;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}
