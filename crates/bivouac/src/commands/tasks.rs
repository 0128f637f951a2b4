//! Commands about what runs: list it, enter it, signal it, restart it, stop it.

use super::run::attach;
use super::{engine, home};
use crate::cli::{Action, Cli, Exec, Form, Listing, Restart, Signal, Stop};
use crate::rows::{AllocRow, JobRow, TaskRow};
use crate::ui;
use anyhow::{Context, Result, bail};
use bivouac_driver::engine::{Engine, EngineError, Standing};
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_runner::allocation::is_ours;
use bivouac_runner::control::{self, Request};
use bivouac_runner::lifecycle::Delay;
use bivouac_runner::overview::{self, Entry, FindError};
use bivouac_runner::registry::{self, Registered};
use bivouac_runner::state::Home;
use std::time::Duration;

pub(super) fn ps(cli: &Cli, listing: &Listing) -> Result<u8> {
    let home = home(cli)?;
    loop {
        let (rows, foreign) = rows(&home, listing)?;
        let jobs = jobs(&home)?;
        if !listing.watch {
            return ui::processes(&rows, &foreign, &jobs, listing.written.form());
        }
        ui::clear();
        ui::processes(&rows, &foreign, &jobs, Form::Table)?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Jobs that are started later.
fn jobs(home: &Home) -> Result<Vec<JobRow>> {
    let (jobs, unreadable) = registry::all(home)?;
    unreadable.iter().for_each(|error| ui::warn(&error.to_string()));
    let row = |job: &Registered| {
        let (next, why) = match job.next() {
            Ok(next) => (next, String::new()),
            Err(error) => (None, error.to_string()),
        };
        JobRow::of(job, next, why)
    };
    Ok(jobs.iter().map(row).collect())
}

/// Our allocations as they were written down, and the runs of other faces as their shims tell.
fn rows(home: &Home, listing: &Listing) -> Result<(Vec<AllocRow>, Vec<TaskRow>)> {
    let (entries, unreadable) = overview::all(home)?;
    for error in unreadable {
        ui::warn(&error.to_string());
    }
    let ours = entries.iter().filter(|entry| listing.all || entry.is_live()).map(AllocRow::of).collect();
    let engine = engine()?;
    let mut foreign = Vec::new();
    for id in engine.list()?.into_iter().filter(|id| is_foreign(home, id)) {
        match engine.find(&id) {
            // It may end, or be collected, between the list and the question.
            Ok(Standing::Alive(mut client)) => {
                foreign.extend(client.state().ok().map(|status| TaskRow::of_shim(&id, &status)));
            }
            Ok(Standing::Ended(status, _)) if listing.all => foreign.push(TaskRow::of_shim(&id, &status)),
            Ok(Standing::Ended(..) | Standing::Lost(_)) | Err(_) => {}
        }
    }
    Ok((ours, foreign))
}

/// Whether a run belongs to another face, such as Nomad's: ours of other state directories are not shown.
fn is_foreign(home: &Home, id: &str) -> bool {
    let known = id.split_once('/').is_some_and(|(alloc, _)| home.keep(alloc).path().exists());
    !is_ours(id) && !known
}

/// The run of the one task that is meant: of ours, else of another face.
pub(super) fn run_of(home: &Home, engine: &Engine, asked: &str) -> Result<String> {
    match overview::find(home, asked) {
        Ok(selection) => {
            let (entry, task) = selection.task(asked)?;
            let name = entry.state.tasks.get(task).map(|task| task.name.clone()).unwrap_or_default();
            Ok(format!("{}/{name}", entry.state.id))
        }
        Err(FindError::Unknown(_)) => foreign(home, engine, asked),
        Err(error) => Err(error.into()),
    }
}

fn foreign(home: &Home, engine: &Engine, asked: &str) -> Result<String> {
    let all: Vec<String> = engine.list()?.into_iter().filter(|id| is_foreign(home, id)).collect();
    let mut matching: Vec<&String> = all.iter().filter(|id| *id == asked).collect();
    if matching.is_empty() && !asked.is_empty() {
        matching = all.iter().filter(|id| id.starts_with(asked)).collect();
    }
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(FindError::Unknown(asked.to_owned()).into()),
        several => {
            let candidates = several.iter().map(|id| (*id).clone()).collect();
            Err(FindError::Ambiguous { asked: asked.to_owned(), candidates }.into())
        }
    }
}

pub(super) fn exec(cli: &Cli, exec: &Exec) -> Result<u8> {
    if exec.tty && !ui::is_terminal() {
        bail!("--tty: standard input is not a terminal");
    }
    let engine = engine()?;
    let id = run_of(&home(cli)?, &engine, &exec.task)?;
    let words =
        exec.command.iter().map(|word| word.to_str().map(str::to_owned).context("the command is not UTF-8"));
    let command = words.collect::<Result<Vec<_>>>()?;
    let start = |streams: Streams| {
        engine.exec(&id, ExecRequest { command: command.clone(), streams, deadline: None })
    };
    let attach = attach(exec.tty, exec.interactive);
    match bivouac_runner::session::follow(attach, start) {
        Err(bivouac_runner::session::SessionError::Engine(EngineError::Unknown)) => {
            bail!("task {:?} is not running.", exec.task)
        }
        other => Ok(other?),
    }
}

pub(super) fn action(cli: &Cli, action: &Action) -> Result<u8> {
    let (entry, index) = overview::find(&home(cli)?, &action.task)?.task(&action.task)?;
    let plan = entry.keep.plan()?;
    let Some(task) = plan.allocation.tasks.get(index) else { bail!("no task {:?}", action.task) };
    let Some(name) = &action.action else {
        return ui::actions(&task.actions, action.written.form());
    };
    let Some(found) = task.actions.iter().find(|action| action.name == *name) else {
        let known: Vec<&str> = task.actions.iter().map(|action| action.name.as_str()).collect();
        bail!("task {:?} has no action {name:?}; it has: {}", task.member.name, known.join(", "));
    };
    let command: Vec<String> = std::iter::once(&found.command).chain(&found.args).cloned().collect();
    let engine = engine()?;
    let id = plan.allocation.run_id(index);
    let start = |streams: Streams| engine.exec(&id, ExecRequest { command, streams, deadline: None });
    Ok(bivouac_runner::session::follow(attach(action.tty, false), start)?)
}

pub(super) fn signal(cli: &Cli, signal: &Signal) -> Result<u8> {
    let number = signal.signal;
    let home = home(cli)?;
    match overview::find(&home, &signal.task) {
        Ok(selection) => {
            let task = selection.task;
            for entry in selection.entries {
                let task = task.and_then(|task| entry.state.tasks.get(task)).map(|task| task.name.clone());
                control::ask(&entry.keep, &Request::Signal { task, signal: number.number() })?;
            }
        }
        Err(FindError::Unknown(_)) => {
            let engine = engine()?;
            engine.signal(&foreign(&home, &engine, &signal.task)?, number)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(0)
}

pub(super) fn restart(cli: &Cli, restart: &Restart) -> Result<u8> {
    let selection = overview::find(&home(cli)?, &restart.what)?;
    let task = selection.task;
    if restart.all_tasks && task.is_some() {
        bail!("--all-tasks restarts an allocation, not a task of it");
    }
    for entry in selection.entries {
        let task = task.and_then(|task| entry.state.tasks.get(task)).map(|task| task.name.clone());
        if entry.state.machine.is_over() {
            bail!("restart of an alloc that should not run");
        }
        let request = if restart.all_tasks { Request::Renew } else { Request::Restart { task } };
        control::ask(&entry.keep, &request)?;
    }
    Ok(0)
}

pub(super) fn stop(cli: &Cli, stop: &Stop) -> Result<u8> {
    let grace = stop.timeout;
    let home = home(cli)?;
    for asked in &stop.tasks {
        if let Some(known) = registry::find(&home, asked)? {
            super::run::unregister(&known)?;
            ui::note(&format!("{asked} starts nothing any more; runs that it has started go on"));
            // A plain job of the same name may run, too.
            if matches!(overview::find(&home, asked), Err(FindError::Unknown(_))) {
                continue;
            }
        }
        match overview::find(&home, asked) {
            Ok(selection) => {
                let task = selection.task;
                stop_all(&selection.entries, task, grace, stop)?;
            }
            Err(FindError::Unknown(_)) => {
                let engine = engine()?;
                let id = foreign(&home, &engine, asked)?;
                let rule = engine.stop_rule(&id)?;
                engine.stop(&id, rule.signal, grace.unwrap_or(rule.grace))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// Ends allocations that are replaced, each with its own grace period.
pub(super) fn stop_entries(entries: &[&Entry]) -> Result<()> {
    let request = Request::Stop { task: None, grace_ms: None, delay: Delay::Kept };
    std::thread::scope(|scope| {
        let request = &request;
        let waits: Vec<_> =
            entries.iter().map(|entry| scope.spawn(move || control::ask(&entry.keep, request))).collect();
        let results = waits.into_iter().map(|wait| match wait.join() {
            Ok(asked) => Ok(asked?),
            Err(_) => bail!("a wait failed"),
        });
        results.collect::<Result<()>>()
    })
}

/// All allocations of a job at the same time: each may take its whole grace period.
fn stop_all(entries: &[Entry], task: Option<usize>, grace: Option<Duration>, stop: &Stop) -> Result<()> {
    let one = |entry: &Entry| -> Result<()> {
        let task = task.and_then(|task| entry.state.tasks.get(task)).map(|task| task.name.clone());
        let request = Request::Stop {
            task,
            grace_ms: grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
            delay: if stop.no_shutdown_delay { Delay::Skipped } else { Delay::Kept },
        };
        match control::ask(&entry.keep, &request) {
            // It is over already, which is what was wanted.
            Err(control::ControlError::Nobody { .. }) if entry.state.machine.is_over() => Ok(()),
            other => Ok(other?),
        }
    };
    std::thread::scope(|scope| {
        let waits: Vec<_> = entries.iter().map(|entry| scope.spawn(move || one(entry))).collect();
        let results = waits.into_iter().map(|wait| wait.join().unwrap_or_else(|_| bail!("a wait failed")));
        results.collect::<Result<()>>()
    })
}
