//! Tests of [`super`]: the program is run by a small interpreter and compared with the rules' plain meaning.

use super::*;
use proptest::prelude::*;

/// Runs a program over one context; `None` if it leaves its own bounds, does not end, or does what only a broken
/// builder would write.
fn run(program: &[Insn], context: [u32; 3]) -> Option<u64> {
    let mut registers = [None::<u64>; 11];
    registers[usize::from(INPUT)] = Some(0);
    let mut at = 0usize;
    for _ in 0..10_000 {
        let insn = program.get(at)?;
        let destination = usize::from(insn.registers & 15);
        let source = usize::from(insn.registers >> 4);
        at += 1;
        match insn.code {
            0x61 => {
                let address = registers[source]? as i64 + i64::from(insn.offset);
                assert_eq!(address % 4, 0);
                registers[destination] = Some(u64::from(*context.get(usize::try_from(address / 4).ok()?)?));
            }
            0x54 => {
                registers[destination] =
                    Some(u64::from(registers[destination]? as u32 & insn.immediate as u32))
            }
            0x74 => {
                registers[destination] = Some(u64::from(registers[destination]? as u32 >> insn.immediate))
            }
            0xb4 => registers[destination] = Some(u64::from(insn.immediate as u32)),
            0xbc => registers[destination] = Some(u64::from(registers[source]? as u32)),
            0x56 | 0x5e => {
                let other = if insn.code == 0x56 { insn.immediate as u32 } else { registers[source]? as u32 };
                if registers[destination]? as u32 != other {
                    at = usize::try_from(at as i64 + i64::from(insn.offset)).ok()?;
                }
            }
            0x95 => return registers[usize::from(ANSWER)],
            _ => return None,
        }
    }
    None
}

const READ: u32 = 2;
const WRITE: u32 = 4;
const MAKE: u32 = 1;

/// What the rules say, without a program.
fn allowed(rules: &[DeviceRule], kind: DeviceKind, access: u32, major: u32, minor: u32) -> bool {
    let fits = |number: DeviceNumber, real: u32| match number {
        DeviceNumber::Any => true,
        DeviceNumber::Is(number) => number == real,
    };
    let letters = |access: u32| {
        [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')].into_iter().filter(move |(bit, _)| access & bit != 0)
    };
    rules.iter().any(|rule| {
        rule.kind == kind
            && fits(rule.major, major)
            && fits(rule.minor, minor)
            && letters(access).all(|(_, letter)| rule.access.to_string().contains(letter))
    })
}

fn decide(program: &[Insn], kind: DeviceKind, access: u32, major: u32, minor: u32) -> bool {
    let word = access << 16 | if kind == DeviceKind::Block { 1 } else { 2 };
    match run(program, [word, major, minor]) {
        Some(0) => false,
        Some(1) => true,
        other => panic!("the program answered {other:?}"),
    }
}

fn every_access() -> Vec<DeviceAccess> {
    ["r", "w", "m", "rw", "rm", "wm", "rwm"].iter().map(|text| text.parse().unwrap()).collect()
}

const KINDS: [DeviceKind; 2] = [DeviceKind::Char, DeviceKind::Block];
const NUMBERS: [DeviceNumber; 4] =
    [DeviceNumber::Any, DeviceNumber::Is(0), DeviceNumber::Is(7), DeviceNumber::Is(u32::MAX)];

#[test]
fn every_combination_of_one_rule() {
    for kind in KINDS {
        for major in NUMBERS {
            for minor in NUMBERS {
                for access in every_access() {
                    let rules = [DeviceRule { kind, major, minor, access }];
                    every_question(&rules);
                }
            }
        }
    }
}

fn every_question(rules: &[DeviceRule]) {
    let program = build(rules);
    for kind in KINDS {
        for access in 1..8 {
            for major in [0, 1, 7, u32::MAX] {
                for minor in [0, 1, 7, u32::MAX] {
                    let answer = decide(&program, kind, access, major, minor);
                    let meaning = allowed(rules, kind, access, major, minor);
                    assert_eq!(answer, meaning, "{rules:?} {kind:?} {access} {major}:{minor}");
                }
            }
        }
    }
}

#[test]
fn no_rule_allows_nothing() {
    every_question(&[]);
}

#[test]
fn access_must_be_contained_in_one_rule() {
    let split = [
        DeviceRule { access: "r".parse().unwrap(), ..DeviceRule::char(1, 3, DeviceAccess::ALL) },
        DeviceRule { access: "w".parse().unwrap(), ..DeviceRule::char(1, 3, DeviceAccess::ALL) },
    ];
    let program = build(&split);
    assert!(decide(&program, DeviceKind::Char, READ, 1, 3));
    assert!(!decide(&program, DeviceKind::Char, READ | WRITE, 1, 3));
}

#[test]
fn the_kernel_takes_the_program() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: the_kernel_takes_the_program: needs root");
        return;
    }
    let mut rules: Vec<DeviceRule> =
        (0..100).map(|minor| DeviceRule::char(5, minor, DeviceAccess::ALL)).collect();
    rules.push(DeviceRule::every(DeviceKind::Block, DeviceAccess::MKNOD));
    rules.push(DeviceRule::char(u32::MAX, 0, DeviceAccess::READ_WRITE));
    bivouac_sys::bpf::load_device_program(&build(&rules), &NAME).unwrap();
    bivouac_sys::bpf::load_device_program(&build(&[]), &NAME).unwrap();
}

fn any_rule() -> impl Strategy<Value = DeviceRule> {
    (0usize..2, 0usize..4, 0usize..4, 0usize..7).prop_map(|(kind, major, minor, access)| DeviceRule {
        kind: KINDS[kind],
        major: NUMBERS[major],
        minor: NUMBERS[minor],
        access: every_access()[access],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn lists_of_rules_mean_any_of_them(rules in proptest::collection::vec(any_rule(), 0..12)) {
        every_question(&rules);
    }
}
