//! A task, resolved: what was asked for, with this host's facts and within what the operator allows, becomes a
//! sandbox and a cgroup plan. Everything that can be refused is refused here, before anything is touched.

mod mounts;
mod process;

use crate::capabilities::{self, Asked, CapabilityError, Granted, Holder};
use crate::config::{KillMode, OperatorConfig, RootMode};
use crate::entries::{self, EntryError, Layers};
use crate::environment::EnvironmentError;
use crate::generated::{self, GenerateError, OwnHost};
use crate::host::{Facts, Files, Kind};
use crate::identity::{self, Account, IdentityError, Numbers, RootRule};
use crate::lookup::{self, CommandError};
use crate::options::{Place, Refused};
use crate::request::TaskRequest;
use crate::resources::{self, ResourceError};
use bivouac_sandbox::model::{Candidate, Entry, Hostname, Namespaces, Network, Root, Sandbox};
use bivouac_sandbox::path::PathError;
use bivouac_sandbox::{HostPath, RootSwitch, TaskPath};
use std::sync::Arc;

/// A task with nothing left to decide.
#[derive(Clone, Debug)]
pub struct Task {
    /// Names the run.
    pub id: String,
    /// For messages.
    pub name: String,
    /// What is launched.
    pub sandbox: Sandbox,
    /// How the host's root is left before it.
    pub root_switch: RootSwitch,
    /// Its control groups.
    pub cgroup: bivouac_cgroup::Plan,
    /// Whom the signal of a stop reaches first, and what lack of memory kills.
    pub kill_mode: KillMode,
    /// What is made in the private directory before the launch.
    pub preparations: Vec<Preparation>,
    /// Who it runs as.
    pub account: Account,
    /// Sentences that a user should read although nothing is wrong.
    pub notes: Vec<String>,
}

/// Something that is made in a task's private directory before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// A text file of mode 0644 in `generated`.
    File {
        /// Its name.
        name: &'static str,
        /// Its text.
        text: String,
    },
    /// A file of the chroot environment, copied into `files` with the execute bit that it lacks.
    Executable {
        /// What is copied.
        from: HostPath,
        /// Its name there.
        name: String,
    },
}

/// Why a task cannot be. The first words are those that users search for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TaskError {
    /// An option.
    #[error("failed driver config validation: {0}")]
    Config(#[from] Refused),
    /// Capabilities that do not exist here, or that nobody can give.
    #[error("failed driver config validation: {0}")]
    Capability(CapabilityError),
    /// Capabilities that the operator does not allow.
    #[error("{0}")]
    NotAllowed(CapabilityError),
    /// The user.
    #[error("failed host user validation: {0}")]
    User(#[from] IdentityError),
    /// The command.
    #[error("failed to launch command with executor: {0}")]
    Command(#[from] CommandError),
    /// The environment or the arguments.
    #[error("failed to launch command with executor: {0}")]
    Environment(#[from] EnvironmentError),
    /// Limits.
    #[error("failed driver config validation: {0}")]
    Resources(#[from] ResourceError),
    /// The control group.
    #[error("cannot plan the task's control group: {0}")]
    Cgroup(Arc<bivouac_cgroup::Error>),
    /// The chroot environment.
    #[error("cannot plan the task's root: {0}")]
    Entry(#[from] EntryError),
    /// DNS, hosts.
    #[error("cannot make the task's name resolution: {0}")]
    Generate(#[from] GenerateError),
    /// A path that is none.
    #[error("{0}")]
    Path(#[from] PathError),
}

impl From<CapabilityError> for TaskError {
    fn from(error: CapabilityError) -> TaskError {
        match error {
            CapabilityError::NotAllowed(_) => TaskError::NotAllowed(error),
            CapabilityError::Unsupported { .. } | CapabilityError::NotHeld(_) => TaskError::Capability(error),
        }
    }
}

impl From<bivouac_cgroup::Error> for TaskError {
    fn from(error: bivouac_cgroup::Error) -> TaskError {
        TaskError::Cgroup(Arc::new(error))
    }
}

/// All that a task is resolved with.
#[derive(Clone, Copy)]
pub struct Resolver<'a> {
    /// What the operator decided.
    pub operator: &'a OperatorConfig,
    /// Facts about the host.
    pub facts: &'a Facts,
    /// Its control groups.
    pub cgroups: &'a bivouac_cgroup::Host,
    /// Its files.
    pub files: &'a dyn Files,
    /// Who makes layers.
    pub layers: &'a dyn Layers,
    /// Who hands out numbers to tasks that name no user.
    pub numbers: &'a dyn Numbers,
}

impl Resolver<'_> {
    /// Resolves one run.
    ///
    /// # Errors
    /// [`TaskError`], the first.
    pub fn resolve(&self, request: &TaskRequest) -> Result<Task, TaskError> {
        let config = &request.config;
        let account = self.account(request)?;
        let granted = self.granted(request, &account)?;
        let mut preparations = self.generated_files(request)?;
        let mounts = self.mounts(request, &preparations)?;
        let limits = resources::limits(&request.resources, &self.bounds(request)?)?;
        let grants = self.devices(request)?;
        let devices = resources::device_policy(&grants);
        let cgroup = bivouac_cgroup::Plan::new(self.cgroups, &request.placement, &limits, &devices)?;
        let mut entries = self.entries(request, &preparations)?;
        let targets: Vec<TaskPath> = entries.iter().map(|entry| entry.target.clone()).collect();
        let over: Vec<TaskPath> = mounts.iter().map(|mount| mount.target.clone()).collect();
        let scene = lookup::Scene { entries: &targets, mounts: &over };
        let candidates = lookup::candidates(&config.command, &scene)?;
        self.make_executable(request, &candidates, &mut entries, &mut preparations)?;
        let process = self.process(request, &account, &granted, candidates)?;
        let sandbox = Sandbox {
            root: Root {
                task_dir: request.directories.task.clone(),
                private_dir: request.directories.private.clone(),
                entries,
                access: config.root_access,
            },
            mounts,
            devices: grants.into_iter().map(|grant| grant.node).collect(),
            shm_size: config.shm_size,
            namespaces: self.namespaces(request),
            hostname: hostname(request).cloned(),
            process,
        };
        Ok(Task {
            root_switch: self.operator.root_switch,
            id: request.id.clone(),
            name: request.name.clone(),
            sandbox,
            cgroup,
            kill_mode: config.kill_mode,
            preparations,
            account,
            notes: self.notes(request, &granted),
        })
    }

    fn account(&self, request: &TaskRequest) -> Result<Account, TaskError> {
        let root = if self.operator.allow_root { RootRule::Allowed } else { request.root };
        let bounds = identity::Bounds {
            root,
            denied_uids: &self.operator.denied_uids,
            denied_gids: &self.operator.denied_gids,
            pseudo: request.pseudo_users,
        };
        let users = &self.facts.users;
        Ok(match self.operator.dynamic_users {
            Some(range) if request.user.is_empty() => {
                identity::of_its_own(range, &request.directories.private, self.numbers, users, &bounds)?
            }
            _ => identity::resolve(&request.user, users, &bounds)?,
        })
    }

    fn granted(&self, request: &TaskRequest, account: &Account) -> Result<Granted, TaskError> {
        let asked = Asked {
            allow: &self.operator.allow_caps,
            add: &request.config.cap_add,
            drop: &request.config.cap_drop,
            // A task may ask for less than the operator gives, not for more.
            ambient: match (self.operator.ambient, request.config.ambient) {
                (crate::config::Ambient::All, Some(own)) => own,
                (operator, _) => operator,
            },
        };
        let root = account.name == "root" && account.identity.uid == 0;
        Ok(capabilities::grant(&asked, if root { Holder::Root } else { Holder::Other }, self.facts.powers)?)
    }

    fn bounds(&self, request: &TaskRequest) -> Result<resources::Bounds, Refused> {
        let config = &request.config;
        let (pids, most) =
            (config.pids_limit.unwrap_or(self.operator.default_pids_limit), self.operator.max_pids_limit);
        if pids > most {
            let text = format!("{pids} is above what the operator allows (max_pids_limit {most})");
            return Err(refused("pids_limit", text));
        }
        Ok(resources::Bounds {
            pids,
            cpu_hard_limit: config.cpu_hard_limit,
            // Only version 2 kills a whole group for lack of memory; a stop signals all of it anywhere.
            kill_mode: if self.kills_groups() { config.kill_mode } else { KillMode::Process },
            processors: self.facts.processors,
        })
    }

    fn kills_groups(&self) -> bool {
        self.cgroups.layout() == bivouac_cgroup::Layout::V2
    }

    fn notes(&self, request: &TaskRequest, granted: &Granted) -> Vec<String> {
        let half = request.config.kill_mode == KillMode::Group && !self.kills_groups();
        let half = half.then(|| {
            "kill_mode = \"group\": a stop signals all processes, but for lack of memory this host's cgroup v1 ends one only"
                .to_owned()
        });
        granted.note.iter().cloned().chain(half).collect()
    }

    fn namespaces(&self, request: &TaskRequest) -> Namespaces {
        Namespaces {
            pid: request.config.pid_mode.unwrap_or(self.operator.default_pid_mode),
            ipc: request.config.ipc_mode.unwrap_or(self.operator.default_ipc_mode),
            cgroup: request.config.cgroup_mode,
            network: request.network.clone(),
        }
    }

    /// Files for /etc that differ from the host's.
    fn generated_files(&self, request: &TaskRequest) -> Result<Vec<Preparation>, TaskError> {
        let resolver = &self.facts.resolver;
        let own_network = request.network != Network::Host;
        // A resolver on the host's loopback does not answer in another network.
        let reachable = resolver.upstream.as_ref().unwrap_or(&resolver.text);
        let mut files = Vec::new();
        if let Some(dns) = request.config.dns.as_ref().or(request.dns.as_ref()) {
            files.push(file("resolv.conf", generated::resolv_conf(dns, reachable)?));
        } else if own_network && resolver.upstream.is_some() {
            files.push(file("resolv.conf", reachable.clone()));
        }
        let name = hostname(request);
        let extra = &request.config.extra_hosts;
        if own_network || name.is_some() || !extra.is_empty() {
            let own = name.map(|name| OwnHost { name: name.clone(), address: request.address });
            let base = (!own_network).then_some(self.facts.hosts.as_str());
            files.push(file("hosts", generated::hosts(base, own.as_ref(), extra)));
        }
        if let Some(name) = name {
            files.push(file("hostname", format!("{}\n", name.as_str())));
        }
        Ok(files)
    }

    fn mode(&self, request: &TaskRequest) -> RootMode {
        request.config.root.unwrap_or(self.operator.default_root)
    }

    fn entries(&self, request: &TaskRequest, files: &[Preparation]) -> Result<Vec<Entry>, TaskError> {
        let generated = generated_dir(request)?;
        let resolves = files.iter().any(|file| matches!(file, Preparation::File { name: "resolv.conf", .. }));
        let mut own = request.directories.own.clone();
        own.push(request.directories.private.clone());
        let scene = entries::Scene {
            chroot_env: &self.operator.chroot_env,
            mode: self.mode(request),
            access: request.config.root_access,
            hide: &self.operator.hide,
            task: &request.directories.task,
            own: &own,
            generated: (!files.is_empty()).then_some(&generated),
            resolver: self.facts.resolver.elsewhere.as_ref().filter(|_| !resolves),
            files: self.files,
            layers: self.layers,
        };
        Ok(entries::resolve(&scene)?)
    }

    /// A file entry that is the command and lacks the execute bit is shown as a copy that has it.
    fn make_executable(
        &self,
        request: &TaskRequest,
        candidates: &[Candidate],
        entries: &mut [Entry],
        preparations: &mut Vec<Preparation>,
    ) -> Result<(), TaskError> {
        for (index, entry) in entries.iter_mut().enumerate() {
            let wanted = candidates.iter().any(|candidate| candidate.path == entry.target);
            let lacking = match self.files.kind(&entry.source) {
                Some(Kind::File(mode)) if wanted => mode & 0o111 != 0o111,
                _ => false,
            };
            if lacking && !self.files.is_link(&entry.source) {
                let name = format!("{index}");
                let copy = request.directories.private.join("files")?.join(&name)?;
                preparations.push(Preparation::Executable { from: entry.source.clone(), name });
                entry.source = copy;
            }
        }
        Ok(())
    }
}

fn file(name: &'static str, text: String) -> Preparation {
    Preparation::File { name, text }
}

fn hostname(request: &TaskRequest) -> Option<&Hostname> {
    request.config.hostname.as_ref().or(request.hostname.as_ref())
}

fn generated_dir(request: &TaskRequest) -> Result<HostPath, PathError> {
    request.directories.private.join("generated")
}

fn refused(option: &str, text: impl std::fmt::Display) -> Refused {
    Refused::at(&Place::top().field(option), text)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod total;
