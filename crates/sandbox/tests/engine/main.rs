//! The engine with real sandboxes, as root: commands, launches, mounts and what a task's `/` is. Launching needs a
//! process with one thread, which the standard harness is not: `support` has one of our own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test without the standard harness"
)]

mod command;
mod launch;
mod mounts;
mod root;
mod support;

fn main() -> std::process::ExitCode {
    support::run(&[command::TESTS, launch::TESTS, mounts::TESTS, root::TESTS].concat())
}
