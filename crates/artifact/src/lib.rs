//! Fetch, verify and unpack what an address names, without privileges.
//!
//! Data flow: [`address`] (go-getter's text to a typed source) -> [`Fetcher::fetch`](fetch::Fetcher::fetch), which
//! starts one process to fetch and a second one, without network, to verify and unpack ([`helper`]). Both run as
//! nobody's uid, under Landlock and a system call filter, in a private directory. What they leave there is
//! examined and moved to its [`place`] by descriptors ([`deposit`]). Knows nothing of jobs and tasks.

#![forbid(unsafe_code)]

pub mod address;
pub mod archive;
pub mod cache;
pub mod checksum;
pub mod confine;
pub mod deposit;
pub mod fetch;
mod git;
pub mod helper;
mod http;
mod local;
mod netrc;
pub mod order;
pub mod place;
pub mod tls;
mod tree;
mod unpack;
