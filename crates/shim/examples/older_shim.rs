//! The shim's program as the version before this one would be: for the tests of upgrades.

#[path = "../src/main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
