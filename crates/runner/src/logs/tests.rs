//! Rotated files as one stream, their times, and what stands in the way.

use super::*;

fn alloc() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("alloc/logs");
    std::fs::create_dir_all(&logs).unwrap();
    (dir, logs)
}

fn rest(reader: &mut Reader) -> String {
    let (mut buffer, mut all) = (Vec::new(), Vec::new());
    while reader.next(&mut buffer).unwrap() == More::Perhaps {
        all.extend_from_slice(&buffer);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn rotated_files_are_one_stream_and_the_tail_is_exact() {
    let (dir, logs) = alloc();
    std::fs::write(logs.join("web.stdout.3"), "a\nb\nc").unwrap();
    std::fs::write(logs.join("web.stdout.4"), "d\ne\n").unwrap();
    std::fs::write(logs.join("web.stdout.04"), "not ours").unwrap();
    std::fs::write(logs.join("web.stdout.x"), "not ours").unwrap();
    let open = |past| Reader::open(dir.path(), "web", Stream::Stdout, past).unwrap();
    assert_eq!(rest(&mut open(Past::All)), "a\nb\ncd\ne\n");
    assert_eq!(rest(&mut open(Past::Lines(2))), "cd\ne\n");
    assert_eq!(rest(&mut open(Past::Lines(0))), "");
    assert_eq!(rest(&mut open(Past::Lines(99))), "a\nb\ncd\ne\n");
    let mut follower = open(Past::Lines(1));
    assert_eq!(rest(&mut follower), "e\n");
    let mut file = std::fs::OpenOptions::new().append(true).open(logs.join("web.stdout.4")).unwrap();
    std::io::Write::write_all(&mut file, b"f\n").unwrap();
    std::fs::write(logs.join("web.stdout.5"), "g\n").unwrap();
    assert_eq!(rest(&mut follower), "f\ng\n", "what comes later, across a rotation");
    assert_eq!(rest(&mut Reader::open(dir.path(), "none", Stream::Stderr, Past::All).unwrap()), "");
}

#[test]
fn links_and_fifos_in_their_place_are_not_read() {
    let (dir, logs) = alloc();
    std::os::unix::fs::symlink("/etc/passwd", logs.join("web.stdout.0")).unwrap();
    rustix::fs::mknodat(CWD, logs.join("web.stdout.1"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(rest(&mut Reader::open(dir.path(), "web", Stream::Stdout, Past::Lines(5)).unwrap()), "");
    assert_eq!(rest(&mut Reader::open(dir.path(), "web", Stream::Stdout, Past::All).unwrap()), "");
    std::fs::rename(&logs, dir.path().join("alloc/away")).unwrap();
    std::os::unix::fs::symlink("/etc", &logs).unwrap();
    assert!(Reader::open(dir.path(), "web", Stream::Stdout, Past::All).is_err());
}

#[test]
fn what_cannot_be_read_is_passed_over_and_nothing_is_read_twice() {
    let (dir, logs) = alloc();
    std::fs::write(logs.join("web.stdout.0"), "a\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", logs.join("web.stdout.1")).unwrap();
    std::fs::write(logs.join("web.stdout.2"), "b\n").unwrap();
    let open = |past| Reader::open(dir.path(), "web", Stream::Stdout, past).unwrap();
    assert_eq!(rest(&mut open(Past::All)), "a\nb\n");
    assert_eq!(rest(&mut open(Past::Lines(2))), "a\nb\n");
    std::fs::remove_file(logs.join("web.stdout.2")).unwrap();
    assert_eq!(rest(&mut open(Past::All)), "a\n");
}

#[test]
fn a_tail_begins_at_its_line_however_long_it_is() {
    let (dir, logs) = alloc();
    let long = "x".repeat(3 * PIECE);
    std::fs::write(logs.join("web.stdout.0"), format!("one\n{long}\ntwo\n")).unwrap();
    std::fs::write(logs.join("web.stdout.1"), "").unwrap();
    let open = |lines| Reader::open(dir.path(), "web", Stream::Stdout, Past::Lines(lines)).unwrap();
    assert_eq!(rest(&mut open(1)), "two\n");
    assert_eq!(rest(&mut open(2)), format!("{long}\ntwo\n"));
    assert_eq!(rest(&mut open(3)), format!("one\n{long}\ntwo\n"));
    assert_eq!(rest(&mut open(0)), "");
}

/// Every line of a stream with its time, as it is read.
fn timed(reader: &mut Reader) -> Vec<(String, Begin, Option<i64>)> {
    let (mut buffer, mut all) = (Vec::new(), Vec::new());
    while reader.next(&mut buffer).unwrap() == More::Perhaps {
        let text = |line: &Line<'_>| String::from_utf8_lossy(line.bytes).into_owned();
        all.extend(reader.lines(&buffer).iter().map(|line| (text(line), line.begin, line.unix_millis)));
    }
    all
}

fn index(logs: &Path, number: u64, records: &[(u64, i64)]) {
    let bytes = records.iter().flat_map(|(offset, unix_millis)| {
        bivouac_shim::log_times::Record { offset: *offset, unix_millis: *unix_millis }.to_bytes()
    });
    let name = bivouac_shim::log_times::index_name("web.stdout", number);
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(logs.join(name)).unwrap();
    std::io::Write::write_all(&mut file, &bytes.collect::<Vec<_>>()).unwrap();
}

/// Covers: T125
#[test]
fn a_line_has_the_time_at_which_it_began() {
    let (dir, logs) = alloc();
    std::fs::write(logs.join("web.stdout.0"), "old\n").unwrap();
    std::fs::write(logs.join("web.stdout.1"), "a\nb\nc").unwrap();
    index(&logs, 1, &[(0, 10), (1, 11), (3, 12), (4, 20)]);
    std::fs::write(logs.join("web.stdout.2"), "c\nd\n").unwrap();
    index(&logs, 2, &[(0, 30)]);
    let open = |past| Reader::open(dir.path(), "web", Stream::Stdout, past).unwrap();
    let line = |text: &str, time| (text.to_owned(), Begin::Here, time);
    let mut expected = vec![
        line("old\n", None),
        line("a\n", Some(10)),
        line("b\n", Some(11)),
        line("c", Some(20)),
        ("c\n".to_owned(), Begin::Earlier, Some(20)),
        line("d\n", Some(30)),
    ];
    let mut follower = open(Past::All);
    assert_eq!(timed(&mut follower), expected);
    assert_eq!(timed(&mut open(Past::Lines(2))), expected.split_off(3));
    let mut file = std::fs::OpenOptions::new().append(true).open(logs.join("web.stdout.2")).unwrap();
    index(&logs, 2, &[(4, 40)]);
    std::io::Write::write_all(&mut file, b"e\n").unwrap();
    std::fs::write(logs.join("web.stdout.3"), "f\n").unwrap();
    assert_eq!(timed(&mut follower), [line("e\n", Some(40)), line("f\n", None)]);
}

/// Covers: T125
#[test]
fn an_index_that_lies_costs_nothing_but_the_truth() {
    let (dir, logs) = alloc();
    std::fs::write(logs.join("web.stdout.0"), "a\nb\n").unwrap();
    index(&logs, 0, &[(0, i64::MAX), (9, 5), (1, i64::MIN)]);
    let name = logs.join(bivouac_shim::log_times::index_name("web.stdout", 0));
    // Sparse: what a stranger makes huge is not read to its end.
    std::fs::OpenOptions::new().write(true).open(name).unwrap().set_len(1 << 40).unwrap();
    let mut reader = Reader::open(dir.path(), "web", Stream::Stdout, Past::All).unwrap();
    let times: Vec<_> = timed(&mut reader).into_iter().map(|(_, _, time)| time).collect();
    assert_eq!(times, [Some(i64::MAX), Some(i64::MAX)]);
    std::os::unix::fs::symlink("/etc/passwd", logs.join(".web.stderr.0.times")).unwrap();
    std::fs::write(logs.join("web.stderr.0"), "a\n").unwrap();
    let mut reader = Reader::open(dir.path(), "web", Stream::Stderr, Past::All).unwrap();
    assert_eq!(timed(&mut reader), [("a\n".to_owned(), Begin::Here, None)]);
}

#[test]
fn a_terminal_is_commanded_by_nobody() {
    let tame = |bytes: &[u8]| {
        let mut out = Vec::new();
        tamed(bytes, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(tame(b"\x1b[1;31mred\x1b[0m\n"), "\x1b[1;31mred\x1b[0m\n");
    assert_eq!(tame(b"a\x1b]0;title\x07b\x1b[2J"), "a\\x1b]0;title\\x07b\\x1b[2J");
    assert_eq!(tame("ä\t".as_bytes()), "ä\t");
}
