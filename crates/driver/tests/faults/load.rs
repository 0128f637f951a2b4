//! Many of everything: starts and stops in a row, starts at once, exec sessions of every kind.

use crate::rig::{PATIENCE, Rig, descriptors, figure, quantile, rounds};
use bivouac_driver::engine::{EngineError, Leftovers};
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_driver::signals::Signal;
use bivouac_sandbox::model::Network;
use std::io::Read;
use std::time::{Duration, Instant};

/// A whole life, and how long its start took.
fn live(rig: &Rig, id: &str, network: Network) -> Result<Duration, EngineError> {
    let mut request = rig.request(id, "exit 0");
    request.network = network;
    let begun = Instant::now();
    let started = rig.start(&request)?;
    let taken = begun.elapsed();
    let exit = started.client.wait(Some(Instant::now() + PATIENCE))?;
    assert_eq!(exit.ending.code(), 0);
    rig.engine.destroy(id, Leftovers::Refuse)?;
    Ok(taken)
}

/// Thousands of lives leave nothing and get no slower. Between networks of their own, too.
///
/// Covers: 4-cycles
#[test]
fn starts_and_stops_in_a_row() {
    let Some(rig) = Rig::new("cycles") else { return };
    let mut told = Vec::new();
    for (network, count) in [(Network::Host, rounds(100, 5_000)), (Network::Own, rounds(20, 500))] {
        let mut times: Vec<Duration> = Vec::new();
        for round in 0..count {
            let id = format!("t{}", round % 10);
            times.push(live(&rig, &id, network.clone()).unwrap_or_else(|error| panic!("{round}: {error}")));
            if round % 500 == 0 {
                rig.settle();
            }
        }
        let tenth = (count / 10).max(1);
        let mut early: Vec<_> = times.iter().copied().take(tenth).collect();
        let mut late: Vec<_> = times.iter().copied().rev().take(tenth).collect();
        let (early, late) = (quantile(&mut early, 0.5), quantile(&mut late, 0.5));
        // Only at night are there enough of them, and nobody beside us.
        assert!(count < 500 || late < early * 2, "starts became slower: {early:?}, then {late:?}");
        told.push(format!("{count} ({network:?}): start {early:.0?} first, {late:.0?} last"));
    }
    rig.finish(told.join("; "));
}

/// All at once, and again while as many are stopped.
///
/// Covers: 4-concurrent
#[test]
fn a_hundred_starts_at_once() {
    let Some(rig) = Rig::new("at-once") else { return };
    let count = rounds(100, 100);
    let all_at_once = |generation: &str, work: &(dyn Fn(usize, &str) + Sync)| {
        std::thread::scope(|scope| {
            for number in 0..count {
                let id = format!("{generation}{number}");
                scope.spawn(move || work(number, &id));
            }
        });
    };
    let times = std::sync::Mutex::new(Vec::new());
    let start = |id: &str| {
        let begun = Instant::now();
        rig.run(id, "sleep 1000");
        times.lock().unwrap().push(begun.elapsed());
    };
    let stop = |id: &str| {
        rig.engine.stop(id, Signal::KILL, Duration::ZERO).unwrap_or_else(|error| panic!("{id}: {error}"));
        rig.engine.destroy(id, Leftovers::Refuse).unwrap_or_else(|error| panic!("{id}: {error}"));
    };
    all_at_once("a", &|_, id| start(id));
    all_at_once("b", &|number, id| {
        start(id);
        stop(&format!("a{number}"));
    });
    all_at_once("b", &|_, id| stop(id));
    let mut times = times.into_inner().unwrap();
    let (half, most) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    rig.finish(format!(
        "{count} at once and {count} more while those stopped: median {half:.0?}, p99 {most:.0?}"
    ));
}

/// What an exec session of the storm does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It is waited for.
    Sound,
    /// Its client goes away while it writes without end.
    Vanishes,
    /// It ends, and leaves a child that keeps its output open.
    LeavesChild,
}

/// Sessions that end well, vanish mid-stream or leave a child: each is answered by its deadline, and the shim is
/// afterwards as it was.
///
/// Covers: 4-exec-storm, T97
#[test]
fn a_storm_of_exec_sessions() {
    let Some(rig) = Rig::new("exec-storm") else { return };
    let count = rounds(100, 1_000);
    let started = rig.run("t", "sleep 1000");
    let shim = started.handle.shim.pid;
    let mut warm = session(&rig, Kind::Sound);
    assert_eq!(warm.0.wait(Some(Instant::now() + PATIENCE)).unwrap().ending.code(), 3);
    drop(warm);
    let before = descriptors(shim);
    let (memory, begun) = (figure(shim, "VmRSS"), Instant::now());
    let times = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let (rig, times) = (&rig, &times);
            scope.spawn(move || {
                for number in (worker..count).step_by(10) {
                    let kind = match number / 10 % 5 {
                        0 => Kind::Vanishes,
                        1 => Kind::LeavesChild,
                        _ => Kind::Sound,
                    };
                    let begun = Instant::now();
                    visit(rig, kind);
                    times.lock().unwrap().push(begun.elapsed());
                }
            });
        }
    });
    let taken = begun.elapsed();
    crate::rig::until("the shim has closed what it opened", || descriptors(shim) <= before);
    assert_eq!(figure(shim, "Threads"), 1);
    assert!(figure(shim, "VmRSS") < memory + 512, "{memory} KiB, now {}", figure(shim, "VmRSS"));
    // The children that sessions left belong to the task and end with it; the vanished ones are dead already.
    let left = rig.engine.stats("t").unwrap().group.pids.unwrap_or(0);
    let sleepers = u64::try_from(count / 5).unwrap();
    assert!(left <= 2 + sleepers, "{left} processes are left");
    rig.engine.stop("t", Signal::KILL, Duration::ZERO).unwrap();
    rig.forget("t");
    let most = quantile(&mut times.into_inner().unwrap(), 0.99);
    drop(started);
    rig.finish(format!("{count} sessions, ten at a time, in {taken:.1?}; p99 {most:.0?}; shim as before"));
}

type Streaming = (bivouac_shim::client::Session, std::io::PipeReader);

fn session(rig: &Rig, kind: Kind) -> Streaming {
    let (reader, writer) = std::io::pipe().unwrap();
    let script = match kind {
        Kind::Sound => "echo hello; exit 3",
        Kind::Vanishes => "while :; do echo more; done",
        Kind::LeavesChild => "sleep 900 & echo hello; exit 3",
    };
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let streams = Streams::Files { stdin: None, stdout: Some(writer.into()), stderr: None };
    let deadline = Some(PATIENCE);
    let entered = rig.engine.exec("t", ExecRequest { command, streams, deadline });
    (entered.unwrap_or_else(|error| panic!("{error}")), reader)
}

fn visit(rig: &Rig, kind: Kind) {
    let (mut session, mut reader) = session(rig, kind);
    let mut bytes = [0; 6];
    if kind == Kind::Vanishes {
        reader.read_exact(&mut bytes[..5]).unwrap();
        assert_eq!(&bytes[..5], b"more\n");
        return;
    }
    let end = session.wait(Some(Instant::now() + PATIENCE)).unwrap();
    assert_eq!(end.ending.code(), 3);
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello\n");
}
