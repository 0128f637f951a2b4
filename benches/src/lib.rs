//! The benchmark: Bivouac beside the floor program and its peers, in one run, interleaved, compared by ratios.
//!
//! Absolute times mean nothing on a busy machine; the ratio of two subjects in the same round does. One round runs
//! every subject once without pauses (hot) and once with 40 ms between launches (cold). A figure is the median over
//! the rounds.
#![forbid(unsafe_code)]

pub mod budget;
pub mod ground;
pub mod inside;
pub mod life;
pub mod plot;
pub mod report;
pub mod root;
pub mod rounds;
pub mod row;
pub mod runner;
pub mod shim;
pub mod subject;
pub mod task;
