//! The exec driver: what a task means, for both faces. Knows nothing of gRPC and HCL.
//!
//! Data flow: a tree of values ([`options::Value`]) -> what was asked for ([`config`], [`request`]) -> with the
//! host's facts ([`host`]) a resolved [`task`] -> a sandbox and a cgroup plan -> the [`engine`], which starts,
//! watches, stops and removes. Everything that can be refused is refused before anything is touched.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod config;
pub mod engine;
pub mod entries;
pub mod environment;
pub mod fingerprint;
pub mod generated;
pub mod host;
pub mod identity;
pub mod lookup;
pub mod options;
pub mod request;
pub mod resources;
pub mod signals;
pub mod task;
