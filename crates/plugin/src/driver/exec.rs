//! A second command in a task: run to its end, or as a session.
//!
//! The engine hands out descriptors; copying between them and the client happens here. In a session the
//! client never closes its side, so the end of its stream means nothing; that it went away is noticed
//! at ours, and kills the command.

use super::Answers;
use crate::convert;
use crate::face::{EngineError, ExecControl, ExecRequest, ExecSession, ExecStreams, Exit, TermSize};
use crate::readiness::{ask_until, readiness};
use crate::shared::Shared;
use crate::status::failed;
use crate::wire::driver as pb;
use pb::exec_task_streaming_request::{Setup, TerminalSize};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// What is kept of the output of a command that is not a session, in bytes: its end.
const KEPT: usize = 4096;
/// Largest piece of output in one message, in bytes.
const PIECE: usize = 8192;
/// How long a finished command's output may still take to arrive: a child left behind may hold it open.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How long a terminal must be silent after its lead process ended. The kernel passes the last output
/// on from a worker of its own, so there is no end to wait for while a child holds the terminal.
const SILENCE: Duration = Duration::from_millis(50);

type Sender = mpsc::Sender<Result<pb::ExecTaskStreamingResponse, Status>>;

/// A descriptor that never blocks this thread.
fn asynchronous(descriptor: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Status> {
    let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(failed)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).map_err(failed)?;
    readiness(descriptor, interest).map_err(failed)
}

/// Reads once; no bytes mean the end. A terminal whose other side is gone says EIO.
async fn read(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let mut ready = from.readable().await.map_err(|_| Errno::BADF)?;
        match rustix::io::read(from.get_ref(), &mut *buffer) {
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(0),
            other => return other,
        }
    }
}

async fn write_all(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut ready = to.writable().await.map_err(|_| Errno::BADF)?;
        match rustix::io::write(to.get_ref(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Waits for the end of a command.
async fn exit(watch: &AsyncFd<OwnedFd>, control: &dyn ExecControl) -> Result<Exit, EngineError> {
    let ended = ask_until(watch, || async { control.exited().transpose() }).await;
    ended.unwrap_or_else(|error| Err(EngineError::Failed(format!("cannot watch the command: {error}"))))
}

/// Kills the command when the client goes away or the server gives up.
struct Killer(Arc<dyn ExecControl>);

impl Drop for Killer {
    fn drop(&mut self) {
        // Does nothing to a command that is over.
        self.0.kill();
    }
}

/// Runs a command to its end and keeps the last of what it printed.
pub(super) async fn run(
    shared: Arc<Shared>,
    request: pb::ExecTaskRequest,
) -> Result<pb::ExecTaskResponse, Status> {
    shared.tasks.find(&request.task_id)?;
    let limit = convert::duration(request.timeout.as_ref());
    let session = match begin(&shared, request.task_id, request.command, None, false).await {
        Err(EngineError::NotStarted { text, exit_code }) => {
            let result = pb::ExitResult { exit_code: exit_code.into(), ..Default::default() };
            return Ok(pb::ExecTaskResponse {
                stdout: text.into_bytes(),
                stderr: Vec::new(),
                result: Some(result),
            });
        }
        begun => begun?,
    };
    let ExecStreams::Pipes { stdout, stderr, .. } = session.streams else {
        return Err(failed("the command got a terminal that it did not ask for"));
    };
    let (stdout, stderr) =
        (asynchronous(stdout, Interest::READABLE)?, asynchronous(stderr, Interest::READABLE)?);
    let watch = readiness(session.watch, Interest::READABLE).map_err(failed)?;
    let control: Arc<dyn ExecControl> = session.control.into();
    let _killer = Killer(Arc::clone(&control));
    let kept = std::sync::Mutex::new(VecDeque::new());
    let finished = async {
        let output = async { tokio::join!(keep(&stdout, &kept), keep(&stderr, &kept)) };
        tokio::pin!(output);
        let ended = async {
            let exit = exit(&watch, &*control).await;
            sleep(AFTERWARDS).await;
            exit
        };
        tokio::select! {
            _ = &mut output => exit(&watch, &*control).await,
            exit = ended => exit,
        }
    };
    let exit = if limit.is_zero() {
        finished.await
    } else {
        timeout(limit, finished).await.map_err(|_| {
            Status::deadline_exceeded(format!("the command did not end within {limit:?} and was killed"))
        })?
    }?;
    let stdout = kept.into_inner().unwrap_or_default().into();
    Ok(pb::ExecTaskResponse { stdout, stderr: Vec::new(), result: Some(convert::exit_result(&exit)) })
}

/// Reads to the end and keeps the last bytes.
async fn keep(from: &AsyncFd<OwnedFd>, kept: &std::sync::Mutex<VecDeque<u8>>) {
    let mut buffer = [0; PIECE];
    while let Ok(n @ 1..) = read(from, &mut buffer).await {
        let Ok(mut kept) = kept.lock() else { return };
        kept.extend(buffer.get(..n).unwrap_or_default());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

async fn begin(
    shared: &Shared,
    id: String,
    command: Vec<String>,
    terminal: Option<TermSize>,
    stdin: bool,
) -> Result<ExecSession, EngineError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(EngineError::Failed("no command was given to run in the task".into()));
    }
    let request = ExecRequest { command, terminal, stdin };
    let asked = id.clone();
    let begun = shared.blocking(move |engine| engine.exec(&asked, &request)).await;
    let begun = begun.unwrap_or_else(|status| Err(EngineError::Failed(status.message().to_owned())));
    begun.inspect_err(|error| tracing::info!(task = id, %error, "a command did not start"))
}

/// A session that could not begin, as one that ended at once. The client's command line shows an error of the call
/// only if it is shorter than what fits a closing frame; what a session prints, it always shows.
fn stillborn(error: EngineError, tty: bool) -> Result<Answers<pb::ExecTaskStreamingResponse>, Status> {
    let (text, exit_code) = match error {
        EngineError::UnknownTask => return Err(error.into()),
        EngineError::NotStarted { text, exit_code } => (text, i32::from(exit_code)),
        EngineError::Failed(text) => (text, 1),
    };
    let end = if tty { "\r\n" } else { "\n" };
    let data = format!("{text}{end}").into_bytes();
    let close = || pb::ExecTaskStreamingIoOperation { data: Vec::new(), close: true };
    let last = pb::ExecTaskStreamingResponse {
        exited: true,
        result: Some(pb::ExitResult { exit_code, ..Default::default() }),
        ..Default::default()
    };
    let answers = [
        message(Kind::Stderr, pb::ExecTaskStreamingIoOperation { data, close: false }),
        message(Kind::Stdout, close()),
        message(Kind::Stderr, close()),
        last,
    ];
    Ok(Box::pin(tokio_stream::iter(answers.map(Ok))))
}

/// Opens a session.
pub(super) async fn stream(
    shared: &Shared,
    setup: Setup,
    size: Option<TerminalSize>,
    requests: Streaming<pb::ExecTaskStreamingRequest>,
) -> Result<Answers<pb::ExecTaskStreamingResponse>, Status> {
    let terminal = setup.tty.then(|| size.map(term_size).unwrap_or_default());
    let session = match begin(shared, setup.task_id, setup.command, terminal, true).await {
        Ok(session) => session,
        Err(error) => return stillborn(error, setup.tty),
    };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let control: Arc<dyn ExecControl> = session.control.into();
        let killer = Killer(Arc::clone(&control));
        let copied = tokio::select! {
            copied = copy(session.streams, session.watch, control, requests, sender.clone()) => copied,
            () = sender.closed() => return,
        };
        drop(killer);
        let last = copied.map(|exit| pb::ExecTaskStreamingResponse {
            exited: true,
            result: Some(convert::exit_result(&exit)),
            ..Default::default()
        });
        // If nobody listens any more, nobody misses it.
        let _ = sender.send(last).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// A size from the wire: what no terminal can be is the next that one can.
fn term_size(size: TerminalSize) -> TermSize {
    let clamp = |n: i32| u16::try_from(n.max(0)).unwrap_or(u16::MAX);
    TermSize { rows: clamp(size.height), columns: clamp(size.width) }
}

/// Copies everything until the command is over and its output told.
async fn copy(
    streams: ExecStreams,
    watch: OwnedFd,
    control: Arc<dyn ExecControl>,
    requests: Streaming<pb::ExecTaskStreamingRequest>,
    sender: Sender,
) -> Result<Exit, Status> {
    let watch = readiness(watch, Interest::READABLE).map_err(failed)?;
    match streams {
        ExecStreams::Pipes { stdin, stdout, stderr } => {
            let stdin = stdin.map(|fd| asynchronous(fd, Interest::WRITABLE)).transpose()?.map(Arc::new);
            let stdout = asynchronous(stdout, Interest::READABLE)?;
            let stderr = asynchronous(stderr, Interest::READABLE)?;
            let output = async {
                let both = (forward(&stdout, Kind::Stdout, &sender), forward(&stderr, Kind::Stderr, &sender));
                tokio::join!(both.0, both.1);
                exit(&watch, &*control).await
            };
            while_listening(output, take_input(stdin, Input::Pipe, Arc::clone(&control), requests)).await
        }
        ExecStreams::Terminal(master) => {
            let master = Arc::new(asynchronous(master, Interest::READABLE | Interest::WRITABLE)?);
            let output = async {
                let exit = async {
                    let exit = exit(&watch, &*control).await;
                    drain(&master, &sender).await;
                    exit
                };
                tokio::pin!(exit);
                let ended = tokio::select! {
                    // Otherwise the rest could be read here while it is drained there.
                    biased;
                    ended = &mut exit => ended,
                    () = pieces(&master, Kind::Stdout, &sender) => exit.await,
                };
                close(Kind::Stdout, &sender).await;
                ended
            };
            let input =
                take_input(Some(Arc::clone(&master)), Input::Terminal, Arc::clone(&control), requests);
            while_listening(output, input).await
        }
    }
}

/// Runs both; only the first decides when it is over.
async fn while_listening(
    output: impl Future<Output = Result<Exit, EngineError>>,
    input: impl Future<Output = ()>,
) -> Result<Exit, Status> {
    tokio::pin!(output);
    tokio::select! {
        ended = &mut output => ended,
        () = input => output.await,
    }
    .map_err(Status::from)
}

/// Which of the client's streams a piece belongs to.
#[derive(Clone, Copy)]
enum Kind {
    Stdout,
    Stderr,
}

fn message(kind: Kind, operation: pb::ExecTaskStreamingIoOperation) -> pb::ExecTaskStreamingResponse {
    match kind {
        Kind::Stdout => pb::ExecTaskStreamingResponse { stdout: Some(operation), ..Default::default() },
        Kind::Stderr => pb::ExecTaskStreamingResponse { stderr: Some(operation), ..Default::default() },
    }
}

async fn forward(from: &AsyncFd<OwnedFd>, kind: Kind, sender: &Sender) {
    pieces(from, kind, sender).await;
    close(kind, sender).await;
}

/// Sends pieces until the end.
async fn pieces(from: &AsyncFd<OwnedFd>, kind: Kind, sender: &Sender) {
    let mut buffer = [0; PIECE];
    while let Ok(n @ 1..) = read(from, &mut buffer).await {
        if !piece(buffer.get(..n), kind, sender).await {
            return;
        }
    }
}

async fn piece(bytes: Option<&[u8]>, kind: Kind, sender: &Sender) -> bool {
    let data = bytes.unwrap_or_default().to_vec();
    sender.send(Ok(message(kind, pb::ExecTaskStreamingIoOperation { data, close: false }))).await.is_ok()
}

async fn close(kind: Kind, sender: &Sender) {
    // A client that went away is noticed elsewhere.
    let _ = sender
        .send(Ok(message(kind, pb::ExecTaskStreamingIoOperation { data: Vec::new(), close: true })))
        .await;
}

/// Sends what a terminal still holds after its lead process ended.
async fn drain(master: &AsyncFd<OwnedFd>, sender: &Sender) {
    let mut buffer = [0; PIECE];
    while let Ok(Ok(n @ 1..)) = timeout(SILENCE, read(master, &mut buffer)).await {
        if !piece(buffer.get(..n), Kind::Stdout, sender).await {
            return;
        }
    }
}

/// What standard input is.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Pipe,
    Terminal,
}

/// End of input as a terminal's user types it.
const END_OF_INPUT: &[u8] = &[4];

/// Takes what the client sends, until it says no more.
async fn take_input(
    mut stdin: Option<Arc<AsyncFd<OwnedFd>>>,
    input: Input,
    control: Arc<dyn ExecControl>,
    mut requests: Streaming<pb::ExecTaskStreamingRequest>,
) {
    while let Ok(Some(request)) = requests.message().await {
        if let Some(size) = request.tty_size
            && let Err(error) = control.resize(term_size(size))
        {
            tracing::debug!(%error, "a session's terminal keeps its size");
        }
        let Some(operation) = request.stdin else { continue };
        let Some(to) = &stdin else { continue };
        // A command that reads no more is no reason to end it.
        let written = write_all(to, &operation.data).await;
        if written.is_err() || operation.close {
            if input == Input::Terminal && written.is_ok() {
                let _ = write_all(to, END_OF_INPUT).await;
            }
            stdin = None;
        }
    }
}
