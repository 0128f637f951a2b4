//! Exec sessions in a real sandbox: statuses, streams, terminals, deadlines, clients that leave.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and skips aloud")]

mod rig;

use bivouac_sandbox::model::TerminalSize;
use bivouac_sandbox::path::TaskPath;
use bivouac_shim::client::ClientError;
use bivouac_shim::protocol::{
    Exec, ExecCause, ExecEnd, Leftovers, Refusal, Stream, StreamsKind, TaskStreams,
};
use bivouac_shim::status::Ending;
use rig::{Rig, can_run, lives, output, read_all, read_line, soon, until};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const KILL: i32 = 9;

fn idle() -> Rig {
    let mut rig = Rig::shell("exec sleep 1000");
    let (client, _) = rig.start();
    drop(client);
    rig
}

/// Runs a script to its end: what it said on both streams, and how it ended.
fn run(rig: &Rig, script: &str) -> (String, String, ExecEnd) {
    let (streams, out, error) = output();
    let mut session = rig.exec(script, streams);
    let end = session.wait(soon()).unwrap();
    (read_all(out), read_all(error), end)
}

/// Covers: T90, T95, T102
#[test]
fn statuses_and_streams_come_back_apart() {
    if !can_run("statuses_and_streams_come_back_apart") {
        return;
    }
    let rig = idle();
    let (out, error, end) = run(&rig, "echo hello stdout; echo hello stderr >&2; exit 43");
    assert_eq!((out.as_str(), error.as_str()), ("hello stdout\n", "hello stderr\n"));
    assert_eq!(end, ExecEnd { ending: Ending::Exited { code: 43 }, cause: ExecCause::Own });
    for code in [0, 1, 127, 255] {
        assert_eq!(run(&rig, &format!("exit {code}")).2.ending, Ending::Exited { code });
    }
    assert_eq!(run(&rig, "kill -9 $$").2.ending, Ending::Signaled { signal: KILL, core: false });
    // The session is a leader of its own, in the task's processes, with descriptors 0-2 alone.
    let script = "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && printf $n; done; echo; \
                  cut -d' ' -f6 /proc/$$/stat; echo $$; cat /proc/1/comm";
    let (out, _, _) = run(&rig, script);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("012"));
    assert_eq!(lines.next(), lines.next());
    assert_eq!(lines.next(), Some("sleep"));
    rig.destroy();
}

/// Covers: T93
#[test]
fn input_and_much_output_come_through_whole() {
    if !can_run("input_and_much_output_come_through_whole") {
        return;
    }
    let rig = idle();
    let (input, mut writer) = std::io::pipe().unwrap();
    let (out, out_writer) = std::io::pipe().unwrap();
    let mut order = rig.exec_order("cat; exit 2");
    order.streams = StreamsKind::Files { stdin: Stream::Given, stdout: Stream::Given, stderr: Stream::Null };
    let mut session = rig.client().exec(order, vec![input.into(), out_writer.into()]).unwrap();
    const SIZE: usize = 1 << 20;
    let feeder = std::thread::spawn(move || writer.write_all(&vec![b'x'; SIZE]).unwrap());
    assert_eq!(read_all(out).len(), SIZE);
    feeder.join().unwrap();
    assert_eq!(session.wait(soon()).unwrap().ending, Ending::Exited { code: 2 });
    let (out, _, _) = run(&rig, "true");
    assert_eq!(out, "");
    rig.destroy();
}

#[test]
fn a_command_that_cannot_run_is_one_sentence_at_once() {
    if !can_run("a_command_that_cannot_run_is_one_sentence_at_once") {
        return;
    }
    let rig = idle();
    for (path, code) in [("/bin/no-such-program", 127), ("/usr", 126)] {
        let mut order = rig.exec_order("true");
        for candidate in &mut order.process.candidates {
            candidate.path = TaskPath::new(path).unwrap();
        }
        let (streams, out, _) = output();
        let refused = rig.client().exec(order, streams).err().unwrap();
        let ClientError::Refused(Refusal::NotStarted { text, exit_code }) = refused else {
            panic!("{refused}")
        };
        assert_eq!(exit_code, code, "{text}");
        assert_eq!(read_all(out), "", "its pipe is closed");
    }
    rig.destroy();
}

/// Covers: CVE-2022-31030
#[test]
fn a_background_child_that_keeps_the_pipe_delays_nothing() {
    if !can_run("a_background_child_that_keeps_the_pipe_delays_nothing") {
        return;
    }
    let rig = idle();
    let (streams, mut out, _error) = output();
    let mut session = rig.exec("sleep 1000 & echo from main; exit 3", streams);
    assert_eq!(session.wait(soon()).unwrap().ending, Ending::Exited { code: 3 });
    assert_eq!(read_line(&mut out), "from main");
    rig.destroy();
    assert_eq!(read_all(out), "", "the background child ended with the task");
}

/// Covers: T96
#[test]
fn a_client_that_leaves_takes_its_process_and_its_session_along() {
    if !can_run("a_client_that_leaves_takes_its_process_and_its_session_along") {
        return;
    }
    let rig = idle();
    let (streams, mut out, _error) = output();
    // One child in the leader's process group, one in a group of its own within the session.
    let session = rig.exec("set -m; sleep 1001 & set +m; sleep 1002 & echo ready; wait", streams);
    assert_eq!(read_line(&mut out), "ready");
    let leader = session.started().pid;
    assert_eq!(rig.group.processes().unwrap().len(), 4);
    drop(session);
    until("the leader is gone", || !lives(leader));
    until("only the task is left", || {
        rig.group.processes().unwrap().into_iter().filter(|pid| lives(*pid)).count() == 1
    });
    // And the task did not notice.
    assert_eq!(run(&rig, "exit 5").2.ending, Ending::Exited { code: 5 });
    rig.destroy();
}

#[test]
fn a_deadline_ends_a_session_and_says_so() {
    if !can_run("a_deadline_ends_a_session_and_says_so") {
        return;
    }
    let rig = idle();
    let (streams, _out, _error) = output();
    let order = Exec { deadline_ms: Some(300), ..rig.exec_order("sleep 1000 & sleep 1000") };
    let begin = Instant::now();
    let mut session = rig.client().exec(order, streams).unwrap();
    let end = session.wait(soon()).unwrap();
    assert_eq!(end.cause, ExecCause::Deadline);
    assert_eq!(end.ending, Ending::Signaled { signal: KILL, core: false });
    assert!(begin.elapsed() >= Duration::from_millis(300));
    until("its children went too", || {
        rig.group.processes().unwrap().into_iter().filter(|pid| lives(*pid)).count() == 1
    });
    rig.destroy();
}

#[test]
fn signals_on_a_session_reach_its_process_and_never_the_task() {
    if !can_run("signals_on_a_session_reach_its_process_and_never_the_task") {
        return;
    }
    let rig = idle();
    let (streams, mut out, _error) = output();
    let mut session = rig.exec("trap 'exit 11' TERM; echo ready; while :; do sleep 0.05; done", streams);
    assert_eq!(read_line(&mut out), "ready");
    session.signal(15).unwrap();
    assert_eq!(session.wait(soon()).unwrap().ending, Ending::Exited { code: 11 });
    assert!(session.signal(KILL).is_err());
    // A signal that is under way while the process ends must not be taken for one to the task.
    for _ in 0..20 {
        let (streams, _out, _error) = output();
        let mut session = rig.exec("exit 0", streams);
        let _ = session.signal(KILL);
        session.wait(soon()).unwrap();
    }
    let resize = session.resize(TerminalSize { rows: 1, columns: 1 });
    assert!(resize.is_err());
    assert_eq!(run(&rig, "exit 5").2.ending, Ending::Exited { code: 5 });
    rig.destroy();
}

/// Covers: T98, T99
#[test]
fn a_terminal_is_the_tasks_own_and_takes_sizes() {
    if !can_run("a_terminal_is_the_tasks_own_and_takes_sizes") {
        return;
    }
    let rig = idle();
    let size = |rows, columns| TerminalSize { rows, columns };
    let mut order = rig.exec_order("stty size; read line; stty size; echo \"got $line\"; tty; exit 43");
    order.streams = StreamsKind::Terminal(size(24, 80));
    let mut session = rig.client().exec(order, vec![]).unwrap();
    let mut master = std::fs::File::from(session.take_terminal().unwrap());
    assert_eq!(read_line(&mut master), "24 80\r");
    for odd in [size(0, 0), size(u16::MAX, u16::MAX), size(100, 100)] {
        session.resize(odd).unwrap();
    }
    master.write_all(b"hello\n").unwrap();
    let mut all = Vec::new();
    // The end of a terminal is an error of reading.
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        all.extend_from_slice(buffer.get(..count).unwrap());
    }
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text, "hello\r\n100 100\r\ngot hello\r\n/dev/pts/0\r\n");
    assert_eq!(session.wait(soon()).unwrap().ending, Ending::Exited { code: 43 });

    let (streams, _out, _error) = output();
    let mut session = rig.exec("sleep 1000", streams);
    let error = session.resize(size(1, 1)).unwrap_err();
    assert_eq!(error.to_string(), "attempted to resize a non-tty session");
    drop(session);
    rig.destroy();
}

#[test]
fn a_vanishing_client_hangs_up_its_terminal() {
    if !can_run("a_vanishing_client_hangs_up_its_terminal") {
        return;
    }
    let rig = idle();
    let mut order = rig.exec_order("sleep 1000");
    order.streams = StreamsKind::Terminal(TerminalSize { rows: 24, columns: 80 });
    let session = rig.client().exec(order, vec![]).unwrap();
    let leader = session.started().pid;
    drop(session);
    until("the leader is gone", || !lives(leader));
    rig.destroy();
}

#[test]
fn the_tasks_own_terminal_is_handed_out_again_and_takes_sizes() {
    if !can_run("the_tasks_own_terminal_is_handed_out_again_and_takes_sizes") {
        return;
    }
    let mut rig = Rig::shell("read line; stty size; exit 9");
    rig.order.streams = TaskStreams::Terminal(TerminalSize { rows: 24, columns: 80 });
    let (mut client, launched) = rig.start();
    drop(launched.terminal.unwrap());
    client.resize(TerminalSize { rows: 30, columns: 90 }).unwrap();
    let mut master = std::fs::File::from(client.terminal().unwrap());
    master.write_all(b"\n").unwrap();
    assert_eq!(read_line(&mut master), "\r");
    assert_eq!(read_line(&mut master), "30 90\r");
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 9 });
    assert!(rig.client().resize(TerminalSize { rows: 1, columns: 1 }).is_err());
    rig.destroy();
}

/// Covers: T97, 4-exec-storm
#[test]
fn many_sessions_at_once_have_a_cap_and_leave_nothing() {
    if !can_run("many_sessions_at_once_have_a_cap_and_leave_nothing") {
        return;
    }
    let rig = idle();
    // The starter has left, and the shim must have seen it.
    until("the listening socket is the only one", || {
        let open = rig::open_files(rig.shim_pid());
        open.iter().filter(|(_, name)| name.to_string_lossy().starts_with("socket:")).count() == 1
    });
    let before = rig::open_files(rig.shim_pid());
    let mut sessions = Vec::new();
    for number in 0..30 {
        let (streams, out, _error) = output();
        sessions.push((number, rig.exec(&format!("sleep 0.1; echo {number}; exit {number}"), streams), out));
    }
    for (number, session, out) in &mut sessions {
        let end = session.wait(soon()).unwrap();
        assert_eq!(end.ending, Ending::Exited { code: *number });
        assert_eq!(read_line(out), number.to_string());
    }
    drop(sessions);
    // Some vanish in the middle, some leave a child behind, some commands are not there.
    for number in 0..30 {
        let (streams, _out, _error) = output();
        let mut session = rig.exec(if number % 2 == 0 { "sleep 1000 & exit" } else { "sleep 1000" }, streams);
        if number % 2 == 0 {
            session.wait(soon()).unwrap();
        }
    }
    until("its descriptors are as before", || rig::open_files(rig.shim_pid()) == before);
    rig.destroy();
}

/// Covers: T88, T92
#[test]
fn a_task_that_has_ended_or_is_paused_takes_nobody_in() {
    if !can_run("a_task_that_has_ended_or_is_paused_takes_nobody_in") {
        return;
    }
    let mut rig = Rig::shell("exit 0");
    let (client, _) = rig.start();
    client.wait(soon()).unwrap();
    let nothing = || -> Vec<OwnedFd> { output().0 };
    let refused = rig.client().exec(rig.exec_order("true"), nothing()).err().unwrap();
    assert!(matches!(refused, ClientError::Refused(Refusal::NotRunning)), "{refused}");
    rig.destroy();

    let rig = idle();
    rig.group.freeze(Duration::from_secs(5)).unwrap();
    let refused = rig.client().exec(rig.exec_order("true"), nothing()).err().unwrap();
    assert!(matches!(refused, ClientError::Refused(Refusal::Paused)), "{refused}");
    // A frozen task can be stopped all the same.
    rig.client().stop(15, Duration::from_millis(100)).unwrap();
    rig.client().destroy(Leftovers::Refuse).unwrap();
}
