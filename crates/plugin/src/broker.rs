//! The services that the plugin host library expects beside the driver itself.
//!
//! Nomad uses only the shutdown. The other two streams are opened on every connection and must stay
//! open; nothing is ever sent on them.

use crate::wire::plugin as pb;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_stream::Pending;
use tonic::{Request, Response, Status, Streaming};

/// The shutdown service; wakes whoever waits on its end of the notice.
pub(crate) struct Controller {
    pub(crate) shutdown: Arc<Notify>,
}

#[tonic::async_trait]
impl pb::grpc_controller_server::GrpcController for Controller {
    async fn shutdown(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        tracing::debug!("the agent asks this plugin to end");
        self.shutdown.notify_one();
        Ok(Response::new(pb::Empty {}))
    }
}

/// Would carry what the plugin prints; ours prints nothing.
pub(crate) struct Stdio;

#[tonic::async_trait]
impl pb::grpc_stdio_server::GrpcStdio for Stdio {
    type StreamStdioStream = Pending<Result<pb::StdioData, Status>>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}

/// Would broker further connections; a driver needs none.
pub(crate) struct Broker;

#[tonic::async_trait]
impl pb::grpc_broker_server::GrpcBroker for Broker {
    type StartStreamStream = Pending<Result<pb::ConnInfo, Status>>;

    async fn start_stream(
        &self,
        _: Request<Streaming<pb::ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}
