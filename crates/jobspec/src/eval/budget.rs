//! A limit on the work and memory that evaluating one job may cost.

use std::cell::Cell;

/// Steps an evaluation may take: about a tenth of a second.
const STEPS: u64 = 400_000;
/// Bytes of values an evaluation may make, counted roughly and never given back.
const BYTES: u64 = 24 << 20;

/// What is left of both. Shared by all expressions of one job.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { steps: Cell::new(STEPS), bytes: Cell::new(BYTES) }
    }
}

impl Budget {
    /// Counts steps.
    ///
    /// # Errors
    /// A sentence, once there are none left.
    pub(crate) fn steps(&self, steps: usize) -> Result<(), String> {
        take(&self.steps, steps).ok_or_else(|| {
            "evaluating this file takes too many steps: a loop or function works on too many elements".into()
        })
    }

    /// Counts bytes that a value will take.
    ///
    /// # Errors
    /// A sentence, once there are none left.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<(), String> {
        take(&self.bytes, bytes).ok_or_else(|| {
            format!(
                "the values of this file take more than {} MiB: a loop or function grows too large",
                BYTES >> 20
            )
        })
    }
}

fn take(left: &Cell<u64>, amount: usize) -> Option<()> {
    let rest = left.get().checked_sub(amount as u64)?;
    left.set(rest);
    Some(())
}
