//! Building all test programs once, and knowing which of them go to the virtual machine too.

use crate::shell;
use crate::workspace::{Workspace, array, string};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Rooms whose integration tests touch the kernel.
const IN_THE_MACHINE: [&str; 6] =
    ["bivouac-cgroup", "bivouac-sandbox", "bivouac-shim", "bivouac-driver", "bivouac", PLUGIN];

/// The room of the Nomad face.
const PLUGIN: &str = "bivouac-plugin";
/// The suite on a real Nomad.
const NOMAD: &str = "bivouac-plugin::nomad";
/// The plugin over a pretended engine: the same on both machines.
const RPC: &str = "bivouac-plugin::rpc";
/// The plugin over the real driver, driven by a client of our own. A Nomad agent takes too long there.
const DRIVEN: &str = "bivouac-plugin::driven";
/// Programs that try to get out: an emulated machine would need an hour for all of them.
const ATTACKS: &str = "bivouac-driver::attacks";
/// Faults and load: likewise.
const FAULTS: &str = "bivouac-driver::faults";
/// Detached runs, one of them behind a bridge, which hangs in the emulated machine for a reason not yet known.
const DETACHED: &str = "bivouac::detached";
/// Command lines, job files and pages, and what helpers without privileges are given and leave: the same on both
/// machines.
const SAID: [&str; 7] = [
    "bivouac::book",
    "bivouac::children",
    "bivouac::command_line",
    "bivouac::jobs",
    "bivouac::killed",
    "bivouac::reference",
    "bivouac::waiting",
];
/// Processors of one's own.
const CORES: &str = "bivouac::cores";
/// A compiler, a database and two dozen others.
const PROGRAMS: &str = "bivouac::programs";

/// Where in a package a test program comes from.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Tests beside the code of a library or program.
    Unit,
    /// A file or folder of `tests/`.
    Integration,
}

/// How much the tests are asked to do.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// What every run does.
    Short,
    /// Everything, at night.
    Full,
}

/// One built test program.
pub(crate) struct Suite {
    /// `package` or `package::target`.
    pub(crate) name: String,
    /// The program.
    pub(crate) binary: PathBuf,
    /// The package's folder, where cargo would run it.
    pub(crate) folder: PathBuf,
    package: String,
    kind: Kind,
}

impl Suite {
    /// A program that ends as suites do, without being one of cargo's tests.
    pub(crate) fn program(name: &str, binary: PathBuf, folder: PathBuf) -> Self {
        Self { name: name.to_owned(), binary, folder, package: name.to_owned(), kind: Kind::Integration }
    }

    /// What of it the cgroup v2 machine runs too: beginnings of the tests' names with spaces between them, nothing for
    /// all of them; none where it stays here.
    pub(crate) fn part_in_the_machine(&self) -> Option<&'static str> {
        if self.kind != Kind::Integration || !IN_THE_MACHINE.contains(&self.package.as_str()) {
            return None;
        }
        match self.name.as_str() {
            // Real programs meet the same filter and root there, and an emulated machine would need an hour for them.
            PROGRAMS | DETACHED | RPC | NOMAD => None,
            name if SAID.contains(&name) => None,
            // Where the mechanism differs on version 2, or the machine must be ours alone.
            ATTACKS => Some("groups::"),
            FAULTS => Some("surprises:: disk::"),
            // The races for them are the supervisors', which know no version.
            CORES => Some("processors_are_one_tasks"),
            DRIVEN => Some("life:: ends:: recovery::"),
            _ => Some(""),
        }
    }

    /// How long it may take on this machine, in seconds.
    pub(crate) fn seconds(&self, form: Form) -> u32 {
        match self.kind {
            _ if self.name == NOMAD => 900,
            _ if form == Form::Full => 3600,
            Kind::Unit => 300,
            Kind::Integration => 600,
        }
    }

    /// What it is told about threads: tests that wait for a Nomad agent need no core each.
    pub(crate) fn threads(&self) -> Option<&'static str> {
        (self.name == NOMAD).then_some("--test-threads=12")
    }

    /// The name of its log.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.log", self.name.replace("::", "--"))
    }
}

/// What cargo is told to build.
fn selection(packages: &[String]) -> Vec<String> {
    match packages {
        [] => vec!["--workspace".to_owned()],
        some => some.iter().flat_map(|name| ["--package".to_owned(), name.clone()]).collect(),
    }
}

/// Builds every test program, and the programs that tests start.
pub(crate) fn build(workspace: &Workspace, packages: &[String]) -> Result<Vec<Suite>> {
    let chosen = selection(packages);
    // Tests of other packages start the shim too: never one of an earlier day.
    let shim: &[&str] = if packages.is_empty() { &[] } else { &["--package", "bivouac-shim"] };
    shell::run(
        shell::cargo()
            .args(["build", "--bins", "--examples"])
            .args(&chosen)
            .args(shim)
            .current_dir(&workspace.root),
    )?;
    if packages.is_empty() || packages.iter().any(|name| name == PLUGIN) {
        older(workspace)?;
    }
    let output = shell::cargo()
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(&chosen)
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "the tests do not build");
    let text = String::from_utf8(output.stdout).context("cargo did not print text")?;
    let mut suites =
        text.lines().filter_map(|line| suite(workspace, line).transpose()).collect::<Result<Vec<_>>>()?;
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

/// The plugin and the shim of the version before, for the tests of upgrades in the machine that has no cargo.
fn older(workspace: &Workspace) -> Result<()> {
    shell::run(
        shell::cargo()
            .args(["build", "--package", PLUGIN, "--package", "bivouac-shim"])
            .args(["--example", "older_plugin", "--example", "older_shim"])
            .args(["--features", "bivouac-plugin/older,bivouac-shim/older"])
            .current_dir(&workspace.root),
    )
}

/// One line of cargo's messages; none if it announces something else than a test program.
fn suite(workspace: &Workspace, line: &str) -> Result<Option<Suite>> {
    let message: Value =
        serde_json::from_str(line).with_context(|| format!("cargo said something odd: {line}"))?;
    let is_test = message.get("profile").and_then(|profile| profile.get("test")) == Some(&Value::Bool(true));
    let Some(binary) = message.get("executable").and_then(Value::as_str).filter(|_| is_test) else {
        return Ok(None);
    };
    let manifest = string(&message, "manifest_path")?;
    let folder = Path::new(&manifest).parent().context("a manifest without a folder")?.to_path_buf();
    let package = workspace
        .members()
        .find(|package| package.folder == folder)
        .with_context(|| format!("{manifest} is no member"))?
        .name
        .clone();
    let target = message.get("target").context("a program without a target")?;
    let kind = if array(target, "kind").any(|kind| kind == "test") { Kind::Integration } else { Kind::Unit };
    let target = string(target, "name")?;
    let plain = target.replace('_', "-") == package;
    let is_lib = kind == Kind::Unit && plain;
    let name = if is_lib { package.clone() } else { format!("{package}::{target}") };
    Ok(Some(Suite { name, binary: binary.into(), folder, package, kind }))
}
