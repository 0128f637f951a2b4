//! Configurations that are refused: the agent does not start, and says why in our words.

use crate::agent::{Agent, Plugin, Setup, program};
use crate::real_plugin;

/// What the agent says about this inside of a plugin's `config`.
fn refusal(block: &str) -> Option<String> {
    let nomad = program().inspect_err(|why| println!("SKIPPED: configuration: {why}")).ok()?;
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let block = format!("config {{\n{block}\n}}");
    let plugins = [Plugin { file: "bivouac", program: &plugin, block: &block }];
    let mut agent = Agent::prepare(
        &nomad,
        Setup { plugins: &plugins, env: &[("BIVOUAC_SHIM", &shim)], ..Setup::default() },
    );
    agent.launch();
    Some(agent.wait_for_end())
}

/// Covers: E17, X47, X49
#[test]
fn e17_ranges_of_denied_ids() {
    let Some(said) = refusal("denied_host_uids = \"10-1\"") else { return };
    assert!(said.contains("denied_host_uids") || said.contains("deniedHostUIDs"), "{said}");
    assert!(said.contains("lower bound cannot be greater than upper bound"), "{said}");
}

/// Covers: E18
#[test]
fn e18_modes_of_the_plugin() {
    let Some(said) = refusal("default_pid_mode = \"other\"") else { return };
    assert!(
        said.contains("default_pid_mode must be \\\"private\\\" or \\\"host\\\", got \\\"other\\\"")
            || said.contains("default_pid_mode must be \"private\" or \"host\", got \"other\""),
        "{said}"
    );
}

#[test]
fn an_unknown_capability_and_an_unknown_option_are_named() {
    let Some(said) = refusal("allow_caps = [\"not_valid\"]") else { return };
    assert!(
        said.contains("allow_caps configured with capabilities not supported by system: not_valid"),
        "{said}"
    );
    let Some(said) = refusal("no_such_option = true") else { return };
    assert!(said.contains("no_such_option"), "{said}");
}
