//! One directory of a live group, held open.

use crate::error::Action;
use crate::files::{self, ReadError};
use crate::parse::{self, Malformed};
use crate::plan::Role;
use crate::saved::CgroupId;
use crate::walk::walk;
use crate::{Controller, Error, Hierarchy};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use std::path::{Component, PathBuf};

/// A directory and what it is to us.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) role: Role,
    pub(crate) path: PathBuf,
    pub(crate) dir: OwnedFd,
}

const CGROUP_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

impl Place {
    /// Opens a directory that is known to be a group.
    pub(crate) fn open(hierarchy: Hierarchy, role: Role, path: PathBuf) -> Result<Place, Error> {
        match files::open(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => Ok(Place { hierarchy, role, path, dir }),
            Err(Errno::NOENT | Errno::NODEV) => Err(Error::Gone { path }),
            Err(errno) => Err(Error::Kernel { action: Action::Open, path, errno }),
        }
    }

    /// Opens a directory that a state file names: nothing but a group of the right version passes.
    pub(crate) fn open_saved(hierarchy: Hierarchy, role: Role, path: PathBuf) -> Result<Place, Error> {
        let outside = |path, controller: &Hierarchy, why| {
            let controller = controller.to_string();
            Err(Error::Outside { path, controller, why })
        };
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) {
            return outside(path, &hierarchy, "it is not an absolute path without `..`");
        }
        let place = Place::open(hierarchy, role, path)?;
        let status = rustix::fs::fstatfs(&place.dir);
        let status = status.map_err(|errno| place.kernel(Action::Read, "", errno))?;
        let magic = if place.hierarchy == Hierarchy::Unified { CGROUP2_MAGIC } else { CGROUP_MAGIC };
        if status.f_type as u64 != magic {
            return outside(place.path, &place.hierarchy, "no hierarchy of that version is mounted there");
        }
        Ok(place)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether processes in it are ours to freeze and kill.
    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(self.role, Role::Ours | Role::Given)
    }

    pub(crate) fn is_freezer(&self) -> bool {
        self.hierarchy.carries(Controller::Freezer)
    }

    pub(crate) fn id(&self) -> Result<CgroupId, Error> {
        match rustix::fs::fstat(&self.dir) {
            Ok(status) => Ok(CgroupId(status.st_ino)),
            Err(errno) => Err(self.kernel(Action::Read, "", errno)),
        }
    }

    /// The text of a file that every group of this kind has.
    pub(crate) fn read(&self, name: &str, limit: usize) -> Result<String, Error> {
        self.read_raw(name, limit)?.map_err(|error| error.at(self.path.join(name)))
    }

    /// The text of a file that this kernel may lack.
    pub(crate) fn read_optional(&self, name: &str, limit: usize) -> Result<Option<String>, Error> {
        match self.read_raw(name, limit)? {
            Ok(text) => Ok(Some(text)),
            // EOPNOTSUPP: accounting was switched off at boot (pressure, swap).
            Err(error) if error.is_absence() || error == ReadError::Read(Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.at(self.path.join(name))),
        }
    }

    fn read_raw(&self, name: &str, limit: usize) -> Result<Result<String, ReadError>, Error> {
        match files::read(self.fd(), name, limit) {
            Ok(bytes) => Ok(Ok(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.is_absence() && !self.is_alive() => Err(self.gone()),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Applies a parser to a file that every group of this kind has.
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        limit: usize,
        parser: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        parser(&self.read(name, limit)?).map_err(|error| error.at(self.path.join(name)))
    }

    /// Applies a parser to a file that this kernel may lack.
    pub(crate) fn parse_optional<T>(
        &self,
        name: &str,
        limit: usize,
        parser: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let text = self.read_optional(name, limit)?;
        text.map(|text| parser(&text).map_err(|error| error.at(self.path.join(name)))).transpose()
    }

    pub(crate) fn write(&self, name: &str, value: &str) -> Result<(), Error> {
        files::write(self.fd(), name, value.as_bytes()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NODEV if !self.is_alive() => self.gone(),
            errno => self.kernel(Action::Write(value.to_owned()), name, errno),
        })
    }

    /// Every group has this file; a removed one has none.
    pub(crate) fn is_alive(&self) -> bool {
        files::open(self.fd(), "cgroup.procs", OFlags::RDONLY).is_ok()
    }

    pub(crate) fn gone(&self) -> Error {
        Error::Gone { path: self.path.clone() }
    }

    pub(crate) fn kernel(&self, action: Action, name: &str, errno: Errno) -> Error {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        Error::Kernel { action, path, errno }
    }

    /// All processes in the group and in groups below it.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let mut all = Vec::new();
            let mut failure = None;
            let walked = walk(
                self.fd(),
                |group| match processes_of(group) {
                    Ok(mut found) => {
                        all.append(&mut found);
                        Ok(())
                    }
                    Err(ListError::Kernel(errno)) => Err(errno),
                    Err(ListError::Other(other)) => {
                        failure = Some(other);
                        Err(Errno::IO)
                    }
                },
                |_, _| Ok(()),
            );
            match (walked, failure) {
                (Ok(()), _) => return Ok(all),
                (Err(_), Some(failure)) => return Err(failure(self.path.join("cgroup.procs"))),
                // A group below was removed meanwhile: look again.
                (Err(Errno::NOENT | Errno::NODEV), None) if self.is_alive() => {}
                (Err(Errno::NOENT | Errno::NODEV), None) => return Err(self.gone()),
                (Err(errno), None) => return Err(self.kernel(Action::Read, "cgroup.procs", errno)),
            }
        }
        Err(self.kernel(Action::Read, "cgroup.procs", Errno::AGAIN))
    }

    /// Whether this very process is in it. A list that cannot be read does not name it.
    pub(crate) fn holds_caller(&self) -> bool {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        self.processes().is_ok_and(|list| list.contains(&me))
    }
}

enum ListError {
    Kernel(Errno),
    Other(Box<dyn FnOnce(PathBuf) -> Error>),
}

fn processes_of(group: BorrowedFd<'_>) -> Result<Vec<i32>, ListError> {
    match files::read(group, "cgroup.procs", files::PER_PROCESS) {
        Ok(bytes) => parse::processes(&String::from_utf8_lossy(&bytes))
            .map_err(|malformed| ListError::Other(Box::new(|path| malformed.at(path)))),
        // A threaded group: its processes are listed by the group above.
        Err(ReadError::Read(Errno::OPNOTSUPP)) => Ok(Vec::new()),
        Err(ReadError::Open(errno) | ReadError::Read(errno)) => Err(ListError::Kernel(errno)),
        Err(error) => Err(ListError::Other(Box::new(move |path| error.at(path)))),
    }
}
