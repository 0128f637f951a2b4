//! The Nomad face: the driver as an external task driver plugin.
//!
//! Nomad launches this process, reads one line from it and calls it over a socket ([`serve`]). What the
//! calls mean is the engine's business ([`face::Engine`]); this room knows the wire: messages, schema,
//! MessagePack, streams, logs, and which call may come when. It does not know what a sandbox is.
#![forbid(unsafe_code)]

pub mod agent;
mod base;
mod broker;
mod convert;
mod driver;
pub mod driver_options;
pub mod engine;
mod environment;
mod events;
pub mod face;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[expect(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
mod generated;
mod handle;
mod handshake;
mod log;
mod msgpack;
mod name;
pub mod options;
pub mod placement;
mod readiness;
pub mod request;
mod schema;
mod serve;
mod settings;
mod shared;
mod status;
mod streams;
mod tasks;
pub mod wire;

pub use bivouac_driver::signals::{Signal, UnknownSignal};
pub use handshake::{HandshakeError, launched_by_nomad};
pub use msgpack::{ConfigError, decode as decode_config};
pub use name::{DriverName, NameError};
pub use schema::of_block as schema_of;
pub use serve::{ServeError, serve, until_shutdown};
