//! Why the engine could not do as told.

use crate::host::FactsError;
use crate::task::TaskError;
use bivouac_shim::client::ClientError;
use bivouac_shim::protocol::Refusal;
use bivouac_shim::recover::RecoverError;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the engine could not do as told. Each text stands alone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No such run.
    #[error("task not found for given id")]
    Unknown,
    /// The same run twice.
    #[error("task with ID {0:?} already started")]
    AlreadyStarted(String),
    /// Refused before anything was touched.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The command or its sandbox could not be started.
    #[error("failed to launch command with executor: {text}")]
    Launch {
        /// One sentence.
        text: String,
        /// What a shell would exit with.
        exit_code: u8,
    },
    /// A file of ours.
    #[error("cannot {what} {}: {answer}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What was answered.
        answer: String,
    },
    /// The control groups.
    #[error("control group of the task: {0}")]
    Cgroup(Arc<bivouac_cgroup::Error>),
    /// Where its launch would start from.
    #[error("cannot make a mount namespace without the host's mounts: {answer}")]
    Mounts {
        /// What the kernel answered, and what can be done about it.
        answer: String,
    },
    /// The shim.
    #[error("{0}")]
    Shim(Arc<ClientError>),
    /// What is left of a task.
    #[error("{0}")]
    Left(Arc<RecoverError>),
    /// The host.
    #[error("{0}")]
    Facts(#[from] FactsError),
    /// The task that the handle names is gone, or the process of that number is another's. Nothing was signalled.
    #[error("the task is lost: {0}")]
    Lost(String),
    /// It runs, and was not to be ended.
    #[error("cannot destroy running task")]
    Running,
}

impl From<bivouac_cgroup::Error> for EngineError {
    fn from(error: bivouac_cgroup::Error) -> EngineError {
        EngineError::Cgroup(Arc::new(error))
    }
}

impl From<ClientError> for EngineError {
    fn from(error: ClientError) -> EngineError {
        match error {
            ClientError::Refused(Refusal::NotStarted { text, exit_code }) => {
                EngineError::Launch { text, exit_code }
            }
            ClientError::Refused(Refusal::StillRunning) => EngineError::Running,
            other => EngineError::Shim(Arc::new(other)),
        }
    }
}

impl From<RecoverError> for EngineError {
    fn from(error: RecoverError) -> EngineError {
        match error {
            RecoverError::Kernel { errno: rustix::io::Errno::NOENT, what: "open", .. } => {
                EngineError::Unknown
            }
            other => EngineError::Left(Arc::new(other)),
        }
    }
}
