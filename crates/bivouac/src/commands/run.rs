//! `run`, and what takes runs up again.

use super::{configuration, engine, home, load, machine};
use crate::adhoc;
use crate::cli::{Cli, Dispatch as DispatchArguments, Run};
use crate::ui;
use anyhow::{Context, Result, bail};
use bivouac_driver::engine::Engine;
use bivouac_runner::allocation::{self, Allocation};
use bivouac_runner::console::Colour;
use bivouac_runner::control::{self, ControlError, Request};
use bivouac_runner::detached::{self, Answer, Terms};
use bivouac_runner::dispatch::{Dispatch, refuse_undispatched};
use bivouac_runner::foreground::{self, Directory, Host, Progress, Record, Remarks, RunError, Show};
use bivouac_runner::lifecycle::Delay;
use bivouac_runner::machine::Machine;
use bivouac_runner::network::Settings;
use bivouac_runner::registry::{self, Registered, Submission};
use bivouac_runner::relay::Attach;
use bivouac_runner::running::{Fate, Standing, settle_disks};
use bivouac_runner::state::{Face, Home, OnBoot};
use bivouac_runner::{overview, periodic};
use std::io::Read;
use std::path::Path;

pub(super) fn run(cli: &Cli, run: &Run) -> Result<u8> {
    let (home, config) = (home(cli)?, configuration(cli));
    let machine = machine(config.as_deref())?;
    let (allocations, submission) = match (&run.job, run.command.is_empty()) {
        (Some(job), true) => {
            let outcome = load(job, &run.variables)?;
            let submission = Submission { job: outcome.job.clone(), volumes: super::absolute(&run.volume)? };
            if let Some(done) = run_later(cli, run, &home, &machine, &submission)? {
                return Ok(done);
            }
            let volumes = &submission.volumes;
            (registry::allocations(&outcome, &home, volumes, &machine, None)?, Some(submission))
        }
        (None, false) => (vec![adhoc::allocation(run, &allocation::new_id(), home.path())?], None),
        _ => bail!("name a job file, or give a command after `--`"),
    };
    let engine = engine()?;
    if run.detach {
        check_detached(run)?;
        let starter =
            Starter { engine: &engine, home: &home, config: config.as_deref(), network: &machine.network };
        return starter.run(on_boot(run), &allocations, submission.as_ref());
    }
    if run.tty && !ui::is_terminal() {
        bail!("--tty: standard input is not a terminal");
    }
    let directory = if run.keep { Directory::Kept } else { Directory::Removed };
    let host = Host { engine: &engine, machine: &machine, home: &home };
    Ok(foreground::run(host, &allocations, show(run), directory)?)
}

fn on_boot(run: &Run) -> OnBoot {
    if run.restart_on_boot { OnBoot::Restart } else { OnBoot::Forget }
}

fn check_detached(run: &Run) -> Result<()> {
    if run.tty || run.interactive {
        bail!("--detach: nobody is there for --interactive or --tty; use `bivouac exec -it` later");
    }
    Ok(())
}

fn show(run: &Run) -> Show {
    Show {
        attach: attach(run.tty, run.interactive),
        colour: if ui::has_colour() { Colour::On } else { Colour::Off },
        remarks: if run.quiet { Remarks::Silent } else { Remarks::Written(ui::format()) },
        record: if run.job.is_some() { Record::Kept } else { Record::Nothing },
        progress: if run.quiet { Progress::Nothing } else { ui::progress() },
    }
}

/// Jobs that are started later: periodic ones get a scheduler, parameterized ones are written down.
fn run_later(
    cli: &Cli,
    run: &Run,
    home: &Home,
    machine: &Machine,
    submission: &Submission,
) -> Result<Option<u8>> {
    let job = &submission.job;
    match (&job.periodic, &job.parameterized) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => bail!(super::job::BOTH),
        (None, Some(_)) if !run.detach => refuse_undispatched(job)?,
        _ => {}
    }
    let engine = engine()?;
    if !run.detach {
        let directory = if run.keep { Directory::Kept } else { Directory::Removed };
        let host = Host { engine: &engine, machine, home };
        return Ok(Some(foreground::run_periodic(host, submission, show(run), directory)?));
    }
    check_detached(run)?;
    // What cannot be planned now cannot be planned later; what is parameterized gets its metadata then.
    if job.periodic.is_some() {
        submission.allocations(home, machine, None)?;
    }
    let config = configuration(cli).map(std::path::absolute).transpose()?;
    if let Some(known) = registry::find(home, &job.id)? {
        let same = known.registration.submission.is_as(submission);
        if same && (known.supervised || !known.is_periodic()) {
            ui::note(&format!("{} is written down already, unchanged", job.id));
            ui::line(&job.id);
            return Ok(Some(0));
        }
        unregister(&known)?;
    }
    let keep = registry::register(home, submission.clone(), on_boot(run), config)?;
    if job.periodic.is_some()
        && let Answer::Failed { text, exit_code } = detached::launch_scheduler(&engine, home, &keep)?
    {
        keep.remove()?;
        return Err(RunError::Start { task: job.id.clone(), error: text, exit_code }.into());
    }
    ui::line(&job.id);
    Ok(Some(0))
}

/// Ends the scheduler of a job that is written down, and forgets the job. Its runs go on.
pub(super) fn unregister(known: &Registered) -> Result<()> {
    let stop = Request::Stop { task: None, grace_ms: None, delay: Delay::Skipped };
    match control::ask(&known.keep, &stop) {
        // Nobody is there: it is ours to forget.
        Err(ControlError::Nobody { .. }) => {
            let _lock = known.keep.lock()?;
            Ok(known.keep.remove()?)
        }
        // It has forgotten the job itself.
        other => Ok(other?),
    }
}

pub(super) fn attach(tty: bool, interactive: bool) -> Attach {
    match (tty, interactive) {
        (true, _) => Attach::Terminal,
        (false, true) => Attach::Input,
        (false, false) => Attach::Output,
    }
}

/// Starts things in the background.
struct Starter<'a> {
    engine: &'a Engine,
    home: &'a Home,
    config: Option<&'a Path>,
    network: &'a Settings,
}

impl Starter<'_> {
    /// What runs as it is asked for stays, what differs is replaced, what is missing is started.
    fn run(
        &self,
        on_boot: OnBoot,
        allocations: &[Allocation],
        submission: Option<&Submission>,
    ) -> Result<u8> {
        let Some(submission) = submission else { return self.start(on_boot, allocations, None) };
        let standing = Standing::of(self.home, submission, allocations)?;
        let (mut ids, mut stopped) = (Vec::new(), Vec::new());
        for entry in &standing.live {
            match standing.fate(&entry.state.name) {
                Some(Fate::Stays) => ids.push(entry.state.id.clone()),
                _ => stopped.push(entry),
            }
        }
        if !ids.is_empty() {
            ui::note(&format!("{} of {:?} run already, unchanged", ids.len(), submission.job.id));
        }
        if !stopped.is_empty() {
            ui::note(&format!("{:?} differs from what runs: stopping {}", submission.job.id, stopped.len()));
            super::tasks::stop_entries(&stopped)?;
        }
        ids.iter().for_each(|id| ui::line(id));
        let starts = |allocation: &&Allocation| {
            matches!(standing.fate(&allocation.name), Some(Fate::Starts | Fate::Replaced))
        };
        let wanted: Vec<Allocation> = allocations.iter().filter(starts).cloned().collect();
        self.start(on_boot, &wanted, Some(submission))
    }

    /// Starts supervisors. Should one fail, those before it are told to stop.
    fn start(
        &self,
        on_boot: OnBoot,
        allocations: &[Allocation],
        submission: Option<&Submission>,
    ) -> Result<u8> {
        let config = self.config.map(std::path::absolute).transpose()?;
        let terms = Terms { on_boot, config: config.as_deref(), submission, network: self.network };
        let mut started = Vec::new();
        for allocation in allocations {
            settle_disks(self.engine, self.home, allocation)?;
            let keep = detached::prepare(self.home, allocation, terms)?;
            match detached::launch(self.engine, self.home, &keep)? {
                Answer::Begun => started.push(keep),
                Answer::Failed { text, exit_code } => {
                    for earlier in &started {
                        let stop = Request::Stop { task: None, grace_ms: None, delay: Delay::Skipped };
                        // What it could not stop is seen by `ps`.
                        let _ = control::ask(earlier, &stop);
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
}

/// Makes a job of a parameterized one, and runs that.
pub(super) fn dispatch(cli: &Cli, dispatch: &DispatchArguments) -> Result<u8> {
    let (home, config) = (home(cli)?, configuration(cli));
    let machine = machine(config.as_deref())?;
    let mut submission = dispatched(&home, dispatch)?;
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
    let payload = asked.apply(&mut submission.job)?;
    let allocations = submission.allocations(&home, &machine, Some(&payload))?;
    let engine = engine()?;
    if dispatch.detach {
        let starter =
            Starter { engine: &engine, home: &home, config: config.as_deref(), network: &machine.network };
        return starter.start(OnBoot::Forget, &allocations, Some(&submission));
    }
    let colour = if ui::has_colour() { Colour::On } else { Colour::Off };
    let (remarks, record) = (Remarks::Written(ui::format()), Record::Kept);
    let show = Show { attach: Attach::Output, colour, remarks, record, progress: ui::progress() };
    let host = Host { engine: &engine, machine: &machine, home: &home };
    Ok(foreground::run(host, &allocations, show, Directory::Removed)?)
}

/// The job that is dispatched: a file, else one that is written down.
fn dispatched(home: &Home, dispatch: &DispatchArguments) -> Result<Submission> {
    let volumes = super::absolute(&dispatch.volume)?;
    let name = dispatch.job.to_str().filter(|_| !dispatch.job.exists());
    if let Some(known) = name.map(|name| registry::find(home, name)).transpose()?.flatten() {
        if !dispatch.variables.var.is_empty() || !dispatch.variables.var_file.is_empty() {
            bail!(
                "job {:?} is written down with its variables; -var belongs to `bivouac run`",
                known.keep.id()
            );
        }
        let mut submission = known.registration.submission;
        submission.volumes.extend(volumes);
        return Ok(submission);
    }
    if let Some(name) = name.filter(|name| *name != "-") {
        bail!(
            "no file and no written down job {name:?}; `bivouac run -d FILE` writes a parameterized job down"
        );
    }
    Ok(Submission { job: load(&dispatch.job, &dispatch.variables)?.job, volumes })
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
    let machine = machine(plan.config.as_deref())?;
    drop(plan);
    detached::supervise(&engine()?, &machine.operator, &home, id, ui::format())?;
    Ok(0)
}

/// The life of a periodic job's scheduler: what `run -d` and `resume` start.
pub(super) fn schedule(cli: &Cli, name: &str) -> Result<u8> {
    let home = home(cli)?;
    let (config, disk) = registry::find(&home, name)?
        .map(|known| (known.registration.config, known.registration.disk))
        .unwrap_or_default();
    let machine = machine(config.as_deref())?;
    periodic::schedule(&engine()?, &home.with_disks(disk), &machine, name)?;
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
        ui::warn(&error.to_string());
    }
    for entry in entries {
        if entry.supervised || entry.state.machine.is_over() {
            continue;
        }
        let name = format!("{} ({})", entry.state.id, entry.state.name);
        let plan = match entry.keep.plan() {
            Ok(plan) => plan,
            Err(error) => {
                ui::warn(&format!("{name}: {error}"));
                failed = true;
                continue;
            }
        };
        if plan.face == Face::Foreground || (!entry.state.is_of_this_boot() && plan.on_boot == OnBoot::Forget)
        {
            ui::note(&format!("{name} is not to come back; `bivouac gc` removes what is left"));
            continue;
        }
        failed |= !goes_on(&name, detached::take_up(&engine, &home, &entry.keep));
    }
    failed |= resume_schedulers(&engine, &home)?;
    Ok(u8::from(failed))
}

/// Tells whether one came back. When it did not, the others do nevertheless.
fn goes_on(name: &str, answer: Result<Answer, RunError>) -> bool {
    let why = match answer {
        Ok(Answer::Begun) => {
            ui::note(&format!("{name} goes on"));
            return true;
        }
        Ok(Answer::Failed { text, .. }) => text,
        Err(error) => error.to_string(),
    };
    ui::warn(&format!("{name}: {why}"));
    false
}

/// Whether one of them did not come back.
fn resume_schedulers(engine: &Engine, home: &Home) -> Result<bool> {
    let (jobs, unreadable) = registry::all(home)?;
    let mut failed = !unreadable.is_empty();
    unreadable.iter().for_each(|error| ui::warn(&error.to_string()));
    for job in jobs.into_iter().filter(|job| job.is_periodic() && !job.supervised) {
        let name = job.keep.id();
        if !job.comes_back() {
            ui::note(&format!("{name} is not to come back; `bivouac gc` removes what is left"));
            continue;
        }
        failed |= !goes_on(name, detached::launch_scheduler(engine, home, &job.keep));
    }
    Ok(failed)
}
