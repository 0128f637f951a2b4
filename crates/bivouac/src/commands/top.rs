//! `top`: what runs and what it uses, again every second, until `q`.

use super::{engine, home};
use crate::cli::{Cli, Top};
use crate::rows::AllocRow;
use crate::screen::Screen;
use anyhow::Result;
use bivouac_driver::engine::Engine;
use bivouac_runner::logs::{Past, Reader, Stream, tamed};
use bivouac_runner::overview;
use bivouac_runner::state::Home;
use bivouac_shim::protocol::TaskStats;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many lines of the selected task's log are shown.
const TAIL: usize = 5;

/// One task on the screen.
struct Row {
    id: String,
    name: String,
    state: String,
    restarts: u32,
    limit: Option<u64>,
    stats: Option<TaskStats>,
}

pub(super) fn top(cli: &Cli, top: &Top) -> Result<u8> {
    let (home, engine) = (home(cli)?, engine()?);
    let screen = Screen::open()?;
    let mut before = BTreeMap::new();
    let mut selected = 0usize;
    loop {
        let rows = rows(&home, &engine, top)?;
        selected = selected.min(rows.len().saturating_sub(1));
        let now = Instant::now();
        screen.draw(&lines(&rows, &before, now, selected, &home));
        before =
            rows.iter().filter_map(|row| Some((row.id.clone(), (now, cpu(row.stats.as_ref()?))))).collect();
        match screen.key(Duration::from_secs(1)) {
            Some(b'q' | 3 | 4) => return Ok(0),
            Some(b'j' | b'B') => selected = selected.saturating_add(1),
            Some(b'k' | b'A') => selected = selected.saturating_sub(1),
            _ => {}
        }
    }
}

fn rows(home: &Home, engine: &Engine, top: &Top) -> Result<Vec<Row>> {
    let entries = match &top.what {
        Some(what) => overview::find(home, what)?.entries,
        None => overview::all(home)?.0,
    };
    let mut rows = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_live()) {
        let plan = entry.keep.plan().ok();
        for (index, task) in AllocRow::of(entry).tasks.into_iter().enumerate() {
            let planned = plan.as_ref().and_then(|plan| plan.allocation.tasks.get(index));
            let stats = task.pid.and_then(|_| engine.stats(&task.id).ok());
            rows.push(Row {
                id: task.id,
                name: task.task,
                state: task.state,
                restarts: task.restarts,
                limit: planned.and_then(|planned| planned.order.memory_limit()),
                stats,
            });
        }
    }
    Ok(rows)
}

fn cpu(stats: &TaskStats) -> u64 {
    stats.group.cpu.map_or(0, |cpu| cpu.user_ns.saturating_add(cpu.system_ns))
}

fn lines(
    rows: &[Row],
    before: &BTreeMap<String, (Instant, u64)>,
    now: Instant,
    selected: usize,
    home: &Home,
) -> Vec<String> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(4).max(4);
    let head = format!(
        "  {:width$} {:12} {:>6} {:>17} {:>9} {:>9} {:>9} {:>5} {:>8}",
        "TASK", "STATE", "CPU %", "MEMORY/LIMIT MiB", "PEAK MiB", "READ MiB", "WROTE MiB", "PIDS", "RESTARTS"
    );
    let mut lines = vec![format!("bivouac top: {} tasks; q ends, j and k choose", rows.len()), head];
    for (index, row) in rows.iter().enumerate() {
        let mark = if index == selected { ">" } else { " " };
        lines.push(format!("{mark} {}", line(row, before.get(&row.id), now, width)));
    }
    if let Some(row) = rows.get(selected) {
        lines.push(String::new());
        lines.push(format!("last lines of {}:", row.name));
        lines.extend(tail(home, &row.id));
    }
    lines
}

fn line(row: &Row, before: Option<&(Instant, u64)>, now: Instant, width: usize) -> String {
    let group = row.stats.as_ref().map(|stats| &stats.group);
    let memory = group.and_then(|group| group.memory.as_ref());
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1_048_576.0);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let used = row.stats.as_ref().zip(before).map(|(stats, (then, nanos))| {
        let passed = now.duration_since(*then).as_nanos().max(1) as f64;
        format!("{:.1}", 100.0 * cpu(stats).saturating_sub(*nanos) as f64 / passed)
    });
    let limit = row.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let current = memory.map(|memory| format!("{}/{limit}", mib(memory.current.0)));
    let io = group.and_then(|group| group.io.as_ref());
    format!(
        "{:width$} {:12} {:>6} {:>17} {:>9} {:>9} {:>9} {:>5} {:>8}",
        row.name,
        row.state,
        or_dash(used),
        or_dash(current),
        or_dash(memory.and_then(|memory| memory.peak).map(|peak| mib(peak.0))),
        or_dash(io.map(|io| mib(io.read.0))),
        or_dash(io.map(|io| mib(io.written.0))),
        or_dash(group.and_then(|group| group.pids).map(|pids| pids.to_string())),
        row.restarts
    )
}

/// The last lines of a task's output, as a terminal may have them; a foreground run keeps none.
fn tail(home: &Home, id: &str) -> Vec<String> {
    let Some((alloc, task)) = id.split_once('/') else { return Vec::new() };
    let mut bytes = Vec::new();
    if let Ok(mut reader) = Reader::open(&home.alloc_dir(alloc), task, Stream::Stdout, Past::Lines(TAIL)) {
        let _ = reader.next(&mut bytes);
    }
    let mut tame = Vec::new();
    tamed(&bytes, &mut tame);
    String::from_utf8_lossy(&tame).lines().map(str::to_owned).collect()
}
