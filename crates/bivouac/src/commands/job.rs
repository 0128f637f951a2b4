//! Commands about job files: a first one, their layout, what is wrong with them, what running them would change.

use super::{configuration, home, load, machine};
use crate::cli::{Cli, Fmt, Init, Plan, Validate};
use crate::ui;
use anyhow::{Context, Result, bail};
use bivouac_jobspec::{Job, SourceFile};
use bivouac_runner::difference::differences;
use bivouac_runner::network::HostNetworks;
use bivouac_runner::network::host::HostNetwork;
use bivouac_runner::registry::{self, Submission};
use bivouac_runner::running::{self, Fate};
use bivouac_runner::schedule::Schedule;
use bivouac_runner::volumes::HostVolumes;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::Path;

/// `plan`: nothing would change.
const SAME: u8 = 0;
/// `plan`: something would be started, stopped or replaced. `job fmt --check`: a file is not laid out.
const CHANGES: u8 = 1;
/// `plan`: it could not be told, as with Nomad.
const CANNOT_TELL: u8 = 255;

pub(super) fn init(init: &Init) -> Result<u8> {
    let path = &init.file;
    let file = std::fs::File::create_new(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; name another file: `bivouac job init FILE`", path.display())
        }
        other => other.with_context(|| format!("cannot make {}", path.display()))?,
    };
    std::io::Write::write_all(&mut file, bivouac_jobspec::EXAMPLE.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    ui::note(&format!("made {0}; `bivouac run {0}` runs it", path.display()));
    Ok(0)
}

/// Lays files out anew; those that are laid out already are not written.
pub(super) fn fmt(fmt: &Fmt) -> Result<u8> {
    let mut changed = false;
    for path in &fmt.files {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "<stdin>".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let limit = bivouac_jobspec::MAX_BYTES as u64 + 1;
        if is_stdin {
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        } else {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
            file.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
        }
        let file = SourceFile::new(name.clone(), bytes);
        let text = bivouac_jobspec::format(&file)
            .map_err(|problems| bivouac_runner::load::LoadError::Text(Box::new(problems)))?;
        let same = text.as_bytes() == file.bytes;
        changed |= !same;
        if is_stdin && !fmt.check {
            ui::bytes(text.as_bytes());
        } else if !same {
            if !fmt.check {
                std::fs::write(path, text).with_context(|| format!("cannot write {name}"))?;
            }
            ui::line(&name);
        }
    }
    Ok(if fmt.check && changed { CHANGES } else { SAME })
}

/// Everything that can be told of a job file without the machine that is to run it: constraints and volumes are not
/// looked for.
pub(super) fn validate(cli: &Cli, validate: &Validate) -> Result<u8> {
    let mut outcome = load(&validate.job, &validate.variables)?;
    let job = &mut outcome.job;
    if let Some(periodic) = &job.periodic {
        Schedule::of(periodic)?;
    }
    if job.periodic.is_some() && job.parameterized.is_some() {
        bail!(BOTH);
    }
    job.constraints.clear();
    let (mut named, mut networks) = (HostVolumes::new(), HostNetworks::default());
    for group in &mut job.groups {
        group.constraints.clear();
        group.tasks.iter_mut().for_each(|task| task.constraints.clear());
        // Which there are is what the machine says where it will run.
        let asked = group.network.ports.iter().filter_map(|port| port.host_network.clone());
        networks.0.extend(asked.map(|name| (name, HostNetwork::at(Ipv4Addr::LOCALHOST.into()))));
        for volume in &group.volumes {
            let any = running::any_volume()?;
            named.insert(volume.source.clone(), any.clone());
            let each = (0..group.count).map(|index| format!("{}[{index}]", volume.source));
            named.extend(each.map(|name| (name, any.clone())));
        }
    }
    registry::allocations_with(&outcome, &home(cli)?, &named, &networks, None)?;
    ui::note(&format!("{}: job {:?} is valid", validate.job.display(), outcome.job.id));
    Ok(0)
}

pub(super) const BOTH: &str = "a job cannot be both periodic and parameterized on one machine: `bivouac dispatch` in a cron job does the same";

pub(super) fn plan(cli: &Cli, plan: &Plan) -> Result<u8> {
    // Whatever goes wrong has its own status, since 1 means changes.
    match tell_plan(cli, plan) {
        Err(error) => {
            ui::error(&error);
            Ok(CANNOT_TELL)
        }
        told => told,
    }
}

fn tell_plan(cli: &Cli, plan: &Plan) -> Result<u8> {
    let home = home(cli)?;
    let machine = machine(configuration(cli).as_deref())?;
    let outcome = load(&plan.job, &plan.variables)?;
    let submission = Submission { job: outcome.job.clone(), volumes: super::absolute(&plan.volume)? };
    let secret = |text: String| redacted(text, &outcome.sensitive);
    let job = &submission.job;
    if job.periodic.is_some() || job.parameterized.is_some() {
        let known = registry::find(&home, &job.id)?;
        let before = known.as_ref().map(|known| &known.registration.submission);
        return Ok(tell(job, before, &submission, &secret));
    }
    let allocations = registry::allocations(&outcome, &home, &submission.volumes, &machine, None)?;
    let standing = running::Standing::of(&home, &submission, &allocations)?;
    let code = tell(job, standing.before.as_ref(), &submission, &secret);
    let mut changes = false;
    for (name, fate) in &standing.fates {
        changes |= *fate != Fate::Stays;
        ui::line(&format!("{} {name}", fate.mark()));
    }
    Ok(if changes || code != SAME { CHANGES } else { SAME })
}

/// What differs from what is known of the job.
fn tell(job: &Job, before: Option<&Submission>, after: &Submission, secret: &dyn Fn(String) -> String) -> u8 {
    let Some(before) = before else {
        ui::line(&format!("+ job {:?} is new", job.id));
        return CHANGES;
    };
    if before.is_as(after) {
        ui::line(&format!("= job {:?} is as it runs", job.id));
        return SAME;
    }
    ui::line(&format!("~ job {:?}", job.id));
    for one in differences(&before.job, &after.job) {
        let text = match (one.before, one.after) {
            (Some(before), Some(after)) => format!("  ~ {}: {before} -> {after}", one.place),
            (None, Some(after)) => format!("  + {}: {after}", one.place),
            (Some(before), None) => format!("  - {}: {before}", one.place),
            (None, None) => continue,
        };
        ui::line(&secret(text));
    }
    if before.volumes != after.volumes {
        ui::line(&format!("  ~ volumes: {:?} -> {:?}", before.volumes, after.volumes));
    }
    CHANGES
}

/// Values of sensitive variables are shown nowhere.
fn redacted(text: String, sensitive: &[String]) -> String {
    sensitive
        .iter()
        .filter(|value| !value.is_empty())
        .fold(text, |text, value| text.replace(value, "(sensitive)"))
}
