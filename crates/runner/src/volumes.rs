//! Volumes by name: host directories that the operator or the command line names, and directories that Bivouac keeps
//! itself below `volumes/`.

use crate::allocation::{PlanError, remove_tree};
use crate::state::{Home, failed};
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Access;
use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

/// Volumes that job files may name.
pub type HostVolumes = BTreeMap<String, HostVolume>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVolume {
    /// Where it is.
    pub path: HostPath,
    /// How far tasks may use it.
    pub access: Access,
}

/// Reads `NAME=PATH[:ro]`.
///
/// # Errors
/// A sentence that names the text.
pub fn parse(text: &str) -> Result<(String, HostVolume), PlanError> {
    let wrong = |why: &str| PlanError::Other(format!("volume {text:?}: {why}"));
    let (name, rest) = text.split_once('=').ok_or_else(|| wrong("it is not NAME=PATH[:ro]"))?;
    check_name(name)?;
    let (path, access) = match rest.rsplit_once(':') {
        Some((path, "ro")) => (path, Access::ReadOnly),
        Some((path, "rw")) => (path, Access::ReadWrite),
        _ => (rest, Access::ReadWrite),
    };
    let path = std::path::absolute(path).map_err(|error| wrong(&error.to_string()))?;
    let path = HostPath::new(path).map_err(|error| wrong(&error.to_string()))?;
    Ok((name.to_owned(), HostVolume { path, access }))
}

/// A name that is one plain file name.
pub(crate) fn check_name(name: &str) -> Result<(), PlanError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '[' | ']');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        let text = format!(
            "volume name {name:?} must be 1 to 128 letters, digits, `-`, `_` and `.`, and not begin with `.`"
        );
        return Err(PlanError::Other(text));
    }
    Ok(())
}

/// A text as one file name: what is not plain becomes `_`.
pub(crate) fn file_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.[]".contains(c) { c } else { '_' };
    let name: String = text.chars().map(plain).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// Makes a named volume; one that is there stays as it is.
///
/// # Errors
/// A bad name, what the disk answered.
pub fn create(home: &Home, name: &str) -> Result<(), PlanError> {
    check_name(name)?;
    let (top, path) = (home.volumes(), home.volumes().join(name));
    let make = |path: &std::path::Path, mode: u32| {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    make(&top, 0o711).map_err(|error| PlanError::other(failed("make", &top)(error)))?;
    if !path.exists() {
        // As the directories of tasks: whoever the task runs as may write.
        make(&path, 0o777).map_err(|error| PlanError::other(failed("make", &path)(error)))?;
    }
    Ok(())
}

/// The names of the volumes that there are.
///
/// # Errors
/// What the disk answered.
pub fn list(home: &Home) -> Result<Vec<String>, PlanError> {
    let path = home.volumes();
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| PlanError::other(failed("list", &path)(error)))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Removes a named volume with all that is in it. The caller makes sure that nobody uses it.
///
/// # Errors
/// No such volume; what the disk answered.
pub fn remove(home: &Home, name: &str) -> Result<(), PlanError> {
    check_name(name)?;
    let path = home.volumes().join(name);
    if !path.exists() {
        return Err(PlanError::Other(format!("no volume {name:?}; `bivouac volume ls` lists them")));
    }
    remove_tree(&path)
}

/// The named volumes that there are, as job files may name them.
///
/// # Errors
/// As [`list`].
pub fn known(home: &Home) -> Result<HostVolumes, PlanError> {
    let mut volumes = HostVolumes::new();
    for name in list(home)? {
        let path = HostPath::new(home.volumes().join(&name)).map_err(PlanError::other)?;
        volumes.insert(name, HostVolume { path, access: Access::ReadWrite });
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_on_the_command_line() {
        let (name, volume) = parse("data=/srv/data:ro").unwrap();
        assert_eq!((name.as_str(), volume.access), ("data", Access::ReadOnly));
        assert_eq!(parse("d=/a:b").unwrap().1.path.to_string(), "/a:b");
        for wrong in ["data", "=/x", "../x=/y", "a b=/x", ".x=/y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn named_volumes_come_and_go_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        create(&home, "data").unwrap();
        std::fs::write(home.volumes().join("data/f"), "kept").unwrap();
        create(&home, "data").unwrap();
        assert_eq!(list(&home).unwrap(), ["data"]);
        assert!(known(&home).unwrap().contains_key("data"));
        remove(&home, "data").unwrap();
        assert!(remove(&home, "data").unwrap_err().to_string().contains("no volume"));
        for wrong in ["..", "a/b", "", ".hidden"] {
            assert!(create(&home, wrong).is_err() && remove(&home, wrong).is_err(), "{wrong}");
        }
    }
}
