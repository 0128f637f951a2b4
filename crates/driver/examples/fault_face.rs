//! A face for the fault tests: does as its arguments say, and is killed or starved while it does.
//!
//!     fault_face collect TOP SHIM NAME TASKS      runs tasks until every exit code is collected; can be killed
//!     fault_face once TOP SHIM NAME ID            starts, enters, stops and removes one task
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a tool of the tests: they see it fail")]

#[path = "../tests/faults/request.rs"]
mod request;

use bivouac_driver::config::OperatorConfig;
use bivouac_driver::engine::{Engine, EngineError, Leftovers, Places, Standing};
use bivouac_driver::options::Value;
use bivouac_driver::request::{ExecRequest, StarterGone, Streams, TaskRequest};
use bivouac_driver::signals::Signal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, top, shim, name, last] = arguments.as_slice() else { return ExitCode::from(64) };
    let places = Places {
        run: Path::new(top).join("run"),
        copies: Path::new(top).join("copies"),
        shim: PathBuf::from(shim),
        shims: format!("{name}-shims"),
    };
    let face = |engine| Face { engine, top: PathBuf::from(top), name: name.clone() };
    let done = Engine::new(places).map(face).and_then(|face| match what.as_str() {
        "collect" => face.collect(last.parse().unwrap()),
        _ => face.once(last),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Face {
    engine: Engine,
    top: PathBuf,
    name: String,
}

impl Face {
    /// A task that takes a while, writes as it goes, and ends with a code of its own.
    fn counting(&self, task: usize) -> TaskRequest {
        let script = format!(
            "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i >> /alloc/output; sleep 0.01; done; exit {}",
            task % 7
        );
        request::request(&self.top, &self.name, &format!("t{task}"), &script, Vec::new())
    }

    fn start(&self, request: &TaskRequest) -> Result<(), EngineError> {
        let operator = OperatorConfig::decode(&Value::Null).unwrap();
        let task = self.engine.prepare(&operator, request)?;
        let streams = Streams::Files { stdin: None, stdout: None, stderr: None };
        self.engine.start(request, &task, streams.into(), StarterGone::Keep).map(drop)
    }

    /// Goes round until all is collected. Whatever a face before this one did is found in the state.
    fn collect(&self, tasks: usize) -> Result<(), EngineError> {
        let place = |task| self.top.join(format!("t{task}")).join("collected");
        while let Some(task) = (0..tasks).find(|task| !place(*task).exists()) {
            for task in task..tasks {
                self.advance(task, &place(task))?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // What was noted and not yet removed when the face before us died.
        for id in self.engine.list()? {
            self.engine.destroy(&id, Leftovers::Kill)?;
        }
        Ok(())
    }

    fn advance(&self, task: usize, place: &Path) -> Result<(), EngineError> {
        let id = format!("t{task}");
        if place.exists() {
            return Ok(());
        }
        match self.engine.find(&id) {
            Err(EngineError::Unknown) => self.start(&self.counting(task)),
            Ok(Standing::Alive(mut client)) => match client.state()?.exit {
                None => Ok(()),
                Some(exit) => self.note(&id, place, exit.ending.code()),
            },
            Ok(Standing::Ended(_, exit)) => self.note(&id, place, exit.ending.code()),
            // Its start was cut short by the end of a face: nothing ran, and it is started anew.
            Ok(Standing::Lost(_)) => self.engine.destroy(&id, Leftovers::Kill).or_else(|error| match error {
                // Its shim is just leaving.
                EngineError::Left(_) => Ok(()),
                other => Err(other),
            }),
            Err(error) => Err(error),
        }
    }

    /// Writes the code down whole or not at all, then removes the run.
    fn note(&self, id: &str, place: &Path, code: i32) -> Result<(), EngineError> {
        let unfinished = place.with_extension("part");
        let mut file = std::fs::File::create(&unfinished).unwrap();
        writeln!(file, "{code}").unwrap();
        std::fs::rename(&unfinished, place).unwrap();
        self.engine.destroy(id, Leftovers::Kill)
    }

    /// One whole life, with whatever this process is still allowed to have.
    fn once(&self, id: &str) -> Result<(), EngineError> {
        let request = request::request(&self.top, &self.name, id, "sleep 1000", Vec::new());
        self.start(&request)?;
        let exec = ExecRequest {
            command: vec!["true".into()],
            streams: Streams::Files { stdin: None, stdout: None, stderr: None },
            deadline: Some(Duration::from_secs(30)),
        };
        let entered = self.engine.exec(id, exec).and_then(|mut session| Ok(session.wait(None)?));
        let stopped = self.engine.stop(id, Signal::KILL, Duration::ZERO);
        self.engine.destroy(id, Leftovers::Kill)?;
        entered?;
        stopped.map(drop)
    }
}
