//! The control groups that an agent made, which outlive its namespaces.

use crate::agent::deadline;
use std::fs;
use std::path::{Path, PathBuf};

/// Where clients of this machine make groups, in every hierarchy.
fn tops() -> Vec<PathBuf> {
    let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
    let mut tops: Vec<PathBuf> = mounts.map(|entry| entry.path().join("nomad")).collect();
    tops.push("/sys/fs/cgroup/nomad.slice".into());
    tops.retain(|top| top.is_dir());
    tops
}

/// All groups below `top`, the innermost first.
fn groups(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(groups(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

/// The groups of these allocations that are still there.
pub(crate) fn groups_of(allocations: &[String]) -> Vec<PathBuf> {
    let of_ours = |group: &PathBuf| {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        allocations.iter().any(|id| name.starts_with(id.as_str()))
    };
    let mut found: Vec<PathBuf> = tops().iter().flat_map(|top| groups(top)).collect();
    found.retain(of_ours);
    found
}

/// Removes the groups of these allocations, whose processes are gone, and the client's own if nobody else uses them.
pub(crate) fn remove(allocations: &[String], last: bool) {
    deadline(|| {
        let left = groups_of(allocations);
        left.iter().for_each(|group| drop(fs::remove_dir(group)));
        left.is_empty()
    });
    if last {
        // The engine's own is every face's; on a machine that only tests, nobody else is there.
        let alone = std::env::var_os("BIVOUAC_TEST_LANE").is_some();
        let shims = tops().into_iter().filter_map(|top| Some(top.parent()?.join("bivouac-shims")));
        let shims = shims.filter(|top| alone && top.is_dir()).collect::<Vec<_>>();
        for top in tops().into_iter().chain(shims) {
            groups(&top).iter().chain([&top]).for_each(|group| drop(fs::remove_dir(group)));
        }
    }
}
