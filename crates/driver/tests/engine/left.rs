//! What crashes leave, and what the engine does with it.

use crate::bench::{Bench, read_line};
use bivouac_driver::engine::{Engine, Leftovers, Standing};
use bivouac_driver::request::{StarterGone, Streams};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

/// A face and its log collector die together; the task waits with more than a FIFO holds, and not a byte is lost.
///
/// Covers: T128
#[test]
fn output_goes_on_when_its_reader_comes_back() {
    let Some(bench) = Bench::new("fifo") else { return };
    const LINES: usize = 20_000;
    let fifo = bench.path("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let opened = |flags| {
        let fd = rustix::fs::open(&fifo, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
        std::fs::File::from(fd.unwrap())
    };
    // Without waiting for the other side, and then like any other.
    let reader = || {
        let reader = opened(rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK);
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
        reader
    };
    let mut collector = reader();
    let writer = opened(rustix::fs::OFlags::WRONLY);
    let request = bench.script("a", &format!("seq 1 {LINES}; echo over >&2; exit 5"), vec![]);
    let task = bench.engine.prepare(&bench.operator, &request).unwrap();
    let streams = Streams::Files { stdin: None, stdout: Some(writer.into()), stderr: None };
    let started = bench.engine.start(&request, &task, streams.into(), StarterGone::Keep).unwrap();
    assert_eq!(read_line(&mut collector), "1");
    drop(collector);
    let handle = started.handle.clone();
    drop(started);

    let later = Engine::new(bench.places.clone()).unwrap();
    let Standing::Alive(client) = later.recover(&handle).unwrap() else { panic!("it was ended") };
    let mut collector = reader();
    let expected: String = (2..=LINES).map(|line| format!("{line}\n")).collect();
    let mut seen = vec![0; expected.len()];
    collector.read_exact(&mut seen).unwrap();
    assert!(seen == expected.as_bytes(), "lines were lost or came twice");
    assert_eq!(client.wait(crate::bench::soon()).unwrap().ending.code(), 5);
    later.destroy(&request.id, Leftovers::Refuse).unwrap();
    bench.finish();
}

#[test]
fn what_a_crash_left_is_collected_and_what_just_starts_is_not() {
    let Some(bench) = Bench::new("gc") else { return };
    let run_dir = bench.path("run/tasks/left%2fover");
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.engine.list().unwrap(), ["left/over"]);
    assert!(bench.engine.gc().unwrap().is_empty(), "it may be just starting");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&run_dir).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(bench.engine.gc().unwrap(), ["left/over"]);
    bench.finish();
}
