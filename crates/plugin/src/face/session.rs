//! A second command in a running task: what to run, and the ends that the face holds.

use super::{EngineError, Exit};
use std::os::fd::OwnedFd;

/// A command to run inside a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Name and arguments; never empty.
    pub command: Vec<String>,
    /// A terminal of this size, or separate pipes.
    pub terminal: Option<TermSize>,
    /// Whether anything will be written to it; if not, it reads end of file.
    pub stdin: bool,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TermSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A running command. Dropping it leaves the command to itself; end it with [`ExecControl::kill`].
#[derive(Debug)]
pub struct ExecSession {
    /// The descriptors to copy.
    pub streams: ExecStreams,
    /// Becomes readable, and stays so, when the command may be over.
    pub watch: OwnedFd,
    /// Everything else.
    pub control: Box<dyn ExecControl>,
}

/// The face's ends of a command's streams. Each end is used by the face alone.
#[derive(Debug)]
pub enum ExecStreams {
    /// Three pipes.
    Pipes {
        /// To write to, if asked for.
        stdin: Option<OwnedFd>,
        /// To read from.
        stdout: OwnedFd,
        /// To read from.
        stderr: OwnedFd,
    },
    /// The controlling side of a terminal.
    Terminal(OwnedFd),
}

/// What can be done to a running command. None of it blocks.
pub trait ExecControl: Send + Sync + std::fmt::Debug {
    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// Its end cannot be learnt any more.
    fn exited(&self) -> Result<Option<Exit>, EngineError>;

    /// Tells its terminal a new size.
    ///
    /// # Errors
    /// It has no terminal.
    fn resize(&self, size: TermSize) -> Result<(), EngineError>;

    /// Kills it; does nothing if it is over.
    fn kill(&self);
}
