//! A client that sends nonsense or goes away at every point: nothing may break for the next one.

use super::{Served, pb, served, test};
use bivouac_plugin::wire::plugin::grpc_broker_client::GrpcBrokerClient;
use bivouac_plugin::wire::plugin::grpc_stdio_client::GrpcStdioClient;
use bivouac_plugin::wire::plugin::{self};
use prost::Message;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// Bytes that stand for any message: the first field, as it is given.
#[derive(Clone, PartialEq, Message)]
struct AnyBytes {
    #[prost(bytes = "vec", tag = "1")]
    first: Vec<u8>,
}

async fn call(served: &Served, method: &'static str, first: Vec<u8>) -> Result<(), tonic::Status> {
    let mut grpc = Grpc::new(served.channel.clone());
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<AnyBytes, AnyBytes>::default();
    grpc.unary(Request::new(AnyBytes { first }), PathAndQuery::from_static(method), codec).await.map(drop)
}

async fn still_serves(served: &Served) {
    let id = "a/check/1";
    served.start(id, "exit 3").await;
    assert_eq!(served.wait(id).await.expect("an end").result.map(|r| r.exit_code), Some(3));
    served.destroy(id).await;
}

#[test]
fn unknown_calls_are_told_apart() {
    test(async {
        let served = served().await;
        for method in ["/hashicorp.nomad.plugins.drivers.proto.Driver/NoSuchCall", "/no.such.Service/Call"] {
            assert_eq!(call(&served, method, vec![]).await.expect_err("unknown").code(), Code::Unimplemented);
        }
        still_serves(&served).await;
    });
}

#[test]
fn broken_and_oversized_messages_are_refused() {
    test(async {
        let served = served().await;
        let start = "/hashicorp.nomad.plugins.drivers.proto.Driver/StartTask";
        // A task whose fields end in the middle, whose lengths lie, whose types are others.
        for bytes in [
            &[0x0a, 0xff][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x08, 1],
            &[0xff; 11],
            &[0x32, 2, 0x0a, 9],
        ] {
            let status = call(&served, start, bytes.to_vec()).await.expect_err("broken");
            assert!(!matches!(status.code(), Code::Unavailable | Code::Cancelled), "{status:?}");
        }
        let status = call(&served, start, vec![0x0a; 65 << 20]).await.expect_err("oversized");
        assert!(!matches!(status.code(), Code::Unavailable | Code::Cancelled), "{status:?}");
        let empty =
            served.driver().start_task(pb::StartTaskRequest { task: None }).await.expect_err("no task");
        assert_eq!(empty.code(), Code::InvalidArgument);
        still_serves(&served).await;
    });
}

#[test]
fn five_mib_of_environment_are_a_sound_message() {
    test(async {
        let served = served().await;
        let env = (0..5).map(|n| (format!("V{n}"), "x".repeat(100_000))).collect();
        let device_env = (0..50).map(|n| (format!("V{n}"), "x".repeat(100_000))).collect();
        let task = pb::TaskConfig { env, device_env, ..served.task("big", "exit 0") };
        served.driver().start_task(pb::StartTaskRequest { task: Some(task) }).await.expect("a start");
        assert_eq!(served.wait("big").await.expect("an end").result.map(|r| r.exit_code), Some(0));
    });
}

#[test]
fn streams_dropped_at_every_point_leave_nothing_behind() {
    test(async {
        let served = served().await;
        served.start("d", "sleep 60").await;
        for pause in [0, 0, 0, 1, 5, 20] {
            let pause = Duration::from_millis(pause);
            for _ in 0..50 {
                let mut driver = served.driver();
                let wait = driver.wait_task(pb::WaitTaskRequest { task_id: "d".into() });
                assert!(tokio::time::timeout(pause, wait).await.is_err(), "the task is over");
                let mut driver = served.driver();
                let request = pb::TaskStatsRequest { task_id: "d".into(), collection_interval: None };
                drop(tokio::time::timeout(pause, driver.task_stats(request)).await);
                let mut driver = served.driver();
                drop(tokio::time::timeout(pause, driver.fingerprint(pb::FingerprintRequest {})).await);
                drop(tokio::time::timeout(pause, driver.task_events(pb::TaskEventsRequest {})).await);
            }
        }
        // A start that nobody waits for is still carried out, and its id is known.
        let mut driver = served.driver();
        let request = pb::StartTaskRequest { task: Some(served.task("half", "sleep 60")) };
        drop(tokio::time::timeout(Duration::from_millis(1), driver.start_task(request)).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        served.destroy("half").await;
        still_serves(&served).await;
        served.destroy("d").await;
    });
}

#[test]
fn connections_may_break_off_and_speak_nonsense() {
    test(async {
        let served = served().await;
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 4096]]
        {
            let mut stream = tokio::net::UnixStream::connect(served.socket()).await.expect("a connection");
            let _ = stream.write_all(bytes).await;
        }
        drop(served.connect().await);
        still_serves(&served).await;
    });
}

#[test]
fn the_launchers_streams_stay_open_and_silent() {
    test(async {
        let served = served().await;
        let mut stdio = GrpcStdioClient::new(served.channel.clone());
        let mut output = stdio.stream_stdio(()).await.expect("a stream").into_inner();
        let mut broker = GrpcBrokerClient::new(served.channel.clone());
        let knock = plugin::ConnInfo { service_id: 1, ..Default::default() };
        let mut peers = broker.start_stream(tokio_stream::once(knock)).await.expect("a stream").into_inner();
        let silence = Duration::from_millis(200);
        assert!(tokio::time::timeout(silence, output.message()).await.is_err());
        assert!(tokio::time::timeout(silence, peers.message()).await.is_err());
    });
}
