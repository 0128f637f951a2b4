//! The real engine behind the face: the driver, asked in the face's words.

use crate::driver_options::{from_driver, to_driver};
use crate::face::{
    Engine, EngineError, EventSink, ExecControl, ExecRequest, ExecSession, ExecStreams, Exit, Fact,
    Fingerprint, Foreign, Health, HostFacts, Inspection, Purpose, StartError, Started, TaskEvent,
    TaskRecover, TaskStart, TermSize, Usage,
};
use crate::name::DriverName;
use crate::options::{Opt, Values};
use crate::request::{Around, ask};
use crate::signals::Signal;
use crate::streams;
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{self as driver, Handle, Places, Standing};
use bivouac_driver::options;
use bivouac_driver::request::{self, StarterGone, Streams};
use bivouac_sandbox::model::TerminalSize;
use bivouac_shim::client::{Happened, Session, Watch};
use bivouac_shim::process::Moment;
use bivouac_shim::status::{self, Cause, Ending};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The driver under Nomad. Makes nothing outside of this process before it is told to serve.
pub struct Bivouac {
    name: DriverName,
    /// Made when first needed, and tried again until it can be.
    engine: Mutex<Option<Arc<driver::Engine>>>,
    configured: Mutex<Option<(OperatorConfig, HostFacts)>>,
    watches: Mutex<HashMap<String, Watched>>,
    sink: OnceLock<EventSink>,
}

/// What is waited for.
enum Watched {
    /// The shim will tell.
    Waiting(Watch),
    /// It told.
    Over(Exit),
}

impl std::fmt::Debug for Bivouac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bivouac").field("name", &self.name).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(error.to_string())
}

impl From<driver::EngineError> for EngineError {
    fn from(error: driver::EngineError) -> Self {
        match error {
            driver::EngineError::Unknown => Self::UnknownTask,
            other => failed(other),
        }
    }
}

impl Bivouac {
    /// A driver of this name.
    #[must_use]
    pub fn new(name: &DriverName) -> Self {
        Self {
            name: name.clone(),
            engine: Mutex::default(),
            configured: Mutex::default(),
            watches: Mutex::default(),
            sink: OnceLock::new(),
        }
    }

    fn engine(&self) -> Result<Arc<driver::Engine>, driver::EngineError> {
        let mut engine = locked(&self.engine);
        if let Some(made) = &*engine {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(driver::Engine::new(Places::usual())?);
        *engine = Some(Arc::clone(&made));
        Ok(made)
    }

    fn tell(&self, task: &TaskStart, message: String) {
        if let Some(sink) = self.sink.get() {
            sink(TaskEvent {
                task_id: task.id.clone(),
                alloc_id: task.alloc_id.clone(),
                task_name: task.name.clone(),
                message,
                annotations: BTreeMap::new(),
            });
        }
    }

    fn try_start(&self, task: &TaskStart) -> Result<Started, EngineError> {
        let engine = self.engine()?;
        let (operator, host) =
            locked(&self.configured).clone().ok_or_else(|| failed("the driver is not configured"))?;
        let private = PathBuf::from("/run/bivouac/private");
        let around = Around {
            cgroups: engine.cgroups(),
            total_mhz: host.total_mhz,
            private: &private,
            driver: self.name.as_str(),
            dynamic_users: true,
        };
        let request = ask(task, &around)
            .map_err(|error| failed(format_args!("failed driver config validation: {error}")))?;
        let prepared = engine.prepare(&operator, &request)?;
        let streams = streams::open(task).map_err(failed)?;
        let started = engine.start(&request, &prepared, streams, StarterGone::Keep)?;
        for note in started.notes {
            self.tell(task, note);
        }
        Ok(Started { state: rmp_serde::to_vec_named(&started.handle).map_err(failed)? })
    }

    fn standing_exit(&self, id: &str) -> Result<Option<Exit>, EngineError> {
        match self.engine()?.find(id)? {
            Standing::Alive(_) => Ok(None),
            Standing::Ended(_, ended) => Ok(Some(exit(&ended))),
            Standing::Lost(why) => Ok(Some(Exit { code: -1, error: Some(why), ..Exit::default() })),
        }
    }
}

/// How a task ended, and what a user should know about it.
fn exit(ended: &status::Exit) -> Exit {
    let error = match ended.cause {
        Cause::Killed { signal, ignored: true } => {
            let signal =
                Signal::from_number(signal).map_or_else(|| signal.to_string(), |signal| signal.to_string());
            Some(format!(
                "killed: the command is the first process of its namespace and has no handler for {signal}, which the \
                 kernel then never gives it; set init = true, or another kill_signal"
            ))
        }
        Cause::Own | Cause::Stopped | Cause::Killed { .. } | Cause::KilledAtOnce => None,
    };
    Exit { error, oom_killed: ended.oom_kills > 0, ..ending(ended.ending) }
}

fn ending(ending: Ending) -> Exit {
    let signal = match ending {
        Ending::Exited { .. } => 0,
        Ending::Signaled { signal, .. } => signal,
    };
    Exit { code: ending.code(), signal, ..Exit::default() }
}

impl Engine for Bivouac {
    fn operator_options(&self) -> Vec<Opt> {
        from_driver(options::OPERATOR)
    }

    fn task_options(&self) -> Vec<Opt> {
        from_driver(options::TASK)
    }

    fn configure(&self, values: &Values, purpose: &Purpose) -> Result<(), EngineError> {
        let operator = OperatorConfig::decode(&to_driver(values)).map_err(failed)?;
        if let Purpose::Serve(host) = purpose {
            *locked(&self.configured) = Some((operator, host.clone()));
        }
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        let (health, description) = if rustix::process::geteuid().is_root() {
            match self.engine() {
                Ok(_) => (Health::Healthy, "Healthy".to_owned()),
                Err(error) => (Health::Unhealthy, error.to_string()),
            }
        } else {
            (Health::Undetected, "Driver must run as root".to_owned())
        };
        let layout = locked(&self.engine).as_ref().map(|engine| engine.cgroups().layout().to_string());
        let attributes =
            layout.map(|layout| ("cgroups".to_owned(), Fact::Text(layout))).into_iter().collect();
        Fingerprint { health, description, attributes }
    }

    fn start(&self, task: &TaskStart) -> Result<Started, StartError> {
        self.try_start(task).map_err(|error| StartError { text: error.to_string(), recoverable: false })
    }

    fn recover(&self, task: &TaskRecover) -> Result<(), EngineError> {
        let handle: Handle = rmp_serde::from_slice(&task.state).map_err(failed)?;
        if handle.id != task.id {
            return Err(failed(format_args!("the handle of task {:?} is of task {:?}", task.id, handle.id)));
        }
        self.engine()?.recover(&handle)?;
        Ok(())
    }

    fn watch(&self, id: &str) -> Result<OwnedFd, EngineError> {
        match self.engine()?.find(id)? {
            Standing::Alive(client) => {
                let watch = client.watch_end().map_err(failed)?;
                let descriptor = watch.as_fd().try_clone_to_owned().map_err(failed)?;
                locked(&self.watches).insert(id.to_owned(), Watched::Waiting(watch));
                Ok(descriptor)
            }
            // The end of a pipe that nobody writes to is readable for ever.
            Standing::Ended(..) | Standing::Lost(_) => Ok(pipe_with(PipeFlags::CLOEXEC).map_err(failed)?.0),
        }
    }

    fn exited(&self, id: &str) -> Result<Option<Exit>, EngineError> {
        let told = {
            let mut watches = locked(&self.watches);
            match watches.get_mut(id) {
                Some(Watched::Over(exit)) => return Ok(Some(exit.clone())),
                Some(Watched::Waiting(watch)) => watch.take().ok(),
                None => None,
            }
        };
        let found = match told {
            Some(None | Some(Happened::Oom(_))) => None,
            Some(Some(Happened::Ended(ended))) => Some(exit(&ended)),
            None => self.standing_exit(id)?,
        };
        if let Some(exit) = &found {
            locked(&self.watches).insert(id.to_owned(), Watched::Over(exit.clone()));
        }
        Ok(found)
    }

    fn stop(&self, id: &str, signal: Signal, timeout: Duration) -> Result<(), EngineError> {
        let engine = self.engine()?;
        if !matches!(engine.find(id)?, Standing::Alive(_)) {
            return Ok(());
        }
        let signal = bivouac_driver::signals::Signal::from_number(signal.number())
            .ok_or_else(|| failed("no such signal"))?;
        let id = id.to_owned();
        // The shim holds the clock; this thread only keeps its answer from going to nobody.
        let asking = move || {
            if let Err(error) = engine.stop(&id, signal, timeout) {
                tracing::warn!(task = id, %error, "stop");
            }
        };
        std::thread::Builder::new()
            .name("stop".to_owned())
            .stack_size(256 << 10)
            .spawn(asking)
            .map_err(failed)?;
        Ok(())
    }

    fn destroy(&self, id: &str, force: bool) -> Result<(), EngineError> {
        self.engine()?.destroy(id, force)?;
        locked(&self.watches).remove(id);
        Ok(())
    }

    fn inspect(&self, id: &str) -> Result<Inspection, EngineError> {
        let (status, ended) = match self.engine()?.find(id)? {
            Standing::Alive(mut client) => (client.state().map_err(failed)?, None),
            Standing::Ended(status, ended) => (*status, Some(ended)),
            Standing::Lost(why) => return Err(failed(why)),
        };
        let ended = ended.or_else(|| status.exit.clone());
        let pid = status.first.map(|first| ("pid".to_owned(), first.pid.to_string()));
        Ok(Inspection {
            started_at: status.started.map_or(UNIX_EPOCH, moment),
            completed_at: ended.as_ref().map(|ended| moment(ended.finished)),
            exit: ended.as_ref().map(exit),
            attributes: pid.into_iter().collect(),
        })
    }

    fn stats(&self, id: &str) -> Result<Option<Usage>, EngineError> {
        let Standing::Alive(mut client) = self.engine()?.find(id)? else { return Ok(None) };
        let group = client.stats().map_err(failed)?.group;
        let cpu = group.cpu.unwrap_or_default();
        let memory = group.memory;
        let of = |pick: fn(&bivouac_cgroup::MemoryStats) -> Option<bivouac_cgroup::Bytes>| {
            memory.as_ref().and_then(pick).map(|bytes| bytes.0)
        };
        Ok(Some(Usage {
            cpu_user_ns: cpu.user_ns,
            cpu_system_ns: cpu.system_ns,
            cpu_total_ns: cpu.user_ns.saturating_add(cpu.system_ns),
            throttled_periods: group.throttling.map(|throttling| throttling.throttled_periods),
            throttled_ns: group.throttling.map(|throttling| throttling.throttled_ns),
            rss: of(|memory| Some(memory.anonymous)),
            cache: of(|memory| Some(memory.file)),
            swap: of(|memory| memory.swap),
            usage: of(|memory| Some(memory.current)),
            max_usage: of(|memory| memory.peak),
            kernel_usage: of(|memory| memory.kernel),
            kernel_max_usage: of(|memory| memory.kernel_peak),
        }))
    }

    fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        let signal = bivouac_driver::signals::Signal::from_number(signal.number())
            .ok_or_else(|| failed("no such signal"))?;
        Ok(self.engine()?.signal(id, signal)?)
    }

    fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        let engine = self.engine()?;
        let run = |streams| {
            let command = request.command.clone();
            Ok::<_, EngineError>(engine.exec(id, request::ExecRequest { command, streams, deadline: None })?)
        };
        let (session, streams) = match request.terminal {
            Some(size) => {
                let mut session = run(Streams::Terminal(terminal_size(size)))?;
                let master = session.take_terminal().ok_or_else(|| failed("the session got no terminal"))?;
                (session, ExecStreams::Terminal(master))
            }
            None => {
                let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
                let (out, err) = (pipe()?, pipe()?);
                let input = if request.stdin { Some(pipe()?) } else { None };
                let (theirs, ours) = input.map_or((None, None), |(read, write)| (Some(read), Some(write)));
                let session =
                    run(Streams::Files { stdin: theirs, stdout: Some(out.1), stderr: Some(err.1) })?;
                (session, ExecStreams::Pipes { stdin: ours, stdout: out.0, stderr: err.0 })
            }
        };
        let watch = session.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(ExecSession { streams, watch, control: Box::new(Control(Mutex::new(session))) })
    }

    fn end_foreign(&self, foreign: &Foreign) -> Result<(), EngineError> {
        // The task dies with its executor; what it left in the cgroup is ended by whatever starts there.
        let Some(pid) = foreign.executor.and_then(Pid::from_raw) else { return Ok(()) };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // Looked at while it is held: the number may be somebody else's by now.
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        if !line.split(|byte| *byte == 0).any(|word| word == b"executor") {
            return Ok(());
        }
        pidfd_send_signal(&process, rustix::process::Signal::KILL).map_err(failed)
    }

    fn report_events_to(&self, sink: EventSink) {
        // Called once; a second sink would never be told anything either.
        let _ = self.sink.set(sink);
    }
}

fn terminal_size(size: TermSize) -> TerminalSize {
    TerminalSize { rows: size.rows, columns: size.columns }
}

/// A session's controls; the lock is never held while waiting.
struct Control(Mutex<Session>);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl ExecControl for Control {
    fn exited(&self) -> Result<Option<Exit>, EngineError> {
        let end = locked(&self.0).take_end().map_err(failed)?;
        Ok(end.map(|end| ending(end.ending)))
    }

    fn resize(&self, size: TermSize) -> Result<(), EngineError> {
        locked(&self.0).resize(terminal_size(size)).map_err(failed)
    }

    fn kill(&self) {
        // A command that is over refuses; dropping the session kills what is left.
        let _ = locked(&self.0).signal(Signal::KILL.number());
    }
}

fn moment(moment: Moment) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(moment.unix_nanos).unwrap_or(0))
}
