//! Nomad job files: HCL2 text becomes a validated, typed [`Job`], or errors that show the line and a caret.
//!
//! Data flow: text (`source`) -> a syntax tree with places (`syntax`) -> variables and locals get values (`variables`,
//! `eval`, `functions`) -> blocks become types (`decode`, `model`), each refusal with its place (`diagnostic`) -> what
//! only the whole shows is checked (`validate`).
//!
//! [`parse`] takes texts and data and asks nothing of the machine; what a running task needs later is in
//! [`interpolate`] and [`constraint`].
#![forbid(unsafe_code)]

pub mod constraint;
mod cron;
mod decode;
mod diagnostic;
mod duration;
mod eval;
mod files;
mod format;
mod functions;
pub mod interpolate;
mod model;
mod reader;
mod source;
mod support;
mod syntax;
mod validate;
mod value;
mod variables;

pub use cron::{Cron, Day};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use files::{FileAccess, FolderFiles};
pub use format::format;
pub use model::*;
pub use source::{MAX_BYTES, Place, SourceFile, Sources, Span};
pub use support::{Feature, Support};
pub use value::{Number, Value};
pub use variables::{Type, VariableSources};

use std::cell::RefCell;
use std::sync::Arc;

/// A commented job file to begin with; it runs as it is.
pub const EXAMPLE: &str = include_str!("example.nomad.hcl");

/// Everything that decides what a job file means.
#[derive(Default)]
pub struct Input<'a> {
    /// The job file.
    pub job: SourceFile,
    /// Values for its variables.
    pub variables: VariableSources,
    /// What its file functions may read; nothing if `None`.
    pub files: Option<&'a dyn FileAccess>,
    /// What the running version can do.
    pub support: Support,
}

/// A job, and what its reader should know about it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The job.
    pub job: Job,
    /// One for each block that has no effect here, in the order of the text.
    pub notes: Vec<Note>,
    /// Values of variables marked `sensitive`, to be kept out of every output.
    pub sensitive: Vec<String>,
    /// The texts that spans point into.
    pub sources: Arc<Sources>,
}

/// Reads a job file.
///
/// # Errors
/// All that is wrong with the file, each with its place.
pub fn parse(input: &Input<'_>) -> Result<Outcome, Diagnostics> {
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    match read(input, &mut sources, &mut problems) {
        Some((job, notes, sensitive)) if problems.is_empty() => {
            Ok(Outcome { job, notes, sensitive, sources: Arc::new(sources) })
        }
        _ => Err(Diagnostics::new(problems, Arc::new(sources))),
    }
}

/// Reads a file of settings: arguments and blocks with constant values, as one tree.
///
/// # Errors
/// All that is wrong with the file, each with its place.
pub fn settings(file: &SourceFile) -> Result<ConfigTree, Diagnostics> {
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    let tree = settings_tree(file, &mut sources, &mut problems);
    match tree {
        Some(tree) if problems.is_empty() => Ok(tree),
        _ => Err(Diagnostics::new(problems, Arc::new(sources))),
    }
}

fn settings_tree(
    file: &SourceFile,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Option<ConfigTree> {
    let file = sources.add(file).map_err(|problem| problems.push(*problem)).ok()?;
    let body = syntax::parse_file(sources, file).map_err(|found| problems.extend(found)).ok()?;
    let (budget, host) = (eval::Budget::default(), functions::Host::default());
    let evaluator = eval::Evaluator { names: eval::Names::Constants, sources, budget: &budget, host: &host };
    let (support, problems_of) = (Support::default(), RefCell::default());
    let cx = reader::Context {
        evaluator: &evaluator,
        support: &support,
        problems: problems_of,
        notes: RefCell::default(),
    };
    let tree = reader::Reader::file(&cx, &body).tree();
    problems.append(&mut cx.problems.borrow_mut());
    Some(tree)
}

/// The names of all functions that a job file may call.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    functions::names()
}

/// Reads a duration as job files write it: `30s`, `5m`, `1h30m`.
///
/// # Errors
/// A sentence that names the text and how a duration looks.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    duration::parse(text)
}

fn read(
    input: &Input<'_>,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Job, Vec<Note>, Vec<String>)> {
    let file = sources.add(&input.job).map_err(|problem| problems.push(*problem)).ok()?;
    let body = syntax::parse_file(sources, file).map_err(|found| problems.extend(found)).ok()?;
    let budget = eval::Budget::default();
    let host = functions::Host { files: input.files };
    let inputs = decode::read_inputs(&body, &input.variables, sources, &budget, &host);
    let inputs: decode::Inputs = inputs.map_err(|found| problems.extend(found)).ok()?;
    let names = eval::Names::Job { vars: &inputs.vars, locals: &inputs.locals };
    let evaluator = eval::Evaluator { names, sources, budget: &budget, host: &host };
    let cx = reader::Context {
        evaluator: &evaluator,
        support: &input.support,
        problems: RefCell::default(),
        notes: RefCell::default(),
    };
    let job = decode::read_job(&cx, &body, file);
    if let Some(job) = &job {
        validate::validate(&cx, job);
    }
    problems.append(&mut cx.problems.borrow_mut());
    let mut notes = cx.notes.take();
    notes.sort_by_key(|note| note.span);
    Some((job?, notes, inputs.sensitive))
}
