//! `bivouac doctor --nomad FILE`: a client agent's configuration, looked at without the agent.

use crate::ui;
use anyhow::{Context, Result, ensure};
use bivouac_driver::engine::{Engine, Places};
use bivouac_driver::fingerprint::ShimCheck;
use bivouac_plugin::agent::{Machine, PluginFile, Weight, findings, ran_here};
use bivouac_shim::client::program::Unfit;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Looks at a file, or at all `*.hcl` of a directory as an agent reads them: in the order of their names.
pub(super) fn doctor(path: &Path, as_json: bool) -> Result<u8> {
    let mut agent = serde_json::Map::new();
    for file in files_of(path)? {
        let tree = bivouac_runner::load::settings(&file)?;
        if let Value::Object(blocks) = serde_json::to_value(&tree)? {
            merge(&mut agent, blocks);
        }
    }
    let found = findings(&Value::Object(agent), &ThisMachine);
    ui::findings(&found, as_json)?;
    Ok(u8::from(found.iter().any(|finding| finding.weight == Weight::Wrong)))
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "hcl"))
        .collect();
    ensure!(!files.is_empty(), "{} holds no *.hcl", path.display());
    files.sort_unstable();
    Ok(files)
}

/// Blocks come together, arguments of a later file win.
fn merge(agent: &mut serde_json::Map<String, Value>, blocks: serde_json::Map<String, Value>) {
    for (name, value) in blocks {
        match (agent.get_mut(&name), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, value) => drop(agent.insert(name, value)),
        }
    }
}

/// The machine on which this runs.
struct ThisMachine;

impl Machine for ThisMachine {
    fn plugins(&self, directory: &Path) -> Option<Vec<(String, PluginFile)>> {
        let entries = std::fs::read_dir(directory).ok()?.flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let program = std::fs::canonicalize(entry.path()).ok()?;
            let ours = program.file_name().is_some_and(|name| name == "bivouac")
                || Some(&program) == this().as_ref();
            Some((name, if ours { PluginFile::Ours { shim: shim_of(&program) } } else { PluginFile::Other }))
        });
        Some(files.collect())
    }

    fn collectors(&self) -> Vec<(i32, String)> {
        // Without root, or where no task ever ran, there are none of running tasks.
        let runs = Engine::new(Places::usual()).and_then(|engine| engine.list()).unwrap_or_default();
        let tasks: BTreeSet<&str> = runs.iter().filter_map(|id| Some(id.rsplit_once('/')?.0)).collect();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let collectors = processes.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            if line.split(|byte| *byte == 0).nth(1) != Some(b"logmon") {
                return None;
            }
            let (allocation, task) = collected(&entry.path())?;
            let id = format!("{}/{task}", allocation.file_name()?.to_str()?);
            (tasks.contains(id.as_str()) || ran_here(&allocation, &task)).then_some((pid, id))
        });
        collectors.collect()
    }
}

/// Whether the shim that a program of ours would start is there and fits, as far as this program can know it.
fn shim_of(program: &Path) -> Result<(), Unfit> {
    // Where the environment says where the shim is, the agent's most likely says so too.
    match ShimCheck::new(Places::shim_of(program)).look() {
        // A program of another release has a shim of another version.
        Err(Unfit::Silent(_) | Unfit::Other { .. }) if this().as_deref() != Some(program) => Ok(()),
        answer => answer,
    }
}

fn this() -> Option<PathBuf> {
    std::fs::canonicalize(std::env::current_exe().ok()?).ok()
}

/// The allocation's directory and the task of a collector: it holds the task's pipes open, and once nobody writes to
/// them any more, only the files that it has written.
fn collected(process: &Path) -> Option<(PathBuf, String)> {
    let open = std::fs::read_dir(process.join("fd")).ok()?.flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).find_map(|path| {
        let name = path.file_name()?.to_str()?;
        let pipe = || name.strip_prefix('.')?.strip_suffix(".stdout.fifo");
        let file = || name.rsplit_once('.')?.0.strip_suffix(".stdout");
        let task = pipe().or_else(file)?.to_owned();
        // `<allocation>/alloc/logs/<name>`
        Some((path.ancestors().nth(3)?.to_path_buf(), task))
    })
}
