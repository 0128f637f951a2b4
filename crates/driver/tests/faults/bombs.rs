//! Tasks that take all they can, beside twenty that do their work.

use crate::rig::{PATIENCE, Rig, descriptors, figure, quantile, rounds, until};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Standing, Started};
use bivouac_driver::options::Value;
use bivouac_driver::request::{LogFiles, LogName, LogTimes, Output, StarterGone, TaskRequest, TaskStreams};
use bivouac_driver::signals::Signal;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a bomb goes on.
const BLAST: Duration = Duration::from_millis(700);

/// Name, script, and what must be seen from outside while it goes on.
type Bomb = (&'static str, &'static str, fn(&Rig, &Started) -> bool);

#[rustfmt::skip]
const BOMBS: &[Bomb] = &[
    ("fork",    "f() { f | f & f; }; while :; do f 2>/dev/null; done",             |rig, _| processes(rig) <= 64),
    ("memory",  "tail /dev/zero; tail /dev/zero; sleep 1000",                      |rig, _| memory(rig) <= 64 << 20),
    ("tmpfs",   "while :; do cat /dev/zero > /dev/shm/x; rm -f /dev/shm/x; done",  |rig, _| memory(rig) <= 64 << 20),
    ("files",   "i=3; while :; do eval \"exec $i</dev/null\" || sleep 1; i=$((i+1)); done 2>/dev/null", shim_is_small),
    ("zombies", "while :; do (sleep 0 & exec sleep 1000) & done 2>/dev/null",      |rig, _| processes(rig) <= 64),
    ("inodes",  "i=0; while :; do i=$((i+1)); : > /local/f$i; done",               |_, _| true),
    ("links",   "mkdir /local/d; cd /local/d; while :; do mkdir d && cd d; done 2>/dev/null", |_, _| true),
];

fn memory(rig: &Rig) -> u64 {
    let memory = rig.engine.stats("bomb").ok().and_then(|stats| stats.group.memory);
    memory.map_or(0, |memory| memory.current.0)
}

fn processes(rig: &Rig) -> u64 {
    rig.engine.stats("bomb").ok().and_then(|stats| stats.group.pids).unwrap_or(0)
}

fn shim_is_small(_: &Rig, started: &Started) -> bool {
    descriptors(started.handle.shim.pid) < 40
}

/// A task that writes a line again and again, and where its lines are.
struct Neighbour {
    id: String,
    output: PathBuf,
}

fn neighbours(rig: &Rig) -> Vec<Neighbour> {
    let one = |number: usize| {
        let id = format!("n{number}");
        let output = rig.directory.path().join(&id).join("alloc/output");
        rig.run(&id, "while :; do echo x >> /alloc/output; sleep 0.2; done");
        Neighbour { id, output }
    };
    (0..20).map(one).collect()
}

/// Bounded, ended at once, and nobody beside it stands still.
///
/// Covers: 4-zombie-fork-load, 2-bomb-fork, 2-bomb-memory, 2-bomb-fds, 2-bomb-zombies, 2-bomb-tree
#[test]
fn bombs_beside_twenty_sound_tasks() {
    let Some(rig) = Rig::new("bombs") else { return };
    let neighbours = neighbours(&rig);
    let mut told = Vec::new();
    for (name, script, is_bounded) in BOMBS {
        let request = limited(&rig, script);
        let bomb = rig.start(&request).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines =
            |neighbour: &Neighbour| std::fs::metadata(&neighbour.output).map_or(0, |found| found.size());
        let before: Vec<u64> = neighbours.iter().map(lines).collect();
        let begun = Instant::now();
        let mut starts = Vec::new();
        while begun.elapsed() < BLAST * u32::try_from(rounds(1, 10)).unwrap() {
            assert!(is_bounded(&rig, &bomb), "{name} is not bounded");
            let asked = Instant::now();
            rig.run("guest", "exit 0");
            starts.push(asked.elapsed());
            rig.forget("guest");
        }
        for (neighbour, before) in neighbours.iter().zip(before) {
            until("a neighbour works on", || lines(neighbour) > before);
        }
        let begun = Instant::now();
        rig.engine
            .stop("bomb", Signal::KILL, Duration::ZERO)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stopped = begun.elapsed();
        assert!(stopped < Duration::from_secs(10), "{name} was stopped after {stopped:?}");
        rig.forget("bomb");
        let start = quantile(&mut starts, 0.99);
        told.push(format!("{name}: start beside it p99 {start:.0?}, stopped in {stopped:.0?}"));
        std::fs::remove_dir_all(rig.directory.path().join("bomb")).ok();
    }
    for neighbour in &neighbours {
        assert!(!rig.is_over(&neighbour.id), "{} has ended", neighbour.id);
        rig.forget(&neighbour.id);
    }
    rig.finish(told.join("; "));
}

fn limited(rig: &Rig, script: &str) -> TaskRequest {
    rig.request_with("bomb", script, vec![("pids_limit", Value::from(64))])
}

/// A flood of output into files that the shim keeps: bounded on the disk, and nobody beside it stands still.
///
/// Covers: 2-bomb-log
#[test]
fn a_flood_of_output_is_bounded_on_disk_and_in_the_shim() {
    let Some(rig) = Rig::new("log-flood") else { return };
    let logs = rig.directory.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let log = Output::Log {
        directory: std::fs::File::open(&logs).unwrap().into(),
        files: LogFiles {
            name: LogName::new("t.stdout".into()).unwrap(),
            most_files: NonZeroU32::new(3).unwrap(),
            most_bytes: NonZeroU64::new(100_000).unwrap(),
            times: LogTimes::Kept,
        },
    };
    // Lines, and one line without an end.
    let script = "yes | head -c 3000000; exec cat /dev/zero";
    let request = rig.request("t", script);
    let operator = OperatorConfig::decode(&Value::Null).unwrap();
    let task = rig.engine.prepare(&operator, &request).unwrap();
    let streams = TaskStreams::Files { stdin: None, stdout: log, stderr: Output::Null };
    let started = rig.engine.start(&request, &task, streams, StarterGone::Keep).unwrap();
    let shim = started.handle.shim.pid;
    let memory = figure(shim, "VmRSS");
    let files = || {
        let files = std::fs::read_dir(&logs).unwrap().flatten();
        // One may be removed between the list and the look.
        files.filter_map(|entry| Some((number(&entry), entry.metadata().ok()?.size()))).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    let (mut most, mut newest) = (0, 0);
    // Until the first ones had to go, however slow this machine is: before that nothing is bounded.
    while begun.elapsed() < BLAST * u32::try_from(rounds(1, 20)).unwrap() || newest <= 3 {
        assert!(begun.elapsed() < PATIENCE, "file {newest} was the last one, {most} bytes were kept");
        let files = files();
        // Each with its times beside it.
        assert!(files.len() <= 2 * 4 && files.iter().all(|(_, size)| *size <= 200_000), "{files:?}");
        most = most.max(files.iter().map(|(_, size)| size).sum());
        newest = newest.max(files.iter().map(|(number, _)| *number).max().unwrap_or(0));
        rig.run("guest", "exit 0");
        rig.forget("guest");
    }
    assert!(figure(shim, "VmRSS") < memory + 1024, "{memory} KiB, now {}", figure(shim, "VmRSS"));
    rig.engine.stop("t", Signal::KILL, Duration::ZERO).unwrap();
    rig.forget("t");
    drop(started);
    rig.finish(format!("{most} bytes at most in 3 files of 100000, {memory} KiB in the shim throughout"));
}

/// The number of a log, by its name or that of its times.
fn number(entry: &std::fs::DirEntry) -> u32 {
    let name = entry.file_name().into_string().unwrap();
    let log = name.strip_prefix('.').and_then(|name| name.strip_suffix(".times")).unwrap_or(&name);
    log.strip_prefix("t.stdout.").unwrap().parse().unwrap()
}

/// Memory runs out in the group: told, counted, and what the host had is back.
///
/// Covers: 2-bomb-memory, T111
#[test]
fn memory_that_runs_out_is_counted_and_given_back() {
    let Some(rig) = Rig::new("oom") else { return };
    let available = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap().to_owned();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = available();
    let mut told = 0;
    for round in 0..rounds(5, 100) {
        let started = rig.run("t", "(tail /dev/zero); exec tail /dev/zero");
        let exit = started.client.wait(Some(Instant::now() + PATIENCE)).unwrap();
        assert!(exit.oom_kills > 0 && exit.ending.code() != 0, "{round}: {exit:?}");
        told += exit.oom_kills;
        assert!(matches!(rig.engine.find("t"), Ok(Standing::Alive(_))), "the shim outlives its task");
        assert!(figure(started.handle.shim.pid, "VmRSS") < 8 << 10);
        rig.forget("t");
    }
    // Others work here too: a twentieth is theirs.
    until("the memory is back", || available() >= before - before / 20);
    rig.finish(format!("{told} kills for lack of memory, each counted"));
}
