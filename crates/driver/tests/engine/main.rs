//! The engine with real shims and real sandboxes: the acceptance rows of the exec driver, every option once end to
//! end, refusals, and nothing left behind. Needs root; a missing shim program is a failure, not a skip.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod bad_input;
mod bench;
mod d_rows;
mod e_rows;
mod fuse;
mod landlock;
mod left;
mod mounts;
mod options;
mod x_cgroups;
mod x_rows;
