//! What a task's meaning depends on besides what was asked: facts about this host, and a look at its files.

use crate::capabilities::Powers;
use crate::generated::{UPSTREAM, is_stub};
use crate::identity::Database;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::{Device, DeviceKind};
use bivouac_sys::features::KernelFeatures;
use rustix::fs::{FileType, major, minor, stat};
use std::io::Read;
use std::path::Path;

/// Facts about the host, as plain values: tests write them down.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its users.
    pub users: Database,
    /// Its capabilities, and ours.
    pub powers: Powers,
    /// What its kernel can do.
    pub features: KernelFeatures,
    /// Hard limits of this process by their number; what it hands on unless told otherwise.
    pub hard_limits: [u64; 16],
    /// Processors.
    pub processors: u64,
    /// Its name resolution.
    pub resolver: ResolverFacts,
    /// Text of its hosts file.
    pub hosts: String,
}

/// The host's resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverFacts {
    /// Its text; empty when there is none.
    pub text: String,
    /// Where `/etc/resolv.conf` leads, when it leads out of `/etc`.
    pub elsewhere: Option<HostPath>,
    /// The text with servers that a network of its own can reach, when those of `text` answer on the loopback only.
    pub upstream: Option<String>,
}

/// Facts that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot learn about this host: {0}")]
pub struct FactsError(pub String);

impl Facts {
    /// Asks the running host. Takes below a millisecond.
    ///
    /// # Errors
    /// [`FactsError`]: a file that is no file, or a kernel that refuses to answer because this is not root.
    pub fn of_host(features: KernelFeatures) -> Result<Facts, FactsError> {
        let mut hard_limits = [u64::MAX; 16];
        for (number, limit) in (0..).zip(hard_limits.iter_mut()) {
            *limit = bivouac_sys::credentials::getrlimit(number).map_or(u64::MAX, |(_, hard)| hard);
        }
        Ok(Facts {
            users: Database::of_host().map_err(FactsError)?,
            powers: Powers::of_this_process(),
            features,
            hard_limits,
            processors: processors(),
            resolver: resolver(),
            hosts: text(Path::new("/etc/hosts")),
        })
    }
}

/// The processors that are online, not only those this process may use.
pub fn processors() -> u64 {
    let list = text(Path::new("/sys/devices/system/cpu/online"));
    let set: Option<bivouac_cgroup::CpuSet> = list.trim().parse().ok();
    let usable = || std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    set.map_or_else(usable, |set| set.iter().count() as u64)
}

fn resolver() -> ResolverFacts {
    let path = Path::new("/etc/resolv.conf");
    let own = text(path);
    let target = std::fs::canonicalize(path).ok().filter(|target| !target.starts_with("/etc"));
    let upstream = is_stub(&own).then(|| text(Path::new(UPSTREAM))).filter(|upstream| !upstream.is_empty());
    ResolverFacts { text: own, elsewhere: target.and_then(|target| HostPath::new(target).ok()), upstream }
}

/// A small text file of the host; empty when it cannot be read.
fn text(path: &Path) -> String {
    const LARGEST: u64 = 1 << 20;
    let regular = std::fs::metadata(path).is_ok_and(|status| status.is_file());
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| std::fs::File::open(path)?.take(LARGEST).read_to_end(bytes);
    if !regular || read(&mut bytes).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What lies at a path of the host, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with these permission bits.
    File(u32),
    /// A device node.
    Device(DeviceKind, u32, u32),
    /// A socket or FIFO.
    Other,
}

/// A look at the host's files, so that tests can pretend other ones.
pub trait Files {
    /// The path without links; `None` when nothing is there.
    fn real(&self, path: &HostPath) -> Option<HostPath>;
    /// What is at the end of the path, links followed; `None` when nothing is there.
    fn kind(&self, path: &HostPath) -> Option<Kind>;
    /// Whether the last component is a link itself.
    fn is_link(&self, path: &HostPath) -> bool;
    /// Permission bits and owner of what is there.
    fn owner(&self, path: &HostPath) -> Option<(u32, u32, u32)>;
    /// Names in a directory.
    fn names(&self, path: &HostPath) -> Vec<String>;
}

/// The host itself.
#[derive(Clone, Copy, Debug)]
pub struct OnHost;

impl Files for OnHost {
    fn real(&self, path: &HostPath) -> Option<HostPath> {
        HostPath::new(std::fs::canonicalize(path.as_path()).ok()?).ok()
    }

    fn kind(&self, path: &HostPath) -> Option<Kind> {
        let status = stat(path.as_path()).ok()?;
        Some(match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File(status.st_mode & 0o7777),
            FileType::CharacterDevice => {
                Kind::Device(DeviceKind::Character, major(status.st_rdev), minor(status.st_rdev))
            }
            FileType::BlockDevice => {
                Kind::Device(DeviceKind::Block, major(status.st_rdev), minor(status.st_rdev))
            }
            _ => Kind::Other,
        })
    }

    fn is_link(&self, path: &HostPath) -> bool {
        std::fs::symlink_metadata(path.as_path()).is_ok_and(|status| status.is_symlink())
    }

    fn owner(&self, path: &HostPath) -> Option<(u32, u32, u32)> {
        let status = stat(path.as_path()).ok()?;
        Some((status.st_mode & 0o7777, status.st_uid, status.st_gid))
    }

    fn names(&self, path: &HostPath) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(path.as_path()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// A node of the host as it appears in a task.
pub(crate) fn device(
    files: &dyn Files,
    host: &HostPath,
    target: &bivouac_sandbox::TaskPath,
) -> Result<Device, String> {
    match (files.kind(host), files.owner(host)) {
        (Some(Kind::Device(kind, major, minor)), Some((mode, uid, gid))) => {
            Ok(Device { target: target.clone(), kind, major, minor, mode: mode & 0o777, uid, gid })
        }
        (None, _) => Err(format!("{host} does not exist on the host")),
        _ => Err(format!("{host} is not a device node")),
    }
}
