//! What this host offers: the layout of its control groups, read from the text of the mount table alone.

use crate::error::excerpt;
use crate::{Error, GroupName, GroupPath};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// How control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Only hierarchies of version 1.
    V1,
    /// Controllers on version 1, beside a version 2 hierarchy without them.
    Hybrid,
    /// One hierarchy of version 2.
    V2,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::V1 => "cgroup v1",
            Layout::Hybrid => "hybrid cgroups",
            Layout::V2 => "cgroup v2",
        })
    }
}

/// The controllers (and the one named hierarchy) that are used. Others are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Controller {
    /// Shares and bandwidth.
    Cpu,
    /// Accounting of processor time, v1 only.
    Cpuacct,
    /// Processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Access to device nodes, v1 only (v2 has programs).
    Devices,
    /// Freezing, v1 only (on v2 every group can).
    Freezer,
    /// Block input and output; called `io` on v2.
    Blkio,
    /// Number of processes and threads.
    Pids,
    /// systemd's named hierarchy of v1, which limits nothing. Shared groups have it, so that who lives in them is not
    /// in its starter's unit.
    Systemd,
}

impl Controller {
    /// All of them, in the order of plans.
    pub const ALL: [Controller; 9] = [
        Controller::Freezer,
        Controller::Pids,
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Blkio,
        Controller::Devices,
        Controller::Systemd,
    ];

    /// Its name among the mount options of version 1.
    pub fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Blkio => "blkio",
            Controller::Pids => "pids",
            Controller::Systemd => "name=systemd",
        }
    }

    /// Its name in `cgroup.controllers`, if it exists on version 2.
    pub fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Blkio => Some("io"),
            Controller::Cpu | Controller::Cpuset | Controller::Memory | Controller::Pids => {
                Some(self.v1_name())
            }
            Controller::Cpuacct | Controller::Devices | Controller::Freezer | Controller::Systemd => None,
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v1_name())
    }
}

/// One tree of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hierarchy {
    /// The version 2 hierarchy.
    Unified,
    /// A version 1 hierarchy with the controllers of ours that are mounted together in it.
    V1(Vec<Controller>),
}

impl Hierarchy {
    /// Whether this version 1 hierarchy carries the controller.
    pub fn carries(&self, controller: Controller) -> bool {
        matches!(self, Hierarchy::V1(controllers) if controllers.contains(&controller))
    }
}

/// Comma-separated controllers, or `unified`.
impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hierarchy::Unified => f.write_str("unified"),
            Hierarchy::V1(controllers) => {
                let names: Vec<_> = controllers.iter().map(|controller| controller.v1_name()).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct V1Mount {
    pub(crate) mount: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnifiedMount {
    pub(crate) mount: PathBuf,
    /// Those of ours that groups below can have.
    pub(crate) controllers: Vec<Controller>,
}

/// The hierarchies of a host and where they are mounted. A plain value: plans for other hosts are made from text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub(crate) v1: Vec<V1Mount>,
    pub(crate) unified: Option<UnifiedMount>,
}

/// More than any mount table; 100,000 mounts take about 15 MiB.
const MOUNTINFO_LIMIT: usize = 64 << 20;

impl Host {
    /// Reads the text of `/proc/self/mountinfo` (proc(5)). A version 2 hierarchy is taken to offer every
    /// controller until [`Host::with_unified_controllers`] says otherwise. Where version 1 carries none of cpu,
    /// cpuset, memory and pids, what else it carries is ignored.
    ///
    /// # Errors
    /// [`Error::Mountinfo`] with the line, [`Error::NoCgroups`].
    pub fn parse(mountinfo: &str) -> Result<Host, Error> {
        let (mut v1, mut unified) = (Vec::<(bool, V1Mount)>::new(), None::<(bool, PathBuf)>);
        for (index, line) in mountinfo.lines().enumerate() {
            let malformed = |why| Error::Mountinfo { line: index + 1, text: excerpt(line), why };
            let Some(entry) = Entry::parse(line).map_err(malformed)? else { continue };
            match entry.controllers {
                // The first whole, writable mount of a hierarchy is the one that others use as well.
                None if unified.as_ref().is_none_or(|(good, _)| !good && entry.good) => {
                    unified = Some((entry.good, entry.mount));
                }
                None => {}
                Some(controllers) if controllers.is_empty() => {}
                Some(controllers) => {
                    let same = v1.iter_mut().find(|(_, known)| known.controllers == controllers);
                    let found = (entry.good, V1Mount { mount: entry.mount, controllers });
                    match same {
                        Some(known) if !known.0 && found.0 => *known = found,
                        Some(_) => {}
                        None => v1.push(found),
                    }
                }
            }
        }
        let mut v1: Vec<V1Mount> = v1.into_iter().map(|(_, mount)| mount).collect();
        let position = |mount: &V1Mount| {
            Controller::ALL.iter().position(|controller| mount.controllers.contains(controller))
        };
        v1.sort_by_key(position);
        let limits = [Controller::Cpu, Controller::Cpuset, Controller::Memory, Controller::Pids];
        let limiting = v1.iter().any(|mount| limits.iter().any(|limit| mount.controllers.contains(limit)));
        match (limiting, unified) {
            (true, unified) => Ok(Host {
                v1,
                unified: unified.map(|(_, mount)| UnifiedMount { mount, controllers: Vec::new() }),
            }),
            (false, Some((_, mount))) => {
                let every = |controller: &Controller| controller.v2_name().is_some();
                let controllers = Controller::ALL.into_iter().filter(every).collect();
                Ok(Host { v1: Vec::new(), unified: Some(UnifiedMount { mount, controllers }) })
            }
            (false, None) => Err(Error::NoCgroups),
        }
    }

    /// Narrows a host with version 2 to what the file `cgroup.controllers` at the mount point names.
    #[must_use]
    pub fn with_unified_controllers(mut self, text: &str) -> Host {
        if let (Layout::V2, Some(unified)) = (self.layout(), &mut self.unified) {
            unified.controllers.retain(|controller| {
                text.split_ascii_whitespace().any(|word| controller.v2_name() == Some(word))
            });
        }
        self
    }

    /// Asks the running kernel.
    ///
    /// # Errors
    /// As [`Host::parse`]; what opening or reading the two files answers.
    pub fn detect() -> Result<Host, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let bytes = crate::files::read_path(path, MOUNTINFO_LIMIT)?;
        // Mount points of others may be any bytes; those of cgroups that are not UTF-8 are not found.
        let host = Host::parse(&String::from_utf8_lossy(&bytes))?;
        match (host.layout(), &host.unified) {
            (Layout::V2, Some(unified)) => {
                let path = unified.mount.join("cgroup.controllers");
                let text = crate::files::read_path(&path, crate::files::SMALL)?;
                Ok(host.with_unified_controllers(&String::from_utf8_lossy(&text)))
            }
            _ => Ok(host),
        }
    }

    /// How control groups are mounted.
    pub fn layout(&self) -> Layout {
        match (self.v1.is_empty(), &self.unified) {
            (false, None) => Layout::V1,
            (false, Some(_)) => Layout::Hybrid,
            (true, _) => Layout::V2,
        }
    }

    /// The controllers that limits, statistics or safety need and this host does not offer: cpu, cpuset, memory,
    /// pids and blkio everywhere; devices and freezer on version 1 without version 2 beside it.
    pub fn missing_controllers(&self) -> Vec<Controller> {
        let needed = |controller: &Controller| match controller {
            Controller::Cpuacct | Controller::Devices | Controller::Freezer => self.unified.is_none(),
            Controller::Systemd => false,
            _ => true,
        };
        Controller::ALL.into_iter().filter(needed).filter(|controller| !self.offers(*controller)).collect()
    }

    /// Whether groups of ours can have this controller.
    pub fn offers(&self, controller: Controller) -> bool {
        let v1 = self.v1.iter().any(|mount| mount.controllers.contains(&controller));
        v1 || self.unified.as_ref().is_some_and(|unified| unified.controllers.contains(&controller))
    }

    /// Where the version 2 hierarchy is mounted, if there is one.
    pub fn unified_mount(&self) -> Option<&Path> {
        self.unified.as_ref().map(|unified| unified.mount.as_path())
    }

    /// Where the version 1 hierarchy with this controller is mounted, if there is one.
    pub fn v1_mount(&self, controller: Controller) -> Option<&Path> {
        let carries = |mount: &&V1Mount| mount.controllers.contains(&controller);
        self.v1.iter().find(carries).map(|mount| mount.mount.as_path())
    }

    /// The place of an absolute path in the version 2 hierarchy.
    ///
    /// # Errors
    /// [`Error::Outside`].
    pub fn locate_unified(&self, path: &Path) -> Result<GroupPath, Error> {
        let mounts = self.unified.as_ref().map(|unified| vec![unified.mount.clone()]);
        locate("cgroup v2", path, mounts.unwrap_or_default())
    }

    /// The place of an absolute path in the version 1 hierarchy of `controller`. Beside the mount point, the usual
    /// link `/sys/fs/cgroup/<controller>` counts, because others write paths that way.
    ///
    /// # Errors
    /// [`Error::Outside`].
    pub fn locate_v1(&self, controller: Controller, path: &Path) -> Result<GroupPath, Error> {
        let mounts = self
            .v1_mount(controller)
            .map(|mount| vec![mount.to_owned(), Path::new("/sys/fs/cgroup").join(controller.v1_name())]);
        locate(controller.v1_name(), path, mounts.unwrap_or_default())
    }
}

fn locate(controller: &str, path: &Path, mounts: Vec<PathBuf>) -> Result<GroupPath, Error> {
    let outside = |why| Error::Outside { path: path.to_owned(), controller: controller.to_owned(), why };
    if mounts.is_empty() {
        return Err(outside("this host does not have that hierarchy"));
    }
    let rest = mounts.iter().find_map(|mount| path.strip_prefix(mount).ok());
    let rest = rest.ok_or_else(|| outside("it does not lie below the mount point"))?;
    rest.components().try_fold(GroupPath::ROOT, |group, part| match part {
        Component::Normal(name) => {
            let name = name.to_str().ok_or_else(|| outside("it is not UTF-8"))?;
            Ok(group.join(&GroupName::new(name)?))
        }
        _ => Err(outside("it contains `..`")),
    })
}

/// A line of the mount table that is about cgroups.
struct Entry {
    mount: PathBuf,
    /// `None` on version 2, else those of ours (none for a hierarchy that is not used).
    controllers: Option<Vec<Controller>>,
    /// Shows the whole hierarchy and can be written.
    good: bool,
}

impl Entry {
    /// proc(5): `id parent major:minor root mountpoint options [tags...] - type source superoptions`.
    fn parse(line: &str) -> Result<Option<Entry>, &'static str> {
        let mut words = line.split(' ');
        let root = words.nth(3).ok_or("the root is missing")?;
        let mount = words.next().ok_or("the mount point is missing")?;
        let options = words.next().ok_or("the options are missing")?;
        words.find(|word| *word == "-").ok_or("the separator `-` is missing")?;
        let kind = words.next().ok_or("the file system type is missing")?;
        if kind != "cgroup" && kind != "cgroup2" {
            return Ok(None);
        }
        let superoptions = words.nth(1).ok_or("the options of the file system are missing")?;
        let mount = PathBuf::from(unescape(mount)?);
        if !mount.is_absolute() {
            return Err("the mount point is not absolute");
        }
        let good = root == "/" && !options.split(',').any(|option| option == "ro");
        let controllers = (kind == "cgroup").then(|| {
            let present =
                |known: &Controller| superoptions.split(',').any(|option| option == known.v1_name());
            Controller::ALL.into_iter().filter(present).collect()
        });
        Ok(Some(Entry { mount, controllers, good }))
    }
}

/// The mount table writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> Result<OsString, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut value = 0u32;
        for _ in 0..3 {
            let digit = rest.next().and_then(|digit| char::from(digit).to_digit(8));
            value = value * 8 + digit.ok_or("a backslash is not followed by three octal digits")?;
        }
        bytes.push(u8::try_from(value).map_err(|_| "an octal escape is above 377")?);
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
