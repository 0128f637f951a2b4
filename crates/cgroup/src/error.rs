//! What can go wrong, each with its object; advice is added by the faces.

use crate::host::{Controller, Layout};
use rustix::io::Errno;
use std::fmt;
use std::path::PathBuf;

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of the mount table that cannot be read.
    #[error("line {line} of the mount table: {why}: `{text}`")]
    Mountinfo {
        /// Counted from one.
        line: usize,
        /// The line, shortened.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted (mount cgroup v2 at /sys/fs/cgroup)")]
    NoCgroups,
    /// A name that is not one.
    #[error("`{}` cannot name a control group: {why}", name.escape_debug())]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path that does not lie in the hierarchy that it was given for.
    #[error("{} is no control group of {controller}: {why}", path.display())]
    Outside {
        /// As given.
        path: PathBuf,
        /// For which controller it was given.
        controller: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit that no kernel could keep.
    #[error("{what} {value}: {why}")]
    Value {
        /// Which limit.
        what: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit needs a controller that this host does not offer.
    #[error("{what} needs the {controller} controller, which this host ({layout}) does not offer")]
    Missing {
        /// What was asked for.
        what: &'static str,
        /// What it needs.
        controller: Controller,
        /// Of the host.
        layout: Layout,
    },
    /// Something that this layout of cgroups cannot do at all.
    #[error("{what} does not exist on a host with {layout}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// Of the host.
        layout: Layout,
    },
    /// Given groups that contradict the layout, each other, or the limits.
    #[error("the given control group for {controller}: {why}")]
    Given {
        /// For which controller it was given.
        controller: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A group of that name is there already, perhaps left by a crash.
    #[error("control group {} exists already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A given group still holds processes.
    #[error("control group {} still holds processes {}", path.display(), List(processes))]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// Some of them.
        processes: Vec<i32>,
    },
    /// The group is frozen.
    #[error("control group {} is frozen", path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// The caller itself lives in a group that it wants to freeze or kill.
    #[error("refusing to {action} control group {}: this process ({}) is in it", path.display(), std::process::id())]
    Inside {
        /// `freeze` or `kill`.
        action: &'static str,
        /// The directory.
        path: PathBuf,
    },
    /// A shared group cannot be killed or frozen for one user of it.
    #[error("refusing to {action} control group {}: it is shared", path.display())]
    Shared {
        /// `freeze` or `kill`.
        action: &'static str,
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused a step.
    #[error("cannot {action} {}: {errno}", path.display())]
    Kernel {
        /// What was tried.
        action: Action,
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        errno: Errno,
    },
    /// A file of the kernel is longer than anything it should say.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: usize,
    },
    /// A file of the kernel says something else than it should.
    #[error("{}: expected {expected}, found `{}`", path.display(), text.escape_debug())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line or word, shortened.
        text: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// The group has been removed.
    #[error("control group {} is gone", path.display())]
    Gone {
        /// The directory.
        path: PathBuf,
    },
    /// Another group lies at the path that was saved.
    #[error("control group {} is not the one that was saved (id {found}, not {expected})", path.display())]
    Replaced {
        /// The directory.
        path: PathBuf,
        /// The saved id.
        expected: u64,
        /// The id now.
        found: u64,
    },
    /// It did not happen in time.
    #[error("control group {} {what} in time; processes in it: {}", path.display(), List(processes))]
    Deadline {
        /// The directory.
        path: PathBuf,
        /// What did not happen: `did not freeze`, `did not become empty`.
        what: &'static str,
        /// Some of those left.
        processes: Vec<i32>,
    },
}

/// A step that the kernel can refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// mkdir(2).
    Make,
    /// open(2).
    Open,
    /// read(2).
    Read,
    /// write(2) of this text.
    Write(String),
    /// rmdir(2).
    Remove,
    /// Loading or attaching a device program, bpf(2).
    RestrictDevices,
    /// pidfd_open(2), pidfd_send_signal(2) to a process of the group.
    Signal(i32),
    /// inotify(7), eventfd(2).
    Watch,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Make => f.write_str("make control group"),
            Action::Open => f.write_str("open"),
            Action::Read => f.write_str("read"),
            Action::Write(value) => write!(f, "write `{value}` to"),
            Action::Remove => f.write_str("remove control group"),
            Action::RestrictDevices => f.write_str("attach the device rules to"),
            Action::Signal(pid) => write!(f, "signal process {pid} of"),
            Action::Watch => f.write_str("watch"),
        }
    }
}

/// A few process numbers for a message.
struct List<'a>(&'a [i32]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        if self.0.is_empty() {
            return f.write_str("(none)");
        }
        for (index, pid) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{pid}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

/// The start of a text that goes into a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 80;
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_names_its_object() {
        let path = PathBuf::from("/sys/fs/cgroup/pids/bivouac/web");
        let text = Error::Kernel {
            action: Action::Write("9".into()),
            path: path.join("pids.max"),
            errno: Errno::INVAL,
        }
        .to_string();
        assert!(text.starts_with("cannot write `9` to /sys/fs/cgroup/pids/bivouac/web/pids.max: "), "{text}");
        let many = Error::Occupied { path: path.clone(), processes: (1..=10).collect() }.to_string();
        assert!(many.ends_with("web still holds processes 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"), "{many}");
        let none = Error::Deadline { path, what: "did not become empty", processes: vec![] }.to_string();
        assert!(none.ends_with("did not become empty in time; processes in it: (none)"), "{none}");
    }
}
