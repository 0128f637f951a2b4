//! What the engine's root tests share: a one-threaded harness, a default sandbox, the ledger.

use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::launch::{Failure, Held, Running, Setting, Streams, launch};
use bivouac_sandbox::model::*;
use bivouac_sandbox::{EmptyMounts, HostPath, RootSwitch, Sandbox, TaskPath};
use bivouac_sys::clone::OneThread;
use bivouac_sys::features::KernelFeatures;
use bivouac_sys::wait::{Ending, reap_blocking};
use serde_bytes::ByteBuf;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) fn host(path: impl AsRef<Path>) -> HostPath {
    HostPath::new(path.as_ref()).unwrap()
}

pub(crate) fn task(path: &str) -> TaskPath {
    TaskPath::new(path).unwrap()
}

/// A task's directories below a temporary place that can hold an overlay's upper layer.
pub(crate) struct Home {
    pub(crate) base: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Home {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let parent = std::env::var_os("BIVOUAC_TEST_DIR").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
        let base = parent.join(format!("bivouac-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(base.join("task/tmp")).unwrap();
        std::fs::create_dir_all(base.join("private")).unwrap();
        Home { base }
    }

    pub(crate) fn task_dir(&self) -> PathBuf {
        self.base.join("task")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// A file system in memory on this host, taken off when dropped.
pub(crate) struct HostMount(PathBuf);

impl HostMount {
    pub(crate) fn tmpfs(at: PathBuf, flags: rustix::mount::MountFlags) -> HostMount {
        std::fs::create_dir_all(&at).unwrap();
        rustix::mount::mount("none", &at, "tmpfs", flags, Some(c"mode=0777")).unwrap();
        HostMount(at)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A bind of something of this host, with nothing of it trusted.
pub(crate) fn bind(source: &Path, target: &str, access: Access) -> Mount {
    let what = MountKind::Bind {
        source: host(source),
        route: Route::Anywhere,
        access,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    };
    Mount { target: task(target), what }
}

/// Gives a sandbox's process to root with all capabilities of this one.
pub(crate) fn as_root(sandbox: &mut Sandbox) {
    let all = CapSet::from_bits(bivouac_sys::credentials::capget().unwrap().permitted);
    sandbox.process.identity = Identity { uid: 0, gid: 0, groups: vec![0] };
    sandbox.process.capabilities =
        CapabilitySets { bounding: all, permitted: all, effective: all, ..CapabilitySets::default() };
}

/// The default task: this host's system directories under overlays, everything private.
pub(crate) fn default_sandbox(home: &Home, command: &[&str]) -> Sandbox {
    let entries = ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr"].map(|path| Entry {
        source: host(path),
        target: task(path),
        show: Show::Overlay { above: Vec::new() },
    });
    let (first, rest) = command.split_first().unwrap();
    Sandbox {
        root: Root {
            task_dir: host(home.task_dir()),
            private_dir: host(home.base.join("private")),
            entries: entries.to_vec(),
            access: Access::ReadWrite,
        },
        mounts: Vec::new(),
        devices: Vec::new(),
        shm_size: 64 << 20,
        namespaces: Namespaces {
            pid: Sharing::Private,
            ipc: Sharing::Private,
            cgroup: Sharing::Host,
            network: Network::Own,
        },
        hostname: None,
        process: process(first, rest),
    }
}

pub(crate) fn process(command: &str, arguments: &[&str]) -> Process {
    Process {
        asked: command.to_owned(),
        candidates: vec![Candidate { path: task(command), execute_bit: ExecuteBit::Leave }],
        arguments: arguments.iter().map(|argument| ByteBuf::from(argument.as_bytes())).collect(),
        environment: vec![ByteBuf::from(&b"PATH=/usr/local/bin:/usr/bin:/bin"[..])],
        work_dir: task("/"),
        identity: Identity { uid: 65534, gid: 65534, groups: vec![65534] },
        capabilities: CapabilitySets {
            bounding: CapSet::from_bits(0xa804_05fb),
            permitted: CapSet::from_bits(0),
            effective: CapSet::from_bits(0),
            inheritable: CapSet::from_bits(0),
            ambient: CapSet::from_bits(0),
        },
        confinement: Confinement { gain: PrivilegeGain::Possible, filter: None, landlock: Vec::new() },
        rlimits: Vec::new(),
        oom_score_adj: 0,
        umask: 0o022,
        init: Init::Command,
    }
}

/// What a finished sandbox left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Bench<'a> {
    pub(crate) proof: &'a OneThread,
    pub(crate) empty: EmptyMounts,
    pub(crate) features: KernelFeatures,
}

impl Bench<'_> {
    pub(crate) fn setting(&self) -> Setting<'_> {
        Setting {
            proof: self.proof,
            features: self.features,
            unified: None,
            tasks: &[],
            init: None,
            deadline: Instant::now() + Duration::from_secs(60),
            failing: None,
        }
    }

    pub(crate) fn start(&self, sandbox: &Sandbox) -> Result<(Running, OwnedFd, OwnedFd), Failure> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let streams =
            Streams::Files { stdin: None, stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
        Ok((launch(&self.setting(), &self.empty, sandbox, streams)?, out.into(), err.into()))
    }

    /// Runs a sandbox to its end.
    pub(crate) fn run(&self, sandbox: &Sandbox) -> Result<Outcome, Failure> {
        let (running, out, err) = self.start(sandbox)?;
        let read = |fd: OwnedFd| {
            let mut text = Vec::new();
            std::fs::File::from(fd).read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        let (stdout, stderr) = (read(out), read(err));
        let ending = reap_blocking(running.child.pidfd.as_fd()).unwrap().ending;
        let _: Held = running.held;
        Ok(Outcome { ending, stdout, stderr })
    }

    /// Runs a shell line in the default sandbox, changed as asked, and tells its output.
    pub(crate) fn shell(&self, line: &str, change: impl FnOnce(&mut Sandbox, &Home)) -> String {
        let home = Home::new();
        let mut sandbox = default_sandbox(&home, &["/bin/sh", "-c", line]);
        change(&mut sandbox, &home);
        match self.run(&sandbox) {
            Ok(outcome) => format!("{}{}", outcome.stdout, outcome.stderr),
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// What must be as it was: mounts of this namespace, processes below this one, descriptors of this process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    mounts: String,
    children: String,
    descriptors: usize,
    files: Vec<PathBuf>,
}

impl Ledger {
    pub(crate) fn take() -> Ledger {
        let pid = std::process::id();
        let parent = std::env::var_os("BIVOUAC_TEST_DIR").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
        let mut files: Vec<PathBuf> = std::fs::read_dir(parent)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(&format!("bivouac-test-{pid}-")))
            .collect();
        files.sort();
        Ledger {
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
            children: std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            files,
        }
    }
}

pub(crate) type Test = (&'static str, fn(&Bench<'_>));

/// Runs the tests one by one in this one thread; ledger equal around each.
pub(crate) fn run(tests: &[Test]) -> std::process::ExitCode {
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: all tests of this file: they need root");
        return std::process::ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return std::process::ExitCode::SUCCESS;
    }
    let proof = OneThread::prove().unwrap();
    let empty = EmptyMounts::make(RootSwitch::Detach).unwrap();
    let bench = Bench { proof: &proof, empty, features: KernelFeatures::probe().unwrap() };
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let before = Ledger::take();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&bench)));
        let after = Ledger::take();
        let good = ran.is_ok() && before == after;
        if before != after {
            eprintln!("{name}: the ledger differs:\n{before:?}\n{after:?}");
        }
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        if good { passed += 1 } else { failed += 1 }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
