//! The driver service: one thin method per call of the client.
//!
//! A call that changes something runs to its end even if the client drops it, so nothing is left half
//! done; every call that the client may repeat can be repeated.

mod exec;
mod lifecycle;
mod streams;

use crate::convert;
use crate::options::face_task_options;
use crate::shared::Shared;
use crate::status::{failed, invalid};
use crate::tasks::Outcome;
use crate::wire::driver as pb;
use crate::{face::EngineError, schema};
use bivouac_driver::signals::Signal;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct Driver(pub(crate) Arc<Shared>);

/// Runs `work` to its end, whether or not the client still waits for it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    tokio::spawn(work).await.map_err(failed)?.map(Response::new)
}

#[tonic::async_trait]
impl pb::driver_server::Driver for Driver {
    async fn init(&self, _: Request<pb::InitRequest>) -> Result<Response<pb::InitResponse>, Status> {
        Ok(Response::new(pb::InitResponse {}))
    }

    async fn shutdown(
        &self,
        _: Request<pb::ShutdownRequest>,
    ) -> Result<Response<pb::ShutdownResponse>, Status> {
        // Tasks outlive this process, and the controller's shutdown ends it.
        Ok(Response::new(pb::ShutdownResponse {}))
    }

    async fn task_config_schema(
        &self,
        _: Request<pb::TaskConfigSchemaRequest>,
    ) -> Result<Response<pb::TaskConfigSchemaResponse>, Status> {
        let mut options = self.0.engine.task_options();
        options.extend(face_task_options());
        Ok(Response::new(pb::TaskConfigSchemaResponse { spec: Some(schema::of_block(&options)) }))
    }

    async fn capabilities(
        &self,
        _: Request<pb::CapabilitiesRequest>,
    ) -> Result<Response<pb::CapabilitiesResponse>, Status> {
        let (settings, _) = self.0.configured();
        Ok(Response::new(pb::CapabilitiesResponse { capabilities: Some(settings.capabilities()) }))
    }

    type FingerprintStream = Answers<pb::FingerprintResponse>;

    async fn fingerprint(
        &self,
        _: Request<pb::FingerprintRequest>,
    ) -> Result<Response<Self::FingerprintStream>, Status> {
        Ok(Response::new(streams::fingerprint(Arc::clone(&self.0))))
    }

    async fn recover_task(
        &self,
        request: Request<pb::RecoverTaskRequest>,
    ) -> Result<Response<pb::RecoverTaskResponse>, Status> {
        to_the_end(lifecycle::recover(Arc::clone(&self.0), request.into_inner())).await
    }

    async fn start_task(
        &self,
        request: Request<pb::StartTaskRequest>,
    ) -> Result<Response<pb::StartTaskResponse>, Status> {
        to_the_end(lifecycle::start(Arc::clone(&self.0), request.into_inner())).await
    }

    async fn wait_task(
        &self,
        request: Request<pb::WaitTaskRequest>,
    ) -> Result<Response<pb::WaitTaskResponse>, Status> {
        let task = self.0.tasks.find(&request.into_inner().task_id)?;
        Ok(Response::new(match task.outcome().await? {
            Outcome::Exited(exit) => pb::WaitTaskResponse {
                result: Some(convert::exit_result(&exit)),
                err: exit.error.unwrap_or_default(),
            },
            Outcome::Lost(err) => pb::WaitTaskResponse {
                result: Some(pb::ExitResult { exit_code: -1, ..Default::default() }),
                err,
            },
        }))
    }

    async fn stop_task(
        &self,
        request: Request<pb::StopTaskRequest>,
    ) -> Result<Response<pb::StopTaskResponse>, Status> {
        to_the_end(lifecycle::stop(Arc::clone(&self.0), request.into_inner())).await
    }

    async fn destroy_task(
        &self,
        request: Request<pb::DestroyTaskRequest>,
    ) -> Result<Response<pb::DestroyTaskResponse>, Status> {
        to_the_end(lifecycle::destroy(Arc::clone(&self.0), request.into_inner())).await
    }

    async fn inspect_task(
        &self,
        request: Request<pb::InspectTaskRequest>,
    ) -> Result<Response<pb::InspectTaskResponse>, Status> {
        let id = request.into_inner().task_id;
        let task = self.0.tasks.find(&id)?;
        let asked = id.clone();
        let found = self.0.blocking(move |engine| engine.inspect(&asked)).await??;
        Ok(Response::new(convert::inspection(id, task.name, found)))
    }

    type TaskStatsStream = Answers<pb::TaskStatsResponse>;

    async fn task_stats(
        &self,
        request: Request<pb::TaskStatsRequest>,
    ) -> Result<Response<Self::TaskStatsStream>, Status> {
        let request = request.into_inner();
        let interval = convert::duration(request.collection_interval.as_ref());
        Ok(Response::new(streams::stats(Arc::clone(&self.0), request.task_id, interval)))
    }

    type TaskEventsStream = Answers<pb::DriverTaskEvent>;

    async fn task_events(
        &self,
        _: Request<pb::TaskEventsRequest>,
    ) -> Result<Response<Self::TaskEventsStream>, Status> {
        Ok(Response::new(streams::events(&self.0)))
    }

    async fn signal_task(
        &self,
        request: Request<pb::SignalTaskRequest>,
    ) -> Result<Response<pb::SignalTaskResponse>, Status> {
        let request = request.into_inner();
        // A run that is over, or was never here, has nobody to be told.
        self.0.tasks.find(&request.task_id)?;
        let signal = Signal::parse(&request.signal).map_err(failed)?;
        self.0.blocking(move |engine| engine.signal(&request.task_id, signal)).await??;
        Ok(Response::new(pb::SignalTaskResponse {}))
    }

    async fn exec_task(
        &self,
        request: Request<pb::ExecTaskRequest>,
    ) -> Result<Response<pb::ExecTaskResponse>, Status> {
        to_the_end(exec::run(Arc::clone(&self.0), request.into_inner())).await
    }

    type ExecTaskStreamingStream = Answers<pb::ExecTaskStreamingResponse>;

    async fn exec_task_streaming(
        &self,
        request: Request<Streaming<pb::ExecTaskStreamingRequest>>,
    ) -> Result<Response<Self::ExecTaskStreamingStream>, Status> {
        let mut requests = request.into_inner();
        let first =
            requests.message().await?.and_then(|first| first.setup.map(|setup| (setup, first.tty_size)));
        let Some((setup, size)) = first else {
            return Err(invalid("the first message of a session must say what to run"));
        };
        self.0.tasks.find(&setup.task_id)?;
        Ok(Response::new(exec::stream(&self.0, setup, size, requests).await?))
    }

    async fn create_network(
        &self,
        _: Request<pb::CreateNetworkRequest>,
    ) -> Result<Response<pb::CreateNetworkResponse>, Status> {
        Err(Status::unimplemented("this driver makes no networks: the client does"))
    }

    async fn destroy_network(
        &self,
        _: Request<pb::DestroyNetworkRequest>,
    ) -> Result<Response<pb::DestroyNetworkResponse>, Status> {
        Err(Status::unimplemented("this driver makes no networks: the client does"))
    }
}

/// Turns "no such task" into success, for calls that may come again after it was freed.
fn or_gone(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::UnknownTask) => Ok(()),
        other => other,
    }
}
