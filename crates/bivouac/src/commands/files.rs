//! Commands about the files of allocations.

use super::home;
use crate::cli::{Cli, Cp, Fs, FsCommand};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_runner::files::Files;
use bivouac_runner::overview;
use bivouac_runner::state::Home;
use std::path::{Path, PathBuf};

pub(super) fn fs(cli: &Cli, fs: &Fs) -> Result<u8> {
    let home = home(cli)?;
    let open = |what: &str| -> Result<Files> {
        let entry = overview::find(&home, what)?.allocation(what)?;
        Ok(Files::open(&home.alloc_dir(&entry.state.id))?)
    };
    match &fs.command {
        FsCommand::Ls { written, what, path } => ui::entries(&open(what)?.list(path)?, written.form()),
        FsCommand::Stat { written, what, path } => ui::entries(&[open(what)?.stat(path)?], written.form()),
        FsCommand::Cat { what, path } => {
            ui::copy(open(what)?.read(path)?)?;
            Ok(0)
        }
    }
}

pub(super) fn cp(cli: &Cli, cp: &Cp) -> Result<u8> {
    let home = home(cli)?;
    match (in_task(&cp.from), in_task(&cp.to)) {
        (Some((task, path)), None) => {
            let (files, path) = place(&home, task, path)?;
            files.copy_out(&path, Path::new(&cp.to))?;
        }
        (None, Some((task, path))) => {
            let (files, path) = place(&home, task, path)?;
            files.copy_in(Path::new(&cp.from), &path)?;
        }
        _ => bail!("one of both must be TASK:PATH, the other a path on this machine"),
    }
    Ok(0)
}

/// `TASK:PATH`; a path of this machine may have a colon behind its first slash or dot.
fn in_task(text: &str) -> Option<(&str, &str)> {
    let (task, path) = text.split_once(':')?;
    (!task.starts_with(['/', '.'])).then_some((task, path))
}

/// Where a path of a task lies in its allocation.
fn place(home: &Home, task: &str, path: &str) -> Result<(Files, PathBuf)> {
    let (entry, index) = overview::find(home, task)?.task(task)?;
    let name = entry.state.tasks.get(index).map(|task| task.name.clone()).unwrap_or_default();
    let files = Files::open(&home.alloc_dir(&entry.state.id))?;
    let inside = path.trim_start_matches('/');
    let shared = inside == "alloc" || inside.starts_with("alloc/");
    Ok((files, if shared { PathBuf::from(inside) } else { Path::new(&name).join(inside) }))
}
