//! The root and what is mounted in it: no attack through links, races, names or kept layers reaches the host.

use crate::rig::{Bench, all, nightly, program, tree, until};
use bivouac_driver::options::Value;
use bivouac_driver::signals::Signal;
use bivouac_sandbox::model::{Access, Mount, MountKind, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn volume(source: &Path, target: &str) -> Mount {
    let what = MountKind::Bind {
        source: HostPath::new(source).unwrap(),
        route: Route::Anywhere,
        access: Access::ReadWrite,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    };
    Mount { target: TaskPath::new(target).unwrap(), what }
}

/// Covers: CVE-2023-0386, CVE-2019-14803, 2-suid, T6, T8, T13, T58
#[test]
fn what_a_task_does_to_the_hosts_directories_stays_in_its_layer_and_gains_nothing() {
    let Some(bench) = Bench::new("layer") else { return };
    let host = bench.victim("package");
    let secret = bench.victim("secret");
    for (name, mode) in [("moved", 0o644), ("doomed", 0o644), ("state", 0o4755), ("group", 0o2755)] {
        let path = host.path.join(name);
        std::fs::copy(program("state"), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = tree(&host.path);
    std::fs::create_dir_all(bench.path("a/task/local")).unwrap();
    let report =
        bench.attack("a", "root", &["write", "/package"]).shows(&host.path, "/package").mighty().run();
    // It could write: what follows is not true for want of trying.
    let could = ["create", "mkdir", "overwrite", "chmod", "chown", "rename", "unlink", "top", "suid"];
    for act in could {
        report.expect(&[&format!("{act}./package")], "OK");
    }
    assert_ne!(report.get("whiteout./package"), "OK", "a whiteout is a device");
    assert_eq!(tree(&host.path), before, "the host's package was changed");

    // The kept layer, with whatever attributes it could plant, means nothing at the next start.
    let args = [
        "look",
        "/package/planted-directory",
        "/package/planted-directory/marker",
        "/package/marker",
        "/package/doomed",
    ];
    let report = bench.attack("a", "root", &args).shows(&host.path, "/package").mighty().run();
    report.expect(&["look./package/planted-directory/marker", "look./package/doomed"], "ENOENT");
    assert!(report.get("look./package/planted-directory").starts_with("40755"), "{}", report.text);
    assert!(report.get("look./package/marker").contains(" 4321:4321"), "{}", report.text);

    // Attributes put into the upper layer from outside, as a broken kernel might let a task: not followed.
    let upper = bench.path("a/private/package/upper");
    let planted = upper.join("planted-directory");
    for (name, value) in [("trusted.overlay.redirect", "/secret"), ("trusted.overlay.metacopy", "")] {
        rustix::fs::setxattr(&planted, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    }
    match bench.attack("a", "root", &args).shows(&host.path, "/package").mighty().start() {
        Ok(live) => {
            let report = live.end();
            assert!(!report.get("look./package/planted-directory/marker").contains("ino"), "{}", report.text);
        }
        Err(error) => assert!(error.to_string().contains("/package"), "{error}"),
    }
    secret.unharmed();

    // Set-user-id programs of the host, of a volume and of the task itself give nobody anything.
    let volume_dir = bench.victim("volume");
    let suid = volume_dir.path.join("state");
    std::fs::copy(program("state"), &suid).unwrap();
    std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o6755)).unwrap();
    for path in ["/package/state", "/package/group", "/volume/state"] {
        let attack = bench.attack("b", "state", &["run", path]);
        let attack = attack.operator("allow_mount_paths", all(&[volume_dir.path.to_str().unwrap()]));
        let mount =
            [("source", Value::from(volume_dir.path.to_str().unwrap())), ("target", Value::from("/volume"))];
        let report =
            attack.shows(&host.path, "/package").option("mount", Value::List(vec![Value::map(mount)])).run();
        report.expect(&["euid"], "65534");
        report.expect(&["Uid"], "65534 65534 65534 65534");
        report.expect(&["Gid"], "65534 65534 65534 65534");
    }
    // Outside, the same file does give: the check can fail.
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&suid)
        .output()
        .unwrap();
    crate::rig::Report::of_host(&output).expect(&["euid"], "0");
    bench.finish();
}

/// Covers: CVE-2024-9407, T17, T19, T41
#[test]
fn odd_names_are_names_and_never_options() {
    let Some(bench) = Bench::new("names") else { return };
    let odd = [
        "a,b:c",
        "with space",
        "back\\slash",
        "lowerdir=x,upperdir=y",
        "quote\"'",
        "new\nline",
        "per%cent",
        "tab\there",
        "ünïcode",
    ];
    for (number, name) in odd.iter().enumerate() {
        let host = bench.victim(name);
        std::fs::write(host.path.join("which"), format!("number {number}")).unwrap();
        let id = format!("t{number}");
        let below = format!("/shown/{name}");
        let paths = [format!("{below}/which"), format!("/volume-{name}/which")];
        let attack = bench.attack(&id, "root", &["read", &paths[0], &paths[1]]).change(|request| {
            request.mounts = vec![volume(&host.path, &format!("/volume-{name}"))];
            request.directories.private = HostPath::new(bench.path(&format!("private {name}"))).unwrap();
        });
        let report = attack.shows(&host.path, &below).run();
        for path in paths {
            let wanted = format!("read.{path} = number {number}");
            assert!(report.text.contains(&wanted), "{name:?}:\n{}", report.text);
        }
    }
    bench.finish();
}

/// Covers: CVE-2026-39822, T3, T15, T16, T17
#[test]
fn forty_spellings_of_a_way_out_end_inside() {
    let Some(bench) = Bench::new("spellings") else { return };
    let victim = bench.victim("victim");
    std::fs::copy(program("state"), victim.path.join("state")).unwrap();
    std::fs::set_permissions(victim.path.join("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let victim_now = tree(&victim.path);
    let up = "../".repeat(12);
    let out = victim.path.to_str().unwrap().trim_start_matches('/');
    let links = [
        ("absolute", format!("/{out}")),
        ("climbing", format!("{up}{out}")),
        ("magic", format!("/proc/1/root/{out}")),
        ("own", format!("/proc/self/root/{out}")),
        ("descriptor", "/proc/self/fd/3".to_owned()),
    ];
    let local = bench.path("a/task/local");
    std::fs::create_dir_all(&local).unwrap();
    std::fs::set_permissions(&local, std::fs::Permissions::from_mode(0o777)).unwrap();
    for (name, target) in &links {
        symlink(target, local.join(name)).unwrap();
    }
    let mut tried = 0;
    for (name, _) in &links {
        for spelling in [
            format!("/local/{name}"),
            format!("/local/{name}/"),
            format!("/local/{name}/."),
            format!("//local/{name}"),
            format!("/local/./{name}"),
            format!("/local//{name}//"),
            format!("/local/{name}/sub"),
            format!("local/{name}"),
        ] {
            tried += 1;
            // As a command, as a working directory, and as a place for a mount.
            let command = bench.task("a", &format!("{spelling}/state"), &[]).start();
            assert!(
                command.is_err(),
                "{spelling} ran {}",
                command.map(|live| live.kill().text).unwrap_or_default()
            );
            if let Ok(live) =
                bench.attack("a", "fds", &["look"]).option("work_dir", spelling.as_str()).start()
            {
                let report = live.end();
                report.expect(&["climb"], "top");
                assert!(report.get("cwd").starts_with('/'), "{spelling}: {}", report.text);
            }
            if tried % 4 == 0 || nightly() {
                let attack = bench.attack("a", "root", &["mounts"]).bind(&victim.path, &spelling);
                if let Ok(live) = attack.start() {
                    live.end();
                }
            }
        }
    }
    assert_eq!(tried, 40);
    assert_eq!(tree(&victim.path), victim_now);
    bench.finish();
}

/// Covers: CVE-2026-48749, CVE-2018-15664
#[test]
fn top_names_that_became_links_are_refused_by_name() {
    let Some(bench) = Bench::new("tops") else { return };
    let victim = bench.victim("victim");
    for (number, name) in
        ["task/local", "task/tmp", "task/secrets", "alloc/logs", "private/generated", "private/usr"]
            .iter()
            .enumerate()
    {
        let id = format!("t{number}");
        bench.attack(&id, "fds", &[]).option("hostname", "name").run();
        let place = bench.path(&id).join(name);
        std::fs::remove_dir_all(&place).unwrap();
        symlink(&victim.path, &place).unwrap();
        let text = bench.attack(&id, "fds", &[]).option("hostname", "name").refused();
        assert!(text.contains(name.split('/').next_back().unwrap()), "{name}: {text}");
        victim.unharmed();
    }
    bench.finish();
}

/// Covers: CVE-2022-23648, CVE-2019-14271
#[test]
fn nothing_of_the_root_steers_hangs_or_runs_in_the_launcher() {
    let Some(bench) = Bench::new("steer") else { return };
    let plain = Instant::now();
    bench.attack("plain", "state", &[]).run().expect(&["home"], "/nonexistent");
    let plain = plain.elapsed();
    let marker = bench.path("bait-ran");
    let etc = bench.path("a/task/etc");
    std::fs::create_dir_all(&etc).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(etc.join("passwd")).status().unwrap();
    assert!(fifo.success());
    std::fs::write(etc.join("group"), "nogroup:x:0:nobody\nnobody:x:0:\n").unwrap();
    symlink("/dev/zero", etc.join("nsswitch.conf")).unwrap();
    std::fs::File::create(etc.join("hosts")).unwrap().set_len(1 << 30).unwrap();
    // Whatever the launcher would run or load from the root, it would find this.
    for name in [
        "bin/sh",
        "bin/id",
        "lib64/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "usr/bin/xz",
        "usr/bin/git",
        "sbin/modprobe",
    ] {
        let bait = bench.path("a/task").join(name);
        std::fs::create_dir_all(bait.parent().unwrap()).unwrap();
        std::fs::write(&bait, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
        std::fs::set_permissions(&bait, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nothing = Value::map([("/no-such-directory", Value::from("/none"))]);
    let begun = Instant::now();
    let live = bench.attack("a", "state", &["stay"]).operator("chroot_env", nothing).ready();
    let exec = live.exec(&["/state", "look"]).unwrap();
    bench.engine.stats(live.id()).unwrap();
    bench.engine.signal(live.id(), Signal::parse("CONT").unwrap()).unwrap();
    bench.engine.stop(live.id(), Signal::TERM, Duration::from_millis(100)).unwrap();
    let first = live.kill();
    assert!(begun.elapsed() < plain * 3 + Duration::from_secs(20), "{:?} beside {plain:?}", begun.elapsed());
    for report in [first, exec] {
        report.expect(&["Uid"], "65534 65534 65534 65534");
        report.expect(&["Gid"], "65534 65534 65534 65534");
        report.expect(&["Groups"], "65534");
        report.expect(&["home"], "/nonexistent");
    }
    assert!(!marker.exists(), "something of the root was run on the host");
    // Whoever looks for a program in the root finds the bait, and takes it.
    let bait = bench.path("a/task/bin");
    let careless = std::process::Command::new("/bin/sh")
        .args(["-c", "id"])
        .env("PATH", format!("{}:/usr/bin:/bin", bait.display()))
        .status();
    assert!(careless.unwrap().success() && marker.exists(), "the bait does not show that it was run");
    bench.finish();
}

/// Covers: CVE-2021-44731, T138
#[test]
fn a_foreign_run_directory_is_never_adopted() {
    use bivouac_driver::engine::{Engine, Places};
    let Some(bench) = Bench::new("foreign") else { return };
    let places = |name: &str| Places {
        run: bench.path(name),
        copies: bench.path("copies"),
        shim: crate::rig::shim(),
        shims: format!("bivouac-test-foreign-{}-shims", std::process::id()),
    };
    let victim = bench.victim("victim");
    for (name, make) in [
        (
            "owned",
            &(|path: &Path| {
                std::fs::create_dir(path).unwrap();
                std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
            }) as &dyn Fn(&Path),
        ),
        ("open", &|path: &Path| {
            std::fs::create_dir(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }),
        ("link", &|path: &Path| symlink(&victim.path, path).unwrap()),
        ("file", &|path: &Path| std::fs::write(path, "").unwrap()),
    ] {
        make(&bench.path(name));
        let error = Engine::new(places(name)).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    victim.unharmed();
    // One that is made as the directory of a run beforehand: the run's id counts as taken.
    let taken = bench.path("run/tasks/alloc%2fa");
    symlink(&victim.path, &taken).unwrap();
    let text = bench.attack("a", "fds", &[]).refused();
    assert!(text.contains("already started"), "{text}");
    victim.unharmed();
    std::fs::remove_file(taken).unwrap();
    bench.finish();
}

/// Cleaners empty the places where everybody may write, and whoever is quick makes again what they took. Nothing of
/// ours lies there; what lies in a directory of ours, were it taken and made again by somebody, is not used.
///
/// Covers: CVE-2021-44731
#[test]
fn a_cleaner_takes_nothing_and_what_is_made_in_its_wake_is_not_adopted() {
    const INSIDE: &str = "BIVOUAC_TEST_CLEANED";
    let Some(bench) = Bench::new("cleaner") else { return };
    if std::env::var_os(INSIDE).is_none() {
        // Once more where /tmp and its kind are this test's own, to be emptied.
        let script =
            "for d in /tmp /dev/shm; do mount -t tmpfs -o mode=1777 none $d || exit 9; done; exec \"$@\"";
        let own = std::env::current_exe().unwrap();
        let test = "roots::a_cleaner_takes_nothing_and_what_is_made_in_its_wake_is_not_adopted";
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        let output = command.arg(own).args(["--exact", test]).env(INSIDE, "1").env("TMPDIR", "/tmp").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return bench.finish();
    }
    let usual = bivouac_driver::engine::Places::usual();
    assert!(usual.run == Path::new("/run/bivouac") && usual.copies.starts_with("/var/lib/bivouac"));
    let victim = bench.victim("victim");
    // A copy, and a layer that hides what is private in /etc.
    let attack = |id: &str, mode: &str| {
        let pairs = [(victim.path.to_str().unwrap(), "/shown"), ("/etc", "/etc")];
        let pairs = pairs.map(|(from, to)| (from, Value::from(to)));
        let attack = bench.attack(id, "root", &["stay"]).option("root", mode);
        attack.operator("chroot_env", Value::map(pairs)).change(|request| request.directories.own.clear())
    };
    let shown = |id: &str| [attack(id, "copy").ready(), attack(&format!("{id}-layer"), "overlay").ready()];
    let older = shown("older");
    // What a user left there goes, so the cleaner works; nothing else is there to be taken.
    std::fs::write("/tmp/old", "").unwrap();
    std::fs::write("/dev/shm/old", "").unwrap();
    let cleaned = || {
        let find = ["/tmp", "/dev/shm", "-mindepth", "1", "-print", "-delete"];
        String::from_utf8(std::process::Command::new("find").args(find).output().unwrap().stdout).unwrap()
    };
    assert_eq!(cleaned(), "/tmp/old\n/dev/shm/old\n");
    let works = |live: &crate::rig::Live<'_>| {
        let report = live.exec(&["/root", "read", "/shown/marker"]).unwrap();
        report.expect(&["read./shown/marker"], "the host's");
    };
    older.iter().for_each(works);
    for name in ["bivouac", "copies", "run", "layers"] {
        symlink(&victim.path, Path::new("/tmp").join(name)).unwrap();
    }
    for newer in shown("newer") {
        newer.kill();
    }
    victim.unharmed();
    cleaned();

    // Taken from our own directories and made again: by a user, open to everybody, as a link.
    let decoy = bench.victim("decoy");
    for (name, mode) in [("copies", "copy"), ("run/layers", "overlay")] {
        let place = bench.path(name);
        let user = |path: &Path| {
            std::fs::create_dir(path).unwrap();
            std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
        };
        let open = |path: &Path| {
            std::fs::create_dir(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        };
        let link = |path: &Path| symlink(&decoy.path, path).unwrap();
        let makes: [&dyn Fn(&Path); 3] = [&user, &open, &link];
        for make in makes {
            let kept = place.with_extension("kept");
            std::fs::rename(&place, &kept).unwrap();
            make(&place);
            let text = attack("late", mode).refused();
            assert!(text.contains(name), "{text}");
            older.iter().for_each(works);
            let _ = std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir(&place));
            std::fs::rename(kept, &place).unwrap();
        }
        decoy.unharmed();
    }
    // Whoever trusts the name writes there.
    symlink(&decoy.path, bench.path("trusted")).unwrap();
    std::fs::create_dir_all(bench.path("trusted/copies")).unwrap();
    assert!(decoy.path.join("copies").exists());
    // Taken altogether: the next start makes them anew.
    for name in ["copies", "run/layers"] {
        std::fs::remove_dir_all(bench.path(name)).unwrap();
    }
    for live in shown("newer").into_iter().chain(older) {
        works(&live);
        live.kill();
    }
    victim.unharmed();
    bench.finish();
}

/// Covers: CVE-2026-31431
#[test]
fn a_copied_root_shares_no_inode_with_the_host() {
    let Some(bench) = Bench::new("copy") else { return };
    let usr = bench.path("hosts-usr");
    std::fs::create_dir_all(usr.join("bin")).unwrap();
    std::fs::copy(program("fds"), usr.join("bin/su")).unwrap();
    let original = std::fs::metadata(usr.join("bin/su")).unwrap();
    let inode = |mode: &str| {
        let live = bench
            .attack(mode, "fds", &["stay"])
            .option("root", mode)
            .operator("chroot_env", Value::map([(usr.to_str().unwrap(), Value::from("/usr"))]))
            .change(|request| request.directories.own.clear())
            .ready();
        let path = format!("/proc/{}/root/usr/bin/su", live.started.pid);
        let seen = std::fs::metadata(path).unwrap();
        live.kill();
        seen.ino()
    };
    // Read-only shows the host's own file, so the comparison can fail.
    assert_eq!(inode("readonly"), original.ino());
    assert_ne!(inode("copy"), original.ino());
    bench.finish();
}

/// Covers: CVE-2019-14803, CVE-2022-31214, T5, T7
#[test]
fn a_user_of_the_host_reaches_nothing_that_tasks_made() {
    let Some(bench) = Bench::new("private") else { return };
    let live = bench.attack("a", "root", &["stay"]).user("root").ready();
    let paths = [
        "run",
        "run/tasks",
        "run/tasks/alloc%2fa",
        "run/tasks/alloc%2fa/status.json",
        "a/private",
        "a/private/usr/upper",
        "run/layers",
    ];
    for path in paths {
        assert!(bench.path(path).exists(), "{path}");
    }
    let full: Vec<_> = paths.iter().map(|path| bench.path(path)).collect();
    let ask = |uid: &str| {
        let program = program("state");
        let open = bench.path("state");
        std::fs::copy(program, &open).unwrap();
        let output = std::process::Command::new(open).args(["as", uid]).args(&full).output().unwrap();
        crate::rig::Report::of_host(&output)
    };
    let (root, user) = (ask("0"), ask("1000"));
    for path in &full {
        let name = format!("stat.{}", path.display());
        root.expect(&[&name], "OK");
    }
    for path in full.iter().filter(|path| !path.ends_with("run") && !path.ends_with("a/private")) {
        user.expect(&[&format!("stat.{}", path.display())], "EACCES");
    }
    let mut live = live;
    let list = live.exec(&["/root", "look", "/run", "/bivouac", "/.bivouac", "/run/bivouac"]).unwrap();
    list.expect(&["look./bivouac", "look./.bivouac", "look./run/bivouac"], "ENOENT");
    // Root in the task, under the names that are there on the host: what an exec joins is read where nobody forges it.
    let state: Vec<&str> = full.iter().map(|path| path.to_str().unwrap()).collect();
    let inside = live.exec(&[&["/root", "look"], &state[..]].concat()).unwrap();
    let outside = std::process::Command::new(program("root")).arg("look").args(&state).output().unwrap();
    let outside = crate::rig::Report::of_host(&outside);
    for path in state {
        let name = format!("look.{path}");
        inside.expect(&[&name], "ENOENT");
        assert!(outside.get(&name).contains("ino"), "{}", outside.text);
    }
    live.started.notes.clear();
    live.kill();
    until("its directories are gone", || !bench.path("run/tasks/alloc%2fa").exists());
    bench.finish();
}
