//! `logs`: what tasks said, of several tasks and both streams, with its times, while it is being said.

use super::home;
use crate::cli::{Cli, Logs};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_runner::console::{Colour, Prefixer};
use bivouac_runner::logs::{Begin, Line, More, Past, Reader, Stream, tamed};
use bivouac_runner::overview::{self, Entry, Selection};
use jiff::Timestamp;
use std::time::Duration;

/// The longest piece of a line that becomes a JSON document of its own.
const LONGEST: usize = 256 * 1024;

/// How it is shown.
struct View {
    since: Option<i64>,
    times: Times,
    form: Form,
}

/// Whether lines begin with their times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Shown,
    Hidden,
}

/// What becomes of a task's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A JSON document a line.
    Json,
    /// As they are.
    Raw,
    /// As a terminal may have them.
    Tame,
}

/// One stream that is shown.
struct Shown {
    reader: Reader,
    prefixer: Option<Prefixer>,
    id: String,
    task: String,
    stream: Stream,
    /// A line whose end is not there yet, for JSON, and its time.
    held: Vec<u8>,
    held_time: Option<i64>,
}

pub(super) fn logs(cli: &Cli, logs: &Logs) -> Result<u8> {
    let home = home(cli)?;
    let selection = overview::find(&home, &logs.what)?;
    let view = View::of(logs);
    let tasks = tasks(&selection, logs)?;
    let colour = if ui::has_colour() { Colour::On } else { Colour::Off };
    let width = tasks.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
    let past = logs.tail.map_or(Past::All, Past::Lines);
    let mut readers = Vec::new();
    for (index, (entry, task)) in tasks.iter().enumerate() {
        for stream in streams(logs) {
            readers.push(Shown {
                reader: Reader::open(&home.alloc_dir(&entry.state.id), task, *stream, past)?,
                prefixer: (tasks.len() > 1).then(|| Prefixer::new(task, index, width, colour)),
                id: entry.state.id.clone(),
                task: (*task).to_owned(),
                stream: *stream,
                held: Vec::new(),
                held_time: None,
            });
        }
    }
    loop {
        let more = show_all(&mut readers, &view)?;
        let over = || selection.entries.iter().all(|entry| !entry.keep.is_supervised());
        if !logs.follow || (!more && over() && !show_all(&mut readers, &view)?) {
            readers.iter_mut().for_each(Shown::finish);
            return Ok(0);
        }
        // New files and growth of the old ones: a reader's pace, and no cost to anybody else.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn streams(logs: &Logs) -> &'static [Stream] {
    match (logs.stderr, logs.stdout) {
        (true, false) => &[Stream::Stderr],
        (false, true) => &[Stream::Stdout],
        _ => &[Stream::Stdout, Stream::Stderr],
    }
}

/// The tasks that are meant, each with its allocation.
fn tasks<'a>(selection: &'a Selection, logs: &Logs) -> Result<Vec<(&'a Entry, &'a str)>> {
    let mut tasks = Vec::new();
    for entry in &selection.entries {
        let named = entry.state.tasks.iter().enumerate().filter(|(index, task)| match &logs.task {
            Some(name) => *name == task.name,
            None => selection.task.is_none_or(|wanted| wanted == *index),
        });
        tasks.extend(named.map(|(_, task)| (entry, task.name.as_str())));
    }
    if tasks.is_empty() {
        bail!("no task {:?} in {}", logs.task.clone().unwrap_or_default(), logs.what);
    }
    Ok(tasks)
}

impl View {
    fn of(logs: &Logs) -> View {
        View {
            since: logs.since.map(|since| since.unix_millis(Timestamp::now())),
            times: if logs.timestamps { Times::Shown } else { Times::Hidden },
            form: match (logs.json, logs.raw || !ui::is_output_terminal()) {
                (true, _) => Form::Json,
                (false, true) => Form::Raw,
                (false, false) => Form::Tame,
            },
        }
    }

    /// Whether a line is asked for; one of unknown time is.
    fn wants(&self, line: &Line<'_>) -> bool {
        match (self.since, line.unix_millis) {
            (Some(since), Some(time)) => time >= since,
            _ => true,
        }
    }
}

/// Shows what there is now; whether there was anything.
fn show_all(readers: &mut [Shown], view: &View) -> Result<bool> {
    let mut any = false;
    let mut buffer = Vec::new();
    for shown in readers {
        while shown.reader.next(&mut buffer)? == More::Perhaps {
            any = true;
            shown.show(&buffer, view);
        }
    }
    Ok(any)
}

impl Shown {
    fn show(&mut self, piece: &[u8], view: &View) {
        if view.form != Form::Json && view.since.is_none() && view.times == Times::Hidden {
            // Nothing is asked of single lines.
            return self.write(&form(piece, view.form));
        }
        let mut out = Vec::with_capacity(piece.len());
        for line in self.reader.lines(piece).into_iter().filter(|line| view.wants(line)) {
            if view.form == Form::Json {
                self.hold(&line);
                continue;
            }
            if view.times == Times::Shown && line.begin == Begin::Here {
                let time = ui::log_time(line.unix_millis);
                out.extend_from_slice(time.as_deref().unwrap_or("-").as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(&form(line.bytes, view.form));
        }
        self.write(&out);
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.prefixer {
            Some(prefixer) => {
                let mut lines = Vec::with_capacity(bytes.len());
                prefixer.feed(bytes, &mut lines);
                ui::bytes(&lines);
            }
            None => ui::bytes(bytes),
        }
    }

    /// A document for each whole line.
    fn hold(&mut self, line: &Line<'_>) {
        if self.held.is_empty() {
            self.held_time = line.unix_millis;
        }
        self.held.extend_from_slice(line.bytes);
        if line.bytes.ends_with(b"\n") || self.held.len() >= LONGEST {
            self.release();
        }
    }

    fn release(&mut self) {
        let time = ui::log_time(self.held_time);
        ui::log_line(&self.id, &self.task, self.stream.as_str(), time.as_deref(), &self.held);
        self.held.clear();
    }

    /// What has no end yet is shown as it is.
    fn finish(&mut self) {
        if !self.held.is_empty() {
            self.release();
        }
        let mut rest = Vec::new();
        if let Some(prefixer) = &mut self.prefixer {
            prefixer.finish(&mut rest);
        }
        ui::bytes(&rest);
    }
}

fn form(bytes: &[u8], form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    match form {
        Form::Tame => tamed(bytes, &mut out),
        Form::Raw | Form::Json => out.extend_from_slice(bytes),
    }
    out
}
