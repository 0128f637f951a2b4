//! What cannot be: refused with the thing's name and what to do, and nothing is left.

use crate::bench::Bench;
use bivouac_driver::engine::Engine;
use bivouac_driver::request::TaskRequest;
use bivouac_driver::resources::Resources;
use bivouac_sandbox::HostPath;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A file system in memory of the test's own, off the tree when dropped.
struct Memory(PathBuf);

impl Memory {
    fn at(path: PathBuf, flags: MountFlags, options: &str) -> Memory {
        std::fs::create_dir(&path).unwrap();
        mount("none", &path, "tmpfs", flags, Some(CString::new(options).unwrap().as_c_str())).unwrap();
        Memory(path)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn with_private(request: TaskRequest, private: &Path) -> TaskRequest {
    let private = HostPath::new(private).unwrap();
    TaskRequest {
        directories: bivouac_driver::request::Directories { private, ..request.directories.clone() },
        ..request
    }
}

/// Covers: T12, T22
#[test]
fn what_a_job_cannot_ask_for() {
    let Some(bench) = Bench::new("bad") else { return };
    let plain = |id: &str, command: &str| bench.request(id, command, &[], vec![]);
    let nothing = Resources { memory_mib: Some(0), ..Resources::default() };
    let missing = HostPath::new("/no/such/volume").unwrap();
    let volume = bivouac_sandbox::model::Mount {
        target: bivouac_sandbox::TaskPath::new("/data").unwrap(),
        what: bivouac_sandbox::model::MountKind::Bind {
            source: missing,
            route: bivouac_sandbox::model::Route::Anywhere,
            access: bivouac_sandbox::model::Access::ReadOnly,
            trust: bivouac_sandbox::model::Trust::Stripped,
            propagation: bivouac_sandbox::model::Propagation::Private,
        },
    };
    for (request, words) in [
        (TaskRequest { resources: nothing, ..plain("memory", "/bin/true") }, ["memory", "at least 1 MiB"]),
        (TaskRequest { user: "alice".into(), ..plain("user", "/bin/true") }, ["alice", "no such name"]),
        (plain("directory", "/usr"), ["/usr", "not a regular file"]),
        (plain("parent", "../bin/sh"), ["../bin/sh", "must not contain `..`"]),
        (plain("missing", "no-such"), ["file no-such not found under path", "/usr/bin/no-such"]),
        (
            TaskRequest { mounts: vec![volume], ..plain("volume", "/bin/true") },
            ["/no/such/volume", "No such file or directory"],
        ),
    ] {
        let text = bench.refusal(&request);
        assert!(words.iter().all(|word| text.contains(word)), "{}: {text}", request.name);
        assert!(!bench.path(&request.name).join("task/data").exists(), "{}: a target was made", request.name);
    }
    bench.finish();
}

/// Covers: 4-disk-full, 4-read-only, T138
#[test]
fn disks_that_take_nothing() {
    let Some(bench) = Bench::new("disk") else { return };
    let request =
        |id: &str, private: &Path| with_private(bench.request(id, "/bin/true", &[], vec![]), private);
    // The top of such a file system is its only inode.
    let full = Memory::at(bench.path("full"), MountFlags::empty(), "nr_inodes=1");
    let text = bench.refusal(&request("a", &full.0.join("private")));
    assert!(text.contains("full/private") && text.contains("No space left"), "{text}");
    let sealed = Memory::at(bench.path("sealed"), MountFlags::RDONLY, "");
    let text = bench.refusal(&request("b", &sealed.0.join("private")));
    assert!(text.contains("sealed/private") && text.contains("Read-only file system"), "{text}");
    let places = bivouac_driver::engine::Places { run: sealed.0.join("run"), ..bench.places.clone() };
    let text = Engine::new(places).map(drop).unwrap_err().to_string();
    assert!(text.contains("sealed/run") && text.contains("Read-only file system"), "{text}");
    // Somebody else's directory is never adopted.
    let foreign = bench.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::chown(&foreign, Some(65534), Some(65534)).unwrap();
    let places = bivouac_driver::engine::Places { run: foreign, ..bench.places.clone() };
    let text = Engine::new(places).map(drop).unwrap_err().to_string();
    assert!(text.contains("foreign") && text.contains("does not belong to root alone"), "{text}");
    drop((full, sealed));
    bench.finish();
}
