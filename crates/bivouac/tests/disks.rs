//! Disks and volumes of real runs: sizes that hold, disks that move to the next run, instances with volumes of their
//! own, mounts that travel or do not.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use bivouac_sys::quota;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
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

/// Everything that lies on the disk counts: the task's files, and what it writes over the host's directories.
const FILL: &str = "test ! -s local/mark || cat local/mark /alloc/data/mark
    echo kept > local/mark; echo shared > /alloc/data/mark; ln -s /etc/passwd local/link 2>/dev/null
    head -c 40000000 /dev/zero > local/large 2>/dev/null || echo local is full; rm -f local/large
    head -c 40000000 /dev/zero > /usr/large 2>/dev/null || echo root is full; rm -f /usr/large
    head -c 8000000 /dev/zero > local/small && echo fits; rm local/small";

/// Runs a job twice whose disk is kept to its size, and looks at what it leaves.
fn fills_and_leaves(bivouac: &Bivouac, way: &str) {
    let path = job(bivouac, way, DISK, FILL);
    let run = || bivouac.told(&["--disk", way, "run", "-q", path.to_str().unwrap()]);
    let (stdout, stderr, code) = run();
    assert_eq!((stdout.as_str(), code), ("local is full\nroot is full\nfits\n", Some(0)), "{way}: {stderr}");
    let (stdout, stderr, _) = run();
    assert!(stdout.starts_with("kept\nshared\nlocal is full\n"), "{way}: {stdout}{stderr}");
    let kept = bivouac.state.join(format!("disks/{way}.g[0]"));
    assert_eq!(std::fs::read_to_string(kept.join("t/local/mark")).unwrap(), "kept\n");
    assert!(kept.join("t/local/link").is_symlink(), "a link stays a link");
    assert!(bivouac.told(&["gc"]).2 == Some(0) && kept.exists(), "gc leaves sticky disks alone");
}

/// Covers: W38, A4
#[test]
fn a_disk_is_kept_to_its_size_and_moves_to_the_next_run() {
    let Some(bivouac) = Bivouac::new("disks") else { return };
    let images = images_work();
    for way in if images { &["memory", "image"][..] } else { &["memory"] } {
        fills_and_leaves(&bivouac, way);
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

/// A file system with project quotas, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where the kernel has none.
    fn new(folder: &Path) -> Option<Mounted> {
        let at = folder.join("fs");
        std::fs::create_dir_all(&at).unwrap();
        let steps = "truncate -s 256M $D/image && mke2fs -q -F -t ext4 -O quota,project -E quotatype=prjquota $D/image && \
                     mount -o loop,prjquota $D/image $D/fs";
        let made = Command::new("sh").args(["-c", steps]).env("D", folder).output().unwrap();
        if made.status.success() {
            return Some(Mounted(at));
        }
        println!(
            "SKIPPED: a_disk_is_kept_to_its_size_by_a_quota: {}",
            String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; ")
        );
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Covers: W38, A4
#[test]
fn a_disk_is_kept_to_its_size_by_a_quota() {
    let Some(mut bivouac) = Bivouac::new("quota") else { return };
    let folder = bivouac.state.clone();
    // Where there are none, that is said and nothing is left.
    let path = job(&bivouac, "none", DISK, "echo not reached");
    let (stdout, stderr, code) = bivouac.told(&["--disk", "quota", "run", path.to_str().unwrap()]);
    assert!(stdout.is_empty() && stderr.contains("mounted with prjquota"), "{stdout}{stderr}");
    assert_eq!((code, std::fs::read_dir(folder.join("allocs")).map_or(0, Iterator::count)), (Some(125), 0));
    let Some(mounted) = Mounted::new(&folder) else { return };
    bivouac.state = mounted.0.join("state");
    fills_and_leaves(&bivouac, "quota");
    // Over the death of its supervisor, and until gc.
    let disk = "ephemeral_disk {\n size = 24\n}";
    let path = job(&bivouac, "behind", disk, "df -m /local | tail -1; exec sleep 1000");
    let (id, stderr, code) = bivouac.told(&["--disk", "quota", "run", "-d", path.to_str().unwrap()]);
    let id = id.trim();
    assert_eq!(code, Some(0), "{stderr}");
    wait_for("the size that it sees", || {
        let said = bivouac.told(&["logs", id]).0;
        (said.split_whitespace().nth(1)? == "24").then_some(())
    });
    let open = |path: &Path| std::fs::File::open(path).unwrap();
    let directory = bivouac.state.join("allocs").join(id);
    let project = quota::project(open(&directory).as_fd()).unwrap().unwrap();
    assert!(!quota::is_free(open(&mounted.0).as_fd(), project).unwrap());
    bivouac.told(&["stop", id]);
    wait_for("its directory to be removed", || {
        bivouac.told(&["gc"]);
        (!directory.exists()).then_some(())
    });
    assert!(quota::is_free(open(&mounted.0).as_fd(), project).unwrap(), "the limit is taken back");
    std::fs::remove_dir_all(&bivouac.state).unwrap();
    drop(mounted);
    bivouac.state = folder;
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
