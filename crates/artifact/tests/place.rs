//! Destinations that a task has prepared: links and hard links are replaced or refused, never gone through.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use bivouac_artifact::fetch::FetchError;
use bivouac_artifact::place::Owner;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use support::*;

/// Covers: CVE-2020-27195, T126
#[test]
fn links_that_a_task_left_are_replaced_or_refused_never_followed() {
    let rig = Rig::new();
    let outside = rig.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), b"whole").unwrap();
    let archive = Tar::new().kind("d/", b'5', "").file("d/f", b"new").file("g", b"new").end();
    let source = rig.source("a.tar", &archive);
    // A file that is a link, and one that is a hard link: replaced.
    symlink(outside.join("victim"), rig.local("g")).unwrap();
    std::fs::create_dir(rig.local("d")).unwrap();
    std::fs::write(rig.local("d/other"), b"stays").unwrap();
    std::fs::hard_link(outside.join("victim"), rig.local("d/f")).unwrap();
    rig.fetch(&artifact(&source)).unwrap();
    assert_eq!(
        (rig.read("g"), rig.read("d/f"), rig.read("d/other")),
        (b"new".to_vec(), b"new".to_vec(), b"stays".to_vec())
    );
    assert!(!rig.local("g").is_symlink());
    assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"whole");
    // Directories that are links: refused.
    std::fs::remove_dir_all(rig.local("d")).unwrap();
    symlink(&outside, rig.local("d")).unwrap();
    let error = rig.fetch(&artifact(&source)).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    symlink(&outside, rig.local("way")).unwrap();
    let mut through = artifact(&source);
    through.destination = "local/way/in".to_owned();
    assert!(matches!(rig.fetch(&through), Err(FetchError::Deposit { .. })));
    through.destination = "local/way".to_owned();
    assert!(matches!(rig.fetch(&through), Err(FetchError::Deposit { .. })));
    assert_eq!(tree(&outside).keys().collect::<Vec<_>>(), ["victim"]);
    // A file over a directory, a directory over a file.
    std::fs::remove_file(rig.local("d")).unwrap();
    std::fs::write(rig.local("d"), b"a file").unwrap();
    assert!(rig.fetch(&artifact(&source)).unwrap_err().to_string().contains("no directory"));
    std::fs::remove_file(rig.local("d")).unwrap();
    std::fs::remove_file(rig.local("g")).unwrap();
    std::fs::create_dir(rig.local("g")).unwrap();
    assert!(rig.fetch(&artifact(&source)).unwrap_err().to_string().contains("is a directory"));
}

#[test]
fn destinations_are_made_and_owners_given() {
    let rig = Rig::new();
    let source = rig.source("x", b"content");
    let owner = Owner { uid: 1234, gid: 4321 };
    let one = to_file(artifact(&source), "${x}/../alloc/deep/down/file");
    let one =
        bivouac_artifact::fetch::Artifact { destination: one.destination.replace("${x}", "local/.."), ..one };
    rig.fetcher.fetch(&one, &rig.roots, owner, &mut |_| ControlFlow::Continue(())).unwrap();
    let path = rig.roots.shared.join("deep/down/file");
    let (file, directory) = (path.metadata().unwrap(), path.parent().unwrap().metadata().unwrap());
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1234, 4321, 0o644));
    assert_eq!((directory.uid(), directory.mode() & 0o7777), (1234, 0o755));
    for (destination, text) in [("../..", "escapes"), ("local/../../x", "escapes"), ("a\0b", "NUL")] {
        let error = rig.fetch(&to_file(artifact(&source), destination)).unwrap_err();
        assert!(error.to_string().contains(text) && matches!(error, FetchError::Destination(_)), "{error}");
    }
    // The secrets directory may lie on another file system: the result is copied then.
    rig.fetch(&to_file(artifact(&source), "secrets/key")).unwrap();
    assert_eq!(std::fs::read(rig.roots.secrets.join("key")).unwrap(), b"content");
}

/// Covers: W55
#[test]
fn another_file_system_gets_a_copy() {
    let mut rig = Rig::new();
    let shm = tempfile::Builder::new().prefix("bivouac-test-").tempdir_in("/dev/shm").unwrap();
    if shm.path().metadata().unwrap().dev() == rig.directory.path().metadata().unwrap().dev() {
        eprintln!("SKIPPED: another_file_system_gets_a_copy: /dev/shm is no file system of its own");
        return;
    }
    rig.roots.secrets = shm.path().to_path_buf();
    let archive = Tar::new().file("d/f", b"new").kind("d/l", b'2', "f").kind("e", b'5', "").end();
    let source = rig.source("a.tar", &archive);
    std::fs::create_dir(shm.path().join("d")).unwrap();
    std::fs::write(shm.path().join("d/stays"), b"").unwrap();
    symlink("/etc/passwd", shm.path().join("d/f")).unwrap();
    let mut one = artifact(source);
    one.destination = "/secrets".to_owned();
    rig.fetch(&one).unwrap();
    assert_eq!(tree(shm.path()).keys().collect::<Vec<_>>(), ["d", "d/f", "d/l", "d/stays", "e"]);
    assert_eq!(std::fs::read(shm.path().join("d/f")).unwrap(), b"new");
}

/// Covers: W55
#[test]
fn files_that_only_root_may_read_are_not_fetched() {
    let rig = Rig::new();
    let source = rig.source("secret", b"hidden");
    std::fs::set_permissions(rig.directory.path().join("secret"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    let error = rig.fetch(&artifact(source)).unwrap_err();
    assert!(error.to_string().contains("without privileges"), "{error}");
    for path in ["/etc/shadow", "/proc/1/environ", "/dev/zero", "/nonexistent"] {
        assert!(rig.fetch(&artifact(format!("file://{path}"))).is_err(), "{path}");
    }
    assert!(tree(&rig.local("")).is_empty());
}
