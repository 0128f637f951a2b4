//! What `/proc`, `/sys` and the user database say, read as it might be after a kernel, or a person, wrote it badly.
#![no_main]

use bivouac_cgroup::{Controller, Host};
use bivouac_driver::identity::{Database, Users as _};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    if let Ok(host) = Host::parse(text) {
        let host = host.with_unified_controllers(text);
        let _ = (host.layout(), host.missing_controllers());
        for mount in host.unified_mount().into_iter().chain(host.v1_mount(Controller::Memory)) {
            assert!(mount.is_absolute(), "a mount point that is no path: {mount:?}");
        }
    }
    bivouac_cgroup::fuzzing::read_everything(text);
    bivouac_shim::fuzzing::read_process(bytes, text);
    let _ = text.parse::<bivouac_cgroup::CpuSet>();
    let (passwd, group) =
        text.split_at(text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at));
    let database = Database::from_text(passwd, group);
    for name in ["root", "nobody", "", "+", "0"] {
        if let Some(user) = database.by_name(name) {
            assert_eq!(user.name, name);
            let _ = database.groups_of(&user);
        }
    }
    let _ = database.by_uid(0);
});
