//! The tasks that this process knows, and how each ended.
//!
//! One watcher per task waits for its end, however many callers wait for the watcher. A task is in the
//! list from the moment its start or recovery begins, so that the same id is never started twice.

use crate::face::{EngineError, Exit, Foreign};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a task ended, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ended like this.
    Exited(Exit),
    /// It is over, or out of reach, for this reason.
    Lost(String),
}

/// A running or finished task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its name in the job.
    pub(crate) name: String,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Task {
    /// A task and the end at which its outcome is told.
    pub(crate) fn new(name: String) -> (Self, watch::Sender<Option<Outcome>>) {
        let (teller, outcome) = watch::channel(None);
        (Self { name, outcome }, teller)
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// How it ended, as soon as it did.
    pub(crate) async fn outcome(&self) -> Result<Outcome, EngineError> {
        let mut outcome = self.outcome.clone();
        let told = outcome.wait_for(Option::is_some).await.map_err(|_| EngineError::UnknownTask)?;
        told.clone().ok_or(EngineError::UnknownTask)
    }
}

#[derive(Debug)]
enum Entry {
    /// Its start or recovery is under way.
    Beginning,
    Known(Task),
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    entries: Mutex<HashMap<String, Entry>>,
    /// Tasks of the driver before us that could not be taken over and must be ended.
    foreign: Mutex<HashMap<String, Foreign>>,
}

/// Why a task cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("task with ID {0:?} already started")]
    Started(String),
    #[error("task with ID {0:?} is being started or recovered at this moment")]
    Beginning(String),
}

/// A list is sound at every moment between two statements: a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tasks {
    /// Keeps an id for a task that is about to begin; [`Tasks::known`] or [`Tasks::forget`] follows.
    pub(crate) fn begin(&self, id: &str) -> Result<(), BeginError> {
        let mut entries = locked(&self.entries);
        match entries.get(id) {
            Some(Entry::Known(_)) => Err(BeginError::Started(id.to_owned())),
            Some(Entry::Beginning) => Err(BeginError::Beginning(id.to_owned())),
            None => {
                entries.insert(id.to_owned(), Entry::Beginning);
                Ok(())
            }
        }
    }

    /// The task runs.
    pub(crate) fn known(&self, id: &str, task: Task) {
        locked(&self.entries).insert(id.to_owned(), Entry::Known(task));
    }

    /// The task did not begin, or all of it was freed.
    pub(crate) fn forget(&self, id: &str) {
        locked(&self.entries).remove(id);
    }

    /// A task that began.
    pub(crate) fn get(&self, id: &str) -> Option<Task> {
        match locked(&self.entries).get(id) {
            Some(Entry::Known(task)) => Some(task.clone()),
            Some(Entry::Beginning) | None => None,
        }
    }

    /// A task that began, or the error that says it did not.
    pub(crate) fn find(&self, id: &str) -> Result<Task, EngineError> {
        self.get(id).ok_or(EngineError::UnknownTask)
    }

    /// Keeps a foreign task in mind until it is destroyed or replaced.
    pub(crate) fn remember_foreign(&self, foreign: Foreign) {
        locked(&self.foreign).insert(foreign.task_id.clone(), foreign);
    }

    /// The foreign task of this id.
    pub(crate) fn take_foreign(&self, id: &str) -> Option<Foreign> {
        locked(&self.foreign).remove(id)
    }

    /// The foreign tasks that ran what is about to start again.
    pub(crate) fn take_foreign_of(&self, alloc_id: &str, name: &str) -> Vec<Foreign> {
        let same = |foreign: &Foreign| foreign.alloc_id == alloc_id && foreign.task_name == name;
        let mut all = locked(&self.foreign);
        let ids: Vec<String> = all.values().filter(|f| same(f)).map(|f| f.task_id.clone()).collect();
        ids.iter().filter_map(|id| all.remove(id)).collect()
    }
}
