//! What runs of a job, and what becomes of it when the job is asked for again.
//!
//! A job that runs as it is asked for stays as it is: nothing is started twice. One that is asked for otherwise is
//! replaced, as a whole. Runs in the foreground are nobody's business but their own.

use crate::allocation::{Allocation, Disk, PlanError};
use crate::overview::{self, Entry};
use crate::registry::Submission;
use crate::state::{Face, Home};
use crate::volumes::HostVolume;
use bivouac_driver::engine::Engine;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Access;

/// What becomes of one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs and stays.
    Stays,
    /// It is started.
    Starts,
    /// It is stopped, and started anew.
    Replaced,
    /// It is stopped.
    Stops,
}

impl Fate {
    /// As a plan marks it.
    pub fn mark(self) -> &'static str {
        match self {
            Fate::Stays => "=",
            Fate::Starts => "+",
            Fate::Replaced => "-/+",
            Fate::Stops => "-",
        }
    }
}

/// How a job stands that is asked for.
#[derive(Debug)]
pub struct Standing {
    /// What it was when it was asked for last; nothing when nothing of it runs.
    pub before: Option<Submission>,
    /// What runs of it.
    pub live: Vec<Entry>,
    /// What becomes of each allocation, by its name.
    pub fates: Vec<(String, Fate)>,
}

impl Standing {
    /// Compares what runs with what is asked for.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn of(home: &Home, asked: &Submission, allocations: &[Allocation]) -> Result<Standing, PlanError> {
        let (mut live, _) = overview::all(home).map_err(PlanError::other)?;
        live.retain(|entry| {
            entry.state.job == asked.job.id && entry.state.face == Face::Detached && entry.is_live()
        });
        let mut same = true;
        let mut before = None;
        for entry in &live {
            let submission = entry.keep.plan().map_err(PlanError::other)?.submission;
            same &= submission.as_ref().is_some_and(|submission| submission.is_as(asked));
            before = submission.or(before);
        }
        let runs = |name: &str| live.iter().any(|entry| entry.state.name == name);
        // What has ended of a batch job has done its work.
        let again = !asked.job.kind.is_batch() || live.is_empty() || !same;
        let mut fates = Vec::new();
        for name in allocations.iter().map(|allocation| &allocation.name) {
            match (runs(name), same) {
                (true, true) => fates.push((name.clone(), Fate::Stays)),
                (true, false) => fates.push((name.clone(), Fate::Replaced)),
                (false, _) if again => fates.push((name.clone(), Fate::Starts)),
                (false, _) => {}
            }
        }
        let asked_for = |name: &str| allocations.iter().any(|allocation| allocation.name == name);
        let gone = live.iter().filter(|entry| !asked_for(&entry.state.name));
        fates.extend(gone.map(|entry| (entry.state.name.clone(), Fate::Stops)));
        Ok(Standing { before, live, fates })
    }

    /// What becomes of this allocation.
    pub fn fate(&self, name: &str) -> Option<Fate> {
        self.fates.iter().find(|(known, _)| known == name).map(|(_, fate)| *fate)
    }
}

/// Gives sticky disks of earlier runs back, so that the next run finds them: what is over of the same name goes.
///
/// # Errors
/// What could not be moved.
pub fn settle_disks(engine: &Engine, home: &Home, allocation: &Allocation) -> Result<(), PlanError> {
    if allocation.disk == Disk::Ephemeral {
        return Ok(());
    }
    let (entries, _) = overview::all(home).map_err(PlanError::other)?;
    for entry in entries.iter().filter(|entry| entry.state.name == allocation.name && !entry.is_live()) {
        crate::gc::one(engine, home, entry)?;
    }
    Ok(())
}

/// Stands for a volume where it does not matter which.
///
/// # Errors
/// None on any machine that has a root directory.
pub fn any_volume() -> Result<HostVolume, PlanError> {
    Ok(HostVolume { path: HostPath::new("/").map_err(PlanError::other)?, access: Access::ReadWrite })
}
