//! A command in a running task, in the foreground: its streams or terminal are the caller's until it ends.

use crate::supervise::{Attach, RunError, Terminal, is_pipe, raw_mode, terminal_size, write_all};
use bivouac_driver::engine::EngineError;
use bivouac_driver::request::Streams;
use bivouac_shim::client::Session;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long output is waited for after the command has ended: a background child may keep the pipe.
const DRAIN: Duration = Duration::from_millis(200);
const SIGWINCH: i32 = 28;

/// Why a session could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its shim has gone.
    #[error(transparent)]
    Shim(#[from] bivouac_shim::client::ClientError),
    /// Streams.
    #[error("cannot set up its streams: {0}")]
    Streams(#[from] std::io::Error),
    /// Waiting.
    #[error(transparent)]
    Wait(#[from] RunError),
}

/// Starts a session with fitting streams and follows it to its end; its exit status.
///
/// # Errors
/// [`SessionError`].
pub fn follow(
    attach: Attach,
    start: impl FnOnce(Streams) -> Result<Session, EngineError>,
) -> Result<u8, SessionError> {
    let kernel = |errno| RunError::Kernel { what: "wait for the command", errno };
    bivouac_sys::signal::block_all().map_err(kernel)?;
    let signals = bivouac_sys::signal::signalfd(&[1, 2, 15, SIGWINCH]).map_err(kernel)?;
    let (streams, outputs, input) = streams(attach)?;
    let mut session = start(streams)?;
    let mut relay = Relay { outputs, input, terminal: None };
    if let Some(master) = session.take_terminal() {
        relay.outputs.push((master.try_clone()?, rustix::stdio::stdout()));
        relay.terminal = Some(Terminal { master, before: raw_mode() });
    }
    let mut ended: Option<(u8, Instant)> = None;
    loop {
        if let Some((code, since)) = ended
            && (relay.outputs.is_empty() || relay.terminal.is_some() || since.elapsed() > DRAIN)
        {
            relay.drain();
            return Ok(code);
        }
        let ready = relay.wait(signals.as_fd(), session.as_fd(), ended.is_some()).map_err(kernel)?;
        if ready.signal {
            while let Ok(Some(signal)) = bivouac_sys::signal::take(signals.as_fd()) {
                if signal == SIGWINCH {
                    // A session without a terminal has no size; that is no error here.
                    let _ = session.resize(terminal_size());
                } else {
                    session.signal(signal)?;
                }
            }
        }
        relay.copy(&ready);
        if ready.session
            && ended.is_none()
            && let Some(end) = session.take_end()?
        {
            ended = Some((u8::try_from(end.ending.code()).unwrap_or(255), Instant::now()));
        }
    }
}

type Outputs = Vec<(OwnedFd, BorrowedFd<'static>)>;

fn streams(attach: Attach) -> std::io::Result<(Streams, Outputs, Option<OwnedFd>)> {
    if attach == Attach::Terminal {
        return Ok((Streams::Terminal(terminal_size()), Vec::new(), None));
    }
    let mut outputs = Vec::new();
    let mut output = |ours: BorrowedFd<'static>| -> std::io::Result<OwnedFd> {
        if is_pipe(ours) {
            return ours.try_clone_to_owned();
        }
        let (reader, writer) = std::io::pipe()?;
        outputs.push((reader.into(), ours));
        Ok(writer.into())
    };
    let (stdout, stderr) = (output(rustix::stdio::stdout())?, output(rustix::stdio::stderr())?);
    let (stdin, input) = if attach == Attach::Input {
        let (reader, writer) = std::io::pipe()?;
        (Some(reader.into()), Some(writer.into()))
    } else {
        (None, None)
    };
    Ok((Streams::Files { stdin, stdout: Some(stdout), stderr: Some(stderr) }, outputs, input))
}

struct Relay {
    outputs: Outputs,
    input: Option<OwnedFd>,
    terminal: Option<Terminal>,
}

struct Ready {
    signal: bool,
    session: bool,
    outputs: Vec<usize>,
    input: bool,
}

impl Relay {
    fn wait(&self, signals: BorrowedFd<'_>, session: BorrowedFd<'_>, ended: bool) -> Result<Ready, Errno> {
        let wants_input = !ended && (self.input.is_some() || self.terminal.is_some());
        let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        // After the end the connection stays readable: nothing more comes of it.
        let session_flags = if ended { PollFlags::empty() } else { PollFlags::IN };
        fds.push(PollFd::from_borrowed_fd(if ended { signals } else { session }, session_flags));
        fds.extend(self.outputs.iter().map(|(fd, _)| PollFd::new(fd, PollFlags::IN)));
        if wants_input {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match poll(&mut fds, ended.then_some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let hot = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signal: hot(0),
            session: hot(1),
            outputs: (0..self.outputs.len()).filter(|index| hot(index + 2)).collect(),
            input: wants_input && hot(fds.len() - 1),
        })
    }

    fn copy(&mut self, ready: &Ready) {
        for index in ready.outputs.iter().rev() {
            let over = self.outputs.get(*index).is_some_and(|(fd, to)| {
                let mut buffer = [0u8; 16 * 1024];
                match rustix::io::read(fd, &mut buffer) {
                    Ok(0) => true,
                    // A reader of ours that has gone is no reason to end the command.
                    Ok(length) => write_all(*to, buffer.get(..length).unwrap_or_default()).is_err(),
                    Err(Errno::AGAIN | Errno::INTR) => false,
                    Err(_) => true,
                }
            });
            if over {
                self.outputs.remove(*index);
            }
        }
        if ready.input {
            self.copy_input();
        }
    }

    fn copy_input(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        let length = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
        let bytes = buffer.get(..length).unwrap_or_default();
        let to = self
            .terminal
            .as_ref()
            .map(|terminal| terminal.master.as_fd())
            .or(self.input.as_ref().map(AsFd::as_fd));
        let failed = to.is_none_or(|to| write_all(to, bytes).is_err());
        if length == 0 || failed {
            self.input = None;
        }
    }

    /// What is in the terminal still when its command has ended.
    fn drain(&mut self) {
        for (fd, to) in &self.outputs {
            if rustix::io::ioctl_fionbio(fd, true).is_err() {
                continue;
            }
            let mut buffer = [0u8; 16 * 1024];
            while let Ok(length @ 1..) = rustix::io::read(fd, &mut buffer) {
                if write_all(*to, buffer.get(..length).unwrap_or_default()).is_err() {
                    break;
                }
            }
        }
    }
}
