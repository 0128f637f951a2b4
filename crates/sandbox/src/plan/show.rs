//! A plan as text: what `bivouac inspect --plan` prints, and what snapshots hold.

use super::{MaskedTree, Plan, What};
use crate::model::{Access, Init, Network, PrivilegeGain, Process, Route};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "root {} ({:?})", self.task_dir, self.access)?;
        writeln!(f, "uppers in {} (layers as {:?})", self.private_dir, self.layers)?;
        for fill in &self.fill {
            writeln!(f, "  {} {}", fill.target, fill.what)?;
        }
        for device in &self.devices {
            writeln!(
                f,
                "  {} {:?} {}:{} {:o}",
                device.target, device.kind, device.major, device.minor, device.mode
            )?;
        }
        for mask in &self.masks {
            let tree = if mask.below == MaskedTree::Proc { "/proc" } else { "/sys" };
            writeln!(f, "  {tree}/{} {:?}", mask.path, mask.how)?;
        }
        let spaces = &self.namespaces;
        writeln!(
            f,
            "namespaces pid {:?}, ipc {:?}, cgroup {:?}, network {}",
            spaces.pid, spaces.ipc, spaces.cgroup, spaces.network
        )?;
        if let Some(name) = &self.hostname {
            writeln!(f, "hostname {name}")?;
        }
        write!(f, "{}", self.process)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Host => write!(f, "Host"),
            Network::Own => write!(f, "Own"),
            Network::Join(path) => write!(f, "of {path}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Link(content) => write!(f, "link to {}", String::from_utf8_lossy(content)),
            What::Overlay { access, lowers, name } => {
                write!(f, "overlay {name} over")?;
                lowers.iter().try_for_each(|lower| write!(f, " {lower}"))?;
                if *access == Access::ReadOnly { write!(f, " ReadOnly") } else { Ok(()) }
            }
            What::Bind { source, route, access, trust, propagation, .. } => {
                write!(f, "bind {source} {access:?} {trust:?} {propagation:?}")?;
                if let Route::Beneath(top) = route { write!(f, " beneath {top}") } else { Ok(()) }
            }
            What::Tmpfs { size, mode, programs } => match size {
                Some(size) => write!(f, "tmpfs {size} bytes mode {mode:o} programs {programs:?}"),
                None => write!(f, "tmpfs mode {mode:o} programs {programs:?}"),
            },
            What::Secrets { size } => write!(f, "memory for secrets, {size} bytes"),
            What::Dev => write!(f, "dev"),
            What::Devpts => write!(f, "devpts"),
            What::Mqueue => write!(f, "mqueue"),
            What::Proc => write!(f, "proc"),
            What::Sysfs => write!(f, "sysfs ReadOnly"),
            What::Cgroup => write!(f, "cgroup2 ReadOnly"),
        }
    }
}

impl fmt::Display for crate::model::PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = self.access;
        for (is, letter) in [(access.read, 'r'), (access.write, 'w'), (access.run, 'x'), (access.make, 'c')] {
            if is {
                write!(f, "{letter}")?;
            }
        }
        write!(f, ":{}", self.path)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let places: Vec<String> =
            self.candidates.iter().map(|candidate| candidate.path.to_string()).collect();
        writeln!(f, "command {} from {}", self.asked, places.join(" "))?;
        let arguments: Vec<String> =
            self.arguments.iter().map(|argument| format!("{:?}", text(argument))).collect();
        writeln!(f, "arguments {}", arguments.join(" "))?;
        // Values may be secrets: a plan shows names only.
        let names = self.environment.iter().filter_map(|entry| entry.split(|byte| *byte == b'=').next());
        writeln!(f, "environment {}", names.map(text).collect::<Vec<_>>().join(" "))?;
        let id = &self.identity;
        writeln!(
            f,
            "user {} group {} groups {:?} in {} umask {:03o}",
            id.uid, id.gid, id.groups, self.work_dir, self.umask
        )?;
        let caps = &self.capabilities;
        writeln!(
            f,
            "capabilities bounding {:x} permitted {:x} effective {:x} inheritable {:x} ambient {:x}",
            caps.bounding.bits(),
            caps.permitted.bits(),
            caps.effective.bits(),
            caps.inheritable.bits(),
            caps.ambient.bits()
        )?;
        let gain = match self.confinement.gain {
            PrivilegeGain::Possible => "open",
            PrivilegeGain::Never => "sealed",
        };
        let filter = self.confinement.filter.as_ref().map_or(0, |filter| filter.instructions.len());
        writeln!(f, "confinement {gain}, filter of {filter} instructions")?;
        for (number, set) in self.confinement.landlock.iter().enumerate() {
            write!(f, "landlock {}", number + 1)?;
            set.iter().try_for_each(|rule| write!(f, " {rule}"))?;
            writeln!(f)?;
        }
        for limit in &self.rlimits {
            writeln!(f, "rlimit {} {}:{}", limit.resource, limit.soft, limit.hard)?;
        }
        let init = if self.init == Init::Reaper { ", behind a reaper" } else { "" };
        writeln!(f, "oom_score_adj {}{init}", self.oom_score_adj)
    }
}
