//! Freezing and thawing one directory of either version.

use crate::place::Place;
use crate::wait::{Backoff, wait_change};
use crate::walk::walk;
use crate::{Error, Hierarchy, files, parse};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Freezes and waits; thaws if it did not happen in time.
pub(crate) fn freeze(place: &Place, deadline: Duration) -> Result<(), Error> {
    let end = Instant::now() + deadline;
    match try_freeze(place, end) {
        Ok(true) => Ok(()),
        Ok(false) => {
            thaw(place)?;
            let processes = place.processes()?;
            Err(Error::Deadline { path: place.path.clone(), what: "did not freeze", processes })
        }
        Err(error) => {
            // The first error is the one to tell; a group that is gone cannot be thawed.
            let _ = thaw(place);
            Err(error)
        }
    }
}

/// Freezes and answers whether every process stood still before `end`. Does not thaw.
pub(crate) fn try_freeze(place: &Place, end: Instant) -> Result<bool, Error> {
    if place.hierarchy == Hierarchy::Unified {
        place.write("cgroup.freeze", "1")?;
        return wait_change(place, end, || {
            place
                .parse("cgroup.events", files::SMALL, |text| parse::required(text, "frozen"))
                .map(|frozen| frozen == 1)
        });
    }
    let mut backoff = Backoff::new(end);
    loop {
        // Written again each time: that makes the kernel look again at processes it could not freeze.
        place.write(STATE, "FROZEN")?;
        if place.read(STATE, files::SMALL)? == "FROZEN\n" {
            return Ok(true);
        }
        if !backoff.sleep() {
            return Ok(false);
        }
    }
}

const STATE: &str = "freezer.state";

/// Thaws this directory, if it is one that can be frozen.
pub(crate) fn thaw(place: &Place) -> Result<(), Error> {
    match &place.hierarchy {
        Hierarchy::Unified => place.write("cgroup.freeze", "0"),
        Hierarchy::V1(_) if place.is_freezer() => place.write(STATE, "THAWED"),
        Hierarchy::V1(_) => Ok(()),
    }
}

/// Thaws a directory, and on version 1 all below it: unlike those of version 2, its frozen processes cannot be killed.
pub(crate) fn thaw_below(freezer: &Place) -> Result<(), Error> {
    if freezer.hierarchy == Hierarchy::Unified {
        return thaw(freezer);
    }
    let walked = walk(freezer.fd(), |group| files::write(group, STATE, b"THAWED"), |_, _| Ok(()));
    match walked {
        Ok(()) => Ok(()),
        // Removed meanwhile: what was in it has been dealt with.
        Err(Errno::NOENT | Errno::NODEV) if freezer.is_alive() => thaw(freezer),
        Err(Errno::NOENT | Errno::NODEV) => Err(freezer.gone()),
        Err(errno) => Err(freezer.kernel(crate::Action::Write("THAWED".into()), STATE, errno)),
    }
}

/// Whether this directory is frozen or about to be, by itself or from above.
pub(crate) fn is_frozen(place: &Place) -> Result<bool, Error> {
    match &place.hierarchy {
        Hierarchy::Unified => {
            let asked = place.parse("cgroup.freeze", files::SMALL, parse::number)?;
            let events =
                place.parse("cgroup.events", files::SMALL, |text| parse::required(text, "frozen"))?;
            Ok(asked != 0 || events != 0)
        }
        Hierarchy::V1(_) if place.is_freezer() => Ok(place.read(STATE, files::SMALL)? != "THAWED\n"),
        Hierarchy::V1(_) => Ok(false),
    }
}
