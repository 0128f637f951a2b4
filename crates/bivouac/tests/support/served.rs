//! What runs fetch from: a file over HTTP, and a repository behind git's own daemon.

use crate::request;
use crate::support::wait_for;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

/// Serves one file to everybody, after it did something; ends with the test program.
pub(crate) fn file(content: Vec<u8>, first: impl Fn() + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(request::heard(&stream));
            first();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    port
}

/// A `repository` whose file `g` holds a word, behind a daemon that ends with this.
pub(crate) struct Repository {
    daemon: Child,
    /// Where the daemon listens.
    pub(crate) port: u16,
}

impl Repository {
    /// In this folder.
    pub(crate) fn new(files: &Path) -> Repository {
        let script = "mkdir repository; cd repository; git init -q -b main; echo committed > g; git add g
            git -c user.name=t -c user.email=t@x.invalid commit -qm one";
        let made = Command::new("sh").args(["-ec", script]).current_dir(files).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let daemon = Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", files.display()))
            .arg(files)
            .process_group(0)
            .spawn()
            .unwrap();
        wait_for("git", || TcpStream::connect(("127.0.0.1", port)).ok());
        Repository { daemon, port }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}
