//! The system call filter: what a task may ask of the kernel, compiled to classic BPF.
//!
//! Data flow: a [`Request`] (profile, capabilities granted, the operator's words) with the lists in `themes`
//! makes a [`Policy`], a table from numbers to answers. It decides calls itself ([`Policy::decide`]) and
//! compiles to a [`Filter`]; tests run both over every number and many arguments and find them equal. All of
//! it is pure: the same request gives the same filter on every machine.
//!
//! What a launcher needs is [`Filter::instructions`] alone: in order, as `struct sock_filter` has its fields, for
//! seccomp(2) with `SECCOMP_SET_MODE_FILTER` and no flags. No filter at all ([`compile`] gives `None`) is what the
//! profile `unconfined` means, and nothing else means it: a filter that cannot be loaded stops the start.
//! After loading, a launcher may still call what every task may: capset, setresuid, prctl, chdir, close_range,
//! dup3, write, clone without new namespaces, wait4, setsid, ioctl, execve, exit_group (a test keeps the list).
//! It may **not** call setns, unshare, mount calls, chroot, mknod of devices, keyctl or clone3.
//!
//! Answers: a call that no list knows is ENOSYS, one that is known and closed is EPERM, a closed socket family is
//! EAFNOSUPPORT. 32-bit programs on x86_64 have the same answers by their own numbers; x32 numbers are unknown.
//! A call by any other entry (32-bit ARM) ends the process: nothing is known about its numbers.

mod assemble;
mod checks;
mod numbers;
mod policy;
mod saved;
mod themes;
mod verdict;

#[cfg(test)]
mod tests;

pub use numbers::{Entry, Machine};
pub use policy::{Call, Policy};
pub use verdict::{Action, Refusal};

use crate::capability::CapSet;
use serde::{Deserialize, Serialize};

/// Which filter a task gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// What ordinary programs need.
    #[default]
    Default,
    /// None: the operator must have allowed it.
    Unconfined,
}

/// Whether SYS_ADMIN also opens mount, namespace and swap calls: it makes the task equal to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountGrant {
    /// The operator has not said so.
    #[default]
    Refused,
    /// The operator has set `allow_mount`.
    Granted,
}

/// How 32-bit programs on x86_64 make sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Compat32 {
    /// By the calls that exist since Linux 4.3; `socketcall` is refused, because its family cannot be seen.
    #[default]
    #[serde(rename = "no-socketcall")]
    NoSocketcall,
    /// By `socketcall` too, and so in every family that the kernel has.
    #[serde(rename = "full")]
    Full,
}

/// All that a filter depends on. Equal requests have equal filters, so it can be the key of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// The profile.
    pub profile: Profile,
    /// Capabilities that the operator allowed *and* the task added. Those of the default set open nothing here
    /// unless the task added them by name.
    pub granted: CapSet,
    /// Whether SYS_ADMIN, if granted, opens mounts.
    pub mount_allowed: MountGrant,
    /// What 32-bit programs may do.
    pub compat32: Compat32,
}

/// The filter of a request on this machine; none for [`Profile::Unconfined`].
pub fn compile(request: &Request) -> Option<Filter> {
    Policy::new(Machine::HOST, request).compile()
}

/// The lists of the profile `default` as a page to read: every system call by theme, with the reason.
pub fn lists() -> String {
    themes::all().map(|theme| theme.to_string()).collect()
}

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A compiled filter. It travels, and is kept, as [`Filter::to_bytes`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program, from its first instruction.
    pub instructions: Vec<Instruction>,
}

/// Bytes that are no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An instruction takes eight.
    #[error("a system call filter of {bytes} bytes is cut off: its instructions take 8 bytes each")]
    CutOff {
        /// Length found.
        bytes: usize,
    },
    /// Nothing at all, or more than the kernel takes.
    #[error("a system call filter of {instructions} instructions: the kernel takes 1 to {}", Filter::MOST)]
    Length {
        /// Length found.
        instructions: usize,
    },
}

impl Filter {
    /// The longest program that the kernel takes (`BPF_MAXINSNS`).
    pub const MOST: usize = 4096;

    /// Eight bytes for each instruction: `code`, `jt`, `jf`, `k`, little-endian, as in memory on the machines served.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * self.instructions.len());
        for instruction in &self.instructions {
            let [c0, c1] = instruction.code.to_le_bytes();
            let [k0, k1, k2, k3] = instruction.k.to_le_bytes();
            bytes.extend_from_slice(&[c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]);
        }
        bytes
    }

    /// The reverse of [`Filter::to_bytes`]. What the instructions do is checked by the kernel when they are loaded.
    ///
    /// # Errors
    /// A length that no filter has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Filter, FilterError> {
        let (chunks, []) = bytes.as_chunks::<8>() else {
            return Err(FilterError::CutOff { bytes: bytes.len() });
        };
        if chunks.is_empty() || chunks.len() > Filter::MOST {
            return Err(FilterError::Length { instructions: chunks.len() });
        }
        let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
        };
        Ok(Filter { instructions: chunks.iter().map(instruction).collect() })
    }
}
