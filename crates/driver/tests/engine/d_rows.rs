//! Rows D1 to D10: commands in a running task, with and without a terminal, as the conformance set asks.

use crate::bench::{Bench, Output, Run, read_all, read_line, session, soon};
use bivouac_driver::engine::{EngineError, Leftovers};
use bivouac_driver::request::Streams;
use bivouac_sandbox::model::TerminalSize;
use bivouac_shim::client::Session;
use std::fs::File;
use std::io::{Read, Write};

/// A task that does nothing, and a bench around it.
fn idle(test: &str) -> Option<(Bench, Run)> {
    let bench = Bench::new(test)?;
    let run = bench.started(&bench.request("a", "/bin/sleep", &["9000"], vec![]));
    Some((bench, run))
}

fn finish(bench: Bench, run: Run) {
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    drop(run);
    bench.finish();
}

/// A script with a terminal of 24 by 80.
fn on_terminal(bench: &Bench, run: &Run, script: &str) -> (Session, File) {
    let size = TerminalSize { rows: 24, columns: 80 };
    let mut opened = bench.engine.exec(&run.id, session(script, Streams::Terminal(size))).unwrap();
    let master = File::from(opened.take_terminal().unwrap());
    (opened, master)
}

/// The rest of what a terminal shows; its end is an error of reading.
fn rest(mut master: File) -> String {
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(buffer.get(..count).unwrap());
    }
    String::from_utf8(shown).unwrap()
}

/// Covers: D1, E21
#[test]
fn d1_basic() {
    let Some((bench, run)) = idle("d1") else { return };
    let output = bench.exec(&run.id, "echo hello stdout; echo hello stderr >&2; exit 43", b"");
    assert_eq!(output, Output::new("hello stdout\n", "hello stderr\n", 43));
    let missing = session("", Streams::Files { stdin: None, stdout: None, stderr: None });
    let asked = |command: &[&str]| {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        bench.engine.exec(&run.id, bivouac_driver::request::ExecRequest { command, streams, ..missing })
    };
    assert!(matches!(asked(&["no-such-command"]), Err(EngineError::Launch { exit_code: 127, .. })));
    assert!(asked(&["../bin/sh"]).err().unwrap().to_string().contains("must not contain `..`"));
    finish(bench, run);
}

/// Each line is read before the next is written: they do not wait for each other.
///
/// Covers: D2, E21
#[test]
fn d2_streaming() {
    let Some((bench, run)) = idle("d2") else { return };
    let (stdin, mut feed) = std::io::pipe().unwrap();
    let (mut out, stdout) = std::io::pipe().unwrap();
    let streams = Streams::Files { stdin: Some(stdin.into()), stdout: Some(stdout.into()), stderr: None };
    let script = "for n in 1 2 3; do echo $n; read next; done";
    let mut opened = bench.engine.exec(&run.id, session(script, streams)).unwrap();
    for line in ["1", "2", "3"] {
        assert_eq!(read_line(&mut out), line);
        feed.write_all(b"\n").unwrap();
    }
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 0);
    assert_eq!(read_all(out), "");
    finish(bench, run);
}

/// Covers: D3, E21
#[test]
fn d3_no_terminal() {
    let Some((bench, run)) = idle("d3") else { return };
    let output = bench.exec(&run.id, "stty size", b"");
    assert_eq!(output.code, 1);
    assert!(
        output.err.to_lowercase().contains("standard input': inappropriate ioctl for device"),
        "{output:?}"
    );
    finish(bench, run);
}

/// Covers: D4, E21
#[test]
fn d4_stdin() {
    let Some((bench, run)) = idle("d4") else { return };
    let output = bench.exec(&run.id, "echo hello from command; head -n1", b"hello from client\n");
    assert_eq!(output, Output::new("hello from command\nhello from client\n", "", 0));
    finish(bench, run);
}

/// Covers: D5, E21
#[test]
fn d5_terminal_basic() {
    let Some((bench, run)) = idle("d5") else { return };
    let (mut opened, master) = on_terminal(&bench, &run, "echo hello stdout; echo hello stderr >&2; exit 43");
    assert_eq!(rest(master), "hello stdout\r\nhello stderr\r\n");
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 43);
    finish(bench, run);
}

/// Covers: D6, E21
#[test]
fn d6_terminal_streaming() {
    let Some((bench, run)) = idle("d6") else { return };
    let script = "stty -echo; for n in 1 2 3; do echo $n; read next; done";
    let (mut opened, mut master) = on_terminal(&bench, &run, script);
    for line in ["1\r", "2\r", "3\r"] {
        assert_eq!(read_line(&mut master), line);
        master.write_all(b"\n").unwrap();
    }
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 0);
    finish(bench, run);
}

/// Covers: D7, E21
#[test]
fn d7_resize() {
    let Some((bench, run)) = idle("d7") else { return };
    let (mut opened, mut master) = on_terminal(&bench, &run, "stty -echo; stty size; read next; stty size");
    assert_eq!(read_line(&mut master), "24 80\r");
    for (rows, columns) in [(0, 0), (100, 70), (200, 300), (100, 100)] {
        opened.resize(TerminalSize { rows, columns }).unwrap();
    }
    master.write_all(b"\n").unwrap();
    assert_eq!(rest(master), "100 100\r\n");
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 0);
    finish(bench, run);
}

/// Covers: D8, E21
#[test]
fn d8_terminal_stdin() {
    let Some((bench, run)) = idle("d8") else { return };
    let (mut opened, mut master) = on_terminal(&bench, &run, "echo hello from command; head -n1");
    assert_eq!(read_line(&mut master), "hello from command\r");
    master.write_all(b"hello from client\n").unwrap();
    assert_eq!(rest(master), "hello from client\r\nhello from client\r\n");
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 0);
    finish(bench, run);
}

/// Covers: D9, E21
#[test]
fn d9_children() {
    let Some((bench, run)) = idle("d9") else { return };
    let script = "(sleep 300; echo from background) & echo from main; exec sleep 0.2";
    let (mut opened, master) = on_terminal(&bench, &run, script);
    assert_eq!(opened.wait(soon()).unwrap().ending.code(), 0);
    assert_eq!(rest(master), "from main\r\n");
    finish(bench, run);
}

/// Covers: D10
#[test]
fn d10_file_system_isolation() {
    let Some((bench, run)) = idle("d10") else { return };
    let made = bench
        .exec(&run.id, "f=$(mktemp --tmpdir=/tmp bivouac-d10-XXXXXXXX); echo inside > $f; echo $f", b"")
        .out;
    let path = made.trim();
    assert!(path.starts_with("/tmp/bivouac-d10-"), "{made}");
    assert!(!std::path::Path::new(path).exists(), "not on the host");
    assert_eq!(bench.exec(&run.id, &format!("cat {path}"), b"").out, "inside\n");
    let groups = bench.exec(&run.id, "cat /proc/self/cgroup", b"").out;
    assert!(groups.lines().any(|line| line.ends_with(&format!("/{}-a", bench.name))), "{groups}");
    finish(bench, run);
}
