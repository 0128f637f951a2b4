//! Control groups of version 1, hybrid and version 2 behind one set of types.
//!
//! Data flow: the text of the mount table becomes a [`Host`]; a host, a [`Placement`], [`Limits`] and a
//! [`DevicePolicy`] become a [`Plan`] (pure, printable); performing the plan gives a [`Group`], from which comes the
//! [`Entrance`] that a child takes, and through which the group is frozen, killed, measured, watched and removed.
//! What must outlive this process is [`Saved`], known before the first directory is made.
//!
//! There is no call that moves another process: writing a foreign process number waits for an RCU grace period
//! (10 ms). A child is born in the version 2 group and writes `0` to the version 1 `tasks` files itself.
//!
//! On hybrid hosts version 1 does everything, and a version 2 group is made only where a version 1 hierarchy is
//! missing (no freezer, no device rules). This room knows nothing of tasks, sandboxes or namespaces.
//!
//! | file | theme |
//! |---|---|
//! | `name`, `limits`, `devices` | checked values |
//! | `host` | layouts, from the mount table |
//! | `plan`, `writes` | what will be made and written |
//! | `create` | performing a plan, with undo |
//! | `group`, `place` | a live group |
//! | `walk` | groups below a group |
//! | `kill`, `freeze`, `remove` | the end |
//! | `stats`, `oom` | figures and events |
//! | `program` | device rules of version 2 |
//! | `files`, `parse` | the kernel's small files |
#![forbid(unsafe_code)]

mod create;
mod devices;
mod error;
mod files;
mod freeze;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod host;
mod kill;
mod limits;
mod name;
mod oom;
mod parse;
mod place;
mod plan;
mod program;
mod remove;
mod saved;
mod stats;
#[cfg(test)]
mod testing;
mod wait;
mod walk;
mod writes;

pub use create::remove_empty_parents;
pub use devices::{DeviceAccess, DeviceKind, DeviceNumber, DevicePolicy, DeviceRule};
pub use error::{Action, Error};
pub use group::{Entrance, Group};
pub use host::{Controller, Hierarchy, Host, Layout};
pub use limits::{Bytes, CpuMax, CpuSet, CpuShares, Limits, Memory, OomKill, Pids, PidsMax, SwapPolicy};
pub use name::{GroupName, GroupPath};
pub use oom::OomWatch;
pub use plan::{Given, GivenAccess, GivenGroup, Placement, Plan, Role};
pub use remove::remove_saved;
pub use saved::{CgroupId, Saved};
pub use stats::{CpuStats, IoStats, MemoryStats, Stats, Throttling};
