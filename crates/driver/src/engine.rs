//! The engine: starts resolved tasks, finds them again, stops and removes them. Blocking.
//!
//! Data flow: [`Engine::prepare`] resolves a request ([`crate::task`]) -> [`Engine::start`] writes a record, makes
//! the groups, starts a shim and hands it the sandbox -> [`Engine::find`] gives a connection to the shim, with which
//! everything else is asked. No table of tasks is kept: what is true lies in `/run/bivouac/tasks`, one directory a
//! run, so that any face sees the tasks of every other. A record is written before anything is made; what a crash
//! leaves is found by [`Engine::gc`].

mod cores;
mod disk;
mod empty;
mod error;
mod events;
mod groups;
mod kernel;
mod numbers;
mod placed;
mod record;

pub use cores::{Holder, Turn};
pub use disk::DiskLayers;
pub use error::EngineError;
pub use events::{killed_by_stop, lack_of_memory, sentences};
pub use record::{Handle, Record};

use crate::config::{KillMode, OperatorConfig};
use crate::entries::Layers;
use crate::host::{Facts, FactsError, OnHost};
use crate::identity::Numbers;
use crate::request::{ExecRequest, Output, StarterGone, StopRule, Streams, TaskRequest, TaskStreams};
use crate::signals::Signal;
use crate::task::{Resolver, Task, TaskError};
use bivouac_cgroup::{Entrance, Group, GroupName, GroupPath, Plan};
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::{ExecuteBit, Init, Process};
use bivouac_shim::client::{Client, Launched, Place, Program, Session, Watch};
pub use bivouac_shim::protocol::Leftovers;
use bivouac_shim::protocol::{self, Exec, Launch, OnStarterGone, Stream, StreamsKind, TaskStats};
use bivouac_shim::recover::{self, Found};
use bivouac_shim::status::{Exit, Status};
use bivouac_sys::clone::Child;
use bivouac_sys::features::KernelFeatures;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How long setting up a sandbox may take: a mount that hangs, a memory limit that lets nothing in.
const LAUNCH_DEADLINE_MS: u64 = 30_000;
/// How long the kernel may take to let go of a group whose processes have been killed.
const REMOVE_DEADLINE: Duration = Duration::from_secs(5);

/// Where an engine keeps its things.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/run/bivouac`: gone with a reboot, as the tasks are.
    pub run: PathBuf,
    /// Where copies of host directories are kept (`root = "copy"`).
    pub copies: PathBuf,
    /// The shim's program.
    pub shim: PathBuf,
    /// The group in which all shims live, below the top of every hierarchy.
    pub shims: String,
}

impl Places {
    /// The usual places; the shim lies beside the running program, or where `BIVOUAC_SHIM` says.
    pub fn usual() -> Places {
        let shim = Places::shim_of(&std::env::current_exe().unwrap_or_default());
        let (run, copies) = ("/run/bivouac".into(), "/var/lib/bivouac/copies".into());
        Places { run, copies, shim, shims: "bivouac-shims".into() }
    }

    /// The shim that a program of ours starts, if its environment is like ours.
    pub fn shim_of(program: &Path) -> PathBuf {
        let beside = || program.with_file_name("bivouac-shim");
        std::env::var_os("BIVOUAC_SHIM").map_or_else(beside, PathBuf::from)
    }
}

/// A task that was started.
pub struct Started {
    /// What finds it again after a restart of the face. Holds no secrets.
    pub handle: Handle,
    /// Its first process, by its number on the host.
    pub pid: i32,
    /// Where the command was found in the task.
    pub command: String,
    /// The master of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// Sentences that a user should read.
    pub notes: Vec<String>,
    /// As [`Engine::placed`] says.
    pub placed: Vec<PathBuf>,
    /// The connection of the starter. With [`StarterGone::Stop`] the task ends when it is dropped.
    pub client: Client,
}

/// How things stand with a run.
pub enum Standing {
    /// Its shim lives: ask it.
    Alive(Box<Client>),
    /// It has ended, and its shim with it.
    Ended(Box<Status>, Exit),
    /// Its shim died before it could tell how the task ended. The text says what is known.
    Lost(String),
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    places: Places,
    features: KernelFeatures,
    cgroups: bivouac_cgroup::Host,
    layers: DiskLayers,
    numbers: numbers::DiskNumbers,
    /// The group of all shims, made when the first of them starts.
    shims: Plan,
    program: OnceLock<Program>,
    empty: empty::Kept,
    children: Mutex<Vec<Child>>,
}

impl Engine {
    /// Makes the directories of the engine.
    ///
    /// # Errors
    /// [`EngineError`]: not root, no cgroups, a directory that is somebody else's.
    pub fn new(places: Places) -> Result<Engine, EngineError> {
        let cgroups = bivouac_cgroup::Host::detect()?;
        let run = disk::private_directory(&places.run)?;
        disk::private_directory(&places.run.join("tasks"))?;
        let features = kernel::features(run.as_fd()).map_err(|errno| {
            FactsError(format!("making a scratch file system: {errno}; Bivouac must run as root"))
        })?;
        let shims = Plan::shared(&cgroups, &GroupPath::ROOT, &GroupName::new(places.shims.clone())?);
        let layers = DiskLayers::new(&places);
        let numbers = numbers::DiskNumbers(places.run.join("numbers"));
        let (program, empty, children) = (OnceLock::new(), empty::Kept::default(), Mutex::default());
        Ok(Engine { places, features, cgroups, layers, numbers, shims, program, empty, children })
    }

    /// The host's control groups, for placing tasks.
    pub fn cgroups(&self) -> &bivouac_cgroup::Host {
        &self.cgroups
    }

    /// The way into the group of the shims, for a supervisor that must live as long as they do.
    ///
    /// # Errors
    /// [`EngineError::Cgroup`].
    pub fn shims_entrance(&self) -> Result<Entrance, EngineError> {
        Ok(self.shims.enter()?)
    }

    /// What the kernel can do.
    pub fn features(&self) -> &KernelFeatures {
        &self.features
    }

    /// Resolves a request: every refusal that needs no doing happens here.
    ///
    /// # Errors
    /// [`EngineError::Task`], [`EngineError::Facts`].
    pub fn prepare(&self, operator: &OperatorConfig, request: &TaskRequest) -> Result<Task, EngineError> {
        self.resolve(operator, request, &self.layers, &self.numbers)
    }

    /// The same without making layers on disk, to print a plan.
    ///
    /// # Errors
    /// As [`Engine::prepare`].
    pub fn rehearse(&self, operator: &OperatorConfig, request: &TaskRequest) -> Result<Task, EngineError> {
        self.resolve(operator, request, &crate::entries::DryLayers, &crate::identity::DryNumbers)
    }

    fn resolve(
        &self,
        operator: &OperatorConfig,
        request: &TaskRequest,
        layers: &dyn Layers,
        numbers: &dyn Numbers,
    ) -> Result<Task, EngineError> {
        let facts = Facts::of_host(self.features)?;
        let resolver =
            Resolver { operator, facts: &facts, cgroups: &self.cgroups, files: &OnHost, layers, numbers };
        Ok(resolver.resolve(request)?)
    }

    /// Starts a task. Comes back when its command runs; after an error nothing of it is left.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn start(
        &self,
        request: &TaskRequest,
        task: &Task,
        streams: TaskStreams,
        gone: StarterGone,
    ) -> Result<Started, EngineError> {
        self.reap();
        let run_dir = self.run_dir(&task.id);
        record::make_run_dir(&run_dir, &task.id)?;
        let record = Record::of(task, request)?;
        let started = self.launch(request, task, streams, gone, &run_dir, &record);
        if started.is_err() {
            self.undo(&run_dir, &record);
        }
        started
    }

    fn launch(
        &self,
        request: &TaskRequest,
        task: &Task,
        streams: TaskStreams,
        gone: StarterGone,
        run_dir: &Path,
        record: &Record,
    ) -> Result<Started, EngineError> {
        let empty = self.empty.begin(task.root_switch)?;
        record.write(run_dir)?;
        disk::prepare(&request.directories, task)?;
        placed::uncover(&record.placed, &request.directories.private)?;
        let group = self.group(&task.cgroup)?;
        let (mut client, child) = self.start_shim()?;
        self.keep(child);
        let (streams, descriptors) = order_streams(streams);
        let order = Launch {
            task: task.name.clone(),
            run_dir: host_path(run_dir)?,
            sandbox: task.sandbox.clone(),
            cgroup: group.saved(),
            features: self.features.into(),
            streams,
            on_starter_gone: match gone {
                StarterGone::Keep => OnStarterGone::Keep,
                StarterGone::Stop => OnStarterGone::Stop,
            },
            kill_mode: match task.kill_mode {
                KillMode::Process => protocol::KillMode::Process,
                KillMode::Group => protocol::KillMode::Group,
            },
            deadline_ms: LAUNCH_DEADLINE_MS,
        };
        let Launched { started, terminal } = client.launch(order, empty.get()?, descriptors)?;
        let status = client.state()?;
        Ok(Started {
            handle: Handle::of(&task.id, &status),
            pid: started.pid,
            command: started.command,
            terminal,
            notes: task.notes.clone(),
            placed: placed::directories(&record.placed),
            client,
        })
    }

    fn start_shim(&self) -> Result<(Client, Child), EngineError> {
        let entrance = self.shims_entrance()?;
        let tasks: Vec<_> = entrance.tasks.iter().map(AsFd::as_fd).collect();
        let program = self.program()?;
        let place = Place { program, cgroup: entrance.unified.as_ref().map(AsFd::as_fd), tasks: &tasks };
        Ok(place.start()?)
    }

    /// The shim's program, opened at the first start.
    fn program(&self) -> Result<&Program, EngineError> {
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let program = Program::open(&self.places.shim)?;
        Ok(self.program.get_or_init(|| program))
    }

    /// Makes the task's groups. What an earlier run left in a group that the client named is killed first.
    fn group(&self, plan: &Plan) -> Result<Group, EngineError> {
        match plan.create() {
            Err(
                bivouac_cgroup::Error::Occupied { .. }
                | bivouac_cgroup::Error::Exists { .. }
                | bivouac_cgroup::Error::Frozen { .. },
            ) => {
                bivouac_cgroup::remove_saved(&plan.saved(), REMOVE_DEADLINE)?;
                Ok(plan.create()?)
            }
            made => Ok(made?),
        }
    }

    /// Takes back what a failed start made. What cannot be taken back stays recorded, for [`Engine::gc`].
    fn undo(&self, run_dir: &Path, record: &Record) {
        // A shim that refused ends by itself; it may be about to.
        let removed = bivouac_cgroup::remove_saved(&record.cgroup, REMOVE_DEADLINE).is_ok();
        self.reap();
        if removed {
            record::remove_run_dir(run_dir);
        }
    }

    fn run_dir(&self, id: &str) -> PathBuf {
        self.places.run.join("tasks").join(record::file_name(id))
    }

    /// Finds a run.
    ///
    /// # Errors
    /// [`EngineError::Unknown`].
    pub fn find(&self, id: &str) -> Result<Standing, EngineError> {
        self.reap();
        Ok(match recover::look(&self.run_dir(id))? {
            Found::Alive(client) => Standing::Alive(Box::new(client)),
            Found::ShimDead(status) => match status.exit.clone() {
                Some(exit) => Standing::Ended(status, exit),
                None => Standing::Lost("its shim died, and the task with it".into()),
            },
            Found::OtherBoot(_) => Standing::Lost("the host has been restarted".into()),
            Found::NeverStarted => Standing::Lost("its start was cut short".into()),
            Found::Damaged(error) => Standing::Lost(error.to_string()),
        })
    }

    /// Finds a run by what its start gave, and makes sure that it is that run and no later one.
    ///
    /// # Errors
    /// [`EngineError::Unknown`], [`EngineError::Lost`].
    pub fn recover(&self, handle: &Handle) -> Result<Standing, EngineError> {
        let standing = self.find(&handle.id)?;
        match standing {
            Standing::Alive(mut client) => {
                let status = client.state()?;
                handle.check(&status).map_err(EngineError::Lost)?;
                Ok(Standing::Alive(client))
            }
            Standing::Ended(status, exit) => {
                handle.check(&status).map_err(EngineError::Lost)?;
                Ok(Standing::Ended(status, exit))
            }
            Standing::Lost(text) => Err(EngineError::Lost(text)),
        }
    }

    /// A connection to the shim of a run.
    ///
    /// # Errors
    /// [`EngineError::Unknown`], [`EngineError::Lost`] when there is no shim any more.
    pub fn client(&self, id: &str) -> Result<Client, EngineError> {
        match self.find(id)? {
            Standing::Alive(client) => Ok(*client),
            Standing::Ended(..) => Err(EngineError::Lost("it has ended".into())),
            Standing::Lost(text) => Err(EngineError::Lost(text)),
        }
    }

    /// How things stand with a run, also after its end.
    ///
    /// # Errors
    /// [`EngineError::Unknown`], [`EngineError::Lost`].
    pub fn inspect(&self, id: &str) -> Result<Status, EngineError> {
        match self.find(id)? {
            Standing::Alive(mut client) => Ok(client.state()?),
            Standing::Ended(status, _) => Ok(*status),
            Standing::Lost(text) => Err(EngineError::Lost(text)),
        }
    }

    /// Something that becomes readable when the run has ended.
    ///
    /// # Errors
    /// [`EngineError::Unknown`]; [`EngineError::Lost`] when it ended together with its shim: [`Engine::find`] then
    /// tells what is known.
    pub fn watch(&self, id: &str) -> Result<Watch, EngineError> {
        Ok(self.client(id)?.watch_end()?)
    }

    /// What a running task uses.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, or over.
    pub fn stats(&self, id: &str) -> Result<TaskStats, EngineError> {
        Ok(self.client(id)?.stats()?)
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, or over.
    pub fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        Ok(self.client(id)?.signal(signal.number())?)
    }

    /// How a task wants to be stopped: what its job said when it was started.
    ///
    /// # Errors
    /// [`EngineError::Unknown`]; [`EngineError::File`]: nothing that can be read was recorded.
    pub fn stop_rule(&self, id: &str) -> Result<StopRule, EngineError> {
        self.find(id)?;
        Ok(Record::read(&self.run_dir(id))?.stop)
    }

    /// Stops a task: the signal, and after `grace` the kill of everything. Comes back when it has ended; no error
    /// when it had ended before.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, or stuck in the kernel.
    pub fn stop(&self, id: &str, signal: Signal, grace: Duration) -> Result<Option<Exit>, EngineError> {
        match self.find(id)? {
            Standing::Alive(mut client) => Ok(Some(client.stop(signal.number(), grace)?)),
            Standing::Ended(_, exit) => Ok(Some(exit)),
            Standing::Lost(_) => Ok(None),
        }
    }

    /// Runs a command in a running task, with the task's own identity, environment, filter and directory.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, over, or the command does not start.
    pub fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, EngineError> {
        let client = self.client(id)?;
        let process = Record::read(&self.run_dir(id))?.process(&request.command)?;
        let (streams, descriptors) = split(request.streams);
        let deadline_ms = request.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Ok(client.exec(Exec { process, streams, deadline_ms }, descriptors)?)
    }

    /// Forgets a run, and what is left of it as `leftovers` says. With [`Leftovers::Kill`] an unknown one is no
    /// error: a client may ask for what it never saw start.
    ///
    /// # Errors
    /// [`EngineError::Running`] with [`Leftovers::Refuse`]; something that cannot be removed.
    pub fn destroy(&self, id: &str, leftovers: Leftovers) -> Result<(), EngineError> {
        let run_dir = self.run_dir(id);
        let destroyed = match self.find(id) {
            Ok(Standing::Alive(client)) => client.destroy(leftovers).map_err(EngineError::from),
            Ok(Standing::Ended(..) | Standing::Lost(_)) => self.clean(&run_dir),
            Err(EngineError::Unknown) if leftovers == Leftovers::Kill => Ok(()),
            Err(error) => Err(error),
        };
        self.reap();
        destroyed
    }

    /// Removes the groups that the record names and the run directory of a run without a shim.
    fn clean(&self, run_dir: &Path) -> Result<(), EngineError> {
        if let Ok(record) = Record::read(run_dir)
            && record.boot_is_this()
        {
            bivouac_cgroup::remove_saved(&record.cgroup, REMOVE_DEADLINE)?;
        }
        recover::clean(run_dir)?;
        Ok(())
    }

    /// Every run that has a directory, by its id.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn list(&self) -> Result<Vec<String>, EngineError> {
        let path = self.places.run.join("tasks");
        let entries = std::fs::read_dir(&path).map_err(disk::failed("list", &path))?;
        let mut ids: Vec<String> =
            entries.flatten().filter_map(|entry| record::id_of(entry.file_name().to_str()?)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes what crashes left: runs whose shim is gone and whose end nobody can learn any more. Ended runs that
    /// wait to be collected stay. Tells the ids.
    ///
    /// # Errors
    /// [`EngineError::File`] when the list cannot be read; single runs that cannot be removed stay for next time.
    pub fn gc(&self) -> Result<Vec<String>, EngineError> {
        let lost = |id: &String| settled(&self.run_dir(id)) && matches!(self.find(id), Ok(Standing::Lost(_)));
        let lost = self.list()?.into_iter().filter(lost);
        Ok(lost.filter(|id| self.clean(&self.run_dir(id)).is_ok()).collect())
    }

    fn keep(&self, child: Child) {
        if let Ok(mut children) = self.children.lock() {
            children.push(child);
        }
    }

    /// Reaps shims of ours that have ended.
    fn reap(&self) {
        if let Ok(mut children) = self.children.lock() {
            children.retain(|child| matches!(bivouac_sys::wait::try_reap(child.pidfd.as_fd()), Ok(None)));
        }
    }
}

/// Whether a run directory is older than any start can take: a younger one without a shim may be just starting.
fn settled(run_dir: &Path) -> bool {
    let made = std::fs::metadata(run_dir).and_then(|status| status.modified()).ok();
    let age = made.and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age > Duration::from_millis(2 * LAUNCH_DEADLINE_MS))
}

fn host_path(path: &Path) -> Result<HostPath, EngineError> {
    HostPath::new(path).map_err(|error| EngineError::Task(TaskError::Path(error)))
}

/// A task's streams as the protocol takes them.
fn order_streams(streams: TaskStreams) -> (protocol::TaskStreams, Vec<OwnedFd>) {
    let (stdin, stdout, stderr) = match streams {
        TaskStreams::Terminal(size) => return (protocol::TaskStreams::Terminal(size), Vec::new()),
        TaskStreams::Files { stdin, stdout, stderr } => (stdin, stdout, stderr),
    };
    let mut descriptors = Vec::new();
    let kind = if stdin.is_some() { Stream::Given } else { Stream::Null };
    descriptors.extend(stdin);
    let mut output = |output| match output {
        Output::Null => protocol::Output::Null,
        Output::Descriptor(descriptor) => {
            descriptors.push(descriptor);
            protocol::Output::Given
        }
        Output::Log { directory, files } => {
            descriptors.push(directory);
            protocol::Output::Log(files)
        }
    };
    let (stdout, stderr) = (output(stdout), output(stderr));
    (protocol::TaskStreams::Files { stdin: kind, stdout, stderr }, descriptors)
}

/// Streams of an exec session as the protocol takes them.
fn split(streams: Streams) -> (StreamsKind, Vec<OwnedFd>) {
    match streams {
        Streams::Terminal(size) => (StreamsKind::Terminal(size), Vec::new()),
        Streams::Files { stdin, stdout, stderr } => {
            let kind = |stream: &Option<OwnedFd>| if stream.is_some() { Stream::Given } else { Stream::Null };
            let kinds =
                StreamsKind::Files { stdin: kind(&stdin), stdout: kind(&stdout), stderr: kind(&stderr) };
            (kinds, [stdin, stdout, stderr].into_iter().flatten().collect())
        }
    }
}

/// The process of an exec session: the task's own, with another command, found along the task's PATH.
fn session_process(own: &Process, command: &[String]) -> Result<Process, TaskError> {
    let (name, args) = command.split_first().ok_or(crate::lookup::CommandError::Empty)?;
    let path = own.environment.iter().find_map(|entry| entry.strip_prefix(b"PATH="));
    let path = path.map(|path| String::from_utf8_lossy(path).into_owned());
    let path = path.unwrap_or_else(|| crate::environment::DEFAULT_PATH.into());
    let arguments = crate::environment::arguments(args)?;
    Ok(Process {
        asked: name.clone(),
        candidates: crate::lookup::along_path(name, &path, &own.work_dir, ExecuteBit::Leave)?,
        arguments: arguments.into_iter().map(serde_bytes::ByteBuf::from).collect(),
        init: Init::Command,
        ..own.clone()
    })
}
