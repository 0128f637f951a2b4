//! Jobs that are written down to be started later: periodic ones by their scheduler, parameterized ones by `dispatch`.
//!
//! A job is kept as it was evaluated: later changes of the file, of variables and of the environment do not reach it
//! before it is registered again.

use crate::allocation::{Allocation, PlanError, new_id};
use crate::disk_limit::Way;
use crate::machine::Machine;
use crate::network::{HostNetworks, interfaces};
use crate::node::Node;
use crate::planning::{self, Payload, Scene};
use crate::schedule::Schedule;
use crate::state::{Care, Home, Keep, OnBoot, StateError, VERSION, read, write};
use crate::volumes::{self, HostVolumes};
use bivouac_jobspec::{Job, Outcome};
use bivouac_shim::process::{Moment, boot_id};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const JOB: &str = "job.json";
const PROGRESS: &str = "progress.json";

/// What was asked for: a job and what the command line added to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    /// The job, evaluated.
    pub job: Job,
    /// Host volumes, `NAME=PATH[:ro]` each, with absolute paths.
    #[serde(default)]
    pub volumes: Vec<String>,
}

impl Submission {
    /// The allocations that it comes to. `named` are volumes that the operator names; those of the command line win.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn allocations(
        &self,
        home: &Home,
        machine: &Machine,
        payload: Option<&Payload>,
    ) -> Result<Vec<Allocation>, PlanError> {
        let outcome = Outcome {
            job: self.job.clone(),
            notes: Vec::new(),
            sensitive: Vec::new(),
            sources: std::sync::Arc::default(),
        };
        allocations(&outcome, home, &self.volumes, machine, payload)
    }

    /// Whether both ask for the same.
    pub fn is_as(&self, other: &Submission) -> bool {
        let both = (serde_json::to_value(self), serde_json::to_value(other));
        matches!(both, (Ok(one), Ok(two)) if one == two)
    }
}

/// The allocations of a job that was just read; errors show its text.
///
/// # Errors
/// [`PlanError`].
pub fn allocations(
    outcome: &Outcome,
    home: &Home,
    volumes: &[String],
    machine: &Machine,
    payload: Option<&Payload>,
) -> Result<Vec<Allocation>, PlanError> {
    let mut known = volumes::known(home)?;
    known.extend(machine.volumes.iter().map(|(name, volume)| (name.clone(), volume.clone())));
    for text in volumes {
        let (name, volume) = volumes::parse(text)?;
        known.insert(name, volume);
    }
    allocations_with(outcome, home, &known, &machine.host_networks, payload)
}

/// The same with no volumes and networks but these: nothing of the state directory is read, which only root may.
///
/// # Errors
/// [`PlanError`].
pub fn allocations_with(
    outcome: &Outcome,
    home: &Home,
    volumes: &HostVolumes,
    host_networks: &HostNetworks,
    payload: Option<&Payload>,
) -> Result<Vec<Allocation>, PlanError> {
    let scene = Scene {
        node: &Node::of_this_machine(),
        state_dir: home.path(),
        volumes,
        host_networks,
        interfaces: &interfaces::of_this_machine,
        payload,
        disk: home.disk(),
        new_id: &new_id,
    };
    planning::plan(outcome, &scene)
}

/// A job that is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// [`VERSION`].
    pub version: u32,
    /// The job.
    pub submission: Submission,
    /// The operator's configuration, if it was named.
    pub config: Option<PathBuf>,
    /// Whether its scheduler comes back after a reboot.
    pub on_boot: OnBoot,
    /// The boot at which its scheduler was started last.
    pub boot_id: String,
    /// When: nanoseconds since 1970.
    pub created: i64,
    /// How the disks of its runs are kept to their size.
    #[serde(default)]
    pub disk: Way,
}

/// How far the scheduler of a periodic job is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// [`VERSION`].
    pub version: u32,
    /// Everything that was due until then, in seconds since 1970, is started or left out.
    pub until: i64,
}

/// A registered job.
#[derive(Debug)]
pub struct Registered {
    /// Its place.
    pub keep: Keep,
    /// What is written down.
    pub registration: Registration,
    /// Whether its scheduler lives.
    pub supervised: bool,
}

impl Registered {
    /// Whether a scheduler belongs to it.
    pub fn is_periodic(&self) -> bool {
        self.registration.submission.job.periodic.is_some()
    }

    /// Whether a scheduler is to take it up again in this boot.
    pub fn comes_back(&self) -> bool {
        let here = boot_id().is_ok_and(|boot| boot == self.registration.boot_id);
        here || self.registration.on_boot == OnBoot::Restart
    }

    /// When it is due next.
    ///
    /// # Errors
    /// Its time table, the disk.
    pub fn next(&self) -> Result<Option<Timestamp>, PlanError> {
        let Some(periodic) =
            self.registration.submission.job.periodic.as_ref().filter(|periodic| periodic.enabled)
        else {
            return Ok(None);
        };
        let until = progress(&self.keep, &self.registration).map_err(PlanError::other)?;
        let until = Timestamp::from_second(until).map_err(PlanError::other)?;
        Ok(Schedule::of(periodic)?.next(until))
    }
}

/// Writes a job down, in place of an earlier one of its name. The caller makes sure that no scheduler lives.
///
/// # Errors
/// [`StateError`].
pub fn register(
    home: &Home,
    submission: Submission,
    on_boot: OnBoot,
    config: Option<PathBuf>,
) -> Result<Keep, StateError> {
    let keep = home.job(&submission.job.id);
    let _lock = keep.make()?;
    let now = Moment::now().unix_nanos;
    let registration = Registration {
        version: VERSION,
        submission,
        config,
        on_boot,
        boot_id: boot_id().unwrap_or_default(),
        created: now,
        disk: home.disk(),
    };
    // What was due before it was registered is nobody's.
    advance(&keep, now / 1_000_000_000)?;
    write(keep.path(), JOB, &registration, Care::Synced)?;
    Ok(keep)
}

/// Reads a job that is written down; `None` when there is none.
///
/// # Errors
/// [`StateError`].
pub fn find(home: &Home, name: &str) -> Result<Option<Registered>, StateError> {
    let keep = home.job(name);
    match registration(&keep) {
        Ok(registration) => {
            let supervised = keep.is_supervised();
            Ok(Some(Registered { keep, registration, supervised }))
        }
        Err(StateError::File { error, .. })
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidFilename) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every job that is written down, by name, and what cannot be read.
///
/// # Errors
/// [`StateError::File`] when the directory cannot be listed.
pub fn all(home: &Home) -> Result<(Vec<Registered>, Vec<StateError>), StateError> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for keep in home.jobs()? {
        let supervised = keep.is_supervised();
        match registration(&keep) {
            Ok(registration) => found.push(Registered { keep, registration, supervised }),
            // Just being made, or just being removed.
            Err(StateError::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => unreadable.push(error),
        }
    }
    Ok((found, unreadable))
}

pub(crate) fn registration(keep: &Keep) -> Result<Registration, StateError> {
    read(&keep.path().join(JOB))
}

/// Marks that a scheduler took it up in this boot.
pub(crate) fn taken_up(keep: &Keep, registration: &mut Registration) -> Result<(), StateError> {
    let boot = boot_id().unwrap_or_default();
    if registration.boot_id == boot {
        return Ok(());
    }
    registration.boot_id = boot;
    write(keep.path(), JOB, registration, Care::Synced)
}

/// Until when everything was started, in seconds since 1970.
pub(crate) fn progress(keep: &Keep, registration: &Registration) -> Result<i64, StateError> {
    match read::<Progress>(&keep.path().join(PROGRESS)) {
        Ok(progress) => Ok(progress.until),
        Err(StateError::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(registration.created / 1_000_000_000)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn advance(keep: &Keep, until: i64) -> Result<(), StateError> {
    write(keep.path(), PROGRESS, &Progress { version: VERSION, until }, Care::Synced)
}
