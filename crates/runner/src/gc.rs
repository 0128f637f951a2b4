//! Garbage: runs that ended or were lost after whoever started them had died.
//!
//! A run whose shim lives is never touched: a foreground run's shim leaves as soon as its starter's connection
//! closes, so a shim that is there means a face that is there, or a task that must not be forgotten. Everything may
//! vanish under us at any moment, since faces collect their own runs meanwhile; that is no error.

use bivouac_driver::engine::{Engine, EngineError, Standing};
use bivouac_shim::recover::RecoverError;

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Runs of which nothing is left now.
    pub removed: Vec<String>,
    /// Runs that are left for another try, and why.
    pub kept: Vec<(String, EngineError)>,
}

/// Removes what is left of runs for which `is_ours` holds and whose shim has gone.
///
/// # Errors
/// [`EngineError::File`] when the runs cannot be listed.
pub fn runs(engine: &Engine, is_ours: &dyn Fn(&str) -> bool) -> Result<Collected, EngineError> {
    let mut collected = Collected { removed: engine.gc()?, kept: Vec::new() };
    for id in engine.list()?.into_iter().filter(|id| is_ours(id)) {
        let ended = matches!(engine.find(&id), Ok(Standing::Ended(..)));
        match if ended { engine.destroy(&id, false) } else { continue } {
            Ok(()) => collected.removed.push(id),
            Err(error) if is_anothers(&error) => {}
            Err(error) => collected.kept.push((id, error)),
        }
    }
    Ok(collected)
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
