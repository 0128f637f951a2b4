//! What there is on this machine: allocations by what their supervisors wrote down, and the names that people give
//! them.

use crate::state::{Home, Keep, State, StateError};

/// One allocation.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub keep: Keep,
    /// How things stand.
    pub state: State,
    /// Whether a supervisor lives.
    pub supervised: bool,
}

impl Entry {
    /// Whether something of it may still run, or is to run.
    pub fn is_live(&self) -> bool {
        self.supervised || !self.state.machine.is_over()
    }

    fn task(&self, name: &str) -> Option<usize> {
        self.state.tasks.iter().position(|task| task.name == name)
    }
}

/// What a name on the command line means.
#[derive(Debug)]
pub struct Selection {
    /// The allocations, at least one.
    pub entries: Vec<Entry>,
    /// The task that was named, by its place.
    pub task: Option<usize>,
}

/// Why a name means nothing, or too much.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing.
    #[error("no job, allocation or task {0:?}; `bivouac ps -a` lists them")]
    Unknown(String),
    /// Too much.
    #[error("{asked:?} fits several: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked.
        asked: String,
        /// What it fits.
        candidates: Vec<String>,
    },
    /// An allocation where a task is needed.
    #[error("allocation {alloc} has several tasks, name one: {}", tasks.join(", "))]
    Several {
        /// The allocation.
        alloc: String,
        /// `<allocation>/<task>` each.
        tasks: Vec<String>,
    },
}

/// Every allocation, oldest first. What cannot be read is told apart.
///
/// # Errors
/// [`StateError::File`] when the directory cannot be listed.
pub fn all(home: &Home) -> Result<(Vec<Entry>, Vec<StateError>), StateError> {
    let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
    for keep in home.list()? {
        // Asked first: a supervisor that goes in between has written its last word before.
        let supervised = keep.is_supervised();
        match keep.state() {
            Ok(Some(state)) => entries.push(Entry { keep, state, supervised }),
            // Just being made, or just being removed.
            Ok(None) => {}
            Err(error) => unreadable.push(error),
        }
    }
    entries.sort_by_key(|entry| entry.state.created);
    Ok((entries, unreadable))
}

/// Finds what a name means: an allocation's id, its unique beginning or name; a job with all its allocations;
/// a task by its name, or behind an allocation and `/`.
///
/// # Errors
/// [`FindError`].
pub fn find(home: &Home, asked: &str) -> Result<Selection, FindError> {
    let (entries, _) = all(home)?;
    select(entries, asked)
}

fn select(entries: Vec<Entry>, asked: &str) -> Result<Selection, FindError> {
    // A dispatched job has a slash in its own name.
    let whole = [Way::Exact, Way::Job].iter().any(|way| entries.iter().any(|entry| way.fits(entry, asked)));
    if let (false, Some((alloc, task))) = (whole, asked.rsplit_once('/')) {
        let selection = select(entries, alloc)?;
        let entry = one(selection.entries, alloc)?;
        let task = entry.task(task).ok_or_else(|| FindError::Unknown(asked.to_owned()))?;
        return Ok(Selection { entries: vec![entry], task: Some(task) });
    }
    for way in [Way::Exact, Way::Job, Way::Task, Way::Prefix] {
        // What lives is meant where something lives.
        let live = entries.iter().any(|entry| entry.is_live() && way.fits(entry, asked));
        let is_meant = |entry: &Entry| way.fits(entry, asked) && (!live || entry.is_live());
        if !entries.iter().any(is_meant) {
            continue;
        }
        let mut chosen: Vec<Entry> = entries.into_iter().filter(is_meant).collect();
        if way != Way::Job {
            chosen = vec![one(chosen, asked)?];
        }
        let task = if way == Way::Task { chosen.first().and_then(|entry| entry.task(asked)) } else { None };
        return Ok(Selection { entries: chosen, task });
    }
    Err(FindError::Unknown(asked.to_owned()))
}

/// How a name may fit, best first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Exact,
    Job,
    Task,
    Prefix,
}

impl Way {
    fn fits(self, entry: &Entry, asked: &str) -> bool {
        match self {
            Way::Exact => entry.state.id == asked || entry.state.name == asked,
            Way::Job => entry.state.job == asked,
            Way::Task => entry.task(asked).is_some(),
            Way::Prefix => !asked.is_empty() && entry.state.id.starts_with(asked),
        }
    }
}

fn one(mut entries: Vec<Entry>, asked: &str) -> Result<Entry, FindError> {
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => Ok(entry),
        (None, _) => Err(FindError::Unknown(asked.to_owned())),
        (Some(last), false) => {
            entries.push(last);
            let name = |entry: &Entry| format!("{} ({})", entry.state.id, entry.state.name);
            Err(FindError::Ambiguous {
                asked: asked.to_owned(),
                candidates: entries.iter().map(name).collect(),
            })
        }
    }
}

impl Selection {
    /// The one allocation that is meant.
    ///
    /// # Errors
    /// [`FindError::Ambiguous`].
    pub fn allocation(self, asked: &str) -> Result<Entry, FindError> {
        one(self.entries, asked)
    }

    /// The one task that is meant: the named one, or the only one of its allocation.
    ///
    /// # Errors
    /// [`FindError::Ambiguous`], [`FindError::Several`].
    pub fn task(self, asked: &str) -> Result<(Entry, usize), FindError> {
        let named = self.task;
        let entry = self.allocation(asked)?;
        match named {
            Some(task) => Ok((entry, task)),
            None if entry.state.tasks.len() == 1 => Ok((entry, 0)),
            None => Err(FindError::Several {
                alloc: entry.state.id.clone(),
                tasks: entry
                    .state
                    .tasks
                    .iter()
                    .map(|task| format!("{}/{}", entry.state.id, task.name))
                    .collect(),
            }),
        }
    }
}
