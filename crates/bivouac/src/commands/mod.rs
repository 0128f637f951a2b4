//! The commands: each reads its arguments, asks the runner or the driver, and hands what it learned to `ui`.

mod admin;
mod files;
mod nomad;
mod output;
mod run;
mod tasks;
mod top;

use crate::cli::{Cli, Command, Disk, Variables};
use crate::ui;
use anyhow::{Context, Result};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, Places};
use bivouac_driver::options::Value;
use bivouac_jobspec::Outcome;
use bivouac_runner::allocation::{self, Allocation};
use bivouac_runner::disk_limit::Way;
use bivouac_runner::load::Origin;
use bivouac_runner::node::Node;
use bivouac_runner::planning::{self, Payload, Scene};
use bivouac_runner::state::Home;
use bivouac_runner::volumes;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Carries a command out; its exit status.
///
/// # Errors
/// Anything that is told in one line and makes the exit status 125 (or what the error says).
pub(crate) fn run(cli: Cli) -> Result<u8> {
    match &cli.command {
        Command::Run(run) => run::run(&cli, run),
        Command::Supervise { id } => run::supervise(&cli, id),
        Command::Resume => run::resume(&cli),
        Command::Ps(listing) => tasks::ps(&cli, listing),
        Command::Exec(exec) => tasks::exec(&cli, exec),
        Command::Signal(signal) => tasks::signal(&cli, signal),
        Command::Stop(stop) => tasks::stop(&cli, stop),
        Command::Restart(restart) => tasks::restart(&cli, restart),
        Command::Stats(stats) => output::stats(&cli, stats),
        Command::Top(top) => top::top(&cli, top),
        Command::Events(events) => output::events(&cli, events),
        Command::Logs(logs) => output::logs(&cli, logs),
        Command::Dispatch(dispatch) => run::dispatch(&cli, dispatch),
        Command::Action(action) => tasks::action(&cli, action),
        Command::Fs(fs) => files::fs(&cli, fs),
        Command::Cp(cp) => files::cp(&cli, cp),
        Command::Inspect(inspect) => admin::inspect(&cli, inspect),
        Command::Validate(validate) => admin::validate(validate),
        Command::Doctor(doctor) => admin::doctor(&cli, doctor),
        Command::Volume(volume) => admin::volume(&cli, volume),
        Command::Gc => admin::gc(&cli),
        Command::Completion { shell } => Ok(ui::completion(*shell)),
        Command::Man => ui::man(),
    }
}

fn engine() -> Result<Engine> {
    Ok(Engine::new(Places::usual())?)
}

fn home(cli: &Cli) -> Result<Home> {
    let way = match cli.disk {
        Disk::Off => Way::Off,
        Disk::Memory => Way::Memory,
        Disk::Image => Way::Image,
    };
    Ok(Home::new(std::path::absolute(&cli.state_dir).context("--state-dir")?).with_disks(way))
}

/// The operator's configuration: the file that was named, or the usual one if it is there.
fn configuration(cli: &Cli) -> Option<PathBuf> {
    const USUAL: &str = "/etc/bivouac/config.hcl";
    cli.config.clone().or_else(|| Path::new(USUAL).exists().then(|| PathBuf::from(USUAL)))
}

/// What it says; without a file, the defaults.
fn operator(path: Option<&Path>) -> Result<OperatorConfig> {
    let Some(path) = path else { return Ok(OperatorConfig::decode(&Value::Map(Vec::new()))?) };
    let value = bivouac_runner::load::operator(path)?;
    OperatorConfig::decode(&value).with_context(|| format!("in {}", path.display()))
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
        ui::note(&format!("{}: {}", outcome.sources.place(note.span), note.message));
    }
    Ok(outcome)
}

/// The allocations of a job; `volumes` are `NAME=PATH[:ro]` and come before those that Bivouac keeps.
fn plan(
    home: &Home,
    outcome: &Outcome,
    volumes: &[String],
    payload: Option<&Payload>,
) -> Result<Vec<Allocation>> {
    let mut known = volumes::known(home)?;
    for text in volumes {
        let (name, volume) = volumes::parse(text)?;
        known.insert(name, volume);
    }
    let scene = Scene {
        node: &Node::of_this_machine(),
        state_dir: home.path(),
        volumes: &known,
        payload,
        disk: home.disk(),
        new_id: &allocation::new_id,
    };
    Ok(planning::plan(outcome, &scene)?)
}
