//! The engine: a typed [`Sandbox`] goes in, a running isolated process with a pidfd comes out.
//!
//! Data flow: **describe** ([`model`]: what the caller asks for) -> **survey** ([`survey`]: a read-only look at
//! the host's sources) -> **plan** ([`plan`]: pure, printable, every refusal that can be known beforehand) ->
//! **perform** ([`launch`]: descriptors are opened once, a child is cloned, the steps of `launch::STEPS` are
//! carried out on them, from [`EmptyMounts`] on, the command is run). [`launch::enter`] brings a further process into a running sandbox.
//! Blocking, no async; knows nothing of job files, Nomad or shims.

#![forbid(unsafe_code)]

pub mod capability;
mod empty_mounts;
pub mod launch;
pub mod memory;
pub mod model;
pub mod path;
pub mod plan;
pub mod sanitise;
pub mod seccomp;
pub mod survey;
pub mod tree_copy;

pub use empty_mounts::{EmptyMounts, Making, RootSwitch};
pub use model::Sandbox;
pub use path::{HostPath, TaskPath};
