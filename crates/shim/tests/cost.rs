//! What a shim is: which descriptors it has, what it costs when idle, and what strangers on its socket can do.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and skips aloud")]

mod rig;

use bivouac_sandbox::path::HostPath;
use bivouac_shim::client::{Client, ClientError};
use bivouac_shim::protocol::Refusal;
use bivouac_shim::status::Ending;
use rig::{Rig, can_run, open_files, read_line, soon, until};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Covers: T102, 1a-inherited-fds
#[test]
fn neither_shim_nor_task_gets_a_descriptor_that_was_not_meant_for_it() {
    if !can_run("neither_shim_nor_task_gets_a_descriptor_that_was_not_meant_for_it") {
        return;
    }
    let careless: Vec<std::fs::File> = (0..200)
        .map(|_| {
            let file = std::fs::File::open("/etc/passwd").unwrap();
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
            file
        })
        .collect();
    let script = "for n in 0 1 2 3 4 5 6 7 8 9 10 50 200; do [ -e /proc/$$/fd/$n ] && printf \"$n \"; done; echo; \
                  exec sleep 1000";
    let mut rig = Rig::shell(script);
    let (_client, mut output) = rig.start_with_output();
    assert_eq!(read_line(&mut output).trim_end(), "0 1 2");
    drop(careless);
    let open = open_files(rig.shim_pid());
    let strange: Vec<_> = open.iter().filter(|(_, name)| name.as_os_str() == "/etc/passwd").collect();
    assert!(strange.is_empty(), "{strange:?}");
    let pipes = open.iter().filter(|(_, name)| name.to_string_lossy().starts_with("pipe:")).count();
    assert_eq!(pipes, 0, "the shim holds an end of the task's pipe: {open:?}");
    assert!(open.len() < 40, "{open:?}");
    rig.destroy();
}

#[test]
fn an_idle_shim_is_never_woken() {
    if !can_run("an_idle_shim_is_never_woken") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (_client, _) = rig.start();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.shim_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    until("it waits", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(100));
        switches() == before
    });
    let before = switches();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(), before);
    let private = private_kib(rig.shim_pid());
    println!("an idle shim has {private} KiB of memory of its own");
    if std::env::var_os("BIVOUAC_SHIM_PROGRAM").is_some() {
        assert!(private <= 100, "{private} KiB");
    }
    rig.destroy();
}

/// Memory that only this shim has: written pages. Those of the program are shared by all shims.
fn private_kib(pid: i32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name| smaps.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    field("Anonymous:").trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn garbage_on_the_socket_harms_only_its_own_connection() {
    if !can_run("garbage_on_the_socket_harms_only_its_own_connection") {
        return;
    }
    let mut rig = Rig::shell("exec sleep 1000");
    let (mut client, _) = rig.start();
    let connect = || UnixStream::connect(rig.run_dir.join("shim.sock")).unwrap();
    let claims: [&[u8]; 5] = [
        b"\xff\xff\xff\xff\x00\x01",
        b"\0\0\0\0\0\0",
        b"\0\0\0\x02\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x03\0\x01\xc1",
    ];
    for garbage in claims {
        let mut stream = connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Refused with words, and closed; a reset says that not all of it was even read.
        let _ = stream.read_to_end(&mut answer);
        assert!(String::from_utf8_lossy(&answer).contains("NotUnderstood"), "{garbage:?}: {answer:?}");
    }
    // Half a frame, and silence.
    let mut slow = connect();
    slow.write_all(b"\0\0\0\x10\0").unwrap();
    client.state().unwrap();
    // Too many at once are told so, and the others go on.
    let crowd: Vec<UnixStream> = (0..80).map(|_| connect()).collect();
    let mut late = Client::connect(&rig.run_dir).unwrap();
    let refused = late.state().unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused(Refusal::TooMany { .. }) | ClientError::Gone),
        "{refused}"
    );
    client.state().unwrap();
    drop((crowd, slow));
    until("there is room again", || Client::connect(&rig.run_dir).unwrap().state().is_ok());
    rig.destroy();
}

#[test]
fn whoever_is_not_root_is_not_heard() {
    if !can_run("whoever_is_not_root_is_not_heard") {
        return;
    }
    use std::os::unix::process::CommandExt;
    let mut rig = Rig::shell("exec sleep 1000");
    let (_client, _) = rig.start();
    // Even with the directories wide open: the credentials of the peer decide.
    for path in [rig.dir.path(), &rig.run_dir, &rig.run_dir.join("shim.sock")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(b'\\0\\0\\0\\x08\\0\\1\\xa5State'); sys.stdout.buffer.write(s.recv(100))";
    let asked = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(rig.run_dir.join("shim.sock"))
        .uid(65534)
        .gid(65534)
        .output();
    let Ok(asked) = asked else {
        println!("SKIPPED: whoever_is_not_root_is_not_heard: needs python3");
        return rig.destroy();
    };
    let complaint = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.stdout.is_empty(), "{:?}", asked.stdout);
    assert!(
        asked.status.success() || complaint.contains("BrokenPipe") || complaint.contains("ConnectionReset"),
        "{complaint}"
    );
    std::fs::set_permissions(&rig.run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    rig.destroy();
}

#[test]
fn a_shim_without_an_order_or_with_a_wrong_one_goes_away() {
    if !can_run("a_shim_without_an_order_or_with_a_wrong_one_goes_away") {
        return;
    }
    use bivouac_shim::client::Place;
    let program = rig::program();
    let start = || Place { program: &program, cgroup: None, tasks: &[] }.start().unwrap();
    let (client, shim) = start();
    drop(client);
    bivouac_sys::wait::reap_blocking(shim.pidfd.as_fd()).unwrap();
    let (mut client, shim) = start();
    let refused = client.state().unwrap_err();
    assert!(refused.to_string().contains("must be a launch"), "{refused}");
    bivouac_sys::wait::reap_blocking(shim.pidfd.as_fd()).unwrap();
    for wrong in [&["x"][..], &["2"], &["-1"], &[], &["3", "4"], &["77"]] {
        let status = std::process::Command::new(rig::path()).args(wrong).status().unwrap();
        assert!(!status.success(), "{wrong:?}");
    }
}

/// Two file systems, one in a file of the other, so that freezing the outer one makes a disk that answers to nothing.
struct StuckDisk {
    outer: tempfile::TempDir,
}

impl StuckDisk {
    /// Mounts both, or says why that cannot be had here.
    fn new() -> Result<StuckDisk, String> {
        let disk = StuckDisk { outer: tempfile::tempdir().unwrap() };
        disk.mounted("image", 96 << 20, "outer")?;
        disk.mounted("outer/image", 48 << 20, "inner")?;
        Ok(disk)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.outer.path().join(name)
    }

    fn mounted(&self, image: &str, size: u64, target: &str) -> Result<(), String> {
        let image = self.path(image);
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(size))
            .map_err(|error| error.to_string())?;
        std::fs::create_dir(self.path(target)).map_err(|error| error.to_string())?;
        run(std::process::Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        run(std::process::Command::new("mount").args(["-o", "loop"]).arg(&image).arg(self.path(target)))
    }

    fn freezes(&self, option: &str) -> Result<(), String> {
        run(std::process::Command::new("fsfreeze").arg(option).arg(self.path("outer")))
    }
}

impl Drop for StuckDisk {
    fn drop(&mut self) {
        let _ = self.freezes("--unfreeze");
        // The kernel lets go of a loop device some time after the last user of what is on it.
        let deadline = std::time::Instant::now() + rig::SOON;
        for target in ["inner", "outer"].map(|name| self.path(name)) {
            while is_mounted(&target) && std::time::Instant::now() < deadline {
                let _ = run(std::process::Command::new("umount").arg(&target));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn is_mounted(path: &std::path::Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

fn run(command: &mut std::process::Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The overlay's last close writes its file system out; on a disk that does not answer, that never ends.
#[test]
fn the_end_is_told_without_waiting_for_a_disk() {
    if !can_run("the_end_is_told_without_waiting_for_a_disk") {
        return;
    }
    use bivouac_sandbox::model::Show;
    let mut rig = Rig::shell("echo x > /usr/made-by-the-task; read line; exit 4");
    let disk = match StuckDisk::new() {
        Ok(disk) => disk,
        Err(why) => {
            println!("SKIPPED: the_end_is_told_without_waiting_for_a_disk: {why}");
            return;
        }
    };
    let private = disk.path("inner").join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    rig.order.sandbox.root.private_dir = HostPath::new(&private).unwrap();
    for entry in &mut rig.order.sandbox.root.entries {
        if entry.target.as_bytes() == b"/usr" {
            entry.show = Show::Overlay { above: vec![] };
        }
    }
    let (input, mut writer) = std::io::pipe().unwrap();
    use bivouac_shim::protocol::{Output, Stream, TaskStreams};
    rig.order.streams =
        TaskStreams::Files { stdin: Stream::Given, stdout: Output::Null, stderr: Output::Null };
    let (client, _) = rig.try_start(vec![input.into()]).unwrap_or_else(|error| panic!("{error}"));
    let written = || walk(&private).iter().any(|path| path.ends_with("made-by-the-task"));
    until("the task has written", written);
    disk.freezes("--freeze").unwrap();
    writer.write_all(b"\n").unwrap();
    let exit = client.wait(soon()).unwrap();
    assert_eq!(exit.ending, Ending::Exited { code: 4 });
    // Somebody does wait for the disk, or this test would see nothing.
    until("a process waits for the disk", || waits_for_a_disk(rig.shim_pid()));
    disk.freezes("--unfreeze").unwrap();
    rig.destroy();
}

/// Whether a child of that process is in a wait that nothing interrupts.
fn waits_for_a_disk(shim: i32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap_or_default();
    let is_stuck = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('D'))
    };
    children.split_whitespace().any(is_stuck)
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}
