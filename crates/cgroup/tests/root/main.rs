//! Groups on the hierarchies of the machine that runs the tests: root, and a scope per test that must end empty.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests: a panic is how a test fails"
)]

mod common;
mod devices;
mod kill;
mod lifecycle;
mod oom;
mod stats;
