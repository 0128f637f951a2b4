//! Repositories, served by git itself on loopback.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

struct Daemon {
    server: Server,
    directory: tempfile::TempDir,
}

const AUTHOR: [&str; 4] = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"];

fn git(directory: &Path, arguments: &[&str]) -> String {
    let all: Vec<&str> = AUTHOR.iter().chain(arguments).copied().collect();
    run("git", &all, directory)
}

impl Daemon {
    fn new() -> Daemon {
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("git");
        command
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.path().display()))
            .arg(directory.path());
        Daemon { server: serve(command, port), directory }
    }

    fn repository(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        path
    }

    fn url(&self, name: &str) -> String {
        format!("git::git://127.0.0.1:{}/{name}", self.server.port)
    }
}

fn commit(path: &Path, name: &str, content: &str) -> String {
    std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
    std::fs::write(path.join(name), content).unwrap();
    git(path, &["add", "-A"]);
    git(path, &["commit", "-q", "-m", "change"]);
    git(path, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// Covers: W53
#[test]
fn branches_tags_commits_depth_and_sub_directories() {
    let daemon = Daemon::new();
    let path = daemon.repository("x");
    let first = commit(&path, "sub/f", "one");
    git(&path, &["tag", "v1"]);
    git(&path, &["checkout", "-q", "-b", "side"]);
    commit(&path, "sub/f", "side");
    git(&path, &["checkout", "-q", "main"]);
    commit(&path, "sub/f", "two");
    let rig = Rig::new();
    let cases = [("", "two"), ("?ref=v1", "one"), ("?ref=side&depth=1", "side"), ("?depth=1", "two")];
    for (at, (query, content)) in cases.into_iter().enumerate() {
        let mut one = artifact(format!("{}{query}", daemon.url("x")));
        one.destination = format!("local/{at}");
        rig.fetch(&one).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(rig.read(&format!("{at}/sub/f")), content.as_bytes(), "{query}");
    }
    let mut part = with_options(artifact(format!("{}//sub", daemon.url("x"))), &[("ref", &first)]);
    part.destination = "local/part".to_owned();
    rig.fetch(&part).unwrap();
    assert_eq!(tree(&rig.local("part")).len(), 1);
    assert_eq!(rig.read("part/f"), b"one");
    for (source, text) in
        [(daemon.url("nothing"), "fatal"), (format!("{}?ref=nothing", daemon.url("x")), "nothing")]
    {
        let error = rig.fetch(&artifact(source)).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// Covers: CVE-2024-3817
#[test]
fn hostile_repositories_run_nothing_and_read_nothing() {
    let daemon = Daemon::new();
    let bait = daemon.directory.path().join("ran");
    // A hook in the served repository and one named in the tree: neither runs here.
    let path = daemon.repository("hooks");
    let hook = format!("#!/bin/sh\ntouch {}\n", bait.display());
    commit(&path, "hooks/post-checkout", &hook);
    commit(&path, ".gitattributes", "* filter=evil\n");
    std::fs::write(path.join(".git/hooks/post-checkout"), &hook).unwrap();
    run("chmod", &["755", ".git/hooks/post-checkout"], &path);
    let mut rig = Rig::new();
    // Settings of the caller's that would run programs do not count.
    rig.environment("GIT_CONFIG_COUNT", "1");
    rig.environment("GIT_CONFIG_KEY_0", "core.hooksPath");
    rig.environment("GIT_CONFIG_VALUE_0", path.join("hooks").into_os_string());
    rig.fetch(&artifact(daemon.url("hooks"))).unwrap();
    assert!(!bait.exists(), "a hook ran");
    // A link out of the tree: the whole is refused.
    let path = daemon.repository("links");
    std::os::unix::fs::symlink("/etc/passwd", path.join("l")).unwrap();
    commit(&path, "f", "x");
    let mut links = artifact(daemon.url("links"));
    links.destination = "local/links".to_owned();
    let error = rig.fetch(&links).unwrap_err().to_string();
    assert!(error.contains("symbolic link to an absolute path"), "{error}");
    assert!(!rig.local("links/f").exists());
    // Sub-modules over transports that run programs or read files.
    for (at, url) in
        ["ext::sh -c 'touch /tmp/bivouac-test-ran'", "-x", "file:///etc", "/etc"].iter().enumerate()
    {
        let name = format!("modules{at}");
        let path = daemon.repository(&name);
        let text = format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n");
        commit(&path, ".gitmodules", &text);
        git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{},m", "1".repeat(40))]);
        git(&path, &["commit", "-q", "-m", "module"]);
        let mut one = artifact(daemon.url(&name));
        one.destination = format!("local/{name}");
        let error = rig.fetch(&one).expect_err(url).to_string();
        assert!(!error.is_empty() && !rig.local(&name).exists(), "{url}: {error}");
    }
    assert!(!Path::new("/tmp/bivouac-test-ran").exists());
}

/// Serves a directory to whoever says `joe` and `s3cret`; notes every Authorization header that comes, and with what
/// the processes of git were started then.
const GUARDED: &str = r#"
import base64, http.server, os, sys
want = "Basic " + base64.b64encode(b"joe:s3cret").decode()
def note_git():
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{process}/cmdline").read() + open(f"/proc/{process}/environ").read()
            if words.startswith("git"):
                open("../started", "a").write(words.replace("\0", " ") + "\n")
        except OSError:
            pass
class Guarded(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        got = self.headers.get("Authorization")
        if got:
            open("../asked", "a").write(got + "\n")
        if got == want:
            note_git()
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
os.chdir(sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Guarded).serve_forever()
"#;

#[test]
fn a_login_comes_from_netrc_and_is_in_no_argument_and_no_message() {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let (path, port) = (directory.path().join("x"), free_port());
    std::fs::create_dir(&path).unwrap();
    git(&path, &["init", "-q", "-b", "main"]);
    commit(&path, "f", "behind a login");
    git(&path, &["update-server-info"]);
    let mut command = Command::new("python3");
    command.args(["-c", GUARDED, &port.to_string()]).arg(&path);
    let _server = serve(command, port);
    let url = format!("git::http://127.0.0.1:{port}/.git");
    let mut rig = Rig::new();
    let error = rig.fetch(&artifact(url.clone())).unwrap_err().to_string();
    assert!(error.contains("could not read Username"), "{error}");
    let netrc = directory.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login joe password s3cret\n").unwrap();
    std::fs::set_permissions(&netrc, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    rig.environment("NETRC", netrc.as_os_str());
    rig.fetch(&artifact(url)).unwrap();
    assert_eq!(rig.read("f"), b"behind a login");
    assert!(!rig.local(".netrc").exists());
    let started = std::fs::read_to_string(directory.path().join("started")).unwrap();
    assert!(started.contains("clone") && !started.contains("s3cret"), "{started}");
    // A login of the address goes the same way, and does not stay in what is cloned.
    std::fs::remove_file(directory.path().join("started")).unwrap();
    let mut own = artifact(format!("git::http://joe:s3cret@127.0.0.1:{port}/.git"));
    own.destination = "local/own".to_owned();
    rig.fetch(&own).unwrap();
    assert_eq!(rig.read("own/f"), b"behind a login");
    let config = rig.read("own/.git/config");
    assert!(!String::from_utf8(config).unwrap().contains("s3cret"));
    assert!(!rig.local("own/.git-credentials").exists());
    let started = std::fs::read_to_string(directory.path().join("started")).unwrap();
    assert!(started.contains("clone") && !started.contains("s3cret"), "{started}");
    // The address's own login wins, and no message shows either.
    let own = artifact(format!("git::http://eve:wr0ng@127.0.0.1:{port}/.git"));
    let error = rig.fetch(&own).unwrap_err();
    assert!(error.to_string().contains("Authentication failed"), "{error}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("wr0ng") && !text.contains("s3cret"), "{text}");
    let asked = std::fs::read_to_string(directory.path().join("asked")).unwrap();
    assert!(asked.trim_end().ends_with("ZXZlOndyMG5n"), "{asked}");
    // A wrong one in the file fails without being shown.
    std::fs::write(&netrc, "machine 127.0.0.1 login joe password n0tit\n").unwrap();
    let error = rig.fetch(&artifact(format!("git::http://127.0.0.1:{port}/.git"))).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("n0tit"), "{error}");
}

/// What git receives is told as it comes, and at its end.
#[test]
fn how_far_a_clone_is_is_told() {
    let daemon = Daemon::new();
    let path = daemon.repository("x");
    let mut bytes = vec![0_u8; 2 << 20];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    std::fs::write(path.join("random"), &bytes).unwrap();
    commit(&path, "f", "x");
    let rig = Rig::new();
    let mut told = Vec::new();
    rig.watched(&artifact(daemon.url("x")), &mut |progress| {
        told.extend(progress);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert!(told.iter().all(|told| told.phase == bivouac_artifact::order::Phase::Fetching), "{told:?}");
    let most = told.iter().map(|told| told.bytes).max().unwrap();
    assert!((2 << 20..3 << 20).contains(&most), "{told:?}");
}
