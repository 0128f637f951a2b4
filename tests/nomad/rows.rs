//! The rows of the behaviour list that a user of Nomad can see, under our drivers: one test each, or one for rows
//! that are one thing.

mod driver;
mod end_to_end;
mod entered;
mod files;
mod given;
mod lifecycle;
mod lookup;
mod network;
mod operators;
mod resources;

use crate::agent::Agent;
use crate::job::{Job, Run};

/// Runs a job that must fail before its task starts, with these words, and leave nothing behind.
fn refused(agent: &Agent, job: &Job, words: &[&str]) {
    let run = job.submit(agent);
    run.wait_for("failed");
    let events = run.events();
    for word in words {
        assert!(events.contains(word), "{word:?} in {events}");
    }
    assert!(!run.event_types("main").contains(&"Started".to_owned()), "{events}");
    run.nothing_left();
}

/// Runs a batch job of one shell command and tells what it printed; it must succeed.
fn sh<'a>(agent: &'a Agent, name: &str, driver: &str, script: &str) -> (Run<'a>, String) {
    succeeded(agent, &Job::batch(name, driver, &["/bin/sh", "-c", &format!("{script}\necho END")]))
}

/// Runs a job that prints `END` last; tells what it printed before.
fn succeeded<'a>(agent: &'a Agent, job: &Job) -> (Run<'a>, String) {
    let run = job.finish(agent);
    let said = run.stdout_when(|seen| seen.ends_with("END\n"));
    assert_eq!(run.code(), 0, "{said} {}", run.stderr());
    let said = said.strip_suffix("END\n").unwrap_or_default().to_owned();
    (run, said)
}
