//! Descriptors, the launcher's memory and the launcher's program: what a process of a task can get hold of.

use crate::rig::{Bench, Live, PATIENCE, Report, nightly, program, race, shim, until};
use bivouac_driver::engine::EngineError;
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_driver::signals::Signal;
use rustix::io::{FdFlags, fcntl_setfd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

/// Covers: CVE-2024-21626, 1a-inherited-fds, T102
#[test]
fn a_task_has_its_three_descriptors_and_no_way_out_by_its_directory() {
    let Some(bench) = Bench::new("fds") else { return };
    // A careless caller: descriptors of a directory of the host that survive an execve.
    let leaky: Vec<_> = (0..200)
        .map(|_| {
            let directory = std::fs::File::open(bench.directory.path()).unwrap();
            fcntl_setfd(&directory, FdFlags::empty()).unwrap();
            directory
        })
        .collect();
    let live = bench.attack("a", "fds", &["stay"]).ready();
    let marker = bench.directory.path().to_str().unwrap();
    let of_shim: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", live.shim_pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|link| link.to_str() == Some(marker))
        .collect();
    assert!(of_shim.is_empty(), "the shim inherited {of_shim:?}");
    let exec = live.exec(&["/fds", "look"]).unwrap();
    for report in [exec, live.kill()] {
        report.expect(&["fds"], "0 1 2");
        report.expect(&["cwd"], "/");
        report.expect(&["climb"], "top");
        report.expect(&["enter.3", "enter.4", "enter.5", "enter.6"], "ENOENT");
    }
    // Whoever has them, or a way out, is told as one.
    let inherits = Command::new(program("fds")).arg("look").output().unwrap();
    let inherits = Report::of_host(&inherits);
    assert!(inherits.get("fds").split(' ').count() > 200, "{}", inherits.text);
    let careless = Command::new(program("fds")).arg("outside").arg(bench.directory.path()).output().unwrap();
    let careless = Report::of_host(&careless);
    careless.expect(&["cwd"], "(unreachable)/");
    careless.expect(&["climb"], "ESCAPED");
    drop(leaky);

    for number in (3..=64).step_by(if nightly() { 1 } else { 5 }) {
        let text =
            bench.attack("a", "fds", &[]).option("work_dir", format!("/proc/self/fd/{number}")).refused();
        assert!(text.contains("/proc/self/fd"), "{text}");
    }
    bench.finish();
}

/// Covers: CVE-2024-21626, T92
#[test]
fn an_exec_does_not_follow_its_directory_out_of_the_root() {
    let Some(bench) = Bench::new("workdir") else { return };
    let live = bench.attack("a", "fds", &["stay"]).option("work_dir", "/local/here").ready();
    for number in 3..20 {
        let link = format!("/proc/self/fd/{number}");
        // Through the root's own name, since the working directory is a link the next time.
        let planted = std::fs::remove_dir(bench.path("a/task/local/here"))
            .or_else(|_| std::fs::remove_file(bench.path("a/task/local/here")));
        planted.unwrap();
        std::os::unix::fs::symlink(link, bench.path("a/task/local/here")).unwrap();
        match live.exec(&["/fds", "look"]) {
            Err(EngineError::Launch { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(report) => {
                report.expect(&["climb"], "top");
                assert!(report.get("cwd").starts_with('/'), "{}", report.text);
            }
        }
    }
    live.kill();
    bench.finish();
}

/// Runs execs until the watch in the task has seen enough and ends; tells how many there were.
fn execs(bench: &Bench, live: &Live<'_>, commands: &[&[&str]]) -> u32 {
    let mut done = 0;
    let over = || bench.engine.inspect(live.id()).unwrap().exit.is_some();
    while !over() {
        for command in commands {
            match live.exec_within(command, Duration::from_secs(20)) {
                Ok(_) | Err(EngineError::Launch { .. }) => done += 1,
                // It ended meanwhile.
                Err(_) if over() => {}
                Err(other) => panic!("exec {done}: {other}"),
            }
        }
    }
    done
}

/// A file that may be executed and is no program, so that an exec fails at its very last step.
fn place_broken(bench: &Bench, id: &str) {
    let broken = bench.path(id).join("task/broken");
    std::fs::write(&broken, [0u8; 64]).unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The number of the process that an exec is, as the task sees it. They are given one after the other.
fn number_of_an_exec(live: &Live<'_>) -> u64 {
    live.exec(&["/bin/sh", "-c", "echo \"pid = $$\""]).unwrap().count("pid")
}

/// Covers: CVE-2016-9962, CVE-2026-46333, T36, T97
#[test]
fn whoever_traces_an_exec_finds_nothing_that_the_task_did_not_have() {
    let Some(bench) = Bench::new("trace") else { return };
    // Something that only the face and the operator know.
    let canary = String::from("an-operators-secret-0815");
    let live = bench
        .attack("a", "watch", &["trace", "3000", "an-operators-", "secret-0815"])
        .mighty()
        .operator("allow_mount_paths", bivouac_driver::options::Value::texts([format!("/{canary}")]))
        .ready();
    place_broken(&bench, "a");
    let before = number_of_an_exec(&live);
    let entered = if nightly() { 500 } else { 60 };
    for turn in 0..entered {
        let command = if turn % 2 == 0 { "/bin/true" } else { "/broken" };
        match live.exec_within(&[command], Duration::from_secs(20)) {
            Ok(_) => assert_eq!(command, "/bin/true"),
            Err(EngineError::Launch { .. }) => assert_eq!(command, "/broken"),
            Err(other) => panic!("exec {turn}: {other}"),
        }
    }
    // One number each: neither the shim nor who brings them in was ever there to be seen.
    assert_eq!(number_of_an_exec(&live) - before - 1, entered);
    // And more of them where none was caught yet.
    std::fs::write(bench.path("a/task/local/stop"), "").unwrap();
    let more = execs(&bench, &live, &[&["/bin/true"], &["/broken"]]);
    let report = live.end();
    assert!(report.count("others.caught") > 0, "{entered} and {more} execs:\n{}", report.text);
    // Before their command, too.
    assert!(report.count("others.unready") > 0, "{entered} and {more} execs:\n{}", report.text);
    let found = ["fds", "roots", "environs", "names", "caps", "needles"];
    for name in found {
        report.expect(&[&format!("others.{name}")], "0");
    }
    report.expect(&["decoy.caught", "decoy.roots", "decoy.environs", "decoy.names", "decoy.needles"], "1");
    assert!(report.count("decoy.fds") > 0, "{}", report.text);

    // Whoever goes in by itself and starts the command there takes a number, too.
    let live = bench.attack("b", "fds", &["stay"]).ready();
    let before = number_of_an_exec(&live);
    assert_eq!(number_of_an_exec(&live) - before - 1, 0);
    let careless = Command::new("nsenter")
        .args(["--pid", "--target", &live.started.pid.to_string()])
        .args(["/bin/sh", "-c", "/bin/true; exit 0"])
        .status();
    assert!(careless.unwrap().success());
    assert_eq!(number_of_an_exec(&live) - before - 2, 2);
    live.kill();
    bench.finish();
}

/// Covers: CVE-2026-46333
#[test]
fn who_ends_without_its_command_has_nothing_open_that_the_task_did_not_have() {
    let Some(bench) = Bench::new("exits") else { return };
    let looked_at = if nightly() { "1000" } else { "40" };
    let live = bench.attack("a", "watch", &["exits", looked_at, "3000"]).mighty().ready();
    place_broken(&bench, "a");
    let done = execs(&bench, &live, &[&["/broken"]]);
    let report = live.end();
    assert_eq!(report.get("others.caught"), looked_at, "{done} execs:\n{}", report.text);
    report.expect(&["others.fds"], "0");
    // One that has more is seen to have them at that moment.
    report.expect(&["decoy.caught"], "1");
    assert!(report.count("decoy.fds") >= 3, "{}", report.text);
    bench.finish();
}

/// Covers: CVE-2019-5736
#[test]
fn the_shims_program_cannot_be_changed_from_a_task() {
    let Some(bench) = Bench::new("exe") else { return };
    let before = (std::fs::read(shim()).unwrap(), std::fs::metadata(shim()).unwrap().ctime_nsec());
    let text = bench.task("a", "/proc/self/exe", &[]).mighty().refused();
    assert!(text.contains("/proc/self/exe"), "{text}");

    // The kernel opens this interpreter before the launcher's program is gone.
    std::fs::create_dir_all(bench.path("b/task/local")).unwrap();
    let script = bench.path("b/task/local/script");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(program("watch"), bench.path("b/task/local/decoy")).unwrap();
    let seconds = (race().as_secs_f32() + 1.0).to_string();
    let live = bench.attack("b", "watch", &["exe", &seconds]).mighty().ready();
    let done = execs(&bench, &live, &[&["/watch", "quick"], &["/local/script"]]);
    let report = live.end();
    assert!(report.count("others.caught") > 0, "{done} execs:\n{}", report.text);
    report.expect(&["others.chmod", "others.chown", "others.open", "others.xattr"], "0");
    report.expect(&["decoy.caught", "decoy.chmod", "decoy.chown", "decoy.xattr"], "1");
    assert!(before.0 == std::fs::read(shim()).unwrap());
    assert_eq!(before.1, std::fs::metadata(shim()).unwrap().ctime_nsec(), "not even its mode was touched");
    bench.finish();
}

/// What enters can be stopped by a mighty task in the moment before it executes its command. Then only that exec
/// waits: the shim answers everybody else meanwhile, and ends the task when it is told to.
///
/// Covers: 1a-shared-memory-oom, T106
#[test]
fn a_stopped_exec_keeps_nobody_else_waiting() {
    let Some(bench) = Bench::new("held") else { return };
    let live = bench.attack("a", "watch", &["stop", "600"]).mighty().ready();
    let engine = &bench.engine;
    let enter = || {
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        let command = vec!["/bin/true".to_owned()];
        engine.exec(live.id(), ExecRequest { command, streams, deadline: Some(Duration::from_millis(300)) })
    };
    let begun = Instant::now();
    let mut tried = 0;
    loop {
        tried += 1;
        let held = std::thread::scope(|scope| {
            let exec = scope.spawn(enter);
            let asked = Instant::now();
            while !exec.is_finished() && asked.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if exec.is_finished() {
                return false;
            }
            // It stands still before its command.
            engine.stats(live.id()).unwrap();
            engine.inspect(live.id()).unwrap();
            engine.signal(live.id(), Signal::parse("CONT").unwrap()).unwrap();
            if exec.is_finished() {
                // It was only slow, which shows nothing; or nobody was answered before it was given up.
                let outcome = exec.join().unwrap().map(drop);
                assert!(outcome.is_ok(), "everybody had to wait for a stopped exec: {outcome:?}");
                return false;
            }
            let exit = engine.stop(live.id(), Signal::KILL, Duration::ZERO).unwrap().unwrap();
            assert_eq!(exit.ending.code(), 137);
            assert!(exec.join().unwrap().is_err(), "it entered what is over");
            true
        });
        if held {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "in {tried} execs none was stopped before its command");
    }
    live.kill();
    bench.finish();
}

/// What enters shares one page with its launcher, in which a mighty task can write that it failed, and then let it go
/// on: it is ended, and nobody waits for it.
///
/// Covers: 1a-shared-memory-oom, CVE-2016-9962
#[test]
fn who_is_made_to_say_that_it_failed_is_ended_and_holds_nobody() {
    let Some(bench) = Bench::new("lie") else { return };
    let live = bench.attack("a", "watch", &["lie", "600"]).mighty();
    bench.place("a", "fds");
    let live = live.ready();
    let inside = || bench.engine.stats(live.id()).unwrap().group.pids.unwrap();
    let before = inside();
    let begun = Instant::now();
    let mut tried = 0;
    loop {
        tried += 1;
        // It would stay for ever, and its deadline counts from its command's start only.
        let outcome = std::thread::scope(|scope| {
            let exec = scope.spawn(|| live.exec_within(&["/fds", "stay"], Duration::from_millis(50)));
            let asked = Instant::now();
            while !exec.is_finished() && asked.elapsed() < PATIENCE / 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !exec.is_finished() {
                // The end of the task ends the wait, and the test says what it was.
                bench.engine.stop(live.id(), Signal::KILL, Duration::ZERO).unwrap();
                panic!("the shim waits for one that lied: {:?}", exec.join().unwrap().map(drop));
            }
            exec.join().unwrap()
        });
        match outcome {
            // What was written comes back as the kernel's answer, at once and not when the time for entering is over.
            Err(error) => {
                assert!(error.to_string().contains("cross-device"), "{error}");
                break;
            }
            // It was quicker than the watch, and ended at its deadline.
            Ok(_) if begun.elapsed() < PATIENCE / 2 => {}
            Ok(_) => panic!("in {tried} execs none was made to lie:\n{}", live.kill().text),
        }
    }
    until("what lied is gone", || inside() == before);
    // The watch goes on and may catch this one, too: it is answered either way.
    match live.exec(&["/bin/true"]) {
        Ok(report) => assert_eq!(report.status, 0),
        Err(error) => assert!(error.to_string().contains("cross-device"), "{error}"),
    }
    let told = live.kill();
    assert!(told.text.contains("lied = "), "{}", told.text);
    bench.finish();
}

/// Processor time of a process, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn is_idle(shim: i32) {
    let before = ticks(shim);
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(shim) - before;
    assert!(spent < 10, "the shim was busy for {spent} hundredths of a second in two seconds");
}

/// Whoever traces a process of the task keeps it from its parent when it is dead: its deadline is kept all the same, and
/// the shim does not wait in a circle.
///
/// Covers: 1a-shared-memory-oom
#[test]
fn a_dead_exec_in_the_hands_of_the_task_keeps_no_client_and_no_shim_busy() {
    let Some(bench) = Bench::new("kept") else { return };
    let live = bench.attack("a", "watch", &["keep", "600"]);
    bench.place("a", "fds");
    let live = live.ready();
    let inside = || bench.engine.stats(live.id()).unwrap().group.pids.unwrap();
    let before = inside();
    let begun = Instant::now();
    // Until one was caught in time: that it is dead and still there shows it.
    while inside() == before {
        assert!(begun.elapsed() < PATIENCE, "no exec was taken hold of");
        std::thread::scope(|scope| {
            let exec = scope.spawn(|| live.exec_within(&["/fds", "stay"], Duration::from_millis(300)));
            let asked = Instant::now();
            while !exec.is_finished() && asked.elapsed() < PATIENCE / 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !exec.is_finished() {
                bench.engine.stop(live.id(), Signal::KILL, Duration::ZERO).unwrap();
                panic!("the client waits for one that is dead: {:?}", exec.join().unwrap().map(drop));
            }
            assert_eq!(exec.join().unwrap().unwrap().status, 137);
        });
    }
    is_idle(live.shim_pid());
    let told = live.kill();
    assert!(told.text.contains("kept = "), "{}", told.text);

    // The first process itself, where it is not the one whose end is everybody's.
    let live = bench.attack("b", "watch", &["parent"]).option("pid_mode", "host").ready();
    is_idle(live.shim_pid());
    let exit = bench.engine.stop(live.id(), Signal::KILL, Duration::ZERO).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 3, "its own end is told, when it can be known");
    live.kill().expect(&["kept"], "OK");
    bench.finish();
}

/// The same without a deadline, where the client would wait as long as the task likes: it is told after a moment, and
/// what the command really answered. A dead thread that is kept hides even that its process is dead; the deadline is
/// kept all the same, and whoever kills it is told.
///
/// Covers: 1a-shared-memory-oom
#[test]
fn a_dead_exec_that_the_task_keeps_is_told_without_a_deadline_too() {
    let Some(bench) = Bench::new("endless") else { return };
    let soon = Some(Duration::from_millis(600));
    for (mode, command, deadline, kills, status) in [
        ("keep", "brief", None, false, 7),
        ("threads", "two", soon, false, 137),
        ("threads", "two", None, true, 137),
    ] {
        let id = format!("{mode}-{kills}");
        let live = bench.attack(&id, "watch", &[mode, "600"]).ready();
        let inside = || bench.engine.stats(live.id()).unwrap().group.pids.unwrap();
        let before = inside();
        let begun = Instant::now();
        while inside() == before {
            assert!(begun.elapsed() < PATIENCE, "{id}: no exec was taken hold of");
            let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
            let request = ExecRequest { command: vec!["/watch".into(), command.into()], streams, deadline };
            let mut session = bench.engine.exec(live.id(), request).unwrap();
            if kills {
                // With its second thread in the hands of the watch.
                std::thread::sleep(Duration::from_millis(600));
                session.signal(Signal::KILL.number()).unwrap();
            }
            let told = session.wait(Some(Instant::now() + PATIENCE / 2));
            let told =
                told.unwrap_or_else(|error| panic!("{id}: the client waits for one that is dead: {error}"));
            assert_eq!(told.ending.code(), status, "{id}");
        }
        is_idle(live.shim_pid());
        let told = live.kill();
        assert!(told.text.contains("kept = "), "{}", told.text);
        assert_eq!(told.text.contains("thread = "), mode == "threads", "{}", told.text);
    }
    bench.finish();
}

/// Covers: 1a-shared-memory-oom
#[test]
fn the_shim_outlives_stopped_execs() {
    let Some(bench) = Bench::new("stopped") else { return };
    let live = bench.attack("a", "watch", &["stop", "600"]).mighty().ready();
    let shim = live.shim_pid();
    let end = Instant::now() + race();
    let (mut answered, mut stopped) = (0, 0);
    while Instant::now() < end {
        let asked = Instant::now();
        match live.exec_within(&["/bin/true"], Duration::from_millis(300)) {
            Ok(report) if report.status == 0 => answered += 1,
            Ok(_) | Err(EngineError::Launch { .. }) => stopped += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(asked.elapsed() < Duration::from_secs(25), "an exec took {:?}", asked.elapsed());
    }
    assert_eq!(bench.engine.inspect(live.id()).unwrap().shim.pid, shim);
    live.kill();
    assert!(stopped > 0, "nothing was stopped in {answered} execs");
    bench.finish();
}
