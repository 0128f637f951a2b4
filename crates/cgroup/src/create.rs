//! Performing a plan: all groups with all limits, or nothing.

use crate::error::Action;
use crate::files;
use crate::group::{Entrance, Group};
use crate::place::Place;
use crate::plan::{PlacePlan, Plan, Prepare, Role};
use crate::writes::{Need, Write};
use crate::{Controller, DeviceRule, Error, Hierarchy, program};
use bivouac_sys::bpf::{self, Insn};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How often parents are made anew because somebody removed them as empty between our steps.
const TRIES: usize = 32;

impl Plan {
    /// Makes every group, writes every limit. Parents that are missing are made and stay.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Occupied`], [`Error::Frozen`], [`Error::Gone`] (a given group is not there), and
    /// [`Error::Kernel`] with the file and the value. Whatever had been made is removed then, parents included.
    pub fn create(&self) -> Result<Group, Error> {
        let mut undo = Undo::default();
        let places = self.places.iter().map(|place| perform(place, &mut undo)).collect::<Result<_, _>>()?;
        let group = Group::from_places(places)?;
        undo.made.clear();
        Ok(group)
    }
}

impl Plan {
    /// The way into a group that several share ([`Plan::shared`]), which is made where it is missing.
    ///
    /// # Errors
    /// As [`Plan::create`] and [`Group::entrance`].
    pub fn enter(&self) -> Result<Entrance, Error> {
        match self.enter_made() {
            Some(entrance) => Ok(entrance),
            None => self.create()?.entrance(),
        }
    }

    /// The same where it stands already. Groups are made in the order of the plan: the last being there, all are,
    /// with what they need.
    fn enter_made(&self) -> Option<Entrance> {
        let mut entrance = Entrance { unified: None, tasks: Vec::with_capacity(self.places.len()) };
        for place in self.places.iter().rev() {
            match place.hierarchy {
                Hierarchy::Unified => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    entrance.unified = Some(files::open(CWD, &place.path, flags).ok()?);
                }
                Hierarchy::V1(_) => {
                    entrance.tasks.push(files::open(CWD, place.path.join("tasks"), OFlags::WRONLY).ok()?);
                }
            }
        }
        Some(entrance)
    }
}

/// Directories made so far; removed, the last first, unless the list is emptied.
#[derive(Default)]
struct Undo {
    made: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // A parent may have got another child by now; the first error is the one to tell.
            let _ = rustix::fs::rmdir(path);
        }
    }
}

fn perform(plan: &PlacePlan, undo: &mut Undo) -> Result<Place, Error> {
    if matches!(plan.role, Role::Ours | Role::Shared) {
        make(plan, undo)?;
    }
    let place = Place::open(plan.hierarchy.clone(), plan.role, plan.path.clone())?;
    match (&plan.prepare, plan.parents.last()) {
        (Prepare::Cpuset, None) => fill_cpuset(&plan.path, &plan.mount)?,
        (Prepare::Cpuset, Some(parent)) if plan.role == Role::Shared => fill_cpuset(&plan.path, parent)?,
        _ => {}
    }
    if plan.role == Role::Given {
        check_unused(&place)?;
    }
    write_all(&place, &plan.writes)?;
    if let Some(rules) = &plan.devices {
        restrict_devices(&place, rules)?;
    }
    Ok(place)
}

fn make(plan: &PlacePlan, undo: &mut Undo) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match make_once(plan, undo) {
            Err(Error::Kernel { errno: Errno::NOENT | Errno::NODEV, .. }) if tries < TRIES => {
                std::thread::yield_now();
            }
            answer => return answer,
        }
    }
}

fn make_once(plan: &PlacePlan, undo: &mut Undo) -> Result<(), Error> {
    match &plan.prepare {
        Prepare::Nothing => {}
        Prepare::Cpuset => prepare_cpuset(plan, undo)?,
        Prepare::Enable(controllers) => enable(plan, controllers, undo)?,
    }
    let mut made = rustix::fs::mkdir(&plan.path, GROUP_MODE);
    // Parents that need more than to be there have just been prepared: those go through it all again.
    if made == Err(Errno::NOENT) && plan.prepare == Prepare::Nothing {
        plan.parents.iter().try_for_each(|parent| make_if_missing(parent, undo))?;
        made = rustix::fs::mkdir(&plan.path, GROUP_MODE);
    }
    match made {
        Ok(()) => {
            undo.made.push(plan.path.clone());
            Ok(())
        }
        Err(Errno::EXIST) if plan.role == Role::Shared => Ok(()),
        Err(Errno::EXIST) => Err(Error::Exists { path: plan.path.clone() }),
        Err(errno) => Err(kernel(Action::Make, &plan.path, errno)),
    }
}

const GROUP_MODE: Mode = Mode::from_raw_mode(0o755);

fn make_if_missing(path: &Path, undo: &mut Undo) -> Result<(), Error> {
    match rustix::fs::mkdir(path, GROUP_MODE) {
        Ok(()) => {
            undo.made.push(path.to_owned());
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(kernel(Action::Make, path, errno)),
    }
}

/// The flag is written last, so a parent that has it is complete, and one read is all that a start pays.
fn prepare_cpuset(plan: &PlacePlan, undo: &mut Undo) -> Result<(), Error> {
    let Some(nearest) = plan.parents.last() else { return Ok(()) };
    let flag = nearest.join("cgroup.clone_children");
    match files::read(CWD, &flag, files::SMALL) {
        Ok(text) if text == b"1\n" => return Ok(()),
        Ok(_) => {}
        Err(error) if error.is_absence() => {}
        Err(error) => return Err(error.at(flag)),
    }
    let mut above = &plan.mount;
    for path in &plan.parents {
        make_if_missing(path, undo)?;
        fill_cpuset(path, above)?;
        write(path, "cgroup.clone_children", b"1")?;
        above = path;
    }
    Ok(())
}

/// Gives a cpuset that is empty what the one above has.
fn fill_cpuset(path: &Path, above: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let now = files::read_path(&path.join(file), files::SMALL)?;
        if now.trim_ascii().is_empty() {
            let value = files::read_path(&above.join(file), files::SMALL)?;
            write(path, file, value.trim_ascii())?;
        }
    }
    Ok(())
}

/// Has the mount point and every parent hand the controllers down, where they do not yet.
fn enable(plan: &PlacePlan, controllers: &[Controller], undo: &mut Undo) -> Result<(), Error> {
    const FILE: &str = "cgroup.subtree_control";
    for path in std::iter::once(&plan.mount).chain(&plan.parents) {
        if *path != plan.mount {
            make_if_missing(path, undo)?;
        }
        let enabled = files::read_path(&path.join(FILE), files::SMALL)?;
        let enabled = String::from_utf8_lossy(&enabled);
        let mut missing = String::new();
        for name in controllers.iter().filter_map(|controller| controller.v2_name()) {
            if !enabled.split_ascii_whitespace().any(|word| word == name) {
                missing.push_str(if missing.is_empty() { "+" } else { " +" });
                missing.push_str(name);
            }
        }
        if !missing.is_empty() {
            write(path, FILE, missing.as_bytes())?;
        }
    }
    Ok(())
}

fn write(dir: &Path, file: &str, value: &[u8]) -> Result<(), Error> {
    let path = dir.join(file);
    let handle = files::open(CWD, &path, OFlags::WRONLY);
    let written = handle.and_then(|handle| files::write_open(handle.as_fd(), value));
    let action = || Action::Write(String::from_utf8_lossy(value).into_owned());
    written.map_err(|errno| kernel(action(), &path, errno))
}

fn kernel(action: Action, path: &Path, errno: Errno) -> Error {
    Error::Kernel { action, path: path.to_owned(), errno }
}

/// A given group may have been used before: what is still in it would share the new limits, and a frozen one would
/// never run what joins it.
fn check_unused(place: &Place) -> Result<(), Error> {
    let processes = place.processes()?;
    if !processes.is_empty() {
        return Err(Error::Occupied { path: place.path.clone(), processes });
    }
    if crate::freeze::is_frozen(place)? { Err(Error::Frozen { path: place.path.clone() }) } else { Ok(()) }
}

fn write_all(place: &Place, writes: &[Write]) -> Result<(), Error> {
    // Device rules are many writes to one file: it is opened once.
    let mut open: Option<(&str, OwnedFd)> = None;
    for write in writes {
        let fd = match open.take_if(|(file, _)| *file == write.file) {
            Some((_, fd)) => Ok(fd),
            None => files::open(place.fd(), write.file, OFlags::WRONLY),
        };
        let written = fd.and_then(|fd| {
            files::write_open(fd.as_fd(), write.value.as_bytes())?;
            Ok(fd)
        });
        match (written, write.need) {
            (Ok(fd), _) => open = Some((write.file, fd)),
            (Err(Errno::NOENT), Need::IfPresent) | (Err(_), Need::Wish) => open = None,
            (Err(errno), _) => {
                return Err(place.kernel(Action::Write(write.value.clone()), write.file, errno));
            }
        }
    }
    Ok(())
}

/// The program loaded last: many groups have the same rules, and the kernel's check costs more than all else.
static LOADED: Mutex<Option<(Vec<Insn>, OwnedFd)>> = Mutex::new(None);

fn restrict_devices(place: &Place, rules: &[DeviceRule]) -> Result<(), Error> {
    let refused = |errno| place.kernel(Action::RestrictDevices, "", errno);
    if place.role == Role::Given {
        lift_devices(place)?;
    }
    let program = program::build(rules);
    // A holder that panicked cannot have left half a value.
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fd = match loaded.take() {
        Some((known, fd)) if known == program => fd,
        _ => bpf::load_device_program(&program, &program::NAME).map_err(refused)?,
    };
    let attached = bpf::attach_device_program(place.fd(), fd.as_fd());
    *loaded = Some((program, fd));
    attached.map_err(refused)
}

/// Takes our device programs off a group that others will use again; those of others stay.
pub(crate) fn lift_devices(place: &Place) -> Result<(), Error> {
    let refused = |errno| place.kernel(Action::RestrictDevices, "", errno);
    for id in bpf::attached_device_programs(place.fd()).map_err(refused)? {
        let attached = bpf::open_program(id).map_err(refused)?;
        if bpf::program_name(attached.as_fd()).map_err(refused)? == program::NAME {
            bpf::detach_device_program(place.fd(), attached.as_fd()).map_err(refused)?;
        }
    }
    Ok(())
}

/// Removes the parents of a [`Placement::Ours`](crate::Placement::Ours) that hold nothing any more, the deepest
/// first, in every hierarchy. Those in use stay.
///
/// # Errors
/// What rmdir(2) answers beside "in use" and "not there".
pub fn remove_empty_parents(host: &crate::Host, parent: &crate::GroupPath) -> Result<(), Error> {
    let levels: Vec<_> = parent.levels().collect();
    let mounts =
        host.v1.iter().map(|mount| &mount.mount).chain(host.unified.iter().map(|mount| &mount.mount));
    for mount in mounts {
        for level in levels.iter().rev() {
            let path = level.below(mount);
            match rustix::fs::rmdir(&path) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => break,
                Err(errno) => return Err(kernel(Action::Remove, &path, errno)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_removes_the_last_first() {
        let top = std::env::temp_dir().join(format!("bivouac-test-undo-{}", std::process::id()));
        let mut undo = Undo::default();
        for path in [top.clone(), top.join("a"), top.join("a/b")] {
            make_if_missing(&path, &mut undo).unwrap();
        }
        make_if_missing(&top, &mut undo).unwrap();
        assert_eq!(undo.made.len(), 3);
        drop(undo);
        assert!(!top.exists());
    }
}
