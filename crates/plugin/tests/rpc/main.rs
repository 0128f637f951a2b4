//! The wire as a client sees it: every call, in order and out of order, and clients that misbehave.

#[path = "../fake/mod.rs"]
mod fake;

mod hostile;
mod lifecycle;
mod process;
mod sessions;

use bivouac_plugin::wire::base::base_plugin_client::BasePluginClient;
use bivouac_plugin::wire::driver::driver_client::DriverClient;
use bivouac_plugin::wire::driver::{self as pb};
use bivouac_plugin::{DriverName, until_shutdown};
use fake::{Fake, Record};
use serde_json::json;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Nothing in these tests takes as long.
const LIMIT: Duration = Duration::from_secs(30);

/// A served driver and a client of it.
struct Served {
    dir: tempfile::TempDir,
    record: Arc<Record>,
    channel: Channel,
}

impl Served {
    fn driver(&self) -> DriverClient<Channel> {
        DriverClient::new(self.channel.clone())
    }

    fn base(&self) -> BasePluginClient<Channel> {
        BasePluginClient::new(self.channel.clone())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    async fn connect(&self) -> Channel {
        connect(&self.socket()).await
    }

    /// A task of a shell that runs `script`.
    fn task(&self, id: &str, script: &str) -> pb::TaskConfig {
        let config = json!({"command": "/bin/sh", "args": ["-c", script]});
        pb::TaskConfig {
            id: id.into(),
            name: "main".into(),
            alloc_id: "a".into(),
            alloc_dir: self.dir.path().to_str().expect("a plain path").into(),
            msgpack_driver_config: rmp_serde::to_vec_named(&config).expect("a configuration"),
            ..Default::default()
        }
    }

    async fn start(&self, id: &str, script: &str) -> pb::TaskHandle {
        let request = pb::StartTaskRequest { task: Some(self.task(id, script)) };
        let answer = self.driver().start_task(request).await.expect("a start").into_inner();
        assert_eq!(answer.result, i32::from(pb::start_task_response::Result::Success));
        answer.handle.expect("a handle")
    }

    async fn wait(&self, id: &str) -> Result<pb::WaitTaskResponse, tonic::Status> {
        let asked = self.driver().wait_task(pb::WaitTaskRequest { task_id: id.into() }).await;
        asked.map(tonic::Response::into_inner)
    }

    async fn destroy(&self, id: &str) {
        let request = pb::DestroyTaskRequest { task_id: id.into(), force: true };
        self.driver().destroy_task(request).await.expect("a destruction");
    }
}

async fn connect(socket: &std::path::Path) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("an address");
    endpoint.connect().await.expect("a connection")
}

async fn served() -> Served {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
    let engine = Fake::with_diary(None, false);
    let record = Arc::clone(&engine.record);
    let name = DriverName::new("fake").expect("a name");
    tokio::spawn(async move { until_shutdown(engine, name, listener).await.expect("a server") });
    let channel = connect(&dir.path().join("socket")).await;
    Served { dir, record, channel }
}

/// Runs a test on one thread, as the plugin does, and no longer than allowed.
fn test(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LIMIT, body).await.expect("in time") });
    runtime.shutdown_background();
}
