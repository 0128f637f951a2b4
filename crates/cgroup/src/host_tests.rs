//! Tests of [`super`]: mount tables of all layouts, odd ones and broken ones.

use super::*;
use crate::testing::{HYBRID, V1, V2};
use proptest::prelude::*;

/// Covers: W48
#[test]
fn the_three_layouts() {
    let hybrid = Host::parse(HYBRID).unwrap();
    assert_eq!(hybrid.layout(), Layout::Hybrid);
    assert_eq!(hybrid.v1.len(), 9);
    assert_eq!(hybrid.unified_mount(), Some(Path::new("/sys/fs/cgroup/unified")));
    assert_eq!(hybrid.missing_controllers(), []);

    let v1 = Host::parse(V1).unwrap();
    assert_eq!(v1.layout(), Layout::V1);
    assert_eq!(v1.v1_mount(Controller::Cpuacct), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
    assert_eq!(v1.v1_mount(Controller::Systemd), Some(Path::new("/sys/fs/cgroup/systemd")));

    let v2 = Host::parse(V2).unwrap();
    assert_eq!(v2.layout(), Layout::V2);
    assert!(v2.v1.is_empty());
    assert_eq!(v2.missing_controllers(), []);
    let poor = v2.with_unified_controllers("cpu io hugetlb\n");
    assert_eq!(poor.missing_controllers(), [Controller::Pids, Controller::Memory, Controller::Cpuset]);
}

#[test]
fn version_2_beside_a_named_hierarchy_is_version_2() {
    let text = format!("{V2}44 31 0:40 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n");
    assert_eq!(Host::parse(&text).unwrap().layout(), Layout::V2);
}

#[test]
fn what_is_missing_on_version_1_is_named() {
    let text = "36 31 0:33 / /cg/m rw - cgroup cgroup rw,memory\n";
    let host = Host::parse(text).unwrap();
    use Controller::*;
    assert_eq!(host.missing_controllers(), [Freezer, Pids, Cpu, Cpuacct, Cpuset, Blkio, Devices]);
}

#[test]
fn the_whole_writable_mount_wins() {
    let text = "1 0 0:1 /docker/x /in rw - cgroup cgroup rw,memory\n\
                2 0 0:1 / /ro ro,nosuid - cgroup cgroup rw,memory\n\
                3 0 0:1 / /good rw shared:4 master:2 - cgroup cgroup rw,memory\n\
                4 0 0:1 / /later rw - cgroup cgroup rw,memory\n";
    let host = Host::parse(text).unwrap();
    assert_eq!(host.v1_mount(Controller::Memory), Some(Path::new("/good")));
}

#[test]
fn escapes_are_read() {
    let text = "1 0 0:1 / /my\\040c\\134g rw - cgroup2 cgroup2 rw\n";
    assert_eq!(Host::parse(text).unwrap().unified_mount(), Some(Path::new("/my c\\g")));
}

#[test]
fn broken_lines_have_a_number() {
    let cases = [
        ("1 0 0:1", "root is missing"),
        ("1 0 0:1 / /x rw", "separator"),
        ("1 0 0:1 / /x rw -", "type is missing"),
        ("1 0 0:1 / /x rw - cgroup2 none", "options of the file system"),
        ("1 0 0:1 / /x\\04 rw - cgroup2 none rw", "octal"),
        ("1 0 0:1 / /x\\777 rw - cgroup2 none rw", "octal"),
        ("1 0 0:1 / x rw - cgroup2 none rw", "not absolute"),
        ("", "root is missing"),
    ];
    for (line, why) in cases {
        let error = Host::parse(&format!("{V2}{line}\n")).unwrap_err().to_string();
        let expected = format!("line {} of", V2.lines().count() + 1);
        assert!(error.starts_with(&expected) && error.contains(why), "{line}: {error}");
    }
    assert!(matches!(Host::parse(""), Err(Error::NoCgroups)));
}

#[test]
fn a_hundred_thousand_mounts_are_read_in_a_moment() {
    let mut text = String::new();
    for number in 0..100_000 {
        text.push_str(&format!("{number} 1 0:5 / /mnt/{number} rw,relatime shared:7 - tmpfs tmpfs rw\n"));
    }
    text.push_str(HYBRID);
    let start = std::time::Instant::now();
    assert_eq!(Host::parse(&text).unwrap().layout(), Layout::Hybrid);
    assert!(start.elapsed().as_secs() < 5);
}

/// Covers: W48
#[test]
fn given_paths_are_located() {
    let v1 = Host::parse(V1).unwrap();
    for path in ["/sys/fs/cgroup/cpu,cpuacct/nomad/x", "/sys/fs/cgroup/cpu/nomad/x"] {
        let found = v1.locate_v1(Controller::Cpu, Path::new(path)).unwrap();
        assert_eq!(found.to_string(), "/nomad/x");
    }
    for bad in ["/sys/fs/cgroup/cpu/../x", "/etc", "cpu/nomad", "/sys/fs/cgroup/cpux/a"] {
        let error = v1.locate_v1(Controller::Cpu, Path::new(bad)).unwrap_err();
        assert!(matches!(error, Error::Outside { .. }), "{bad}: {error}");
    }
    assert!(v1.locate_unified(Path::new("/sys/fs/cgroup/x")).is_err());
    let v2 = Host::parse(V2).unwrap();
    let scope = v2.locate_unified(Path::new("/sys/fs/cgroup/nomad.slice/share.slice/a.b.scope")).unwrap();
    assert_eq!(scope.to_string(), "/nomad.slice/share.slice/a.b.scope");
}

#[test]
fn a_host_survives_being_written_down() {
    for text in [HYBRID, V1, V2] {
        let host = Host::parse(text).unwrap();
        let json = serde_json::to_string(&host).unwrap();
        assert_eq!(serde_json::from_str::<Host>(&json).unwrap(), host);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Host::parse(&text);
    }

    #[test]
    fn no_broken_line_panics(
        cut in 0usize..400,
        junk in "[ \\\\0-9a-z,=:/-]{0,20}",
        at in 0usize..400,
    ) {
        let mut text: String = HYBRID.chars().skip(cut).collect();
        let at = text.char_indices().nth(at).map_or(text.len(), |(index, _)| index);
        text.insert_str(at, &junk);
        let _ = Host::parse(&text);
    }

    #[test]
    fn escapes_never_panic(text in "[\\\\0-9/a]{0,30}") {
        let _ = unescape(&text);
    }
}
