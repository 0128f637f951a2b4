//! An engine without any isolation, for tests of the face: tasks are plain child processes.
//!
//! Used in the tests' own process and, as the example `fake_plugin`, under a real Nomad.

use bivouac_driver::engine::Leftovers;
use bivouac_plugin::Signal;
use bivouac_plugin::driver_options::from_driver;
use bivouac_plugin::face::{
    Engine, EngineError, EventSink, ExecControl, ExecRequest, ExecSession, ExecStreams, Exit, Fact,
    Fingerprint, Foreign, Health, Inspection, Output, Purpose, StartError, Started, TaskEvent, TaskRecover,
    TaskStart, TermSize, Usage,
};
use bivouac_plugin::options::{Kind, Opt, Value, Values};
use rustix::process::{Pid, PidfdFlags};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

/// What a test can look at afterwards.
#[derive(Default)]
pub(crate) struct Record {
    /// Every configuration taken.
    pub(crate) configured: Mutex<Vec<(Values, Purpose)>>,
    /// Every task started.
    pub(crate) started: Mutex<Vec<TaskStart>>,
    /// Every foreign task ended.
    pub(crate) ended: Mutex<Vec<Foreign>>,
}

/// The engine. Its tasks run in process groups of their own.
#[derive(Default)]
pub(crate) struct Fake {
    tasks: Mutex<HashMap<String, Arc<Running>>>,
    sink: OnceLock<EventSink>,
    /// What happened.
    pub(crate) record: Arc<Record>,
    /// Where to write down what was asked for, for tests in other processes.
    pub(crate) diary: Option<PathBuf>,
    /// Whether it says that it takes the real driver's options.
    pub(crate) driver_options: bool,
}

struct Running {
    pid: i32,
    began: SystemTime,
    over: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(error.to_string())
}

fn kill_group(pid: i32, signal: i32) {
    let pid = Pid::from_raw(pid).expect("a child's pid");
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Reaps a child in a thread of its own; the reading end becomes readable at its end.
fn reap(mut child: Child, tell: impl FnOnce(Exit) + Send + 'static) -> std::io::Result<OwnedFd> {
    let (over, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    std::thread::spawn(move || {
        let status = child.wait().expect("wait for a child");
        let signal = status.signal().unwrap_or(0);
        let code = status.code().unwrap_or(128 + signal);
        tell(Exit { code, signal, oom_killed: false, error: None });
        drop(told);
    });
    Ok(over)
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

impl Fake {
    /// A fake that writes down what it is asked for.
    pub(crate) fn with_diary(diary: Option<PathBuf>, driver_options: bool) -> Self {
        Self { diary, driver_options, ..Self::default() }
    }

    fn find(&self, id: &str) -> Result<Arc<Running>, EngineError> {
        self.tasks.lock().expect("a sound lock").get(id).cloned().ok_or(EngineError::UnknownTask)
    }

    fn write_down(&self, what: &str, details: &dyn std::fmt::Debug) {
        if let Some(diary) = &self.diary {
            let mut file = OpenOptions::new().append(true).create(true).open(diary).expect("the diary");
            writeln!(file, "{what}: {details:?}").expect("write into the diary");
        }
    }
}

impl Engine for Fake {
    fn operator_options(&self) -> Vec<Opt> {
        let mut options =
            if self.driver_options { from_driver(bivouac_driver::options::OPERATOR) } else { Vec::new() };
        options.push(Opt {
            name: "greeting",
            kind: Kind::Text,
            required: false,
            default: Some(Value::Text("hi".into())),
            help: "",
        });
        options
    }

    fn task_options(&self) -> Vec<Opt> {
        if self.driver_options {
            return from_driver(bivouac_driver::options::TASK);
        }
        let opt = |name, kind| Opt { name, kind, required: false, default: None, help: "" };
        vec![
            Opt { required: true, ..opt("command", Kind::Text) },
            opt("args", Kind::TextList),
            opt("ulimit", Kind::TextMap),
            opt("limits", Kind::Block(vec![opt("depth", Kind::Count)])),
            opt(
                "mount",
                Kind::Blocks(vec![
                    Opt { required: true, ..opt("target", Kind::Text) },
                    opt("share", Kind::Number),
                ]),
            ),
        ]
    }

    fn configure(&self, values: &Values, purpose: &Purpose) -> Result<(), EngineError> {
        self.write_down("configure", &(values, purpose));
        if values.text("greeting") == Some("rude") {
            return Err(failed("greeting must be polite, got \"rude\""));
        }
        self.record.configured.lock().expect("a sound lock").push((values.clone(), purpose.clone()));
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        let attributes = [("fake".to_owned(), Fact::Flag(true)), ("cores".to_owned(), Fact::Count(2))].into();
        Fingerprint { health: Health::Healthy, description: "Healthy".into(), attributes }
    }

    fn start(&self, task: &TaskStart) -> Result<Started, StartError> {
        self.write_down("start", task);
        self.record.started.lock().expect("a sound lock").push(task.clone());
        let refused = |text: String, recoverable| Err(StartError { text, recoverable });
        let command = task.options.text("command").unwrap_or_default();
        match command {
            "fail" => return refused("cannot find \"fail\"".into(), false),
            "fail-for-now" => return refused("out of luck".into(), true),
            _ => {}
        }
        let stdio = |output: &Output| match output {
            Output::Path(path) => open(path).map(Stdio::from),
            Output::Discard | Output::Collect(_) => Ok(Stdio::null()),
        };
        let (Ok(stdout), Ok(stderr)) = (stdio(&task.stdout), stdio(&task.stderr)) else {
            return refused(format!("cannot open {:?} and {:?}", task.stdout, task.stderr), false);
        };
        let child = Command::new(command)
            .args(task.options.list("args").unwrap_or_default())
            .env_clear()
            .envs(&task.env)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => return refused(format!("cannot run {command:?}: {error}"), false),
        };
        let pid = i32::try_from(child.id()).expect("a pid");
        let tasks: &Mutex<_> = &self.tasks;
        let (sender, receiver) = std::sync::mpsc::channel::<Arc<Running>>();
        let over = reap(child, move |exit| {
            if let Ok(running) = receiver.recv() {
                *running.exit.lock().expect("a sound lock") = Some(exit);
            }
        });
        let over = over.map_err(|e| StartError { text: e.to_string(), recoverable: true })?;
        let running = Arc::new(Running { pid, began: SystemTime::now(), over, exit: Mutex::default() });
        sender.send(Arc::clone(&running)).expect("the reaper listens");
        tasks.lock().expect("a sound lock").insert(task.id.clone(), running);
        if let Some(sink) = self.sink.get() {
            sink(TaskEvent {
                task_id: task.id.clone(),
                alloc_id: task.alloc_id.clone(),
                task_name: task.name.clone(),
                message: format!("Runs as process {pid}"),
                annotations: BTreeMap::new(),
            });
        }
        Ok(Started { state: pid.to_string().into_bytes() })
    }

    fn recover(&self, task: &TaskRecover) -> Result<(), EngineError> {
        self.write_down("recover", task);
        let pid: i32 = String::from_utf8_lossy(&task.state).parse().map_err(failed)?;
        let known = Pid::from_raw(pid).ok_or(EngineError::UnknownTask)?;
        let over = rustix::process::pidfd_open(known, PidfdFlags::empty())
            .map_err(|_| failed("the task is gone"))?;
        let running = Running { pid, began: SystemTime::now(), over, exit: Mutex::default() };
        self.tasks.lock().expect("a sound lock").insert(task.id.clone(), Arc::new(running));
        Ok(())
    }

    fn watch(&self, id: &str) -> Result<OwnedFd, EngineError> {
        self.find(id)?.over.try_clone().map_err(failed)
    }

    fn exited(&self, id: &str) -> Result<Option<Exit>, EngineError> {
        let running = self.find(id)?;
        let exit = running.exit.lock().expect("a sound lock").clone();
        if exit.is_some() {
            return Ok(exit);
        }
        let gone =
            Pid::from_raw(running.pid).is_none_or(|pid| rustix::process::test_kill_process(pid).is_err());
        Ok(gone.then(|| Exit { code: 3, ..Exit::default() }))
    }

    fn stop(&self, id: &str, signal: Signal, timeout: Duration) -> Result<(), EngineError> {
        self.write_down("stop", &(id, signal, timeout));
        let pid = self.find(id)?.pid;
        kill_group(pid, signal.number());
        std::thread::spawn(move || {
            std::thread::sleep(timeout);
            kill_group(pid, 9);
        });
        Ok(())
    }

    fn destroy(&self, id: &str, leftovers: Leftovers) -> Result<(), EngineError> {
        self.write_down("destroy", &(id, leftovers));
        let running = self.tasks.lock().expect("a sound lock").remove(id).ok_or(EngineError::UnknownTask)?;
        if running.exit.lock().expect("a sound lock").is_none() {
            kill_group(running.pid, 9);
        }
        Ok(())
    }

    fn inspect(&self, id: &str) -> Result<Inspection, EngineError> {
        let running = self.find(id)?;
        let exit = running.exit.lock().expect("a sound lock").clone();
        Ok(Inspection {
            started_at: running.began,
            completed_at: exit.is_some().then(SystemTime::now),
            exit,
            attributes: [("pid".to_owned(), running.pid.to_string())].into(),
        })
    }

    fn stats(&self, id: &str) -> Result<Option<Usage>, EngineError> {
        self.find(id)?;
        Ok(Some(Usage { cpu_total_ns: 1_000_000, rss: Some(4096), ..Usage::default() }))
    }

    fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        self.write_down("signal", &(id, signal));
        kill_group(self.find(id)?.pid, signal.number());
        Ok(())
    }

    fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        self.write_down("exec", &(id, request));
        self.find(id)?;
        let exit = Arc::new(Mutex::new(None));
        let teller = Arc::clone(&exit);
        let tell = move |ended| *teller.lock().expect("a sound lock") = Some(ended);
        let (program, args) = request.command.split_first().ok_or_else(|| failed("no command"))?;
        let started = |error: std::io::Error| EngineError::NotStarted {
            text: format!("cannot run {program:?}: {error}"),
            exit_code: 127,
        };
        if let Some(size) = request.terminal {
            let (master, slave) = terminal().map_err(failed)?;
            resize(&master, size).map_err(failed)?;
            let ours = master.try_clone().map_err(failed)?;
            let twin = || slave.try_clone().map(Stdio::from);
            let mut command = Command::new("setsid");
            command.args(["-c", "-w", program]).args(args).process_group(0);
            command
                .stdin(twin().map_err(failed)?)
                .stdout(twin().map_err(failed)?)
                .stderr(twin().map_err(failed)?);
            let child = command.spawn().map_err(started)?;
            drop(command);
            let pid = i32::try_from(child.id()).expect("a pid");
            let watch = reap(child, tell).map_err(failed)?;
            let control = Box::new(Control { pid, exit, master: Some(ours) });
            return Ok(ExecSession { streams: ExecStreams::Terminal(master), watch, control });
        }
        let stdin = if request.stdin { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(program)
            .args(args)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(started)?;
        let pid = i32::try_from(child.id()).expect("a pid");
        let streams = ExecStreams::Pipes {
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from).expect("piped"),
            stderr: child.stderr.take().map(OwnedFd::from).expect("piped"),
        };
        let watch = reap(child, tell).map_err(failed)?;
        Ok(ExecSession { streams, watch, control: Box::new(Control { pid, exit, master: None }) })
    }

    fn end_foreign(&self, foreign: &Foreign) -> Result<(), EngineError> {
        self.write_down("end_foreign", foreign);
        self.record.ended.lock().expect("a sound lock").push(foreign.clone());
        Ok(())
    }

    fn report_events_to(&self, sink: EventSink) {
        let _ = self.sink.set(sink);
    }
}

fn terminal() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

fn resize(master: &OwnedFd, size: TermSize) -> rustix::io::Result<()> {
    let size =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}

#[derive(Debug)]
struct Control {
    pid: i32,
    exit: Arc<Mutex<Option<Exit>>>,
    master: Option<OwnedFd>,
}

impl ExecControl for Control {
    fn exited(&self) -> Result<Option<Exit>, EngineError> {
        Ok(self.exit.lock().expect("a sound lock").clone())
    }

    fn resize(&self, size: TermSize) -> Result<(), EngineError> {
        let master = self.master.as_ref().ok_or_else(|| failed("attempted to resize a non-tty session"))?;
        resize(master, size).map_err(failed)
    }

    fn kill(&self) {
        if self.exit.lock().expect("a sound lock").is_none() {
            kill_group(self.pid, 9);
        }
    }
}
