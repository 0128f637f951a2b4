//! The plugin of the version before this one: for the tests of upgrades.

#[path = "plugin.rs"]
mod plugin;

fn main() -> std::process::ExitCode {
    plugin::main()
}
