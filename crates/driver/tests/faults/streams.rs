//! Readers of a task's output that are slow, stand still, or die; logs that somebody else cuts.

use crate::rig::{PATIENCE, Rig, figure, rounds, start, until};
use bivouac_driver::signals::Signal;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Writes without end and tells on the side how far it has come.
const FLOOD: &str = "trap 'exit 5' TERM; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";

/// A reader that stands still blocks the task and costs nobody memory; the task is stopped all the same. One that
/// reads a byte at a time gets every byte in order.
///
/// Covers: 4-slow-reader, 2-bomb-log
#[test]
fn a_reader_that_stands_still_or_is_slow() {
    let Some(rig) = Rig::new("slow-reader") else { return };
    let (mut reader, writer) = std::io::pipe().unwrap();
    let started = start(&rig.engine, &rig.request("t", FLOOD), Some(writer.into())).unwrap();
    let (shim, first) = (started.handle.shim.pid, started.pid);
    let memory = figure(shim, "VmRSS");
    until("the task is blocked by the full pipe", || {
        std::fs::read_to_string(format!("/proc/{first}/wchan")).is_ok_and(|name| name.contains("pipe"))
            || std::fs::read_to_string(format!("/proc/{first}/syscall"))
                .is_ok_and(|call| call.starts_with("1 0x1 "))
    });
    let mut bytes = [0; 1];
    for number in 0..rounds(200, 2_000) {
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[0], if number % 33 == 32 { b'\n' } else { b'x' }, "byte {number}");
    }
    assert!(figure(shim, "VmRSS") <= memory + 64, "{memory} KiB, now {}", figure(shim, "VmRSS"));
    let begun = Instant::now();
    rig.engine.stop("t", Signal::KILL, Duration::ZERO).unwrap();
    let stopped = begun.elapsed();
    assert!(stopped < Duration::from_secs(30), "{stopped:?}");
    rig.forget("t");
    drop((reader, started));
    rig.finish(format!("blocked, {memory} KiB in the shim throughout, stopped in {stopped:.0?}"));
}

/// Whoever writes into a pipe whose reader has died is told so.
///
/// Covers: 4-slow-reader
#[test]
fn a_reader_that_dies() {
    let Some(rig) = Rig::new("dead-reader") else { return };
    let (reader, writer) = std::io::pipe().unwrap();
    // The first process of a pid namespace does not feel SIGPIPE: its write fails.
    let script = "while echo x; do :; done 2>/dev/null; exit 9";
    let started = start(&rig.engine, &rig.request("t", script), Some(writer.into())).unwrap();
    drop(reader);
    let exit = started.client.wait(Some(Instant::now() + PATIENCE)).unwrap();
    assert_eq!(exit.ending.code(), 9);
    rig.forget("t");
    rig.finish(format!("told: {:?}", exit.ending));
}

/// A log that is cut or removed by others while the task writes: it writes on, and nothing else of the host is made.
///
/// Covers: 4-slow-reader
#[test]
fn a_log_that_others_cut() {
    let Some(rig) = Rig::new("cut-log") else { return };
    let path = rig.directory.path().join("log");
    let mut log = std::fs::OpenOptions::new().create(true).append(true).read(true).open(&path).unwrap();
    let flood = "while :; do echo line; sleep 0.01; done";
    let copy = OwnedFd::from(log.try_clone().unwrap());
    let started = start(&rig.engine, &rig.request("t", flood), Some(copy)).unwrap();
    until("it writes", || log.metadata().unwrap().len() > 20);
    log.set_len(0).unwrap();
    until("it writes on after the cut", || log.metadata().unwrap().len() > 20);
    log.rewind().unwrap();
    let mut text = [0; 5];
    log.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"line\n", "appending leaves no hole");
    std::fs::remove_file(&path).unwrap();
    log.set_len(0).unwrap();
    until("it writes on into the removed file", || log.metadata().unwrap().len() > 20);
    assert!(!path.exists(), "nobody makes it again");
    log.write_all(b"").unwrap();
    rig.engine.stop("t", Signal::KILL, Duration::ZERO).unwrap();
    rig.forget("t");
    drop((log, started));
    rig.finish("cut and removed, written on");
}
