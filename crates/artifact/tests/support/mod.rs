//! What the tests of fetching share: directories of a task, a fetcher, servers on loopback, a tar writer.
#![expect(dead_code, reason = "each test program uses a part of it")]

use bivouac_artifact::fetch::{Arrival, Artifact, FetchError, Fetcher};
use bivouac_artifact::order::{Limits, Progress, ResultMode};
use bivouac_artifact::place::{Owner, Roots};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A task's directories and a fetcher for them.
pub(crate) struct Rig {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) roots: Roots,
    pub(crate) fetcher: Fetcher,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
        // Git looks at every directory above its own.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let path = |name: &str| directory.path().join(name);
        let roots = Roots { task: path("task"), shared: path("alloc"), secrets: path("secrets") };
        for root in [&roots.task, &roots.shared, &roots.secrets] {
            std::fs::create_dir(root).unwrap();
        }
        std::fs::create_dir(roots.task.join("local")).unwrap();
        let fetcher = Fetcher {
            helper: (PathBuf::from(env!("CARGO_BIN_EXE_bivouac-artifact-helper")), Vec::new()),
            environment: Vec::new(),
            staging: path("staging"),
            cache: None,
            limits: Limits::default(),
        };
        Rig { directory, roots, fetcher }
    }

    pub(crate) fn fetch(&self, artifact: &Artifact) -> Result<Arrival, FetchError> {
        let result = self.watched(artifact, &mut |_| ControlFlow::Continue(()));
        self.nothing_staged();
        result
    }

    pub(crate) fn watched(
        &self,
        artifact: &Artifact,
        watch: &mut dyn FnMut(Option<Progress>) -> ControlFlow<()>,
    ) -> Result<Arrival, FetchError> {
        self.fetcher.fetch(artifact, &self.roots, Owner::ROOT, watch)
    }

    /// Every private directory is gone.
    pub(crate) fn nothing_staged(&self) {
        let left: Vec<_> = std::fs::read_dir(&self.fetcher.staging).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub(crate) fn local(&self, name: &str) -> PathBuf {
        self.roots.task.join("local").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        let path = self.local(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A file that everybody may read.
    pub(crate) fn source(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        format!("file://{}", path.display())
    }

    pub(crate) fn environment(&mut self, name: &str, value: impl Into<OsString>) {
        self.fetcher.environment.push((name.into(), value.into()));
    }
}

/// An artifact with a source and `local/` as its destination.
pub(crate) fn artifact(source: impl Into<String>) -> Artifact {
    Artifact { source: source.into(), destination: "local/".to_owned(), ..Artifact::default() }
}

pub(crate) fn with_options(mut artifact: Artifact, options: &[(&str, &str)]) -> Artifact {
    artifact.options =
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    artifact
}

pub(crate) fn to_file(mut artifact: Artifact, destination: &str) -> Artifact {
    artifact.mode = ResultMode::File;
    artifact.destination = destination.to_owned();
    artifact
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Path, and all that is to be equal: type, mode, content or target.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.mode() & 0o777;
            let about = if metadata.is_dir() {
                todo.push(path.clone());
                format!("directory {mode:o}")
            } else if metadata.is_symlink() {
                format!("link {:?}", std::fs::read_link(&path).unwrap())
            } else if metadata.is_file() {
                let content = std::fs::read(&path).unwrap();
                let links = metadata.nlink();
                format!(
                    "file {mode:o} {links} {} {}",
                    content.len(),
                    content.iter().map(|b| u64::from(*b)).sum::<u64>()
                )
            } else {
                format!("special {mode:o}")
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
            out.insert(name, about);
        }
    }
    out
}

/// A process that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that nginx ends its workers too.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Starts a server, and waits until somebody listens.
pub(crate) fn serve(mut command: Command, port: u16) -> Server {
    use std::os::unix::process::CommandExt;
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
    let mut server = Server { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), port };
    wait_until("the server listens", || {
        assert!(server.child.try_wait().unwrap().is_none(), "{command:?} ended");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    server
}

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// A server that answers with whatever bytes a test thinks up.
pub(crate) struct Odd {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
}

impl Odd {
    /// `answer` gets the request, how many there were before, and the connection.
    pub(crate) fn new(answer: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static) -> Odd {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), seen.clone());
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || one(stream, &log, &*answer));
            }
        });
        Odd { port, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn one(mut stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize, &mut TcpStream)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut read = || {
        let mut request = Request::default();
        reader.read_line(&mut request.line).ok()?;
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(count) if count > 2 => {}
                _ => break,
            }
            if let Some((name, value)) = line.split_once(':') {
                request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        Some((request, log.len() - 1))
    };
    let Some((mut request, mut before)) = read() else { return };
    if request.line.starts_with("CONNECT ") {
        // As a proxy, and the server behind it.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let Some(next) = read() else { return };
        (request, before) = next;
    }
    answer(&request, before, &mut stream);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = std::io::copy(&mut stream.take(1 << 20), &mut std::io::sink());
}

/// A plain good answer.
pub(crate) fn ok(stream: &mut TcpStream, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// tar archives, as the test wants them.
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// Fields of a header.
#[derive(Clone)]
pub(crate) struct Head<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) link: &'a [u8],
    pub(crate) mtime: &'a [u8],
    pub(crate) magic: &'a [u8; 8],
}

pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
pub(crate) const GNU: &[u8; 8] = b"ustar  \0";

impl Default for Head<'_> {
    fn default() -> Self {
        Head { name: b"f", kind: b'0', mode: 0o644, size: 0, link: b"", mtime: b"14000000000", magic: USTAR }
    }
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(Vec::new())
    }

    pub(crate) fn head(mut self, head: &Head<'_>) -> Tar {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, head.name);
        put(100, format!("{:07o}", head.mode).as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", head.size).as_bytes());
        put(136, head.mtime);
        put(148, b"        ");
        put(156, &[head.kind]);
        put(157, head.link);
        put(257, head.magic);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self
    }

    pub(crate) fn content(mut self, content: &[u8]) -> Tar {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Tar {
        let size = content.len() as u64;
        self.head(&Head { name: name.as_bytes(), size, ..Head::default() }).content(content)
    }

    pub(crate) fn kind(self, name: &str, kind: u8, link: &str) -> Tar {
        self.head(&Head {
            name: name.as_bytes(),
            kind,
            link: link.as_bytes(),
            mode: 0o755,
            ..Head::default()
        })
    }

    pub(crate) fn extended(self, kind: u8, content: &[u8]) -> Tar {
        let size = content.len() as u64;
        self.head(&Head { name: b"extended", kind, size, ..Head::default() }).content(content)
    }

    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Tar {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            content.extend(format!("{length}{rest}").into_bytes());
        }
        self.extended(b'x', &content)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
