//! The client's side: launches the plugin as an agent does, and asks.

use bivouac_plugin::wire::base::base_plugin_client::BasePluginClient;
use bivouac_plugin::wire::base::{NomadConfig, NomadDriverConfig, SetConfigRequest};
use bivouac_plugin::wire::driver as pb;
use bivouac_plugin::wire::driver::driver_client::DriverClient;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

const COOKIE: (&str, &str) =
    ("NOMAD_PLUGIN_MAGIC_COOKIE", "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255");

fn profile() -> PathBuf {
    std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned()
}

pub(crate) fn shim() -> PathBuf {
    let shim = std::env::var_os("BIVOUAC_SHIM").map_or_else(|| profile().join("bivouac-shim"), PathBuf::from);
    assert!(shim.exists(), "{} is missing: cargo build -p bivouac-shim", shim.display());
    shim
}

/// What is installed on a host: a plugin, and the shim that lies beside it.
pub(crate) struct Release {
    plugin: PathBuf,
    shim: PathBuf,
}

impl Release {
    /// Of this build.
    pub(crate) fn today() -> Release {
        Release { plugin: profile().join("examples/plugin"), shim: shim() }
    }

    /// Of this build but for the version of the protocol between the two, which is the one before. The machine without
    /// cargo finds it built.
    pub(crate) fn older() -> Release {
        if std::env::var_os("BIVOUAC_TEST_LANE").is_none_or(|lane| lane != "vm") {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let features = "bivouac-plugin/older,bivouac-shim/older";
            let built = Command::new(cargo)
                .args(["build", "--quiet", "-p", "bivouac-plugin", "-p", "bivouac-shim"])
                .args(["--example", "older_plugin", "--example", "older_shim", "--features", features])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the older programs do not build");
        }
        let example = |name| profile().join("examples").join(name);
        Release { plugin: example("older_plugin"), shim: example("older_shim") }
    }

    /// Its plugin with the shim of another: an upgrade that was done by half.
    pub(crate) fn with_shim_of(self, other: Release) -> Release {
        self.with_shim(&other.shim)
    }

    /// Its plugin with any file as the shim.
    pub(crate) fn with_shim(self, shim: &Path) -> Release {
        Release { shim: shim.to_owned(), ..self }
    }
}

/// A launched plugin.
pub(crate) struct Plugin {
    child: Child,
    channel: Channel,
    _socket: Socket,
}

/// A plugin that is killed cannot take its socket away.
struct Socket(String);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Plugin {
    /// Launches it under a name and configures it.
    pub(crate) async fn launch(name: &str, config: Value) -> Plugin {
        let plugin = Plugin::launch_only(name).await;
        plugin.set_config(&config).await.unwrap();
        plugin
    }

    pub(crate) async fn launch_only(name: &str) -> Plugin {
        Plugin::launch_of(&Release::today(), name).await
    }

    /// Launches the one of a release.
    pub(crate) async fn launch_of(release: &Release, name: &str) -> Plugin {
        let mut child = Command::new(&release.plugin)
            .args(["--name", name])
            .env(COOKIE.0, COOKIE.1)
            .env("PLUGIN_PROTOCOL_VERSIONS", "2")
            .env("BIVOUAC_SHIM", &release.shim)
            .env("OF_THE_AGENT", "seen")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut byte = [0];
        while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(char::from(byte[0]));
        }
        let socket = line.split('|').nth(3).unwrap_or_else(|| panic!("a handshake: {line:?}")).to_owned();
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).unwrap();
        Plugin { child, channel: endpoint.connect().await.unwrap(), _socket: Socket(socket) }
    }

    pub(crate) async fn set_config(&self, config: &Value) -> Result<(), tonic::Status> {
        let request = SetConfigRequest {
            msgpack_config: rmp_serde::to_vec_named(config).unwrap(),
            nomad_config: Some(NomadConfig { driver: Some(NomadDriverConfig::default()) }),
            plugin_api_version: "v0.1.0".into(),
        };
        BasePluginClient::new(self.channel.clone()).set_config(request).await.map(drop)
    }

    /// Its health as the client is told now, and the sentence about it.
    pub(crate) async fn health(&self) -> (pb::fingerprint_response::HealthState, String) {
        let stream = self.driver().fingerprint(pb::FingerprintRequest {}).await;
        let first = stream.unwrap().into_inner().message().await.unwrap().unwrap();
        (first.health(), first.health_description)
    }

    pub(crate) fn driver(&self) -> DriverClient<Channel> {
        DriverClient::new(self.channel.clone())
    }

    /// Ends the process without giving it a chance.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn start(&self, config: pb::TaskConfig) -> Result<pb::TaskHandle, tonic::Status> {
        let answer = self.driver().start_task(pb::StartTaskRequest { task: Some(config) }).await?;
        Ok(answer.into_inner().handle.unwrap())
    }

    pub(crate) async fn recover(&self, handle: pb::TaskHandle) -> Result<(), tonic::Status> {
        let request = pb::RecoverTaskRequest { handle: Some(handle), task_id: String::new() };
        self.driver().recover_task(request).await.map(drop)
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<pb::WaitTaskResponse, tonic::Status> {
        let asked = self.driver().wait_task(pb::WaitTaskRequest { task_id: id.into() }).await;
        asked.map(tonic::Response::into_inner)
    }

    pub(crate) async fn exit_code(&self, id: &str) -> i32 {
        self.wait(id).await.unwrap().result.unwrap().exit_code
    }

    pub(crate) async fn stop(&self, id: &str, signal: &str, timeout: Duration) -> Result<(), tonic::Status> {
        let timeout = prost_types::Duration {
            seconds: timeout.as_secs().try_into().unwrap(),
            nanos: timeout.subsec_nanos().try_into().unwrap(),
        };
        let request =
            pb::StopTaskRequest { task_id: id.into(), timeout: Some(timeout), signal: signal.into() };
        self.driver().stop_task(request).await.map(drop)
    }

    pub(crate) async fn destroy(&self, id: &str) -> Result<(), tonic::Status> {
        let request = pb::DestroyTaskRequest { task_id: id.into(), force: true };
        self.driver().destroy_task(request).await.map(drop)
    }

    /// Runs a command in the task: its output and exit code.
    pub(crate) async fn exec(&self, id: &str, command: &[&str]) -> (String, i32) {
        let request = pb::ExecTaskRequest {
            task_id: id.into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        };
        let answer = self.driver().exec_task(request).await.unwrap().into_inner();
        (String::from_utf8(answer.stdout).unwrap(), answer.result.unwrap().exit_code)
    }

    /// Events up to and with the first that holds `word`.
    pub(crate) async fn events_until(&self, word: &str) -> Vec<pb::DriverTaskEvent> {
        let events = self.driver().task_events(pb::TaskEventsRequest {}).await.unwrap();
        let mut events = events.into_inner();
        let mut seen = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            let found = event.message.contains(word);
            seen.push(event);
            if found {
                return seen;
            }
        }
        panic!("the stream of events has ended: {seen:?}");
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
