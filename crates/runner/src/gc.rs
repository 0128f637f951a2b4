//! Garbage: allocations that are over, and runs that ended or were lost after whoever started them had died.
//!
//! A run whose shim lives is never touched: a foreground run's shim leaves as soon as its starter's connection
//! closes, so a shim that is there means a face that is there, or a task that must not be forgotten. An allocation
//! whose supervisor lives is never touched either: its lock says so. Everything may vanish under us at any moment,
//! since faces collect their own meanwhile; that is no error. Volumes and sticky disks stay.

use crate::allocation::{Allocation, PlanError, SECRETS, is_ours};
use crate::overview::{Entry, all};
use crate::state::{Face, Home, Keep, OnBoot, StateError};
use crate::{disks, inputs, network, registry};
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Standing};
use bivouac_shim::recover::RecoverError;
use std::path::Path;
use std::time::Duration;

/// A directory without a state that is older than this was left by a start that was cut short; so was a file on its
/// way into the cache that nobody has written to for so long.
const SETTLED: Duration = Duration::from_secs(60);

/// How long a supervisor that has nothing left to do may take to end.
const LEAVES: Duration = Duration::from_secs(10);

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// What nothing is left of now.
    pub removed: Vec<String>,
    /// What is left for another try, and why.
    pub kept: Vec<(String, String)>,
}

/// Why nothing could be collected at all.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The runs cannot be listed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The allocations cannot be listed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Removes what is over, and what crashes have left.
///
/// # Errors
/// [`GcError`].
pub fn collect(engine: &Engine, home: &Home) -> Result<Collected, GcError> {
    let mut collected = Collected { removed: engine.gc()?, kept: Vec::new() };
    let (entries, unreadable) = all(home)?;
    collected.kept.extend(unreadable.iter().map(|error| ("an allocation".to_owned(), error.to_string())));
    // A supervisor in the background ends as soon as its allocation is over: `stop` and then `gc` finds it on its way.
    let ends = |entry: &Entry| entry.state.face == Face::Detached && entry.state.machine.is_over();
    for entry in entries.into_iter().filter(|entry| !entry.supervised || ends(entry)) {
        let id = entry.state.id.clone();
        match allocation(engine, home, &entry) {
            Ok(Done::Removed) => collected.removed.push(id),
            Ok(Done::Left(why)) => collected.kept.extend(why.map(|why| (id, why.to_owned()))),
            Err(error) => collected.kept.push((id, error.to_string())),
        }
    }
    for keep in home.list()?.into_iter().filter(was_cut_short) {
        let removed = PlanError::all([
            crate::allocation::remove_tree(&home.alloc_dir(keep.id())),
            crate::allocation::remove_tree(&Path::new(SECRETS).join(keep.id())),
            keep.remove().map_err(PlanError::other),
        ]);
        match removed {
            Ok(()) => collected.removed.push(keep.id().to_owned()),
            Err(error) => collected.kept.push((keep.id().to_owned(), error.to_string())),
        }
    }
    bivouac_artifact::cache::sweep(&inputs::cache(home.path()), SETTLED);
    runs(engine, home, &mut collected)?;
    jobs(home, &mut collected)?;
    Ok(collected)
}

/// Removes one allocation that is over, with what an earlier run left to the next.
///
/// # Errors
/// What could not be removed.
pub fn one(engine: &Engine, home: &Home, entry: &Entry) -> Result<(), PlanError> {
    allocation(engine, home, entry).map(drop)
}

/// Schedulers that an earlier boot ended for good.
fn jobs(home: &Home, collected: &mut Collected) -> Result<(), StateError> {
    let (jobs, unreadable) = registry::all(home)?;
    collected.kept.extend(unreadable.iter().map(|error| ("a job".to_owned(), error.to_string())));
    for job in jobs.into_iter().filter(|job| job.is_periodic() && !job.supervised) {
        let name = job.keep.id().to_owned();
        if job.comes_back() {
            let why = "its scheduler has died; `bivouac resume` takes it up again".to_owned();
            collected.kept.push((name, why));
            continue;
        }
        match job.keep.lock().and_then(|_lock| job.keep.remove()) {
            Ok(()) => collected.removed.push(name),
            Err(error) => collected.kept.push((name, error.to_string())),
        }
    }
    Ok(())
}

enum Done {
    Removed,
    Left(Option<&'static str>),
}

fn allocation(engine: &Engine, home: &Home, entry: &Entry) -> Result<Done, PlanError> {
    let Ok(_lock) = entry.keep.lock_within(LEAVES) else { return Ok(Done::Left(None)) };
    let plan = match entry.keep.plan() {
        Ok(plan) => plan,
        // Somebody else was quicker.
        Err(_) if !entry.keep.path().exists() => return Ok(Done::Left(None)),
        Err(error) => return Err(PlanError::other(error)),
    };
    let gone =
        plan.face == Face::Foreground || (!entry.state.is_of_this_boot() && plan.on_boot == OnBoot::Forget);
    if !entry.state.machine.is_over() && !gone {
        return Ok(Done::Left(Some("its supervisor has died; `bivouac resume` takes it up again")));
    }
    for task in 0..plan.allocation.tasks.len() {
        let id = plan.allocation.run_id(task);
        match engine.find(&id) {
            Ok(Standing::Alive(_)) => return Ok(Done::Left(None)),
            Ok(_) => match engine.destroy(&id, Leftovers::Kill) {
                Err(error) if !is_anothers(&error) => return Err(PlanError::other(error)),
                _ => {}
            },
            Err(_) => {}
        }
    }
    if let Some(attached) = &entry.state.network {
        network::tear_down(attached, &plan.network).map_err(PlanError::other)?;
    }
    // What is half written is nothing for the next run to find on a sticky disk.
    inputs::clear(&plan.allocation);
    forget(home, &plan.allocation)?;
    Ok(Done::Removed)
}

/// Removes an allocation that nobody supervises any more; its sticky disk goes to the next run. What cannot be removed
/// stays known, for the next time.
///
/// # Errors
/// What the disk answered, with the path.
pub(crate) fn forget(home: &Home, allocation: &Allocation) -> Result<(), PlanError> {
    disks::put_back(home, allocation)?;
    allocation.remove_directories()?;
    home.keep(&allocation.id).remove().map_err(PlanError::other)
}

/// Whether a start was cut short before its supervisor wrote anything, long ago.
fn was_cut_short(keep: &Keep) -> bool {
    let age = std::fs::metadata(keep.path()).and_then(|status| status.modified()).ok();
    let age = age.and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age > SETTLED) && !keep.is_supervised() && matches!(keep.state(), Ok(None))
}

/// Runs of ours that no allocation here knows of, and whose shim has gone.
fn runs(engine: &Engine, home: &Home, collected: &mut Collected) -> Result<(), EngineError> {
    for id in engine.list()?.into_iter().filter(|id| is_ours(id)) {
        let known = id.split_once('/').is_some_and(|(alloc, _)| home.keep(alloc).path().exists());
        if known || !matches!(engine.find(&id), Ok(Standing::Ended(..))) {
            continue;
        }
        match engine.destroy(&id, Leftovers::Refuse) {
            Ok(()) => collected.removed.push(id),
            Err(error) if is_anothers(&error) => {}
            Err(error) => collected.kept.push((id, error.to_string())),
        }
    }
    Ok(())
}

/// Whether somebody else was quicker, or is at it now.
fn is_anothers(error: &EngineError) -> bool {
    match error {
        EngineError::Unknown => true,
        EngineError::Left(left) => match left.as_ref() {
            RecoverError::Busy { .. } | RecoverError::Alive { .. } => true,
            RecoverError::Kernel { errno, .. } => *errno == rustix::io::Errno::NOENT,
            _ => false,
        },
        _ => false,
    }
}
