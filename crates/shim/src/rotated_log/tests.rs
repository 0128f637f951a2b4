//! Splits to the byte, strangers in the directory, full disks.

use super::*;
use crate::protocol::LogName;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn files(most_files: u32, most_bytes: u64) -> LogFiles {
    LogFiles {
        name: LogName::new("web.stdout".into()).unwrap(),
        most_files: NonZeroU32::new(most_files).unwrap(),
        most_bytes: NonZeroU64::new(most_bytes).unwrap(),
        times: LogTimes::Kept,
    }
}

fn open(dir: &Path, files: LogFiles) -> RotatedLog {
    RotatedLog::open(std::fs::File::open(dir).unwrap().into(), files).unwrap()
}

/// What lies in the directory, by number.
fn contents(dir: &Path) -> BTreeMap<u64, String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let numbered = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        let number = name.strip_prefix("web.stdout.")?.parse().ok()?;
        Some((number, String::from_utf8_lossy(&std::fs::read(entry.path()).ok()?).into_owned()))
    });
    numbered.collect()
}

fn texts(dir: &Path) -> Vec<String> {
    contents(dir).into_values().collect()
}

/// Covers: W50
#[test]
fn splits_are_exact() {
    for (writes, expected) in [
        (&["abcdefgh"][..], &["abcde", "fgh"][..]),
        (&["ab\ncdef\n", "1234567890", "\n"], &["ab\n", "cdef\n", "12345", "67890", "\n"]),
        // A line that is begun is not torn if it fits the next file.
        (&["ab\n", "cdef\n"], &["ab\n", "cdef\n"]),
        (&["abcde"], &["abcde"]),
        (&["abcde", "f"], &["abcde", "f"]),
        (&["\n\n\n\n\n\n"], &["\n\n\n\n\n", "\n"]),
        (&["a", "b", "c", "d", "e", "f"], &["abcde", "f"]),
        (&["abcd", "efghijkl"], &["abcde", "fghij", "kl"]),
        (&[""], &[""]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), files(10, 5));
        for text in writes {
            log.write(text.as_bytes());
        }
        assert_eq!(texts(dir.path()), expected, "{writes:?}");
    }
}

/// Covers: W50, T124
#[test]
fn numbers_grow_for_ever_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    for (round, expected) in [(0, 0..=1u64), (1, 1..=3), (2, 3..=5), (3, 5..=7)] {
        // Each start goes on in the file of the highest number.
        let mut log = open(dir.path(), files(3, 4));
        log.write(b"abc\n");
        log.write(b"abc\n");
        let numbers: Vec<u64> = contents(dir.path()).into_keys().collect();
        let last = *expected.end();
        let first = last.saturating_sub(2);
        assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "round {round}");
    }
    // A smaller limit counts from the next start on.
    drop(open(dir.path(), files(1, 4)));
    assert_eq!(contents(dir.path()).len(), 1);
    let mode = std::fs::metadata(dir.path().join("web.stdout.7")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

/// Covers: CVE-2026-6959
#[test]
fn what_strangers_put_in_the_way_is_neither_followed_nor_overwritten() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    let at = |dir: &Path, number: u32| dir.join(format!("web.stdout.{number}"));
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [(&str, Plant<'_>); 5] = [
        ("link", &|path| std::os::unix::fs::symlink(&victim, path).unwrap()),
        ("dangling link", &|path| std::os::unix::fs::symlink(outside.path().join("new"), path).unwrap()),
        ("second name", &|path| std::fs::hard_link(&victim, path).unwrap()),
        ("directory", &|path| std::fs::create_dir(path).unwrap()),
        ("pipe", &|path| {
            let kind = FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::RWXU, 0).unwrap();
        }),
    ];
    for (what, plant) in plants {
        // At the start, and at a rotation.
        let dir = tempfile::tempdir_in(outside.path()).unwrap();
        plant(&at(dir.path(), 0));
        let mut log = open(dir.path(), files(10, 5));
        log.write(b"abcde");
        assert_eq!(std::fs::read_to_string(at(dir.path(), 1)).unwrap(), "abcde", "{what}");
        plant(&at(dir.path(), 2));
        log.write(b"fg");
        assert_eq!(std::fs::read_to_string(at(dir.path(), 3)).unwrap(), "fg", "{what}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine", "{what}");
        assert!(!outside.path().join("new").exists(), "{what}");
    }
    // Spellings that are not ours count for nothing.
    let dir = tempfile::tempdir().unwrap();
    for strange in
        ["web.stdout.07", "web.stdout.+7", "web.stdout.x", "web.stdout.", "web.stdoutx.9", "web.stderr.9"]
    {
        std::fs::write(dir.path().join(strange), "").unwrap();
    }
    drop(open(dir.path(), files(10, 5)));
    assert!(at(dir.path(), 0).exists());
}

#[test]
fn a_file_that_was_emptied_under_us_gets_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), files(2, 1 << 20));
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    for text in ["one\n", "two\n"] {
        rustix::io::write(&writer, text.as_bytes()).unwrap();
        assert_eq!(log.take_from(reader.as_fd()), Taken::Some);
        assert_eq!(log.take_from(reader.as_fd()), Taken::Nothing);
        assert_eq!(texts(dir.path()), [text]);
        std::fs::File::options().write(true).truncate(true).open(dir.path().join("web.stdout.0")).unwrap();
    }
    drop(writer);
    assert_eq!(log.take_from(reader.as_fd()), Taken::End);
}

#[test]
fn a_full_disk_costs_lines_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), files(10, 1 << 20));
    log.write(b"before\nbegun");
    // Every write to it fails as on a full disk.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = std::mem::replace(&mut log.file, full.into());
    log.write(b"12345");
    log.write(b"67890");
    log.file = real;
    assert_eq!(log.lost, 10);
    log.write(b"after\n");
    let text = texts(dir.path()).concat();
    let reason = Errno::NOSPC;
    assert_eq!(text, format!("before\nbegun\nbivouac: 10 bytes of output were lost here: {reason}\nafter\n"));
    assert_eq!(log.lost, 0);
}

#[test]
fn a_directory_that_went_away_costs_lines_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), files(10, 5));
    log.write(b"abc");
    std::fs::remove_dir_all(dir.path()).unwrap();
    log.write(b"defgh");
    assert_eq!(log.lost, 3);
    log.close();
}

#[test]
fn what_cannot_begin_a_file_name_is_refused() {
    for bad in ["", "a/b", "a\0b", &"x".repeat(231)] {
        assert!(LogName::new(bad.to_owned()).is_err(), "{bad:?}");
    }
    assert!(LogName::new("x".repeat(230)).is_ok());
}

proptest! {
    /// Whatever is written in whatever pieces: the files in order are the text, none is longer than its limit, and a
    /// file that is cut short ends with a whole line.
    #[test]
    fn nothing_is_lost_or_doubled(
        limit in 1u64..60,
        pieces in proptest::collection::vec("[ab\n]{0,40}", 0..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), files(u32::MAX, limit));
        for piece in &pieces {
            log.write(piece.as_bytes());
        }
        let texts = texts(dir.path());
        prop_assert_eq!(texts.concat(), pieces.concat());
        for (index, text) in texts.iter().enumerate() {
            prop_assert!(text.len() as u64 <= limit);
            let last = index + 1 == texts.len();
            prop_assert!(last || text.len() as u64 == limit || text.ends_with('\n'));
        }
    }

    /// Through a pipe, with files long enough for the short road: the same, and no line is torn.
    #[test]
    fn the_short_road_loses_nothing(
        extra in 0u64..4000,
        lines in 0usize..9000,
        piece in 50usize..20_000,
        restart in any::<bool>(),
    ) {
        let limit = SEARCH + 2000 + extra;
        let text: String = (0..lines).map(|line| format!("line {line} of many\n")).collect();
        let dir = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut log = open(dir.path(), files(u32::MAX, limit));
        for (turn, piece) in text.as_bytes().chunks(piece).enumerate() {
            prop_assert_eq!(rustix::io::write(&writer, piece).unwrap(), piece.len());
            while log.take_from(reader.as_fd()) == Taken::Some {}
            if restart && turn % 7 == 6 {
                log = open(dir.path(), files(u32::MAX, limit));
            }
        }
        let texts = texts(dir.path());
        prop_assert_eq!(texts.concat(), text);
        for file in &texts {
            prop_assert!(file.len() as u64 <= limit);
        }
        let torn = texts.iter().rev().skip(1).filter(|file| !file.ends_with('\n')).count();
        prop_assert_eq!(torn, 0);
    }
}

/// Where the records of each index begin.
fn record_places(dir: &Path) -> BTreeMap<u64, Vec<u64>> {
    let indexes = contents(dir).into_keys().filter_map(|number| {
        let bytes = std::fs::read(dir.join(log_times::index_name("web.stdout", number))).ok()?;
        let place = |bytes: &[u8]| log_times::Record::from_bytes(bytes.try_into().unwrap()).offset;
        Some((number, bytes.chunks(log_times::RECORD).map(place).collect()))
    });
    indexes.collect()
}

#[test]
fn each_file_has_an_index_of_its_own_from_its_first_byte_which_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), files(2, 5));
    assert!(record_places(dir.path()).is_empty(), "nothing was said yet");
    log.write(b"abcdefghijkl");
    assert_eq!(texts(dir.path()), ["fghij", "kl"]);
    assert_eq!(record_places(dir.path()), BTreeMap::from([(1, vec![0]), (2, vec![0])]));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "an index goes with its log");
    let (pipe, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&writer, b"mn").unwrap();
    assert_eq!(log.take_from(pipe.as_fd()), Taken::Some);
    let written = std::fs::metadata(dir.path().join(log_times::index_name("web.stdout", 2))).unwrap();
    assert_eq!(written.len() % log_times::RECORD as u64, 0);
    let without = LogFiles { times: LogTimes::None, ..files(9, 9) };
    let other = tempfile::tempdir().unwrap();
    open(other.path(), without).write(b"x");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1, "nobody asked for times");
}
