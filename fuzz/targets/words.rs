//! What people write into one field: users, ids, sizes, limits, signals, devices, durations. A user that is not user 0
//! by its own words never becomes user 0.
#![no_main]

use bivouac_cgroup::{GroupName, GroupPath};
use bivouac_driver::config::{DeviceUse, HostLine, Ulimit};
use bivouac_driver::identity::{self, Bounds, Database, IdRanges, PseudoUsers, RootRule};
use bivouac_driver::options::parse_size;
use bivouac_driver::signals::Signal;
use libfuzzer_sys::fuzz_target;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:\n\
    nobody:x:65534:65534::/:\n1000:x:1001:1001::/:\n";
const GROUP: &str = "root:x:0:\nweb:x:1000:\nwheel:x:10:web\ndocker:x:999:web\n";

fuzz_target!(|text: &str| {
    user(text);
    if let Ok(ranges) = IdRanges::parse(text) {
        let _ = (ranges.contains(0), ranges.contains(u32::MAX));
    }
    let _ = parse_size(text);
    let (name, value) = text.split_once('\n').unwrap_or(("nofile", text));
    if let Ok(limit) = Ulimit::parse(name, value) {
        assert!(limit.soft.number() <= limit.hard.number(), "{name} {value}");
    }
    if let Ok(signal) = Signal::parse(text) {
        assert!((0..=64).contains(&signal.number()));
    }
    let _ = DeviceUse::parse(text);
    if let Ok(line) = HostLine::parse(text) {
        let shown = format!("{line:?}");
        assert!(!shown.contains("\\n") && !shown.contains("\\0"), "{shown}");
    }
    let _ = bivouac_jobspec::parse_duration(text);
    if let Ok(name) = GroupName::new(text) {
        let name = name.to_string();
        assert!(!name.contains('/') && name != "." && name != "..", "{name}");
    }
    if let Ok(path) = text.parse::<GroupPath>() {
        assert!(!path.to_string().split('/').any(|part| part == ".."), "{path}");
    }
});

fn user(text: &str) {
    let users = Database::from_text(PASSWD, GROUP);
    let denied = IdRanges::parse("1-99").expect("ranges");
    let none = IdRanges::parse("").expect("no ranges");
    for root in [RootRule::Refused, RootRule::Allowed] {
        for pseudo in [PseudoUsers::Unknown, PseudoUsers::Accepted] {
            let bounds = Bounds { root, denied_uids: &denied, denied_gids: &none, pseudo };
            let Ok(account) = identity::resolve(text, &users, &bounds) else { continue };
            let uid = account.identity.uid;
            assert!(
                uid != 0 || (root == RootRule::Allowed && ["root", "toor", "0"].contains(&text)),
                "{text:?}"
            );
            assert!(uid != u32::MAX && !denied.contains(uid), "{text:?}");
        }
    }
}
