//! Faults and load: the engine with real shims and sandboxes, broken on purpose. Ledger equal, nothing lost, every
//! wait ended by its deadline. Short forms here, full ones with `BIVOUAC_NIGHTLY`; a table of what was seen is left in
//! `target/faults-<lane>.md`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of a test fails as the test does")]

mod bombs;
mod disk;
mod kills;
mod load;
mod plans;
mod request;
mod rig;
mod steps;
mod streams;
mod surprises;
