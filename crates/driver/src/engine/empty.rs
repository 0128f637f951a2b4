//! The empty mount namespaces that an engine's launches start from: made at the first of them, beside what else a start
//! does, and kept for the engine's life.

use super::EngineError;
use bivouac_sandbox::{EmptyMounts, Making, RootSwitch};
use bivouac_sys::Errno;
use std::sync::OnceLock;

/// One for each way of leaving the host's root: tasks of one engine may be configured differently.
#[derive(Debug, Default)]
pub(super) struct Kept {
    detached: OnceLock<EmptyMounts>,
    covered: OnceLock<EmptyMounts>,
}

/// One that is there, or on its way.
pub(super) struct Awaited<'a> {
    place: &'a OnceLock<EmptyMounts>,
    making: Option<Making>,
    switch: RootSwitch,
}

impl Kept {
    /// Begins to make one, unless it is there.
    pub(super) fn begin(&self, switch: RootSwitch) -> Result<Awaited<'_>, EngineError> {
        let place = match switch {
            RootSwitch::Detach => &self.detached,
            RootSwitch::Cover => &self.covered,
        };
        let making = match place.get() {
            Some(_) => None,
            None => Some(EmptyMounts::begin(switch).map_err(|errno| refused(switch, errno))?),
        };
        Ok(Awaited { place, making, switch })
    }
}

impl<'a> Awaited<'a> {
    /// Waits for it.
    pub(super) fn get(self) -> Result<&'a EmptyMounts, EngineError> {
        let made = self.making.map(Making::finish).transpose();
        match made.map_err(|errno| refused(self.switch, errno))? {
            // Of several first starts at once one is the first.
            Some(made) => Ok(self.place.get_or_init(|| made)),
            None => self.place.get().ok_or_else(|| refused(self.switch, Errno::CANCELED)),
        }
    }
}

fn refused(switch: RootSwitch, errno: Errno) -> EngineError {
    let advice = match (switch, errno) {
        (RootSwitch::Detach, Errno::INVAL) => "; if the host's root is a ramdisk, set no_pivot_root",
        _ => "",
    };
    EngineError::Mounts { answer: format!("{errno}{advice}") }
}
