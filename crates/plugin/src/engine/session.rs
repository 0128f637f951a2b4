//! A second command in a running task, as a session of its shim.

use super::{failed, locked};
use crate::engine::watches::ending;
use crate::face::{EngineError, ExecControl, ExecRequest, ExecSession, ExecStreams, Exit, TermSize};
use bivouac_driver::engine::{Engine, EngineError as DriverError};
use bivouac_driver::request::{self, Streams};
use bivouac_driver::signals::Signal;
use bivouac_sandbox::model::TerminalSize;
use bivouac_shim::client::Session;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::AsFd;
use std::sync::Mutex;

/// Brings the command in.
pub(super) fn begin(engine: &Engine, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
    let run = |streams| {
        let command = request.command.clone();
        let begun = engine.exec(id, request::ExecRequest { command, streams, deadline: None });
        begun.map_err(|error| match error {
            DriverError::Launch { text, exit_code } => EngineError::NotStarted { text, exit_code },
            other => other.into(),
        })
    };
    let (session, streams) = match request.terminal {
        Some(size) => {
            let mut session = run(Streams::Terminal(terminal_size(size)))?;
            let master = session.take_terminal().ok_or_else(|| failed("the session got no terminal"))?;
            (session, ExecStreams::Terminal(master))
        }
        None => {
            let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
            let (out, err) = (pipe()?, pipe()?);
            let input = if request.stdin { Some(pipe()?) } else { None };
            let (theirs, ours) = input.map_or((None, None), |(read, write)| (Some(read), Some(write)));
            let session = run(Streams::Files { stdin: theirs, stdout: Some(out.1), stderr: Some(err.1) })?;
            (session, ExecStreams::Pipes { stdin: ours, stdout: out.0, stderr: err.0 })
        }
    };
    let watch = session.as_fd().try_clone_to_owned().map_err(failed)?;
    Ok(ExecSession { streams, watch, control: Box::new(Control(Mutex::new(session))) })
}

fn terminal_size(size: TermSize) -> TerminalSize {
    TerminalSize { rows: size.rows, columns: size.columns }
}

/// A session's controls; the lock is never held while waiting.
struct Control(Mutex<Session>);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl ExecControl for Control {
    fn exited(&self) -> Result<Option<Exit>, EngineError> {
        let end = locked(&self.0).take_end().map_err(failed)?;
        Ok(end.map(|end| ending(end.ending)))
    }

    fn resize(&self, size: TermSize) -> Result<(), EngineError> {
        locked(&self.0).resize(terminal_size(size)).map_err(failed)
    }

    fn kill(&self) {
        // A command that is over refuses; dropping the session kills what is left.
        let _ = locked(&self.0).signal(Signal::KILL.number());
    }
}
