//! The cgroup v2 lane: the test programs built here run in a virtual machine whose root is this machine's.
//!
//! The inside is `tests/vm/guest.sh`. Under software emulation everything is 10 to 50 times slower.

use super::count::Count;
use super::needs;
use super::suites::Suite;
use crate::shell::{self, complain, say};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// The whole lane must be over by then, in seconds.
const LIMIT: u32 = 35 * 60;
/// No suite may eat the time of all others, in seconds.
const SUITE_LIMIT: u32 = 15 * 60;
/// What a suite gets that has the machine for itself: the whole time without the boot.
const ONLY_LIMIT: u32 = LIMIT - 3 * 60;

/// Runs the suites; whatever keeps the lane from running is a failure with its reason.
pub(crate) fn run(
    workspace: &Workspace,
    suites: &[(&Suite, &str)],
    folder: &Path,
    settings: &[(&str, String)],
    root: Root,
) -> Count {
    match machine(workspace, suites, folder, settings, root) {
        Ok(count) => count,
        Err(error) => {
            complain(format!("vm    the cgroup v2 lane did not run: {error:#}"));
            Count::missing()
        }
    }
}

fn machine(
    workspace: &Workspace,
    suites: &[(&Suite, &str)],
    folder: &Path,
    settings: &[(&str, String)],
    root: Root,
) -> Result<Count> {
    if suites.is_empty() {
        bail!("no room has integration tests");
    }
    let kernel = needs::kernel().context("no kernel with modules in /boot (linux-image-amd64)")?;
    let vng = shell::find("vng").context("vng is missing (virtme-ng)")?;
    let guest = workspace.root.join("tests/vm/guest.sh");
    let begun = Instant::now();
    prepare(folder, suites, settings)?;
    let status = boot(&vng, &kernel, &guest, folder, root)?;
    if let Ok(reason) = std::fs::read_to_string(folder.join("broken")) {
        bail!("{}", reason.trim());
    }
    let about = std::fs::read_to_string(folder.join("machine")).with_context(|| {
        format!("the guest never started ({status}); see {}", folder.join("console.log").display())
    })?;
    say(format!("vm    {}", about.trim().replace('\n', ", ")));
    let count = collect(folder, suites)?;
    let finished = folder.join("done").exists();
    say(format!(
        "vm    {} in {} s",
        if finished { "finished" } else { "ended on the way" },
        begun.elapsed().as_secs()
    ));
    if !finished {
        bail!("the guest ended on the way ({status}); {}", count.closing_line());
    }
    Ok(count)
}

/// How the guest sees the files of the host.
#[derive(Clone, Copy)]
pub(crate) enum Root {
    /// As it boots: every name is asked for anew.
    Plain,
    /// Remembered, for what is measured.
    Cached,
}

/// Boots the guest, which ends by itself; everything it leaves lies in the folder.
fn boot(vng: &Path, kernel: &Path, guest: &Path, folder: &Path, root: Root) -> Result<ExitStatus> {
    let log = std::fs::File::create(folder.join("console.log")).context("cannot write the console's log")?;
    Command::new("timeout")
        .args(["--kill-after=30", &LIMIT.to_string()])
        .arg(vng)
        .arg("--run")
        .arg(kernel)
        // Software emulation always works. A nested /dev/kvm may be there and hang: seen here.
        .arg("--disable-kvm")
        .args(["--cpus", "2", "--memory", "2G", "--rw", "--user", "root"])
        .arg(format!("--rwdir={}", folder.display()))
        // The root once more, for the guest's script to mount in a quicker way.
        .args(matches!(root, Root::Cached).then_some("--rwdir=/run/host=/"))
        .arg("--")
        .arg(format!("'{}' '{}'", guest.display(), folder.display()))
        .stdin(Stdio::null())
        .stderr(log.try_clone().context("cannot share a log between two streams")?)
        .stdout(log)
        .status()
        .context("cannot start vng")
}

/// An empty folder with the list of suites and what their environment holds.
fn prepare(folder: &Path, suites: &[(&Suite, &str)], settings: &[(&str, String)]) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let limit = if suites.len() == 1 { ONLY_LIMIT } else { SUITE_LIMIT };
    let list: String = suites
        .iter()
        .map(|(suite, part)| {
            let name = suite.name.replace("::", "--");
            let (folder, binary) = (suite.folder.display(), suite.binary.display());
            format!("{name}\t{limit}\t{folder}\t{binary}\t{part}\n")
        })
        .collect();
    shell::write(&folder.join("suites"), &list)?;
    etc(&folder.join("etc.tar"))?;
    let exports: String = settings.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    shell::write(&folder.join("environment"), &exports)
}

/// The host's /etc in one file: name by name the guest would need a minute to read it.
fn etc(archive: &Path) -> Result<()> {
    // Passwords are in it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(archive);
    let file = file.with_context(|| format!("cannot make {}", archive.display()))?;
    shell::run(Command::new("tar").args(["--create", "--directory=/", "etc"]).stdout(file))
}

/// What each suite came to. One without a result did not run.
fn collect(folder: &Path, suites: &[(&Suite, &str)]) -> Result<Count> {
    let results = shell::read(&folder.join("results"))?;
    let mut sum = Count::default();
    for (suite, _) in suites {
        let name = suite.name.replace("::", "--");
        let (count, seconds, log) = match result(&results, &name) {
            None => (Count::missing(), 0, "did not run, or was cut short by the time limit".to_owned()),
            Some((code, seconds)) => {
                let said = std::fs::read(folder.join(format!("{name}.log")))
                    .with_context(|| format!("cannot read what {name} said"))?;
                let log = String::from_utf8_lossy(&said).into_owned();
                (Count::of_suite(&log, Some(code)), seconds, log)
            }
        };
        say(count.line("vm", &suite.name, seconds));
        count.explain(&log);
        sum += count;
    }
    Ok(sum)
}

/// The exit status and the seconds of a suite.
fn result(results: &str, name: &str) -> Option<(i32, u64)> {
    results.lines().find_map(|line| {
        let mut fields = line.split('\t');
        (fields.next() == Some(name)).then_some(())?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_by_name() {
        let text = "a\t0\t3\nab\t101\t40\nbroken\tx\t1\n";
        assert_eq!(result(text, "ab"), Some((101, 40)));
        assert_eq!(result(text, "a"), Some((0, 3)));
        assert_eq!(result(text, "broken"), None);
        assert_eq!(result(text, "c"), None);
    }
}
