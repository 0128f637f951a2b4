//! Commands about the machine and the files: plans, checks, volumes, garbage.

use super::tasks::run_of;
use super::{configuration, engine, home, load, machine};
use crate::cli::{Cli, Doctor, Inspect, Volume, VolumeCommand};
use crate::ui;
use anyhow::{Result, bail};
use bivouac_driver::engine::Places;
use bivouac_driver::fingerprint::{Evidence, ShimCheck};
use bivouac_runner::overview::{self, FindError};
use bivouac_runner::{cores, gc, registry, volumes};
use std::path::Path;

pub(super) fn inspect(cli: &Cli, inspect: &Inspect) -> Result<u8> {
    let (home, engine) = (home(cli)?, engine()?);
    if !inspect.plan {
        return match overview::find(&home, &inspect.what) {
            Ok(selection) => {
                let states: Vec<_> = selection.entries.iter().map(|entry| &entry.state).collect();
                ui::json(&states)
            }
            Err(FindError::Unknown(_)) => {
                ui::json(&engine.inspect(&run_of(&home, &engine, &inspect.what)?)?)
            }
            Err(error) => Err(error.into()),
        };
    }
    let machine = machine(configuration(cli).as_deref())?;
    let outcome = load(Path::new(&inspect.what), &inspect.variables)?;
    let mut planned = Vec::new();
    for allocation in registry::allocations(&outcome, &home, &inspect.volume, &machine, None)? {
        for (index, task) in allocation.tasks.iter().enumerate() {
            let mut request = allocation.request(index)?;
            cores::rehearse(&engine, task.order.cores, &mut planned, &mut request)?;
            let rehearsed = engine.rehearse(&machine.operator, &request)?;
            let survey = bivouac_sandbox::survey::Survey::for_rehearsal(&rehearsed.sandbox)?;
            let plan =
                bivouac_sandbox::plan::Plan::for_sandbox(&rehearsed.sandbox, &survey, engine.features())?;
            ui::plan(&allocation.name, &task.member.name, &plan, &rehearsed.cgroup);
        }
    }
    Ok(0)
}

pub(super) fn doctor(cli: &Cli, doctor: &Doctor) -> Result<u8> {
    if let Some(path) = &doctor.nomad {
        return super::nomad::doctor(path, doctor.json);
    }
    let operator = machine(configuration(cli).as_deref())?.operator;
    let evidence = Evidence::of_host(&mut ShimCheck::new(Places::usual().shim));
    ui::doctor(&evidence.health(), &operator, doctor.json)
}

pub(super) fn volume(cli: &Cli, volume: &Volume) -> Result<u8> {
    let home = home(cli)?;
    match &volume.command {
        VolumeCommand::Create { names } => {
            for name in names {
                volumes::create(&home, name)?;
            }
        }
        VolumeCommand::Ls { written } => {
            let rows: Vec<_> = volumes::list(&home)?
                .into_iter()
                .map(|name| (home.volumes().join(&name).display().to_string(), name))
                .collect();
            return ui::volumes(&rows, written.form());
        }
        VolumeCommand::Rm { names } => {
            for name in names {
                let path = home.volumes().join(name);
                let used = overview::all(&home)?
                    .0
                    .into_iter()
                    .filter(overview::Entry::is_live)
                    .find(|entry| entry.keep.plan().is_ok_and(|plan| plan.allocation.mounts_from(&path)));
                if let Some(entry) = used {
                    bail!("volume {name:?} is used by {} ({})", entry.state.id, entry.state.name);
                }
                volumes::remove(&home, name)?;
            }
        }
    }
    Ok(0)
}

/// Removes allocations that are over, and what crashes have left. Volumes and sticky disks stay.
pub(super) fn gc(cli: &Cli) -> Result<u8> {
    let collected = gc::collect(&engine()?, &home(cli)?)?;
    for id in &collected.removed {
        ui::note(&format!("removed what was left of {id}"));
    }
    for (id, why) in &collected.kept {
        ui::warn(&format!("{id} stays: {why}"));
    }
    Ok(0)
}
