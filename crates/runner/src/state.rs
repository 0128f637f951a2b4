//! What is kept on disk: plans, how things stand, and the locks of supervisors.
//!
//! Below the state directory: `allocs/<id>` (the tasks' own directories), `state/<id>` (`plan.json`, `state.json`,
//! `lock`, `control`), `jobs/<name>` (what is started later), `volumes/<name>` and `disks/<job>.<group>[<index>]`. Every file is written beside its place,
//! synced where it must survive the machine, and renamed. Whoever holds `lock` is the supervisor.

mod document;

pub use document::Care;
pub(crate) use document::{read, write};

use crate::allocation::Allocation;
use crate::checks::Health;
use crate::disk_limit::Way;
use crate::events::Journal;
use crate::lifecycle::{Machine, Status};
use crate::network::{Attached, Settings};
use crate::registry::Submission;
use bivouac_shim::process::{Moment, ProcessId, boot_id};
use bivouac_sys::replace::Nameless;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of the files; a reader takes its own and older ones.
pub const VERSION: u32 = 1;
const STATE: &str = "state.json";

/// How long somebody who only looks may hold a lock.
const LOOKED_AT: Duration = Duration::from_millis(500);

/// Why something on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk's answer.
    #[error("cannot {what} {}: {error}{}", path.display(), hint(error))]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: std::io::Error,
    },
    /// Cut short, or not ours.
    #[error("{} is damaged: {text}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// Of a later version.
    #[error("{} is of version {version}, this program knows {VERSION}; use the program that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Somebody supervises it.
    #[error("the allocation {id} has a supervisor already")]
    Supervised {
        /// Which.
        id: String,
    },
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; Bivouac must run as root",
        std::io::ErrorKind::ReadOnlyFilesystem => "; choose another with --state-dir",
        std::io::ErrorKind::StorageFull => "; the disk is full",
        _ => "",
    }
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> StateError {
    move |error| StateError::File { what, path: path.to_owned(), error }
}

/// The state directory, and how what is made in it is limited.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    disk: Way,
}

impl Home {
    /// At this absolute path.
    pub fn new(path: impl Into<PathBuf>) -> Home {
        Home { path: path.into(), disk: Way::Off }
    }

    /// The same, where new allocations have disks of the size that their job says.
    pub fn with_disks(self, disk: Way) -> Home {
        Home { disk, ..self }
    }

    /// How disks of new allocations are kept to their size.
    pub fn disk(&self) -> Way {
        self.disk
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the tasks' directories of an allocation lie.
    pub fn alloc_dir(&self, id: &str) -> PathBuf {
        self.path.join("allocs").join(id)
    }

    /// Where what is known of an allocation lies.
    pub fn keep(&self, id: &str) -> Keep {
        Keep { id: id.to_owned(), path: self.path.join("state").join(id) }
    }

    /// Where a job of this name is written down, if it is started later.
    pub fn job(&self, name: &str) -> Keep {
        Keep { id: name.to_owned(), path: self.path.join("jobs").join(escaped(name)) }
    }

    /// Named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// Sticky disks that wait for their next run.
    pub fn disks(&self) -> PathBuf {
        self.path.join("disks")
    }

    /// Every allocation that something is known of, sorted.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn list(&self) -> Result<Vec<Keep>, StateError> {
        Ok(names(&self.path.join("state"))?.iter().map(|name| self.keep(name)).collect())
    }

    /// Every job that is written down, sorted.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn jobs(&self) -> Result<Vec<Keep>, StateError> {
        let keep = |name: String| Keep { id: unescaped(&name), path: self.path.join("jobs").join(name) };
        Ok(names(&self.path.join("jobs"))?.into_iter().map(keep).collect())
    }
}

/// The names in a directory, sorted; none when it is not there.
fn names(path: &Path) -> Result<Vec<String>, StateError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", path))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Any text as one file name, each as its own: what is not plain is written as `%` and two digits.
fn escaped(text: &str) -> String {
    let plain = |at: usize, byte: u8| {
        byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (byte == b'.' && at > 0)
    };
    let name: String = text
        .bytes()
        .enumerate()
        .map(|(at, byte)| if plain(at, byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    if name.is_empty() { "%".to_owned() } else { name }
}

/// The text that became this file name.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.extend(digits);
        rest = after.get(2..).unwrap_or("");
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is known of one allocation.
#[derive(Clone, Debug)]
pub struct Keep {
    id: String,
    path: PathBuf,
}

/// The proof that this process supervises an allocation.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Keep {
    /// The allocation's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, root's alone, and takes its lock.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn make(&self) -> Result<Lock, StateError> {
        let builder = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        builder(&self.path).map_err(failed("make", &self.path))?;
        self.lock()
    }

    /// Takes the lock, which the kernel gives back when this process ends.
    ///
    /// # Errors
    /// [`StateError::Supervised`].
    pub fn lock(&self) -> Result<Lock, StateError> {
        self.lock_within(LOOKED_AT)
    }

    /// Takes the lock, and waits so long for whoever has it.
    ///
    /// # Errors
    /// [`StateError::Supervised`].
    pub(crate) fn lock_within(&self, patience: Duration) -> Result<Lock, StateError> {
        let path = self.path.join("lock");
        let options = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let file = options.map_err(failed("open", &path))?;
        let end = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                // Whoever only looks holds it for an instant.
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(LOOKED_AT / 100);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StateError::Supervised { id: self.id.clone() });
                }
                Err(errno) => return Err(failed("lock", &path)(errno.into())),
            }
        }
    }

    /// Whether somebody supervises it at this moment.
    pub fn is_supervised(&self) -> bool {
        let Ok(file) = File::open(self.path.join("lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Writes the plan down, before anything of it is made.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn write_plan(&self, plan: &Plan, care: Care) -> Result<(), StateError> {
        write(&self.path, "plan.json", plan, care)
    }

    /// Comes back when the plan would survive a loss of power.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn sync_plan(&self) -> Result<(), StateError> {
        for path in [self.path.join("plan.json"), self.path.clone()] {
            match File::open(&path).and_then(|file| file.sync_all()) {
                // It is over and removed already.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                other => other.map_err(failed("write", &path))?,
            }
        }
        Ok(())
    }

    /// Reads the plan.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn plan(&self) -> Result<Plan, StateError> {
        read(&self.path.join("plan.json"))
    }

    /// Writes down how things stand.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn write(&self, state: &State, care: Care) -> Result<(), StateError> {
        write(&self.path, STATE, state, care)
    }

    /// The same; what was written before goes to `nameless`.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn rewrite(&self, state: &State, care: Care, nameless: &mut Nameless) -> Result<(), StateError> {
        document::write_over(&self.path, STATE, state, care, nameless)
    }

    /// Reads how things stand; `None` before the first time.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn state(&self) -> Result<Option<State>, StateError> {
        match read(&self.path.join(STATE)) {
            Err(StateError::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Forgets the allocation. Its lock goes last, so that nobody takes half of it for whole.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn remove(&self) -> Result<(), StateError> {
        for name in ["control", "supervisor.log", STATE, "plan.json", "lock"] {
            let path = self.path.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// What a supervisor is told to do, once and for all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// The allocation.
    pub allocation: Allocation,
    /// Whether it comes back after a reboot.
    pub on_boot: OnBoot,
    /// Whether somebody waits in the foreground.
    pub face: Face,
    /// The operator's configuration, if it was named.
    pub config: Option<PathBuf>,
    /// The job that it belongs to, as it was asked for; nothing for a command.
    #[serde(default)]
    pub submission: Option<Submission>,
    /// How its network is made, and unmade by whoever comes after a crash.
    #[serde(default)]
    pub network: Settings,
}

/// What a reboot means to an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBoot {
    /// Its end.
    Forget,
    /// `bivouac resume` starts it again.
    Restart,
}

/// Who waits for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// A person: their end is its end.
    Foreground,
    /// Nobody.
    Detached,
}

/// How things stand with an allocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// The boot that its times belong to.
    pub boot_id: String,
    /// The allocation's id.
    pub id: String,
    /// `job.group[index]`.
    pub name: String,
    /// The job.
    pub job: String,
    /// The group.
    pub group: String,
    /// When it was made: nanoseconds since 1970.
    pub created: i64,
    /// Who waits for it.
    pub face: Face,
    /// The supervisor that wrote this.
    pub supervisor: ProcessId,
    /// As a whole.
    pub status: Status,
    /// Why it ended, in words, where that is worth saying.
    pub description: String,
    /// Its network: what is to be taken down, also after a crash.
    #[serde(default)]
    pub network: Option<Attached>,
    /// When the longest run allowed is over: nanoseconds since 1970.
    #[serde(default)]
    pub run_until: Option<i64>,
    /// Its tasks.
    pub tasks: Vec<TaskState>,
    /// The supervisor's own.
    pub machine: Machine,
}

/// How things stand with a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// Its name.
    pub name: String,
    /// Its host process, while it runs.
    pub pid: Option<i32>,
    /// Where its command was found in the task.
    pub command: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was started last: nanoseconds since 1970.
    pub started: Option<i64>,
    /// When it ended last.
    pub finished: Option<i64>,
    /// Its last status.
    pub exit_code: Option<i32>,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Processes killed for lack of memory.
    pub oom_kills: u64,
    /// What its checks said last, by their name.
    #[serde(default)]
    pub checks: BTreeMap<String, Health>,
    /// The last ten things that happened to it.
    pub events: Journal,
}

impl State {
    /// Before anything has happened.
    pub fn fresh(plan: &Plan) -> State {
        let allocation = &plan.allocation;
        let machine = allocation.machine();
        let names = allocation.tasks.iter().map(|task| task.member.name.clone());
        let created = Moment::now().unix_nanos;
        let longest =
            allocation.max_run_duration.map(|longest| i64::try_from(longest.as_nanos()).unwrap_or(i64::MAX));
        State {
            version: VERSION,
            boot_id: boot_id().unwrap_or_default(),
            id: allocation.id.clone(),
            name: allocation.name.clone(),
            job: allocation.job.clone(),
            group: allocation.group.clone(),
            created,
            face: plan.face,
            supervisor: ProcessId { pid: 0, start_time: 0 },
            status: machine.status(),
            description: String::new(),
            network: None,
            run_until: longest.map(|longest| created.saturating_add(longest)),
            tasks: names.map(|name| TaskState { name, ..TaskState::default() }).collect(),
            machine,
        }
    }

    /// The same, supervised by this process.
    #[must_use]
    pub fn supervised_here(self) -> State {
        let own = i32::try_from(std::process::id()).ok().and_then(|pid| ProcessId::of(pid).ok());
        State { supervisor: own.unwrap_or(ProcessId { pid: 0, start_time: 0 }), ..self }
    }

    /// Whether its times are of this boot.
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_file_name_and_comes_back() {
        for text in ["web", "a.b-c_d", "..", ".x", "", "ä ö", "a%2Fb", "a/b", "x\ny"] {
            let name = escaped(text);
            assert!(!name.contains('/') && !name.starts_with('.') && !name.is_empty(), "{name}");
            assert_eq!(unescaped(&name), text);
        }
    }

    #[test]
    fn a_lock_is_one_supervisors() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Home::new(dir.path()).keep("a");
        assert!(!keep.is_supervised());
        let lock = keep.make().unwrap();
        assert!(keep.is_supervised());
        assert!(matches!(keep.lock(), Err(StateError::Supervised { .. })));
        drop(lock);
        assert!(!keep.is_supervised());
        let _again = keep.lock().unwrap();
        keep.remove().unwrap();
        assert_eq!(Home::new(dir.path()).list().unwrap().len(), 0);
    }
}
