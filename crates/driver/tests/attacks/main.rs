//! Attacks: programs of ours try from inside a task what security-cases.md lists, and must not get it.
//!
//! The programs are in `tests/attacks/` (static C, one per theme, see `rig::program`). A check that nothing could
//! fail proves nothing, so each attack is also run where it must succeed: on a decoy, in a task with the grant that
//! opens it, or without the filter. Needs root.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod bombs;
mod descriptors;
mod groups;
mod identity;
mod life;
mod lowers;
mod mounts;
mod nodes;
mod races;
mod reach;
mod rig;
mod roots;
mod terminals;
mod trees;
