//! `run`, and what takes runs up again.

use super::{configuration, engine, home, load, operator, plan};
use crate::adhoc;
use crate::cli::{Cli, Run};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_driver::engine::Engine;
use bivouac_runner::allocation::{self, Allocation};
use bivouac_runner::console::Colour;
use bivouac_runner::detached::{self, Answer};
use bivouac_runner::foreground::{self, Directory, Remarks, RunError, Show};
use bivouac_runner::overview;
use bivouac_runner::relay::Attach;
use bivouac_runner::state::{Face, Home, OnBoot};
use std::path::Path;

pub(super) fn run(cli: &Cli, run: &Run) -> Result<u8> {
    let (home, config) = (home(cli)?, configuration(cli));
    let operator = operator(config.as_deref())?;
    let allocations = match (&run.job, run.command.is_empty()) {
        (Some(job), true) => plan(&home, &load(job, &run.variables)?, &run.adhoc.volume)?,
        (None, false) => {
            vec![adhoc::allocation(&run.adhoc, &run.command, &allocation::new_id(), home.path())?]
        }
        _ => bail!("name a job file, or give a command after `--`"),
    };
    let engine = engine()?;
    if run.detach {
        return start(&engine, &home, run, &allocations, config.as_deref());
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
    run: &Run,
    allocations: &[Allocation],
    config: Option<&Path>,
) -> Result<u8> {
    if run.adhoc.tty || run.adhoc.interactive {
        bail!("--detach: nobody is there for --interactive or --tty; use `bivouac exec -it` later");
    }
    let on_boot = if run.restart_on_boot { OnBoot::Restart } else { OnBoot::Forget };
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
