//! A shim that is broken on purpose, for the fault tests. It is the real one with an engine around the real engine
//! that fails, or dies, at one call. Which, says the name under which it was started:
//!
//!     CALL@fail          the call answers with an error, once
//!     CALL@before        the shim dies before the call
//!     CALL@after         the shim dies after the call
//!     STEP@fail-step     the step of the launch answers with an error
//!     STEP@kill-step     whoever does the step is killed
//!     STEP@fail-entry    the same of every entry, STEP@kill-entry too
#![forbid(unsafe_code)]

use bivouac_cgroup::Stats;
use bivouac_sandbox::EmptyMounts;
use bivouac_sandbox::launch::{Entering, Injected, InjectedKind, Step, Streams};
use bivouac_sandbox::model::Process;
use bivouac_shim::Ground;
use bivouac_shim::engine::{Engine, Newcomer};
use bivouac_shim::protocol::frame::LAUNCH_LIMIT;
use bivouac_shim::protocol::wire::Wire;
use bivouac_shim::protocol::{Launch, Refusal};
use bivouac_shim::serve::{Desk, Server, receive_order, refuse_order};
use bivouac_sys::clone::{Child, OneThread, adopt};
use bivouac_sys::{Errno, signal};
use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let Some((place, kind)) = name.split_once('@') else { return ExitCode::from(64) };
    match serve(place, kind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(place: &str, kind: &str) -> Result<(), Errno> {
    let socket = adopt(3)?;
    signal::block_all()?;
    rustix::process::chdir("/")?;
    let signals = signal::signalfd(&[15, 2])?;
    let mut starter = Wire::new(socket, LAUNCH_LIMIT)?;
    let Some(order) = receive_order(&mut starter, Duration::from_secs(30)) else { return Ok(()) };
    let proof = OneThread::prove()?;
    let ready = Desk::open(&order.launch).and_then(|desk| Ok((desk, Ground::new(proof, &order.launch)?)));
    match ready {
        Ok((desk, mut ground)) => {
            ground.fail_at(injected(place, kind, "step"));
            let entering = injected(place, kind, "entry");
            let fault = Fault { call: place.to_owned(), kind: kind.to_owned(), struck: Cell::new(false) };
            Server::new(Faulty { ground, fault, entering }, starter, signals, desk, order).run()
        }
        Err(refusal) => {
            refuse_order(&mut starter, refusal);
            Ok(())
        }
    }
}

fn injected(place: &str, kind: &str, of: &str) -> Option<Injected> {
    let kind = match kind.strip_suffix(of)? {
        "fail-" => InjectedKind::Fail(Errno::NOMEM),
        "kill-" => InjectedKind::Kill,
        _ => return None,
    };
    let named = |step: &Step| format!("{step:?}") == place;
    let step = Injected::all_steps().into_iter().chain(Injected::steps_of_entering()).find(named)?;
    Some(Injected { step, kind })
}

struct Fault {
    call: String,
    kind: String,
    struck: Cell<bool>,
}

impl Fault {
    fn is(&self, call: &str, kind: &str) -> bool {
        self.call == call && self.kind == kind
    }

    fn before(&self, call: &str) -> Result<(), Refusal> {
        if self.is(call, "before") {
            die();
        }
        if self.is(call, "fail") && !self.struck.replace(true) {
            return Err(Refusal::Failed { what: call.to_owned(), answer: "injected".to_owned() });
        }
        Ok(())
    }

    fn after<T>(&self, call: &str, value: T) -> T {
        if self.is(call, "after") {
            die();
        }
        value
    }
}

fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// The real engine, and the fault.
struct Faulty {
    ground: Ground,
    fault: Fault,
    entering: Option<Injected>,
}

impl Engine for Faulty {
    fn launch(&mut self, order: &Launch, empty: &EmptyMounts, streams: Streams) -> Result<Newcomer, Refusal> {
        self.fault.before("launch")?;
        let launched = self.ground.launch(order, empty, streams);
        if self.entering.is_some() {
            self.ground.fail_at(self.entering);
        }
        self.fault.after("launch", launched)
    }

    fn enter(&mut self, process: &Process, streams: Streams) -> Result<Entering, Refusal> {
        self.fault.before("enter")?;
        let entered = self.ground.enter(process, streams);
        self.fault.after("enter", entered)
    }

    fn signal_all(&mut self, number: i32) -> Result<(), Refusal> {
        self.fault.before("signal_all")?;
        let sent = self.ground.signal_all(number);
        self.fault.after("signal_all", sent)
    }

    fn kill_all(&mut self) -> Result<(), Refusal> {
        self.fault.before("kill_all")?;
        let killed = self.ground.kill_all();
        self.fault.after("kill_all", killed)
    }

    fn kill_session(&mut self, leader: &Child) {
        if self.fault.before("kill_session").is_ok() {
            self.ground.kill_session(leader);
        }
        self.fault.after("kill_session", ());
    }

    fn stats(&mut self) -> Result<Stats, Refusal> {
        self.fault.before("stats")?;
        let stats = self.ground.stats();
        self.fault.after("stats", stats)
    }

    fn oom_kills(&mut self) -> u64 {
        if self.fault.before("oom_kills").is_err() {
            return 0;
        }
        let kills = self.ground.oom_kills();
        self.fault.after("oom_kills", kills)
    }

    fn oom_watch(&self) -> Option<BorrowedFd<'_>> {
        self.ground.oom_watch()
    }

    fn remove_group(&mut self) -> Result<(), Refusal> {
        self.fault.before("remove_group")?;
        let removed = self.ground.remove_group();
        self.fault.after("remove_group", removed)
    }

    fn release(&mut self) -> Option<Child> {
        if self.fault.before("release").is_err() {
            return None;
        }
        let sweeper = self.ground.release();
        self.fault.after("release", sweeper)
    }
}
