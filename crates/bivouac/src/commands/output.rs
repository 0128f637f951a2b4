//! Commands that show what tasks did: events, logs, figures.

use super::tasks::run_of;
use super::{engine, home};
use crate::cli::{Cli, Events, Logs, Stats};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_driver::engine::Engine;
use bivouac_runner::allocation::is_ours;
use bivouac_runner::console::{Colour, Prefixer};
use bivouac_runner::logs::{More, Past, Reader, Stream, tamed};
use bivouac_runner::overview;
use bivouac_shim::protocol::TaskStats;
use std::time::Duration;

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
    ui::figures(&rows, stats.json)
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
    ui::events(&rows, events.json, events.format.as_deref())
}

/// One stream that is shown.
struct Shown {
    reader: Reader,
    prefixer: Option<Prefixer>,
    id: String,
    task: String,
    stream: Stream,
}

pub(super) fn logs(cli: &Cli, logs: &Logs) -> Result<u8> {
    let home = home(cli)?;
    let selection = overview::find(&home, &logs.what)?;
    let streams: &[Stream] = match (logs.stderr, logs.stdout) {
        (true, false) => &[Stream::Stderr],
        (false, true) => &[Stream::Stdout],
        _ => &[Stream::Stdout, Stream::Stderr],
    };
    let past = logs.tail.map_or(Past::All, Past::Lines);
    let mut shown = Vec::new();
    for entry in &selection.entries {
        for (index, task) in entry.state.tasks.iter().enumerate() {
            let wanted = logs
                .task
                .as_ref()
                .map_or(selection.task.is_none_or(|wanted| wanted == index), |name| *name == task.name);
            if wanted {
                shown.push((entry, task.name.clone()));
            }
        }
    }
    if shown.is_empty() {
        bail!("no task {:?} in {}", logs.task.clone().unwrap_or_default(), logs.what);
    }
    let colour = if ui::has_colour() { Colour::On } else { Colour::Off };
    let width = shown.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
    let several = shown.len() > 1;
    let mut readers = Vec::new();
    for (index, (entry, task)) in shown.iter().enumerate() {
        for stream in streams {
            let reader = Reader::open(&home.alloc_dir(&entry.state.id), task, *stream, past)?;
            let prefixer = (several || logs.json).then(|| Prefixer::new(task, index, width, colour));
            readers.push(Shown {
                reader,
                prefixer,
                id: entry.state.id.clone(),
                task: task.clone(),
                stream: *stream,
            });
        }
    }
    loop {
        let more = show_all(&mut readers, logs)?;
        let over = || selection.entries.iter().all(|entry| !entry.keep.is_supervised());
        if !logs.follow || (!more && over() && !show_all(&mut readers, logs)?) {
            return Ok(0);
        }
        // New files and growth of the old ones: a reader's pace, and no cost to anybody else.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Shows what there is now; whether there was anything.
fn show_all(readers: &mut [Shown], logs: &Logs) -> Result<bool> {
    let mut any = false;
    let mut buffer = Vec::new();
    for shown in readers {
        while shown.reader.next(&mut buffer)? == More::Perhaps {
            any = true;
            show(shown, &buffer, logs)?;
        }
    }
    Ok(any)
}

fn show(shown: &mut Shown, bytes: &[u8], logs: &Logs) -> Result<()> {
    let mut tame = Vec::with_capacity(bytes.len());
    if logs.raw || !ui::is_output_terminal() {
        tame.extend_from_slice(bytes);
    } else {
        tamed(bytes, &mut tame);
    }
    if logs.json {
        for line in tame.split_inclusive(|byte| *byte == b'\n') {
            ui::log_line(&shown.id, &shown.task, shown.stream.as_str(), line)?;
        }
        return Ok(());
    }
    let mut lines = Vec::with_capacity(tame.len());
    match &mut shown.prefixer {
        Some(prefixer) => prefixer.feed(&tame, &mut lines),
        None => lines = tame,
    }
    ui::bytes(&lines)
}
