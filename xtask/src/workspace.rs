//! What cargo knows about this workspace: members, their targets and dependencies, every locked package.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The workspace as `cargo metadata` tells it.
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Every package, ours first in no particular order.
    pub(crate) packages: Vec<Package>,
}

/// One package, ours or another's.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Whether it is a member of this workspace.
    pub(crate) ours: bool,
    /// The licence expression, if it states one.
    pub(crate) licence: Option<String>,
    /// Where it comes from; none for a folder here.
    pub(crate) source: Option<String>,
    /// The folder of its `Cargo.toml`.
    pub(crate) folder: PathBuf,
    /// What it says it depends on.
    pub(crate) dependencies: Vec<Dependency>,
    /// Roots of libraries and programs.
    pub(crate) roots: Vec<PathBuf>,
}

/// A line of a dependency table.
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// Whether a release is built from it (not only tests or build scripts).
    pub(crate) shipped: bool,
}

impl Workspace {
    /// Asks cargo. Offline would be wrong on a fresh machine, so cargo may fetch.
    pub(crate) fn load() -> Result<Self> {
        let text = shell::capture(
            shell::cargo()
                .args(["metadata", "--format-version", "1"])
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))),
        )?;
        let data: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        let members: Vec<&str> = array(&data, "workspace_members").filter_map(Value::as_str).collect();
        let packages =
            array(&data, "packages").map(|value| package(value, &members)).collect::<Result<_>>()?;
        Ok(Self {
            root: string(&data, "workspace_root")?.into(),
            target: string(&data, "target_directory")?.into(),
            packages,
        })
    }

    /// The members of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.ours)
    }

    /// A path as it is written in reports: relative to the workspace.
    pub(crate) fn shown<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

fn package(value: &Value, members: &[&str]) -> Result<Package> {
    let manifest = PathBuf::from(string(value, "manifest_path")?);
    let folder = manifest.parent().context("a manifest without a folder")?.to_path_buf();
    let id = string(value, "id")?;
    Ok(Package {
        ours: members.contains(&id.as_str()),
        name: string(value, "name")?,
        version: string(value, "version")?,
        licence: value.get("license").and_then(Value::as_str).map(str::to_owned),
        source: value.get("source").and_then(Value::as_str).map(str::to_owned),
        dependencies: array(value, "dependencies")
            .map(|entry| {
                Ok(Dependency {
                    name: string(entry, "name")?,
                    shipped: entry.get("kind").is_none_or(Value::is_null),
                })
            })
            .collect::<Result<_>>()?,
        roots: array(value, "targets")
            .filter(|target| array(target, "kind").any(|kind| kind == "lib" || kind == "bin"))
            .map(|target| string(target, "src_path").map(PathBuf::from))
            .collect::<Result<_>>()?,
        folder,
    })
}

/// The elements of an array field; none if there is no such field.
pub(crate) fn array<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A field that must be a string.
pub(crate) fn string(value: &Value, field: &str) -> Result<String> {
    value
        .get(field)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata without `{field}`"))
}
