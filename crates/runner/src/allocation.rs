//! An allocation as it is written down: everything about one running instance of a group that was decided before it
//! starts, so that any supervisor can take it up again.

use crate::checks::Check;
use crate::disk_limit::Limit;
use crate::files::Files;
use crate::inputs::Inputs;
use crate::lifecycle::{Machine, Member};
use crate::memory;
use crate::network::Attached;
use crate::secrets::Values;
use crate::wiring::Wiring;
use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_driver::config::{DeviceAsked, Dns, TaskConfig};
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::options::Value;
use bivouac_driver::request::{Directories, Secrets, StopRule, TaskRequest};
use bivouac_driver::resources::{MemoryMax, Resources};
use bivouac_driver::signals::{Signal, UnknownSignal};
use bivouac_jobspec::{Action, Diagnostics, Logs, Secret};
use bivouac_sandbox::HostPath;
use bivouac_sandbox::memory::Memory;
use bivouac_sandbox::model::{Hostname, Mount, MountKind, Network};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below this, which lies in memory, each allocation has a directory for its secrets.
pub const SECRETS: &str = "/run/bivouac/secrets";

/// One instance of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Allocation {
    /// Its id: a UUID.
    pub id: String,
    /// `job.group[index]`.
    pub name: String,
    /// The job.
    pub job: String,
    /// The group.
    pub group: String,
    /// Which of the group's instances it is.
    pub index: u32,
    /// Its directory.
    pub directory: PathBuf,
    /// Where its tasks' secrets lie: in memory, gone with a reboot.
    pub secrets: PathBuf,
    /// The directory of all allocations, which no task may see.
    pub state_dir: PathBuf,
    /// Wait before any of its tasks is killed.
    pub shutdown_delay: Duration,
    /// It is ended after this long.
    pub max_run_duration: Option<Duration>,
    /// Its disk.
    pub disk: Disk,
    /// How that is kept to its size.
    #[serde(default)]
    pub limit: Limit,
    /// Its network.
    #[serde(default)]
    pub wiring: Wiring,
    /// Its tasks, in the order of the file.
    pub tasks: Vec<PlannedTask>,
}

/// What becomes of an allocation's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disk {
    /// It goes with the allocation.
    #[default]
    Ephemeral,
    /// `alloc/data` and each task's `local` are moved to the next run.
    Sticky,
}

/// One task of an allocation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedTask {
    /// What people see.
    pub label: String,
    /// Its part in the group.
    pub member: Member,
    /// Signal that asks it to stop.
    pub kill_signal: String,
    /// Its log files, when nobody watches it.
    pub logs: Logs,
    /// Named commands to run in it.
    pub actions: Vec<Action>,
    /// Files that are there before it starts.
    #[serde(default)]
    pub planted: Vec<Planted>,
    /// Values that its texts name as `${secret.NAME.KEY}`.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// MiB of memory for its `/secrets`; 0 is a plain directory.
    #[serde(default)]
    pub secrets_mib: u64,
    /// How long what it keeps there lasts.
    #[serde(default)]
    pub secrets_last: SecretsLast,
    /// Checks of its services.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What it gets before it starts.
    pub inputs: Inputs,
    /// What the driver is asked.
    pub order: Order,
}

/// How long what a task keeps in `/secrets` lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretsLast {
    /// As long as the allocation: over restarts of the task and of its supervisor, which writes there too. For that
    /// the memory is mounted on the host.
    #[default]
    Allocation,
    /// As long as one run: nobody but the task writes there, and the memory is in its sandbox only.
    Run,
}

/// A file that is there before a task starts: a dispatched payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// Where, below the task's directory.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl PlannedTask {
    /// The signal that asks it to stop.
    ///
    /// # Errors
    /// A name that no signal has.
    pub fn kill_signal(&self) -> Result<Signal, UnknownSignal> {
        Signal::parse(&self.kill_signal)
    }

    fn secrets_bytes(&self) -> u64 {
        self.secrets_mib.saturating_mul(1 << 20)
    }
}

/// What the driver is asked, as far as it does not follow from the allocation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// For messages.
    pub name: String,
    /// The task's options.
    pub config: Value,
    /// The environment, but for what depends on the user.
    pub env: Vec<(String, String)>,
    /// The user that the job names; empty for the default.
    pub user: String,
    /// Limits.
    pub resources: Resources,
    /// How many processors it wants for itself: which, is decided when it starts.
    #[serde(default)]
    pub cores: u32,
    /// Network namespace.
    pub network: Network,
    /// The allocation's host name.
    pub hostname: Option<Hostname>,
    /// The group's name resolution.
    pub dns: Option<Dns>,
    /// Volumes: allowed by whoever asks.
    pub mounts: Vec<Mount>,
    /// Devices: allowed by whoever asks.
    pub devices: Vec<DeviceAsked>,
}

impl Order {
    /// What the task may use at most, in MiB.
    pub fn memory_limit(&self) -> Option<u64> {
        match self.resources.memory_max {
            MemoryMax::Same => self.resources.memory_mib,
            MemoryMax::Mib(mib) => Some(mib),
            MemoryMax::Unlimited => None,
        }
    }
}

/// Why a job cannot become allocations.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// With a place in the job file.
    #[error(transparent)]
    Text(Box<Diagnostics>),
    /// Without one.
    #[error("{0}")]
    Other(String),
}

impl PlanError {
    pub(crate) fn other(error: impl std::fmt::Display) -> PlanError {
        PlanError::Other(error.to_string())
    }

    /// All of several steps are tried; the first failure is told.
    pub(crate) fn all<const N: usize>(results: [Result<(), PlanError>; N]) -> Result<(), PlanError> {
        results.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

/// Whether a run was started by this face: `<allocation>/<task>`. Nomad's have a third part, and their status is
/// kept for Nomad.
pub fn is_ours(id: &str) -> bool {
    id.split('/').count() == 2
}

/// A fresh allocation id.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Allocation {
    /// An allocation for one command from the command line.
    pub fn for_command(id: &str, state_dir: &Path, task: PlannedTask) -> Allocation {
        Allocation {
            id: id.to_owned(),
            name: task.member.name.clone(),
            job: task.member.name.clone(),
            group: task.member.name.clone(),
            index: 0,
            directory: state_dir.join("allocs").join(id),
            secrets: Path::new(SECRETS).join(id),
            state_dir: state_dir.to_owned(),
            shutdown_delay: Duration::ZERO,
            max_run_duration: None,
            disk: Disk::Ephemeral,
            limit: Limit::default(),
            wiring: Wiring::Nothing,
            tasks: vec![task],
        }
    }

    /// Whether one of its tasks mounts something of this directory.
    pub fn mounts_from(&self, directory: &Path) -> bool {
        let mounts = self.tasks.iter().flat_map(|task| &task.order.mounts);
        mounts.into_iter().any(|mount| match &mount.what {
            MountKind::Bind { source, .. } => source.as_path().starts_with(directory),
            _ => false,
        })
    }

    /// The name of a task's run, by which the engine knows it.
    pub fn run_id(&self, task: usize) -> String {
        let name = self.tasks.get(task).map(|task| task.member.name.as_str()).unwrap_or_default();
        format!("{}/{name}", self.id)
    }

    /// The life cycle before anything has happened.
    pub fn machine(&self) -> Machine {
        let members = self.tasks.iter().map(|task| task.member.clone()).collect();
        Machine::new(members, self.shutdown_delay, self.max_run_duration)
    }

    /// What the driver is asked for a task, once its network stands.
    ///
    /// # Errors
    /// As [`Allocation::request`].
    pub fn request_in(
        &self,
        task: usize,
        attached: Option<&Attached>,
        values: &Values,
    ) -> Result<TaskRequest, PlanError> {
        let mut request = self.request_with(task, values)?;
        if let Some(attached) = attached {
            self.wiring.tell(attached, &mut request);
        }
        Ok(request)
    }

    /// What the driver is asked for a task.
    ///
    /// # Errors
    /// [`PlanError::Other`]: a path that is too long, an option that this version refuses.
    pub fn request(&self, task: usize) -> Result<TaskRequest, PlanError> {
        self.request_with(task, &Values::default())
    }

    fn request_with(&self, task: usize, values: &Values) -> Result<TaskRequest, PlanError> {
        let planned = self.tasks.get(task).ok_or_else(|| PlanError::Other(format!("no task {task}")))?;
        let mut order = std::borrow::Cow::Borrowed(&planned.order);
        if !values.is_empty() {
            let order = order.to_mut();
            order.config = values.in_options(&order.config)?;
            for (_, text) in &mut order.env {
                *text = values.in_text(text)?;
            }
        }
        let name = &planned.member.name;
        Ok(TaskRequest {
            id: self.run_id(task),
            name: order.name.clone(),
            directories: self.directories(planned)?,
            config: TaskConfig::decode(&order.config).map_err(PlanError::other)?,
            env: order.env.clone(),
            user: order.user.clone(),
            root: RootRule::Refused,
            pseudo_users: PseudoUsers::Unknown,
            resources: order.resources.clone(),
            placement: self.placement(name)?,
            network: order.network.clone(),
            hostname: order.hostname.clone(),
            address: None,
            dns: order.dns.clone(),
            mounts: order.mounts.clone(),
            devices: order.devices.clone(),
            stop: StopRule {
                signal: planned.kill_signal().map_err(PlanError::other)?,
                grace: planned.member.grace,
            },
        })
    }

    fn directories(&self, planned: &PlannedTask) -> Result<Directories, PlanError> {
        let path = |path: PathBuf| HostPath::new(path).map_err(PlanError::other);
        let (base, task) = (&self.directory, &planned.member.name);
        Ok(Directories {
            task: path(base.join(task))?,
            shared: path(base.join("alloc"))?,
            secrets: match planned.secrets_last {
                SecretsLast::Allocation => Secrets::Directory(path(self.secrets.join(task))?),
                SecretsLast::Run => Secrets::Memory(planned.secrets_bytes()),
            },
            private: path(base.join(".private").join(task))?,
            own: vec![path(self.state_dir.clone())?, path(SECRETS.into())?],
        })
    }

    /// Where a task's group lies: `bivouac/<alloc>.<task>`.
    fn placement(&self, task: &str) -> Result<Placement, PlanError> {
        let parent = GroupPath::ROOT.join(&GroupName::new("bivouac").map_err(PlanError::other)?);
        let name = GroupName::new(format!("{}.{task}", self.id)).map_err(PlanError::other)?;
        Ok(Placement::Ours { parent, name })
    }

    /// Makes the directories: reachable through a directory that only root enters. What is there stays.
    ///
    /// # Errors
    /// What the disk answered, with the path.
    pub fn make_directories(&self) -> Result<(), PlanError> {
        let nobody = (65534, 65534);
        let base = &self.directory;
        if let Some(allocs) = base.parent() {
            make(allocs, 0o711, None)?;
        }
        make(base, 0o711, None)?;
        self.limit.apply(base)?;
        for name in ["alloc", "alloc/logs", "alloc/tmp", "alloc/data"] {
            make(&base.join(name), 0o777, Some(nobody))?;
        }
        make(&base.join(".private"), 0o700, None)?;
        if self.tasks.iter().any(|task| task.secrets_last == SecretsLast::Allocation) {
            make(&self.secrets, 0o700, None)?;
        }
        for planned in &self.tasks {
            let task = &planned.member.name;
            make(&base.join(task), 0o777, Some(nobody))?;
            for (name, mode) in [("local", 0o777), ("tmp", 0o1777)] {
                make(&base.join(task).join(name), mode, Some(nobody))?;
            }
            make(&base.join(".private").join(task), 0o700, None)?;
            if planned.secrets_last == SecretsLast::Allocation {
                make(&self.secrets.join(task), 0o777, Some(nobody))?;
                if planned.secrets_mib > 0 {
                    memory::mount(&self.secrets.join(task), Memory::for_secrets(planned.secrets_bytes()))?;
                }
            }
        }
        Ok(())
    }

    /// Reads the values of its secrets, if it has any and they are not kept already. Whoever starts a run calls
    /// this: its environment is the one that is meant.
    ///
    /// # Errors
    /// A value that cannot be had.
    pub fn gather_secrets(&self) -> Result<(), PlanError> {
        if self.tasks.iter().all(|task| task.secrets.is_empty()) || Values::kept(&self.secrets).is_some() {
            return Ok(());
        }
        let environment = |name: &str| std::env::var(name).ok();
        let gathered = self
            .tasks
            .iter()
            .map(|task| Ok((task.member.name.clone(), Values::gather(&task.secrets, &environment)?)));
        Values::keep(&gathered.collect::<Result<BTreeMap<_, _>, PlanError>>()?, &self.secrets)
    }

    /// Writes the files that are there before the tasks start, through no link that an earlier run may have left.
    ///
    /// # Errors
    /// What the disk answered, with the path.
    pub fn plant(&self) -> Result<(), PlanError> {
        for task in &self.tasks {
            for planted in &task.planted {
                let files = Files::open(&self.directory.join(&task.member.name)).map_err(PlanError::other)?;
                files.write(&planted.path, &planted.bytes, 0o644).map_err(PlanError::other)?;
            }
        }
        Ok(())
    }

    /// Removes them, whatever the tasks have left in them. Never follows a link.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_directories(&self) -> Result<(), PlanError> {
        for task in &self.tasks {
            memory::detach(&self.secrets.join(&task.member.name))?;
        }
        self.limit.undo(&self.directory)?;
        PlanError::all([remove_tree(&self.directory), remove_tree(&self.secrets)])
    }
}

/// Removes a directory with all that is in it; one that is not there is removed already.
pub(crate) fn remove_tree(path: &Path) -> Result<(), PlanError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PlanError::Other(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn make(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), PlanError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| PlanError::other(crate::state::failed("make", path)(error));
    let create = |recursive| std::fs::DirBuilder::new().recursive(recursive).mode(0o711).create(path);
    match create(false) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(true).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let directory = std::fs::symlink_metadata(path).is_ok_and(|status| status.is_dir());
            return if directory { Ok(()) } else { Err(failed(error)) };
        }
        Err(error) => return Err(failed(error)),
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::restart::{OnSuccess, Tracker};
    use crate::state::Home;
    use bivouac_jobspec::{Restart, RestartMode, Role};

    /// An allocation of one task `t`.
    pub(crate) fn sample(home: &Home, id: &str) -> Allocation {
        let policy = Restart {
            attempts: 0,
            interval: Duration::from_secs(60),
            delay: Duration::from_secs(1),
            mode: RestartMode::Fail,
            render_templates: false,
        };
        let task = PlannedTask {
            label: "t".into(),
            member: Member {
                name: "t".into(),
                role: Role::Main,
                leader: false,
                grace: Duration::from_secs(5),
                shutdown_delay: Duration::ZERO,
                tracker: Tracker::new(policy, OnSuccess::Done),
            },
            kill_signal: "SIGINT".into(),
            logs: Logs { max_files: 10, max_file_size_mb: 10, disabled: false },
            actions: Vec::new(),
            planted: Vec::new(),
            secrets: Vec::new(),
            secrets_mib: 0,
            secrets_last: SecretsLast::Allocation,
            checks: Vec::new(),
            inputs: Inputs::default(),
            order: Order {
                name: "t".into(),
                config: Value::map([("command", Value::from("/bin/true"))]),
                env: Vec::new(),
                user: String::new(),
                resources: Resources::default(),
                cores: 0,
                network: Network::Host,
                hostname: None,
                dns: None,
                mounts: Vec::new(),
                devices: Vec::new(),
            },
        };
        let allocation = Allocation::for_command(id, home.path(), task);
        Allocation { secrets: home.path().join("secrets").join(id), ..allocation }
    }

    /// Covers: A1
    #[test]
    fn a1_directories_are_made_when_asked_for_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let allocation = sample(&Home::new(dir.path()), "one");
        assert!(!allocation.directory.exists(), "planning makes nothing");
        allocation.make_directories().unwrap();
        for part in
            ["alloc/data", "alloc/logs", "alloc/tmp", "t/local", "t/tmp", "../../secrets/one/t", ".private/t"]
        {
            assert!(allocation.directory.join(part).is_dir(), "{part}");
        }
        std::fs::write(allocation.directory.join("t/local/x"), "kept").unwrap();
        allocation.make_directories().unwrap();
        assert!(allocation.directory.join("t/local/x").exists(), "twice is a no-op");
        let saved = serde_json::to_string(&allocation).unwrap();
        let read: Allocation = serde_json::from_str(&saved).unwrap();
        assert_eq!(read.request(0).unwrap().config.command, "/bin/true");
        allocation.remove_directories().unwrap();
        allocation.remove_directories().unwrap();
    }
}
