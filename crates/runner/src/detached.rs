//! Supervisors in the background: started as processes of their own, away from the terminal and the caller's unit,
//! with nothing inherited.

use crate::allocation::Allocation;
use crate::control::{self, Request};
use crate::disks;
use crate::events::{Happening, Kind};
use crate::foreground::RunError;
use crate::lifecycle::{Delay, Status};
use crate::logs::{self, Stream, log_directory};
use crate::network::Settings;
use crate::registry::Submission;
use crate::relay::wait;
use crate::report::{Format, Level, Report};
use crate::state::{Care, Face, Home, Keep, OnBoot, Plan, State, VERSION};
use crate::supervisor::{Outputs, StartError, Supervisor};
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, Started};
use bivouac_driver::request::{Output, TaskStreams};
use bivouac_sys::exec::StringArray;
use bivouac_sys::spawn::{Executable, Spawn, spawn};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{PipeReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SIGTERM: i32 = 15;

/// What a new supervisor tells whoever started it, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Its main tasks run, or have run.
    Begun,
    /// The allocation has come to its end before that.
    Failed {
        /// Why.
        text: String,
        /// What a shell would exit with.
        exit_code: u8,
    },
}

/// What comes with an allocation that is started in the background.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Whether it comes back after a reboot.
    pub on_boot: OnBoot,
    /// The operator's configuration, if it was named.
    pub config: Option<&'a Path>,
    /// The job that it belongs to.
    pub submission: Option<&'a Submission>,
    /// How networks are made.
    pub network: &'a Settings,
}

/// Writes an allocation down, so that a supervisor can take it up: directories, plan.
///
/// # Errors
/// [`RunError`]; nothing is left then.
pub fn prepare(home: &Home, allocation: &Allocation, terms: Terms<'_>) -> Result<Keep, RunError> {
    let keep = home.keep(&allocation.id);
    let plan = Plan {
        version: VERSION,
        allocation: allocation.clone(),
        on_boot: terms.on_boot,
        face: Face::Detached,
        config: terms.config.map(Path::to_owned),
        submission: terms.submission.cloned(),
        network: terms.network.clone(),
    };
    let made = keep.make().and_then(|_lock| {
        // Synced while its supervisor starts.
        keep.write_plan(&plan, Care::Cached)?;
        // From now on others know of it, should its supervisor never come so far.
        keep.write(&State::fresh(&plan), Care::Cached)
    });
    let made = made.map_err(RunError::from).and_then(|()| {
        allocation.make_directories()?;
        allocation.gather_secrets()?;
        disks::take(home, allocation)?;
        Ok(allocation.plant()?)
    });
    if let Err(error) = made {
        // What cannot be removed stays for gc: the failure before is what counts.
        let _ = crate::gc::forget(home, allocation);
        return Err(error);
    }
    Ok(keep)
}

/// Starts a supervisor for a prepared allocation and waits until its tasks run; how that went.
///
/// # Errors
/// [`RunError::Kernel`] when there is no such process. [`RunError::State`]: the disk did not keep the plan; what was
/// started has been told to stop.
pub fn launch(engine: &Engine, home: &Home, keep: &Keep) -> Result<Answer, RunError> {
    // By the time that the disk is known to fail its tasks may run.
    take_up(engine, home, keep).inspect_err(|_| {
        let stop = Request::Stop { task: None, grace_ms: None, delay: Delay::Skipped };
        // What it could not stop is seen by `ps`.
        let _ = control::ask(keep, &stop);
    })
}

/// The same for an allocation that ran before: what the disk does not keep of it is told, and goes on.
///
/// # Errors
/// [`RunError::Kernel`] when there is no such process. [`RunError::State`], as said.
pub fn take_up(engine: &Engine, home: &Home, keep: &Keep) -> Result<Answer, RunError> {
    let reader = begin(engine, home, keep, "supervise")?;
    // Meanwhile, since somebody waits: nobody is told of an allocation that a loss of power would take away.
    let synced = keep.sync_plan();
    let answer = listen(reader, keep);
    synced?;
    Ok(answer)
}

/// Starts the scheduler of a registered job and waits until it is at its work.
///
/// # Errors
/// [`RunError::Kernel`] when there is no such process.
pub fn launch_scheduler(engine: &Engine, home: &Home, keep: &Keep) -> Result<Answer, RunError> {
    Ok(listen(begin(engine, home, keep, "schedule")?, keep))
}

/// Starts a supervisor for a prepared allocation; how that goes stands in its state. As with [`launch`] nothing runs that a
/// loss of power would take away; but nobody waits here, so the disk comes first, and there is nothing to stop.
pub(crate) fn launch_unheard(engine: &Engine, home: &Home, keep: &Keep) -> Result<(), RunError> {
    keep.sync_plan()?;
    start(engine, home, keep, "supervise", null().map_err(failed)?.as_fd())
}

/// Starts ourselves; what comes back is where it answers.
fn begin(engine: &Engine, home: &Home, keep: &Keep, command: &str) -> Result<PipeReader, RunError> {
    let (reader, writer) = std::io::pipe()
        .map_err(|error| failed(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))?;
    start(engine, home, keep, command, writer.as_fd())?;
    Ok(reader)
}

fn listen(mut reader: PipeReader, keep: &Keep) -> Answer {
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer);
    serde_json::from_slice(&answer).unwrap_or_else(|_| Answer::Failed {
        text: format!("its supervisor died; see {}", keep.path().join("supervisor.log").display()),
        exit_code: 125,
    })
}

fn failed(errno: rustix::io::Errno) -> RunError {
    RunError::Kernel { what: "start a supervisor", errno }
}

fn null() -> Result<OwnedFd, rustix::io::Errno> {
    openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Starts ourselves, with one of the hidden commands.
fn start(
    engine: &Engine,
    home: &Home,
    keep: &Keep,
    command: &str,
    answer: BorrowedFd<'_>,
) -> Result<(), RunError> {
    let (null, log) = (null().map_err(failed)?, open_log(keep).map_err(failed)?);
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let arguments = StringArray::new(vec![
        text(b"bivouac"),
        // First, for it to be read with its own definition alone.
        text(command.as_bytes()),
        text(b"--state-dir"),
        text(home.path().as_os_str().as_bytes()),
        text(b"--"),
        text(keep.id().as_bytes()),
    ]);
    // Of the caller's environment a supervisor gets where the shim lies, how its log is written, and how servers are
    // reached and believed.
    let own = ["BIVOUAC_SHIM", "BIVOUAC_LOG_FORMAT"];
    let own = own.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
    let passed = bivouac_artifact::fetch::environment().into_iter().chain(own);
    let variables = passed.map(|(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        text(&[name.as_bytes(), b"=", value.as_bytes()].concat())
    });
    let environment = StringArray::new(variables.collect());
    let entrance = engine
        .shims_entrance()
        .map_err(|error| RunError::Plan(crate::allocation::PlanError::other(error)))?;
    let tasks: Vec<_> = entrance.tasks.iter().map(AsFd::as_fd).collect();
    spawn(&Spawn {
        program: Executable::At(c"/proc/self/exe"),
        arguments: &arguments,
        environment: &environment,
        descriptors: &[null.as_fd(), answer, log.as_fd()],
        cgroup: entrance.unified.as_ref().map(AsFd::as_fd),
        tasks: &tasks,
    })
    .map_err(failed)?;
    Ok(())
}

fn open_log(keep: &Keep) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, keep.path().join("supervisor.log"), flags, Mode::RUSR | Mode::WUSR)
}

/// The life of a supervisor process: descriptor 1 leads to whoever started it, 2 to its log.
///
/// # Errors
/// [`RunError`], which has been told to whoever waits.
pub fn supervise(
    engine: &Engine,
    operator: &OperatorConfig,
    home: &Home,
    id: &str,
    format: Format,
) -> Result<(), RunError> {
    let followed = follow(engine, operator, home, id, format);
    if let Err(error) = &followed {
        answer(&Answer::Failed { text: error.to_string(), exit_code: error.exit_code() });
    }
    followed
}

fn follow(
    engine: &Engine,
    operator: &OperatorConfig,
    home: &Home,
    id: &str,
    format: Format,
) -> Result<(), RunError> {
    let kernel = |what| move |errno| RunError::Kernel { what, errno };
    bivouac_sys::signal::block_all().map_err(kernel("block signals"))?;
    let signals = bivouac_sys::signal::signalfd(&[SIGTERM]).map_err(kernel("wait for signals"))?;
    let keep = home.keep(id);
    let lock = keep.lock()?;
    let (plan, saved) = (keep.plan()?, keep.state()?);
    plan.allocation.make_directories()?;
    plan.allocation.gather_secrets()?;
    let mut supervisor = Supervisor::new(engine, operator, plan, keep, lock, saved)?;
    let mut files = Files(format);
    let mut waiting = Waiting::ForBegin;
    supervisor.begin(&mut files);
    while !supervisor.is_over() {
        waiting = waiting.tell(&supervisor);
        let listed = supervisor.descriptors();
        let mut fds: Vec<_> = listed.iter().map(|(_, fd)| *fd).collect();
        fds.push(signals.as_fd());
        let hot = wait(&fds, supervisor.patience()).map_err(kernel("wait for tasks"))?;
        let told = hot.last().copied().unwrap_or(false);
        let ready: Vec<_> =
            listed.iter().zip(hot).filter(|(_, hot)| *hot).map(|((token, _), _)| *token).collect();
        drop(fds);
        drop(listed);
        if told {
            // The machine goes down, or somebody wants another supervisor: the tasks are left to whoever comes next.
            return Ok(());
        }
        supervisor.turn(&ready, &mut files);
    }
    waiting.tell(&supervisor);
    Ok(())
}

/// Whether somebody waits for the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    ForBegin,
    Nobody,
}

impl Waiting {
    fn tell(self, supervisor: &Supervisor<'_>) -> Waiting {
        if self == Waiting::Nobody {
            return self;
        }
        let failed = supervisor.state().status == Status::Failed;
        if let (true, Some((task, error))) = (failed, supervisor.failure()) {
            let name = supervisor.plan().allocation.tasks.get(*task).map(|task| task.label.clone());
            let text = format!("{}: {error}", name.unwrap_or_default());
            answer(&Answer::Failed { text, exit_code: StartError::exit_code(error) });
        } else if failed && !supervisor.state().machine.has_begun() {
            answer(&Answer::Failed { text: supervisor.state().description.clone(), exit_code: 125 });
        } else if supervisor.state().machine.has_begun() || supervisor.is_over() {
            answer(&Answer::Begun);
        } else {
            return self;
        }
        Waiting::Nobody
    }
}

/// Tells whoever waits, and closes the way there.
pub(crate) fn answer(answer: &Answer) {
    let bytes = serde_json::to_vec(answer).unwrap_or_default();
    let _ = std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush());
    if let Ok(null) = null() {
        // Whoever waits sees the end of the pipe. Should this fail, it sees it when we end.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Tasks of detached runs write into rotated files; what happens to them stands in the supervisor's log.
struct Files(Format);

impl Outputs for Files {
    fn streams(&mut self, allocation: &Allocation, task: usize) -> std::io::Result<TaskStreams> {
        let Some(planned) = allocation.tasks.get(task) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        if planned.logs.disabled {
            return Ok(TaskStreams::Files { stdin: None, stdout: Output::Null, stderr: Output::Null });
        }
        let output = |stream| -> std::io::Result<Output> {
            let files = logs::files(planned, stream)?;
            Ok(Output::Log { directory: log_directory(&allocation.directory)?, files })
        };
        Ok(TaskStreams::Files {
            stdin: None,
            stdout: output(Stream::Stdout)?,
            stderr: output(Stream::Stderr)?,
        })
    }

    fn started(
        &mut self,
        allocation: &Allocation,
        task: usize,
        started: &mut Started,
    ) -> std::io::Result<()> {
        for note in &started.notes {
            self.told(allocation, task, &Happening::Other(Kind::Driver, note.clone()));
        }
        Ok(())
    }

    fn told(&mut self, allocation: &Allocation, task: usize, happening: &Happening) {
        let label = allocation.tasks.get(task).map(|task| task.label.as_str()).unwrap_or_default();
        let (kind, text) = happening.told();
        let report = Report::new(Level::Note, text).about("task", label).about("event", kind.as_str());
        let _ = writeln!(std::io::stderr(), "{}", report.line(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::Disk;
    use crate::allocation::tests::sample;

    #[test]
    fn a_start_that_fails_gives_the_disk_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let mut allocation = sample(&home, "one");
        allocation.disk = Disk::Sticky;
        let kept = home.disks().join(&allocation.name).join("t/local");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("precious"), "the user's").unwrap();
        // What an earlier run left there is in the way of a payload.
        std::os::unix::fs::symlink("/etc", kept.join("in")).unwrap();
        let planted = crate::allocation::Planted { path: "local/in/x".into(), bytes: b"payload".to_vec() };
        allocation.tasks[0].planted.push(planted);
        let network = Settings::default();
        let terms = Terms { on_boot: OnBoot::Forget, config: None, submission: None, network: &network };
        let error = prepare(&home, &allocation, terms).unwrap_err().to_string();
        assert!(error.contains("local/in"), "{error}");
        assert_eq!(std::fs::read_to_string(kept.join("precious")).unwrap(), "the user's");
        assert!(!allocation.directory.exists() && !home.keep("one").path().exists(), "nothing else is left");
        allocation.tasks[0].planted.clear();
        prepare(&home, &allocation, terms).unwrap();
        assert!(allocation.directory.join("t/local/precious").exists());
        crate::gc::forget(&home, &allocation).unwrap();
        assert!(kept.join("precious").exists());
    }
}
