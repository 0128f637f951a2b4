//! Commands that show what tasks did: events, figures.

use super::tasks::run_of;
use super::{engine, home};
use crate::cli::{Cli, Events, Stats};
use crate::ui;
use anyhow::Result;
use bivouac_driver::engine::Engine;
use bivouac_runner::allocation::is_ours;
use bivouac_runner::overview;
use bivouac_shim::protocol::TaskStats;

pub(super) fn stats(cli: &Cli, stats: &Stats) -> Result<u8> {
    let (home, engine) = (home(cli)?, engine()?);
    let ids = if stats.tasks.is_empty() {
        let of_another_home = |id: &String| {
            is_ours(id) && !id.split_once('/').is_some_and(|(alloc, _)| home.keep(alloc).path().exists())
        };
        engine.list()?.into_iter().filter(|id| !of_another_home(id)).collect()
    } else {
        stats.tasks.iter().map(|task| run_of(&home, &engine, task)).collect::<Result<Vec<_>>>()?
    };
    let mut rows = Vec::new();
    for (id, figures) in figures_of(&engine, &ids) {
        // One that has ended has no figures; asked for by name, that is an error.
        match figures {
            Ok(figures) => rows.push((id.clone(), figures)),
            Err(_) if stats.tasks.is_empty() => {}
            Err(error) => return Err(error.context(id.clone())),
        }
    }
    ui::figures(&rows, stats.written.form())
}

/// So many shims are asked at once: most of asking one is waiting until it runs.
const AT_ONCE: usize = 8;

/// The figures of every run, in order.
fn figures_of<'i>(engine: &Engine, ids: &'i [String]) -> Vec<(&'i String, Result<TaskStats>)> {
    let ask =
        |id: &'i String| (id, engine.client(id).map_err(Into::into).and_then(|mut shim| Ok(shim.stats()?)));
    let share = ids.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let asking: Vec<_> = ids
            .chunks(share)
            .map(|ids| scope.spawn(move || ids.iter().map(ask).collect::<Vec<_>>()))
            .collect();
        asking
            .into_iter()
            .flat_map(|share| share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

pub(super) fn events(cli: &Cli, events: &Events) -> Result<u8> {
    let selection = overview::find(&home(cli)?, &events.what)?;
    let mut rows = Vec::new();
    for entry in &selection.entries {
        for (index, task) in entry.state.tasks.iter().enumerate() {
            if selection.task.is_none_or(|wanted| wanted == index) {
                let name = format!("{}/{}", entry.state.name, task.name);
                rows.extend(task.events.events().map(|event| (name.clone(), event.clone())));
            }
        }
    }
    rows.sort_by_key(|(_, event)| event.at);
    ui::events(&rows, events.written.form())
}
