//! Commands in a task: rows D1-D9 as far as the face decides them, and users who go away.

use super::{Served, pb, served, test};
use pb::exec_task_streaming_request::{Setup, TerminalSize};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

type Request = pb::ExecTaskStreamingRequest;
type Response = pb::ExecTaskStreamingResponse;

/// All that a session said.
#[derive(Debug, Default, PartialEq)]
struct Said {
    stdout: String,
    stderr: String,
    closed: (u32, u32),
    code: Option<i32>,
}

fn setup(script: &str, tty: bool) -> Request {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Request { setup: Some(Setup { task_id: "x".into(), command, tty }), ..Default::default() }
}

fn stdin(data: &str, close: bool) -> Request {
    let stdin = Some(pb::ExecTaskStreamingIoOperation { data: data.into(), close });
    Request { stdin, ..Default::default() }
}

fn size(height: i32, width: i32) -> Request {
    Request { tty_size: Some(TerminalSize { height, width }), ..Default::default() }
}

/// Opens a session; the client's side stays open as long as the sender lives.
async fn open(served: &Served, first: Request) -> (mpsc::Sender<Request>, Streaming<Response>) {
    let (sender, receiver) = mpsc::channel(64);
    sender.send(first).await.expect("room");
    let stream = served.driver().exec_task_streaming(ReceiverStream::new(receiver)).await;
    (sender, stream.expect("a session").into_inner())
}

async fn finish(mut stream: Streaming<Response>) -> Said {
    let mut said = Said::default();
    let mut take = |response: Response| {
        assert!(said.code.is_none(), "something follows the exit: {response:?}");
        let mut stdout = response.stdout.unwrap_or_default();
        let mut stderr = response.stderr.unwrap_or_default();
        said.stdout.push_str(&String::from_utf8_lossy(&std::mem::take(&mut stdout.data)));
        said.stderr.push_str(&String::from_utf8_lossy(&std::mem::take(&mut stderr.data)));
        said.closed.0 += u32::from(stdout.close);
        said.closed.1 += u32::from(stderr.close);
        said.code = response.exited.then(|| response.result.expect("a result").exit_code);
    };
    while let Some(response) = stream.message().await.expect("no error") {
        take(response);
    }
    said
}

async fn run(first: Request, then: Vec<Request>) -> Said {
    let served = served().await;
    served.start("x", "sleep 60").await;
    let (sender, stream) = open(&served, first).await;
    for request in then {
        sender.send(request).await.expect("room");
    }
    let said = finish(stream).await;
    served.destroy("x").await;
    said
}

/// Covers: D12
#[test]
fn d1_d5_output_and_exit_code() {
    test(async {
        let script = "echo hello stdout; echo hello stderr >&2; exit 43";
        let said = run(setup(script, false), vec![]).await;
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello stdout\n", "hello stderr\n"));
        assert_eq!((said.closed, said.code), ((1, 1), Some(43)));
        let said = run(setup(script, true), vec![]).await;
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello stdout\r\nhello stderr\r\n", ""));
        assert_eq!((said.closed, said.code), ((1, 0), Some(43)));
    });
}

/// Covers: D12
#[test]
fn d2_output_arrives_while_the_command_runs() {
    test(async {
        let served = served().await;
        served.start("x", "sleep 60").await;
        // It goes on only when its first line has been seen.
        let (sender, mut stream) = open(&served, setup("echo 1; read word; echo $word", false)).await;
        let first = stream.message().await.expect("no error").expect("a piece");
        assert_eq!(first.stdout.expect("stdout").data, b"1\n");
        sender.send(stdin("2\n", false)).await.expect("room");
        assert_eq!(finish(stream).await.stdout, "2\n");
    });
}

/// Covers: D12
#[test]
fn d3_d7_terminals_and_their_size() {
    test(async {
        let said = run(setup("stty size", false), vec![stdin("", true)]).await;
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("Inappropriate ioctl for device"), "{said:?}");
        let sizes = vec![size(50, 40), Request::default(), size(100, 100)];
        let said = run(setup("sleep 0.5; stty size", true), sizes).await;
        assert_eq!((said.stdout.as_str(), said.code), ("100 100\r\n", Some(0)));
        let said = run(setup("sleep 0.5; stty size", true), vec![size(-1, 1 << 20)]).await;
        assert_eq!(said.stdout, "0 65535\r\n");
    });
}

/// Covers: D12
#[test]
fn d4_d8_input_reaches_the_command() {
    test(async {
        let script = "echo hello from command; head -n1";
        let said = run(setup(script, false), vec![stdin("hello from stdin\n", false)]).await;
        assert_eq!((said.stdout.as_str(), said.code), ("hello from command\nhello from stdin\n", Some(0)));
        let said = run(setup("head -n1", true), vec![stdin("typed\n", false)]).await;
        assert_eq!((said.stdout.as_str(), said.code), ("typed\r\ntyped\r\n", Some(0)));
    });
}

/// Covers: D12
#[test]
fn d9_a_terminal_does_not_wait_for_children_and_pipes_do() {
    test(async {
        let script = "(sleep 2; echo from background) & echo from main; exec sleep 0.3";
        // Had it waited, the second line would be there.
        let said = run(setup(script, true), vec![]).await;
        assert_eq!((said.stdout.as_str(), said.code), ("from main\r\n", Some(0)));
        let said = run(setup(script, false), vec![]).await;
        assert_eq!(said.stdout, "from main\nfrom background\n");
    });
}

#[test]
fn end_of_input_ends_a_reader() {
    test(async {
        let text = "some text\n".repeat(50_000);
        let mut pieces: Vec<Request> = text
            .as_bytes()
            .chunks(4096)
            .map(|piece| {
                let data = piece.to_vec();
                Request {
                    stdin: Some(pb::ExecTaskStreamingIoOperation { data, close: false }),
                    ..Default::default()
                }
            })
            .collect();
        pieces.push(stdin("", true));
        let served = served().await;
        served.start("x", "sleep 60").await;
        let (sender, stream) = open(&served, setup("cat; echo done", false)).await;
        let feed = tokio::spawn(async move {
            for piece in pieces {
                sender.send(piece).await.expect("a reader");
            }
            sender
        });
        let said = finish(stream).await;
        feed.await.expect("all sent");
        assert_eq!(said.stdout.len(), text.len() + 5);
        assert!(said.stdout.ends_with("text\ndone\n"));
        let said = run(setup("cat; echo done", true), vec![stdin("line\n", false), stdin("", true)]).await;
        assert_eq!(said.stdout, "line\r\nline\r\ndone\r\n");
    });
}

#[test]
fn a_user_who_goes_away_takes_the_command_along() {
    test(async {
        let served = served().await;
        served.start("x", "sleep 60").await;
        let mark = served.dir.path().join("alive");
        let script = format!("while true; do date +%s.%N > {}; sleep 0.05; done", mark.display());
        for tty in [false, true] {
            let (sender, stream) = open(&served, setup(&script, tty)).await;
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop((sender, stream));
            tokio::time::sleep(Duration::from_millis(500)).await;
            std::fs::remove_file(&mark).expect("a mark");
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!mark.exists(), "tty {tty}: the command goes on");
        }
    });
}

/// What a session that cannot begin prints, and its exit status.
async fn stillborn(served: &Served, setup: Setup) -> (String, i32) {
    let first = Request { setup: Some(setup), ..Default::default() };
    let answers = served.driver().exec_task_streaming(tokio_stream::once(first)).await;
    let mut answers = answers.expect("a session").into_inner();
    let mut words = Vec::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        words.extend(answer.stderr.map(|piece| piece.data).unwrap_or_default());
        if answer.exited {
            let words = String::from_utf8(words).expect("a text");
            return (words, answer.result.expect("a result").exit_code);
        }
    }
    panic!("the session has no end");
}

#[test]
fn what_cannot_run_is_told_at_once() {
    test(async {
        let served = served().await;
        served.start("x", "sleep 60").await;
        let refused = |first: Request| {
            let mut driver = served.driver();
            async move {
                let outcome = driver.exec_task_streaming(tokio_stream::once(first)).await;
                outcome.expect_err("a refusal").message().to_owned()
            }
        };
        let missing = Setup { task_id: "x".into(), command: vec!["/no/such".into()], tty: false };
        let (words, code) = stillborn(&served, missing).await;
        assert!(words.contains("/no/such") && !words.contains("closed") && words.ends_with('\n'), "{words}");
        assert_eq!(code, 127);
        let nothing = Setup { task_id: "x".into(), command: vec![], tty: true };
        let expected = ("no command was given to run in the task\r\n".to_owned(), 1);
        assert_eq!(stillborn(&served, nothing).await, expected);
        assert_eq!(refused(stdin("x", false)).await, "the first message of a session must say what to run");
        let nobody = Setup { task_id: "nobody".into(), command: vec!["true".into()], tty: false };
        let nobody = refused(Request { setup: Some(nobody), ..Default::default() }).await;
        assert_eq!(nobody, "task not found for given id");
    });
}

async fn exec(
    served: &Served,
    script: &str,
    timeout: Duration,
) -> Result<pb::ExecTaskResponse, tonic::Status> {
    let seconds = i64::try_from(timeout.as_secs()).expect("a few");
    let nanos = i32::try_from(timeout.subsec_nanos()).expect("below a second");
    let request = pb::ExecTaskRequest {
        task_id: "x".into(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: Some(prost_types::Duration { seconds, nanos }),
    };
    served.driver().exec_task(request).await.map(tonic::Response::into_inner)
}

#[test]
fn a_check_gets_the_end_of_the_output_and_the_code() {
    test(async {
        let served = served().await;
        served.start("x", "sleep 60").await;
        let answer =
            exec(&served, "echo out; echo err >&2; exit 2", Duration::from_secs(5)).await.expect("an answer");
        let mut lines: Vec<&str> = std::str::from_utf8(&answer.stdout).expect("text").lines().collect();
        lines.sort_unstable();
        assert_eq!((lines, answer.stderr.len()), (vec!["err", "out"], 0));
        assert_eq!(answer.result.map(|r| r.exit_code), Some(2));
        let long = exec(&served, "seq 1 20000", Duration::ZERO).await.expect("an answer");
        assert_eq!(long.stdout.len(), 4096);
        assert!(long.stdout.ends_with(b"\n20000\n"));
        let status = exec(&served, "sleep 20", Duration::from_millis(300)).await.expect_err("too long");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        // This engine ends nobody: the child goes by itself, before the ledger of all suites misses it.
        let began = Instant::now();
        let left =
            exec(&served, "sleep 60 & echo started", Duration::from_secs(100)).await.expect("an answer");
        assert_eq!(left.stdout, b"started\n");
        assert!(began.elapsed() < Duration::from_secs(60), "a child left behind held the answer up");
    });
}
