//! Device nodes: made by nobody, opened on no directory of the host, and used as far as they were granted.

use crate::rig::{Bench, Report, all, program};
use bivouac_driver::options::Value;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Devices that no task has.
const FOREIGN: [&str; 3] = ["block", "mem", "kmsg"];
/// What every task has in its /dev; the last is no device.
const COMMON: [&str; 3] = ["char", "full", "whiteout"];

/// A node as the host has one, put where a task can reach it by somebody who may.
fn plant(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let made =
        Command::new("mknod").args(["-m", "666"]).arg(directory.join("null")).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());
}

/// Nodes on the disk below a directory; what stands for a removed file in a layer has the number 0.
fn nodes_below(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = rest.pop() {
        let status = std::fs::symlink_metadata(&path).unwrap();
        let kind = status.file_type();
        if kind.is_dir() {
            rest.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if (kind.is_block_device() || kind.is_char_device()) && status.rdev() != 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn devices(pairs: &[(&str, &str)]) -> Value {
    Value::List(vec![Value::map(pairs.iter().map(|(name, value)| (*name, Value::from(*value))))])
}

/// Covers: 2-mknod, 1d-mknod
#[test]
fn device_nodes_are_made_by_nobody_and_opened_on_no_directory_of_the_host() {
    let Some(bench) = Bench::new("nodes") else { return };
    // Where nothing protects, root makes them all and opens what it finds.
    let outside = bench.path("outside");
    plant(&outside);
    let host = Command::new(program("trees")).arg("nodes").arg(&outside).output().unwrap();
    let host = Report::of_host(&host);
    for kind in FOREIGN.iter().chain(&COMMON).chain(&["fifo", "open", "use"]) {
        host.expect(&[&format!("{kind}.{}", outside.display())], "OK");
    }
    assert_eq!(nodes_below(&outside).len(), 6, "the check finds what is made");
    std::fs::remove_dir_all(&outside).unwrap();

    let volume = bench.path("volume");
    let places = ["/local", "/alloc", "/volume", "/etc", "/dev", "/dev/shm"];
    let args: Vec<&str> = std::iter::once("nodes").chain(places).collect();
    for (id, attack, may_make) in [
        ("default", bench.attack("default", "trees", &args), false),
        ("root", bench.attack("root", "trees", &args).user("root"), false),
        // With MKNOD asked for and allowed, what /dev has anyway.
        ("mighty", bench.attack("mighty", "trees", &args).mighty(), true),
        ("strong", bench.attack("strong", "trees", &args).strong(), true),
    ] {
        let hosts = [bench.path(id).join("task/local"), bench.path(id).join("alloc"), volume.clone()];
        for place in &hosts {
            plant(place);
        }
        let report = attack.bind(&volume, "/volume").run();
        let refused = |kind: &str, place: &str| {
            let answer = report.get(&format!("{kind}.{place}"));
            // Whoever may not even write there can be told so first.
            assert!(["EPERM", "EACCES"].contains(&answer), "{id}: {kind} in {place}: {answer}");
        };
        for place in places {
            FOREIGN.iter().for_each(|kind| refused(kind, place));
            if !may_make {
                COMMON.iter().for_each(|kind| refused(kind, place));
            }
        }
        for (place, host) in ["/local", "/alloc", "/volume"].into_iter().zip(&hosts) {
            report.expect(&[&format!("fifo.{place}")], "OK");
            // Planted or made: on no directory of the host is it a device for the task.
            report.expect(&[&format!("open.{place}")], "EACCES");
            report.expect(&[&format!("use.{place}")], if may_make { "EACCES" } else { "ENOENT" });
            let of_foreign = |path: &PathBuf| path.ends_with("made-block") || path.ends_with("made-mem");
            assert_eq!(nodes_below(host).iter().filter(|path| of_foreign(path)).count(), 0);
            std::fs::remove_dir_all(host).unwrap();
        }
        let left = nodes_below(&bench.path(id));
        assert!(may_make || left.is_empty(), "{id}: {left:?}");
    }
    bench.finish();
}

/// Covers: 2-mknod, T118, T119
#[test]
fn a_device_is_used_as_far_as_it_was_granted() {
    let Some(bench) = Bench::new("granted") else { return };
    let asks = |id: &str, permissions: &str, command: &[&str]| {
        let asked = devices(&[
            ("host_path", "/dev/kmsg"),
            ("cgroup_permissions", permissions),
            ("container_path", "/dev/odd"),
        ]);
        bench.attack(id, "trees", command).option("devices", asked)
    };
    let text = asks("asks", "r", &[]).refused();
    assert!(text.contains("allow_devices"), "{text}");
    let text = bench.attack("asks", "trees", &[]).option("cap_add", all(&["mknod", "sys_admin"])).refused();
    assert!(text.contains("sys_admin"), "{text}");
    let allowed = |id: &str, permissions: &str, command: &[&str]| {
        asks(id, permissions, command).operator("allow_devices", all(&["/dev/kmsg"]))
    };
    for (permissions, read, write) in [("r", "OK", "EPERM"), ("w", "EPERM", "OK"), ("rw", "OK", "OK")] {
        let report = allowed(permissions, permissions, &["use", "/dev/odd"]).strong().run();
        report.expect(&["read./dev/odd"], read);
        report.expect(&["write./dev/odd"], write);
    }
    // To make one takes a grant of its own, and then it is that one only.
    for (permissions, made) in [("rwm", "OK"), ("rw", "EPERM")] {
        let report =
            allowed(&format!("makes-{permissions}"), permissions, &["nodes", "/local"]).strong().run();
        report.expect(&["kmsg./local"], made);
        report.expect(&["block./local", "mem./local"], "EPERM");
    }

    // The end of one task takes nothing from another.
    let first = bench.attack("first", "trees", &["stay"]).ready();
    let second = bench.attack("second", "trees", &["stay"]).ready();
    first.kill();
    second
        .exec(&["/trees", "use", "/dev/null"])
        .unwrap()
        .expect(&["read./dev/null", "write./dev/null"], "OK");
    second.kill();
    bench.finish();
}
