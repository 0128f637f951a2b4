//! File systems that are full or become read-only under the state of an engine, in every phase of a task.

use crate::rig::{PATIENCE, Rig, start, until};
use bivouac_driver::engine::{Engine, Leftovers, Places, Standing};
use bivouac_driver::signals::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system, gone again with the value.
struct Disk(PathBuf);

impl Disk {
    /// At `run` of the rig, where the state lies. The engine of the rig has its own there already, underneath.
    fn under_state(rig: &Rig) -> (Disk, Engine) {
        let path = rig.directory.path().join("small");
        std::fs::create_dir(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"], &path);
        let places = Places { run: path.join("run"), ..rig.places() };
        (Disk(path), Engine::new(places).unwrap())
    }

    /// Writes until nothing fits any more.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let text = vec![0; 1 << 20];
        let full = std::fs::write(&path, &text).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        path
    }

    fn remount(&self, option: &str) {
        mount(&["-o", &format!("remount,{option}")], &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let status = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

/// Full before the start: refused in words. Full while it runs: it runs on, is stopped, entered, and its end is told;
/// with space again everything is removed.
///
/// Covers: 4-disk-full
#[test]
fn the_state_is_on_a_full_disk() {
    let Some(rig) = Rig::new("disk-full") else { return };
    let (disk, engine) = Disk::under_state(&rig);
    let filler = disk.fill();
    let refused = start(&engine, &rig.request("t", "sleep 1000"), None).map(drop).unwrap_err().to_string();
    assert!(refused.contains("o space left"), "{refused}");
    assert_eq!(engine.list().unwrap(), Vec::<String>::new(), "nothing is left of the refused start");
    std::fs::remove_file(&filler).unwrap();

    let started = start(&engine, &rig.request("t", "trap 'exit 3' TERM; sleep 1000 & wait"), None).unwrap();
    disk.fill();
    let exec = crate::surprises::enter(&engine, "t", "exit 6");
    assert_eq!(exec.unwrap(), 6, "entering needs no disk");
    let exit = engine.stop("t", Signal::parse("TERM").unwrap(), PATIENCE).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 3, "the end is told although it cannot be written down");
    // Nothing of the state is cut short: what is there was written before the disk was full.
    let Standing::Alive(mut client) = engine.find("t").unwrap() else { panic!("its shim waits") };
    assert_eq!(client.state().unwrap().exit.unwrap().ending.code(), 3);
    std::fs::remove_file(&filler).unwrap();
    // Asked with space again, the shim writes what it could not.
    client.state().unwrap();
    let status = std::fs::read_to_string(disk.0.join("run/tasks/t/status.json")).unwrap();
    assert!(status.contains("\"exit\""), "{status}");
    engine.destroy("t", Leftovers::Refuse).unwrap();
    drop((client, started));
    rig.retire(engine);
    drop(disk);
    rig.finish("refused in words when full; a running task goes on, its end is kept and written later");
}

/// Read-only in the middle of a run: a stop works, the removal says why it cannot be, and works when it can.
///
/// Covers: 4-read-only
#[test]
fn the_state_becomes_read_only() {
    let Some(rig) = Rig::new("read-only") else { return };
    let (disk, engine) = Disk::under_state(&rig);
    let started = start(&engine, &rig.request("t", "sleep 1000"), None).unwrap();
    disk.remount("ro");
    let refused = start(&engine, &rig.request("u", "true"), None).map(drop).unwrap_err().to_string();
    assert!(refused.contains("ead-only file system"), "{refused}");
    let begun = Instant::now();
    let exit = engine.stop("t", Signal::KILL, Duration::ZERO).unwrap().unwrap();
    assert_eq!(exit.ending.code(), 137);
    assert!(begun.elapsed() < PATIENCE);
    disk.remount("rw");
    until("it can be removed", || engine.destroy("t", Leftovers::Kill).is_ok());
    assert_eq!(engine.list().unwrap(), Vec::<String>::new());
    drop(started);
    rig.retire(engine);
    drop(disk);
    rig.finish("start refused in words, stop works, removed when writable again");
}

/// Read-only when the shim is told to remove its directory: nothing hangs, and what stays is found and removed later.
///
/// Covers: 4-read-only
#[test]
fn a_removal_on_a_read_only_disk() {
    let Some(rig) = Rig::new("read-only-rm") else { return };
    let (disk, engine) = Disk::under_state(&rig);
    let started = start(&engine, &rig.request("t", "sleep 1000"), None).unwrap();
    disk.remount("ro");
    let begun = Instant::now();
    let _said = engine.destroy("t", Leftovers::Kill);
    assert!(begun.elapsed() < PATIENCE);
    disk.remount("rw");
    until("what stayed is removed", || {
        let _ = engine.destroy("t", Leftovers::Kill);
        engine.list().unwrap().is_empty()
    });
    drop(started);
    rig.retire(engine);
    drop(disk);
    rig.finish("no hang; what stayed is removed when writable again");
}
