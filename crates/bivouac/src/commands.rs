//! The commands: each reads its arguments, asks the runner or the driver, and hands what it learned to `ui`.

use crate::adhoc;
use crate::cli::{
    Cli, Command, Doctor, Exec, Inspect, Listing, Run, Signal, Stats, Stop, Validate, Variables,
};
use crate::ui;
use anyhow::{Context, Result, bail};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, Places, Standing};
use bivouac_driver::options::Value;
use bivouac_driver::request::{ExecRequest, Streams};
use bivouac_jobspec::Outcome;
use bivouac_runner::allocation::{self, Allocation, HostVolumes, Scene};
use bivouac_runner::console::Colour;
use bivouac_runner::load::Origin;
use bivouac_runner::node::Node;
use bivouac_runner::supervise::{self, Attach, Keep, Remarks, Show};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Carries a command out; its exit status.
///
/// # Errors
/// Anything that is told in one line and makes the exit status 125 (or what the error says).
pub(crate) fn run(cli: Cli) -> Result<u8> {
    match &cli.command {
        Command::Run(run) => run_command(&cli, run),
        Command::Ps(listing) => ps(listing),
        Command::Exec(exec) => exec_command(exec),
        Command::Signal(signal) => signal_command(signal),
        Command::Stop(stop) => stop_command(stop),
        Command::Stats(stats) => stats_command(stats),
        Command::Inspect(inspect) => inspect_command(&cli, inspect),
        Command::Validate(validate) => validate_command(validate),
        Command::Doctor(doctor) => doctor_command(&cli, doctor),
        Command::Gc => gc(),
        Command::Completion { shell } => Ok(ui::completion(*shell)),
        Command::Man => ui::man(),
    }
}

fn engine() -> Result<Engine> {
    Ok(Engine::new(Places::usual())?)
}

/// The operator's configuration: the file that was named, or the usual one if it is there, else the defaults.
fn operator(cli: &Cli) -> Result<OperatorConfig> {
    const USUAL: &str = "/etc/bivouac/config.hcl";
    let path = match &cli.config {
        Some(path) => path.clone(),
        None if Path::new(USUAL).exists() => PathBuf::from(USUAL),
        None => return Ok(OperatorConfig::decode(&Value::Map(Vec::new()))?),
    };
    let value = bivouac_runner::load::operator(&path)?;
    OperatorConfig::decode(&value).with_context(|| format!("in {}", path.display()))
}

fn origin(job: &Path, variables: &Variables) -> Origin {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix("NOMAD_VAR_")?.to_owned();
        Some((name, value.to_str()?.to_owned()))
    };
    Origin {
        job: job.to_path_buf(),
        variables: variables.var.clone(),
        variable_files: variables.var_file.clone(),
        environment: std::env::vars_os().filter_map(named).collect(),
    }
}

fn load(job: &Path, variables: &Variables) -> Result<Outcome> {
    let outcome = origin(job, variables).load()?;
    for note in &outcome.notes {
        ui::note(&format!("{}: {}", outcome.sources.place(note.span), note.message));
    }
    Ok(outcome)
}

fn plan(cli: &Cli, outcome: &Outcome) -> Result<Vec<Allocation>> {
    let state_dir = std::path::absolute(&cli.state_dir)?;
    let scene = Scene {
        node: &Node::of_this_machine(),
        state_dir: &state_dir,
        volumes: &HostVolumes::new(),
        new_id: &allocation::new_id,
    };
    Ok(allocation::plan(outcome, &scene)?)
}

fn run_command(cli: &Cli, run: &Run) -> Result<u8> {
    let operator = operator(cli)?;
    let allocations = match (&run.job, run.command.is_empty()) {
        (Some(job), true) => plan(cli, &load(job, &run.variables)?)?,
        (None, false) => {
            let state_dir = std::path::absolute(&cli.state_dir)?;
            vec![adhoc::allocation(&run.adhoc, &run.command, &allocation::new_id(), &state_dir)?]
        }
        _ => bail!("name a job file, or give a command after `--`"),
    };
    if run.adhoc.tty && !ui::is_terminal() {
        bail!("--tty: standard input is not a terminal");
    }
    let show = Show {
        attach: match (run.adhoc.tty, run.adhoc.interactive) {
            (true, _) => Attach::Terminal,
            (false, true) => Attach::Input,
            (false, false) => Attach::Output,
        },
        colour: if ui::has_colour() { Colour::On } else { Colour::Off },
        remarks: if run.quiet { Remarks::Silent } else { Remarks::Written },
    };
    let keep = if run.keep { Keep::Yes } else { Keep::No };
    let engine = Arc::new(engine()?);
    Ok(supervise::run(&engine, &operator, &allocations, show, keep)?)
}

/// A task by its whole id, the beginning of it, or its name; ambiguous ones are refused with the candidates.
fn find(engine: &Engine, asked: &str) -> Result<String> {
    let all = engine.list()?;
    if all.iter().any(|id| id == asked) {
        return Ok(asked.to_owned());
    }
    let by_name = |id: &&String| id.rsplit_once('/').is_some_and(|(_, name)| name == asked);
    let mut matching: Vec<&String> = all.iter().filter(by_name).collect();
    if matching.is_empty() {
        matching = all.iter().filter(|id| id.starts_with(asked)).collect();
    }
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => bail!("no task {asked:?}; `bivouac ps` lists them"),
        several => {
            let names: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            bail!("{asked:?} fits several tasks: {}", names.join(", "))
        }
    }
}

fn ps(listing: &Listing) -> Result<u8> {
    let engine = engine()?;
    let mut rows = Vec::new();
    for id in engine.list()? {
        let row = match engine.find(&id) {
            Ok(Standing::Alive(mut client)) => match client.state() {
                Ok(status) => ui::TaskRow::of(&id, &status),
                // Its face collected it in between.
                Err(_) => continue,
            },
            Ok(Standing::Ended(status, _)) => ui::TaskRow::of(&id, &status),
            Ok(Standing::Lost(text)) => ui::TaskRow::lost(&id, &text),
            // It ended between the list and the question.
            Err(_) => continue,
        };
        rows.push(row);
    }
    ui::tasks(&rows, listing.json)
}

fn exec_command(exec: &Exec) -> Result<u8> {
    if exec.tty && !ui::is_terminal() {
        bail!("--tty: standard input is not a terminal");
    }
    let engine = engine()?;
    let id = find(&engine, &exec.task)?;
    let words =
        exec.command.iter().map(|word| word.to_str().map(str::to_owned).context("the command is not UTF-8"));
    let command = words.collect::<Result<Vec<_>>>()?;
    let attach = match (exec.tty, exec.interactive) {
        (true, _) => Attach::Terminal,
        (false, true) => Attach::Input,
        (false, false) => Attach::Output,
    };
    let start = |streams: Streams| {
        engine.exec(&id, ExecRequest { command: command.clone(), streams, deadline: None })
    };
    Ok(bivouac_runner::session::follow(attach, start)?)
}

fn signal_command(signal: &Signal) -> Result<u8> {
    let number = bivouac_driver::signals::Signal::parse(&signal.signal)?;
    let engine = engine()?;
    engine.signal(&find(&engine, &signal.task)?, number)?;
    Ok(0)
}

fn stop_command(stop: &Stop) -> Result<u8> {
    let grace = stop.timeout.as_deref().map(adhoc::duration).transpose().context("--timeout")?;
    let engine = engine()?;
    for task in &stop.tasks {
        let id = find(&engine, task)?;
        let rule = engine.stop_rule(&id)?;
        if let Some(exit) = engine.stop(&id, rule.signal, grace.unwrap_or(rule.grace))? {
            for text in supervise::explain(&exit) {
                ui::note(&format!("{task}: {text}"));
            }
        }
    }
    Ok(0)
}

fn stats_command(stats: &Stats) -> Result<u8> {
    let engine = engine()?;
    let ids = if stats.tasks.is_empty() {
        engine.list()?
    } else {
        stats.tasks.iter().map(|task| find(&engine, task)).collect::<Result<_>>()?
    };
    let mut rows = Vec::new();
    for id in ids {
        // One that has ended has no figures; asked for by name, that is an error.
        match engine.client(&id).map_err(anyhow::Error::from).and_then(|mut client| Ok(client.stats()?)) {
            Ok(figures) => rows.push((id, figures)),
            Err(_) if stats.tasks.is_empty() => {}
            Err(error) => return Err(error.context(id)),
        }
    }
    ui::figures(&rows, stats.json)
}

fn inspect_command(cli: &Cli, inspect: &Inspect) -> Result<u8> {
    let engine = engine()?;
    if !inspect.plan {
        let id = find(&engine, &inspect.what)?;
        return match engine.find(&id)? {
            Standing::Alive(mut client) => ui::json(&client.state()?),
            Standing::Ended(status, _) => ui::json(&status),
            Standing::Lost(text) => bail!("{id}: {text}"),
        };
    }
    let operator = operator(cli)?;
    for allocation in plan(cli, &load(Path::new(&inspect.what), &inspect.variables)?)? {
        for task in &allocation.tasks {
            let rehearsed = engine.rehearse(&operator, &task.request)?;
            let survey = bivouac_sandbox::survey::Survey::for_rehearsal(&rehearsed.sandbox)?;
            let plan =
                bivouac_sandbox::plan::Plan::for_sandbox(&rehearsed.sandbox, &survey, engine.features())?;
            ui::plan(&allocation.name, &task.name, &plan, &rehearsed.cgroup);
        }
    }
    Ok(0)
}

fn validate_command(validate: &Validate) -> Result<u8> {
    let outcome = load(&validate.job, &validate.variables)?;
    ui::note(&format!("{}: job {:?} is valid", validate.job.display(), outcome.job.id));
    Ok(0)
}

fn doctor_command(cli: &Cli, doctor: &Doctor) -> Result<u8> {
    let operator = operator(cli)?;
    let evidence = bivouac_driver::fingerprint::Evidence::of_host(&Places::usual().shim);
    ui::doctor(&evidence.health(), &operator, doctor.json)
}

/// Forgets foreground runs that ended without their face, and what crashes have left. Directories stay: they may
/// hold somebody's work.
fn gc() -> Result<u8> {
    let collected = bivouac_runner::gc::runs(&engine()?, &allocation::is_ours)?;
    for id in &collected.removed {
        ui::note(&format!("removed what was left of {id}"));
    }
    for (id, error) in &collected.kept {
        ui::note(&format!("{id} is left for another try: {error}"));
    }
    Ok(u8::from(!collected.kept.is_empty()))
}
