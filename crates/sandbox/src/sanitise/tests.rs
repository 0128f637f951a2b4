//! The sanitised layer, on trees of our own and on this host's `/etc`.

use super::*;
use crate::path::HostPath;
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn file(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A small `/etc` with every kind of thing in it.
fn sample() -> (tempfile::TempDir, HostPath) {
    let directory = tempfile::tempdir().unwrap();
    let etc = directory.path().join("etc");
    file(&etc.join("passwd"), "root:x:0:0::/:\nweb:x:1:1::/:\n", 0o644);
    file(&etc.join("shadow"), "root:$y$secret:1::::::\nweb:!:1::::::\njunk\n", 0o640);
    file(&etc.join("gshadow"), "root:*::\nadm:hash:web:web\n", 0o640);
    file(&etc.join("shadow-"), "old", 0o644);
    file(&etc.join("ssh/ssh_host_rsa_key"), "key", 0o644);
    file(&etc.join("ssh/ssh_config"), "fine", 0o644);
    file(&etc.join("app/token"), "secret", 0o600);
    file(&etc.join("app/conf"), "fine", 0o644);
    file(&etc.join("deep/a/b/private/x"), "secret", 0o644);
    std::fs::set_permissions(etc.join("deep/a/b/private"), std::fs::Permissions::from_mode(0o750)).unwrap();
    file(&etc.join("odd name/list\n"), "secret", 0o600);
    symlink("../token", etc.join("app/link")).unwrap();
    let path = HostPath::new(&etc).unwrap();
    (directory, path)
}

fn hide() -> Vec<String> {
    ["shadow*", "ssh/ssh_host_*", "nothing/here"].map(String::from).to_vec()
}

#[test]
fn what_others_cannot_read_and_what_is_named_is_hidden() {
    let (_directory, etc) = sample();
    let text = scan(&etc, &hide()).unwrap().to_string();
    let shown: Vec<&str> =
        text.lines().map(|line| line.split_once(" 0").map_or(line, |(head, _)| head)).collect();
    assert_eq!(
        shown,
        [
            "dir  app",
            "hide app/token",
            "dir  deep",
            "dir  deep/a",
            "dir  deep/a/b",
            "hide deep/a/b/private",
            "lock gshadow",
            "dir  odd name",
            "hide odd name/list\\n",
            "lock shadow",
            "hide shadow-",
            "dir  ssh",
            "hide ssh/ssh_host_rsa_key",
        ]
    );
    assert!(text.contains("root:*:::::::\\nweb:*:::::::\\n"), "{text}");
    assert!(text.contains("root:!::\\nadm:!::\\n"), "{text}");
    assert!(!text.contains("secret") && !text.contains("hash"), "{text}");
}

#[test]
fn patterns() {
    for (pattern, name, answer) in [
        ("*", "", true),
        ("a*", "a", true),
        ("a*", "ab", true),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*c", "abc", true),
        ("a*c", "ab", false),
        ("a", "ab", false),
        ("**", "x", true),
    ] {
        assert_eq!(scan::matches_name(pattern.as_bytes(), name.as_bytes()), answer, "{pattern} {name}");
    }
}

fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln_skipped(test);
    }
    root
}

fn eprintln_skipped(test: &str) {
    eprintln!("SKIPPED: {test}: making device nodes needs root");
}

#[test]
fn a_layer_is_built_once_kept_and_repaired() {
    if !root("a_layer_is_built_once_kept_and_repaired") {
        return;
    }
    let (directory, etc) = sample();
    let store = Store::open(&HostPath::new(directory.path().join("layers")).unwrap()).unwrap();
    let layer = scan(&etc, &hide()).unwrap();
    let path = store.provide(&layer).unwrap();
    let token = std::fs::metadata(path.as_path().join("app/token")).unwrap();
    assert_eq!((token.rdev(), token.mode() & 0o170_000), (0, 0o020_000));
    let shadow = std::fs::metadata(path.as_path().join("shadow")).unwrap();
    assert_eq!((shadow.mode() & 0o7777, shadow.uid()), (0o640, 0));
    let inode = std::fs::metadata(path.as_path()).unwrap().ino();
    assert_eq!(store.provide(&layer).unwrap(), path);
    assert_eq!(std::fs::metadata(path.as_path()).unwrap().ino(), inode, "kept");
    let inside = path.as_path().strip_prefix(directory.path().join("layers")).unwrap().join("app/token");
    store.unlink(inside.to_str().unwrap());
    assert_eq!(store.provide(&layer).unwrap(), path);
    assert!(path.as_path().join("app/token").symlink_metadata().is_ok(), "repaired");
    assert_eq!(
        std::fs::read_dir(directory.path().join("layers")).unwrap().count(),
        1,
        "no half-built one left"
    );
    file(&etc.as_path().join("app/conf"), "now private", 0o600);
    let other = store.provide(&scan(&etc, &hide()).unwrap()).unwrap();
    assert_ne!(other, path);
    assert_eq!(store.tidy(std::slice::from_ref(&other)).unwrap(), 1);
    assert!(other.as_path().exists() && !path.as_path().exists());
}

#[test]
fn concurrent_builders_agree() {
    if !root("concurrent_builders_agree") {
        return;
    }
    let (directory, etc) = sample();
    let layers = HostPath::new(directory.path().join("layers")).unwrap();
    let layer = scan(&etc, &hide()).unwrap();
    let paths: Vec<HostPath> = std::thread::scope(|scope| {
        let build = || Store::open(&layers).unwrap().provide(&layer).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(paths.windows(2).all(|pair| pair[0] == pair[1]));
    let store = Store::open(&layers).unwrap();
    assert!(store.is_whole(&CString::new(layer.name()).unwrap(), &layer, &layer.to_string()));
    assert_eq!(std::fs::read_dir(layers.as_path()).unwrap().count(), 1);
}

#[test]
fn a_foreign_store_is_never_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Store::open(&HostPath::new(&open).unwrap()), Err(SanitiseError::Foreign(_))));
    let link = directory.path().join("link");
    symlink(&open, &link).unwrap();
    assert!(matches!(Store::open(&HostPath::new(&link).unwrap()), Err(SanitiseError::Foreign(_))));
}

#[test]
fn this_hosts_etc_hides_its_shadow() {
    let layer = scan(&HostPath::new("/etc").unwrap(), &["shadow*".into()]).unwrap();
    assert!(layer.hidden().any(|path| path == "shadow"), "{layer}");
}

#[test]
fn an_index_answers_until_a_directory_changes() {
    if !root("an_index_answers_until_a_directory_changes") {
        return;
    }
    let (directory, etc) = sample();
    let store = Store::open(&HostPath::new(directory.path().join("layers")).unwrap()).unwrap();
    let first = store.current(&etc, &hide()).unwrap();
    let key = directory.path().join("layers").join(index::key(&etc, &hide()));
    assert!(!key.exists(), "directories that changed just now are not trusted");
    let until = SystemTime::now() + Duration::from_secs(3);
    while SystemTime::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(store.current(&etc, &hide()).unwrap(), first);
    assert!(key.exists());
    assert_eq!(store.current(&etc, &hide()).unwrap(), first);
    file(&etc.as_path().join("deep/a/new"), "secret", 0o600);
    let second = store.current(&etc, &hide()).unwrap();
    assert!(second != first && second.as_path().join("deep/a/new").symlink_metadata().is_ok());
}
