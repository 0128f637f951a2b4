//! One process of the plugin: handshake, services, and an orderly end.

use crate::base::Base;
use crate::broker::{Broker, Controller, Stdio};
use crate::driver::Driver;
use crate::face::Engine;
use crate::handshake::{HandshakeError, Launch, Socket};
use crate::name::{DriverName, NameError};
use crate::shared::Shared;
use crate::wire::base::base_plugin_server::BasePluginServer;
use crate::wire::driver::driver_server::DriverServer;
use crate::wire::plugin::grpc_broker_server::GrpcBrokerServer;
use crate::wire::plugin::grpc_controller_server::GrpcControllerServer;
use crate::wire::plugin::grpc_stdio_server::GrpcStdioServer;
use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;

/// Largest message taken, in bytes: environments and saved states may be large.
const MAX_MESSAGE: usize = 64 << 20;
/// Threads for engine work. Nothing that lasts as long as a task runs on them.
const WORKERS: usize = 16;
/// How long an idle one is kept.
const WORKER_IDLE: Duration = Duration::from_secs(2);
/// How long an answer to the shutdown call may take to leave.
const LAST_ANSWER: Duration = Duration::from_millis(10);
/// Reset streams that one connection may leave behind: a user who ends hundreds of sessions at once is
/// no attacker, and the only peer is the agent.
const MAX_RESETS: usize = 100_000;

/// Why the plugin does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The launcher and we do not understand each other.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The driver has no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The system refuses what every server needs.
    #[error("cannot serve: {0}")]
    System(#[from] std::io::Error),
    /// The server gave up.
    #[error("the server ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves one driver to the program that launched this process, until that says to end or SIGTERM comes.
///
/// `args` are the process's own, the program's name first. `make` gets the driver's name; it is called
/// before anything is set up and must have no effect outside of the process, because an agent launches
/// a plugin three times. Standard output belongs to the handshake from here on. Tasks go on when this
/// returns; the caller should end the process at once with the exit code.
pub fn serve<E: Engine>(make: impl FnOnce(&DriverName) -> E, args: &[OsString]) -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    crate::log::install();
    match Launch::read(env).map_err(ServeError::from).and_then(|launch| run(make, args, &launch)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServeError::Handshake(error @ HandshakeError::NotLaunched)) => {
            use std::io::Write;
            // A person reads this one.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run<E: Engine>(
    make: impl FnOnce(&DriverName) -> E,
    args: &[OsString],
    launch: &Launch,
) -> Result<(), ServeError> {
    let name = DriverName::from_args(args)?;
    let socket = Socket::listen(launch)?;
    let engine = make(&name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_keep_alive(WORKER_IDLE)
        .build()?;
    let served = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // The listening socket takes connections already: nothing is lost between here and the first
        // poll of the server.
        let server = until_shutdown(engine, name, socket.listener()?);
        socket.announce(std::io::stdout())?;
        tokio::pin!(server);
        loop {
            tokio::select! {
                served = &mut server => return served,
                _ = terminate.recv() => return Ok(()),
                // A ^C in a terminal reaches the agent's whole group; the agent decides.
                _ = interrupt.recv() => {}
            }
        }
    });
    // Calls and streams break off: to the client that means a plugin that ended, not a task.
    runtime.shutdown_background();
    served
}

/// Serves until the shutdown call.
///
/// # Errors
/// The listener is of no use, or the server gives up.
pub async fn until_shutdown<E: Engine>(
    engine: E,
    name: DriverName,
    listener: UnixListener,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
    let shared = Shared::new(Arc::new(engine), name);
    let shutdown = Arc::new(Notify::new());
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in ["", "plugin"] {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let base = BasePluginServer::new(Base(Arc::clone(&shared)));
    let driver = DriverServer::new(Driver(shared));
    let server = tonic::transport::Server::builder()
        // A wait per task is parked on one connection for as long as the task lives.
        .max_concurrent_streams(u32::MAX)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .add_service(health_service)
        .add_service(GrpcControllerServer::new(Controller { shutdown: Arc::clone(&shutdown) }))
        .add_service(GrpcStdioServer::new(Stdio))
        .add_service(GrpcBrokerServer::new(Broker))
        .add_service(base.max_decoding_message_size(MAX_MESSAGE))
        .add_service(driver.max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming(incoming);
    tokio::select! {
        served = server => Ok(served?),
        () = async {
            shutdown.notified().await;
            tokio::time::sleep(LAST_ANSWER).await;
        } => Ok(()),
    }
}
