//! The canonical layout: what `nomad fmt` makes of a file, idempotent, and without loss.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bivouac_jobspec::{SourceFile, format};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn formatted(text: &str) -> String {
    format(&SourceFile::new("x.nomad.hcl", text)).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Every job file of the corpus, as it is and with its indentation taken away where no heredoc needs it.
fn texts() -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder().join("corpus")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".nomad.hcl") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        if !text.contains("<<") && !text.contains("/*") {
            all.push(text.lines().map(|line| format!("{}\n", line.trim())).collect());
        }
        all.push(text);
    }
    all.push(std::fs::read_to_string(folder().join("format/messy.hcl")).unwrap());
    assert!(all.len() > 40);
    all
}

#[test]
fn a_messy_file_becomes_canonical() {
    let messy = std::fs::read_to_string(folder().join("format/messy.hcl")).unwrap();
    let expected = std::fs::read_to_string(folder().join("format/messy.expected.hcl")).unwrap();
    assert_same(&formatted(&messy), &expected);
}

#[test]
fn twice_is_once_and_nothing_is_lost() {
    for text in texts() {
        let once = formatted(&text);
        assert_same(&formatted(&once), &once);
        let dense = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(dense(&once), dense(&text));
    }
}

#[test]
fn the_example_is_canonical_and_a_job() {
    use bivouac_jobspec::{EXAMPLE, Input, parse};
    assert_same(&formatted(EXAMPLE), EXAMPLE);
    let input = Input { job: SourceFile::new("example.nomad.hcl", EXAMPLE), ..Input::default() };
    let outcome = parse(&input).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!((outcome.job.id.as_str(), outcome.notes.len()), ("example", 0));
}

#[test]
fn a_broken_file_is_refused_with_its_place() {
    let text = format(&SourceFile::new("x.nomad.hcl", "job \"a\" {")).unwrap_err().render(false);
    assert!(text.contains("x.nomad.hcl:1:"), "{text}");
}

#[test]
fn the_layout_is_nomads() {
    let nomad =
        Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/bivouac-tests/nomad-1.11.2");
    if !nomad.exists() {
        println!("SKIPPED: the_layout_is_nomads: there is no {}", nomad.display());
        return;
    }
    for text in texts() {
        let mut child = Command::new(&nomad)
            .args(["fmt", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let theirs = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_same(&formatted(&text), &theirs);
    }
}

/// The first line that differs says more than two whole files.
fn assert_same(ours: &str, theirs: &str) {
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours, theirs);
}
