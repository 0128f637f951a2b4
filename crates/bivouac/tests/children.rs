//! Programs that a run starts on the host: none of them has a word of the job's environment, and none is what a task put
//! in its root.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "../../../tests/attacks/program.rs"]
mod program;
#[path = "support/request.rs"]
mod request;
#[path = "support/served.rs"]
mod served;
mod support;

use program::program;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Bivouac;

/// In every value of the job's environment and in none of anybody else's.
const CANARY: &str = "CANARY";
/// What loaders, shells and git would obey.
const NAMES: [&str; 13] = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "BASH_ENV",
    "ENV",
    "PATH",
    "GIT_DIR",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY_0",
    "GIT_CONFIG_VALUE_0",
];
/// What lies in the task's directory before anything is unpacked there.
const BAIT: [&str; 8] = [
    "bin/sh",
    "usr/bin/git",
    "usr/bin/xz",
    "usr/bin/tar",
    "usr/lib/git-core/git",
    "lib64/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/libc.so.6",
    "etc/nsswitch.conf",
];

/// A program that leaves a mark when it is run on the host.
fn place_bait(at: &Path, marker: &Path) {
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that was run below the traced one.
#[derive(Debug, Default)]
struct Ran {
    line: String,
    environment: Vec<String>,
}

impl Ran {
    /// Every one in what `trace execs` told.
    fn all(told: &str) -> Vec<Ran> {
        let mut all: Vec<Ran> = Vec::new();
        for line in told.lines() {
            match (line.strip_prefix("run = "), line.strip_prefix("env = "), all.last_mut()) {
                (Some(run), ..) => all.push(Ran { line: run.to_owned(), environment: Vec::new() }),
                (_, Some(variable), Some(last)) => last.environment.push(variable.to_owned()),
                _ => panic!("{line:?}"),
            }
        }
        all
    }

    fn is(&self, part: &str) -> bool {
        self.line.contains(part)
    }

    fn marked(&self) -> usize {
        self.environment.iter().filter(|variable| variable.contains(CANARY)).count()
    }
}

fn job(bivouac: &Bivouac, port: u16, packed: u16, repositories: u16) -> PathBuf {
    let mut artifacts = String::new();
    let mut artifact = |source: String, destination: &str| {
        artifacts.push_str(&format!(
            "artifact {{\n source = \"{source}\"\n destination = \"{destination}\"\n}}\n"
        ));
    };
    // So many at a time: what comes after them finds the bait. The command needs no loader, which is one of it.
    for number in 0..3 {
        artifact(format!("http://127.0.0.1:{port}/f{number}"), &format!("local/{number}"));
    }
    artifact(format!("git::git://127.0.0.1:{repositories}/repository"), "local/repository");
    artifact(format!("http://127.0.0.1:{packed}/a.tar.xz"), "local/archive");
    let env: String = NAMES.map(|name| format!("{name} = \"/{CANARY}/{name}\"\n")).concat();
    let text = format!(
        "job \"j\" {{\n group \"g\" {{\n task \"t\" {{\n driver = \"exec\"\n kill_timeout = \"1s\"\n{artifacts} env {{\n{env}}}\n template {{\n data = \"{{{{ env \\\"LD_PRELOAD\\\" }}}}\"\n destination = \"local/rendered\"\n}}\n config {{\n command = \"/usr/bin/busybox\"\n args = [\"sleep\", \"1000\"]\n}}\n}}\n}}\n}}\n"
    );
    let path = bivouac.state.join("j.nomad.hcl");
    std::fs::write(&path, text).unwrap();
    path
}

/// Start, fetch, unpack, render, exec, a script of a template, stop and what follows, all of it under the eyes of a
/// tracer.
///
/// Covers: CVE-2025-23266, CVE-2019-14271
#[test]
fn no_program_on_the_host_has_a_jobs_environment_or_is_a_tasks() {
    let Some(bivouac) = Bivouac::new("children") else { return };
    let files = bivouac.state.join("files");
    std::fs::create_dir_all(&files).unwrap();
    let packed =
        Command::new("sh").args(["-ec", "echo x > x; tar -cJf a.tar.xz x"]).current_dir(&files).output();
    assert!(packed.unwrap().status.success());
    let (bait_ran, fake_ran) = (bivouac.state.join("bait-ran"), bivouac.state.join("fake-ran"));
    let (allocations, marker) = (bivouac.state.join("allocs"), bait_ran.clone());
    let port = served::file(b"plain".to_vec(), move || {
        for allocation in std::fs::read_dir(&allocations).unwrap().flatten() {
            BAIT.iter().for_each(|name| place_bait(&allocation.path().join("t").join(name), &marker));
        }
    });
    let packed = served::file(std::fs::read(files.join("a.tar.xz")).unwrap(), || {});
    let repositories = served::Repository::new(&files);
    let file = job(&bivouac, port, packed, repositories.port);
    // Where the caller looks for programs first.
    let fakes = bivouac.state.join("fakes");
    for name in ["git", "xz", "tar", "sh", "getent", "bivouac-shim"] {
        place_bait(&fakes.join(name), &fake_ran);
    }
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", fakes.display());
    let script = "set -e
        \"$1\" --state-dir \"$2\" run -d \"$3\"
        \"$1\" --state-dir \"$2\" exec j /usr/bin/busybox env
        cat \"$2\"/allocs/*/t/local/rendered \"$2\"/allocs/*/t/local/repository/g \"$2\"/allocs/*/t/local/archive/x
        \"$1\" --state-dir \"$2\" stop j
        until \"$1\" --state-dir \"$2\" gc 2>&1 | /usr/bin/grep removed; do /usr/bin/sleep 0.1; done";
    let told = bivouac.state.join("told");
    let output = Command::new(program("trace"))
        .arg("execs")
        .arg(&told)
        .args(["/bin/sh", "-c", script, "sh", env!("CARGO_BIN_EXE_bivouac")])
        .args([&bivouac.state, &file])
        .env("PATH", &path)
        .current_dir(support::root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for name in NAMES {
        assert!(said.contains(&format!("{name}=/{CANARY}/{name}")), "{name} is not in the task: {said}");
    }
    assert!(said.contains(&format!("/{CANARY}/LD_PRELOADcommitted\nx\n")), "not all of it arrived: {said}");
    let told = std::fs::read_to_string(&told).unwrap();
    let all = Ran::all(&told);
    // The task's own, and nobody else.
    let (inside, outside): (Vec<&Ran>, Vec<&Ran>) = all.iter().partition(|ran| ran.marked() > 0);
    let lines: Vec<&str> = inside.iter().map(|ran| ran.line.as_str()).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].ends_with("busybox sleep 1000") && lines[1].ends_with("busybox env"), "{lines:#?}");
    assert!(inside.iter().all(|ran| ran.marked() == NAMES.len()), "{inside:#?}");
    // Everybody who could have had it was seen.
    for part in
        ["artifact-helper", "template-helper", "bivouac-shim", " clone --progress ", "git-core", "supervise"]
    {
        assert!(outside.iter().any(|ran| ran.is(part)), "{part} did not run: {outside:#?}");
    }
    assert!(!bait_ran.exists(), "what lies in the task's directory was run: {told}");
    assert!(!fake_ran.exists(), "what the caller's PATH names was run: {told}");
    // Both are run by who looks there, and seen.
    let careless = Command::new(program("trace"))
        .arg("execs")
        .arg(bivouac.state.join("careless"))
        .args(["/bin/sh", "-c", "git clone"])
        .env("PATH", &path)
        .env("GIT_DIR", CANARY)
        .output();
    assert!(careless.unwrap().status.success() && fake_ran.exists());
    let careless = Ran::all(&std::fs::read_to_string(bivouac.state.join("careless")).unwrap());
    assert!(careless.iter().any(|ran| ran.is("fakes/git clone") && ran.marked() == 1), "{careless:#?}");
}
