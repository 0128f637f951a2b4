//! The shim: the small process that is the parent of one task, outlives whoever started it, and keeps the exit
//! status until it is collected. And the client with which a face speaks to it.
//!
//! Data flow in a shim: [`protocol`] (bytes to requests) -> [`machine`] (state and event to actions, pure) ->
//! [`serve`] (does the actions with an [`engine`], collects output into a `rotated_log` where that is asked for) ->
//! [`status`] (on disk) -> answers. In a face: [`client`] starts and asks shims, [`recover`] finds them again and
//! cleans up after dead ones.

#![forbid(unsafe_code)]

pub mod client;
pub mod engine;
mod exec_session;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ground;
pub mod init;
pub mod log_times;
pub mod machine;
pub mod process;
pub mod protocol;
pub mod recover;
pub mod rotated_log;
pub mod serve;
pub mod status;

pub use ground::Ground;
