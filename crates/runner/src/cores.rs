//! Which processors a task with `resources { cores }` gets: ones that no other running task has for itself.
//!
//! They are chosen when the task starts, each time anew. Tasks without `cores` may run on all.

use bivouac_cgroup::CpuSet;
use bivouac_driver::engine::{Engine, EngineError, Holder, Turn};
use bivouac_driver::request::TaskRequest;

/// Why a task does not get its processors.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    /// The driver's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Too few are free.
    #[error("cores: {asked} asked, {free} of {all} free; {remedy}")]
    TooFew {
        /// How many the task wants.
        asked: u32,
        /// How many nobody has.
        free: usize,
        /// How many there are.
        all: usize,
        /// Who has the others, and what can be done.
        remedy: String,
    },
    /// The kernel does not tell which there are.
    #[error("cores: cannot ask which processors there are: {0}")]
    Kernel(rustix::io::Errno),
}

/// Chooses processors and puts them into what the driver is asked; nothing where none are wanted. What comes back is to
/// be held until the task runs.
///
/// # Errors
/// [`CoresError`].
pub fn choose(engine: &Engine, asked: u32, request: &mut TaskRequest) -> Result<Option<Turn>, CoresError> {
    if asked == 0 {
        return Ok(None);
    }
    let turn = engine.choose_cores()?;
    give(asked, &turn.holders, request)?;
    Ok(Some(turn))
}

/// What [`choose`] would do now, after those that are `planned` already, to print a plan.
///
/// # Errors
/// [`CoresError`].
pub fn rehearse(
    engine: &Engine,
    asked: u32,
    planned: &mut Vec<Holder>,
    request: &mut TaskRequest,
) -> Result<(), CoresError> {
    if asked > 0 {
        let holders = [engine.choose_cores()?.holders, planned.clone()].concat();
        let cores = give(asked, &holders, request)?;
        planned.push(Holder { name: request.name.clone(), cores });
    }
    Ok(())
}

/// The lowest that are free, for a request.
fn give(asked: u32, holders: &[Holder], request: &mut TaskRequest) -> Result<CpuSet, CoresError> {
    let usable = usable().map_err(CoresError::Kernel)?;
    let cores = first_free(asked, &usable, holders)?;
    request.env.retain(|(name, _)| name != VARIABLE);
    request.env.push((VARIABLE.to_owned(), cores.to_string()));
    request.resources.cores = cores.to_string();
    Ok(cores)
}

/// What tells a task which it has.
const VARIABLE: &str = "NOMAD_CPU_CORES";

/// The processors that we may use, and with us our tasks.
fn usable() -> Result<Vec<u32>, rustix::io::Errno> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let numbers = 0..rustix::thread::CpuSet::MAX_CPU;
    Ok(numbers.filter(|number| set.is_set(*number)).filter_map(|number| u32::try_from(number).ok()).collect())
}

/// The lowest that nobody has.
fn first_free(asked: u32, usable: &[u32], holders: &[Holder]) -> Result<CpuSet, CoresError> {
    let is_free = |cpu: &&u32| !holders.iter().any(|holder| holder.cores.contains(**cpu));
    let free: Vec<String> = usable.iter().filter(is_free).map(u32::to_string).collect();
    let chosen = usize::try_from(asked).ok().and_then(|asked| free.get(..asked));
    chosen.and_then(|chosen| chosen.join(",").parse().ok()).ok_or_else(|| CoresError::TooFew {
        asked,
        free: free.len(),
        all: usable.len(),
        remedy: remedy(asked, usable, holders),
    })
}

fn remedy(asked: u32, usable: &[u32], holders: &[Holder]) -> String {
    let held = holders.iter().map(|holder| format!("{} ({})", holder.name, holder.cores));
    let held = held.collect::<Vec<_>>().join(", ");
    if usize::try_from(asked).is_ok_and(|asked| asked > usable.len()) {
        return "this machine has no more; ask for fewer".to_owned();
    }
    format!("held by {held}; stop one of them, or ask for fewer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, cores: &str) -> Holder {
        Holder { name: name.into(), cores: cores.parse().unwrap() }
    }

    fn chosen(asked: u32, usable: &[u32], holders: &[Holder]) -> Result<String, String> {
        first_free(asked, usable, holders).map(|set| set.to_string()).map_err(|error| error.to_string())
    }

    /// Covers: W47
    #[test]
    fn w47_a_task_gets_processors_that_nobody_has() {
        let held = [holder("a.g[0]/t", "0-1"), holder("b.g[0]/t", "4")];
        assert_eq!(chosen(2, &[0, 1, 2, 3], &[]), Ok("0-1".into()));
        assert_eq!(chosen(3, &[0, 1, 2, 3, 4, 5], &held), Ok("2-3,5".into()));
        assert_eq!(chosen(1, &[3, 7], &held), Ok("3".into()), "only those that we may use");
        let told = chosen(2, &[0, 1, 2, 4], &held).unwrap_err();
        let expected = "cores: 2 asked, 1 of 4 free; held by a.g[0]/t (0-1), b.g[0]/t (4); stop one of them, or ask for fewer";
        assert_eq!(told, expected);
        let told = chosen(5, &[0, 1, 2, 3], &held).unwrap_err();
        assert_eq!(told, "cores: 5 asked, 2 of 4 free; this machine has no more; ask for fewer");
        assert!(chosen(u32::MAX, &[0], &[]).is_err());
    }

    #[test]
    fn this_machine_has_processors() {
        assert!(!usable().unwrap().is_empty());
    }
}
