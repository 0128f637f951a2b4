//! Removing groups: what is left in them is killed, what was made below them goes first.

use crate::error::Action;
use crate::group::populated;
use crate::place::Place;
use crate::plan::Role;
use crate::saved::Saved;
use crate::wait::wait_change;
use crate::walk::walk;
use crate::{Error, Hierarchy, create, kill};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Cleans up after a crash: as [`Group::remove`](crate::Group::remove), for whichever of the groups are there. The
/// caller must know that they are its own: a [`Saved`] of a plan carries no identity yet.
///
/// # Errors
/// As [`Group::remove`](crate::Group::remove); [`Error::Replaced`], [`Error::Outside`] for a tampered state file.
pub fn remove_saved(saved: &Saved, deadline: Duration) -> Result<(), Error> {
    let mut places = Vec::with_capacity(saved.places.len());
    for known in saved.places.iter().filter(|known| known.role != Role::JoinOnly) {
        let place = match Place::open_saved(known.hierarchy.clone(), known.role, known.path.clone()) {
            Err(Error::Gone { .. }) => continue,
            place => place?,
        };
        match (known.id, place.id()?) {
            (Some(expected), found) if expected != found => {
                let path = place.path;
                return Err(Error::Replaced { path, expected: expected.0, found: found.0 });
            }
            _ => places.push(place),
        }
    }
    remove(&places, deadline)
}

pub(crate) fn remove(places: &[Place], deadline: Duration) -> Result<(), Error> {
    let end = Instant::now() + deadline;
    let mut left = Vec::new();
    // Version 2 stands last and goes first: as long as it is there, the others can be killed through it.
    for place in places.iter().rev() {
        let gone = match place.role {
            Role::JoinOnly => true,
            Role::Shared => {
                remove_now(place)?;
                true
            }
            Role::Ours => left.is_empty() && remove_now(place)?,
            Role::Given => false,
        };
        if !gone {
            left.push(place);
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    kill::guard(places, "kill")?;
    match kill::kill(places, end) {
        // A group that vanished took its processes along.
        Ok(()) | Err(Error::Gone { .. }) => {}
        Err(error) => return Err(error),
    }
    left.into_iter().try_for_each(|place| finish(places, place, end))
}

/// Removes an empty group without groups below it; `false` if it is in use.
fn remove_now(place: &Place) -> Result<bool, Error> {
    match rustix::fs::rmdir(&place.path) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(place.kernel(Action::Remove, "", errno)),
    }
}

/// Waits for one directory to become empty, and removes what is to be removed of it.
fn finish(places: &[Place], place: &Place, end: Instant) -> Result<(), Error> {
    /// What was killed takes a while to die; whoever is there later was not reached through version 2.
    const GRACE: Duration = Duration::from_millis(200);
    let mut again = Instant::now() + GRACE;
    let done = wait_change(place, end, || {
        if has_process(place)? {
            if place.hierarchy != Hierarchy::Unified && Instant::now() > again {
                match kill::kill_by_signal(places, place, end) {
                    Ok(()) | Err(Error::Gone { .. }) => {}
                    Err(error) => return Err(error),
                }
                again = Instant::now() + GRACE;
            }
            return Ok(false);
        }
        remove_below(place)?;
        if place.role == Role::Given { Ok(true) } else { remove_now(place) }
    })?;
    if !done {
        let processes = place.processes().unwrap_or_default();
        let what = "did not become empty";
        return Err(Error::Deadline { path: place.path.clone(), what, processes });
    }
    if place.role == Role::Given && place.hierarchy == Hierarchy::Unified && place.is_alive() {
        create::lift_devices(place)?;
    }
    Ok(())
}

fn has_process(place: &Place) -> Result<bool, Error> {
    let answer = match place.hierarchy {
        Hierarchy::Unified => populated(place),
        Hierarchy::V1(_) => place.processes().map(|list| !list.is_empty()),
    };
    match answer {
        Err(Error::Gone { .. }) => Ok(false),
        answer => answer,
    }
}

/// Removes what somebody made below the group, as far as it is not in use.
fn remove_below(place: &Place) -> Result<(), Error> {
    let walked = walk(
        place.fd(),
        |_| Ok(()),
        |parent, name| match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        },
    );
    match walked {
        // In use, or changed under our feet: the caller looks again.
        Ok(()) | Err(Errno::BUSY | Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(place.kernel(Action::Remove, "", errno)),
    }
}

pub(crate) fn wait_empty(place: &Place, end: Instant) -> Result<(), Error> {
    let empty = wait_change(place, end, || match place.hierarchy {
        Hierarchy::Unified => populated(place).map(|populated| !populated),
        Hierarchy::V1(_) => place.processes().map(|list| list.is_empty()),
    })?;
    if empty {
        return Ok(());
    }
    let (path, what) = (place.path.clone(), "did not become empty");
    Err(Error::Deadline { path, what, processes: place.processes()? })
}
