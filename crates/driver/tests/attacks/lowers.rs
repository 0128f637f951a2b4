//! The host's files change while tasks have them as the lower layer of their root, as packages are upgraded every day.

use crate::rig::{Attack, Bench, nightly, skipped, tree};
use bivouac_driver::options::Value;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

/// How a root shows the host's directories.
const ROOTS: [&str; 3] = ["overlay", "readonly", "copy"];

/// What becomes of a directory of the package, or of the file in it.
#[derive(Clone, Copy)]
enum Fate {
    /// Another file has the name.
    FileReplaced,
    FileDeleted,
    FileLinked,
    DirectoryDeleted,
    DirectoryReplaced,
    DirectoryLinked,
}

use Fate::{DirectoryDeleted, DirectoryLinked, DirectoryReplaced, FileDeleted, FileLinked, FileReplaced};

const FATES: [(&str, Fate); 6] = [
    ("replaced", FileReplaced),
    ("deleted", FileDeleted),
    ("linked", FileLinked),
    ("gone", DirectoryDeleted),
    ("anew", DirectoryReplaced),
    ("turned", DirectoryLinked),
];

impl Fate {
    /// Brings it about, as a package manager does: new files are renamed over old ones.
    fn strike(self, directory: &Path, text: &str) {
        let (file, new) = (directory.join("file"), directory.with_extension("new"));
        match self {
            FileReplaced => {
                std::fs::write(&new, text).unwrap();
                std::fs::rename(&new, &file).unwrap();
            }
            FileDeleted => std::fs::remove_file(&file).unwrap(),
            FileLinked => {
                symlink("../replaced/file", &new).unwrap();
                std::fs::rename(&new, &file).unwrap();
            }
            DirectoryDeleted => std::fs::remove_dir_all(directory).unwrap(),
            DirectoryReplaced => {
                std::fs::remove_dir_all(directory).unwrap();
                make(directory, text);
            }
            DirectoryLinked => {
                std::fs::remove_dir_all(directory).unwrap();
                symlink("replaced", directory).unwrap();
            }
        }
    }

    /// What a new task finds at the file's name, when the last text is `text`. A copy is made once, before all of it.
    fn is_then(self, root: &str, text: &'static str) -> &'static str {
        match self {
            _ if root == "copy" => "old-text",
            FileDeleted | DirectoryDeleted => "ENOENT",
            FileReplaced | FileLinked | DirectoryReplaced | DirectoryLinked => text,
        }
    }
}

/// A directory with a file in it, in the place of whatever is there.
fn make(directory: &Path, text: &str) {
    let _ = std::fs::remove_file(directory);
    std::fs::create_dir_all(directory).unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let new = directory.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, directory.join("file")).unwrap();
}

/// What the kernel says from a moment on.
struct KernelLog(OwnedFd);

impl KernelLog {
    fn from_now() -> Result<KernelLog, Errno> {
        let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        seek(&log, SeekFrom::End(0))?;
        Ok(KernelLog(log))
    }

    /// Warnings, faults, and every word about overlays. Who starts two tasks on one layer is told so; that is
    /// somebody else here.
    fn complaints(&self) -> Vec<String> {
        const WORDS: [&str; 7] = [
            "WARNING:",
            "BUG:",
            "Oops",
            "general protection",
            "blocked for more than",
            "refcount",
            "overlayfs:",
        ];
        let (mut found, mut record) = (Vec::new(), [0; 8192]);
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(length) => {
                    let line = String::from_utf8_lossy(&record[..length]).into_owned();
                    if WORDS.iter().any(|word| line.contains(word)) && !line.contains("is in-use as upperdir")
                    {
                        found.push(line);
                    }
                }
                // Records that were overwritten before somebody read them.
                Err(Errno::PIPE) => {}
                Err(Errno::AGAIN) => return found,
                Err(other) => panic!("/dev/kmsg: {other}"),
            }
        }
    }
}

/// Covers: 1b-live-lower
#[test]
fn the_hosts_package_is_upgraded_under_running_tasks() {
    const TEST: &str = "the_hosts_package_is_upgraded_under_running_tasks";
    let Some(bench) = Bench::new("upgrade") else { return };
    let (log, mut complaints) = (KernelLog::from_now(), Vec::new());
    let package = bench.path("package");
    FATES.iter().for_each(|(name, _)| make(&package.join(name), "old-text"));
    let attack = |id: &str, root: &str, args: &[&str]| -> Attack<'_> {
        // The program needs nothing else of the host, all of which would be copied.
        let only = Value::map([(package.to_str().unwrap(), Value::from("/package"))]);
        let attack = bench.attack(id, "root", args).user("root").option("root", root);
        attack.operator("chroot_env", only).change(|request| request.directories.own.clear())
    };
    let mut holders = Vec::new();
    for root in ROOTS {
        for (name, _) in FATES {
            let (id, path) = (format!("{root}-{name}"), format!("/package/{name}"));
            let live = attack(&id, root, &["hold", &path]).ready();
            holders.push((id, root, live));
        }
    }
    for turn in 0..if nightly() { 200 } else { 20 } {
        for (name, fate) in FATES {
            let directory = package.join(name);
            if turn % 2 == 0 {
                fate.strike(&directory, "new-text");
            } else {
                make(&directory, "old-text");
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        // Others have much to say meanwhile, and old words are overwritten.
        complaints.extend(log.iter().flat_map(KernelLog::complaints));
    }
    for (name, fate) in FATES {
        fate.strike(&package.join(name), "last-one");
    }
    let before = tree(&package);
    for (id, root, live) in holders {
        std::fs::write(bench.path(&format!("{id}/task/local/stop")), "").unwrap();
        let report = live.end();
        assert_eq!(report.status, 0, "{id}: {}", report.text);
        // What was open stays, whatever has its name.
        assert!(report.get("held").contains("old-text map old-text"), "{id}: {}", report.text);
        match root {
            "readonly" => assert_ne!(report.get("held.create"), "OK", "{id}: {}", report.text),
            // Nobody replaced these under it, so that it could write.
            "copy" => report.expect(&["held.write", "held.create", "held.rename", "held.unlink"], "OK"),
            _ if id.ends_with("-replaced") => report.expect(&["held.write", "held.create"], "OK"),
            _ => {}
        }
    }
    assert_eq!(tree(&package), before, "a write of a task reached the host");
    for root in ROOTS {
        let paths = FATES.map(|(name, _)| format!("/package/{name}/file"));
        let args = [&["read"], &paths.each_ref().map(String::as_str)[..]].concat();
        let report = attack(&format!("new-{root}"), root, &args).run();
        for ((_, fate), path) in FATES.iter().zip(&paths) {
            assert_eq!(report.get(&format!("read.{path}")), fate.is_then(root, "last-one"), "{root}: {path}");
        }
    }
    assert_eq!(tree(&package), before, "a write of a new task reached the host");

    // Where it is the host's directory and no layer, the same writes arrive.
    let volume = bench.path("hosts-own");
    make(&volume, "old-text");
    let untouched = tree(&volume);
    let attack = bench.attack("bound", "root", &["hold", "/volume"]).user("root");
    let live = attack.bind(&volume, "/volume").ready();
    std::fs::write(bench.path("bound/task/local/stop"), "").unwrap();
    live.end().expect(&["held.write", "held.create", "held.rename", "held.unlink"], "OK");
    assert_ne!(tree(&volume), untouched);

    match log {
        Err(errno) => skipped(TEST, &format!("nobody may read what this kernel says: {errno}")),
        Ok(log) => {
            complaints.extend(log.complaints());
            assert_eq!(complaints, Vec::<String>::new(), "the kernel complained");
            // A word like one of its own is heard.
            let word = format!("bivouac-test {}: overlayfs: nothing is the matter\n", std::process::id());
            match std::fs::write("/dev/kmsg", &word) {
                Ok(()) => {
                    assert!(
                        log.complaints().iter().any(|line| line.contains(word.trim_end())),
                        "nobody is heard"
                    )
                }
                Err(error) => skipped(TEST, &format!("nobody may speak where this kernel does: {error}")),
            }
        }
    }
    bench.finish();
}
