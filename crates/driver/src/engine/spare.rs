//! A shim that is started before there is something for it to do.

use super::{Engine, EngineError};
use bivouac_shim::client::{Client, Place};
use bivouac_sys::clone::Child;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a spare shim is taken for one that still waits: well below its own patience.
const FRESH: Duration = Duration::from_secs(10);

/// A shim that was started ahead of its order. Without one it ends as soon as its connection does.
pub(super) struct Spare {
    client: Client,
    child: Child,
    since: Instant,
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spare({})", self.child.pid)
    }
}

impl Spare {
    /// Ends it, and waits until nothing of it is left; nobody else could have reaped it.
    fn dismiss(self) {
        drop(self.client);
        let _ = bivouac_sys::wait::reap_blocking(self.child.pidfd.as_fd());
    }
}

impl Engine {
    /// Starts a shim ahead of the start that will need it, so that it begins to run while that one is prepared.
    ///
    /// # Errors
    /// [`EngineError`]: there is no such program, or no room for one more process.
    pub fn make_ready(&self) -> Result<(), EngineError> {
        if let Ok(mut spare) = self.spare.lock()
            && spare.is_none()
        {
            *spare = Some(self.start_shim()?);
        }
        Ok(())
    }

    /// The spare shim while it has patience, else a new one.
    pub(super) fn shim(&self) -> Result<(Client, Child), EngineError> {
        let ready = match self.take_spare() {
            Some(spare) if spare.since.elapsed() < FRESH => spare,
            Some(stale) => {
                stale.dismiss();
                self.start_shim()?
            }
            None => self.start_shim()?,
        };
        Ok((ready.client, ready.child))
    }

    fn take_spare(&self) -> Option<Spare> {
        self.spare.lock().ok().and_then(|mut spare| spare.take())
    }

    fn start_shim(&self) -> Result<Spare, EngineError> {
        let entrance = self.shims_entrance()?;
        let tasks: Vec<_> = entrance.tasks.iter().map(AsFd::as_fd).collect();
        let program = self.program()?;
        let place = Place { program, cgroup: entrance.unified.as_ref().map(AsFd::as_fd), tasks: &tasks };
        let (client, child) = place.start()?;
        Ok(Spare { client, child, since: Instant::now() })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(spare) = self.take_spare() {
            spare.dismiss();
        }
    }
}
