//! A machine for classic BPF, as strict as the kernel's checker for filters.

use super::super::{Action, Call, Filter, Instruction, Refusal};

/// What a run gave.
pub(super) struct Run {
    pub(super) action: Action,
    pub(super) steps: usize,
}

/// Runs a filter on a call, as `struct seccomp_data` would hold it. Panics where the kernel would refuse the program.
pub(super) fn run(filter: &Filter, call: &Call) -> Run {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1.. {
        let Instruction { code, jt, jf, k } = filter.instructions[at];
        at += 1;
        let mut branch = |holds| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = word(call, k),
            0x54 => accumulator &= k,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x05 => at += k as usize,
            0x06 => return Run { action: action(k), steps },
            other => panic!("instruction {} has the unknown code {other:#x}", at - 1),
        }
    }
    unreachable!("jumps go forward only")
}

fn word(call: &Call, offset: u32) -> u32 {
    assert!(offset.is_multiple_of(4) && offset < 64, "a load from {offset}");
    let half = |value: u64, high: bool| if high { (value >> 32) as u32 } else { value as u32 };
    match offset {
        0 => call.number,
        4 => call.entry,
        // The instruction pointer: a filter that asks for it would not answer alike everywhere.
        8 | 12 => panic!("a load of the instruction pointer"),
        _ => half(call.arguments[(offset as usize - 16) / 8], offset % 8 == 4),
    }
}

fn action(value: u32) -> Action {
    match value {
        0x7fff_0000 => Action::Allow,
        0x8000_0000 => Action::Kill,
        0x0005_0001 => Action::Refuse(Refusal::NotPermitted),
        0x0005_0026 => Action::Refuse(Refusal::NoSuchCall),
        0x0005_005d => Action::Refuse(Refusal::NoSuchProtocol),
        0x0005_0061 => Action::Refuse(Refusal::NoSuchFamily),
        other => panic!("return value {other:#x}"),
    }
}
