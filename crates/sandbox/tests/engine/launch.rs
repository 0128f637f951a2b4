//! Real sandboxes, as root: what a default task sees and is, and what a failed start says and leaves.

use crate::support::*;
use bivouac_sandbox::launch::{FailureKind, Injected, InjectedKind, RunningTask, Streams, enter, launch};
use bivouac_sandbox::model::*;
use bivouac_sys::clone::{CloneArgs, clone_for_parent, clone_into};
use bivouac_sys::page::SharedPage;
use bivouac_sys::wait::Ending;
use bivouac_sys::{signal, wait};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn true_runs(bench: &Bench<'_>) {
    let home = Home::new();
    let outcome =
        bench.run(&default_sandbox(&home, &["/bin/true"])).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.ending, Ending::Exited(0));
}

fn root_listing(bench: &Bench<'_>) {
    assert_eq!(
        bench.shell("ls -A /", |_, _| {}).split_whitespace().collect::<Vec<_>>(),
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "sys", "tmp", "usr"]
            .into_iter()
            .filter(|name| *name != "lib32" || std::path::Path::new("/lib32").exists())
            .collect::<Vec<_>>()
    );
}

fn who_and_what(bench: &Bench<'_>) {
    let seen = bench.shell("id -u; id -g; id -G; echo $$; pwd; umask; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/oom_score_adj", |_, _| {});
    assert_eq!(
        seen,
        "65534\n65534\n65534\n1\n/\n0022\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80405fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n0\n"
    );
}

/// Covers: T102
fn only_three_descriptors(bench: &Bench<'_>) {
    let seen = bench.shell("ls /proc/self/fd; ls -l /proc/self/fd | grep -c socket", |_, _| {});
    // The fourth is the directory that ls reads.
    assert_eq!(seen, "0\n1\n2\n3\n0\n");
}

/// Covers: 4-every-step, 1e-filter-skipped
fn every_step_can_fail(bench: &Bench<'_>) {
    for step in Injected::all_steps() {
        for kind in [InjectedKind::Fail(bivouac_sys::Errno::NOMEM), InjectedKind::Kill] {
            let home = Home::new();
            let sandbox = default_sandbox(&home, &["/bin/true"]);
            let mut setting = bench.setting();
            setting.failing = Some(Injected { step, kind });
            let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
            let result = launch(&setting, &bench.empty, &sandbox, streams);
            // Killed at the very last step is a task that was killed: it has started.
            if step == bivouac_sandbox::launch::Step::Execute && kind == InjectedKind::Kill {
                let running = result.unwrap_or_else(|failure| panic!("{failure}"));
                let ending = wait::reap_blocking(running.child.pidfd.as_fd()).unwrap().ending;
                assert!(matches!(ending, Ending::Signaled { .. }));
                continue;
            }
            let failure = result.err().unwrap_or_else(|| panic!("{step:?} did not fail"));
            assert!(
                failure.text.len() > 20 && (failure.step == format!("{step:?}")),
                "{step:?}: {failure:?}"
            );
        }
    }
}

fn a_missing_command_is_explained(bench: &Bench<'_>) {
    let home = Home::new();
    let failure = bench.run(&default_sandbox(&home, &["/no/such"])).err().unwrap();
    assert_eq!(failure.kind, FailureKind::NotFound);
    let expected = format!(
        "file /no/such not found under path {}; looked in the task's root for /no/such",
        home.task_dir().display()
    );
    assert_eq!(failure.to_string(), expected);
}

fn entering(
    bench: &Bench<'_>,
    process: &Process,
    streams: Streams,
    into: &[&str],
) -> (Result<i32, bivouac_sandbox::launch::Failure>, Option<std::os::fd::OwnedFd>) {
    let home = Home::new();
    let sandbox = default_sandbox(&home, into);
    let (running, _out, _err) = bench.start(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    let target = RunningTask {
        first: running.child.pidfd.as_fd(),
        namespaces: &sandbox.namespaces,
        held: &running.held,
    };
    let entered = enter(&bench.setting(), &target, process, streams);
    let (code, terminal) = match entered {
        Ok(entered) => {
            let reaped = wait::reap_blocking(entered.child.pidfd.as_fd()).unwrap();
            (
                Ok(match reaped.ending {
                    Ending::Exited(code) => i32::from(code),
                    Ending::Signaled { signal, .. } => -signal,
                }),
                entered.terminal,
            )
        }
        Err(failure) => (Err(failure), None),
    };
    signal::send(running.child.pidfd.as_fd(), 9).unwrap();
    wait::reap_blocking(running.child.pidfd.as_fd()).unwrap();
    (code, terminal)
}

/// Covers: 4-every-step
fn every_step_of_entering_can_fail(bench: &Bench<'_>) {
    let home = Home::new();
    let sandbox = default_sandbox(&home, &["/bin/sleep", "100"]);
    let (running, _out, _err) = bench.start(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    let target = RunningTask {
        first: running.child.pidfd.as_fd(),
        namespaces: &sandbox.namespaces,
        held: &running.held,
    };
    let try_enter = |failing| {
        let mut setting = bench.setting();
        setting.failing = failing;
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        enter(&setting, &target, &process("/bin/true", &[]), streams)
    };
    let ending = |entered: bivouac_sandbox::launch::Entered| {
        wait::reap_blocking(entered.child.pidfd.as_fd()).unwrap().ending
    };
    for step in Injected::steps_of_entering() {
        for kind in [InjectedKind::Fail(bivouac_sys::Errno::NOMEM), InjectedKind::Kill] {
            match try_enter(Some(Injected { step, kind })) {
                Err(failure) => assert!(
                    failure.text.len() > 20 && failure.step == format!("{step:?}"),
                    "{step:?} {kind:?}: {failure:?}"
                ),
                // Killed at the very last step is a process that was killed: it has entered.
                Ok(entered) => {
                    assert_eq!((step, kind), (bivouac_sandbox::launch::Step::Execute, InjectedKind::Kill));
                    assert!(matches!(ending(entered), Ending::Signaled { .. }));
                }
            }
            let sound = try_enter(None).unwrap_or_else(|failure| panic!("after {step:?}: {failure}"));
            assert_eq!(ending(sound), Ending::Exited(0));
        }
    }
    signal::send(running.child.pidfd.as_fd(), 9).unwrap();
    wait::reap_blocking(running.child.pidfd.as_fd()).unwrap();
}

fn enter_is_the_same_sandbox(bench: &Bench<'_>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let line = "echo $$ > /tmp/x; test $$ -gt 1 || exit 9; ls /proc | grep -c '^[0-9]'; id -u; grep CapBnd /proc/self/status; ls /proc/self/fd | tr '\\n' ' '; exit 43";
    let process = process("/bin/sh", &["-c", line]);
    let streams = Streams::Files { stdin: None, stdout: Some(writer.into()), stderr: None };
    let (code, _) = entering(bench, &process, streams, &["/bin/sleep", "100"]);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    // `/tmp` is root's here, so the shell says so on its (null) standard error and goes on.
    assert_eq!(text, "4\n65534\nCapBnd:\t00000000a80405fb\n0 1 2 3 ");
    assert_eq!(code.unwrap(), 43);
}

fn enter_explains_a_missing_command(bench: &Bench<'_>) {
    let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
    let (code, _) = entering(bench, &process("/bin/nothing", &[]), streams, &["/bin/sleep", "100"]);
    assert_eq!(code.unwrap_err().kind, FailureKind::NotFound);
}

fn enter_with_a_terminal(bench: &Bench<'_>) {
    let process = process("/bin/sh", &["-c", "tty; stty size; exit 5"]);
    let size = TerminalSize { rows: 30, columns: 100 };
    let (code, terminal) = entering(bench, &process, Streams::Terminal(size), &["/bin/sleep", "100"]);
    assert_eq!(code.unwrap(), 5);
    let mut text = [0u8; 256];
    let length = rustix::io::read(terminal.unwrap(), &mut text).unwrap();
    assert_eq!(String::from_utf8_lossy(&text[..length]), "/dev/pts/0\r\n30 100\r\n");
}

/// The spawner of who enters is in the task's groups, where lack of memory may end it at any moment: whom it has cloned by
/// then is known all the same, or nobody would ever reap them.
///
/// Covers: 1a-shared-memory-oom
fn nobody_is_cloned_and_not_known(bench: &Bench<'_>) {
    let (mut known, mut early) = (0, 0);
    for round in 0..400_u64 {
        let page = SharedPage::new().unwrap();
        let told = page.number::<0>();
        let spawner = clone_into(bench.proof, &CloneArgs::default(), || {
            let cloned = clone_for_parent(bench.proof, told, || {
                if told.read() == getpid().as_raw_nonzero().get() { 7 } else { 8 }
            });
            u8::from(cloned.is_err())
        })
        .unwrap();
        // Every moment of its short life.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round * round / 16) {}
        signal::send(spawner.pidfd.as_fd(), 9).unwrap();
        wait::reap_blocking(spawner.pidfd.as_fd()).unwrap();
        if let Some(pid) = Pid::from_raw(told.read()) {
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            let ending = wait::reap_blocking(pidfd.as_fd()).unwrap().ending;
            assert_eq!(ending, Ending::Exited(7), "it ran before its number was told");
            known += 1;
        } else {
            early += 1;
        }
        let left = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        assert_eq!(left.err(), Some(rustix::io::Errno::CHILD), "round {round}: a child that nobody knows");
    }
    assert!(known > 0 && early > 0, "{known} were cloned, {early} were not");
}

pub(crate) const TESTS: &[Test] = &[
    ("nobody_is_cloned_and_not_known", nobody_is_cloned_and_not_known),
    ("true_runs", true_runs),
    ("root_listing", root_listing),
    ("who_and_what", who_and_what),
    ("only_three_descriptors", only_three_descriptors),
    ("every_step_can_fail", every_step_can_fail),
    ("a_missing_command_is_explained", a_missing_command_is_explained),
    ("every_step_of_entering_can_fail", every_step_of_entering_can_fail),
    ("enter_is_the_same_sandbox", enter_is_the_same_sandbox),
    ("enter_explains_a_missing_command", enter_explains_a_missing_command),
    ("enter_with_a_terminal", enter_with_a_terminal),
];
