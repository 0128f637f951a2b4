//! From a file's tree to the typed job: top-level blocks first, then the job from the outside in.

mod files;
mod group;
mod inputs;
mod job;
mod service;
mod task;

pub(crate) use inputs::{Inputs, read_inputs};
pub(crate) use job::read_job;
