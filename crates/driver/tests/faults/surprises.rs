//! What the rest of the machine does to an engine: descriptors and memory run out, groups vanish or freeze, clocks
//! jump, a volume hangs.

use crate::rig::{PATIENCE, Rig, example, groups, thinned, until};
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Started};
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_driver::signals::Signal;
use bivouac_sandbox::model::{Access, Mount, MountKind, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a script in a task and tells its code.
pub(crate) fn enter(engine: &Engine, id: &str, script: &str) -> Result<i32, EngineError> {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
    let mut session = engine.exec(id, ExecRequest { command, streams, deadline: Some(PATIENCE) })?;
    Ok(session.wait(Some(Instant::now() + PATIENCE))?.ending.code())
}

/// A face of its own that lives one task's whole life under a limit.
fn face(rig: &Rig, id: &str, limit: &[&str]) -> (bool, String) {
    let face = example("fault_face");
    let places = rig.places();
    let mut command = Command::new("prlimit");
    command.args(limit).arg("--").arg(face).arg("once").arg(rig.directory.path()).arg(&places.shim);
    let output = command.args([&rig.name, id]).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// With ever fewer descriptors a start works or is refused in words; there is never half a task.
///
/// Covers: 4-emfile
#[test]
fn a_face_without_descriptors() {
    let Some(rig) = Rig::new("emfile") else { return };
    let (mut worked, mut refused, mut last) = (0, 0, String::new());
    for limit in thinned((3..=45).step_by(3).chain([64, 128])) {
        let id = format!("t{limit}");
        let (ok, said) = face(&rig, &id, &[&format!("--nofile={limit}:{limit}")]);
        match ok {
            true => worked += 1,
            false => {
                refused += 1;
                last = format!("{limit}: {said}");
                assert!(!said.is_empty() && !said.contains("panicked"), "{limit}: {said}");
            }
        }
        // Where the face could not even look for what it had started, the next one ends it.
        let _ = rig.engine.destroy(&id, Leftovers::Kill);
        until("nothing is left", || rig.difference().is_empty());
    }
    assert!(
        worked + refused < 4 || (worked > 0 && refused > 3),
        "{worked} worked, {refused} were refused: {last}"
    );
    rig.finish(format!("{refused} limits too low and told so, {worked} enough; nothing left"));
}

/// A face that may have little memory does its work, or dies and leaves no half task.
///
/// Covers: 4-enomem
#[test]
fn a_face_with_little_memory() {
    let Some(rig) = Rig::new("low-memory") else { return };
    let (mut worked, mut failed) = (0, 0);
    for mib in thinned([64, 2, 4, 6, 8, 12, 16, 24, 32].into_iter()) {
        let id = format!("t{mib}");
        let bytes: u64 = mib << 20;
        let (ok, _said) = face(&rig, &id, &[&format!("--as={bytes}:{bytes}")]);
        if ok {
            worked += 1
        } else {
            failed += 1
        }
        let _ = rig.engine.destroy(&id, Leftovers::Kill);
        until("nothing is left", || rig.difference().is_empty());
    }
    assert!(worked > 0, "64 MiB are enough");
    rig.finish(format!("{failed} limits too low, {worked} enough; nothing left"));
}

/// A frozen task cannot be entered, which is said; a stop ends it and leaves nothing frozen.
///
/// Covers: 4-cgroup-surprises, T88, T89
#[test]
fn a_frozen_group() {
    let Some(rig) = Rig::new("frozen") else { return };
    let started = rig.run("t", "sleep 1000");
    let frozen = groups(&format!("{}-t", rig.name)).into_iter().find_map(|path| {
        let (old, new) = (path.join("freezer.state"), path.join("cgroup.freeze"));
        let written = |file, text| {
            std::fs::OpenOptions::new()
                .write(true)
                .open(&file)
                .and_then(|mut open| std::io::Write::write_all(&mut open, text))
        };
        (written(old, &b"FROZEN"[..]).is_ok() || written(new, &b"1"[..]).is_ok()).then_some(path)
    });
    assert!(frozen.is_some(), "no group of the task can be frozen");
    let paused =
        |engine: &Engine| enter(engine, "t", "true").is_err_and(|error| error.to_string().contains("paused"));
    until("the group is frozen", || paused(&rig.engine));
    let begun = Instant::now();
    let exit =
        rig.engine.stop("t", Signal::parse("TERM").unwrap(), Duration::from_millis(100)).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 137);
    assert!(begun.elapsed() < PATIENCE);
    drop(started);
    rig.forget("t");
    rig.finish(format!("entry refused, stopped in {:.0?}", begun.elapsed()));
}

/// Groups that somebody else removed when the task was over are no reason to fail.
///
/// Covers: 4-cgroup-surprises
#[test]
fn groups_that_are_gone() {
    let Some(rig) = Rig::new("gone-groups") else { return };
    let started = rig.run("t", "exit 0");
    until("it is over", || rig.is_over("t"));
    let all = groups(&format!("{}-t", rig.name));
    assert!(!all.is_empty());
    for path in &all {
        until("the group can be removed", || std::fs::remove_dir(path).is_ok() || !path.exists());
    }
    rig.engine.destroy("t", Leftovers::Refuse).unwrap();
    drop(started);
    rig.finish(format!("{} groups removed by others, removal answered as done", all.len()));
}

/// A group of that name with a stranger in it: the stranger does not live beside the task.
///
/// Covers: 4-cgroup-surprises, T82
#[test]
fn a_group_that_is_taken() {
    let Some(rig) = Rig::new("taken-group") else { return };
    let request = rig.request("t", "sleep 1000");
    let first = rig.start(&request).unwrap();
    let places = groups(&format!("{}-t", rig.name));
    rig.forget("t");
    drop(first);
    for path in &places {
        std::fs::create_dir(path).unwrap();
    }
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    for path in &places {
        let _ = std::fs::write(path.join("cgroup.procs"), stranger.id().to_string());
    }
    let started = rig.start(&request);
    let ended = || {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap_or_default();
        text.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    };
    let told = match &started {
        Ok(_) => {
            until("the stranger is dead", ended);
            "the stranger was ended"
        }
        Err(error) => {
            assert!(error.to_string().contains("control group"), "{error}");
            "refused"
        }
    };
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    drop(started);
    rig.forget("t");
    for path in &places {
        until("the group is gone", || std::fs::remove_dir(path).is_ok() || !path.exists());
    }
    rig.finish(told);
}

/// The wall clock jumps by an hour and a day, both ways, while a grace period runs. Only where the machine is ours.
///
/// Covers: 4-clock
#[test]
fn the_clock_jumps() {
    let Some(rig) = Rig::new("clock") else { return };
    if !is_virtual() {
        println!("SKIPPED: the_clock_jumps: the host's clock is not ours to set; the virtual machine's is");
        return rig.finish("in the virtual machine only");
    }
    let mut told = Vec::new();
    for jump in ["+1 hour", "-2 hours", "+1 day", "-1 day", "+1 hour"] {
        let started = rig.run("t", "trap '' TERM; sleep 1000 & wait; sleep 1000");
        let begun = Instant::now();
        let grace = Duration::from_secs(3);
        let exit = std::thread::scope(|scope| {
            let stop = scope.spawn(|| rig.engine.stop("t", Signal::parse("TERM").unwrap(), grace));
            std::thread::sleep(Duration::from_millis(500));
            let set = Command::new("date").arg("--set").arg(jump).stdout(Stdio::null()).status().unwrap();
            assert!(set.success());
            stop.join().unwrap().unwrap().unwrap()
        });
        let taken = begun.elapsed();
        assert_eq!(exit.ending.code(), 137);
        assert!(taken >= grace && taken < PATIENCE, "{jump}: a grace period of {taken:?}");
        assert!(exit.finished.boot_nanos > exit.started.boot_nanos);
        told.push(format!("{jump}: {taken:.1?}"));
        drop(started);
        rig.forget("t");
    }
    rig.finish(told.join(", "));
}

fn is_virtual() -> bool {
    std::env::var("BIVOUAC_TEST_LANE").is_ok_and(|lane| lane == "vm")
}

/// A FUSE server that answers a few questions and then nothing: `tests/faults/hung_fuse.py`.
struct HungVolume {
    server: std::process::Child,
    at: std::path::PathBuf,
}

impl HungVolume {
    fn new(rig: &Rig) -> Option<HungVolume> {
        let at = rig.directory.path().join("volume");
        std::fs::create_dir(&at).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/hung_fuse.py");
        let mut server = Command::new("python3")
            .arg(script)
            .arg(&at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mounted = || {
            let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            text.lines().any(|line| line.contains(at.to_str().unwrap()))
        };
        let begun = Instant::now();
        while !mounted() {
            if server.try_wait().unwrap().is_some() {
                println!("SKIPPED: a_volume_that_hangs: no FUSE here");
                std::fs::remove_dir(&at).unwrap();
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "the FUSE server does not mount");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(HungVolume { server, at })
    }
}

impl Drop for HungVolume {
    fn drop(&mut self) {
        // Without its server every question to the volume is answered with an error.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        let _ = std::fs::remove_dir(&self.at);
    }
}

impl HungVolume {
    /// A task that has the volume.
    fn task(&self, rig: &Rig, id: &str, script: &str) -> Started {
        let mut request = rig.request(id, script);
        request.mounts = vec![Mount {
            target: TaskPath::new("/volume").unwrap(),
            what: MountKind::Bind {
                source: HostPath::new(&self.at).unwrap(),
                access: Access::ReadWrite,
                route: Route::Anywhere,
                trust: Trust::Stripped,
                propagation: Propagation::Private,
            },
        }];
        rig.start(&request).unwrap()
    }

    /// Waits until the server says that it has fallen silent, or whom it leaves without an answer.
    fn says(&mut self, expected: &[u8; 6]) {
        let mut word = [0; 6];
        self.server.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        assert_eq!(&word, expected);
    }
}

/// Tasks hang in their volume, one of them where no signal reaches it, and so does whoever enters and looks for its
/// command there. Everybody else, and the collection of what crashes left, goes on; the shim answers others
/// meanwhile; each wait ends by its deadline, and with the volume everything goes.
///
/// Covers: 4-hung-mounts, 2-fuse, 2-bomb-stuck
#[test]
fn a_volume_that_hangs() {
    let Some(rig) = Rig::new("hung-volume") else { return };
    let Some(mut volume) = HungVolume::new(&rig) else { return rig.finish("no FUSE here") };
    let stuck =
        volume.task(&rig, "stuck", "until [ -e /alloc/go ]; do sleep 0.01; done; exec cat /volume/second");
    let hung = volume.task(&rig, "hung", "cat /volume/first; sleep 1000");
    volume.says(b"silent");
    std::fs::write(rig.directory.path().join("stuck/alloc/go"), "").unwrap();
    // Its question has reached the server: from now on no signal ends it.
    volume.says(b"second");
    let told = std::thread::scope(|scope| {
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        let exec = ExecRequest { command: vec!["/volume/third".into()], streams, deadline: None };
        let exec = scope.spawn(|| rig.engine.exec("hung", exec).map(drop));
        let stop = scope.spawn(|| {
            let begun = Instant::now();
            let stopped = rig.engine.stop("stuck", Signal::KILL, Duration::ZERO);
            (begun.elapsed(), stopped.map(drop))
        });
        std::thread::sleep(Duration::from_millis(300));
        rig.engine.stats("hung").unwrap();
        assert!(!exec.is_finished(), "the statistics had to wait for the exec: {:?}", exec.join());
        let mut others = 0;
        while !exec.is_finished() || !stop.is_finished() {
            let asked = Instant::now();
            rig.run("other", "exit 0");
            until("the other one is over", || rig.is_over("other"));
            rig.forget("other");
            rig.engine.gc().unwrap();
            assert!(asked.elapsed() < PATIENCE, "others wait for the hung one");
            others += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        let error = exec.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("did not end in time"), "{error}");
        let (taken, stopped) = stop.join().unwrap();
        let error = stopped.unwrap_err().to_string();
        assert!(error.contains("stuck"), "{error}");
        format!("stop says after {taken:.0?}: {error}; {others} others lived meanwhile")
    });
    drop((hung, stuck, volume));
    rig.forget("hung");
    rig.forget("stuck");
    rig.finish(told);
}
