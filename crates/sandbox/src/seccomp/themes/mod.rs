//! Every system call, by theme, with the reason for what is done with it.
//!
//! [`open`] lists what every task may call, [`gated`] what depends on arguments or on what was granted,
//! [`closed`] what nobody may. A test holds the lists to this: each call that the number tables know stands
//! in exactly one theme, and no theme names a call that does not exist.

mod closed;
mod gated;
mod open;

use super::verdict::{ALLOW, ENOSYS, EPERM, Verdict};
use super::{Request, checks};
use crate::capability::CapSet;
use std::fmt;

/// Calls that belong together and are answered alike.
pub(super) struct Theme {
    /// What they are about.
    pub(super) name: &'static str,
    /// Why they are answered so.
    pub(super) reason: &'static str,
    /// How they are answered.
    pub(super) gate: Gate,
    /// Their names.
    pub(super) calls: &'static [&'static str],
}

/// How calls are answered.
pub(super) enum Gate {
    /// Allowed.
    Open,
    /// EPERM, whatever is granted.
    Closed,
    /// ENOSYS, whatever is granted: programs take their older way.
    Absent,
    /// Allowed to a task that was granted this capability, else EPERM.
    Capability(CapSet),
    /// Allowed with SYS_ADMIN and the operator's word for mounts, else EPERM.
    Mounts,
    /// By arguments, or by more than one thing.
    Look(fn(&Request) -> Verdict),
}

impl Gate {
    /// The answer for one task.
    pub(super) fn verdict(&self, request: &Request) -> Verdict {
        match self {
            Gate::Open => ALLOW,
            Gate::Closed => EPERM,
            Gate::Absent => ENOSYS,
            Gate::Capability(capability) => checks::with(request, *capability),
            Gate::Mounts => checks::mount(request),
            Gate::Look(check) => check(request),
        }
    }
}

/// What opens them, in words.
impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gate::Open => f.write_str("open"),
            Gate::Closed => f.write_str("closed"),
            Gate::Absent => f.write_str("absent"),
            Gate::Capability(capability) => write!(f, "with {capability}"),
            Gate::Mounts => f.write_str("with sys_admin and allow_mount"),
            Gate::Look(_) => f.write_str("by arguments"),
        }
    }
}

/// A paragraph: name, gate and reason, then the calls, sorted.
impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut calls = self.calls.to_vec();
        calls.sort_unstable();
        writeln!(f, "{} ({}): {}", self.name, self.gate, self.reason)?;
        calls.chunks(8).try_for_each(|line| writeln!(f, "    {}", line.join(" ")))
    }
}

/// All themes. The position of a theme in it is its number.
pub(super) fn all() -> impl Iterator<Item = &'static Theme> {
    open::THEMES.iter().chain(gated::THEMES).chain(closed::THEMES)
}
