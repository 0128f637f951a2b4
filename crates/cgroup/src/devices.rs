//! Device rules: which device nodes a group may open or make, and how version 1 spells them.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a group may do with devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevicePolicy {
    /// What the parent may.
    Unrestricted,
    /// What one of the rules allows, and nothing else.
    Allow(Vec<DeviceRule>),
}

/// The two kinds of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Characters.
    Char,
    /// Blocks.
    Block,
}

/// A major or minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceNumber {
    /// Every number.
    Any,
    /// This one.
    Is(u32),
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceNumber::Any => f.write_str("*"),
            DeviceNumber::Is(number) => write!(f, "{number}"),
        }
    }
}

/// What may be done with a node; never nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceAccess {
    read: bool,
    write: bool,
    mknod: bool,
}

impl DeviceAccess {
    /// Opening for reading and writing, and making the node.
    pub const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };
    /// Opening for reading and writing.
    pub const READ_WRITE: DeviceAccess = DeviceAccess { read: true, write: true, mknod: false };
    /// Making the node.
    pub const MKNOD: DeviceAccess = DeviceAccess { read: false, write: false, mknod: true };

    /// The bits of `struct bpf_cgroup_dev_ctx` (`BPF_DEVCG_ACC_*`).
    pub(crate) fn bits(self) -> i32 {
        i32::from(self.mknod) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

/// Reads letters of `rwm`, each once, in any order.
impl FromStr for DeviceAccess {
    type Err = Error;
    fn from_str(text: &str) -> Result<DeviceAccess, Error> {
        let bad = || Error::Value {
            what: "device permissions",
            value: format!("`{}`", crate::error::excerpt(text)),
            why: "expected some of r, w and m, each once",
        };
        let mut access = DeviceAccess { read: false, write: false, mknod: false };
        for letter in text.chars() {
            let bit = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.mknod,
                _ => return Err(bad()),
            };
            if std::mem::replace(bit, true) {
                return Err(bad());
            }
        }
        if access.bits() == 0 { Err(bad()) } else { Ok(access) }
    }
}

impl TryFrom<String> for DeviceAccess {
    type Error = Error;
    fn try_from(text: String) -> Result<DeviceAccess, Error> {
        text.parse()
    }
}

impl From<DeviceAccess> for String {
    fn from(access: DeviceAccess) -> String {
        access.to_string()
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            f.write_str(if set { letter } else { "" })?;
        }
        Ok(())
    }
}

/// One thing that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Which kind of node.
    pub kind: DeviceKind,
    /// Its driver.
    pub major: DeviceNumber,
    /// Its instance.
    pub minor: DeviceNumber,
    /// What may be done with it.
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// `access` to the character device `major:minor`.
    pub const fn char(major: u32, minor: u32, access: DeviceAccess) -> DeviceRule {
        let (major, minor) = (DeviceNumber::Is(major), DeviceNumber::Is(minor));
        DeviceRule { kind: DeviceKind::Char, major, minor, access }
    }

    /// `access` to every device of a kind.
    pub const fn every(kind: DeviceKind, access: DeviceAccess) -> DeviceRule {
        DeviceRule { kind, major: DeviceNumber::Any, minor: DeviceNumber::Any, access }
    }
}

/// A line for `devices.allow` of version 1: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        write!(f, "{kind} {}:{} {}", self.major, self.minor, self.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_spelled_as_version_1_wants_them() {
        assert_eq!(DeviceRule::char(1, 3, DeviceAccess::ALL).to_string(), "c 1:3 rwm");
        assert_eq!(DeviceRule::every(DeviceKind::Block, DeviceAccess::MKNOD).to_string(), "b *:* m");
    }

    #[test]
    fn permissions_are_letters_once_each() {
        assert_eq!("wr".parse::<DeviceAccess>().unwrap(), DeviceAccess::READ_WRITE);
        assert_eq!("mrw".parse::<DeviceAccess>().unwrap().to_string(), "rwm");
        for bad in ["", "rr", "x", "rwmr", "R", "r w"] {
            let error = bad.parse::<DeviceAccess>().unwrap_err().to_string();
            assert!(error.contains("expected some of r, w and m"), "{error}");
        }
    }
}
