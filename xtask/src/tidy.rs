//! `cargo xtask tidy`: the promises that a script can keep, kept by a script.

use crate::coverage;
use crate::shell::{self, say};
use crate::source::{self, Source};
use crate::workspace::{Package, Workspace};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// The rooms and their floors: a room uses only rooms on lower floors (see `ARCHITECTURE.md`).
const ROOMS: [(&str, u8); 10] = [
    ("bivouac-sys", 0),
    ("bivouac-cgroup", 1),
    ("bivouac-sandbox", 2),
    ("bivouac-shim", 3),
    ("bivouac-driver", 4),
    ("bivouac-plugin", 5),
    ("bivouac-jobspec", 5),
    ("bivouac-artifact", 5),
    ("bivouac-runner", 6),
    ("bivouac", 7),
];
/// The only room that may hold unsafe code.
const FENCE: &str = "bivouac-sys";
/// A longer file is two files, unless it stands in [`LONG`].
const MOST_LINES: usize = 600;
/// Files that may be longer: path and reason.
const LONG: [(&str, &str); 0] = [];
/// Packages in `Cargo.lock`, ours included. Raised only by a commit of its own that says what was gained.
const MOST_PACKAGES: usize = 260;

/// Checks everything and tells all that was found, not only the first.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let sources = source::files_below(&workspace.root)?
        .iter()
        .map(|path| Source::read(path))
        .collect::<Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for package in workspace.members() {
        found.extend(looks_up_the_stairs(package));
        found.extend(lints_of_its_own(&workspace, package)?);
        found.extend(root_without_fence(&workspace, package)?);
    }
    for source in &sources {
        found.extend(file_faults(&workspace, source));
    }
    found.extend(stale_exceptions(&workspace, &sources));
    found.extend(coverage::faults(&workspace, &sources)?);
    found.extend(examples_without_comment(&workspace)?);
    found.extend(places_that_are_not(&workspace)?);
    found.extend(too_many_packages(&workspace)?);
    for fault in &found {
        shell::complain(fault);
    }
    if !found.is_empty() {
        bail!("{} promises broken", found.len());
    }
    say(format!(
        "tidy: {} files, {} packages of ours, nothing to say",
        sources.len(),
        workspace.members().count()
    ));
    Ok(())
}

fn floor(name: &str) -> Option<u8> {
    ROOMS.iter().find(|room| room.0 == name).map(|room| room.1)
}

/// Dependencies of a room on a room that is not below it. What is no room (xtask, the benchmark) may use all.
fn looks_up_the_stairs(package: &Package) -> Vec<String> {
    let Some(own) = floor(&package.name) else { return Vec::new() };
    package
        .dependencies
        .iter()
        // A room may name itself to give its tests another feature set.
        .filter(|dependency| dependency.name != package.name)
        .filter(|dependency| floor(&dependency.name).is_some_and(|theirs| theirs >= own))
        .map(|dependency| format!("{}: uses {}, which is not below it", package.name, dependency.name))
        .collect()
}

/// Lints are stated once, in the workspace.
fn lints_of_its_own(workspace: &Workspace, package: &Package) -> Result<Option<String>> {
    let manifest = package.folder.join("Cargo.toml");
    let text = shell::read(&manifest)?;
    Ok((!inherits_lints(&text)).then(|| {
        format!("{}: say `[lints] workspace = true` and nothing else there", workspace.shown(&manifest))
    }))
}

fn inherits_lints(manifest: &str) -> bool {
    let mut table = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    let only =
        table.by_ref().find(|line| !line.is_empty() && !line.starts_with('#')) == Some("workspace = true");
    only && !manifest.lines().any(|line| line.trim().starts_with("[lints."))
}

/// Every library and program but the fenced one forbids unsafe code at its root.
fn root_without_fence(workspace: &Workspace, package: &Package) -> Result<Vec<String>> {
    if package.name == FENCE {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for root in &package.roots {
        if !Source::read(root)?.code.contains("#![forbid(unsafe_code)]") {
            found.push(format!("{}: a crate root must say `#![forbid(unsafe_code)]`", workspace.shown(root)));
        }
    }
    Ok(found)
}

/// What can be said of one file alone.
fn file_faults(workspace: &Workspace, source: &Source) -> Vec<String> {
    let shown = workspace.shown(&source.path).to_string();
    if source.is_generated() {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !source.opens_with_its_purpose() {
        found.push(format!("{shown}: the first line must say what the file is for, with `//!`"));
    }
    let fenced = ["crates/sys/", "fuzz/"].iter().any(|folder| shown.starts_with(folder));
    if !fenced {
        found.extend(
            source
                .words("unsafe")
                .map(|at| format!("{shown}:{}: unsafe code lives in {FENCE} only", source.line_of(at))),
        );
    }
    found.extend(
        source
            .unsafe_blocks()
            .iter()
            .filter(|block| !block.1)
            .map(|block| format!("{shown}:{}: no `SAFETY:` within six lines", block.0)),
    );
    let lines = source.text.lines().count();
    if lines > MOST_LINES && !LONG.iter().any(|long| long.0 == shown) {
        found.push(format!(
            "{shown}: {lines} lines; more than {MOST_LINES} need a reason in xtask/src/tidy.rs"
        ));
    }
    found
}

/// Exceptions that nothing needs any more.
fn stale_exceptions(workspace: &Workspace, sources: &[Source]) -> Vec<String> {
    let is_long = |path: &str| {
        sources.iter().any(|source| {
            source.path == workspace.root.join(path) && source.text.lines().count() > MOST_LINES
        })
    };
    LONG.iter()
        .filter(|long| !is_long(long.0))
        .map(|long| format!("{}: no longer long; take it off the list ({})", long.0, long.1))
        .collect()
}

/// Each example begins with what it shows.
fn examples_without_comment(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("examples");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.extension().is_some_and(|end| end == "hcl") && !shell::read(&path)?.starts_with('#') {
            found.push(format!(
                "{}: must begin with a comment that says what it shows",
                workspace.shown(&path)
            ));
        }
    }
    Ok(found)
}

/// Pages that tell where to look, and how far below the top their paths begin.
const MAPS: [(&str, &str); 3] =
    [("ARCHITECTURE.md", "crates"), ("SECURITY.md", "."), ("CONTRIBUTING.md", ".")];

/// Paths in our pages that lead nowhere (any more).
fn places_that_are_not(workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (page, base) in MAPS {
        let text = shell::read(&workspace.root.join(page))?;
        let named = named_paths(&text).flat_map(alternatives);
        let missing = named.filter(|path| !workspace.root.join(path).exists());
        found.extend(missing.map(|path| format!("{page}: names `{path}`, which does not exist")));
        for (line, path) in named_places(&text) {
            let there = [base, "."].iter().any(|base| workspace.root.join(base).join(&path).exists());
            if !there {
                found.push(format!("{page}:{line}: there is no `{path}`"));
            }
        }
    }
    Ok(found)
}

/// Paths of this repository between backquotes.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let tops = ["crates/", "tests/", "docs/", "xtask/", "fuzz/", "benches/"];
        tops.iter().any(|top| word.starts_with(top)) && !word.contains([' ', '*', '<'])
    };
    text.split('`').skip(1).step_by(2).filter(is_path)
}

/// What stands in backquotes in the last column of tables and looks like a path: `a/{b,c}.rs` are two, and a bare
/// name after a path lies beside it.
fn named_places(page: &str) -> Vec<(usize, String)> {
    let mut places = Vec::new();
    for (number, line) in page.lines().enumerate() {
        let Some(cell) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            continue;
        };
        let cell = cell.rsplit('|').next().unwrap_or_default();
        let mut folder = String::new();
        for text in cell.split('`').skip(1).step_by(2) {
            let is_file = [".rs", ".md", ".toml", ".sh"].iter().any(|end| text.ends_with(end));
            if text.starts_with('/') || text.contains(char::is_whitespace) || !(is_file || text.contains('/'))
            {
                continue;
            }
            let whole = if text.contains('/') { text.to_owned() } else { format!("{folder}{text}") };
            folder = whole.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            places.extend(alternatives(&whole).into_iter().map(|path| (number + 1, path)));
        }
    }
    places
}

fn alternatives(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(left, rest)| Some((left, rest.split_once('}')?)));
    match braces {
        None => vec![path.to_owned()],
        Some((left, (names, right))) => names.split(',').map(|name| format!("{left}{name}{right}")).collect(),
    }
}

fn too_many_packages(workspace: &Workspace) -> Result<Option<String>> {
    let locked = locked_packages(&workspace.root)?;
    Ok((locked > MOST_PACKAGES).then(|| {
        format!("Cargo.lock: {locked} packages, the ceiling is {MOST_PACKAGES} (xtask/src/tidy.rs)")
    }))
}

/// How many packages the lock file names.
pub(crate) fn locked_packages(root: &Path) -> Result<usize> {
    Ok(shell::read(&root.join("Cargo.lock"))?.lines().filter(|line| *line == "[[package]]").count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, uses: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: "0.1.0".into(),
            ours: true,
            licence: None,
            source: None,
            folder: "/x".into(),
            dependencies: uses
                .iter()
                .map(|name| Dependency { name: (*name).into(), shipped: true })
                .collect(),
            roots: Vec::new(),
        }
    }

    #[test]
    fn a_room_uses_only_rooms_below() {
        assert!(
            looks_up_the_stairs(&package("bivouac-driver", &["bivouac-sys", "bivouac-shim", "serde"]))
                .is_empty()
        );
        assert_eq!(looks_up_the_stairs(&package("bivouac-cgroup", &["bivouac-sandbox"])).len(), 1);
        assert_eq!(looks_up_the_stairs(&package("bivouac-plugin", &["bivouac-jobspec"])).len(), 1);
        assert!(looks_up_the_stairs(&package("bivouac-plugin", &["bivouac-plugin"])).is_empty());
        assert!(looks_up_the_stairs(&package("xtask", &["bivouac-runner"])).is_empty());
    }

    #[test]
    fn places_are_read_from_the_last_column() {
        let page = "| X | file |\n|---|---|\n| `no/path` | `a/b.rs` (x), `c.rs`; `d/{e,f}.rs`, `g/` |\nno `table/x`\n\
                    | y | `fmt::Display`, `cargo run x/y` |\n";
        let places: Vec<String> =
            named_places(page).into_iter().map(|(line, path)| format!("{line} {path}")).collect();
        assert_eq!(places, ["3 a/b.rs", "3 a/c.rs", "3 d/e.rs", "3 d/f.rs", "3 g/"]);
    }

    #[test]
    fn paths_between_backquotes_are_found() {
        let text = "see `crates/a/b.rs`, `cargo xtask tidy`, `docs/x.md` and `tests/*`";
        assert_eq!(named_paths(text).collect::<Vec<_>>(), ["crates/a/b.rs", "docs/x.md"]);
    }

    #[test]
    fn lints_come_from_the_workspace() {
        assert!(inherits_lints("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nname = \"x\"\n"));
        assert!(!inherits_lints("[lints.clippy]\nall = \"allow\"\n\n[lints]\nworkspace = true\n"));
    }
}
