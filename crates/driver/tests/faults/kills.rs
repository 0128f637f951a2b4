//! kill -9 of shims and faces at random moments.

use crate::rig::{PATIENCE, Random, Rig, children, example, kill, rounds, until};
use bivouac_driver::engine::{EngineError, Standing};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn shoot() {
    for shim in children() {
        kill(shim);
    }
}

/// A task whose shim is killed, be it during the set-up or later, is never left running without one, and is told as
/// lost.
///
/// Covers: 4-kill-shim, T129
#[test]
fn shims_killed_at_random_moments() {
    let Some(rig) = Rig::new("kill-shim") else { return };
    let mut random = Random::new(7);
    let (mut during, mut after) = (0, 0);
    let begun = Instant::now();
    drop(rig.run("usual", "sleep 1000"));
    let usual = u64::try_from(begun.elapsed().as_micros()).unwrap();
    rig.forget("usual");
    rig.settle();
    for round in 0..rounds(20, 200) {
        let id = format!("t{round}");
        let request = rig.request(&id, "sleep 1000 & sleep 1000 & wait");
        // About half of the shots hit the start, half what follows.
        let moment = Duration::from_micros(random.below(2 * usual));
        let shot = std::thread::scope(|scope| {
            let started = scope.spawn(|| rig.start(&request).map(drop));
            let begun = Instant::now();
            until("a shim is there", || !children().is_empty() || started.is_finished());
            std::thread::sleep(moment.saturating_sub(begun.elapsed()));
            shoot();
            let started = started.join().unwrap();
            // A thread that just ends has its children listed nowhere for a moment.
            shoot();
            started
        });
        match shot {
            Ok(()) => {
                after += 1;
                until("it is over", || rig.is_over(&id));
                let found = rig.engine.find(&id);
                assert!(matches!(found, Ok(Standing::Lost(_))), "{id}: a killed shim tells no exit");
            }
            Err(error) => {
                during += 1;
                assert!(matches!(error, EngineError::Shim(_)), "{id}: {error}");
            }
        }
        rig.forget(&id);
        assert!(matches!(rig.engine.find(&id), Err(EngineError::Unknown)));
        // Nobody of the task is left: the next round would find strange children, this one a group that stays.
        rig.settle();
    }
    assert!(during + after < 100 || (during > 0 && after > 0), "{during} during a start, {after} after it");
    rig.finish(format!("{during} killed during the start, {after} later; all told, nothing left"));
}

/// A face that is killed again and again runs its tasks all the same, each once, and learns every exit code.
///
/// Covers: 4-kill-face
#[test]
fn faces_killed_again_and_again() {
    let Some(rig) = Rig::new("kill-face") else { return };
    let tasks = rounds(20, 100);
    let top = rig.directory.path();
    let places = rig.places();
    let face = |what: &str, last: &str| {
        let mut face = Command::new(example("fault_face"));
        face.arg(what).args([top, &places.shim]).args([&rig.name, last]).stdin(Stdio::null());
        face.spawn().unwrap()
    };
    // How long a face takes for one task, on this machine and as busy as it is: one that is always killed before that
    // gets nothing done.
    let begun = Instant::now();
    assert!(face("once", "usual").wait().unwrap().success());
    let usual = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut random = Random::new(11);
    let mut killed = 0;
    let begun = Instant::now();
    loop {
        let mut face = face("collect", &tasks.to_string());
        let moment = Duration::from_micros(random.below(2 * usual));
        let lived = Instant::now();
        let ended = loop {
            if let Some(status) = face.try_wait().unwrap() {
                break Some(status);
            }
            if lived.elapsed() > moment {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "the face says that something is wrong: {status}");
                break;
            }
            None => {
                face.kill().unwrap();
                face.wait().unwrap();
                killed += 1;
            }
        }
        assert!(begun.elapsed() < 4 * PATIENCE, "{killed} faces, and the tasks are not through");
    }
    for task in 0..tasks {
        let folder = top.join(format!("t{task}"));
        let output = std::fs::read_to_string(folder.join("alloc/output")).unwrap();
        let lines: Vec<String> = (1..=20).map(|line| line.to_string()).collect();
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), lines, "t{task} ran once, without a gap");
        let code = std::fs::read_to_string(folder.join("collected")).unwrap();
        assert_eq!(code, format!("{}\n", task % 7), "the exit code of t{task}, collected once");
    }
    assert_eq!(rig.engine.list().unwrap(), Vec::<String>::new());
    rig.finish(format!("{tasks} tasks through {killed} killed faces; each once, no gap, every code"));
}

/// A process of ours with this number, which must be free.
fn stranger_with_number(pid: i32) -> Option<std::process::Child> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        // The next process gets the number after this, unless somebody else is quicker.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        if i32::try_from(child.id()) == Ok(pid) {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("the number {pid} is not given again");
}

/// The number of a dead shim, and that of its task, come again for strangers: whatever is asked of the run, nobody
/// touches them, and the run is cleaned up.
///
/// Covers: 4-pid-wrap
#[test]
fn numbers_that_come_again_are_nobody_of_ours() {
    let Some(rig) = Rig::new("pid-wrap") else { return };
    let started = rig.run("t", "sleep 1000");
    let numbers = [started.handle.shim.pid, started.pid];
    let handle = started.handle.clone();
    drop(started);
    kill(handle.shim.pid);
    until("it is over", || rig.is_over("t"));
    let gone = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    until("both numbers are free", || {
        let _ = rig.engine.find("t");
        numbers.into_iter().all(gone)
    });
    let Some(mut strangers) = numbers.into_iter().map(stranger_with_number).collect::<Option<Vec<_>>>()
    else {
        println!("SKIPPED: numbers_that_come_again_are_nobody_of_ours: no ns_last_pid in this kernel");
        rig.forget("t");
        return rig.finish("no ns_last_pid here");
    };
    assert!(matches!(rig.engine.find("t"), Ok(Standing::Lost(_))));
    assert!(!matches!(rig.engine.recover(&handle), Ok(Standing::Alive(_))));
    let term = bivouac_driver::signals::Signal::TERM;
    assert!(rig.engine.signal("t", term).is_err());
    rig.engine.stop("t", term, Duration::ZERO).unwrap();
    rig.forget("t");
    for stranger in &mut strangers {
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended in place of a task");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
    rig.finish(format!("{numbers:?} given to strangers, who live; the run is cleaned up"));
}
