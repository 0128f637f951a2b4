//! The path rules that a process puts on itself before it becomes the task's: made ready in memory here, opened in
//! the task's root and applied by the child.

use super::report::Report;
use crate::model::{Missing, PathAccess, PathRule};
use bivouac_sys::Errno;
use bivouac_sys::landlock::{allow_beneath, restrict_self, rights, ruleset};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::ffi::CString;

/// One set of rules, ready for the child.
#[derive(Debug)]
pub(crate) struct Ruleset {
    /// Refused wherever no rule allows it: all that the kernel can control.
    handled: u64,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// From the root, without the first `/`; `.` for the root.
    path: CString,
    access: u64,
    missing: Missing,
}

pub(crate) fn rulesets(sets: &[Vec<PathRule>], abi: u32) -> Vec<Ruleset> {
    let handled = rights::of_abi(abi);
    let rule = |rule: &PathRule| Rule {
        path: super::prepare::relative(&rule.path),
        access: bits(rule.access) & handled,
        missing: rule.missing,
    };
    sets.iter().map(|set| Ruleset { handled, rules: set.iter().map(rule).collect() }).collect()
}

fn bits(access: PathAccess) -> u64 {
    use rights::*;
    let when = |condition: bool, bits: u64| if condition { bits } else { 0 };
    when(access.read, READ_FILE | READ_DIR)
        | when(access.write, WRITE_FILE | TRUNCATE | IOCTL_DEV)
        | when(access.run, EXECUTE)
        | when(
            access.make,
            MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REMOVE_DIR | REMOVE_FILE | REFER,
        )
}

/// In the child, whose root and working directory are the task's. Paths are opened without links: what a task put in
/// the place of a directory in an earlier run widens nothing.
pub(crate) fn restrict(sets: &[Ruleset], init: Option<&OwnedFd>, report: &Report) -> Result<(), Errno> {
    let no_links = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut item = 0;
    for set in sets {
        let rules = ruleset(set.handled)?;
        for rule in &set.rules {
            report.item(item);
            item += 1;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let place = match openat2(CWD, rule.path.as_c_str(), flags, Mode::empty(), no_links) {
                Ok(place) => place,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if rule.missing == Missing::PassOver => {
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let directory = FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
            let access = if directory { rule.access } else { rule.access & rights::OF_FILES };
            if access != 0 {
                allow_beneath(rules.as_fd(), place.as_fd(), access)?;
            }
        }
        if let Some(init) = init {
            allow_beneath(rules.as_fd(), init.as_fd(), rights::EXECUTE | rights::READ_FILE)?;
        }
        restrict_self(rules.as_fd())?;
    }
    Ok(())
}
