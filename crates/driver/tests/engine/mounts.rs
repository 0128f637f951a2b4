//! Mounts and entries of the chroot environment end to end: sources of every kind, sizes, propagation, what is left
//! out.

use crate::bench::{Bench, read_line, skipped};
use crate::fuse::{self, Fuse};
use bivouac_driver::config::TaskConfig;
use bivouac_driver::engine::Leftovers;
use bivouac_driver::options::Value;
use bivouac_sandbox::HostPath;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory of the host beside those of the tests.
fn data() -> tempfile::TempDir {
    let data = tempfile::Builder::new().prefix("bivouac-test-data-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    data
}

fn mount(source: &Path, target: &str, more: &[(&'static str, Value)]) -> Value {
    let own = [("source", Value::from(source.to_str().unwrap())), ("target", target.into())];
    Value::map(own.into_iter().chain(more.iter().cloned()))
}

fn tmpfs(target: &str, more: &[(&'static str, Value)]) -> Value {
    let own = [("type", Value::from("tmpfs")), ("target", target.into())];
    Value::map(own.into_iter().chain(more.iter().cloned()))
}

fn below_var_tmp() -> Vec<(&'static str, Value)> {
    vec![("allow_mount_paths", Value::texts(["/var/tmp"]))]
}

/// Covers: T20
#[test]
fn sources_of_every_kind() {
    let Some(bench) = Bench::with("sources", below_var_tmp()) else { return };
    let data = data();
    let (file, fifo) = (data.path().join("file"), data.path().join("fifo"));
    let (socket, space) = (data.path().join("socket"), data.path().join("fuse"));
    std::fs::write(&file, "from a file\n").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut mounts =
        vec![mount(&file, "/in/file", &[]), mount(&fifo, "/in/fifo", &[]), mount(&socket, "/in/socket", &[])];
    let served = Fuse::at(&space);
    if served.is_some() {
        mounts.push(mount(&space, "/in/fuse", &[("readonly", true.into())]));
    } else {
        skipped("sources_of_every_kind: a FUSE directory (this kernel has none)");
    }
    let script = "cat /in/file; (echo through a fifo > /in/fifo &); cat /in/fifo; test -S /in/socket && echo socket; \
        [ -d /in/fuse ] && cat /in/fuse/f; exit 0";
    let output = bench.run(&bench.root_script("a", script, vec![("mount", Value::List(mounts))]));
    let space = if served.is_some() { std::str::from_utf8(fuse::CONTENT).unwrap() } else { "" };
    assert_eq!(output.out, format!("from a file\nthrough a fifo\nsocket\n{space}"), "{output:?}");
    drop(served);
    bench.finish();
}

/// Covers: T26
#[test]
fn a_tmpfs_has_the_mode_and_size_asked_for() {
    let Some(bench) = Bench::new("tmpfs") else { return };
    let mounts = vec![
        tmpfs("/plain", &[]),
        tmpfs("/there", &[]),
        tmpfs("/own", &[("mode", "750".into()), ("size", "1m".into())]),
    ];
    let script = "stat -c '%a %U' /plain /there /own; cd /own; \
        dd if=/dev/zero of=x bs=64k count=64 2>&1 | grep -o 'No space left on device'; stat -c %s x; rm x; \
        dd if=/dev/zero of=x bs=64k count=16 2>/dev/null && echo fits";
    let request = bench.root_script("a", script, vec![("mount", Value::List(mounts))]);
    // The mode of what is covered is not taken over.
    let covered = bench.path("a/task/there");
    std::fs::create_dir(&covered).unwrap();
    std::fs::set_permissions(&covered, std::fs::Permissions::from_mode(0o700)).unwrap();
    let output = bench.run(&request);
    let expected = "1777 root\n1777 root\n750 root\nNo space left on device\n1048576\nfits\n";
    assert_eq!(output.out, expected, "{output:?}");
    bench.finish();
    for (size, text) in [
        (Value::from("0"), "mount[0].size must be larger than 0"),
        (Value::Integer(-1), "mount[0].size must be a number of bytes, or text such as \"64m\", got -1"),
        (Value::from("9223372036854775809"), "mount[0].size is larger than any memory"),
        (
            Value::from("18446744073709551616"),
            "mount[0].size must be a number of bytes, or text such as \"64m\", got \"18446744073709551616\"",
        ),
    ] {
        let mounts = Value::List(vec![tmpfs("/t", &[("size", size)])]);
        let task = Value::map([("command", Value::from("/bin/true")), ("mount", mounts)]);
        assert_eq!(TaskConfig::decode(&task).unwrap_err().to_string(), text);
    }
}

/// Covers: T28
#[test]
fn mounts_made_later_travel_neither_way() {
    let options = below_var_tmp()
        .into_iter()
        .chain([("allow_mount", true.into()), ("allow_caps", Value::texts(["all"]))]);
    let Some(bench) = Bench::with("private", options.collect()) else { return };
    let data = data();
    let (up, down) = (data.path().join("up"), data.path().join("down"));
    for directory in [&up, &down] {
        std::fs::create_dir(directory).unwrap();
    }
    // Shared, so that it is the task's own side that keeps mounts from travelling.
    rustix::mount::mount_bind(data.path(), data.path()).unwrap();
    rustix::mount::mount_change(data.path(), rustix::mount::MountPropagationFlags::SHARED).unwrap();
    let script = "mount -t tmpfs none /v/up && touch /v/up/inside && echo mounted; \
        until [ -e /local/go ]; do sleep 0.02; done; ls /v/down; ls /v/up; exec sleep 100";
    let options = vec![("mount", mount(data.path(), "/v", &[])), ("cap_add", Value::texts(["sys_admin"]))];
    let mut run = bench.started(&bench.root_script("a", script, options));
    assert_eq!(read_line(&mut run.out), "mounted");
    assert_eq!(std::fs::read_dir(&up).unwrap().count(), 0, "the task's mount is on the host");
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &down, "tmpfs", none, None).unwrap();
    std::fs::write(down.join("host"), "").unwrap();
    std::fs::write(bench.path("a/task/local/go"), "").unwrap();
    let seen = read_line(&mut run.out);
    for path in [down.as_path(), data.path()] {
        rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    assert_eq!(seen, "inside", "nothing of the host's later mount, the task's own is there");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();
    bench.finish();
}

/// Covers: A10, A14, A15
#[test]
fn entries_show_whole_trees_but_nothing_of_ours() {
    let data = data();
    let ours = data.path().join("allocs");
    for directory in ["allocs/other/task", "sub/deep"] {
        std::fs::create_dir_all(data.path().join(directory)).unwrap();
    }
    std::fs::write(data.path().join("f"), "top\n").unwrap();
    std::fs::write(data.path().join("sub/deep/f"), "deep\n").unwrap();
    let source = data.path().to_str().unwrap();
    let usual = ["/bin", "/lib", "/lib64", "/sbin", "/usr", "/etc"].map(|path| (path, Value::from(path)));
    // `/bin` is a link on most hosts: an entry below it lies where the link leads.
    let below = data.path().join("sub");
    let more = [
        (source, Value::from("/seen")),
        (below.to_str().unwrap(), "/bin/proof".into()),
        ("/no/such/directory", "/absent".into()),
    ];
    let chroot = Value::map(usual.into_iter().chain(more));
    let Some(bench) = Bench::with("entries", vec![("chroot_env", chroot)]) else { return };
    let script =
        "cat /seen/f /seen/sub/deep/f /bin/proof/deep/f; ls -d /seen/allocs /absent 2>/dev/null; echo over";
    let mut request = bench.script("a", script, vec![]);
    request.directories.own.push(HostPath::new(&ours).unwrap());
    let output = bench.run(&request);
    assert_eq!(output.out, "top\ndeep\ndeep\nover\n", "{output:?}");
    bench.finish();
}

/// The kernel takes no overlay whose layers lie in each other: what hides a directory of ours lies in it.
#[test]
fn an_entry_that_holds_our_own_directories_is_refused_with_advice() {
    let parent = std::env::var("BIVOUAC_TEST_DIR").unwrap_or_else(|_| "/var/tmp".to_owned());
    let chroot = Value::map([("/usr", Value::from("/usr")), (parent.as_str(), "/seen".into())]);
    let Some(bench) = Bench::with("within", vec![("chroot_env", chroot)]) else { return };
    let text = bench.refusal(&bench.script("a", "true", vec![]));
    assert!(text.contains(" for /seen: ") && text.contains("name its parts instead"), "{text}");
    bench.finish();
}
