//! Terminals: a task has one of its own or none, and types into nobody else's.

use crate::rig::{Attack, Bench, Report};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::request::{ExecRequest, StarterGone, Streams};
use bivouac_sandbox::model::TerminalSize;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

const SIZE: TerminalSize = TerminalSize { rows: 33, columns: 101 };

/// Everything that comes out of a terminal until its other side is closed.
fn drain(master: OwnedFd) -> String {
    let (mut text, mut chunk) = (Vec::new(), [0u8; 4096]);
    let mut master = std::fs::File::from(master);
    // A terminal whose other side is gone answers EIO.
    while let Ok(got) = master.read(&mut chunk) {
        if got == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..got]);
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

fn with_terminal(attack: Attack<'_>) -> Report {
    let (mut started, id, engine) = attack.start_with(Streams::Terminal(SIZE), StarterGone::Keep).unwrap();
    let text = drain(started.terminal.take().unwrap());
    let exit = started.client.wait(None).unwrap();
    engine.destroy(&id, Leftovers::Refuse).unwrap();
    Report::of_text(text, exit.ending.code())
}

/// Covers: CVE-2017-5226, CVE-2025-52565, 2-tiocsti, T98, T101
#[test]
fn a_terminal_is_the_tasks_own_and_takes_no_pushed_input() {
    let Some(bench) = Bench::new("terminal") else { return };
    let planted = bench.path("a/task/dev");
    std::fs::create_dir_all(planted.join("pts")).unwrap();
    for name in ["console", "tty", "ptmx", "pts/0", "null"] {
        std::fs::write(planted.join(name), "planted").unwrap();
    }
    let before = crate::rig::tree(&planted);
    let first = with_terminal(bench.attack("a", "tty", &["push"]).mighty());
    let live = bench.attack("a", "fds", &["stay"]).mighty();
    bench.place("a", "tty");
    let live = live.ready();
    let command = vec!["/tty".to_owned(), "push".to_owned()];
    let request = ExecRequest { command, streams: Streams::Terminal(SIZE), deadline: None };
    let mut session = bench.engine.exec(live.id(), request).unwrap();
    let text = drain(session.take_terminal().unwrap());
    let exec = Report::of_text(text, session.wait(None).unwrap().ending.code());
    live.kill();
    for (which, report) in [("start", &first), ("exec", &exec)] {
        report.expect(&["TIOCSTI", "TIOCSTI.high", "TIOCLINUX", "TIOCLINUX.high", "TIOCSETD"], "EPERM");
        report.expect(&["queued"], "0");
        report.expect(&["size"], "33x101");
        report.expect(&["session"], "own");
        report.expect(&["controlling"], "1");
        report.expect(&["dev.tty", "reopen"], "OK");
        assert_ne!(report.get("console"), "OK", "{which}");
        assert_eq!(report.get("name"), "/dev/pts/0", "{which}");
        for stream in ["stream.0", "stream.1", "stream.2"] {
            assert!(report.get(stream).starts_with("20000 136:0 "), "{which}: {}", report.get(stream));
        }
    }
    assert_eq!(crate::rig::tree(&planted), before, "what lies under the fresh /dev was touched");

    // Where no filter is, the push works: the check can fail.
    let free = bench.attack("free", "tty", &["push"]).mighty();
    let free = with_terminal(free.operator("allow_unconfined", true).option("seccomp", "unconfined"));
    // The pushed letter is echoed in front of the line.
    assert!(free.text.contains("xTIOCSTI 0 OK") || legacy_push_is_off(), "{}", free.text);
    assert_eq!(free.get("TIOCSETD"), "OK", "{}", free.text);

    // Without a terminal there is none to be had.
    let none = bench.attack("none", "tty", &["push"]).mighty().run();
    none.expect(&["name"], "none");
    none.expect(&["session"], "own");
    none.expect(&["controlling"], "0");
    none.expect(&["dev.tty"], "ENXIO");
    assert_eq!(std::fs::metadata("/dev/null").unwrap().mode() & 0o777, 0o666);
    bench.finish();
}

/// Newer kernels can refuse the push by themselves.
fn legacy_push_is_off() -> bool {
    std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|value| value.trim() == "0")
}
