//! Groups on the hierarchies of the machine that runs the tests: root, and a scope per test that must end empty.

mod common;
mod devices;
mod kill;
mod lifecycle;
mod oom;
mod stats;
