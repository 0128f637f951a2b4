//! A limit on the work and memory that evaluating one job may cost.

use crate::value::Value;
use std::cell::Cell;

/// Steps an evaluation may take: about a tenth of a second.
const STEPS: u64 = 400_000;
/// Bytes of values an evaluation may make, counted roughly and never given back.
const BYTES: u64 = 24 << 20;

/// Parts of a value that may be visited for the price of one step.
const PARTS_PER_STEP: u64 = 4;

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

impl Budget {
    /// Counts a value that is about to be walked through.
    ///
    /// Values share their parts, so a small one can look endless to whoever visits every part.
    ///
    /// # Errors
    /// A sentence, once it is larger than what may still be visited.
    pub(crate) fn weigh(&self, value: &Value) -> Result<(), String> {
        let mut left = self.steps.get().saturating_mul(PARTS_PER_STEP);
        let before = left;
        if walk(value, &mut left).is_none() {
            return self.steps(usize::MAX);
        }
        self.steps(usize::try_from((before - left) / PARTS_PER_STEP).unwrap_or(usize::MAX))
    }
}

fn walk(value: &Value, left: &mut u64) -> Option<()> {
    *left = left.checked_sub(1)?;
    match value {
        Value::List(items) | Value::Set(items) => items.iter().try_for_each(|item| walk(item, left)),
        Value::Map(items) => items.values().try_for_each(|item| walk(item, left)),
        _ => Some(()),
    }
}

fn take(left: &Cell<u64>, amount: usize) -> Option<()> {
    let rest = left.get().checked_sub(amount as u64)?;
    left.set(rest);
    Some(())
}
