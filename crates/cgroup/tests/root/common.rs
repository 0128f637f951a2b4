//! What the tests as root share: a scope of their own in every hierarchy, and children that take the entrance.

use bivouac_cgroup::{
    Controller, DevicePolicy, Entrance, Group, GroupName, GroupPath, Host, Layout, Limits, Placement, Plan,
    remove_empty_parents,
};
use bivouac_sys::exec::StringArray;
use bivouac_sys::spawn::{Executable, Spawn, spawn};
use bivouac_sys::wait::{Ending, reap_blocking, try_reap};
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Long enough for the virtual machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What marks the version 2 hierarchy in the mount table.
pub(crate) const UNIFIED: &str = " - cgroup2 ";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A parent of one test; at its end nothing may be left below it.
pub(crate) struct Scope {
    pub(crate) host: Host,
    pub(crate) parent: GroupPath,
}

impl Scope {
    /// On this machine as it is; `None` (and a line) when not root.
    pub(crate) fn new(test: &str) -> Option<Scope> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: {test}: needs root");
            return None;
        }
        Some(Scope::on(Host::detect().unwrap()))
    }

    /// As if this machine had no version 2; `None` (and a line) when it has nothing else.
    pub(crate) fn without_unified(test: &str) -> Option<Scope> {
        let whole = Scope::new(test)?;
        if whole.host.layout() == Layout::V2 {
            println!("SKIPPED: {test}: this machine has no cgroup v1");
            return None;
        }
        Some(Scope::on(host_without(&[UNIFIED])))
    }

    pub(crate) fn on(host: Host) -> Scope {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The process number alone is not unique: another run may stand in another pid namespace.
        let moment = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
        let name = format!("bivouac-test-{}-{number}-{moment:x}", std::process::id());
        Scope { host, parent: GroupName::new(name).unwrap().into() }
    }

    pub(crate) fn placement(&self, name: &str) -> Placement {
        Placement::Ours { parent: self.parent.clone(), name: GroupName::new(name).unwrap() }
    }

    pub(crate) fn plan(&self, name: &str, limits: &Limits) -> Plan {
        Plan::new(&self.host, &self.placement(name), limits, &DevicePolicy::Unrestricted).unwrap()
    }

    pub(crate) fn group(&self, limits: &Limits) -> Group {
        self.plan("g", limits).create().unwrap()
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.host.layout() == Layout::V2
    }

    /// Every mount point of a hierarchy.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let v1 = Controller::ALL.into_iter().filter_map(|controller| self.host.v1_mount(controller));
        let mut mounts: Vec<PathBuf> = v1.chain(self.host.unified_mount()).map(Path::to_owned).collect();
        mounts.dedup();
        mounts
    }

    /// Directories of this scope in any hierarchy, the parent itself included.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for mount in self.mounts() {
            let mut stack = vec![self.parent.below(&mount)];
            while let Some(path) = stack.pop() {
                let Ok(entries) = std::fs::read_dir(&path) else { continue };
                left.push(path);
                stack.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
            }
        }
        left
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        remove_empty_parents(&self.host, &self.parent).unwrap();
        let left = self.left();
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left behind: {left:?}");
        }
    }
}

/// The mount table without the lines that contain one of `texts`, as a host.
pub(crate) fn host_without(texts: &[&str]) -> Host {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines: Vec<&str> =
        table.lines().filter(|line| !texts.iter().any(|text| line.contains(text))).collect();
    Host::parse(&lines.join("\n")).unwrap()
}

/// A child in a group; killed and reaped when dropped.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    pub(crate) output: std::io::PipeReader,
    reaped: bool,
}

/// Starts `sh -c script` through the entrance.
pub(crate) fn start(group: &Group, script: &str) -> Process {
    run(&group.entrance().unwrap(), "/bin/sh", &["sh", "-c", script], &[])
}

pub(crate) fn run(entrance: &Entrance, program: &str, arguments: &[&str], environment: &[&str]) -> Process {
    let strings =
        |list: &[&str]| StringArray::new(list.iter().map(|text| CString::new(*text).unwrap()).collect());
    let (output, writer) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let tasks: Vec<_> = entrance.tasks.iter().map(AsFd::as_fd).collect();
    let environment: Vec<&str> =
        ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"].iter().chain(environment).copied().collect();
    let child = spawn(&Spawn {
        program: Executable::At(&CString::new(program).unwrap()),
        arguments: &strings(arguments),
        environment: &strings(&environment),
        descriptors: &[null.as_fd(), writer.as_fd(), writer.as_fd()],
        cgroup: entrance.unified.as_ref().map(AsFd::as_fd),
        tasks: &tasks,
    })
    .unwrap();
    Process { pid: child.pid, pidfd: child.pidfd, output, reaped: false }
}

impl Process {
    /// Waits for the end of it.
    pub(crate) fn wait(mut self) -> (Ending, String) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        self.reaped = true;
        (reap_blocking(self.pidfd.as_fd()).unwrap().ending, text)
    }

    /// Waits until it has written a line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0u8];
        while self.output.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        if !self.reaped && try_reap(self.pidfd.as_fd()).unwrap().is_some() {
            self.reaped = true;
        }
        !self.reaped
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
            let _ = reap_blocking(self.pidfd.as_fd());
        }
    }
}

/// Asks until the answer is yes.
pub(crate) fn eventually(what: &str, mut yes: impl FnMut() -> bool) {
    let start = Instant::now();
    while !yes() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The text of a file of the group, without the newline.
pub(crate) fn read(group: &Group, controller: Controller, file: &str) -> String {
    let path = group.path(controller).unwrap().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}
