//! Any request compiles to a program that the kernel takes and that answers as the table does.
#![no_main]

use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::seccomp::{
    Action, Call, Compat32, Entry, Filter, Machine, MountGrant, Policy, Profile, Refusal, Request,
};
use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = Filter::from_bytes(bytes) {
        assert_eq!(filter.to_bytes(), bytes);
    }
    let mut input = Unstructured::new(bytes);
    let Ok((granted, words, calls)) = <(u64, [bool; 3], Vec<(u8, u32, [u64; 6])>)>::arbitrary(&mut input)
    else {
        return;
    };
    let request = Request {
        profile: Profile::Default,
        granted: CapSet::from_bits(granted),
        mount_allowed: if words[0] { MountGrant::Granted } else { MountGrant::Refused },
        compat32: if words[1] { Compat32::Full } else { Compat32::NoSocketcall },
    };
    let machine = if words[2] { Machine::X86_64 } else { Machine::Aarch64 };
    let policy = Policy::new(machine, &request);
    let filter = policy.compile().expect("the default profile has a filter");
    assert!(filter.instructions.len() <= Filter::MOST);
    for (entry, number, arguments) in calls {
        let entry = [Entry::X86_64, Entry::I386, Entry::Aarch64][usize::from(entry) % 3].audit();
        let call = Call { entry, number: number % 512, arguments };
        assert_eq!(run(&filter, &call), policy.decide(&call), "{call:x?}");
    }
});

/// Classic BPF as seccomp(2) has it; what the kernel would not take is a finding.
fn run(filter: &Filter, call: &Call) -> Action {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&call.number.to_le_bytes());
    data[4..8].copy_from_slice(&call.entry.to_le_bytes());
    for (place, argument) in data[16..].chunks_exact_mut(8).zip(call.arguments) {
        place.copy_from_slice(&argument.to_le_bytes());
    }
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let instruction = filter.instructions[at];
        at += 1;
        let (k, jt, jf) = (instruction.k, usize::from(instruction.jt), usize::from(instruction.jf));
        match instruction.code {
            0x20 => {
                let word = data[k as usize..][..4].try_into().expect("four bytes");
                accumulator = u32::from_le_bytes(word);
            }
            0x54 => accumulator &= k,
            0x15 => at += if accumulator == k { jt } else { jf },
            0x25 => at += if accumulator > k { jt } else { jf },
            0x35 => at += if accumulator >= k { jt } else { jf },
            0x05 => at += k as usize,
            0x06 => return answer(k),
            other => panic!("code {other:#x}"),
        }
    }
}

fn answer(value: u32) -> Action {
    match (value & 0xffff_0000, value & 0xffff) {
        (0x7fff_0000, 0) => Action::Allow,
        (0x8000_0000, 0) => Action::Kill,
        (0x0005_0000, 1) => Action::Refuse(Refusal::NotPermitted),
        (0x0005_0000, 38) => Action::Refuse(Refusal::NoSuchCall),
        (0x0005_0000, 93) => Action::Refuse(Refusal::NoSuchProtocol),
        (0x0005_0000, 97) => Action::Refuse(Refusal::NoSuchFamily),
        _ => panic!("answer {value:#x}"),
    }
}
