//! What is measured: a name and the command line that launches `tiny` some number of times.

use crate::task::{OBEDIENT, Task};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All subjects in the order of tables and plots.
pub const SUBJECTS: [&str; 9] =
    ["floor", "engine", "bivouac", "bwrap", "runc", "crun", "bivouac-exec", "runc-exec", "crun-exec"];

/// One subject.
pub struct Subject {
    /// Its name in tables and in the budget.
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Takes `RUNS GAP` after its own arguments and prints rows itself.
    Loops(Vec<String>),
    /// A launcher, timed from outside by the floor's `ext`.
    Launcher { ext: PathBuf, command: Vec<String> },
}

impl Subject {
    /// The command for so many launches with a pause in microseconds before each.
    #[must_use]
    pub fn command(&self, runs: u32, gap: u32) -> Command {
        let (runs, gap) = (runs.to_string(), gap.to_string());
        match &self.kind {
            Kind::Loops(words) => {
                let mut words = words.iter();
                let mut command = Command::new(words.next().map_or("", String::as_str));
                command.args(words).args([runs, gap]);
                command
            }
            Kind::Launcher { ext, command: words } => {
                let mut command = Command::new(ext);
                command.args([self.name, &runs, &gap, "--"]).args(words);
                command
            }
        }
    }
}

/// Whether this machine has cgroup v2 and nothing else.
#[must_use]
pub fn is_pure_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Containers of the runtimes that commands are executed in; removed when dropped.
#[derive(Default)]
pub struct Sleepers {
    started: Vec<(String, String)>,
    task: Option<Task>,
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for (runtime, id) in &self.started {
            let _gone = crate::ground::run(runtime, &["delete", "--force", id]);
        }
    }
}

/// The floor programs, built in a folder of their own, and `tiny` at a path that every root shows.
pub struct Floor {
    folder: tempfile::TempDir,
    tiny: PathBuf,
}

impl Floor {
    /// Compiles the C sources.
    ///
    /// # Errors
    /// gcc, make or libseccomp's header are missing, or `/usr/local/bin` is read-only.
    pub fn build() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bivouac-floor-")
            .tempdir_in("/var/tmp")
            .context("no folder in /var/tmp")?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor");
        for name in ["Makefile", "floor.h", "launch.c", "ext.c", "tiny.S"] {
            std::fs::copy(sources.join(name), folder.path().join(name))
                .with_context(|| format!("cannot copy floor/{name}"))?;
        }
        let output = Command::new("make")
            .arg("-s")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .context("cannot start make")?;
        if !output.status.success() {
            bail!("the floor programs do not build: {}", String::from_utf8_lossy(&output.stderr));
        }
        let tiny = PathBuf::from(format!("/usr/local/bin/bivouac-bench-tiny-{}", std::process::id()));
        std::fs::copy(folder.path().join("tiny"), &tiny)
            .with_context(|| format!("cannot write {}", tiny.display()))?;
        Ok(Self { folder, tiny })
    }

    /// The program that tells the time of its first instruction, at a path that every root shows.
    #[must_use]
    pub fn tiny(&self) -> &Path {
        &self.tiny
    }

    /// Everything that can be measured here, the floor first.
    ///
    /// # Errors
    /// The bundle for runc and crun cannot be written.
    pub fn subjects(&self, dist: &Path, engine: Option<&Path>) -> Result<Vec<Subject>> {
        let tiny = self.tiny.display().to_string();
        let letters = if is_pure_v2() { "nurRpdsmcQ" } else { "n1DRpdsmcQ" };
        let own = |name: &str| self.folder.path().join(name).display().to_string();
        let mut found =
            vec![Subject { name: "floor", kind: Kind::Loops(vec![own("launch"), letters.into()]) }];
        if let Some(engine) = engine {
            found.push(Subject {
                name: "engine",
                kind: Kind::Loops(vec![engine.display().to_string(), own("tiny")]),
            });
        }
        let mut launcher = |name, command: Vec<String>| {
            found.push(Subject {
                name,
                kind: Kind::Launcher { ext: self.folder.path().join("ext"), command },
            });
        };
        launcher(
            "bivouac",
            vec![
                dist.join("bivouac").display().to_string(),
                "run".into(),
                "--quiet".into(),
                "--".into(),
                tiny.clone(),
            ],
        );
        if let Some(bwrap) = program("bwrap") {
            launcher("bwrap", bubblewrap(&bwrap, &tiny));
        }
        let bundle = self.bundle("bundle", &[&self.tiny.display().to_string()])?;
        for name in ["runc", "crun"] {
            // Debian's crun refuses a machine with both kinds of cgroups.
            if let Some(path) = program(name).filter(|_| name == "runc" || is_pure_v2()) {
                let id = format!("bivouac-bench-{}", std::process::id());
                launcher(name, vec![path, "run".into(), "--bundle".into(), bundle.display().to_string(), id]);
            }
        }
        Ok(found)
    }

    /// Commands executed in something that runs already.
    ///
    /// # Errors
    /// A task or container does not start.
    pub fn exec_subjects(&self, dist: &Path, sleepers: &mut Sleepers) -> Result<Vec<Subject>> {
        let tiny = self.tiny.display().to_string();
        let ext = || self.folder.path().join("ext");
        let task = sleepers.task.insert(Task::start(dist, &[], OBEDIENT)?);
        let words = [dist.join("bivouac").display().to_string(), "exec".into(), task.name.clone()];
        let command = words.into_iter().chain(["--".into(), tiny.clone()]).collect();
        let mut found = vec![Subject { name: "bivouac-exec", kind: Kind::Launcher { ext: ext(), command } }];
        let bundle = self.bundle("sleeper", &["/usr/bin/sleep", "1000"])?.display().to_string();
        for (runtime, name) in [("runc", "runc-exec"), ("crun", "crun-exec")] {
            let Some(path) = program(runtime).filter(|_| runtime == "runc" || is_pure_v2()) else { continue };
            let id = format!("bivouac-bench-{runtime}-{}", std::process::id());
            sleepers.started.push((path.clone(), id.clone()));
            // Its streams are not ours: a pipe would stay open as long as it runs.
            let started = Command::new(&path)
                .args(["run", "--detach", "--bundle", &bundle, &id])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !started.with_context(|| format!("cannot start {runtime}"))?.success() {
                bail!("{runtime} does not start a container that sleeps");
            }
            let command = vec![path, "exec".into(), id, tiny.clone()];
            found.push(Subject { name, kind: Kind::Launcher { ext: ext(), command } });
        }
        Ok(found)
    }

    /// The nearest an OCI runtime comes to a default task of ours; without a filter, as Debian's default has none.
    fn bundle(&self, name: &str, command: &[&str]) -> Result<PathBuf> {
        let bundle = self.folder.path().join(name);
        let root = bundle.join("rootfs");
        for name in ["usr", "etc", "proc", "dev", "sys", "tmp", "alloc", "local", "secrets"] {
            std::fs::create_dir_all(root.join(name)).context("cannot make the bundle")?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))
                .context("cannot make the bundle")?;
        }
        let config = oci_config(command);
        std::fs::write(bundle.join("config.json"), config.to_string()).context("cannot write config.json")?;
        Ok(bundle)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.tiny);
    }
}

/// Where a peer lies: the virtual machine has its own, in memory, in front of the system's.
fn program(name: &str) -> Option<String> {
    let folders = std::env::var("PATH").unwrap_or_default();
    let mut paths = folders.split(':').map(|folder| format!("{folder}/{name}"));
    paths.find(|path| Path::new(path).is_file())
}

fn bubblewrap(bwrap: &str, tiny: &str) -> Vec<String> {
    let options = "--unshare-pid --unshare-ipc --unshare-uts --ro-bind /usr /usr --ro-bind /etc /etc \
                   --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
                   --proc /proc --dev /dev --tmpfs /tmp --new-session --";
    std::iter::once(bwrap).chain(options.split_whitespace()).chain([tiny]).map(str::to_owned).collect()
}

fn oci_config(command: &[&str]) -> Value {
    const CAPS: [&str; 14] = [
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];
    let bind = |path: &str| json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro", "nosuid", "nodev"]});
    let fresh = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 65534, "gid": 65534}, "args": command, "env": ["PATH=/usr/bin"], "cwd": "/",
            "capabilities": {"bounding": CAPS},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "bench",
        "mounts": [
            fresh("/proc", "proc", &[]),
            fresh("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            fresh("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            fresh("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            fresh("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            fresh("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            bind("/usr"), bind("/etc"),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 268_435_456}, "cpu": {"shares": 512}, "pids": {"limit": 512},
            },
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
