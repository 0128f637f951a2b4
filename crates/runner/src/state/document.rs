//! Documents on disk: whole, versioned, and replaced without waiting for a disk where nobody asked for that.

use super::{StateError, VERSION, failed};
use bivouac_sys::replace::Nameless;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// No file of ours is longer: a plan holds environments, which the kernel caps.
const LARGEST: u64 = 64 << 20;

/// How careful a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// It must be there after the machine has lost its power.
    Synced,
    /// It must be there after every process has died.
    Cached,
}

/// Writes a document beside its place and renames it there.
pub(crate) fn write<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
    care: Care,
) -> Result<(), StateError> {
    write_over(directory, name, value, care, &mut Nameless::default())
}

pub(super) fn write_over<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
    care: Care,
    nameless: &mut Nameless,
) -> Result<(), StateError> {
    let path = directory.join(name);
    let new = format!("{name}.new");
    let damaged =
        |error: serde_json::Error| StateError::Damaged { path: path.clone(), text: error.to_string() };
    let bytes = serde_json::to_vec(value).map_err(damaged)?;
    let written = (|| {
        let within = File::open(directory)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(directory.join(&new))?;
        file.write_all(&bytes)?;
        if care == Care::Synced {
            file.sync_all()?;
        }
        nameless.replace(within.as_fd(), new.as_str(), name)?;
        if care == Care::Synced {
            within.sync_all()?;
        }
        Ok(())
    })();
    written.map_err(|error| {
        // Half a file on a full disk would only take more of it.
        let _ = std::fs::remove_file(directory.join(&new));
        failed("write", &path)(error)
    })
}

/// Reads a document of this or an earlier version.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |text: String| StateError::Damaged { path: path.to_owned(), text };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open", path))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(damaged("it is too long".into()));
    }
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if version > VERSION {
        return Err(StateError::Newer { path: path.to_owned(), version });
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        version: u32,
        text: String,
    }

    #[test]
    fn a_document_is_whole_or_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let sample = Sample { version: VERSION, text: "whole".into() };
        write(dir.path(), "x.json", &sample, Care::Synced).unwrap();
        assert_eq!(read::<Sample>(&path).unwrap(), sample);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, whole.get(..cut).unwrap()).unwrap();
            assert!(read::<Sample>(&path).unwrap_err().to_string().contains("x.json is damaged"));
        }
        let later = Sample { version: VERSION + 1, text: String::new() };
        write(dir.path(), "x.json", &later, Care::Cached).unwrap();
        assert!(matches!(read::<Sample>(&path), Err(StateError::Newer { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
