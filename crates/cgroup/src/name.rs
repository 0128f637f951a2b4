//! Names of groups and paths made of them; nothing that could lead out of a hierarchy can be written down.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest name in bytes. Below the kernel's 255, so that a suffix still fits.
const LONGEST: usize = 200;

/// The name of one group: one directory name, at most 200 bytes, never `.` or `..`, without `/`, NUL or newline
/// (the kernel refuses a newline because `/proc/<pid>/cgroup` could not be read any more).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

impl GroupName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::Name`] with the reason.
    pub fn new(name: impl Into<String>) -> Result<GroupName, Error> {
        let name = name.into();
        let why = match name.as_str() {
            "" => "it is empty",
            "." | ".." => "it means another directory",
            text if text.contains('/') => "it contains a slash",
            text if text.contains('\0') => "it contains a NUL byte",
            text if text.contains('\n') => "it contains a newline",
            text if text.len() > LONGEST => "it is longer than 200 bytes",
            _ => return Ok(GroupName(name)),
        };
        Err(Error::Name { name, why })
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Error;
    fn from_str(text: &str) -> Result<GroupName, Error> {
        GroupName::new(text)
    }
}

impl TryFrom<String> for GroupName {
    type Error = Error;
    fn try_from(text: String) -> Result<GroupName, Error> {
        GroupName::new(text)
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> String {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a group lies below the mount point of a hierarchy: names joined by `/`; none is the mount point itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupPath(Vec<GroupName>);

impl GroupPath {
    /// The mount point of the hierarchy.
    pub const ROOT: GroupPath = GroupPath(Vec::new());

    /// The group `name` below this one.
    #[must_use]
    pub fn join(&self, name: &GroupName) -> GroupPath {
        let mut names = self.0.clone();
        names.push(name.clone());
        GroupPath(names)
    }

    /// The names, from the mount point down.
    pub fn names(&self) -> &[GroupName] {
        &self.0
    }

    /// Whether this is the mount point itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory of this group in the hierarchy mounted at `mount`.
    pub fn below(&self, mount: &Path) -> PathBuf {
        self.0.iter().fold(mount.to_owned(), |path, name| path.join(name.as_str()))
    }

    /// Every group on the way, the topmost first, this one last.
    pub fn levels(&self) -> impl Iterator<Item = GroupPath> + '_ {
        (1..=self.0.len()).map(|count| GroupPath(self.0.iter().take(count).cloned().collect()))
    }
}

impl From<GroupName> for GroupPath {
    fn from(name: GroupName) -> GroupPath {
        GroupPath(vec![name])
    }
}

/// Reads `a/b` or `/a/b`; `/` is [`GroupPath::ROOT`]. Empty, `.` and `..` components are refused.
impl FromStr for GroupPath {
    type Err = Error;
    fn from_str(text: &str) -> Result<GroupPath, Error> {
        let relative = text.strip_prefix('/').unwrap_or(text);
        if relative.is_empty() && !text.is_empty() {
            return Ok(GroupPath::ROOT);
        }
        relative.split('/').map(GroupName::new).collect::<Result<_, _>>().map(GroupPath)
    }
}

impl TryFrom<String> for GroupPath {
    type Error = Error;
    fn try_from(text: String) -> Result<GroupPath, Error> {
        text.parse()
    }
}

impl From<GroupPath> for String {
    fn from(path: GroupPath) -> String {
        path.to_string()
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Covers: T87
    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(201);
        for bad in ["", ".", "..", "a/b", "/", "a\0", "a\nb", long.as_str()] {
            let error = GroupName::new(bad).unwrap_err();
            assert!(matches!(error, Error::Name { .. }), "{bad:?}: {error}");
        }
        for good in ["a", "...", "b0c4.web.scope", "x".repeat(200).as_str(), "ein Name", "cpu,cpuacct"] {
            assert_eq!(GroupName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn paths_are_names() {
        let path: GroupPath = "/nomad.slice/share.slice".parse().unwrap();
        assert_eq!(path.to_string(), "/nomad.slice/share.slice");
        assert_eq!(
            path.below(Path::new("/sys/fs/cgroup")),
            Path::new("/sys/fs/cgroup/nomad.slice/share.slice")
        );
        let levels: Vec<String> = path.levels().map(|level| level.to_string()).collect();
        assert_eq!(levels, ["/nomad.slice", "/nomad.slice/share.slice"]);
        assert!("/".parse::<GroupPath>().unwrap().is_root());
        for bad in ["", "a//b", "a/../b", "a/", "//", "./a"] {
            assert!(bad.parse::<GroupPath>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_inside_or_refused(text in "\\PC{0,40}|[./a\n\0]{0,12}") {
            if let Ok(path) = text.parse::<GroupPath>() {
                let full = path.below(Path::new("/m"));
                prop_assert!(full.starts_with("/m"));
                prop_assert!(full.components().all(|part| part != std::path::Component::ParentDir));
                prop_assert_eq!(path.to_string().parse::<GroupPath>().unwrap(), path);
            }
        }
    }
}
