//! The readers of what a plugin prints, for the fuzz targets alone. No part of the interface.

use super::{CniError, Outcome, call};
use std::path::Path;

/// Reads what the last plugin of a chain printed, which ended with success.
///
/// # Errors
/// Why it cannot be used.
pub fn read_answer(stdout: &[u8], namespace: &Path) -> Result<Outcome, CniError> {
    let unusable = |text| CniError::Answer { plugin: "fuzz".into(), text };
    let answer = call::answer(stdout).map_err(unusable)?;
    Outcome::read(answer, namespace).map_err(unusable)
}

/// The words of a plugin that ended with a failure, if what it printed is an error object.
pub fn read_complaint(stdout: &[u8]) -> Option<String> {
    call::complaint(stdout)
}
