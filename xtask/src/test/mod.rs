//! `cargo xtask test`: every suite on this machine, then the suites that touch the kernel once more on a cgroup v2
//! machine. What did not run counts as failed, so that silence is never success.

mod count;
mod host_tree;
mod ledger;
pub(crate) mod needs;
pub(crate) mod nomad;
mod suites;
mod vm;

use crate::deb;
use crate::shell::{self, say};
use crate::source::files_below;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use count::Count;
use host_tree::HostTree;
use ledger::{Ledger, MARK, Scope};
use needs::Lanes;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use suites::Form;
pub(crate) use suites::Suite;
use vm::Root;

/// Tells tests to take their time.
const NIGHTLY: &str = "BIVOUAC_NIGHTLY";

/// What was asked for.
struct Wanted {
    install: bool,
    nightly: bool,
    host: bool,
    vm: bool,
    /// Only these packages; all where none is named.
    packages: Vec<String>,
    /// Only these suites, on both machines, also those that have no place in the virtual one otherwise.
    suites: Vec<String>,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self {
            install: true,
            nightly: false,
            host: true,
            vm: true,
            packages: Vec::new(),
            suites: Vec::new(),
        };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            match argument {
                "--no-install" => wanted.install = false,
                "--nightly" => wanted.nightly = true,
                "--package" | "-p" => match rest.next() {
                    Some(name) => wanted.packages.push(name.to_owned()),
                    None => bail!("`{argument}` needs the name of a package"),
                },
                "--suite" => {
                    let Some(name) = rest.next() else { bail!("`--suite` needs a name: PACKAGE::TARGET") };
                    let package = name.split("::").next().unwrap_or(name);
                    wanted.packages.push(package.to_owned());
                    wanted.suites.push(name.to_owned());
                }
                "--lane" => match rest.next() {
                    Some("host") => wanted.vm = false,
                    Some("vm") => wanted.host = false,
                    other => bail!("`--lane` is `host` or `vm`, found `{}`", other.unwrap_or("nothing")),
                },
                other => bail!(
                    "`cargo xtask test` knows --no-install, --nightly, --package, --suite and --lane, not `{other}`"
                ),
            }
        }
        if !wanted.host && !wanted.vm {
            bail!("name one lane, or none for both");
        }
        Ok(wanted)
    }

    /// The suites that were asked for.
    fn choose(&self, mut suites: Vec<Suite>) -> Result<Vec<Suite>> {
        if self.suites.is_empty() {
            return Ok(suites);
        }
        let names: Vec<String> = suites.iter().map(|suite| suite.name.clone()).collect();
        if let Some(unknown) = self.suites.iter().find(|name| !names.contains(name)) {
            bail!("there is no suite `{unknown}`; there are {}", names.join(", "));
        }
        suites.retain(|suite| self.suites.contains(&suite.name));
        Ok(suites)
    }

    /// What of a suite the cgroup v2 machine runs: all of it where it was named.
    fn in_the_machine(&self, suite: &Suite) -> Option<&'static str> {
        if self.suites.contains(&suite.name) { Some("") } else { suite.part_in_the_machine() }
    }

    /// Whether this package's tests run on this machine.
    fn host_tests(&self, package: &str) -> bool {
        self.host && (self.packages.is_empty() || self.packages.iter().any(|name| name == package))
    }
}

/// Runs it all; the last line holds the sums.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = Wanted::parse(arguments)?;
    if !shell::is_root() {
        bail!("the tests make namespaces, mounts and cgroups: run as root");
    }
    let mut lacking = needs::settle(wanted.install, if wanted.vm { Lanes::Both } else { Lanes::Host });
    let workspace = Workspace::load()?;
    // Go needs as long for Nomad as cargo for us: both at once.
    let nomad = wanted.host_tests("bivouac-plugin").then(|| nomad::begin(&workspace, wanted.install));
    let logs = workspace.target.join("test-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let suites = wanted.choose(suites::build(&workspace, &wanted.packages)?)?;
    lacking.extend(nomad.and_then(nomad::Nomad::finish));
    let settings = environment(&workspace, wanted.nightly);

    let mut sum = Count::default();
    if wanted.host {
        let mut witness = Witness::called(&workspace)?;
        for suite in &suites {
            sum += on_this_machine(suite, &logs.join("host"), &settings)?;
            witness.look(&suite.name);
        }
        if wanted.packages.is_empty() {
            if has_examples(&workspace)? {
                sum += documentation(&workspace, &logs.join("host"))?;
                witness.look("documentation");
            }
            sum += package(&workspace);
            witness.look("package");
        }
        sum += witness.dismissed()?;
    }
    if wanted.vm {
        let part = |suite| wanted.in_the_machine(suite).map(|part| (suite, part));
        let chosen: Vec<(&Suite, &str)> = suites.iter().filter_map(part).collect();
        sum += vm::run(&workspace, &chosen, &logs.join("vm"), &settings, Root::Plain);
    }
    for lack in &lacking {
        say(format!("lacking: {lack}"));
    }
    say(format!("logs: {}", logs.display()));
    say(sum.closing_line());
    if sum.failed > 0 {
        bail!("{} tests failed", sum.failed);
    }
    Ok(())
}

/// Measures with one program that ends as suites do in the cgroup v2 machine, with one word as its argument or none.
pub(crate) fn in_the_machine(
    workspace: &Workspace,
    suite: &Suite,
    word: &str,
    settings: &[(&str, String)],
) -> Result<()> {
    let folder = workspace.target.join("test-logs/vm-program");
    let count = vm::run(workspace, &[(suite, word)], &folder, settings, Root::Cached);
    say(format!("logs: {}", folder.display()));
    if count.failed > 0 {
        bail!("{} failed in the virtual machine", suite.name);
    }
    Ok(())
}

/// Sees to it that no suite leaves anything on this machine or changes a file of it. Comes after the build and the
/// installation of packages, which do both.
struct Witness {
    scope: Scope,
    spared: Vec<PathBuf>,
    ledger: Ledger,
    tree: HostTree,
    left: Vec<String>,
}

impl Witness {
    fn called(workspace: &Workspace) -> Result<Self> {
        let scope = Scope { target: workspace.target.clone() };
        let homes = ["CARGO_HOME", "RUSTUP_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let spared: Vec<_> =
            [workspace.root.clone(), workspace.target.clone()].into_iter().chain(homes).collect();
        let tree = HostTree::take(&spared)?;
        let ledger = Ledger::take(&scope);
        Ok(Self { scope, spared, ledger, tree, left: Vec::new() })
    }

    /// What this suite left.
    fn look(&mut self, suite: &str) {
        let left = self.ledger.differences(&self.scope);
        self.left.extend(left.into_iter().map(|thing| format!("{suite}: {thing}")));
    }

    /// The verdict: two tests of their own.
    fn dismissed(self) -> Result<Count> {
        let begun = Instant::now();
        let changed = self.tree.differences(&HostTree::take(&self.spared)?);
        say(format!("host  {} names of this machine's own files compared", self.tree.len()));
        let mut sum = Count::default();
        for (name, faults) in
            [("ledger: nothing is left", self.left), ("host tree: nothing is changed", changed)]
        {
            let count = Count::of_check(&faults);
            say(count.line("host", name, begun.elapsed().as_secs()));
            count.explain(&faults.join("\n"));
            sum += count;
        }
        Ok(sum)
    }
}

/// What tests may ask of their environment, on both machines.
fn environment(workspace: &Workspace, nightly: bool) -> Vec<(&'static str, String)> {
    let built = |program: &str| workspace.target.join("debug").join(program).display().to_string();
    let mut settings = vec![
        ("BIVOUAC_SHIM", built("bivouac-shim")),
        ("BIVOUAC_BIN", built("bivouac")),
        // A snapshot that differs is a failure, never a new file.
        ("INSTA_UPDATE", "no".to_owned()),
        ("INSTA_WORKSPACE_ROOT", workspace.root.display().to_string()),
        // Python would write what it compiles beside the host's own files.
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    if nightly {
        settings.push((NIGHTLY, "1".to_owned()));
    }
    settings
}

/// Runs one suite here, tells its line, and on failure what it said.
fn on_this_machine(suite: &Suite, folder: &Path, settings: &[(&str, String)]) -> Result<Count> {
    let begun = Instant::now();
    let form = if settings.iter().any(|(name, _)| *name == NIGHTLY) { Form::Full } else { Form::Short };
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", &suite.seconds(form).to_string()])
        .arg(&suite.binary)
        .arg("--show-output")
        .args(suite.threads())
        .current_dir(&suite.folder)
        .env(MARK, "host")
        .env("CARGO_MANIFEST_DIR", &suite.folder)
        .envs(settings.iter().map(|(name, value)| (name, value)));
    let (log, code) = logged(&mut command, &folder.join(suite.file_name()))?;
    let count = Count::of_suite(&log, code);
    say(count.line("host", &suite.name, begun.elapsed().as_secs()));
    count.explain(&log);
    Ok(count)
}

/// Whether any documentation has an example. Cargo takes 20 seconds to find that none has.
fn has_examples(workspace: &Workspace) -> Result<bool> {
    for package in workspace.members() {
        for file in files_below(&package.folder.join("src"))? {
            if is_example_in(&shell::read(&file)?) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the documentation in a source has a block that cargo would run.
fn is_example_in(source: &str) -> bool {
    let said = source.lines().map(str::trim_start);
    let said = said.filter_map(|line| line.strip_prefix("///").or_else(|| line.strip_prefix("//!")));
    // Every second fence ends what the one before began.
    said.filter_map(|line| line.trim().strip_prefix("```")).step_by(2).any(|kind| kind != "text")
}

/// The examples in the documentation, which only cargo can run.
fn documentation(workspace: &Workspace, folder: &Path) -> Result<Count> {
    let begun = Instant::now();
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--doc", "--no-fail-fast"]).current_dir(&workspace.root);
    let (log, code) = logged(&mut command, &folder.join("doc.log"))?;
    let count = Count::of_suite(&log, code);
    say(count.line("host", "documentation", begun.elapsed().as_secs()));
    count.explain(&log);
    Ok(count)
}

/// The Debian package of what was built, where there is a dpkg.
fn package(workspace: &Workspace) -> Count {
    let begun = Instant::now();
    let log = if shell::find("dpkg-deb").is_none() {
        "SKIPPED: package: there is no dpkg-deb\ntest result: ok. 1 passed; 0 failed; 0 ignored\n".to_owned()
    } else {
        match deb::check(workspace) {
            Ok(()) => "test result: ok. 1 passed; 0 failed; 0 ignored\n".to_owned(),
            Err(error) => format!("{error:#}\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n"),
        }
    };
    let count = Count::of_suite(&log, Some(0));
    say(count.line("host", "package", begun.elapsed().as_secs()));
    count.explain(&log);
    count
}

/// Runs a command with everything it says in a file; returns that text and the exit code, if there is one.
fn logged(command: &mut Command, path: &PathBuf) -> Result<(String, Option<i32>)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let copy = file.try_clone().context("cannot share a log between two streams")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .status()
        .with_context(|| format!("cannot start {}", shell::shown(command)))?;
    let said = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((String::from_utf8_lossy(&said).into_owned(), status.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wanted> {
        Wanted::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn examples_are_what_cargo_would_run() {
        let picture = "//! ```text\n//! a -> b\n//! ```\n";
        assert!(!is_example_in(picture) && !is_example_in("// ```\nlet a = \"```\";\n"));
        for fence in ["", "rust", "no_run"] {
            let example = format!("{picture}    /// ```{fence}\n    /// run();\n    /// ```\n");
            assert!(is_example_in(&example), "{fence}");
        }
    }

    #[test]
    fn arguments() {
        let all = parse(&[]).unwrap();
        assert!(all.install && all.host && all.vm && !all.nightly);
        let some = parse(&["--no-install", "--lane", "vm", "--nightly"]).unwrap();
        assert!(!some.install && !some.host && some.vm && some.nightly);
        assert!(
            parse(&["--lane"]).is_err() && parse(&["--lane", "moon"]).is_err() && parse(&["-x"]).is_err()
        );
        assert!(parse(&["--lane", "vm", "--lane", "host"]).is_err());
        let one = parse(&["--suite", "bivouac-driver::attacks"]).unwrap();
        assert_eq!((one.packages, one.suites.len()), (vec!["bivouac-driver".to_owned()], 1));
        assert!(parse(&["--suite"]).is_err());
    }
}
