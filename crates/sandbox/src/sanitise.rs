//! The sanitised layer: what hides the host's secrets from a task that is shown the host's `/etc`.
//!
//! Data flow: [`scan`] looks at the source (read-only) -> [`Layer`] (a list of whiteouts, directories and files;
//! printable) -> [`Store::provide`] finds it on disk or builds it. [`Store::current`] does both, and answers from
//! an index when no directory of the source has changed. The layer lies between the task's upper
//! layer and the host's directory: a whiteout in a lower layer shows nothing in the task, where one in the upper
//! layer could be removed by it. Every start scans again, so a file that the host made private since is hidden.

mod index;
mod scan;
mod store;

pub use scan::scan;
pub use store::Store;

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Why the layer could not be made. The start of a task fails then: a protection is never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SanitiseError {
    /// A call on the source failed.
    #[error("cannot look at {path} to hide what is private in it: {errno}")]
    Source {
        /// What was looked at.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A call on the store failed.
    #[error("cannot keep the sanitised layer at {path}: {errno}")]
    Store {
        /// What was to be made or read.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// Somebody else's directory stands where the store should be.
    #[error(
        "{0} does not belong to root alone (mode 0700); remove it, Bivouac never adopts a foreign directory"
    )]
    Foreign(String),
    /// Deeper or larger than a configuration directory can sensibly be.
    #[error("{0} is nested deeper than {DEEPEST} directories")]
    TooDeep(String),
}

/// What the layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    items: Vec<Item>,
}

/// One thing in the layer, by its path below the source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    /// Below the source.
    path: Vec<u8>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A character device 0:0, which shows nothing.
    Whiteout,
    /// A directory on the way to something below it, like the source's own.
    Directory { mode: u32, uid: u32, gid: u32 },
    /// A file with locked fields.
    Locked { gid: u32, text: Vec<u8> },
}

/// Deeper trees are refused: nobody's configuration is nested so.
const DEEPEST: usize = 64;

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            let path = item.path.escape_ascii();
            match &item.what {
                What::Whiteout => writeln!(f, "hide {path}")?,
                What::Directory { mode, uid, gid } => writeln!(f, "dir  {path} {mode:04o} {uid}:{gid}")?,
                What::Locked { gid, text } => {
                    writeln!(f, "lock {path} 0640 0:{gid} {}", text.escape_ascii())?
                }
            }
        }
        Ok(())
    }
}

impl Layer {
    /// The paths below the source that a task does not see, or not as they are.
    pub fn hidden(&self) -> impl Iterator<Item = &OsStr> {
        let hides = |item: &&Item| !matches!(item.what, What::Directory { .. });
        self.items.iter().filter(hides).map(|item| OsStr::from_bytes(&item.path))
    }

    /// A name for what the layer holds. A collision is found when the text beside the layer is compared.
    fn name(&self) -> String {
        fnv(self.to_string().as_bytes())
    }
}

/// FNV-1a of 128 bits: names for contents, no proof of them.
fn fnv(bytes: &[u8]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let hash = bytes.iter().fold(start, |hash, b| (hash ^ u128::from(*b)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests;
