//! The life of a task under a real shim: start, end, stop, kill, loss, collection.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and skips aloud")]

mod rig;

use bivouac_sandbox::model::{Init, Sharing};
use bivouac_shim::client::{ClientError, Happened};
use bivouac_shim::protocol::{KillMode, Leftovers, OnStarterGone, Output, Refusal, Stream, TaskStreams};
use bivouac_shim::recover::{Found, clean, look, was_lost};
use bivouac_shim::status::{Cause, Ending, Phase};
use rig::{Rig, SOON, can_run, lives, read_all, read_line, soon, until};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const KILL: i32 = 9;
const TERM: i32 = 15;

#[test]
fn the_status_is_on_disk_when_the_end_is_told() {
    if !can_run("the_status_is_on_disk_when_the_end_is_told") {
        return;
    }
    for (script, ending) in [
        ("exit 43", Ending::Exited { code: 43 }),
        ("exit 0", Ending::Exited { code: 0 }),
        ("exit 255", Ending::Exited { code: 255 }),
    ] {
        let mut rig = Rig::shell(script);
        let (client, launched) = rig.start();
        assert_eq!(launched.started.command, "/bin/sh");
        let exit = client.wait(soon()).unwrap();
        let status = rig.status();
        assert_eq!((exit.ending, exit.cause), (ending, Cause::Own), "{script}");
        assert_eq!(status.phase, Phase::Exited);
        assert_eq!(status.exit.as_ref(), Some(&exit));
        assert!(exit.finished.boot_nanos > exit.started.boot_nanos);
        // Who comes later hears the same, as often as it asks.
        for _ in 0..2 {
            assert_eq!(rig.client().wait(soon()).unwrap(), exit);
        }
        assert!(matches!(rig.client().stats(), Err(ClientError::Refused(Refusal::NotRunning))));
        assert!(matches!(rig.client().signal(TERM), Err(ClientError::Refused(Refusal::NotRunning))));
        assert_eq!(rig.client().stop(TERM, Duration::ZERO).unwrap(), exit);
        rig.destroy();
    }
}

/// Covers: T108
#[test]
fn a_signal_that_ends_the_task_is_told_as_one() {
    if !can_run("a_signal_that_ends_the_task_is_told_as_one") {
        return;
    }
    let mut rig = Rig::shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let (mut client, mut output) = rig.start_with_output();
    assert_eq!(read_line(&mut output), "ready");
    assert_eq!(client.state().unwrap().phase, Phase::Running);
    client.signal(TERM).unwrap();
    assert_eq!(rig.client().wait(soon()).unwrap().ending, Ending::Exited { code: 3 });
    rig.destroy();

    let mut rig = Rig::shell("exec sleep 1000");
    let (mut client, _) = rig.start();
    for bad in [0, -1, 65, i32::MAX] {
        assert!(matches!(client.signal(bad), Err(ClientError::Refused(Refusal::Failed { .. }))), "{bad}");
    }
    client.signal(KILL).unwrap();
    let exit = client.wait(soon()).unwrap();
    assert_eq!(exit.ending, Ending::Signaled { signal: KILL, core: false });
    assert_eq!((exit.ending.code(), exit.cause), (137, Cause::Own));
    rig.destroy();
}

/// Covers: T105
#[test]
fn stop_waits_its_grace_and_says_why_it_had_to_kill() {
    if !can_run("stop_waits_its_grace_and_says_why_it_had_to_kill") {
        return;
    }
    // Caught.
    let mut rig = Rig::shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let (mut client, mut output) = rig.start_with_output();
    read_line(&mut output);
    let exit = client.stop(TERM, SOON).unwrap();
    assert_eq!((exit.ending, exit.cause), (Ending::Exited { code: 7 }, Cause::Stopped));
    rig.destroy();

    // Ignored on purpose: the first process has a handler for it, so to say.
    let grace = Duration::from_millis(200);
    for (script, ignored) in
        [("exec sleep 1000", true), ("trap : TERM; echo ready; while :; do sleep 0.05; done", false)]
    {
        let mut rig = Rig::shell(script);
        let (mut client, mut output) = rig.start_with_output();
        if !ignored {
            read_line(&mut output);
        }
        let begin = Instant::now();
        let exit = client.stop(TERM, grace).unwrap();
        assert!(begin.elapsed() >= grace && begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert_eq!(exit.ending, Ending::Signaled { signal: KILL, core: false });
        assert_eq!(exit.cause, Cause::Killed { signal: TERM, ignored }, "{script}");
        rig.destroy();
    }
}

#[test]
fn without_grace_the_kill_is_at_once_and_a_second_stop_hastens_the_first() {
    if !can_run("without_grace_the_kill_is_at_once_and_a_second_stop_hastens_the_first") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (mut client, _) = rig.start();
    let exit = client.stop(TERM, Duration::ZERO).unwrap();
    assert_eq!(exit.cause, Cause::KilledAtOnce);
    rig.destroy();

    let mut rig = Rig::shell("exec sleep 1000");
    let (_client, _) = rig.start();
    let (mut patient, mut hasty) = (rig.client(), rig.client());
    let waits = std::thread::spawn(move || patient.stop(TERM, Duration::from_secs(3600)).unwrap());
    until("the stop began", || rig.status().phase == Phase::Stopping);
    let exit = hasty.stop(TERM, Duration::ZERO).unwrap();
    assert_eq!(waits.join().unwrap(), exit);
    rig.destroy();
}

/// Covers: T106, T109
#[test]
fn many_ask_at_once_and_everyone_is_answered() {
    if !can_run("many_ask_at_once_and_everyone_is_answered") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (_client, _) = rig.start();
    let waits: Vec<_> = (0..8)
        .map(|_| {
            let client = rig.client();
            std::thread::spawn(move || client.wait(soon()).unwrap())
        })
        .collect();
    let stops: Vec<_> = (0..8)
        .map(|number| {
            let mut client = rig.client();
            std::thread::spawn(move || client.stop(TERM, Duration::from_millis(50 * number)).unwrap())
        })
        .collect();
    let mut exits: Vec<_> = waits.into_iter().chain(stops).map(|thread| thread.join().unwrap()).collect();
    exits.dedup();
    assert_eq!(exits.len(), 1, "{exits:?}");
    // One destroys, the others find it done or the shim gone.
    let clients: Vec<_> = (0..4).map(|_| rig.client()).collect();
    let destroy =
        |client: bivouac_shim::client::Client| std::thread::spawn(move || client.destroy(Leftovers::Kill));
    let all: Vec<_> = clients.into_iter().map(destroy).collect();
    let results: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(ClientError::Gone))), "{results:?}");
    rig.shim_ends();
    rig.nothing_left();
}

#[test]
fn a_running_task_is_destroyed_only_by_force() {
    if !can_run("a_running_task_is_destroyed_only_by_force") {
        return;
    }
    let mut rig = Rig::shell("sleep 1000 & sleep 1000");
    let (_client, launched) = rig.start();
    let refused = rig.client().destroy(Leftovers::Refuse);
    assert!(matches!(refused, Err(ClientError::Refused(Refusal::StillRunning))), "{refused:?}");
    assert!(lives(launched.started.pid));
    rig.destroy();
    assert!(!lives(launched.started.pid));
}

/// Covers: X32, T129
#[test]
fn a_killed_shim_takes_its_task_along_and_leaves_what_cleans_up() {
    if !can_run("a_killed_shim_takes_its_task_along_and_leaves_what_cleans_up") {
        return;
    }
    let mut rig = Rig::shell("sleep 1000 & echo ready; sleep 1000");
    let (client, mut output) = rig.start_with_output();
    read_line(&mut output);
    let first = rig.status().first.unwrap().pid;
    let mut watch = client.watch_end().unwrap();
    assert!(matches!(look(&rig.run_dir).unwrap(), Found::Alive(_)));
    assert!(clean(&rig.run_dir).is_err(), "a living shim must be asked");
    bivouac_sys::signal::send(rig.shim.as_ref().unwrap().pidfd.as_fd(), KILL).unwrap();
    rig.shim_ends();
    until("the task is gone", || !lives(first));
    // The background process had the pipe too.
    assert_eq!(read_all(output), "");
    assert!(matches!(watch.take(), Err(ClientError::Gone)));
    assert!(matches!(look(&rig.run_dir).unwrap(), Found::ShimDead(_)));
    let status = clean(&rig.run_dir).unwrap().unwrap();
    assert!(was_lost(&status));
    assert_eq!(status.first.unwrap().pid, first);
    rig.nothing_left();
}

/// Covers: 4-kill-shim
#[test]
fn a_shim_killed_at_any_moment_of_a_start_leaves_no_task_behind() {
    if !can_run("a_shim_killed_at_any_moment_of_a_start_leaves_no_task_behind") {
        return;
    }
    use bivouac_shim::client::Place;
    let program = rig::program();
    let empty = rig::empty_mounts();
    for step in 0..60 {
        let mut rig = Rig::shell("sleep 1000 & exec sleep 1000");
        let (mut client, child) = Place { program: &program, cgroup: None, tasks: &[] }.start().unwrap();
        let killer = child.pidfd.try_clone().unwrap();
        rig.shim = Some(child);
        let kills = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(250 * step));
            bivouac_sys::signal::send(killer.as_fd(), KILL).unwrap();
        });
        let launched = client.launch(rig.order.clone(), &empty, vec![]);
        kills.join().unwrap();
        rig.shim_ends();
        assert!(matches!(launched, Ok(_) | Err(ClientError::Gone)), "{launched:?}");
        until("the task is gone without anybody's help", || {
            rig.group.processes().unwrap().into_iter().all(|pid| !lives(pid))
        });
        match look(&rig.run_dir).unwrap() {
            Found::ShimDead(_) => drop(clean(&rig.run_dir).unwrap()),
            Found::NeverStarted => {
                clean(&rig.run_dir).unwrap();
                // Nobody was told of the group but who made it.
                rig.group.remove(SOON).unwrap();
            }
            Found::Alive(_) | Found::OtherBoot(_) | Found::Damaged(_) => {
                panic!("after {step}: not a dead shim's directory")
            }
        }
        rig.nothing_left();
    }
}

/// Covers: T131, T133, 4-reboot
#[test]
fn another_boots_directory_and_a_damaged_one_are_told_apart() {
    if !can_run("another_boots_directory_and_a_damaged_one_are_told_apart") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (_client, launched) = rig.start();
    let kept = std::fs::read_to_string(rig.run_dir.join("status.json")).unwrap();
    rig.client().stop(TERM, Duration::ZERO).unwrap();
    assert!(!lives(launched.started.pid));
    let shim = rig.shim.take().unwrap();
    bivouac_sys::signal::send(shim.pidfd.as_fd(), KILL).unwrap();
    bivouac_sys::wait::reap_blocking(shim.pidfd.as_fd()).unwrap();
    let status = |text: &str| std::fs::write(rig.run_dir.join("status.json"), text).unwrap();

    status(kept.get(..kept.len() / 2).unwrap());
    let Found::Damaged(error) = look(&rig.run_dir).unwrap() else { panic!("half a status was believed") };
    assert!(error.to_string().contains("status.json is damaged"), "{error}");

    // The numbers in it now belong to this very process: it must not be touched.
    let boot = rig.boot_id();
    let own = std::process::id().to_string();
    let foreign = kept.replace(&boot, "00000000-0000-0000-0000-000000000000");
    status(&foreign.replace(&launched.started.pid.to_string(), &own));
    assert!(matches!(look(&rig.run_dir).unwrap(), Found::OtherBoot(_)));
    let found = clean(&rig.run_dir).unwrap().unwrap();
    assert_eq!(found.first.unwrap().pid.to_string(), own);
    assert!(!rig.run_dir.exists());
}

#[test]
fn with_the_hosts_processes_a_dead_shims_task_is_ended_by_its_group() {
    if !can_run("with_the_hosts_processes_a_dead_shims_task_is_ended_by_its_group") {
        return;
    }
    let mut rig = Rig::shell("setsid sleep 1000 & echo $!; sleep 1000");
    rig.order.sandbox.namespaces.pid = Sharing::Host;
    let (_client, mut output) = rig.start_with_output();
    let background: i32 = read_line(&mut output).parse().unwrap();
    bivouac_sys::signal::send(rig.shim.as_ref().unwrap().pidfd.as_fd(), KILL).unwrap();
    rig.shim_ends();
    assert!(lives(background), "nothing ends it but the group");
    clean(&rig.run_dir).unwrap().unwrap();
    until("the group is ended", || !lives(background));
    rig.nothing_left();
}

/// Covers: T49
#[test]
fn with_the_hosts_processes_the_end_of_the_first_ends_all() {
    if !can_run("with_the_hosts_processes_the_end_of_the_first_ends_all") {
        return;
    }
    let mut rig = Rig::shell("(setsid sleep 1000 & echo $!) ; exit 5");
    rig.order.sandbox.namespaces.pid = Sharing::Host;
    let (client, mut output) = rig.start_with_output();
    let background: i32 = read_line(&mut output).parse().unwrap();
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 5 });
    until("the rest is ended", || !lives(background));
    rig.destroy();
}

#[test]
fn the_signal_of_a_stop_reaches_the_whole_group_if_it_should() {
    if !can_run("the_signal_of_a_stop_reaches_the_whole_group_if_it_should") {
        return;
    }
    let script = "(trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done) & \
                  trap 'wait; exit 4' TERM; wait; wait";
    let mut rig = Rig::shell(script);
    rig.order.kill_mode = KillMode::Group;
    let (mut client, mut output) = rig.start_with_output();
    assert_eq!(read_line(&mut output), "up");
    let exit = client.stop(TERM, SOON).unwrap();
    assert_eq!((exit.ending, exit.cause), (Ending::Exited { code: 4 }, Cause::Stopped));
    assert_eq!(read_all(output), "child\n");
    rig.destroy();
}

/// Covers: T110
#[test]
fn a_foreground_task_ends_with_its_starter_and_a_background_one_does_not() {
    if !can_run("a_foreground_task_ends_with_its_starter_and_a_background_one_does_not") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    rig.order.on_starter_gone = OnStarterGone::Stop;
    let (client, launched) = rig.start();
    let mut other = rig.client();
    assert_eq!(other.state().unwrap().phase, Phase::Running);
    drop(client);
    rig.shim_ends();
    assert!(!lives(launched.started.pid));
    // Its status waits for `gc`; its group is gone.
    let status = rig.status();
    assert_eq!(status.phase, Phase::Exited);
    assert_eq!(status.exit.unwrap().cause, Cause::KilledAtOnce);
    assert!(rig.group.processes().is_err());
    assert!(!was_lost(&clean(&rig.run_dir).unwrap().unwrap()));
    rig.nothing_left();

    let mut rig = Rig::shell("exec sleep 1000");
    let (client, launched) = rig.start();
    drop(client);
    assert_eq!(rig.client().state().unwrap().phase, Phase::Running);
    std::thread::sleep(Duration::from_millis(50));
    assert!(lives(launched.started.pid));
    rig.destroy();
}

/// The answer that the task runs reaches nobody then, and nothing else happens that would wake the shim.
///
/// Covers: T110
#[test]
fn a_foreground_task_ends_whose_starter_was_gone_before_it_ran() {
    if !can_run("a_foreground_task_ends_whose_starter_was_gone_before_it_ran") {
        return;
    }
    use bivouac_shim::client::Place;
    let mut rig = Rig::shell("exec sleep 1000");
    rig.order.on_starter_gone = OnStarterGone::Stop;
    let program = rig::program();
    let (mut client, child) = Place { program: &program, cgroup: None, tasks: &[] }.start().unwrap();
    rig.shim = Some(child);
    client.order(rig.order.clone(), &rig::empty_mounts(), vec![]).unwrap();
    drop(client);
    rig.shim_ends();
    assert_eq!(rig.status().exit.unwrap().cause, Cause::KilledAtOnce);
    assert!(rig.group.processes().is_err());
    assert!(!was_lost(&clean(&rig.run_dir).unwrap().unwrap()));
    rig.nothing_left();
}

/// Covers: X20
#[test]
fn a_shim_told_to_end_ends_its_task_and_keeps_the_answer() {
    if !can_run("a_shim_told_to_end_ends_its_task_and_keeps_the_answer") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (client, _) = rig.start();
    bivouac_sys::signal::send(rig.shim.as_ref().unwrap().pidfd.as_fd(), TERM).unwrap();
    assert_eq!(client.wait(soon()).unwrap().cause, Cause::KilledAtOnce);
    rig.destroy();
}

#[test]
fn a_task_that_cannot_start_is_one_sentence_and_leaves_no_shim() {
    if !can_run("a_task_that_cannot_start_is_one_sentence_and_leaves_no_shim") {
        return;
    }
    let mut rig = Rig::shell("true");
    for candidate in &mut rig.order.sandbox.process.candidates {
        candidate.path = bivouac_sandbox::path::TaskPath::new("/bin/no-such-program").unwrap();
    }
    let Err(ClientError::Refused(Refusal::NotStarted { text, exit_code })) = rig.try_start(vec![]) else {
        panic!("it started");
    };
    assert_eq!(exit_code, 127, "{text}");
    assert!(text.contains("no-such-program") && !text.contains('\n'), "{text}");
    rig.shim_ends();
    assert_eq!(rig.status().phase, Phase::Failed);
    assert_eq!(rig.status().failure.unwrap(), text);
    clean(&rig.run_dir).unwrap();
    rig.nothing_left();
}

#[test]
fn a_run_directory_that_others_may_enter_is_refused() {
    if !can_run("a_run_directory_that_others_may_enter_is_refused") {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let mut rig = Rig::shell("true");
    std::fs::set_permissions(&rig.run_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Err(ClientError::Refused(refusal)) = rig.try_start(vec![]) else { panic!("it started") };
    assert!(refusal.to_string().contains("0700"), "{refusal}");
    rig.shim_ends();
    assert!(look(&rig.run_dir).is_err());
}

/// Covers: T132
#[test]
fn the_path_of_the_run_directory_may_be_longer_than_an_address() {
    if !can_run("the_path_of_the_run_directory_may_be_longer_than_an_address") {
        return;
    }
    let mut rig = Rig::shell("exit 9");
    let long = rig.dir.path().join("x".repeat(200));
    std::fs::rename(&rig.run_dir, &long).unwrap();
    rig.run_dir = long.clone();
    rig.order.run_dir = bivouac_sandbox::path::HostPath::new(&long).unwrap();
    let (client, _) = rig.start();
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 9 });
    rig.destroy();
}

#[test]
fn a_reaper_in_front_passes_signals_and_statuses_on() {
    if !can_run("a_reaper_in_front_passes_signals_and_statuses_on") {
        return;
    }
    // The command is not the first process any more, so an untrapped signal ends it.
    let mut rig = Rig::shell("exec sleep 1000");
    rig.order.sandbox.process.init = Init::Reaper;
    let (mut client, _) = rig.start();
    until("the command runs", || rig.group.processes().unwrap().len() == 2);
    let exit = client.stop(TERM, SOON).unwrap();
    assert_eq!((exit.ending, exit.cause), (Ending::Signaled { signal: TERM, core: false }, Cause::Stopped));
    rig.destroy();

    // A command that only says such a status is not taken for one that a signal ended.
    let mut rig = Rig::shell("exit 143");
    rig.order.sandbox.process.init = Init::Reaper;
    let (client, _) = rig.start();
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 143 });
    rig.destroy();

    // Orphans are reaped: after it, `ps` would show no zombie.
    let script = "(sleep 0.01 &) ; (sleep 0.01 &) ; sleep 0.3; \
                  cat /proc/[0-9]*/stat | grep -c ' Z '; exit 6";
    let mut rig = Rig::shell(script);
    rig.order.sandbox.process.init = Init::Reaper;
    let (client, mut output) = rig.start_with_output();
    assert_eq!(read_line(&mut output), "0");
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 6 });
    rig.destroy();
}

/// Covers: T111
#[test]
fn killed_for_lack_of_memory_is_counted_and_told() {
    if !can_run("killed_for_lack_of_memory_is_counted_and_told") {
        return;
    }
    use bivouac_cgroup::{Bytes, Limits, Memory};
    let mut limits = Limits::default();
    limits.memory = Memory { max: Some(Bytes(16 << 20)), ..limits.memory };
    // A child is killed, the first process lives on.
    let script = "tail /dev/zero; echo $?; exec sleep 1000";
    let mut rig = Rig::with_limits(script, &limits);
    let (client, mut output) = rig.start_with_output();
    let mut watch = client.watch_oom(0).unwrap();
    assert_eq!(read_line(&mut output), "137");
    let mut fds = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
    assert_eq!(watch.take().unwrap(), Some(Happened::Oom(1)));
    assert_eq!(rig.client().stats().unwrap().oom_kills, 1);
    let exit = rig.client().stop(TERM, Duration::ZERO).unwrap();
    assert_eq!(exit.oom_kills, 1);
    rig.destroy();

    // The first process itself.
    let mut rig = Rig::with_limits("exec tail /dev/zero", &limits);
    let (client, _) = rig.start();
    let exit = client.wait(soon()).unwrap();
    assert_eq!((exit.ending, exit.oom_kills), (Ending::Signaled { signal: KILL, core: false }, 1));
    rig.destroy();
}

#[test]
fn a_dead_log_collector_makes_the_task_wait_and_not_die() {
    if !can_run("a_dead_log_collector_makes_the_task_wait_and_not_die") {
        return;
    }
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
    let mut rig = Rig::shell("echo one; read x < /go; echo two; exit 8");
    let fifo = rig.dir.path().join("log");
    let go = rig.dir.path().join("task/go");
    for path in [&fifo, &go] {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    let collector =
        openat(CWD, &fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let writer = openat(CWD, &fifo, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    rig.order.streams =
        TaskStreams::Files { stdin: Stream::Null, stdout: Output::Given, stderr: Output::Null };
    let (client, _) = rig.try_start(vec![writer]).unwrap();
    drop(collector);
    std::fs::write(&go, "\n").unwrap();
    assert_eq!(client.wait(soon()).unwrap().ending, Ending::Exited { code: 8 });
    rig.destroy();
}
