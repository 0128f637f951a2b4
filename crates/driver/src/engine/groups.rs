//! Control groups of runs, looked at or ended from outside.

use super::{Engine, EngineError, REMOVE_DEADLINE, Record};
use bivouac_cgroup::{DevicePolicy, Group, Limits, MemoryStats, Placement, Plan};

impl Engine {
    /// Ends whatever runs in groups that somebody else placed there, and removes what of them is ours. Whoever asks
    /// knows that nothing in them is to live.
    ///
    /// # Errors
    /// [`EngineError::Cgroup`]: something does not end.
    pub fn clear(&self, placement: &Placement) -> Result<(), EngineError> {
        let plan = Plan::new(&self.cgroups, placement, &Limits::default(), &DevicePolicy::Unrestricted)?;
        Ok(bivouac_cgroup::remove_saved(&plan.saved(), REMOVE_DEADLINE)?)
    }

    /// This engine on the host as it is now: its control groups are looked for again.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn renewed(&self) -> Result<Engine, EngineError> {
        let renewed = Engine::new(self.places.clone())?;
        if let (Ok(mut ours), Ok(mut theirs)) = (self.children.lock(), renewed.children.lock()) {
            theirs.append(&mut ours);
        }
        Ok(renewed)
    }

    /// The processes of a running task, as numbers of this process's pid namespace: to be shown and measured, never to
    /// be signalled.
    ///
    /// # Errors
    /// [`EngineError`]: unknown, over, or its groups cannot be read.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, EngineError> {
        Ok(Group::open(&self.client(id)?.state()?.cgroup)?.processes()?)
    }

    /// What the memory of a run's groups has been used for, also after its end; none when nobody counts it.
    pub fn memory(&self, id: &str) -> Option<MemoryStats> {
        let record = Record::read(&self.run_dir(id)).ok()?;
        Group::open(&record.cgroup).ok()?.stats().ok()?.memory
    }
}
