//! `logs`: what tasks said, of several tasks and both streams, with its times, while it is being said.

use super::home;
use crate::cli::{Cli, Logs};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_runner::console::{Colour, Prefixer};
use bivouac_runner::logs::{Begin, Line, Merge, More, Pass, Past, Reader, Stream, tamed};
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

/// So much is gathered before it is written.
const GATHERED: usize = 64 * 1024;

/// Where what is shown is read.
enum Source {
    /// One stream, in pieces.
    One(Reader),
    /// Several, line by line.
    Several(Merge),
}

/// One stream that is shown.
struct Shown {
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
    let tasks = tasks(&selection, logs)?;
    let colour = if ui::has_colour() { Colour::On } else { Colour::Off };
    let width = tasks.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
    let past = logs.tail.map_or(Past::All, Past::Lines);
    let (mut readers, mut shown) = (Vec::new(), Vec::new());
    for (index, (entry, task)) in tasks.iter().enumerate() {
        for stream in streams(logs) {
            readers.push(Reader::open(&home.alloc_dir(&entry.state.id), task, *stream, past)?);
            shown.push(Shown {
                prefixer: (tasks.len() > 1).then(|| Prefixer::new(task, index, width, colour)),
                id: entry.state.id.clone(),
                task: (*task).to_owned(),
                stream: *stream,
                held: Vec::new(),
                held_time: None,
            });
        }
    }
    let source = match readers.pop() {
        Some(reader) if readers.is_empty() => Source::One(reader),
        last => Source::Several(Merge::new(readers.into_iter().chain(last).collect(), past)),
    };
    let mut screen = Screen { source, shown, view: View::of(logs), unfinished: None };
    loop {
        let now = Timestamp::now().as_millisecond();
        let pass = if logs.follow { Pass::Settled { now } } else { Pass::Whole };
        let more = screen.pass(pass)?;
        let over = || selection.entries.iter().all(|entry| !entry.keep.is_supervised());
        if !logs.follow || (more == More::NotNow && over() && screen.pass(Pass::Whole)? == More::NotNow) {
            screen.finish();
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

/// All that is shown, and what is on the screen of it.
struct Screen {
    source: Source,
    shown: Vec<Shown>,
    view: View,
    /// The stream whose line is the last one there and has no end.
    unfinished: Option<usize>,
}

impl Screen {
    /// Shows what there is now; whether there was anything.
    fn pass(&mut self, pass: Pass) -> Result<More> {
        let Screen { source, shown, view, unfinished } = self;
        match (source, shown.as_mut_slice()) {
            (Source::One(reader), [shown]) => show_stream(reader, shown, view),
            (Source::Several(merge), shown) => {
                let mut out = Vec::new();
                let any = merge.pass(pass, |at, line| {
                    if !view.wants(&line) {
                        return;
                    }
                    let Some(shown) = shown.get_mut(at) else { return };
                    if view.form == Form::Json {
                        return shown.hold(&line);
                    }
                    if shown.prefixer.is_none() {
                        if unfinished.is_some_and(|other| other != at) {
                            out.push(b'\n');
                        }
                        *unfinished = (!line.bytes.ends_with(b"\n")).then_some(at);
                    }
                    shown.line(&line, view, &mut out);
                    if out.len() >= GATHERED {
                        ui::bytes(&out);
                        out.clear();
                    }
                })?;
                ui::bytes(&out);
                Ok(any)
            }
            (Source::One(_), _) => Ok(More::NotNow),
        }
    }

    fn finish(&mut self) {
        self.shown.iter_mut().for_each(Shown::finish);
    }
}

/// One stream alone, a piece at a time; whether there was anything.
fn show_stream(reader: &mut Reader, shown: &mut Shown, view: &View) -> Result<More> {
    let mut any = More::NotNow;
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    while reader.next(&mut buffer)? == More::Perhaps {
        any = More::Perhaps;
        out.clear();
        if view.form != Form::Json && view.since.is_none() && view.times == Times::Hidden {
            // Nothing is asked of single lines.
            shown.prefixed(&form(&buffer, view.form), &mut out);
        } else {
            for line in reader.lines(&buffer).into_iter().filter(|line| view.wants(line)) {
                match view.form {
                    Form::Json => shown.hold(&line),
                    Form::Raw | Form::Tame => shown.line(&line, view, &mut out),
                }
            }
        }
        ui::bytes(&out);
    }
    Ok(any)
}

impl Shown {
    /// A line, or a piece of one, as it is shown.
    fn line(&mut self, line: &Line<'_>, view: &View, out: &mut Vec<u8>) {
        if view.times == Times::Shown && line.begin == Begin::Here {
            let time = ui::log_time(line.unix_millis);
            self.prefixed(time.as_deref().unwrap_or("-").as_bytes(), out);
            self.prefixed(b" ", out);
        }
        self.prefixed(&form(line.bytes, view.form), out);
    }

    /// Behind the task's name, where there are several.
    fn prefixed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.prefixer {
            Some(prefixer) => prefixer.feed(bytes, out),
            None => out.extend_from_slice(bytes),
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
