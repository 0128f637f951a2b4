//! A task with everything it needs, and the proof afterwards that nothing of it is left.

#![expect(dead_code, reason = "each test file uses its part")]

use bivouac_cgroup::{DevicePolicy, Group, GroupName, GroupPath, Host, Limits, Placement, Plan, Saved};
use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::model::*;
use bivouac_sandbox::path::{HostPath, TaskPath};
use bivouac_sandbox::{EmptyMounts, RootSwitch};
use bivouac_shim::client::{Client, ClientError, Launched, Place, Program, Session};
use bivouac_shim::protocol::*;
use bivouac_sys::clone::Child;
use bivouac_sys::features::KernelFeatures;
use serde_bytes::ByteBuf;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + SOON)
}

/// Whether this machine can run the test; says so if not.
pub(crate) fn can_run(test: &str) -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if Host::detect().is_err() {
        "needs a cgroup hierarchy"
    } else {
        return true;
    };
    println!("SKIPPED: {test}: {why}");
    false
}

/// One task: its directories, its group, its shim.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) run_dir: PathBuf,
    pub(crate) group: Group,
    saved: Saved,
    pub(crate) shim: Option<Child>,
    pub(crate) order: Launch,
    name: String,
}

/// The shim under test: another build of it with `BIVOUAC_SHIM_PROGRAM`.
pub(crate) fn path() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_bivouac-shim");
    std::env::var_os("BIVOUAC_SHIM_PROGRAM").map_or(PathBuf::from(built), PathBuf::from)
}

pub(crate) fn program() -> Program {
    Program::open(&path()).unwrap()
}

pub(crate) fn empty_mounts() -> EmptyMounts {
    EmptyMounts::make(RootSwitch::Detach).unwrap()
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn private_dir(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}

impl Rig {
    /// A task that would run `script` in a shell. `None` where it cannot be had.
    pub(crate) fn shell(script: &str) -> Rig {
        Rig::with_limits(script, &Limits::default())
    }

    pub(crate) fn with_limits(script: &str, limits: &Limits) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bivouac-test-shim-{}-{number}", std::process::id());
        let host = Host::detect().unwrap();
        let placement = Placement::Ours {
            parent: "/".parse::<GroupPath>().unwrap(),
            name: GroupName::new(name.clone()).unwrap(),
        };
        let plan = Plan::new(&host, &placement, limits, &DevicePolicy::Unrestricted).unwrap();
        let group = plan.create().unwrap();
        let run_dir = dir.path().join("run");
        for made in [&run_dir, &dir.path().join("private"), &dir.path().join("task")] {
            private_dir(made);
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.path().join("task"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let saved = group.saved();
        let order = Launch {
            task: name.clone(),
            run_dir: HostPath::new(&run_dir).unwrap(),
            sandbox: sandbox(dir.path(), script),
            cgroup: saved.clone(),
            features: KernelFeatures::probe().unwrap().into(),
            streams: TaskStreams::Files { stdin: Stream::Null, stdout: Output::Null, stderr: Output::Null },
            on_starter_gone: OnStarterGone::Keep,
            kill_mode: KillMode::Process,
            deadline_ms: 20_000,
        };
        Rig { dir, run_dir, group, saved, shim: None, order, name }
    }

    /// Starts the shim and gives it the order.
    pub(crate) fn try_start(&mut self, streams: Vec<OwnedFd>) -> Result<(Client, Launched), ClientError> {
        let program = program();
        let (mut client, child) = Place { program: &program, cgroup: None, tasks: &[] }.start()?;
        self.shim = Some(child);
        let launched = client.launch(self.order.clone(), &empty_mounts(), streams)?;
        Ok((client, launched))
    }

    pub(crate) fn start(&mut self) -> (Client, Launched) {
        self.try_start(Vec::new()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts with a pipe as standard output; its read end comes back.
    pub(crate) fn start_with_output(&mut self) -> (Client, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        self.order.streams =
            TaskStreams::Files { stdin: Stream::Null, stdout: Output::Given, stderr: Output::Null };
        let (client, _) = self.try_start(vec![writer.into()]).unwrap_or_else(|error| panic!("{error}"));
        (client, reader)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.run_dir).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        let dir = std::fs::File::open(&self.run_dir).unwrap();
        Status::read(dir.as_fd()).unwrap().unwrap()
    }

    pub(crate) fn shim_pid(&self) -> i32 {
        self.shim.as_ref().unwrap().pid
    }

    pub(crate) fn boot_id(&self) -> String {
        bivouac_shim::process::boot_id().unwrap()
    }

    /// Waits for the end of the shim's process.
    pub(crate) fn shim_ends(&mut self) {
        let shim = self.shim.take().unwrap();
        let deadline = Instant::now() + SOON;
        while bivouac_sys::wait::try_reap(shim.pidfd.as_fd()).unwrap().is_none() {
            assert!(Instant::now() < deadline, "the shim does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Destroys the task, whatever it does, and holds that nothing is left.
    pub(crate) fn destroy(mut self) {
        self.client().destroy(Leftovers::Kill).unwrap();
        self.shim_ends();
        self.nothing_left();
    }

    /// Holds that nothing is left.
    pub(crate) fn nothing_left(&self) {
        assert!(!self.run_dir.exists(), "the run directory is left");
        for (hierarchy, _, path) in self.saved.places() {
            assert!(!path.exists(), "the group {} is left in {hierarchy}", path.display());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "a mount is left");
    }

    /// Runs a script in the sandbox.
    pub(crate) fn exec(&self, script: &str, streams: Vec<OwnedFd>) -> Session {
        self.client().exec(self.exec_order(script), streams).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn exec_order(&self, script: &str) -> Exec {
        let mut process = self.order.sandbox.process.clone();
        process.arguments = vec![bytes("-c"), bytes(script)];
        process.init = Init::Command;
        let streams =
            StreamsKind::Files { stdin: Stream::Null, stdout: Stream::Given, stderr: Stream::Given };
        Exec { process, streams, deadline_ms: None }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(shim) = &self.shim {
            let _ = bivouac_sys::signal::send(shim.pidfd.as_fd(), 9);
            let _ = bivouac_sys::wait::reap_blocking(shim.pidfd.as_fd());
        }
        let _ = bivouac_cgroup::remove_saved(&self.saved, Duration::from_secs(10));
    }
}

pub(crate) fn bytes(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes().to_vec())
}

/// Pipes for standard output and error of an exec session: the session's ends, and the readers.
pub(crate) fn output() -> (Vec<OwnedFd>, std::io::PipeReader, std::io::PipeReader) {
    let (out, out_writer) = std::io::pipe().unwrap();
    let (error, error_writer) = std::io::pipe().unwrap();
    (vec![out_writer.into(), error_writer.into()], out, error)
}

pub(crate) fn read_line(reader: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while reader.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

pub(crate) fn read_all(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// Whether a process of that number lives: zombies do not.
pub(crate) fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a process has open, by number.
pub(crate) fn open_files(pid: i32) -> Vec<(i32, PathBuf)> {
    let mut all: Vec<(i32, PathBuf)> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(entry.path()).ok()?))
        })
        .collect();
    all.sort();
    all
}

pub(crate) fn fd_path(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn sandbox(dir: &Path, script: &str) -> Sandbox {
    let entries = ["/bin", "/lib", "/lib32", "/lib64", "/sbin", "/usr"];
    let entries = entries
        .iter()
        .map(|path| Entry {
            source: HostPath::new(path).unwrap(),
            target: TaskPath::new(path).unwrap(),
            show: Show::ReadOnly,
        })
        .collect();
    let all = CapSet::default();
    Sandbox {
        root: Root {
            task_dir: HostPath::new(dir.join("task")).unwrap(),
            private_dir: HostPath::new(dir.join("private")).unwrap(),
            entries,
            access: Access::ReadWrite,
        },
        mounts: vec![],
        devices: vec![],
        shm_size: 1 << 20,
        namespaces: Namespaces {
            pid: Sharing::Private,
            ipc: Sharing::Private,
            cgroup: Sharing::Host,
            network: Network::Host,
        },
        hostname: None,
        process: Process {
            asked: "sh".into(),
            candidates: vec![Candidate {
                path: TaskPath::new("/bin/sh").unwrap(),
                execute_bit: ExecuteBit::Leave,
            }],
            arguments: vec![bytes("-c"), bytes(script)],
            environment: vec![bytes("PATH=/bin:/usr/bin")],
            work_dir: TaskPath::new("/").unwrap(),
            identity: Identity { uid: 0, gid: 0, groups: vec![0] },
            capabilities: CapabilitySets {
                bounding: all,
                permitted: all,
                effective: all,
                inheritable: CapSet::default(),
                ambient: CapSet::default(),
            },
            confinement: Confinement { gain: PrivilegeGain::Possible, filter: None, landlock: Vec::new() },
            rlimits: vec![],
            oom_score_adj: 0,
            umask: 0o22,
            init: Init::Command,
        },
    }
}
