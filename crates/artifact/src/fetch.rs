//! What the caller starts: an artifact's two helper processes, one after the other, then the move to its place.

use crate::address::{Address, BadAddress, Getter, Web};
use crate::cache;
use crate::checksum::{Checksum, Sum};
use crate::deposit::{self, DepositError, Seal, temporary_name};
use crate::helper::{CHECKSUMS, DOWNLOAD, TREE};
use crate::order::{
    Again, Certificates, Confinement, Failure, Fetch, Limits, Order, Progress, Report, ResultMode, Stage,
    Unpack,
};
use crate::place::{self, BENEATH, NoPlace, Owner, PathError, Place, Roots};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What to fetch; everything in it is interpolated already.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    /// The address, as go-getter writes it.
    pub source: String,
    /// Options, which win over the address's own query.
    pub options: BTreeMap<String, String>,
    /// Headers of HTTP requests.
    pub headers: BTreeMap<String, String>,
    /// What it becomes.
    pub mode: ResultMode,
    /// Where it goes, as the task would write it.
    pub destination: String,
    /// Which servers are believed.
    pub certificates: Certificates,
}

/// Fetches artifacts.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// The program that is [`helper::main`](crate::helper::main), and its arguments.
    pub helper: (PathBuf, Vec<OsString>),
    /// What the helpers see of the caller's environment: [`environment`].
    pub environment: Vec<(OsString, OsString)>,
    /// Where private directories are made: on the file system of the destinations, out of the tasks' sight.
    pub staging: PathBuf,
    /// Where verified files are kept; nowhere if none.
    pub cache: Option<PathBuf>,
    /// How much is too much.
    pub limits: Limits,
}

/// Why an artifact did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Its address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Its destination.
    #[error("artifact destination {0}")]
    Destination(#[from] NoPlace),
    /// What a helper said.
    #[error("failed to download artifact {shown:?}: {}", .failure.text)]
    Failed {
        /// The address.
        shown: String,
        /// What it said.
        failure: Failure,
    },
    /// The private directory, and the move out of it.
    #[error("artifact {shown:?}: {error}")]
    Deposit {
        /// The address.
        shown: String,
        /// What failed.
        error: DepositError,
    },
    /// Starting the helper.
    #[error("cannot start the process that fetches: {0}")]
    Start(std::io::Error),
    /// The caller no longer wants it.
    #[error("fetching {0:?} was stopped")]
    Stopped(String),
}

impl FetchError {
    /// Whether another try may succeed without a change.
    pub fn may_succeed_again(&self) -> bool {
        match self {
            FetchError::Failed { failure, .. } => failure.again == Again::Perhaps,
            FetchError::Deposit { .. } | FetchError::Start(_) => true,
            FetchError::Address(_) | FetchError::Destination(_) | FetchError::Stopped(_) => false,
        }
    }
}

/// What an artifact's arrival was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Under what its helpers worked.
    pub confinement: Confinement,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an artifact came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From its address.
    Fetched,
    /// From the cache.
    Cached,
}

/// The variables of the caller that a helper sees: how to reach servers and whom to believe.
const PASSED: [&str; 12] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LANG",
    "TZ",
];
/// What a helper may see of this process's environment: proxies and certificate authorities; and where logins are,
/// which only the face can read.
pub fn environment() -> Vec<(OsString, OsString)> {
    let passed = PASSED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    passed.chain(crate::netrc::place().map(|path| ("NETRC".into(), path.into()))).collect()
}

/// How often a waiting caller is asked whether it still wants the artifact.
const TICK: Duration = Duration::from_millis(200);
/// As much of a helper's standard error as is kept.
const MOST_TEXT: usize = 16 * 1024;

/// Told how far a fetch is, and at least five times a second; what it answers stops the fetch or lets it go on.
pub type Watch<'a> = &'a mut dyn FnMut(Option<Progress>) -> ControlFlow<()>;

impl Fetcher {
    /// Fetches one artifact to its place in a task's directories. Blocks; nothing of a failed one stays but what was
    /// there before.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(
        &self,
        artifact: &Artifact,
        roots: &Roots,
        owner: Owner,
        watch: Watch<'_>,
    ) -> Result<Arrival, FetchError> {
        let mut address = Address::parse(&artifact.source, &artifact.options)?;
        let named = artifact.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        match &mut address.getter {
            Getter::Http(web @ Web { login: None, .. }) if !named => {
                web.login = crate::netrc::login(&self.environment, &web.url);
            }
            Getter::Git(repository) if crate::git::may_ask_for_login(repository) => {
                repository.login = crate::netrc::login(&self.environment, &repository.url);
            }
            Getter::Http(_) | Getter::Git(_) | Getter::File(_) => {}
        }
        let place = Place::resolve(&artifact.destination)?;
        let deposit = |error: DepositError| FetchError::Deposit { shown: address.shown.clone(), error };
        let staging = Staging::make(&self.staging).map_err(|error| deposit(error.into()))?;
        let mut job = Job { fetcher: self, artifact, address: &address, staging: &staging, watch };
        let arrival = job.run()?;
        let result = move_to_place(
            artifact,
            &address,
            &staging,
            roots,
            &place,
            Seal { made_by: arrival.confinement.uid, owner },
        );
        result.map_err(deposit)?;
        Ok(arrival)
    }
}

/// A private directory; gone when this is dropped.
struct Staging {
    path: PathBuf,
    fd: OwnedFd,
}

impl Staging {
    fn make(parent: &Path) -> Result<Staging, PathError> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::DirBuilderExt;
        let error = |what, path: &Path, errno| PathError { what, path: path.to_path_buf(), errno };
        // Git looks at every directory above its own.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .map_err(|io| error("make", parent, Errno::from_io_error(&io).unwrap_or(Errno::IO)))?;
        let root = place::open_root(parent)?;
        let name = temporary_name();
        let path = parent.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        rustix::fs::mkdirat(&root, &name, Mode::from_raw_mode(0o700))
            .map_err(|errno| error("make", &path, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&root, &name, flags, Mode::empty())
            .map_err(|errno| error("open", &path, errno))?;
        Ok(Staging { path, fd })
    }

    fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Crashes leave it for `gc`, which removes the allocation's directory.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// One artifact on its way.
struct Job<'a, 'w> {
    fetcher: &'a Fetcher,
    artifact: &'a Artifact,
    address: &'a Address,
    staging: &'a Staging,
    watch: Watch<'w>,
}

impl Job<'_, '_> {
    fn run(&mut self) -> Result<Arrival, FetchError> {
        let known = match &self.address.checksum {
            Some(Checksum::Value(sum)) => Some(sum.clone()),
            _ => None,
        };
        let cached = self.take_from_cache(known.as_ref());
        let mut confinement = None;
        if !cached {
            confinement = Some(self.help(Stage::Fetch(self.fetch_order()))?);
        }
        // A repository or directory is a tree already, and has no checksum.
        if !self.staging.has(DOWNLOAD)
            && let Some(confinement) = confinement
        {
            return Ok(Arrival { confinement, origin: Origin::Fetched });
        }
        self.hand_over()?;
        let kept = known.as_ref().filter(|_| !cached).and_then(|sum| Some((sum, self.open_download()?)));
        let unpacked = self.help(Stage::Unpack(self.unpack_order()));
        if cached && unpacked.is_err() {
            // Damaged on the disk: the next try asks the server.
            self.forget(known.as_ref());
        }
        let confinement = unpacked?;
        if let (Some(directory), Some((sum, mut file))) = (&self.fetcher.cache, kept) {
            // A full disk is no reason to fail: the artifact itself is here.
            let _ = cache::keep(directory, sum, &mut file);
        }
        let origin = if cached { Origin::Cached } else { Origin::Fetched };
        Ok(Arrival { confinement, origin })
    }

    fn take_from_cache(&self, known: Option<&Sum>) -> bool {
        match (&self.fetcher.cache, known) {
            (Some(directory), Some(sum)) => cache::take(directory, sum, self.staging.fd.as_fd(), DOWNLOAD),
            _ => false,
        }
    }

    fn forget(&self, known: Option<&Sum>) {
        if let (Some(directory), Some(sum)) = (&self.fetcher.cache, known) {
            cache::forget(directory, sum);
        }
    }

    /// What the first helper wrote becomes readable, and no more than that, for the second.
    fn hand_over(&self) -> Result<(), FetchError> {
        for name in [DOWNLOAD, CHECKSUMS] {
            let error = |errno| FetchError::Deposit {
                shown: self.address.shown.clone(),
                error: PathError { what: "hand over", path: self.staging.path.join(name), errno }.into(),
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat2(&self.staging.fd, name, flags, Mode::empty(), BENEATH) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(error)?,
            };
            let stat = rustix::fs::fstat(&fd).map_err(error)?;
            let regular =
                rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
            if !regular || stat.st_nlink != 1 {
                return Err(error(Errno::INVAL));
            }
            Owner::ROOT.give(fd.as_fd()).map_err(error)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644)).map_err(error)?;
        }
        Ok(())
    }

    fn open_download(&self) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.staging.fd, DOWNLOAD, flags, Mode::empty(), BENEATH).ok().map(File::from)
    }

    fn fetch_order(&self) -> Fetch {
        let list = match &self.address.checksum {
            Some(Checksum::List(address)) => Some(address.clone()),
            _ => None,
        };
        Fetch {
            getter: self.address.getter.clone(),
            headers: self.artifact.headers.clone(),
            certificates: self.artifact.certificates,
            list,
        }
    }

    fn unpack_order(&self) -> Unpack {
        Unpack {
            checksum: self.address.checksum.clone(),
            unpacking: self.address.unpacking,
            file_name: self.address.file_name.clone(),
            mode: self.artifact.mode,
        }
    }

    /// Runs one helper to its end.
    fn help(&mut self, stage: Stage) -> Result<Confinement, FetchError> {
        let order = Order { stage, limits: self.fetcher.limits.clone() };
        let text = serde_json::to_vec(&order).map_err(|error| FetchError::Start(error.into()))?;
        let mut helper = Helper::start(self.fetcher, self.staging).map_err(FetchError::Start)?;
        helper.order(&text).map_err(FetchError::Start)?;
        let patience = Patience::new(&order);
        let said = helper.follow(patience, &mut *self.watch);
        drop(helper);
        let failed = |failure| FetchError::Failed { shown: self.address.shown.clone(), failure };
        match said {
            Heard { stopped: true, .. } => Err(FetchError::Stopped(self.address.shown.clone())),
            Heard { end: Some(Report::Done), confinement: Some(confinement), .. } => Ok(confinement),
            Heard { end: Some(Report::Failed(failure)), .. } => Err(failed(failure)),
            Heard { late: Some(text), .. } => Err(failed(Failure::perhaps(text))),
            Heard { errors, .. } => Err(failed(Failure::perhaps(format!(
                "its process died (of a resource limit, or of a damaged archive){}{}",
                if errors.is_empty() { "" } else { ": " },
                errors.trim()
            )))),
        }
    }
}

/// A running helper; it and what it started are dead when this is dropped.
struct Helper {
    child: Child,
}

impl Helper {
    fn start(fetcher: &Fetcher, staging: &Staging) -> std::io::Result<Helper> {
        let (program, arguments) = &fetcher.helper;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent");
        command.envs(fetcher.environment.iter().map(|(name, value)| (name, value)));
        command
            .current_dir(format!("/proc/self/fd/{}", staging.fd.as_raw_fd()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Ok(Helper { child: command.spawn()? })
    }

    fn order(&mut self, text: &[u8]) -> std::io::Result<()> {
        match self.child.stdin.take() {
            Some(mut stdin) => stdin.write_all(text),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Listens until both outputs are closed, the time is over, or the caller has enough.
    fn follow(&mut self, mut patience: Patience, watch: Watch<'_>) -> Heard {
        let mut heard = Heard::default();
        let mut lines = Vec::new();
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        while out.is_some() {
            let mut fds = Vec::new();
            fds.extend(out.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(err.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
            let _ = poll(&mut fds, Some(&tick));
            let hot = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (out_is_hot, err_is_hot) = (hot(0), err.is_some() && hot(1));
            let mut progress = None;
            if err_is_hot && !heard.errors_from(&mut err) {
                err = None;
            }
            if out_is_hot {
                let mut buffer = [0; 4096];
                match out.as_mut().map(|out| out.read(&mut buffer)) {
                    Some(Ok(count)) if count > 0 => {
                        lines.extend_from_slice(buffer.get(..count).unwrap_or_default())
                    }
                    _ => out = None,
                }
                progress = heard.lines(&mut lines);
            }
            if let Some(progress) = progress {
                patience.moved(progress.bytes);
            }
            if watch(progress).is_break() {
                heard.stopped = true;
                return heard;
            }
            if let Some(text) = patience.lost() {
                heard.late = Some(text);
                return heard;
            }
        }
        heard
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What a helper has said.
#[derive(Default)]
struct Heard {
    confinement: Option<Confinement>,
    end: Option<Report>,
    errors: String,
    late: Option<String>,
    stopped: bool,
}

impl Heard {
    /// Takes whole lines; the last progress among them.
    fn lines(&mut self, lines: &mut Vec<u8>) -> Option<Progress> {
        const LONGEST_LINE: usize = 256 * 1024;
        let mut progress = None;
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Report::Confined(confinement)) => self.confinement = Some(confinement),
                Ok(Report::Progress(told)) => progress = Some(told),
                Ok(end) => self.end = Some(end),
                Err(_) => {}
            }
        }
        if lines.len() > LONGEST_LINE {
            lines.clear();
        }
        progress
    }

    /// Takes some of standard error; false at its end.
    fn errors_from(&mut self, err: &mut Option<impl Read>) -> bool {
        let mut buffer = [0; 4096];
        let count = err.as_mut().and_then(|err| err.read(&mut buffer).ok()).unwrap_or(0);
        if self.errors.len() < MOST_TEXT {
            self.errors.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
        count > 0
    }
}

/// How long a helper is waited for, and how slow it may be.
struct Patience {
    deadline: Instant,
    /// Bytes per second over a minute; no rate for work that tells no bytes.
    least_rate: Option<u64>,
    since: Instant,
    bytes_then: u64,
    bytes: u64,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Patience {
    fn new(order: &Order) -> Patience {
        let now = Instant::now();
        let counts = matches!(&order.stage, Stage::Fetch(fetch) if matches!(fetch.getter, Getter::Http(_)));
        Patience {
            deadline: now + Duration::from_secs(order.limits.seconds),
            least_rate: counts.then_some(order.limits.least_rate),
            since: now,
            bytes_then: 0,
            bytes: 0,
        }
    }

    fn moved(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Why it is given up, if it is.
    fn lost(&mut self) -> Option<String> {
        if Instant::now() >= self.deadline {
            return Some("it took too long".to_owned());
        }
        let least = self.least_rate?;
        if self.since.elapsed() < MINUTE {
            return None;
        }
        // Starting over after a broken transfer counts as moving.
        let moved = self.bytes.abs_diff(self.bytes_then);
        (self.since, self.bytes_then) = (Instant::now(), self.bytes);
        let slow = moved < least * MINUTE.as_secs();
        slow.then(|| format!("the server sent {moved} bytes in a minute, which is too slow"))
    }
}

fn move_to_place(
    artifact: &Artifact,
    address: &Address,
    staging: &Staging,
    roots: &Roots,
    place: &Place,
    seal: Seal,
) -> Result<(), DepositError> {
    let tree_path = staging.path.join(TREE);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = rustix::fs::openat2(&staging.fd, TREE, flags, Mode::empty(), BENEATH)
        .map_err(|errno| PathError { what: "open", path: tree_path.clone(), errno })?;
    deposit::seal(tree.as_fd(), &tree_path, seal)?;
    let tree = part_of(tree, &tree_path, address.part.as_deref())?;
    let root_path = roots.path(place.root);
    let root = place::open_root(root_path)?;
    let shown = root_path.join(place.names.join("/"));
    if artifact.mode == ResultMode::File {
        let Some((name, parents)) = place.names.split_last() else {
            return Err(DepositError::Refused { path: shown, why: "is no name for a file" });
        };
        let target = place::make_directories(root.as_fd(), root_path, parents, seal.owner)?;
        let name = CString::new(name.as_str()).unwrap_or_default();
        let only = only_name(&tree, &tree_path)?;
        let parent = shown.parent().unwrap_or(root_path);
        return deposit::move_entry(tree.as_fd(), &only, target.as_fd(), &name, parent);
    }
    let target = place::make_directories(root.as_fd(), root_path, &place.names, seal.owner)?;
    deposit::merge(tree.as_fd(), target.as_fd(), &shown)
}

/// The sub-directory after `//`; links on the way are not followed.
fn part_of(tree: OwnedFd, path: &Path, part: Option<&str>) -> Result<OwnedFd, DepositError> {
    let Some(part) = part else { return Ok(tree) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(&tree, part, flags, Mode::empty(), BENEATH)
        .map_err(|errno| PathError { what: "open the sub-directory", path: path.join(part), errno }.into())
}

/// The one file that mode "file" asks for.
fn only_name(tree: &OwnedFd, path: &Path) -> Result<CString, DepositError> {
    let names = deposit::names(tree.as_fd(), path)?;
    let why = "mode \"file\" needs exactly one file";
    let [name] = names.as_slice() else {
        return Err(DepositError::Refused { path: path.to_path_buf(), why });
    };
    let stat = rustix::fs::statat(tree, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| PathError { what: "look at", path: path.to_path_buf(), errno })?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(DepositError::Refused { path: path.to_path_buf(), why });
    }
    Ok(name.clone())
}
