//! `template` blocks: Go templates rendered by a process without privileges, files of the task's directories read
//! for it beneath and without links, results put in place by a rename, changes of what was read watched.
//!
//! [`render`] runs the helper; [`deliver`] writes; [`watch`] wakes up when a file that was read changes.

pub mod balance;
pub mod deliver;
pub mod environment;
pub mod functions;
pub mod helper;
pub mod render;
mod scratch;
mod sprig;
#[cfg(test)]
mod tests;
pub mod watch;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is rendered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The template.
    pub text: String,
    /// Opens an action.
    pub left: String,
    /// Closes an action.
    pub right: String,
    /// What becomes of keys that are not there.
    pub missing: Missing,
    /// The task's environment.
    pub env: BTreeMap<String, String>,
}

/// What becomes of keys that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// They are empty.
    Empty,
    /// They are an error.
    Error,
}

/// What the helper says, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// It wants a file of the task's.
    Read(String),
    /// The result.
    Rendered(String),
    /// An error.
    Failed(String),
}

/// What the helper is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// A file's content.
    Content(String),
    /// Why not.
    Refused(String),
}

/// The largest template, file and result.
pub const LARGEST: usize = 16 * 1024 * 1024;
