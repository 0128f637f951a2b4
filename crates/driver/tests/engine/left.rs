//! What crashes leave, and what the engine does with it.

use crate::bench::{Bench, read_line, until};
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

/// The files of a run directory, as a loss of power leaves them: whole, or cut off.
struct Written {
    name: &'static str,
    bytes: Vec<u8>,
}

/// Power is lost while a record or a status is written: whatever length it has, the next face says so in a sentence
/// and takes it away when it is told to.
///
/// Covers: 4-reboot
#[test]
fn state_that_is_cut_off_at_any_length_is_told_and_taken_away() {
    let Some(bench) = Bench::new("cut") else { return };
    let request = bench.script("a", "exec sleep 1000", vec![]);
    let run = bench.started(&request);
    let handle = run.started.handle.clone();
    let run_dir = bench.path("run/tasks/alloc%2fa");
    let written = ["record", "status.json"]
        .map(|name| Written { name, bytes: std::fs::read(run_dir.join(name)).unwrap() });
    bench.engine.destroy(&request.id, Leftovers::Kill).unwrap();
    until("the shim has ended", || {
        // Looking reaps it.
        bench.engine.find(&request.id).is_err() && !handle.shim.runs()
    });
    let lay = |files: &[(&str, &[u8])]| {
        std::fs::create_dir(&run_dir).unwrap();
        std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(run_dir.join(name), bytes).unwrap());
    };
    let gone = |what: &str| {
        let error = bench.engine.recover(&handle).err().unwrap_or_else(|| panic!("{what} was recovered"));
        assert!(error.to_string().starts_with("the task is lost: "), "{what}: {error}");
        bench.engine.destroy(&request.id, Leftovers::Kill).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!run_dir.exists(), "{what} stays");
    };
    let [record, status] = &written;
    // The emulated machine would need minutes for what is the same on both.
    let step = if std::env::var_os("BIVOUAC_TEST_LANE").is_some_and(|lane| lane == "vm") { 97 } else { 1 };
    for (cut, kept) in [(record, status), (status, record)] {
        for length in (0..cut.bytes.len()).step_by(step) {
            lay(&[(kept.name, &kept.bytes), (cut.name, cut.bytes.get(..length).unwrap())]);
            gone(&format!("{} of {length} bytes", cut.name));
        }
    }
    for share in [0, 1, 2] {
        let half = |file: &Written| file.bytes.get(..file.bytes.len() * share / 3).unwrap().to_vec();
        lay(&[(record.name, &half(record)), (status.name, &half(status))]);
        gone(&format!("{share} thirds of both"));
    }
    bench.finish();
}
