//! What must outlive this process to find its groups again.

use crate::Hierarchy;
use crate::plan::Role;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// The groups of a [`Plan`](crate::Plan) or a [`Group`](crate::Group), as a value to be written to a state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub(crate) places: Vec<SavedPlace>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedPlace {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) role: Role,
    pub(crate) path: PathBuf,
    /// Of the one group that stands for all; not known before it is made.
    pub(crate) id: Option<CgroupId>,
}

impl Saved {
    /// Every directory, its hierarchy, and what it is to us.
    pub fn places(&self) -> impl Iterator<Item = (&Hierarchy, Role, &Path)> {
        self.places.iter().map(|place| (&place.hierarchy, place.role, place.path.as_path()))
    }
}

/// The kernel's number of a group, never used twice until the next boot (on version 2 also what audit logs and
/// programs call the cgroup id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
