//! Log files kept by the shim: there before the task runs, complete when its end is told, whatever becomes of the face.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and skips aloud")]

mod rig;

use bivouac_sandbox::model::Sharing;
use bivouac_shim::client::ClientError;
use bivouac_shim::protocol::{LogFiles, LogName, LogTimes, Output, Refusal, Stream, TaskStreams};
use bivouac_shim::status::Ending;
use rig::{Rig, can_run, lives, soon, until};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

fn log(name: &str, most_files: u32, most_bytes: u64) -> Output {
    Output::Log(LogFiles {
        name: LogName::new(name.into()).unwrap(),
        most_files: NonZeroU32::new(most_files).unwrap(),
        most_bytes: NonZeroU64::new(most_bytes).unwrap(),
        times: LogTimes::Kept,
    })
}

/// A rig whose output goes to files in a directory of its own, and a descriptor of that directory for each.
fn logging(script: &str, stdout: Output, stderr: Output) -> (Rig, Vec<OwnedFd>) {
    let mut rig = Rig::shell(script);
    let directory = rig.dir.path().join("logs");
    std::fs::create_dir(&directory).unwrap();
    let each = || std::fs::File::open(&directory).unwrap().into();
    let given = [&stdout, &stderr].into_iter().filter(|output| **output != Output::Null).map(|_| each());
    let given = given.collect();
    rig.order.streams = TaskStreams::Files { stdin: Stream::Null, stdout, stderr };
    (rig, given)
}

fn text(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join("logs").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files of a stream, in order.
fn whole(dir: &Path, name: &str) -> String {
    let mut numbers: Vec<u64> = std::fs::read_dir(dir.join("logs"))
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok())
        .collect();
    numbers.sort();
    numbers.into_iter().map(|number| text(dir, &format!("{name}.{number}"))).collect()
}

#[test]
fn files_are_there_before_the_task_and_complete_when_its_end_is_told() {
    if !can_run("files_are_there_before_the_task_and_complete_when_its_end_is_told") {
        return;
    }
    // A child that is left behind has its last word too; the face is gone all the while.
    let script = "echo out; echo error >&2; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; \
                  (echo child >&2; sleep 1000) & echo last; exit 5";
    for pid in [Sharing::Private, Sharing::Host] {
        let (mut rig, given) = logging(script, log("a.out", 1000, 100_000), log("a.err", 2, 1 << 20));
        rig.order.sandbox.namespaces.pid = pid;
        let (client, _) = rig.try_start(given).unwrap();
        assert!(rig.dir.path().join("logs/a.out.0").exists() && rig.dir.path().join("logs/a.err.0").exists());
        drop(client);
        let exit = rig.client().wait(soon()).unwrap();
        assert_eq!(exit.ending, Ending::Exited { code: 5 });
        let lines: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        assert_eq!(whole(rig.dir.path(), "a.out"), format!("out\n{lines}last\n"));
        // The child may have been killed before it said anything.
        let error = text(rig.dir.path(), "a.err.0");
        assert!(["error\n", "error\nchild\n"].contains(&error.as_str()), "{error}");
        let sizes = (0..3).map(|number| text(rig.dir.path(), &format!("a.out.{number}")).len());
        for size in sizes.take(2) {
            assert!(size <= 100_000 && size > 100_000 - 5000, "{size}");
        }
        rig.destroy();
    }
}

#[test]
fn one_stream_may_have_files_and_the_other_none() {
    if !can_run("one_stream_may_have_files_and_the_other_none") {
        return;
    }
    let (mut rig, given) = logging("echo out; echo error >&2", Output::Null, log("e", 1, 1 << 20));
    let (client, _) = rig.try_start(given).unwrap();
    client.wait(soon()).unwrap();
    assert_eq!(text(rig.dir.path(), "e.0"), "error\n");
    assert_eq!(std::fs::read_dir(rig.dir.path().join("logs")).unwrap().count(), 2, "with its times");
    rig.destroy();
}

/// Covers: 2-bomb-log
#[test]
fn a_task_that_says_much_costs_a_shim_nothing_that_grows() {
    if !can_run("a_task_that_says_much_costs_a_shim_nothing_that_grows") {
        return;
    }
    let script = "dd if=/dev/zero bs=65536 count=2000 2>/dev/null; exec sleep 1000";
    let (mut rig, given) = logging(script, log("z", 2, 4 << 20), Output::Null);
    let memory = |rig: &Rig| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.shim_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().trim();
        line.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (_client, _) = rig.try_start(given).unwrap();
    let before = memory(&rig);
    let highest = 2000 * 65536 / (4 << 20);
    let last = rig.dir.path().join(format!("logs/z.{highest}"));
    until("everything is written", || {
        std::fs::metadata(&last).is_ok_and(|file| file.len() == (2000 * 65536) % (4 << 20))
    });
    assert_eq!(
        std::fs::read_dir(rig.dir.path().join("logs")).unwrap().count(),
        4,
        "the oldest went, each with its times"
    );
    let grown = memory(&rig).saturating_sub(before);
    println!("131 MB of output: {grown} KiB more in the shim");
    assert!(grown <= 32, "{grown} KiB");
    rig.destroy();
}

#[test]
fn a_silent_task_with_log_files_costs_no_wake_up_even_after_it_closed_its_output() {
    if !can_run("a_silent_task_with_log_files_costs_no_wake_up_even_after_it_closed_its_output") {
        return;
    }
    let script = "echo once; exec >&- 2>&-; exec sleep 1000";
    let (mut rig, given) = logging(script, log("s", 1, 1 << 20), log("t", 1, 1 << 20));
    let (_client, _) = rig.try_start(given).unwrap();
    until("it has spoken", || text(rig.dir.path(), "s.0") == "once\n");
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.shim_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    until("it waits", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(200));
        switches() == before
    });
    rig.destroy();
}

/// A task can hand a descriptor of its output to somebody outside; the end is told all the same, soon.
#[test]
fn output_that_somebody_outside_keeps_open_does_not_keep_the_end_back() {
    if !can_run("output_that_somebody_outside_keeps_open_does_not_keep_the_end_back") {
        return;
    }
    let (mut rig, given) = logging("echo said; read line", log("o", 1, 1 << 20), Output::Null);
    let (input, writer) = std::io::pipe().unwrap();
    let TaskStreams::Files { stdin, .. } = &mut rig.order.streams else { unreachable!() };
    *stdin = Stream::Given;
    let streams = std::iter::once(input.into()).chain(given).collect();
    let (client, launched) = rig.try_start(streams).unwrap();
    let path = format!("/proc/{}/fd/1", launched.started.pid);
    let outside = std::fs::File::options().write(true).open(path).unwrap();
    drop(writer);
    let exit = client.wait(soon()).unwrap();
    assert_eq!(exit.ending.code(), 1);
    assert_eq!(text(rig.dir.path(), "o.0"), "said\n");
    assert!(!lives(launched.started.pid));
    use std::io::Write;
    let refused = (&outside).write(b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    rig.destroy();
}

#[test]
fn a_directory_that_takes_no_files_is_told_and_nothing_starts() {
    if !can_run("a_directory_that_takes_no_files_is_told_and_nothing_starts") {
        return;
    }
    let (mut rig, given) = logging("exit 0", log("x", 1, 1), Output::Null);
    std::fs::remove_dir(rig.dir.path().join("logs")).unwrap();
    let refused = rig.try_start(given).err().unwrap();
    assert!(
        matches!(&refused, ClientError::Refused(Refusal::Failed { what, .. }) if what.contains("log file x.0")),
        "{refused}"
    );
    rig.shim_ends();
}
