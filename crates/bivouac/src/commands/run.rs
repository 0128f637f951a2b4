//! `run`, and what takes runs up again.

use super::{configuration, engine, home, load, operator, plan};
use crate::adhoc;
use crate::cli::{Cli, Dispatch as DispatchArguments, Run};
use crate::ui;
use anyhow::{Context, Result, bail};
use bivouac_driver::engine::Engine;
use bivouac_runner::allocation::{self, Allocation};
use bivouac_runner::console::Colour;
use bivouac_runner::detached::{self, Answer};
use bivouac_runner::dispatch::{Dispatch, refuse_undispatched};
use bivouac_runner::foreground::{self, Directory, Remarks, RunError, Show};
use bivouac_runner::overview;
use bivouac_runner::relay::Attach;
use bivouac_runner::state::{Face, Home, OnBoot};
use std::io::Read;
use std::path::Path;

pub(super) fn run(cli: &Cli, run: &Run) -> Result<u8> {
    let (home, config) = (home(cli)?, configuration(cli));
    let operator = operator(config.as_deref())?;
    let allocations = match (&run.job, run.command.is_empty()) {
        (Some(job), true) => {
            let outcome = load(job, &run.variables)?;
            refuse_undispatched(&outcome.job)?;
            plan(&home, &outcome, &run.adhoc.volume, None)?
        }
        (None, false) => {
            vec![adhoc::allocation(&run.adhoc, &run.command, &allocation::new_id(), home.path())?]
        }
        _ => bail!("name a job file, or give a command after `--`"),
    };
    let engine = engine()?;
    if run.detach {
        if run.adhoc.tty || run.adhoc.interactive {
            bail!("--detach: nobody is there for --interactive or --tty; use `bivouac exec -it` later");
        }
        let on_boot = if run.restart_on_boot { OnBoot::Restart } else { OnBoot::Forget };
        return start(&engine, &home, on_boot, &allocations, config.as_deref());
    }
    if run.adhoc.tty && !ui::is_terminal() {
        bail!("--tty: standard input is not a terminal");
    }
    let show = Show {
        attach: attach(run.adhoc.tty, run.adhoc.interactive),
        colour: if ui::has_colour() { Colour::On } else { Colour::Off },
        remarks: if run.quiet { Remarks::Silent } else { Remarks::Written },
    };
    let directory = if run.keep { Directory::Kept } else { Directory::Removed };
    Ok(foreground::run(&engine, &operator, &home, &allocations, show, directory)?)
}

pub(super) fn attach(tty: bool, interactive: bool) -> Attach {
    match (tty, interactive) {
        (true, _) => Attach::Terminal,
        (false, true) => Attach::Input,
        (false, false) => Attach::Output,
    }
}

/// Starts supervisors in the background. Should one fail, those before it are told to stop.
fn start(
    engine: &Engine,
    home: &Home,
    on_boot: OnBoot,
    allocations: &[Allocation],
    config: Option<&Path>,
) -> Result<u8> {
    let config = config.map(std::path::absolute).transpose()?;
    let mut started = Vec::new();
    for allocation in allocations {
        let keep = detached::prepare(home, allocation, on_boot, config.as_deref())?;
        match detached::launch(engine, home, &keep)? {
            Answer::Begun => started.push(keep),
            Answer::Failed { text, exit_code } => {
                for earlier in &started {
                    let stop = bivouac_runner::control::Request::Stop {
                        task: None,
                        grace_ms: None,
                        delay: bivouac_runner::lifecycle::Delay::Skipped,
                    };
                    // What it could not stop is seen by `ps`.
                    let _ = bivouac_runner::control::ask(earlier, &stop);
                }
                let task = allocation.name.clone();
                return Err(RunError::Start { task, error: text, exit_code }.into());
            }
        }
    }
    for allocation in allocations {
        ui::line(&allocation.id);
    }
    Ok(0)
}

/// Makes a job of a parameterized one, and runs that.
pub(super) fn dispatch(cli: &Cli, dispatch: &DispatchArguments) -> Result<u8> {
    let (home, config) = (home(cli)?, configuration(cli));
    let operator = operator(config.as_deref())?;
    let mut outcome = load(&dispatch.job, &dispatch.variables)?;
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => bail!("-meta {text:?} is not KEY=VALUE"),
    };
    let id = allocation::new_id();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let asked = Dispatch {
        payload: dispatch.payload.as_deref().map(read_payload).transpose()?,
        meta: dispatch.meta.iter().map(pair).collect::<Result<_>>()?,
        seconds: seconds.map_or(0, |since| since.as_secs()),
        digits: id.chars().take(8).collect(),
    };
    let payload = asked.apply(&mut outcome.job)?;
    let allocations = plan(&home, &outcome, &dispatch.volume, Some(&payload))?;
    let engine = engine()?;
    if dispatch.detach {
        return start(&engine, &home, OnBoot::Forget, &allocations, config.as_deref());
    }
    let colour = if ui::has_colour() { Colour::On } else { Colour::Off };
    let show = Show { attach: Attach::Output, colour, remarks: Remarks::Written };
    Ok(foreground::run(&engine, &operator, &home, &allocations, show, Directory::Removed)?)
}

/// A payload from a file or standard input, never more of it than any job takes.
fn read_payload(path: &Path) -> Result<Vec<u8>> {
    const ENOUGH: u64 = 1 << 20;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(ENOUGH).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        file.take(ENOUGH).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The life of a supervisor in the background: what `run -d` and `resume` start.
pub(super) fn supervise(cli: &Cli, id: &str) -> Result<u8> {
    let home = home(cli)?;
    let plan = home.keep(id).plan()?;
    let operator = operator(plan.config.as_deref())?;
    drop(plan);
    detached::supervise(&engine()?, &operator, &home, id)?;
    Ok(0)
}

/// Takes up detached allocations whose supervisor has gone: after a crash all of them, after a reboot those that
/// were to come back.
pub(super) fn resume(cli: &Cli) -> Result<u8> {
    let home = home(cli)?;
    let engine = engine()?;
    let (entries, unreadable) = overview::all(&home)?;
    let mut failed = !unreadable.is_empty();
    for error in unreadable {
        ui::note(&error.to_string());
    }
    for entry in entries {
        if entry.supervised || entry.state.machine.is_over() {
            continue;
        }
        let name = format!("{} ({})", entry.state.id, entry.state.name);
        let plan = entry.keep.plan()?;
        if plan.face == Face::Foreground || (!entry.state.is_of_this_boot() && plan.on_boot == OnBoot::Forget)
        {
            ui::note(&format!("{name} is not to come back; `bivouac gc` removes what is left"));
            continue;
        }
        match detached::launch(&engine, &home, &entry.keep)? {
            Answer::Begun => ui::note(&format!("{name} goes on")),
            Answer::Failed { text, .. } => {
                failed = true;
                ui::note(&format!("{name}: {text}"));
            }
        }
    }
    Ok(u8::from(failed))
}
