//! Processors that running tasks have for themselves: who has which, and that two starts do not take the same.
//!
//! Nothing is kept for it but the record of each run: a task that lives has what its record says, and who is dead has
//! nothing, however it died. There is nothing to release.

use super::record::Record;
use super::{Engine, EngineError, Standing, disk};
use bivouac_cgroup::CpuSet;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use std::os::fd::OwnedFd;

/// A running task that has processors for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The task, as messages name it.
    pub name: String,
    /// Its processors.
    pub cores: CpuSet,
}

/// While it is held, nobody else chooses: from the look at what is free until the chosen task runs.
#[derive(Debug)]
pub struct Turn {
    /// Who has which.
    pub holders: Vec<Holder>,
    _lock: OwnedFd,
}

impl Engine {
    /// Waits for the turn to choose, and looks who has which. Tasks of every face count.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn choose_cores(&self) -> Result<Turn, EngineError> {
        // What is looked at is what is locked: the directory of all runs.
        let path = self.places.run.join("tasks");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(CWD, &path, flags, Mode::empty()).map_err(disk::failed("open", &path))?;
        // The kernel lets go of it with whoever holds it.
        flock(&lock, FlockOperation::LockExclusive).map_err(disk::failed("lock", &path))?;
        let holders = self.list()?.iter().filter_map(|id| self.holder(id)).collect();
        Ok(Turn { holders, _lock: lock })
    }

    fn holder(&self, id: &str) -> Option<Holder> {
        let Record { name, cores, .. } = Record::read(&self.run_dir(id)).ok()?;
        let cores = cores?;
        match self.find(id) {
            Ok(Standing::Alive(mut client)) => {
                // Its shim may only wait for somebody to ask how it ended.
                let over = client.state().is_ok_and(|status| status.exit.is_some());
                (!over).then_some(Holder { name, cores })
            }
            // The task is dead with its shim, or never was.
            Ok(Standing::Ended(..) | Standing::Lost(_)) | Err(EngineError::Unknown) => None,
            // There is a shim that does not answer: what it holds is not free.
            Err(_) => Some(Holder { name, cores }),
        }
    }
}
