//! The compiled program answers as the table does, for every number, entry and argument.

use super::interpreter::run;
use super::*;
use proptest::prelude::*;

/// Values at which some check decides, and their neighbours.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    5,
    6,
    8,
    9,
    10,
    16,
    17,
    38,
    40,
    0x100,
    0x110,
    0x1000,
    0x2000,
    0x4000,
    0x6000,
    0x8000,
    0x81a4,
    0xc000,
    0xffff,
    0x2_0000,
    0x2_0008,
    0x5412,
    0x541b,
    0x541c,
    0x5423,
    0x80000,
    0x80a,
    0x1000_0000,
    0x4000_0000,
    0x4000_0001,
    0x4100_9432,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0x8004_587d,
    0xc004_5877,
    0xc018_5879,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_5412,
    0xdead_beef_0000_0002,
    u64::MAX,
];

fn pair(machine: Machine, request: &Request) -> (Policy, Filter) {
    let policy = Policy::new(machine, request);
    let filter = policy.compile().expect("the default profile has a filter");
    (policy, filter)
}

#[track_caller]
fn same(policy: &Policy, filter: &Filter, call: &Call) -> usize {
    let run = run(filter, call);
    assert_eq!(run.action, policy.decide(call), "{call:x?}");
    run.steps
}

#[test]
fn every_number_of_every_entry() {
    let mut most = 0;
    for (name, request) in requests() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let (policy, filter) = pair(machine, &request);
            for entry in ENTRIES.map(Entry::audit) {
                let x32 = (0..=600).map(|number| number | 0x4000_0000);
                let high = [0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
                for number in (0..=600).chain(x32).chain(high) {
                    for argument in [0, 2, u64::MAX] {
                        let call = Call { entry, number, arguments: [argument; 6] };
                        most = most.max(same(&policy, &filter, &call));
                    }
                }
            }
        }
        assert!(most <= 30, "{name}: {most} instructions for one call");
    }
}

#[test]
fn every_edge_in_every_argument() {
    for (_, request) in requests() {
        for entry in ENTRIES {
            let (policy, filter) = pair(machine(entry), &request);
            for number in 0..entry.end() {
                for (argument, edge) in
                    (0..3).flat_map(|argument| EDGES.iter().map(move |edge| (argument, *edge)))
                {
                    let mut arguments = [2, 1, 0, 0, 0, 0];
                    arguments[argument] = edge;
                    same(&policy, &filter, &Call { entry: entry.audit(), number, arguments });
                }
            }
        }
    }
}

/// What the table gives to a number is what its theme gives to its name.
#[test]
fn the_table_is_the_lists() {
    for (_, request) in requests() {
        for entry in ENTRIES {
            let policy = Policy::new(machine(entry), &request);
            for number in 0..600 {
                for edge in EDGES {
                    let arguments = [*edge; 6];
                    let call = Call { entry: entry.audit(), number, arguments };
                    let theme =
                        entry.name(number).and_then(|name| themes::all().find(|t| t.calls.contains(&name)));
                    let told = theme.map_or(Action::Refuse(Refusal::NoSuchCall), |theme| {
                        theme.gate.verdict(&request).decide(&arguments)
                    });
                    assert_eq!(policy.decide(&call), told, "{:?}", entry.name(number));
                }
            }
        }
    }
}

/// The same million each time; proptest below looks for other requests and shrinks what it finds.
#[test]
fn a_million_random_calls() {
    let requests = requests();
    let pairs: Vec<_> = requests
        .iter()
        .map(|(_, request)| [Machine::X86_64, Machine::Aarch64].map(|machine| pair(machine, request)))
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..1_000_000 {
        let entry = ENTRIES[(random() % 3) as usize];
        let pairs = &pairs[(random() % requests.len() as u64) as usize];
        let (policy, filter) = &pairs[usize::from(entry == Entry::Aarch64)];
        let edge = EDGES[(random() % EDGES.len() as u64) as usize];
        let mut arguments = std::array::from_fn(|_| random());
        arguments[(random() % 3) as usize] = edge | random() << 32;
        same(policy, filter, &Call { entry: entry.audit(), number: (random() % 480) as u32, arguments });
    }
}

#[test]
fn any_other_entry_ends_the_process() {
    let (policy, filter) = pair(Machine::X86_64, &Request::default());
    // 32-bit ARM, 64-bit RISC-V, 31-bit s390, our own with one bit changed, and nonsense.
    for entry in [0x4000_0028, 0xc000_00f3, 0x16, 0x8000_003e, 0x4000_003e, 0xc000_0003, 0, u32::MAX] {
        let call = Call { entry, number: 0, arguments: [0; 6] };
        assert_eq!(policy.decide(&call), Action::Kill, "{entry:#x}");
        same(&policy, &filter, &call);
    }
}

/// The kernel takes 4096 instructions; a filter is a few hundred. Changed numbers are looked at.
#[test]
fn how_long_the_programs_are() {
    let mut lengths = String::new();
    for (name, request) in requests() {
        let length = |machine| pair(machine, &request).1.instructions.len();
        let [x86, arm] = [Machine::X86_64, Machine::Aarch64].map(length);
        assert!(x86 < 400 && arm < 300, "{name}: {x86}, {arm}");
        lengths += &format!("{name}: {x86} for x86_64 with i386, {arm} for aarch64\n");
    }
    insta::assert_snapshot!("lengths", lengths);
}

/// What the kernel's checker asks of a program: forward jumps that stay inside, a return at the end.
#[test]
fn no_jump_leaves_the_program() {
    for (_, request) in requests() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let filter = pair(machine, &request).1;
            let count = filter.instructions.len();
            for (at, Instruction { code, jt, jf, k }) in filter.instructions.iter().copied().enumerate() {
                let farthest = match code {
                    0x05 => k as usize,
                    0x15 | 0x35 => usize::from(jt.max(jf)),
                    _ => 0,
                };
                assert!(at + farthest + 1 < count || code == 0x06, "{at}");
            }
            assert_eq!(filter.instructions.last().unwrap().code, 0x06);
        }
    }
}

#[test]
fn compiling_twice_gives_the_same() {
    for (name, request) in requests() {
        assert_eq!(compile(&request), compile(&request), "{name}");
    }
}

#[test]
fn a_filter_survives_being_kept() {
    for (_, request) in requests() {
        let filter = compile(&request).unwrap();
        assert_eq!(Filter::from_bytes(&filter.to_bytes()), Ok(filter.clone()));
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    }
}

#[test]
fn bytes_that_are_no_filter() {
    let error = |length| Filter::from_bytes(&vec![0; length]).unwrap_err();
    assert_eq!(error(0), FilterError::Length { instructions: 0 });
    assert_eq!(error(9), FilterError::CutOff { bytes: 9 });
    assert_eq!(error(8 * 4097), FilterError::Length { instructions: 4097 });
    assert_eq!(error(0).to_string(), "a system call filter of 0 instructions: the kernel takes 1 to 4096");
    assert!(Filter::from_bytes(&[0; 8 * 4096]).is_ok());
}

/// A table whose ranges all differ, far apart: jumps over more than 255 instructions are made in steps.
#[test]
fn long_programs_are_right_too() {
    use super::super::policy::Table;
    use super::super::verdict::{ALLOW, ENOSYS, EPERM, Verdict};
    let looks = |seed: u32| Verdict::by_value(1, vec![(seed, ALLOW), (seed + 1, ENOSYS)], EPERM);
    let ranges: Vec<_> = (0..600).map(|n| (n, if n % 3 == 0 { looks(n % 90) } else { EPERM })).collect();
    let table = |entry| Table { entry, ranges: ranges.clone() };
    let filter = assemble::assemble(&[table(Entry::X86_64), table(Entry::I386)]);
    assert!(filter.instructions.len() > 1000);
    for entry in [Entry::X86_64, Entry::I386].map(Entry::audit) {
        for number in 0..700 {
            for argument in 0..95 {
                let call = Call { entry, number, arguments: [9, argument, 9, 9, 9, 9] };
                let told = ranges[(number as usize).min(599)].1.decide(&call.arguments);
                assert_eq!(run(&filter, &call).action, told, "{call:?}");
            }
        }
    }
}

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        proptest::sample::select(EDGES),
        (proptest::sample::select(EDGES), any::<u32>())
            .prop_map(|(low, high)| low & 0xffff_ffff | u64::from(high) << 32),
    ]
}

fn any_request() -> impl Strategy<Value = Request> {
    (any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(granted, mounts, full)| Request {
        profile: Profile::Default,
        granted: CapSet::from_bits(granted),
        mount_allowed: if mounts { MountGrant::Granted } else { MountGrant::Refused },
        compat32: if full { Compat32::Full } else { Compat32::NoSocketcall },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_requests_numbers_and_arguments(
        request in any_request(),
        calls in proptest::collection::vec((0..3usize, 0..480u32, proptest::array::uniform6(argument())), 500),
    ) {
        let pairs = [Machine::X86_64, Machine::Aarch64].map(|machine| pair(machine, &request));
        for (entry, number, arguments) in calls {
            let entry = ENTRIES[entry];
            let (policy, filter) = &pairs[usize::from(entry == Entry::Aarch64)];
            same(policy, filter, &Call { entry: entry.audit(), number, arguments });
        }
    }

    /// Every compared parameter is an `int` for the kernel: high bits change nothing.
    #[test]
    fn high_bits_change_nothing(
        request in any_request(), number in 0..480u32, low: [u32; 6], high: [u32; 6],
    ) {
        let policy = Policy::new(Machine::X86_64, &request);
        let call = |high: [u32; 6]| {
            let arguments = std::array::from_fn(|i| u64::from(low[i]) | u64::from(high[i]) << 32);
            Call { entry: Entry::X86_64.audit(), number, arguments }
        };
        prop_assert_eq!(policy.decide(&call([0; 6])), policy.decide(&call(high)));
    }

    #[test]
    fn any_bytes_are_a_filter_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        match Filter::from_bytes(&bytes) {
            Ok(filter) => prop_assert_eq!(filter.to_bytes(), bytes),
            Err(_) => prop_assert!(bytes.is_empty() || bytes.len() % 8 != 0),
        }
    }
}
