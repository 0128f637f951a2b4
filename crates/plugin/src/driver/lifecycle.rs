//! Start, recover, stop, destroy: the life of a task as the client drives it.

use super::or_gone;
use crate::face::{Engine, EngineError, Foreign, StartError, Started, TaskStart};
use crate::handle::{self, Recovered};
use crate::options::face_task_options;
use crate::readiness::{ask_until, readiness};
use crate::shared::Shared;
use crate::status::{failed, invalid};
use crate::tasks::{Outcome, Task};
use crate::wire::driver as pb;
use crate::{convert, msgpack};
use bivouac_driver::engine::Leftovers;
use bivouac_driver::signals::Signal;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tonic::Status;

/// How long a task may still take to go once it was killed.
const AFTER_KILL: Duration = Duration::from_secs(15);

pub(super) async fn start(
    shared: Arc<Shared>,
    request: pb::StartTaskRequest,
) -> Result<pb::StartTaskResponse, Status> {
    let begun = std::time::Instant::now();
    let config = request.task.ok_or_else(|| invalid("the request holds no task"))?;
    let id = config.id.clone();
    shared.tasks.begin(&id).map_err(failed)?;
    let (task, handle) = match begin(&shared, config).await {
        Ok(begun) => begun,
        Err(status) => {
            tracing::warn!(task = id, reason = status.message(), "task did not start");
            shared.tasks.forget(&id);
            return Err(status);
        }
    };
    shared.tasks.known(&id, task);
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(task = id, micros, "task started");
    Ok(pb::StartTaskResponse {
        result: pb::start_task_response::Result::Success.into(),
        driver_error_msg: String::new(),
        handle: Some(handle),
        network_override: None,
    })
}

/// All that can fail about a start. Whatever began is ended again if the rest fails.
async fn begin(shared: &Arc<Shared>, config: pb::TaskConfig) -> Result<(Task, pb::TaskHandle), Status> {
    let task = understand(shared, &config)
        .map_err(|reason| failed(format_args!("failed driver config validation: {reason}")))?;
    for foreign in shared.tasks.take_foreign_of(&config.alloc_id, &config.name) {
        end_foreign(shared, foreign).await?;
    }
    let (id, name) = (config.id.clone(), config.name.clone());
    // In one go: each change of threads would cost a start as much as a dozen system calls.
    let begun = move |engine: &dyn Engine| {
        let started = engine.start(&task)?;
        Ok::<_, StartError>((started, engine.watch(&task.id)))
    };
    let (Started { state }, descriptor) = shared.blocking(begun).await??;
    let ready = match handle::make(config, state) {
        Ok(handle) => watched(shared, &id, name, descriptor).map(|task| (task, handle)),
        Err(error) => Err(failed(error)),
    };
    if ready.is_err() {
        let failed_id = id.clone();
        let undone = shared.blocking(move |engine| engine.destroy(&failed_id, Leftovers::Kill)).await?;
        if let Err(error) = undone {
            tracing::error!(task = id, reason = %error, "a task that could not be watched is left behind");
        }
    }
    ready
}

fn understand(shared: &Shared, config: &pb::TaskConfig) -> Result<TaskStart, Box<dyn std::error::Error>> {
    let own = face_task_options();
    let mut options = shared.engine.task_options();
    options.extend(own.iter().cloned());
    let mut values = msgpack::decode(&config.msgpack_driver_config, &options)?;
    let (settings, _) = shared.configured();
    let outputs = settings.outputs(config, &values.split_off(&own))?;
    let env = shared.environment(config.env.clone());
    Ok(convert::task(config, values, env, settings.dynamic_users, outputs)?)
}

async fn end_foreign(shared: &Shared, foreign: Foreign) -> Result<(), Status> {
    tracing::info!(task = foreign.task_id, "ending the task that the built-in driver left");
    let copy = foreign.clone();
    let ended = shared.blocking(move |engine| engine.end_foreign(&copy)).await?;
    ended.inspect_err(|_| shared.tasks.remember_foreign(foreign)).map_err(Status::from)
}

/// Sets a watcher on a task that the engine knows, with the descriptor that it gave for that.
fn watched(
    shared: &Arc<Shared>,
    id: &str,
    name: String,
    descriptor: Result<OwnedFd, EngineError>,
) -> Result<Task, Status> {
    let descriptor = readiness(descriptor?, Interest::READABLE).map_err(failed)?;
    let (task, teller) = Task::new(name);
    tokio::spawn(watch_task(Arc::clone(shared), id.to_owned(), descriptor, teller));
    Ok(task)
}

/// Waits for the end of a task and tells it; stops when nobody can ask any more.
async fn watch_task(
    shared: Arc<Shared>,
    id: String,
    descriptor: AsyncFd<OwnedFd>,
    teller: watch::Sender<Option<Outcome>>,
) {
    let ask = || {
        let asked = id.clone();
        let answer = shared.blocking(move |engine| engine.exited(&asked));
        async {
            match answer.await {
                Ok(Ok(None)) => None,
                Ok(Ok(Some(exit))) => Some(Outcome::Exited(exit)),
                Ok(Err(error)) => Some(Outcome::Lost(error.to_string())),
                Err(status) => Some(Outcome::Lost(status.message().to_owned())),
            }
        }
    };
    let ended = tokio::select! {
        ended = ask_until(&descriptor, ask) => ended,
        () = teller.closed() => return,
    };
    let outcome = ended.unwrap_or_else(|error| Outcome::Lost(format!("cannot watch the task: {error}")));
    teller.send_replace(Some(outcome));
}

pub(super) async fn recover(
    shared: Arc<Shared>,
    request: pb::RecoverTaskRequest,
) -> Result<pb::RecoverTaskResponse, Status> {
    let task = match handle::read(request.handle).map_err(failed)? {
        Recovered::Ours(task) => task,
        Recovered::Foreign(foreign) => {
            let id = foreign.task_id.clone();
            shared.tasks.remember_foreign(foreign);
            return Err(failed(format_args!(
                "task {id:?} was started by the built-in driver and cannot be taken over: it will be ended and \
                 started again"
            )));
        }
    };
    let (id, name) = (task.id.clone(), task.name.clone());
    if shared.tasks.get(&id).is_some() {
        return Ok(pb::RecoverTaskResponse {});
    }
    shared.tasks.begin(&id).map_err(failed)?;
    let recovered = async {
        let begun = move |engine: &dyn Engine| {
            engine.recover(&task)?;
            Ok::<_, EngineError>(engine.watch(&task.id))
        };
        let descriptor = shared.blocking(begun).await??;
        watched(&shared, &id, name, descriptor)
    };
    match recovered.await {
        Ok(task) => {
            tracing::debug!(task = id, "task recovered");
            shared.tasks.known(&id, task);
            Ok(pb::RecoverTaskResponse {})
        }
        Err(status) => {
            tracing::info!(task = id, reason = status.message(), "task cannot be recovered");
            shared.tasks.forget(&id);
            Err(status)
        }
    }
}

pub(super) async fn stop(
    shared: Arc<Shared>,
    request: pb::StopTaskRequest,
) -> Result<pb::StopTaskResponse, Status> {
    let timeout = convert::duration(request.timeout.as_ref());
    let signal = match request.signal.as_str() {
        "" => Signal::INT,
        // Nomad tries a failed stop again for minutes and then leaves the task: better a plain stop.
        name => Signal::parse(name).unwrap_or_else(|error| {
            tracing::warn!(task = request.task_id, %error, "stopping with SIGINT instead");
            Signal::INT
        }),
    };
    let Some(task) = shared.tasks.get(&request.task_id) else { return Ok(pb::StopTaskResponse {}) };
    end(&shared, &task, request.task_id, signal, timeout).await?;
    Ok(pb::StopTaskResponse {})
}

/// Stops a task and waits until its outcome is known.
async fn end(
    shared: &Shared,
    task: &Task,
    id: String,
    signal: Signal,
    timeout: Duration,
) -> Result<(), Status> {
    if task.is_over() {
        return Ok(());
    }
    or_gone(shared.blocking(move |engine| engine.stop(&id, signal, timeout)).await?)?;
    let longest = timeout.saturating_add(AFTER_KILL);
    match tokio::time::timeout(longest, task.outcome()).await {
        Ok(ended) => or_gone(ended.map(drop)).map_err(Status::from),
        Err(_) => Err(failed("process failed to exit after 15 seconds")),
    }
}

pub(super) async fn destroy(
    shared: Arc<Shared>,
    request: pb::DestroyTaskRequest,
) -> Result<pb::DestroyTaskResponse, Status> {
    let pb::DestroyTaskRequest { task_id: id, force } = request;
    if let Some(foreign) = shared.tasks.take_foreign(&id) {
        end_foreign(&shared, foreign).await?;
        return Ok(pb::DestroyTaskResponse {});
    }
    if let Some(task) = shared.tasks.get(&id) {
        if !force && !task.is_over() {
            return Err(failed("cannot destroy running task"));
        }
        // Whoever still waits learns how it ended.
        if let Err(status) = end(&shared, &task, id.clone(), Signal::KILL, Duration::ZERO).await {
            tracing::warn!(task = id, reason = status.message(), "destroying a task that does not end");
        }
    }
    let asked = id.clone();
    let leftovers = if force { Leftovers::Kill } else { Leftovers::Refuse };
    or_gone(shared.blocking(move |engine| engine.destroy(&asked, leftovers)).await?)?;
    shared.tasks.forget(&id);
    Ok(pb::DestroyTaskResponse {})
}
