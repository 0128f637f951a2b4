//! From the table to classic BPF: dispatch on the entry, then a balanced search over ranges of numbers.
//!
//! Jumps in classic BPF go forward only, so the program is built from its end: whatever is jumped to exists
//! already and its distance is known. See the kernel's `networking/filter.rst` for the instructions.

use super::policy::Table;
use super::verdict::{Action, Look, Refusal, Verdict};
use super::{Filter, Instruction};

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ENTRY: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The farthest that a conditional jump goes.
const REACH: usize = u8::MAX as usize;

/// The filter for these tables.
pub(super) fn assemble(tables: &[Table]) -> Filter {
    let mut program = Program::default();
    let mut dispatch = program.place(&Verdict::Answer(Action::Kill));
    // The native table last: what is built last lies nearest to the start.
    let mut searches = Vec::with_capacity(tables.len());
    for table in tables.iter().rev() {
        let first = program.search(&table.ranges);
        program.aim(first);
        searches.push((table.entry.audit(), program.push(load(NUMBER))));
    }
    for (audit, search) in searches {
        dispatch = program.branch(JUMP_EQUAL, audit, search, dispatch);
    }
    program.aim(dispatch);
    program.push(load(ENTRY));
    program.reversed.reverse();
    Filter { instructions: program.reversed }
}

/// Where a jump may go: a position in the reversed program, or one of the shared answers.
#[derive(Clone, Copy)]
enum Target {
    At(usize),
    Shared(usize),
}

#[derive(Default)]
struct Program {
    /// The program backwards.
    reversed: Vec<Instruction>,
    /// Every verdict placed so far, with the position of its copy or trampoline nearest to the start.
    shared: Vec<(Verdict, usize)>,
}

impl Program {
    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }

    /// The code of a verdict, placed once.
    fn place(&mut self, verdict: &Verdict) -> Target {
        if let Some(known) = self.shared.iter().position(|shared| shared.0 == *verdict) {
            return Target::Shared(known);
        }
        let first = match verdict {
            Verdict::Answer(action) => {
                self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: answer(*action) })
            }
            Verdict::Look(look) => self.look(look),
        };
        let position = self.position(first);
        self.shared.push((verdict.clone(), position));
        Target::Shared(self.shared.len() - 1)
    }

    fn look(&mut self, look: &Look) -> Target {
        let mut next = self.place(&look.otherwise);
        let arms: Vec<(u32, Target)> = look.arms.iter().map(|arm| (arm.0, self.place(&arm.1))).collect();
        for (value, target) in arms.into_iter().rev() {
            next = self.branch(JUMP_EQUAL, value, target, next);
        }
        self.aim(next);
        if look.mask != u32::MAX {
            self.push(Instruction { code: AND, jt: 0, jf: 0, k: look.mask });
        }
        // Both machines are little-endian: the low half of an argument comes first.
        self.push(load(ARGUMENTS + 8 * u32::from(look.argument)))
    }

    /// Finds the range of the number in the accumulator.
    fn search(&mut self, ranges: &[(u32, Verdict)]) -> Target {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            ([], [only]) => self.place(&only.1),
            (_, [first, ..]) => {
                let above = self.search(high);
                let below = self.search(low);
                self.branch(JUMP_GREATER_EQUAL, first.0, above, below)
            }
            // A table begins at 0 and is never empty; an unlisted number would be answered like the others.
            (_, []) => self.place(&super::verdict::ENOSYS),
        }
    }

    fn position(&self, target: Target) -> usize {
        match target {
            Target::At(position) => position,
            Target::Shared(known) => self.shared.get(known).map_or(0, |shared| shared.1),
        }
    }

    /// Instructions between the next one pushed and `target`.
    fn distance(&self, target: Target) -> usize {
        self.reversed.len() - 1 - self.position(target)
    }

    /// A conditional jump. Where a target is out of reach, a step towards it is put in between.
    fn branch(&mut self, code: u16, k: u32, mut yes: Target, mut no: Target) -> Target {
        loop {
            if self.distance(yes) > REACH {
                yes = self.step_towards(yes);
            } else if self.distance(no) > REACH {
                no = self.step_towards(no);
            } else {
                let [jt, jf] = [yes, no].map(|target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX));
                return self.push(Instruction { code, jt, jf, k });
            }
        }
    }

    /// Makes `target` the instruction that follows the next one pushed.
    fn aim(&mut self, target: Target) {
        if self.distance(target) > 0 {
            self.step_towards(target);
        }
    }

    /// A copy of the target if it is a single instruction, else a long jump to it. Later jumps use it too.
    fn step_towards(&mut self, target: Target) -> Target {
        let distance = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        let single = self.reversed.get(self.position(target)).filter(|at| at.code == RETURN).copied();
        let step = self.push(single.unwrap_or(Instruction { code: JUMP, jt: 0, jf: 0, k: distance }));
        match target {
            Target::At(_) => step,
            Target::Shared(known) => {
                let position = self.position(step);
                if let Some(shared) = self.shared.get_mut(known) {
                    shared.1 = position;
                }
                target
            }
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

/// `SECCOMP_RET_*` of `linux/seccomp.h`.
fn answer(action: Action) -> u32 {
    const ERRNO: u32 = 0x0005_0000;
    match action {
        Action::Allow => 0x7fff_0000,
        Action::Kill => 0x8000_0000,
        Action::Refuse(Refusal::NotPermitted) => ERRNO | 1,
        Action::Refuse(Refusal::NoSuchCall) => ERRNO | 38,
        Action::Refuse(Refusal::NoSuchProtocol) => ERRNO | 93,
        Action::Refuse(Refusal::NoSuchFamily) => ERRNO | 97,
    }
}
