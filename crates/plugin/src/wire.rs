//! The wire's messages and services under short names; all of it is generated from `proto/`.

pub use crate::generated::google::rpc;
pub use crate::generated::hashicorp::nomad::plugins::base::proto as base;
pub use crate::generated::hashicorp::nomad::plugins::drivers::proto as driver;
pub use crate::generated::hashicorp::nomad::plugins::shared::{hclspec, structs};
pub use crate::generated::plugin;
