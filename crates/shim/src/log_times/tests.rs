//! Which records there are, and what strangers can do about them.

use super::*;
use crate::protocol::{LogName, LogTimes};
use proptest::prelude::*;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

fn files() -> LogFiles {
    LogFiles {
        name: LogName::new("web.stdout".into()).unwrap(),
        most_files: NonZeroU32::MIN,
        most_bytes: NonZeroU64::MAX,
        times: LogTimes::Kept,
    }
}

fn directory(path: &Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

fn records(path: &Path, number: u64) -> Vec<(u64, i64)> {
    let bytes = std::fs::read(path.join(index_name("web.stdout", number))).unwrap();
    assert_eq!(bytes.len() % RECORD, 0);
    let record = |bytes: &[u8]| Record::from_bytes(bytes.try_into().unwrap());
    bytes.chunks(RECORD).map(record).map(|record| (record.offset, record.unix_millis)).collect()
}

#[test]
fn what_is_close_in_time_shares_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let fd = directory(dir.path());
    let mut index = Index::Unopened;
    for (offset, now) in [(0, 1000), (5, 1099), (9, 1100), (9, 1150), (20, 1250), (30, 900), (40, 950)] {
        index.note(&fd, &files(), 3, offset, now);
    }
    assert_eq!(
        records(dir.path(), 3),
        [(0, 1000), (9, 1100), (20, 1250), (30, 900)],
        "the clock was set back"
    );
    let mut later = Index::Unopened;
    later.note(&fd, &files(), 3, 50, 951);
    assert_eq!(records(dir.path(), 3).last(), Some(&(50, 951)), "a later writer goes on");
    later.forget();
    later.note(&fd, &files(), 3, 0, 960);
    assert_eq!(records(dir.path(), 3), [(0, 960)], "an emptied log has an emptied index");
    remove(&fd, &files(), 3);
    assert!(!dir.path().join(index_name("web.stdout", 3)).exists());
}

#[test]
fn an_index_is_no_longer_than_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let fd = directory(dir.path());
    let mut index = Index::Unopened;
    for byte in 0..20_000 {
        index.note(&fd, &files(), 0, byte, i64::try_from(byte).unwrap() * 1000);
    }
    let kept = records(dir.path(), 0);
    let length = kept.len() as u64 * RECORD as u64;
    assert!(length <= 20_000 + RECORD as u64, "{length}");
    assert!(kept.last().unwrap().0 > 19_900, "{:?}", kept.last());
}

#[test]
fn what_strangers_put_in_the_way_is_neither_followed_nor_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "kept").unwrap();
    std::os::unix::fs::symlink(&precious, dir.path().join(index_name("web.stdout", 0))).unwrap();
    std::fs::hard_link(&precious, dir.path().join(index_name("web.stdout", 1))).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join(index_name("web.stdout", 2)),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    let fd = directory(dir.path());
    for number in 0..3 {
        let mut index = Index::Unopened;
        index.note(&fd, &files(), number, 0, 1);
        assert!(matches!(index, Index::Off), "{number}: {index:?}");
    }
    assert_eq!(std::fs::read(&precious).unwrap(), b"kept");
}

proptest! {
    #[test]
    fn records_are_read_as_they_are_written(offset: u64, unix_millis: i64) {
        let record = Record { offset, unix_millis };
        prop_assert_eq!(Record::from_bytes(record.to_bytes()), record);
    }
}
