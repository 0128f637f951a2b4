//! The commands: each reads its arguments, asks the runner or the driver, and hands what it learned to `ui`.

mod admin;
mod files;
mod job;
mod logs;
mod nomad;
mod output;
mod run;
mod tasks;
mod top;

use crate::cli::{Cli, Command, Disk, Job, JobCommand, Variables};
use crate::{complete, ui};
use anyhow::{Context, Result};
use bivouac_driver::engine::{Engine, Places};
use bivouac_driver::options::Value;
use bivouac_jobspec::Outcome;
use bivouac_runner::disk_limit::Way;
use bivouac_runner::load::Origin;
use bivouac_runner::machine::Machine;
use bivouac_runner::report::{Level, Report};
use bivouac_runner::state::Home;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Carries a command out; its exit status.
///
/// # Errors
/// Anything that is told in one line and makes the exit status 125 (or what the error says).
pub(crate) fn run(cli: Cli) -> Result<u8> {
    match &cli.command {
        Command::Run(run) => run::run(&cli, run),
        Command::Supervise(supervise) => run::supervise(&cli, &supervise.id),
        Command::Schedule { name } => run::schedule(&cli, name),
        Command::Resume => run::resume(&cli),
        Command::Ps(listing) => tasks::ps(&cli, listing),
        Command::Exec(exec) => tasks::exec(&cli, exec),
        Command::Signal(signal) => tasks::signal(&cli, signal),
        Command::Stop(stop) => tasks::stop(&cli, stop),
        Command::Restart(restart) => tasks::restart(&cli, restart),
        Command::Stats(stats) => output::stats(&cli, stats),
        Command::Top(top) => top::top(&cli, top),
        Command::Events(events) => output::events(&cli, events),
        Command::Logs(logs) => logs::logs(&cli, logs),
        Command::Dispatch(dispatch) => run::dispatch(&cli, dispatch),
        Command::Action(action) => tasks::action(&cli, action),
        Command::Fs(fs) => files::fs(&cli, fs),
        Command::Cp(cp) => files::cp(&cli, cp),
        Command::Inspect(inspect) => admin::inspect(&cli, inspect),
        Command::Validate(validate) => job::validate(&cli, validate),
        Command::Plan(plan) => job::plan(&cli, plan),
        Command::Job(Job { command: JobCommand::Init(init) }) => job::init(init),
        Command::Job(Job { command: JobCommand::Fmt(fmt) }) => job::fmt(fmt),
        Command::Doctor(doctor) => admin::doctor(&cli, doctor),
        Command::Volume(volume) => admin::volume(&cli, volume),
        Command::Gc => admin::gc(&cli),
        Command::Completion { shell } => Ok(ui::completion(*shell)),
        Command::Complete { words } => ui::lines(&complete::candidates(words)),
        Command::Man => ui::man(),
    }
}

fn engine() -> Result<Engine> {
    Ok(Engine::new(Places::usual())?)
}

fn home(cli: &Cli) -> Result<Home> {
    let way = match cli.places.disk {
        Disk::Off => Way::Off,
        Disk::Memory => Way::Memory,
        Disk::Image => Way::Image,
        Disk::Quota => Way::Quota,
    };
    Ok(Home::new(std::path::absolute(&cli.places.state_dir).context("--state-dir")?).with_disks(way))
}

/// The operator's configuration: the file that was named, or the usual one if it is there.
fn configuration(cli: &Cli) -> Option<PathBuf> {
    const USUAL: &str = "/etc/bivouac/config.hcl";
    cli.places.config.clone().or_else(|| Path::new(USUAL).exists().then(|| PathBuf::from(USUAL)))
}

/// What it says; without a file, the defaults.
fn machine(path: Option<&Path>) -> Result<Machine> {
    let empty = Value::Map(Vec::new());
    let tree = path.map(bivouac_runner::load::operator).transpose()?.unwrap_or(empty);
    let machine = Machine::of(tree).map_err(anyhow::Error::msg);
    match path {
        Some(path) => machine.with_context(|| format!("in {}", path.display())),
        None => machine,
    }
}

fn load(job: &Path, variables: &Variables) -> Result<Outcome> {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix("NOMAD_VAR_")?.to_owned();
        Some((name, value.to_str()?.to_owned()))
    };
    let origin = Origin {
        job: job.to_path_buf(),
        variables: variables.var.clone(),
        variable_files: variables.var_file.clone(),
        environment: std::env::vars_os().filter_map(named).collect(),
    };
    let outcome = origin.load()?;
    for note in &outcome.notes {
        let report = Report::new(Level::Note, note.message.as_str());
        ui::say(&report.about("place", outcome.sources.place(note.span).to_string()));
    }
    Ok(outcome)
}

/// Volumes of the command line, with absolute paths: whoever takes them up later stands elsewhere.
fn absolute(volumes: &[String]) -> Result<Vec<String>> {
    let whole = |text: &String| {
        let (name, rest) =
            text.split_once('=').with_context(|| format!("volume {text:?} is not NAME=PATH[:ro]"))?;
        let path = std::path::absolute(rest).with_context(|| format!("volume {text:?}"))?;
        Ok(format!("{name}={}", path.to_str().with_context(|| format!("volume {text:?} is not UTF-8"))?))
    };
    volumes.iter().map(whole).collect()
}
