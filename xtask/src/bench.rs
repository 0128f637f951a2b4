//! `cargo xtask bench`: release binaries and the engine's loop, then the benchmark with them, here or (`--vm`) in the
//! cgroup v2 machine.

use crate::build;
use crate::shell;
use crate::test::{self, Suite};
use crate::workspace::{Workspace, string};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The engine launched in a loop.
const LAUNCHES: (&str, &str) = ("bivouac-sandbox", "launch_loop");
/// A job file read in a loop.
const PARSES: (&str, &str) = ("bivouac-jobspec", "parse_loop");

/// Everything after `bench` goes to the benchmark program, but for `nomad`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build::release()?;
    let workspace = Workspace::load()?;
    if let Some((name, rest)) = arguments.split_first()
        && name == "nomad"
    {
        return nomad(&workspace, rest);
    }
    // Static, as the programs are, whose work they do; with their flags, or all would be compiled twice.
    let mut loops = shell::cargo();
    loops.args(["build", "--release", "--target", build::TARGET]).env(build::FLAGS.0, build::FLAGS.1);
    // What holds on a busy machine: its one loop, and a slow watcher, which is built sooner.
    let (timed, profile): (&[_], _) = if arguments.iter().any(|word| word == "--check") {
        (&[LAUNCHES], "dev")
    } else {
        (&[LAUNCHES, PARSES], "bench")
    };
    for (package, example) in timed {
        loops.args(["--package", package, "--example", example]);
    }
    shell::run(loops.current_dir(&workspace.root))?;
    let program = program(&workspace, "bivouac-bench", profile)?;
    let examples = workspace.target.join(build::TARGET).join("release/examples");
    let at = |name: &str| examples.join(name).display().to_string();
    // The benchmark mounts a file system of its own where only it and its children see it.
    let settings = [
        ("BIVOUAC_DIST", workspace.target.join("dist").display().to_string()),
        ("BIVOUAC_ENGINE", at("launch_loop")),
        ("BIVOUAC_PARSER", at("parse_loop")),
        ("BIVOUAC_OWN_MOUNTS", "yes".to_owned()),
    ];
    if let Some((word, rest)) = arguments.split_first()
        && word == "--vm"
    {
        // The guest's script hands on one word.
        let form = match rest {
            [] => "--launches",
            [one] => one.as_str(),
            _ => anyhow::bail!("`cargo xtask bench --vm` takes one word more, as `--smoke`"),
        };
        let suite = Suite::program("benchmark", program, workspace.root.join("benches"));
        return test::in_the_machine(&workspace, &suite, form, &settings);
    }
    shell::run(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(program)
            .args(arguments)
            .envs(settings)
            .current_dir(workspace.root.join("benches")),
    )
    .context("the benchmark")
}

/// What a task costs under a real Nomad. The full form writes the page, the short one only shows it.
fn nomad(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let short = match arguments {
        [] => false,
        [one] if one == "--short" => true,
        _ => anyhow::bail!("`cargo xtask bench nomad` takes `--short` or nothing"),
    };
    if let Some(lacking) = test::nomad::begin(workspace, true).finish() {
        anyhow::bail!("there is no Nomad to measure under: {lacking}");
    }
    // What the client's own work is measured by, with the release's flags.
    let mut floor = shell::cargo();
    floor.args(["build", "--release", "--target", build::TARGET]).env(build::FLAGS.0, build::FLAGS.1);
    floor.args(["--package", "bivouac-plugin", "--example", "fake_plugin"]);
    shell::run(floor.current_dir(&workspace.root))?;
    let floor = workspace.target.join(build::TARGET).join("release/examples/fake_plugin");
    let mut command = Command::new(program(workspace, "bivouac-plugin", "dev")?);
    command
        .env("BIVOUAC_DIST", workspace.target.join("dist"))
        .env("BIVOUAC_FLOOR", floor)
        .current_dir(&workspace.root);
    if short {
        command.arg("--short");
    } else {
        command.env("BIVOUAC_PAGE", workspace.root.join("docs/benchmarks-nomad.md"));
    }
    shell::run(&mut command).context("the benchmark under Nomad")
}

/// Builds the benchmark program of a package and says where it lies. What only watches need not be fast itself.
fn program(workspace: &Workspace, package: &str, profile: &str) -> Result<PathBuf> {
    let output = shell::cargo()
        .args(["bench", "--no-run", "--benches", "--package", package, "--profile", profile])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "the benchmark does not build");
    let text = String::from_utf8(output.stdout).context("cargo did not print text")?;
    let built = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    built
        .filter(|message| message.get("reason").is_some_and(|reason| reason == "compiler-artifact"))
        .filter(|message| message.pointer("/target/kind/0").is_some_and(|kind| kind == "bench"))
        .find_map(|message| string(&message, "executable").ok())
        .map(PathBuf::from)
        .context("cargo named no benchmark program")
}
