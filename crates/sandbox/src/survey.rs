//! Survey: a read-only look at what the description names on the host, so that the plan can be pure.

use crate::model::{MountKind, Propagation, Route, Sandbox, Show};
use crate::path::{HostPath, PathError};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat, stat,
    statat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// What lies at the paths that a sandbox names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// One answer per source of an entry.
    pub entries: BTreeMap<HostPath, Seen>,
    /// One answer per source of a bind; links are followed.
    pub binds: BTreeMap<HostPath, Shape>,
    /// Sources of binds that mounts shall travel through, and that lie on mounts through which none do.
    pub unshared: BTreeSet<HostPath>,
    /// How many processors have the file that tells of thermal throttling.
    pub throttled_processors: u32,
}

/// What an entry of the chroot environment turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing is there.
    Missing,
    /// A directory, with the mounts that lie below it.
    Directory(Vec<(HostPath, Shape)>),
    /// A regular file.
    File,
    /// A link, and where it leads, as written.
    Link(Vec<u8>),
    /// A device, socket or FIFO: skipped, as the built-in driver does.
    Other,
}

/// What a mount point must be for something to be mounted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// The survey could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SurveyError {
    /// A source that a mount names.
    #[error("cannot mount {path}: {errno} on the host")]
    Source {
        /// Which.
        path: HostPath,
        /// What the kernel answered.
        errno: Errno,
    },
    /// An entry of the chroot environment.
    #[error("cannot look at {path}, an entry of the chroot environment: {errno}")]
    Entry {
        /// Which.
        path: HostPath,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The table of mounts.
    #[error("cannot read /proc/self/mountinfo: {0}; is /proc mounted?")]
    Mounts(String),
    /// A mount point below an entry that has no valid name.
    #[error("a mount below an entry of the chroot environment: {0}")]
    Path(#[from] PathError),
}

impl Survey {
    /// Looks at the host.
    ///
    /// # Errors
    /// [`SurveyError`]: the source of a mount that is missing, or something that root may not look at.
    pub fn of(sandbox: &Sandbox) -> Result<Survey, SurveyError> {
        Survey::look_at(sandbox, |path, errno| Err(SurveyError::Source { path: path.clone(), errno }))
    }

    /// The same for a plan that is only printed: what a run would make first is taken for a directory.
    ///
    /// # Errors
    /// As [`Survey::of`], but for sources that are missing.
    pub fn for_rehearsal(sandbox: &Sandbox) -> Result<Survey, SurveyError> {
        Survey::look_at(sandbox, |_, _| Ok(Shape::Directory))
    }

    fn look_at(
        sandbox: &Sandbox,
        otherwise: impl Fn(&HostPath, Errno) -> Result<Shape, SurveyError>,
    ) -> Result<Survey, SurveyError> {
        let mut survey = Survey::default();
        let table = mount_table()?;
        let mounts = parse_mount_points(&table)?;
        for entry in &sandbox.root.entries {
            let mut seen = look(&entry.source, &mounts)
                .map_err(|errno| SurveyError::Entry { path: entry.source.clone(), errno })?;
            if let (Seen::Directory(below), Show::Overlay { above }) = (&mut seen, &entry.show) {
                below.retain(|(mount, _)| !is_covered(mount, &entry.source, above));
            }
            survey.entries.insert(entry.source.clone(), seen);
        }
        for mount in &sandbox.mounts {
            if let MountKind::Bind { source, route, propagation, .. } = &mount.what {
                let found = open_source(source, route).and_then(fstat);
                let found = found.map(|found| shape(&found));
                let found = found.or_else(|errno| otherwise(source, errno))?;
                survey.binds.insert(source.clone(), found);
                if *propagation != Propagation::Private && !travels(&table, source, *propagation)? {
                    survey.unshared.insert(source.clone());
                }
            }
        }
        survey.throttled_processors = throttled_processors();
        Ok(survey)
    }
}

fn shape(stat: &Stat) -> Shape {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory { Shape::Directory } else { Shape::File }
}

fn look(source: &HostPath, mounts: &[HostPath]) -> Result<Seen, Errno> {
    let found = match statat(CWD, source.as_path(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Seen::Missing),
        Err(errno) => return Err(errno),
    };
    Ok(match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            let below = mounts.iter().filter(|mount| mount.is_within(source) && *mount != source);
            Seen::Directory(
                below
                    .filter_map(|mount| Some((mount.clone(), shape(&stat(mount.as_path()).ok()?))))
                    .collect(),
            )
        }
        FileType::RegularFile => Seen::File,
        FileType::Symlink => Seen::Link(readlinkat(CWD, source.as_path(), Vec::new())?.into_bytes()),
        _ => Seen::Other,
    })
}

/// The mounts of this namespace, in the order of their making.
fn mount_table() -> Result<Vec<u8>, SurveyError> {
    // The file tells no size: with room from the start it is read at once instead of in growing pieces, for each of
    // which the kernel writes the table anew.
    const ROOM: usize = 64 << 10;
    let mut table = Vec::with_capacity(ROOM);
    std::fs::File::open("/proc/self/mountinfo")
        .and_then(|mut file| file.read_to_end(&mut table))
        .map_err(|error| SurveyError::Mounts(error.to_string()))?;
    Ok(table)
}

/// Where the mounts of this namespace lie.
pub(crate) fn mount_points() -> Result<Vec<HostPath>, SurveyError> {
    parse_mount_points(&mount_table()?)
}

/// Opens the source of a bind, once and for good.
pub(crate) fn open_source(source: &HostPath, route: &Route) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Route::Beneath(top) = route else { return openat(CWD, source.as_path(), flags, Mode::empty()) };
    let Ok(below) = source.as_path().strip_prefix(top.as_path()) else { return Err(Errno::XDEV) };
    let top = openat(CWD, top.as_path(), flags | OFlags::NOFOLLOW, Mode::empty())?;
    if below.as_os_str().is_empty() {
        return Ok(top);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(&top, below, flags, Mode::empty(), resolve)
}

/// Whether mounts travel through the mount that a path lies on: to the host only if it is shared, from the host also
/// if it follows one that is.
fn travels(table: &[u8], source: &HostPath, how: Propagation) -> Result<bool, SurveyError> {
    let real = std::fs::canonicalize(source.as_path()).ok().and_then(|real| HostPath::new(real).ok());
    let real = real.as_ref().unwrap_or(source);
    let mut nearest: Option<(usize, bool)> = None;
    for line in table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some(point) = parse_mount_points(line)?.pop().filter(|point| real.is_within(point)) else {
            continue;
        };
        let depth = point.components().count();
        let mut fields = line.split(|byte| *byte == b' ').skip(6).take_while(|field| *field != b"-");
        let follows = |field: &[u8]| how == Propagation::HostToTask && field.starts_with(b"master:");
        let peers = fields.any(|field| field.starts_with(b"shared:") || follows(field));
        // Of two at one place the later lies on top.
        if nearest.is_none_or(|(before, _)| depth >= before) {
            nearest = Some((depth, peers));
        }
    }
    Ok(nearest.is_some_and(|(_, peers)| peers))
}

/// The fifth field of each line, with `\040` and its like decoded. See proc_pid_mountinfo(5).
fn parse_mount_points(table: &[u8]) -> Result<Vec<HostPath>, SurveyError> {
    let mut points = Vec::new();
    for line in table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some(field) = line.split(|byte| *byte == b' ').nth(4) else {
            return Err(SurveyError::Mounts(format!("odd line {:?}", String::from_utf8_lossy(line))));
        };
        // A mount point that has been removed or lies outside this root has no absolute name: not ours.
        if field.first() == Some(&b'/') {
            points.push(HostPath::new(OsStr::from_bytes(&decode_octal(field)))?);
        }
    }
    Ok(points)
}

fn decode_octal(field: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = if *first == b'\\' { tail.get(..3) } else { None };
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(byte) => {
                decoded.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// Whether a layer between has something of its own at the place of a mount: then that is what the task sees (or
/// does not see), not what the host has mounted there.
fn is_covered(mount: &HostPath, source: &HostPath, above: &[HostPath]) -> bool {
    let Ok(relative) = mount.as_path().strip_prefix(source.as_path()) else { return false };
    above.iter().any(|layer| statat(CWD, layer.as_path().join(relative), AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn throttled_processors() -> u32 {
    let has = |number: u32| stat(format!("/sys/devices/system/cpu/cpu{number}/thermal_throttle")).is_ok();
    (0..4096).take_while(|number| has(*number)).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_points_are_decoded() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda rw\n23 22 0:5 / /a\\040b\\134c rw - tmpfs t rw\n";
        let points = parse_mount_points(table).unwrap();
        assert_eq!(points, [HostPath::new("/").unwrap(), HostPath::new("/a b\\c").unwrap()]);
    }

    #[test]
    fn mounts_travel_through_shared_mounts() {
        let table = b"1 0 8:1 / / rw shared:1 - ext4 d rw\n2 1 0:5 / /no-such-a rw - tmpfs t rw\n\
            3 1 0:5 / /no-such-b rw master:1 - tmpfs t rw\n4 2 0:5 / /no-such-a rw shared:9 - tmpfs t rw\n\
            5 1 0:5 / /no-such-c rw - tmpfs t rw\n";
        let at = |path, how| travels(table, &HostPath::new(path).unwrap(), how).unwrap();
        for (path, down, both) in [
            ("/no-such-a/x", true, true),
            ("/no-such-b", true, false),
            ("/no-such-c/deep", false, false),
            ("/no-such-d", true, true),
        ] {
            let seen = (at(path, Propagation::HostToTask), at(path, Propagation::Bidirectional));
            assert_eq!(seen, (down, both), "{path}");
        }
    }

    #[test]
    fn an_odd_line_is_named() {
        assert_eq!(
            parse_mount_points(b"22 1\n").unwrap_err().to_string(),
            "cannot read /proc/self/mountinfo: odd line \"22 1\"; is /proc mounted?"
        );
    }

    #[test]
    fn what_is_missing_is_seen_as_missing() {
        let at = |path| look(&HostPath::new(path).unwrap(), &[]).unwrap();
        assert_eq!(at("/no/such/thing"), Seen::Missing);
        assert_eq!(at("/dev/null"), Seen::Other);
        assert_eq!(at("/proc/self"), Seen::Link(std::process::id().to_string().into_bytes()));
    }

    #[test]
    fn a_mount_below_an_entry_does_not_undo_what_a_layer_hides() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::write(layer.path().join("shadow"), "").unwrap();
        let path = |text: &str| HostPath::new(text).unwrap();
        let above = [HostPath::new(layer.path()).unwrap()];
        assert!(is_covered(&path("/etc/shadow"), &path("/etc"), &above));
        assert!(!is_covered(&path("/etc/passwd"), &path("/etc"), &above));
    }

    proptest! {
        #[test]
        fn no_table_is_a_panic(table in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_mount_points(&table);
        }
    }
}
