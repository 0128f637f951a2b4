//! Order by time, the last lines of all, what is not known yet, and that little is held.

use super::super::{PIECE, Stream};
use super::*;
use bivouac_shim::log_times::{Record, index_name};
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;

/// An allocation's directory with an empty place for logs.
fn alloc() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("alloc/logs")).unwrap();
    dir
}

/// Writes more of a stream's first file, each text at its time, where it has one.
fn say(dir: &Path, task: &str, stream: Stream, said: &[(Option<i64>, &str)]) {
    let (log, name) = (dir.join("alloc/logs"), format!("{task}.{}", stream.as_str()));
    let append =
        |name: String| std::fs::OpenOptions::new().append(true).create(true).open(log.join(name)).unwrap();
    let mut file = append(format!("{name}.0"));
    for (time, text) in said {
        if let Some(unix_millis) = time {
            let offset = file.metadata().unwrap().len();
            let record = Record { offset, unix_millis: *unix_millis }.to_bytes();
            append(index_name(&name, 0)).write_all(&record).unwrap();
        }
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn open(dir: &Path, streams: &[(&str, Stream)], past: Past) -> Merge {
    let reader = |(task, stream): &(&str, Stream)| Reader::open(dir, task, *stream, past).unwrap();
    Merge::new(streams.iter().map(reader).collect(), past)
}

fn told(merge: &mut Merge, pass: Pass) -> String {
    let mut all = Vec::new();
    merge.pass(pass, |_, line| all.extend_from_slice(line.bytes)).unwrap();
    String::from_utf8(all).unwrap()
}

const BOTH: [(&str, Stream); 2] = [("t", Stream::Stdout), ("t", Stream::Stderr)];

/// Covers: T125
#[test]
fn lines_come_in_the_order_of_their_times() {
    let dir = alloc();
    say(dir.path(), "t", Stream::Stdout, &[(Some(10), "a\n"), (Some(30), "c\n"), (Some(31), "d\n")]);
    say(dir.path(), "t", Stream::Stderr, &[(Some(20), "b\n"), (Some(30), "C\n"), (Some(40), "e\n")]);
    let mut merge = open(dir.path(), &BOTH, Past::All);
    assert_eq!(
        told(&mut merge, Pass::Whole),
        "a\nb\nc\nC\nd\ne\n",
        "the first named where times are the same"
    );
    say(dir.path(), "t", Stream::Stdout, &[(Some(60), "g\n")]);
    say(dir.path(), "t", Stream::Stderr, &[(Some(50), "f\n")]);
    assert_eq!(told(&mut merge, Pass::Whole), "f\ng\n", "and what comes later");
    assert_eq!(told(&mut merge, Pass::Whole), "");
}

/// Covers: T125
#[test]
fn the_last_lines_are_the_last_of_all() {
    let dir = alloc();
    say(dir.path(), "t", Stream::Stdout, &[(Some(10), "a\n"), (Some(20), "b\n"), (Some(50), "e\n")]);
    say(dir.path(), "t", Stream::Stderr, &[(Some(30), "c\n"), (Some(40), "d\n")]);
    for (lines, expected) in [
        (0, ""),
        (1, "e\n"),
        (2, "d\ne\n"),
        (3, "c\nd\ne\n"),
        (4, "b\nc\nd\ne\n"),
        (5, "a\nb\nc\nd\ne\n"),
        (9, "a\nb\nc\nd\ne\n"),
    ] {
        let mut merge = open(dir.path(), &BOTH, Past::Lines(lines));
        assert_eq!(told(&mut merge, Pass::Whole), expected, "{lines}");
    }
    let mut follower = open(dir.path(), &BOTH, Past::Lines(1));
    assert_eq!(told(&mut follower, Pass::Whole), "e\n");
    say(dir.path(), "t", Stream::Stderr, &[(Some(60), "f\n"), (Some(70), "g\n")]);
    assert_eq!(told(&mut follower, Pass::Whole), "f\ng\n", "what comes later is no surplus");
}

#[test]
fn without_times_streams_come_one_after_the_other() {
    let dir = alloc();
    say(dir.path(), "t", Stream::Stdout, &[(None, "a\n"), (None, "b\n")]);
    say(dir.path(), "t", Stream::Stderr, &[(None, "c\n"), (Some(5), "d\n")]);
    assert_eq!(told(&mut open(dir.path(), &BOTH, Past::All), Pass::Whole), "a\nb\nc\nd\n");
}

#[test]
fn who_follows_sees_no_line_before_an_earlier_one_of_another_stream() {
    let dir = alloc();
    let now = 1_000_000;
    say(dir.path(), "t", Stream::Stdout, &[(Some(now - 5000), "old\n"), (Some(now - 10), "second\n")]);
    let mut merge = open(dir.path(), &BOTH, Past::All);
    assert_eq!(told(&mut merge, Pass::Settled { now }), "old\n", "something else may come that is as old");
    say(dir.path(), "t", Stream::Stderr, &[(Some(now - 20), "first\n")]);
    assert_eq!(told(&mut merge, Pass::Settled { now: now + 10_000 }), "first\nsecond\n");
    say(dir.path(), "t", Stream::Stderr, &[(Some(now + 3_600_000), "from tomorrow\n")]);
    assert_eq!(told(&mut merge, Pass::Settled { now: now + 10_000 }), "from tomorrow\n", "is not waited for");
}

#[test]
fn a_line_is_not_torn_however_long_it_is_and_one_piece_of_each_is_held() {
    let dir = alloc();
    let long = format!("{}\n", "x".repeat(3 * PIECE));
    say(dir.path(), "t", Stream::Stdout, &[(Some(10), &long), (Some(30), &long)]);
    say(dir.path(), "t", Stream::Stderr, &[(Some(20), &long), (Some(40), "end\n")]);
    let mut merge = open(dir.path(), &BOTH, Past::All);
    let (mut order, mut largest) = (Vec::new(), 0);
    merge
        .pass(Pass::Whole, |at, line| {
            largest = largest.max(line.bytes.len());
            if order.last() != Some(&at) {
                order.push(at);
            }
        })
        .unwrap();
    assert_eq!(order, [0, 1, 0, 1]);
    assert!(largest <= PIECE, "{largest}");
    assert_eq!(told(&mut open(dir.path(), &BOTH, Past::Lines(2)), Pass::Whole), format!("{long}end\n"));
}

#[test]
fn a_line_without_end_holds_nobody_up() {
    let dir = alloc();
    say(dir.path(), "t", Stream::Stdout, &[(Some(10), "Name: ")]);
    let mut merge = open(dir.path(), &BOTH, Past::All);
    assert_eq!(told(&mut merge, Pass::Whole), "Name: ");
    say(dir.path(), "t", Stream::Stderr, &[(Some(20), "late\n")]);
    assert_eq!(told(&mut merge, Pass::Whole), "late\n");
    say(dir.path(), "t", Stream::Stdout, &[(Some(30), "joe\n")]);
    let mut rest = Vec::new();
    merge.pass(Pass::Whole, |at, line| rest.push((at, line.begin, line.unix_millis))).unwrap();
    assert_eq!(rest, [(0, Begin::Earlier, Some(10))], "it is still the line that began then");
}

proptest! {
    /// Whatever the streams hold, nothing is lost, and the tail is the end of the whole.
    #[test]
    fn a_tail_is_the_end_of_the_whole(
        said in proptest::collection::vec((0..3usize, 0..50i64, "[a-z]{0,5}"), 0..30),
        lines in 0..12usize,
    ) {
        let dir = alloc();
        let streams = [("a", Stream::Stdout), ("a", Stream::Stderr), ("b", Stream::Stdout)];
        let mut time = 0;
        let mut expected = Vec::new();
        for (at, later, text) in &said {
            time += later + 1;
            let (task, stream) = streams[*at];
            let text = format!("{text}\n");
            say(dir.path(), task, stream, &[(Some(time), &text)]);
            expected.push(text);
        }
        prop_assert_eq!(told(&mut open(dir.path(), &streams, Past::All), Pass::Whole), expected.concat());
        let tail = expected[expected.len().saturating_sub(lines)..].concat();
        prop_assert_eq!(told(&mut open(dir.path(), &streams, Past::Lines(lines)), Pass::Whole), tail);
    }
}
