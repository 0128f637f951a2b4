//! Killing every process of a group, and none outside it.
//!
//! Version 2 does it in the kernel (`cgroup.kill`, Linux 5.14). Without it: freeze, so that nothing can fork away;
//! open a pidfd for each number; read the list again, so that a number that was given to a stranger in between is
//! passed over; signal through the pidfds; thaw. What cannot be frozen, because it waits for a disk or a server that
//! hangs, cannot fork either once it has the signal: a second look that finds nobody new is the end as well.
//!
//! Given groups are used again, and so are killed by signals too: kernels since 6.14 count the kills of a group, and
//! `clone3` with `CLONE_INTO_CGROUP` compares the count of the group that the *parent* is in with that of the target
//! (seen on 6.18). A child cloned into a group that was ever killed by `cgroup.kill` dies before its first
//! instruction.

use crate::error::Action;
use crate::place::Place;
use crate::plan::Role;
use crate::wait::Backoff;
use crate::{Error, Hierarchy, freeze};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a kill without the kernel's help goes on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// How long one freezing may take before the processes are signalled as they are.
const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// Descriptors held at a time.
const BATCH: usize = 256;

/// Refuses where the caller would stop or end itself, or others that share the group.
pub(crate) fn guard(places: &[Place], action: &'static str) -> Result<(), Error> {
    if let Some(place) = places.iter().find(|place| place.role == Role::Shared) {
        return Err(Error::Shared { action, path: place.path.clone() });
    }
    let acting = |place: &&Place| place.hierarchy == Hierarchy::Unified || place.is_freezer();
    match places.iter().filter(acting).find(|place| place.is_exclusive() && place.holds_caller()) {
        Some(place) => Err(Error::Inside { action, path: place.path.clone() }),
        None => Ok(()),
    }
}

/// Kills what is in the group, by version 2 if there is one, and thaws.
pub(crate) fn kill(places: &[Place], end: Instant) -> Result<(), Error> {
    let exclusive = || places.iter().filter(|place| place.is_exclusive());
    match exclusive().find(|place| place.hierarchy == Hierarchy::Unified) {
        Some(unified) => {
            // A process frozen by version 1 as well cannot die before it is thawed there.
            let thawed = || exclusive().filter(|place| place.is_freezer()).try_for_each(freeze::thaw_below);
            if unified.role == Role::Given {
                thawed()?;
                return kill_by_signal(places, unified, end);
            }
            unified.write("cgroup.kill", "1")?;
            freeze::thaw(unified)?;
            thawed()
        }
        None => match exclusive().find(|place| place.is_freezer()).or_else(|| exclusive().next()) {
            Some(place) => kill_by_signal(places, place, end),
            None => Ok(()),
        },
    }
}

/// Kills what is in one directory and below it, without the kernel's help.
pub(crate) fn kill_by_signal(places: &[Place], target: &Place, end: Instant) -> Result<(), Error> {
    let freezer = match target.hierarchy {
        Hierarchy::Unified => Some(target),
        Hierarchy::V1(_) => places.iter().find(|place| place.is_exclusive() && place.is_freezer()),
    };
    if target.holds_caller() {
        return Err(Error::Inside { action: "kill", path: target.path.clone() });
    }
    let mut backoff = Backoff::new(end);
    let mut signalled = HashSet::new();
    loop {
        let thaw = Thaw(freezer);
        let still = match freezer {
            Some(freezer) => freeze::try_freeze(freezer, end.min(Instant::now() + FREEZE_PATIENCE))?,
            None => false,
        };
        let processes = target.processes()?;
        signal_all(target, &processes)?;
        thaw.now()?;
        // Frozen, nobody can have come or gone since the list was read: the next thing each does is to die.
        if still || processes.iter().all(|process| signalled.contains(process)) {
            return Ok(());
        }
        signalled = processes.iter().copied().collect();
        if !backoff.sleep() {
            let what = "could not be killed";
            return Err(Error::Deadline { path: target.path.clone(), what, processes });
        }
    }
}

/// Thaws on every way out: a group must never be left frozen.
struct Thaw<'a>(Option<&'a Place>);

impl Thaw<'_> {
    fn now(mut self) -> Result<(), Error> {
        self.0.take().map_or(Ok(()), freeze::thaw_below)
    }
}

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        if let Some(freezer) = self.0 {
            // On the way out with an error already.
            let _ = freeze::thaw_below(freezer);
        }
    }
}

fn signal_all(place: &Place, processes: &[i32]) -> Result<(), Error> {
    for batch in processes.chunks(BATCH) {
        let mut open: Vec<(i32, OwnedFd)> = Vec::with_capacity(batch.len());
        for &number in batch {
            let Some(pid) = Pid::from_raw(number) else { continue };
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => open.push((number, pidfd)),
                // Gone, or (EINVAL, ENOENT) no leader of its threads any more.
                Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(place.kernel(Action::Signal(number), "", errno)),
            }
        }
        let still: HashSet<i32> = place.processes()?.into_iter().collect();
        for (number, pidfd) in open.iter().filter(|(number, _)| still.contains(number)) {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(place.kernel(Action::Signal(*number), "", errno)),
            }
        }
    }
    Ok(())
}
