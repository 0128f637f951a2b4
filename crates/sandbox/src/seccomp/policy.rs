//! The table: which number of which entry gets which answer, for one task.

use super::numbers::{Entry, Machine};
use super::themes;
use super::verdict::{Action, ENOSYS, EPERM, Verdict};
use super::{Filter, Profile, Request, assemble};
use std::collections::HashMap;
use std::sync::LazyLock;

/// A call as `struct seccomp_data` shows it to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`: the entry by which it came.
    pub entry: u32,
    /// Its number there.
    pub number: u32,
    /// Its arguments, each as the whole register.
    pub arguments: [u64; 6],
}

/// What is answered to every call of one task: the meaning of the filter, from which it is assembled.
#[derive(Clone, Debug)]
pub struct Policy {
    /// One for each entry of the machine, the native one first; none for the profile `unconfined`.
    tables: Option<Vec<Table>>,
}

/// The numbers of one entry.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) entry: Entry,
    /// The first number of each range with its answer, ascending; the first range begins at 0, the last has
    /// no end.
    pub(super) ranges: Vec<(u32, Verdict)>,
}

impl Policy {
    /// The policy for a task on a machine.
    pub fn new(machine: Machine, request: &Request) -> Policy {
        let tables = match request.profile {
            Profile::Unconfined => None,
            Profile::Default => {
                let verdicts: Vec<Verdict> = themes::all().map(|theme| theme.gate.verdict(request)).collect();
                Some(machine.entries().iter().map(|entry| Table::new(*entry, &verdicts)).collect())
            }
        };
        Policy { tables }
    }

    /// What is done with a call.
    pub fn decide(&self, call: &Call) -> Action {
        let Some(tables) = &self.tables else { return Action::Allow };
        match tables.iter().find(|table| table.entry.audit() == call.entry) {
            Some(table) => table.verdict(call.number).decide(&call.arguments),
            None => Action::Kill,
        }
    }

    /// The program for the kernel; none if nothing is filtered.
    pub fn compile(&self) -> Option<Filter> {
        self.tables.as_ref().map(|tables| assemble::assemble(tables))
    }
}

impl Table {
    fn new(entry: Entry, verdicts: &[Verdict]) -> Table {
        let mut ranges: Vec<(u32, Verdict)> = Vec::with_capacity(128);
        for (number, class) in (0..).zip(classes(entry)) {
            let verdict = match class {
                Class::Theme(theme) => verdicts.get(*theme).unwrap_or(&EPERM),
                Class::Unlisted => &EPERM,
                Class::Unknown => &ENOSYS,
            };
            if ranges.last().is_none_or(|last| last.1 != *verdict) {
                ranges.push((number, verdict.clone()));
            }
        }
        if ranges.last().is_none_or(|last| last.1 != ENOSYS) {
            ranges.push((entry.end(), ENOSYS));
        }
        Table { entry, ranges }
    }

    fn verdict(&self, number: u32) -> &Verdict {
        let after = self.ranges.partition_point(|range| range.0 <= number);
        self.ranges.get(after.saturating_sub(1)).map_or(&ENOSYS, |range| &range.1)
    }
}

/// What a number is, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A call of the theme at this position.
    Theme(usize),
    /// A call that stands in no theme.
    Unlisted,
    /// No call.
    Unknown,
}

/// The classes of an entry's numbers from 0. Names are compared once in a process's life.
fn classes(entry: Entry) -> &'static [Class] {
    static X86_64: LazyLock<Vec<Class>> = LazyLock::new(|| classify(Entry::X86_64));
    static I386: LazyLock<Vec<Class>> = LazyLock::new(|| classify(Entry::I386));
    static AARCH64: LazyLock<Vec<Class>> = LazyLock::new(|| classify(Entry::Aarch64));
    match entry {
        Entry::X86_64 => &X86_64,
        Entry::I386 => &I386,
        Entry::Aarch64 => &AARCH64,
    }
}

fn classify(entry: Entry) -> Vec<Class> {
    static BY_NAME: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
        let mut themes = HashMap::with_capacity(512);
        for (position, theme) in themes::all().enumerate() {
            themes.extend(theme.calls.iter().map(|call| (*call, position)));
        }
        themes
    });
    let class = |number| match entry.name(number) {
        Some(name) => BY_NAME.get(name).map_or(Class::Unlisted, |theme| Class::Theme(*theme)),
        None => Class::Unknown,
    };
    (0..entry.end()).map(class).collect()
}
