//! A command in a running task, in the foreground: its streams or terminal are the caller's until it ends.

use crate::foreground::{RunError, alone};
use crate::relay::{Attach, Ready, Relay, terminal_size, wait};
use bivouac_driver::engine::EngineError;
use bivouac_driver::request::Streams;
use bivouac_shim::client::Session;
use rustix::fd::AsFd;
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

impl SessionError {
    /// The exit status of the command line: 126 and 127 as shells have it, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            SessionError::Engine(EngineError::Launch { exit_code, .. }) => *exit_code,
            SessionError::Engine(_) | SessionError::Shim(_) | SessionError::Streams(_) => 125,
            SessionError::Wait(error) => error.exit_code(),
        }
    }
}

enum Waited {
    Signal,
    Session,
    Stream(Ready),
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
    let mut relay = Relay::default();
    let mut session = start(alone(&mut relay, attach, |_| Ok(None))?)?;
    if let Some(master) = session.take_terminal() {
        relay.take_terminal(master)?;
    }
    let mut ended: Option<(u8, Instant)> = None;
    loop {
        if let Some((code, since)) = ended
            && (relay.is_drained() || relay.has_terminal() || since.elapsed() > DRAIN)
        {
            relay.finish();
            return Ok(code);
        }
        let mut tokens = vec![Waited::Signal];
        let mut fds = vec![signals.as_fd()];
        if ended.is_none() {
            // After the end the connection stays readable: nothing more comes of it.
            tokens.push(Waited::Session);
            fds.push(session.as_fd());
        }
        for (ready, fd) in relay.descriptors() {
            tokens.push(Waited::Stream(ready));
            fds.push(fd);
        }
        let hot = wait(&fds, ended.map(|_| DRAIN / 4)).map_err(kernel)?;
        drop(fds);
        let mut streams = Vec::new();
        for (waited, _) in tokens.into_iter().zip(hot).filter(|(_, hot)| *hot) {
            match waited {
                Waited::Stream(ready) => streams.push(ready),
                Waited::Session => {
                    if let Some(end) = session.take_end()? {
                        ended = Some((u8::try_from(end.ending.code()).unwrap_or(255), Instant::now()));
                    }
                }
                Waited::Signal => {
                    while let Ok(Some(signal)) = bivouac_sys::signal::take(signals.as_fd()) {
                        if signal == SIGWINCH {
                            // A session without a terminal has no size; that is no error here.
                            let _ = session.resize(terminal_size());
                        } else {
                            session.signal(signal)?;
                        }
                    }
                }
            }
        }
        relay.copy(&streams);
    }
}
