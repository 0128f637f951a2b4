//! Device rules of version 2: a program that the kernel runs at every open and mknod of a device in the group.
//!
//! Building it is pure; the tests run it through an interpreter. Its input is `struct bpf_cgroup_dev_ctx`: kind of
//! node and access in one word, then major and minor number. It answers 1 (allow) or 0 (refuse with EPERM).
//!
//! ```text
//! r2 = kind, r3 = access, r4 = major, r5 = minor
//! for each rule:  kind differs, or access is not contained, or a number differs -> next rule;  return 1
//! return 0
//! ```

use crate::{DeviceAccess, DeviceKind, DeviceNumber, DeviceRule};
use bivouac_sys::bpf::{Insn, Name};

/// The name by which programs of ours are known again in a group that is used more than once.
pub(crate) const NAME: Name = *b"bivouac_device\0\0";

// Classes and operations as in linux/bpf.h and linux/bpf_common.h.
const LOAD_WORD: u8 = 0x61;
const AND_CONSTANT: u8 = 0x54;
const RIGHT_SHIFT_CONSTANT: u8 = 0x74;
const MOVE_CONSTANT: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
// The 32-bit forms (Linux 5.1): a constant is not sign-extended.
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const JUMP_UNLESS_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const INPUT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// The input is not needed any more once it has been taken apart.
const SCRATCH: u8 = INPUT;

/// The program that allows what `rules` allow.
pub(crate) fn build(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, KIND, INPUT, 0, 0),
        insn(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        insn(AND_CONSTANT, KIND, 0, 0, 0xffff),
        insn(RIGHT_SHIFT_CONSTANT, ACCESS, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, INPUT, 4, 0),
        insn(LOAD_WORD, MINOR, INPUT, 8, 0),
    ];
    for rule in rules {
        program.extend(check(rule));
    }
    program.extend(answer(0));
    program
}

fn check(rule: &DeviceRule) -> Vec<Insn> {
    let kind = match rule.kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    };
    let mut block = vec![insn(JUMP_UNLESS_EQUAL, KIND, 0, 0, kind)];
    if rule.access != DeviceAccess::ALL {
        block.push(insn(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        block.push(insn(AND_CONSTANT, SCRATCH, 0, 0, rule.access.bits()));
        block.push(insn(JUMP_UNLESS_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0));
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let DeviceNumber::Is(number) = number {
            block.push(insn(JUMP_UNLESS_EQUAL, register, 0, 0, number.cast_signed()));
        }
    }
    block.extend(answer(1));
    let length = block.len();
    for (index, insn) in block.iter_mut().enumerate() {
        if matches!(insn.code, JUMP_UNLESS_EQUAL | JUMP_UNLESS_EQUAL_REGISTER) {
            // At most eight: a jump counts from the instruction after it.
            insn.offset = (length - index - 1) as i16;
        }
    }
    block
}

fn answer(value: i32) -> [Insn; 2] {
    [insn(MOVE_CONSTANT, ANSWER, 0, 0, value), insn(EXIT, 0, 0, 0, 0)]
}

/// The two registers share a byte, in an order that follows the machine's.
fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    let registers =
        if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    Insn { code, registers, offset, immediate }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
