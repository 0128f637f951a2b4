//! The standalone face: allocations on one machine, without server or daemon.
//!
//! Data flow: [`load`] (job file and variables to a checked job) -> [`allocation`] (job to directories, environment
//! and driver requests; pure) -> [`supervise`] (starts the tasks and stays with them in the foreground). A run's
//! shims notice when the supervisor dies and end their tasks. Knows nothing of the command line.

#![forbid(unsafe_code)]

pub mod allocation;
pub mod console;
pub mod convert;
pub mod environment;
pub mod gc;
pub mod inputs;
pub mod load;
pub mod network;
pub mod node;
pub mod session;
pub mod supervise;
pub mod template;
