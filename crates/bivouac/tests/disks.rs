//! Disks and volumes of real runs: sizes that hold, disks that move to the next run, instances with volumes of their
//! own, mounts that travel or do not.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use support::{Bivouac, wait_for};

fn job(bivouac: &Bivouac, name: &str, group: &str, script: &str) -> PathBuf {
    let text = format!(
        "job \"{name}\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 0\n}}\n{group}\n task \"t\" {{\n driver = \"exec\"\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", <<EOT\n{script}\nEOT\n]\n}}\n logs {{\n max_files = 1\n max_file_size = 1\n}}\n MOUNTS \n}}\n}}\n}}\n"
    );
    let mounts = if group.contains("volume \"data\"") {
        "volume_mount {\n volume = \"data\"\n destination = \"/data\"\n PROPAGATION \n}"
    } else {
        ""
    };
    let path = bivouac.state.join(format!("{name}.nomad.hcl"));
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::write(&path, text.replace("MOUNTS", mounts).replace("PROPAGATION", "")).unwrap();
    path
}

/// Whether this kernel has what a disk in an image needs.
fn images_work() -> bool {
    let has =
        |program: &str| Command::new(program).arg("-f").output().is_ok_and(|output| output.status.success());
    let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    has("losetup")
        && kinds.lines().any(|line| line.ends_with("ext4"))
        && PathBuf::from("/usr/sbin/mke2fs").exists()
}

const DISK: &str = "ephemeral_disk {\n size = 24\n sticky = true\n}";

/// Covers: W38, A4
#[test]
fn a_disk_is_kept_to_its_size_and_moves_to_the_next_run() {
    let Some(bivouac) = Bivouac::new("disks") else { return };
    let images = images_work();
    for way in if images { &["memory", "image"][..] } else { &["memory"] } {
        // Everything that lies on it counts: the task's files, and what it writes over the host's directories.
        let fill = "test ! -s local/mark || cat local/mark /alloc/data/mark
            echo kept > local/mark; echo shared > /alloc/data/mark; ln -s /etc/passwd local/link 2>/dev/null
            head -c 40000000 /dev/zero > local/large 2>/dev/null || echo local is full; rm -f local/large
            head -c 40000000 /dev/zero > /usr/large 2>/dev/null || echo root is full; rm -f /usr/large
            head -c 8000000 /dev/zero > local/small && echo fits; rm local/small";
        let path = job(&bivouac, way, DISK, fill);
        let run = || bivouac.told(&["--disk", way, "run", "-q", path.to_str().unwrap()]);
        let (stdout, stderr, code) = run();
        assert_eq!(
            (stdout.as_str(), code),
            ("local is full\nroot is full\nfits\n", Some(0)),
            "{way}: {stderr}"
        );
        let (stdout, stderr, _) = run();
        assert!(stdout.starts_with("kept\nshared\nlocal is full\n"), "{way}: {stdout}{stderr}");
        let kept = bivouac.state.join(format!("disks/{way}.g[0]"));
        assert_eq!(std::fs::read_to_string(kept.join("t/local/mark")).unwrap(), "kept\n");
        assert!(kept.join("t/local/link").is_symlink(), "a link stays a link");
        assert!(bivouac.told(&["gc"]).2 == Some(0) && kept.exists(), "gc leaves sticky disks alone");
    }
    if !images {
        println!(
            "SKIPPED: a_disk_is_kept_to_its_size_and_moves_to_the_next_run: no loop devices, ext4 or mke2fs"
        );
        return;
    }
    // In the background, over the death of the supervisor and until gc.
    let path =
        job(&bivouac, "behind", "ephemeral_disk {\n size = 24\n}", "df -m /local | tail -1; exec sleep 1000");
    let (id, stderr, code) = bivouac.told(&["--disk", "image", "run", "-d", path.to_str().unwrap()]);
    let id = id.trim();
    assert_eq!(code, Some(0), "{stderr}");
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = || mounts().lines().any(|line| line.contains(id) && line.contains("ext4"));
    wait_for("the disk", || mounted().then_some(()));
    bivouac.told(&["stop", id]);
    wait_for("the disk to be taken back", || {
        bivouac.told(&["gc"]);
        (!mounts().contains(id)).then_some(())
    });
    assert!(!bivouac.state.join(format!("allocs/{id}.image")).exists());
    // Off, the size is what it is with Nomad: a number for a scheduler.
    let path = job(
        &bivouac,
        "off",
        "ephemeral_disk {\n size = 24\n}",
        "head -c 40000000 /dev/zero > local/large && echo fits",
    );
    let (stdout, stderr, _) = bivouac.told(&["run", "-q", path.to_str().unwrap()]);
    assert_eq!(stdout, "fits\n", "{stderr}");
}

/// Covers: Z27
#[test]
fn each_instance_has_its_volume_and_what_is_missing_is_named() {
    let Some(bivouac) = Bivouac::new("volumes") else { return };
    let group = "count = 2\n volume \"data\" {\n type = \"host\"\n source = \"v\"\n per_alloc = true\n}";
    let path = job(&bivouac, "each", group, "echo $NOMAD_ALLOC_INDEX > /data/index");
    let file = path.to_str().unwrap();
    let (_, stderr, code) = bivouac.told(&["run", file]);
    assert!(stderr.contains("missing v[0]") && stderr.contains("volume create"), "{stderr}");
    assert_eq!(code, Some(125));
    assert_eq!(bivouac.told(&["volume", "create", "v[0]", "v[1]"]).2, Some(0));
    let (_, stderr, code) = bivouac.told(&["run", "-q", file]);
    assert_eq!(code, Some(0), "{stderr}");
    let read = |index: u32| {
        std::fs::read_to_string(bivouac.state.join(format!("volumes/v[{index}]/index"))).unwrap()
    };
    assert_eq!((read(0), read(1)), ("0\n".to_owned(), "1\n".to_owned()));
    // Read-only on the command line is read-only, whatever the job file says.
    let one = job(
        &bivouac,
        "one",
        "volume \"data\" {\n type = \"host\"\n source = \"w\"\n}",
        "echo x > /data/f; cat /data/index",
    );
    let volume = format!("w={}:ro", bivouac.state.join("volumes/v[1]").display());
    let (stdout, stderr, _) = bivouac.told(&["run", "-volume", &volume, one.to_str().unwrap()]);
    assert!(stdout == "1\n" && stderr.contains("Read-only file system"), "{stdout}{stderr}");
    assert_eq!(bivouac.told(&["gc"]).2, Some(0));
    let (listed, _, _) = bivouac.told(&["volume", "ls"]);
    assert!(listed.contains("v[0]") && listed.contains("v[1]"), "gc leaves volumes alone: {listed}");
    assert_eq!(bivouac.told(&["volume", "rm", "v[0]", "v[1]"]).2, Some(0));
}

/// Covers: T28
#[test]
fn mounts_travel_as_the_job_file_says() {
    let Some(bivouac) = Bivouac::new("propagation") else { return };
    let group = "volume \"data\" {\n type = \"host\"\n source = \"v\"\n}";
    let script = "touch /alloc/data/ready; until test -e /alloc/data/go; do sleep 0.05; done; ls /data/sub; grep -c ' /data' /proc/self/mountinfo; touch /alloc/data/done";
    let path = job(&bivouac, "travel", group, script);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::create_dir_all(bivouac.state.join("v")).unwrap();
    let program = format!("{} --state-dir {}", env!("CARGO_BIN_EXE_bivouac"), bivouac.state.display());
    for (mode, sees) in [("private", ""), ("host-to-task", "seen\n")] {
        let with = format!("destination = \"/data\"\n propagation_mode = \"{mode}\"");
        std::fs::write(&path, text.replace("destination = \"/data\"", &with)).unwrap();
        let steps = "set -e; mount -t tmpfs t $S/v; mount --make-rshared $S/v; mkdir $S/v/sub
            ID=$($B run -d -volume v=$S/v $S/travel.nomad.hcl)
            D=$S/allocs/$ID/alloc; until test -e $D/data/ready; do sleep 0.05; done
            mount -t tmpfs t $S/v/sub; touch $S/v/sub/seen; touch $D/data/go
            until test -e $D/data/done; do sleep 0.05; done; cat $D/logs/t.stdout.0
            until $B gc >/dev/null 2>&1 && ! test -e $D; do sleep 0.05; done; umount -R -l $S/v";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", steps])
            .env("B", &program)
            .env("S", &bivouac.state)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = if sees.is_empty() { "1\n" } else { "2\n" };
        assert_eq!(told, format!("{sees}{count}"), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Both ways is a power over the host, which the operator must have allowed.
    std::fs::write(
        &path,
        text.replace(
            "destination = \"/data\"",
            "destination = \"/data\"\n propagation_mode = \"bidirectional\"",
        ),
    )
    .unwrap();
    let volume = format!("v={}", bivouac.state.join("v").display());
    let (_, stderr, code) = bivouac.told(&["run", "-volume", &volume, path.to_str().unwrap()]);
    assert!(stderr.contains("allow_bidirectional") && code == Some(125), "{stderr}");
}
