//! A live group: directories held open, and what can be asked of them.

use crate::error::Action;
use crate::files;
use crate::place::Place;
use crate::plan::Role;
use crate::saved::{CgroupId, Saved, SavedPlace};
use crate::{Controller, Error, Hierarchy, Layout, kill, oom, parse, remove, stats};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;

/// One group in every hierarchy. Dropping it leaves the directories where they are.
#[derive(Debug)]
pub struct Group {
    pub(crate) places: Vec<Place>,
    /// Which of them stands for all: it lists the processes and gives the identity.
    lead: usize,
    id: CgroupId,
}

/// What a child needs to be in the group from its first instruction: it is cloned into `unified`
/// (`CLONE_INTO_CGROUP`), and writes `0` to every file of `tasks` before it does anything that costs memory.
///
/// On kernels since 6.14 a starter that lives in a version 2 group that was ever killed through `cgroup.kill` cannot
/// do that: its child is killed at birth (seen on 6.18). Shims live in a group that nobody kills.
#[derive(Debug)]
pub struct Entrance {
    /// The version 2 directory.
    pub unified: Option<OwnedFd>,
    /// Opened `tasks` files of the version 1 hierarchies.
    pub tasks: Vec<OwnedFd>,
}

impl Group {
    /// Opens the groups that were saved, all of which must be there still.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Replaced`], [`Error::Outside`] (the saved text was tampered with).
    pub fn open(saved: &Saved) -> Result<Group, Error> {
        let open =
            |place: &SavedPlace| Place::open_saved(place.hierarchy.clone(), place.role, place.path.clone());
        let places = saved.places.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        for (place, saved) in places.iter().zip(&saved.places) {
            let found = place.id()?;
            match saved.id {
                Some(expected) if expected != found => {
                    let path = place.path.clone();
                    return Err(Error::Replaced { path, expected: expected.0, found: found.0 });
                }
                _ => {}
            }
        }
        Group::from_places(places)
    }

    pub(crate) fn from_places(places: Vec<Place>) -> Result<Group, Error> {
        let Some(lead) = lead(&places) else {
            let (what, why) = ("a saved group", "it has no directory of its own");
            return Err(Error::Value { what, value: "with nothing but shared hierarchies".into(), why });
        };
        let id = places.get(lead).map_or(Ok(CgroupId(0)), Place::id)?;
        Ok(Group { places, lead, id })
    }

    /// The group as a value, with its identity: after a reboot or a removal it is not found by mistake.
    pub fn saved(&self) -> Saved {
        let place = |(index, place): (usize, &Place)| SavedPlace {
            hierarchy: place.hierarchy.clone(),
            role: place.role,
            path: place.path.clone(),
            id: (index == self.lead).then_some(self.id),
        };
        Saved { places: self.places.iter().enumerate().map(place).collect() }
    }

    /// The identity: the id of the version 2 group, or the inode of a version 1 group.
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// The directory in the hierarchy that carries `controller`: a version 1 one, else version 2.
    pub fn path(&self, controller: Controller) -> Option<&Path> {
        self.v1(controller).or_else(|| self.unified()).map(|place| place.path.as_path())
    }

    /// The directory in the version 2 hierarchy, if the group has one.
    pub fn unified_path(&self) -> Option<&Path> {
        self.unified().map(|place| place.path.as_path())
    }

    /// Opens the way in. It stays good until the group is removed; take a new one for each child or keep one.
    ///
    /// # Errors
    /// [`Error::Gone`], or what open(2) answers.
    pub fn entrance(&self) -> Result<Entrance, Error> {
        let mut entrance = Entrance { unified: None, tasks: Vec::with_capacity(self.places.len()) };
        for place in &self.places {
            match place.hierarchy {
                Hierarchy::Unified => {
                    let copy = place.dir.try_clone().map_err(|error| {
                        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                        place.kernel(Action::Open, "", errno)
                    })?;
                    entrance.unified = Some(copy);
                }
                Hierarchy::V1(_) => {
                    let file =
                        files::open(place.fd(), "tasks", OFlags::WRONLY).map_err(|errno| match errno {
                            Errno::NOENT | Errno::NODEV if !place.is_alive() => place.gone(),
                            errno => place.kernel(Action::Open, "tasks", errno),
                        })?;
                    entrance.tasks.push(file);
                }
            }
        }
        Ok(entrance)
    }

    /// Whether a living process is in the group or below it.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Malformed`], or what reading answers.
    pub fn is_populated(&self) -> Result<bool, Error> {
        match self.lead()? {
            unified if unified.hierarchy == Hierarchy::Unified => populated(unified),
            v1 => v1.processes().map(|list| !list.is_empty()),
        }
    }

    /// The processes in the group and below it, as numbers of the caller's pid namespace. A number may stand for
    /// another process a moment later: to be shown and measured, never to be signalled.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Malformed`] (also for a process of a foreign pid namespace), or what reading answers.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        self.lead()?.processes()
    }

    /// Freezes the group and waits until every process stands still; thaws it again if that takes too long.
    ///
    /// # Errors
    /// [`Error::Inside`], [`Error::Shared`], [`Error::Deadline`], [`Error::Unsupported`] (version 1 without the
    /// freezer), [`Error::Gone`].
    pub fn freeze(&self, deadline: Duration) -> Result<(), Error> {
        let place = self.freezer()?;
        self.guard("freeze")?;
        crate::freeze::freeze(place, deadline)
    }

    /// Lets a frozen group go on, by whichever version it was frozen. Groups below it that were frozen on their own
    /// stay so.
    ///
    /// # Errors
    /// [`Error::Gone`], or what writing answers.
    pub fn thaw(&self) -> Result<(), Error> {
        self.places.iter().filter(|place| place.is_exclusive()).try_for_each(crate::freeze::thaw)
    }

    /// Whether the group is frozen, by us or anybody else, by either version. A process must not be started in it
    /// then.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Malformed`], or what reading answers.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        for place in &self.places {
            if crate::freeze::is_frozen(place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Kills every process in the group and below it, frozen or not, and leaves nothing frozen. Does not wait for
    /// them to be gone; on version 1, and in a given group, it may take up to two seconds until all are reached.
    ///
    /// A group of ours that was killed is at its end: kernels since 6.14 kill whatever is cloned into it later. Make
    /// a new one. A given group may be used again.
    ///
    /// # Errors
    /// [`Error::Inside`], [`Error::Shared`], [`Error::Deadline`], [`Error::Gone`], or what writing answers.
    pub fn kill(&self) -> Result<(), Error> {
        self.guard("kill")?;
        if !self.lead()?.is_alive() {
            return Err(self.lead()?.gone());
        }
        kill::kill(&self.places, std::time::Instant::now() + kill::PATIENCE)
    }

    /// Waits until no living process is in the group or below it.
    ///
    /// # Errors
    /// [`Error::Deadline`] with some of those left, or as [`Group::is_populated`].
    pub fn wait_empty(&self, deadline: Duration) -> Result<(), Error> {
        let end = std::time::Instant::now() + deadline;
        remove::wait_empty(self.lead()?, end)
    }

    /// What the group has used.
    ///
    /// # Errors
    /// [`Error::Gone`] rather than zeros after its removal, [`Error::Malformed`], or what reading answers.
    pub fn stats(&self) -> Result<stats::Stats, Error> {
        stats::read(self)
    }

    /// How many processes of the group were killed for want of memory since it was made. In a given group that was
    /// used before, earlier ones count: take the difference. Version 2 counts groups below as well.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a memory controller, [`Error::Gone`], [`Error::Malformed`].
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let place = self.memory()?;
        place.parse(oom::counter_file(place), files::SMALL, |text| parse::required(text, "oom_kill"))
    }

    /// A descriptor that wakes when memory runs out. The counter is the truth: read it at each wake, and once after
    /// the last process is gone.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a memory controller, [`Error::Gone`], or what eventfd(2) or inotify(7) answers.
    pub fn oom_watch(&self) -> Result<oom::OomWatch, Error> {
        oom::OomWatch::new(self.memory()?)
    }

    /// Kills what is left, waits, and removes every group of ours with all groups below it. Given groups are left
    /// empty, unlimited in devices and thawed, for their owner to remove; groups that are only joined are not
    /// touched; a shared group is removed if it is empty.
    ///
    /// # Errors
    /// [`Error::Deadline`] with some of the processes that would not go, [`Error::Inside`], or what the kernel answers.
    pub fn remove(&self, deadline: Duration) -> Result<(), Error> {
        remove::remove(&self.places, deadline)
    }

    pub(crate) fn lead(&self) -> Result<&Place, Error> {
        let none = || Error::Unsupported { what: "a group without directories", layout: Layout::V1 };
        self.places.get(self.lead).ok_or_else(none)
    }

    pub(crate) fn unified(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.hierarchy == Hierarchy::Unified)
    }

    /// The version 1 directory with this controller, whoever lives in it.
    pub(crate) fn v1(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.hierarchy.carries(controller))
    }

    pub(crate) fn layout(&self) -> Layout {
        let v1 = self.places.iter().any(|place| place.hierarchy != Hierarchy::Unified);
        match (v1, self.unified()) {
            (true, None) => Layout::V1,
            (true, Some(_)) => Layout::Hybrid,
            (false, _) => Layout::V2,
        }
    }

    fn freezer(&self) -> Result<&Place, Error> {
        let freezer = || self.places.iter().find(|place| place.is_freezer() && place.is_exclusive());
        let none = || Error::Unsupported { what: "freezing without the freezer", layout: self.layout() };
        self.unified().or_else(freezer).ok_or_else(none)
    }

    /// The place with a memory controller that counts for us and not for strangers.
    fn memory(&self) -> Result<&Place, Error> {
        let v2 = || self.unified().filter(|_| self.layout() == Layout::V2);
        let none = || Error::Unsupported { what: "an account of memory", layout: self.layout() };
        let place = self.v1(Controller::Memory).or_else(v2).filter(|place| place.role != Role::JoinOnly);
        let place = place.ok_or_else(none)?;
        match files::open(place.fd(), oom::counter_file(place), OFlags::RDONLY) {
            Ok(_) => Ok(place),
            Err(_) if !place.is_alive() => Err(place.gone()),
            Err(_) => Err(none()),
        }
    }

    fn guard(&self, action: &'static str) -> Result<(), Error> {
        kill::guard(&self.places, action)
    }
}

/// Version 2 if there is one, else the freezer, else any that is for us alone; a shared group as a last resort.
fn lead(places: &[Place]) -> Option<usize> {
    let first = |fits: &dyn Fn(&Place) -> bool| places.iter().position(fits);
    first(&|place| place.hierarchy == Hierarchy::Unified)
        .or_else(|| first(&|place| place.is_freezer() && place.is_exclusive()))
        .or_else(|| first(&Place::is_exclusive))
        .or_else(|| first(&|place| place.role == Role::Shared))
}

/// Whether a living process is in a version 2 group or below it.
pub(crate) fn populated(unified: &Place) -> Result<bool, Error> {
    unified
        .parse("cgroup.events", files::SMALL, |text| parse::required(text, "populated"))
        .map(|value| value > 0)
}
