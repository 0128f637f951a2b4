//! Paths of users in a root that a task has filled with links: a path that we make is absolute and plain, and what a
//! look beneath the root finds lies beneath the root.
#![no_main]

use bivouac_driver::lookup::{self, Scene};
use bivouac_sandbox::model::ExecuteBit;
use bivouac_sandbox::{HostPath, TaskPath};
use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::OnceLock;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok((links, path, more)) = <(Vec<(u8, String)>, Vec<u8>, String)>::arbitrary(&mut input) else {
        return;
    };
    plain(&path, &more);
    beneath(&links, &path);
});

fn plain(path: &[u8], more: &str) {
    let Ok(path) = TaskPath::new(OsStr::from_bytes(path)) else { return };
    let bytes = path.as_bytes();
    assert!(bytes.starts_with(b"/") && bytes.len() <= 4095 && !bytes.contains(&0), "{path}");
    assert!(path.components().all(|part| !matches!(part, b"" | b"." | b"..")), "{path}");
    assert_eq!(TaskPath::new(path.as_path()).as_ref(), Ok(&path), "a path is its own spelling");
    if let Ok(joined) = path.join(more) {
        assert!(joined.is_within(&path), "{joined} left {path}");
    }
    let scene = Scene { entries: &[], mounts: &[] };
    for found in lookup::candidates(more, &scene).into_iter().flatten() {
        assert!(found.path.components().all(|part| part != b".."), "{more}");
    }
    let _ = lookup::along_path(more, &path.to_string(), &path, ExecuteBit::Leave);
    let _ = HostPath::new(more);
}

/// A root of its own, and beside it what must not be reached.
fn root() -> &'static Path {
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let top =
        ROOT.get_or_init(|| tempfile::Builder::new().prefix("bivouac-fuzz-").tempdir().expect("a directory"));
    top.path()
}

/// The look that the launch and the driver make, rule R1 of the security cases.
fn beneath(links: &[(u8, String)], path: &[u8]) {
    let top = root().join("root");
    let _ = std::fs::remove_dir_all(&top);
    std::fs::create_dir_all(top.join("a/b")).expect("a root");
    std::fs::write(root().join("outside"), "").expect("a file outside");
    for (place, target) in links.iter().take(4) {
        let place = ["x", "y", "a/x", "a/b/x", "a/b/y", "z"][usize::from(*place) % 6];
        if !target.contains('\0') && !target.is_empty() {
            let _ = symlink(target, top.join(place));
        }
    }
    let Ok(path) = TaskPath::new(OsStr::from_bytes(path)) else { return };
    let fd = openat(CWD, &top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("the root");
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if let Ok(found) = openat2(&fd, path.as_path(), OFlags::PATH, Mode::empty(), flags) {
        use std::os::fd::AsRawFd;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).expect("its path");
        assert!(real.starts_with(&top), "{path} leads to {}", real.display());
    }
}
