//! Finding and running the command: the search in the task's root, the execute bit, riddles that get an answer.

use crate::support::*;
use bivouac_sandbox::launch::{Failure, FailureKind};
use bivouac_sandbox::model::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Puts a file into the task's directory and runs it.
fn run_file(
    bench: &Bench<'_>,
    content: &[u8],
    mode: u32,
    bit: ExecuteBit,
) -> (Result<Outcome, Failure>, u32) {
    let home = Home::new();
    let file = home.task_dir().join("program");
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let mut sandbox = default_sandbox(&home, &["/program"]);
    sandbox.process.candidates = vec![Candidate { path: task("/program"), execute_bit: bit }];
    let result = bench.run(&sandbox);
    (result, fs::metadata(&file).unwrap().permissions().mode() & 0o7777)
}

fn refusal(result: Result<Outcome, Failure>) -> (FailureKind, String) {
    let failure = result.map(drop).expect_err("this cannot run");
    (failure.kind, failure.to_string())
}

/// Covers: X33
fn the_bit_is_added_to_the_tasks_own_file(bench: &Bench<'_>) {
    let (result, mode) = run_file(bench, b"#!/bin/sh\necho hello world\n", 0o600, ExecuteBit::Add);
    assert_eq!(result.unwrap_or_else(|failure| panic!("{failure}")).stdout, "hello world\n");
    assert_eq!(mode, 0o755);
}

/// Covers: T13
fn the_bit_is_left_to_others(bench: &Bench<'_>) {
    let (result, mode) = run_file(bench, b"#!/bin/sh\n", 0o644, ExecuteBit::Leave);
    assert_eq!(
        refusal(result),
        (
            FailureKind::NotExecutable,
            "/program has no execute permission; chmod +x it where it comes from".to_owned()
        )
    );
    assert_eq!(mode, 0o644);
}

fn the_bit_is_never_added_through_a_link(bench: &Bench<'_>) {
    let home = Home::new();
    let victim = home.base.join("victim");
    fs::write(&victim, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(home.task_dir().join("mine"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(home.task_dir().join("mine"), fs::Permissions::from_mode(0o600)).unwrap();
    for target in [victim.to_str().unwrap(), "mine"] {
        let link = home.task_dir().join("program");
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        let mut sandbox = default_sandbox(&home, &["/program"]);
        sandbox.process.candidates = vec![Candidate { path: task("/program"), execute_bit: ExecuteBit::Add }];
        assert!(bench.run(&sandbox).is_err());
    }
    assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(home.task_dir().join("mine")).unwrap().permissions().mode() & 0o777, 0o600);
}

fn riddles_get_an_answer(bench: &Bench<'_>) {
    let (result, _) = run_file(bench, b"#!/no/such/shell -x\n", 0o755, ExecuteBit::Leave);
    assert_eq!(
        refusal(result).1,
        "the script /program names the interpreter /no/such/shell, which is not in the task's root; check its first line"
    );
    let (result, _) = run_file(bench, b"just text", 0o755, ExecuteBit::Leave);
    assert_eq!(
        refusal(result).1,
        "/program is neither a program nor a script with `#!` in its first line; run it through its interpreter, as in command = \"/bin/sh\", args = [\"FILE\"]"
    );
    let mut foreign = fs::read("/bin/true").unwrap();
    foreign[18] = 243;
    let (result, _) = run_file(bench, &foreign, 0o755, ExecuteBit::Leave);
    assert_eq!(
        refusal(result).1,
        "/program is a program for RISC-V, not for this machine; install the build for this machine"
    );
}

/// Covers: T12
fn a_missing_interpreter_is_named(bench: &Bench<'_>) {
    let home = Home::new();
    let mut sandbox = default_sandbox(&home, &["/program"]);
    fs::copy("/bin/true", home.task_dir().join("program")).unwrap();
    sandbox.root.entries.clear();
    let (kind, text) = refusal(bench.run(&sandbox));
    assert_eq!(kind, FailureKind::NotExecutable);
    let loader = if cfg!(target_arch = "x86_64") {
        "/lib64/ld-linux-x86-64.so.2"
    } else {
        "/lib/ld-linux-aarch64.so.1"
    };
    assert_eq!(
        text,
        format!(
            "/program needs the interpreter {loader}, which is not in the task's root; add it through chroot_env, or use a statically linked program"
        )
    );
}

fn directories_are_not_commands(bench: &Bench<'_>) {
    let home = Home::new();
    let (kind, text) = refusal(bench.run(&default_sandbox(&home, &["/usr/bin"])));
    assert_eq!(
        (kind, text.as_str()),
        (FailureKind::NotExecutable, "cannot run /usr/bin: /usr/bin is not a regular file")
    );
}

fn the_first_place_wins(bench: &Bench<'_>) {
    let home = Home::new();
    for name in ["local/tool", "tool"] {
        let file = home.task_dir().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "#!/bin/sh\necho $0\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut sandbox = default_sandbox(&home, &["/tool"]);
    let place = |path| Candidate { path: task(path), execute_bit: ExecuteBit::Leave };
    sandbox.process.candidates = vec![place("/absent/tool"), place("/local/tool"), place("/tool")];
    let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(
        (outcome.ending, outcome.stdout.as_str()),
        (bivouac_sys::wait::Ending::Exited(0), "/local/tool\n")
    );
}

/// Covers: T1, T3
fn working_directories(bench: &Bench<'_>) {
    let seen =
        bench.shell("pwd; stat -c '%U %a' .", |sandbox, _| sandbox.process.work_dir = task("/a/new/one"));
    assert_eq!(seen, "/a/new/one\nroot 755\n");
    for number in 0..64 {
        let home = Home::new();
        let mut sandbox = default_sandbox(&home, &["/bin/pwd"]);
        sandbox.process.work_dir = task(&format!("/proc/self/fd/{number}"));
        let (_, text) = refusal(bench.run(&sandbox));
        assert!(
            text.starts_with(&format!("cannot enter the working directory /proc/self/fd/{number}")),
            "{text}"
        );
    }
}

/// Covers: T2
fn a_working_directory_is_entered_with_the_tasks_own_rights(bench: &Bench<'_>) {
    for (uid, opens) in [(65534, true), (0, false)] {
        let home = Home::new();
        let closed = home.task_dir().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&closed, Some(uid), Some(uid)).unwrap();
        let mut sandbox = default_sandbox(&home, &["/bin/pwd"]);
        sandbox.process.work_dir = task("/closed");
        if opens {
            let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(outcome.stdout, "/closed\n");
        } else {
            let (_, text) = refusal(bench.run(&sandbox));
            assert!(
                text.starts_with("cannot enter the working directory /closed: Permission denied"),
                "{text}"
            );
            as_root(&mut sandbox);
            let outcome = bench.run(&sandbox).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(outcome.stdout, "/closed\n");
        }
    }
}

/// Covers: T4
fn made_directories_inherit_the_group_of_a_set_gid_parent(bench: &Bench<'_>) {
    let seen = bench.shell("pwd; stat -c '%A %u %g' . .. /shared/mounted", |sandbox, home| {
        let shared = home.task_dir().join("shared");
        fs::create_dir(&shared).unwrap();
        std::os::unix::fs::chown(&shared, Some(0), Some(1234)).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
        sandbox.process.work_dir = task("/shared/new/one");
        let volume = home.base.join("volume");
        fs::create_dir(&volume).unwrap();
        // What is mounted has its own mode; what was made for it is below.
        sandbox.mounts.push(bind(&volume, "/shared/mounted/deep", Access::ReadOnly));
    });
    let made = "drwxr-sr-x 0 1234\n";
    assert_eq!(seen, format!("/shared/new/one\n{made}{made}{made}"));
}

/// Covers: CVE-2019-5736
fn our_program_is_out_of_reach(bench: &Bench<'_>) {
    let seen = bench.shell("ls -l /proc/1/exe | sed 's/.*-> //'", |_, _| {});
    assert!(seen.starts_with("/usr/bin/"), "{seen}");
    let home = Home::new();
    let (_, text) = refusal(bench.run(&default_sandbox(&home, &["/proc/self/exe"])));
    assert!(text.contains("/proc/self/exe"), "{text}");
}

/// Covers: 2-bomb-argv
fn too_much_is_said_so(bench: &Bench<'_>) {
    let home = Home::new();
    let mut sandbox = default_sandbox(&home, &["/bin/true"]);
    sandbox.process.arguments.push(serde_bytes::ByteBuf::from(vec![b'x'; 128 * 1024 + 1]));
    let (_, text) = refusal(bench.run(&sandbox));
    assert!(text.contains("larger than the kernel takes"), "{text}");
}

/// Covers: T64, T66
fn limits_and_score(bench: &Bench<'_>) {
    let seen =
        bench.shell("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; umask; hostname", |sandbox, _| {
            sandbox.process.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200 }];
            sandbox.process.oom_score_adj = 500;
            sandbox.process.umask = 0o077;
            sandbox.hostname = Some(Hostname::new("a-task").unwrap());
        });
    assert_eq!(seen, "100\n200\n500\n0077\na-task\n");
    assert_ne!(rustix::system::uname().nodename().to_str().unwrap(), "a-task");
}

pub(crate) const TESTS: &[Test] = &[
    ("the_bit_is_added_to_the_tasks_own_file", the_bit_is_added_to_the_tasks_own_file),
    ("the_bit_is_left_to_others", the_bit_is_left_to_others),
    ("the_bit_is_never_added_through_a_link", the_bit_is_never_added_through_a_link),
    ("riddles_get_an_answer", riddles_get_an_answer),
    ("a_missing_interpreter_is_named", a_missing_interpreter_is_named),
    ("directories_are_not_commands", directories_are_not_commands),
    ("the_first_place_wins", the_first_place_wins),
    ("working_directories", working_directories),
    (
        "a_working_directory_is_entered_with_the_tasks_own_rights",
        a_working_directory_is_entered_with_the_tasks_own_rights,
    ),
    (
        "made_directories_inherit_the_group_of_a_set_gid_parent",
        made_directories_inherit_the_group_of_a_set_gid_parent,
    ),
    ("our_program_is_out_of_reach", our_program_is_out_of_reach),
    ("too_much_is_said_so", too_much_is_said_so),
    ("limits_and_score", limits_and_score),
];
