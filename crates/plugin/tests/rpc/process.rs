//! The plugin as a process: handshake, logs, health, and its end.

use super::{connect, pb, test};
use bivouac_plugin::wire::driver::driver_client::DriverClient;
use bivouac_plugin::wire::plugin::Empty;
use bivouac_plugin::wire::plugin::grpc_controller_client::GrpcControllerClient;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

const COOKIE: (&str, &str) =
    ("NOMAD_PLUGIN_MAGIC_COOKIE", "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255");

fn command() -> Command {
    let test = std::env::current_exe().expect("this program");
    let profile = test.parent().and_then(Path::parent).expect("a profile's directory");
    let mut command = Command::new(profile.join("examples/fake_plugin"));
    command
        .env(COOKIE.0, COOKIE.1)
        .env("PLUGIN_PROTOCOL_VERSIONS", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts the plugin and reads its line.
fn launch(command: &mut Command) -> (Child, PathBuf) {
    let mut child = command.spawn().expect("the plugin runs: is the example built?");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    // Byte by byte: nothing that follows may be swallowed.
    let mut byte = [0];
    while stdout.read(&mut byte).expect("a line") == 1 {
        line.push(char::from(byte[0]));
        if byte[0] == b'\n' {
            break;
        }
    }
    let fields: Vec<&str> = line.trim().split('|').collect();
    assert_eq!(
        (fields.first(), fields.get(1), fields.get(2), fields.get(4)),
        (Some(&"1"), Some(&"2"), Some(&"unix"), Some(&"grpc")),
        "{line}"
    );
    (child, PathBuf::from(fields[3]))
}

fn exit_code(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status.code();
        }
        if Instant::now() > end {
            let _ = child.kill();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_the_cookie_it_tells_a_person_what_it_is() {
    let output = command().env_remove(COOKIE.0).output().expect("the plugin runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("plugin_dir"));
}

#[test]
fn with_a_certificate_it_refuses_in_the_log() {
    let output = command().env("PLUGIN_CLIENT_CERT", "pem").output().expect("the plugin runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one JSON line");
    assert_eq!(line["@level"], "error");
}

#[test]
fn it_serves_from_the_line_on_and_ends_on_the_call_with_streams_open() {
    test(async {
        let (mut child, socket) = launch(&mut command());
        let channel = connect(&socket).await;
        for service in ["", "plugin"] {
            let request = HealthCheckRequest { service: service.into() };
            let health =
                HealthClient::new(channel.clone()).check(request).await.expect("health").into_inner();
            assert_eq!(health.status(), ServingStatus::Serving);
        }
        let mut driver = DriverClient::new(channel.clone());
        let _prints = driver.fingerprint(pb::FingerprintRequest {}).await.expect("a stream");
        let _events = driver.task_events(pb::TaskEventsRequest {}).await.expect("a stream");
        let began = Instant::now();
        // The answer may or may not arrive before the end.
        let _ = GrpcControllerClient::new(channel).shutdown(Empty {}).await;
        assert_eq!(exit_code(&mut child), Some(0));
        assert!(began.elapsed() < Duration::from_secs(20), "open streams keep it from ending");
        assert!(!socket.exists(), "the socket stays behind");
        let mut rest = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut rest).expect("readable");
        assert_eq!(rest, "", "nothing but the handshake goes to standard output");
        for line in BufReader::new(child.stderr.take().expect("a pipe")).lines() {
            let line: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            assert!(
                line["@message"].is_string() && line["@level"].is_string() && line["@timestamp"].is_string()
            );
        }
    });
}

#[test]
fn it_ignores_an_interrupt_and_ends_on_sigterm() {
    test(async {
        let (mut child, socket) = launch(&mut command());
        let _channel = connect(&socket).await;
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::INT).expect("a signal");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(child.try_wait().expect("wait").is_none(), "an interrupt ended the plugin");
        kill_process(pid, Signal::TERM).expect("a signal");
        assert_eq!(exit_code(&mut child), Some(0));
        assert!(!socket.exists());
    });
}

#[test]
fn it_goes_on_when_nobody_reads_its_logs_any_more() {
    test(async {
        let (mut child, socket) = launch(&mut command());
        drop((child.stdout.take(), child.stderr.take()));
        let mut driver = DriverClient::new(connect(&socket).await);
        for id in ["l/1", "l/2"] {
            // Every failed start is logged.
            let task = pb::TaskConfig { id: id.into(), ..Default::default() };
            let status =
                driver.start_task(pb::StartTaskRequest { task: Some(task) }).await.expect_err("a bad task");
            assert!(status.message().contains("option command is required"), "{status:?}");
        }
        // A second connection, as after a restart of the agent, and no configuration with it.
        let mut again = DriverClient::new(connect(&socket).await);
        again.init(pb::InitRequest {}).await.expect("init");
        again.capabilities(pb::CapabilitiesRequest {}).await.expect("capabilities");
        let _ = GrpcControllerClient::new(connect(&socket).await).shutdown(Empty {}).await;
        assert_eq!(exit_code(&mut child), Some(0));
    });
}

#[test]
fn its_name_comes_from_the_arguments_or_the_file() {
    use bivouac_plugin::wire::base::{PluginInfoRequest, base_plugin_client::BasePluginClient};
    test(async {
        for (args, name) in [(&["--name", "exec"][..], "exec"), (&[], "fake_plugin")] {
            let (mut child, socket) = launch(command().args(args));
            let mut base = BasePluginClient::new(connect(&socket).await);
            let info = base.plugin_info(PluginInfoRequest {}).await.expect("info").into_inner();
            assert_eq!(info.name, name);
            let _ = GrpcControllerClient::new(connect(&socket).await).shutdown(Empty {}).await;
            assert_eq!(exit_code(&mut child), Some(0));
        }
    });
}
