//! The real engine behind the face: the driver, asked in the face's words.

mod foreign;
mod placed;
mod processes;
mod session;
mod watches;

use crate::driver_options::{from_driver, to_driver};
use crate::face::{
    Engine, EngineError, EventSink, ExecRequest, ExecSession, Exit, Fact, Fingerprint, Foreign, Health,
    HostFacts, Inspection, Purpose, StartError, Started, TaskRecover, TaskStart, Usage,
};
use crate::name::DriverName;
use crate::options::{Opt, Values};
use crate::request::{Around, ask};
use crate::streams;
use bivouac_driver::capabilities::{Powers, named};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{self as driver, Handle, Leftovers, Places, Standing};
use bivouac_driver::fingerprint::{Evidence, Health as Verdict, ShimCheck};
use bivouac_driver::options;
use bivouac_driver::request::StarterGone;
use bivouac_driver::signals::Signal;
use bivouac_shim::process::Moment;
use placed::Placements;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use watches::{About, Watches, exit};

/// The driver under Nomad. Makes nothing outside of this process before it is told to serve.
pub struct Bivouac {
    name: DriverName,
    /// Made when first needed, and tried again until it can be.
    engine: Mutex<Option<Arc<driver::Engine>>>,
    configured: Mutex<Option<(OperatorConfig, HostFacts)>>,
    watches: Watches,
    placements: Placements,
    shim: Mutex<ShimCheck>,
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
            watches: Watches::default(),
            placements: Placements::default(),
            shim: Mutex::new(ShimCheck::new(Places::usual().shim)),
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

    /// The engine, made anew when the control groups of the host are not what they were.
    fn engine_on(&self, host: &bivouac_cgroup::Host) -> Result<Arc<driver::Engine>, driver::EngineError> {
        let present = self.engine()?;
        if present.cgroups() == host {
            return Ok(present);
        }
        tracing::info!("the host's control groups have changed");
        let made = Arc::new(present.renewed()?);
        *locked(&self.engine) = Some(Arc::clone(&made));
        Ok(made)
    }

    fn try_start(&self, task: &TaskStart) -> Result<Started, EngineError> {
        let engine = self.engine()?;
        let (operator, host) =
            locked(&self.configured).clone().ok_or_else(|| failed("the driver is not configured"))?;
        let around =
            Around { cgroups: engine.cgroups(), total_mhz: host.total_mhz, driver: self.name.as_str() };
        let request = ask(task, &around)
            .map_err(|error| failed(format_args!("failed driver config validation: {error}")))?;
        let prepared = engine.prepare(&operator, &request)?;
        let streams = streams::open(task).map_err(failed)?;
        // The client asks again with the same id when this process died over the first time.
        match engine.find(&task.id) {
            Err(driver::EngineError::Unknown) => {}
            Ok(_) | Err(_) => engine.destroy(&task.id, Leftovers::Kill)?,
        }
        let started = engine.start(&request, &prepared, streams, StarterGone::Keep)?;
        let about = About::new(&task.alloc_id, &task.name, &task.alloc_dir);
        for note in started.notes {
            self.watches.tell(&task.id, &about, note);
        }
        let state = rmp_serde::to_vec_named(&started.handle).map_err(failed)?;
        self.placements.watch(&engine, &task.id, &started.placed);
        self.watches.started(&task.id, about, started.client);
        Ok(Started { state })
    }
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
        // Else the first task would be told what the operator should have been.
        let known = Powers::of_this_process().known;
        named("allow_caps", &operator.allow_caps, known).map_err(failed)?;
        if let Purpose::Serve(host) = purpose {
            *locked(&self.configured) = Some((operator, host.clone()));
        }
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        let evidence = Evidence::of_host(&mut locked(&self.shim));
        let verdict = match (evidence.health(), &evidence.cgroups) {
            (Verdict::Undetected(missing), _) => (Health::Undetected, missing.what),
            (sound, Ok(host)) => match (self.engine_on(host), sound) {
                (Ok(_), Verdict::Healthy) => (Health::Healthy, "Healthy".to_owned()),
                (Ok(_), sick) => (Health::Unhealthy, with_remedies(&sick)),
                (Err(error), _) => (Health::Unhealthy, error.to_string()),
            },
            (sick, Err(_)) => (Health::Unhealthy, with_remedies(&sick)),
        };
        let mut attributes = BTreeMap::new();
        attributes.insert("version".to_owned(), Fact::Text(env!("CARGO_PKG_VERSION").to_owned()));
        if let Ok(host) = &evidence.cgroups {
            attributes.insert("cgroups".to_owned(), Fact::Text(host.layout().to_string()));
        }
        let (health, description) = verdict;
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
        let engine = self.engine()?;
        engine.recover(&handle)?;
        self.placements.watch(&engine, &task.id, &engine.placed(&task.id).unwrap_or_default());
        self.placements.show(&engine, &task.id);
        let about = About::new(&task.alloc_id, &task.name, &task.alloc_dir);
        self.watches.recovered(&task.id, about);
        Ok(())
    }

    fn watch(&self, id: &str) -> Result<OwnedFd, EngineError> {
        self.watches.watch(&*self.engine()?, id)
    }

    fn exited(&self, id: &str) -> Result<Option<Exit>, EngineError> {
        self.watches.exited(&*self.engine()?, id)
    }

    fn stop(&self, id: &str, signal: Signal, timeout: Duration) -> Result<(), EngineError> {
        let engine = self.engine()?;
        if !matches!(engine.find(id)?, Standing::Alive(_)) {
            return Ok(());
        }
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

    fn destroy(&self, id: &str, leftovers: Leftovers) -> Result<(), EngineError> {
        self.placements.forget(id);
        self.engine()?.destroy(id, leftovers)?;
        if let Some(about) = self.watches.forget(id) {
            remove_mount_point(&about.task_dir);
        }
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
        let engine = self.engine()?;
        let Standing::Alive(mut client) = engine.find(id)? else { return Ok(None) };
        let group = client.stats().map_err(failed)?.group;
        // A group that is going just now has none.
        let pids = engine.processes(id).unwrap_or_default();
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
            processes: processes::usage(&pids),
        }))
    }

    fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        let engine = self.engine()?;
        self.placements.show(&engine, id);
        Ok(engine.signal(id, signal)?)
    }

    fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        let engine = self.engine()?;
        self.placements.show(&engine, id);
        session::begin(&engine, id, request)
    }

    fn end_foreign(&self, foreign: &Foreign) -> Result<(), EngineError> {
        foreign::end(&*self.engine()?, foreign)
    }

    fn report_events_to(&self, sink: EventSink) {
        self.watches.report_to(sink);
    }
}

fn moment(moment: Moment) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(moment.unix_nanos).unwrap_or(0))
}

/// One sentence with what is missing and what to do about it.
fn with_remedies(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Unhealthy(missing) => {
            let one = |missing: &bivouac_driver::fingerprint::Missing| {
                format!("{}: {}", missing.what, missing.remedy)
            };
            missing.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Verdict::Healthy | Verdict::Undetected(_) => verdict.description(),
    }
}

/// Takes the empty `alloc` away on which the shared directory was mounted in the task's own namespace: the client
/// takes one that it finds for its own mount and complains. Its own, which is one, stays.
fn remove_mount_point(task_dir: &Path) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(directory) = openat(CWD, task_dir, flags, Mode::empty()) {
        let _ = unlinkat(&directory, "alloc", AtFlags::REMOVEDIR);
    }
}
