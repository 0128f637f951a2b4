//! Two kinds of path that never become each other by accident: on the host, and inside a task's root.

use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a text is not a path of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Relative, or empty.
    #[error("path {0:?} must be absolute")]
    NotAbsolute(String),
    /// A NUL byte cannot reach the kernel.
    #[error("path {0:?} holds a NUL byte")]
    Nul(String),
    /// `..` is refused rather than resolved: after a link it means something else than it says.
    #[error("path {0:?} must not contain `..`")]
    Parent(String),
    /// Longer than the kernel's PATH_MAX.
    #[error("path of {0} bytes is longer than the kernel takes (4095)")]
    TooLong(usize),
}

const PATH_MAX: usize = 4095;

fn check(bytes: &[u8]) -> Result<(), PathError> {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    if bytes.len() > PATH_MAX {
        return Err(PathError::TooLong(bytes.len()));
    }
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute(text()));
    }
    if bytes.contains(&0) {
        return Err(PathError::Nul(text()));
    }
    if bytes.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(PathError::Parent(text()));
    }
    Ok(())
}

/// `/a//b/./c/` -> `/a/b/c`.
fn normalise(bytes: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(bytes.len());
    for part in bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    clean
}

macro_rules! path_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
        pub struct $name(Vec<u8>);

        impl $name {
            /// Checks and normalises: absolute, no `..`, no NUL, at most 4095 bytes; `//`, `.` and a trailing
            /// `/` are taken out.
            ///
            /// # Errors
            /// [`PathError`] naming the path.
            pub fn new(path: impl AsRef<OsStr>) -> Result<$name, PathError> {
                let bytes = path.as_ref().as_bytes();
                check(bytes)?;
                Ok($name(normalise(bytes)))
            }

            /// As the standard library sees it.
            pub fn as_path(&self) -> &Path {
                Path::new(OsStr::from_bytes(&self.0))
            }

            /// The bytes; the first is `/`.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// As the kernel takes it.
            pub fn to_c(&self) -> CString {
                // No NUL can be in it, so the fallback is never used.
                CString::new(self.0.clone()).unwrap_or_default()
            }

            /// This path with `more` below it.
            ///
            /// # Errors
            /// As [`Self::new`]; a leading `/` of `more` is of no meaning.
            pub fn join(&self, more: impl AsRef<OsStr>) -> Result<$name, PathError> {
                let mut bytes = self.0.clone();
                bytes.push(b'/');
                bytes.extend_from_slice(more.as_ref().as_bytes());
                $name::new(OsStr::from_bytes(&bytes))
            }

            /// Its parts, from the top.
            pub fn components(&self) -> impl Iterator<Item = &[u8]> {
                self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
            }

            /// Whether this is `other` or lies below it, by whole components.
            pub fn is_within(&self, other: &$name) -> bool {
                self.as_path().starts_with(other.as_path())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.as_path().display(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_path(), f)
            }
        }

        impl TryFrom<serde_bytes::ByteBuf> for $name {
            type Error = PathError;
            fn try_from(bytes: serde_bytes::ByteBuf) -> Result<$name, PathError> {
                $name::new(OsStr::from_bytes(&bytes))
            }
        }

        impl From<$name> for serde_bytes::ByteBuf {
            fn from(path: $name) -> serde_bytes::ByteBuf {
                serde_bytes::ByteBuf::from(path.0)
            }
        }

        impl From<$name> for PathBuf {
            fn from(path: $name) -> PathBuf {
                path.as_path().to_path_buf()
            }
        }
    };
}

path_type!(HostPath, "An absolute path on the host.");
path_type!(TaskPath, "An absolute path inside a task's root.");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_path_are_one_path() {
        for spelling in ["/a/b", "//a/b", "/a//b/", "/a/./b", "/a/b/."] {
            assert_eq!(TaskPath::new(spelling).unwrap().to_string(), "/a/b", "{spelling}");
        }
        assert_eq!(TaskPath::new("///").unwrap().to_string(), "/");
    }

    #[test]
    fn what_cannot_be_a_path_is_refused_by_name() {
        assert_eq!(TaskPath::new("a").unwrap_err().to_string(), "path \"a\" must be absolute");
        assert_eq!(TaskPath::new("").unwrap_err().to_string(), "path \"\" must be absolute");
        assert_eq!(
            TaskPath::new("/a/../b").unwrap_err().to_string(),
            "path \"/a/../b\" must not contain `..`"
        );
        assert!(matches!(HostPath::new("/a\0"), Err(PathError::Nul(_))));
        assert!(matches!(HostPath::new("/".repeat(5000)), Err(PathError::TooLong(5000))));
    }

    #[test]
    fn within_goes_by_whole_components() {
        let path = |text| HostPath::new(text).unwrap();
        assert!(path("/a/b").is_within(&path("/a")));
        assert!(path("/a").is_within(&path("/a")));
        assert!(!path("/ab").is_within(&path("/a")));
    }

    proptest! {
        #[test]
        fn a_path_never_climbs_and_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(path) = TaskPath::new(OsStr::from_bytes(&bytes)) {
                prop_assert!(path.as_bytes().first() == Some(&b'/'));
                prop_assert!(path.components().all(|part| part != b".." && part != b"." && !part.contains(&0)));
                prop_assert_eq!(TaskPath::new(path.as_path()).unwrap(), path);
            }
        }
    }
}
