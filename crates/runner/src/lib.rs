//! The standalone face: allocations on one machine, without server or daemon.
//!
//! Data flow: [`load`] (job file and variables to a checked job) -> [`planning`] (job to [`allocation`]s, which are
//! all that a supervisor needs; pure) -> [`supervisor`] (performs what [`lifecycle`] decides, writes down [`state`]).
//! A supervisor lives in the caller ([`foreground`]) or on its own ([`detached`]); both are asked through
//! [`control`]. Knows nothing of the command line.

#![forbid(unsafe_code)]

pub mod allocation;
pub mod checks;
pub mod console;
pub mod control;
pub mod convert;
pub mod cores;
pub mod detached;
pub mod difference;
pub mod disk_limit;
pub mod disks;
pub mod dispatch;
pub mod environment;
pub mod events;
pub mod files;
pub mod foreground;
pub mod gc;
pub mod inputs;
pub mod lifecycle;
pub mod load;
pub mod logs;
pub mod machine;
mod memory;
pub mod network;
pub mod node;
pub mod overview;
pub mod periodic;
pub mod planning;
mod progress;
pub mod registry;
pub mod relay;
pub mod report;
pub mod restart;
pub mod running;
pub mod schedule;
pub mod secrets;
pub mod session;
pub mod state;
pub mod supervisor;
pub mod template;
pub mod volumes;
pub mod wiring;
