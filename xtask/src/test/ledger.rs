//! The ledger: what a suite must leave on this machine exactly as it found it. Taken before the first suite and after
//! every one, so that what is left carries a name.
//!
//! One row of [`SECTIONS`] is one kind of thing; to watch another, write another row. What is kept on purpose stands
//! in [`KEPT`] with its reason.

use crate::shell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long what is ending may take to be gone. Only what every look in this time finds is a leftover.
/// A minute and more: tasks of the plugin's fake engine, which isolates nothing, end by themselves after one.
const PATIENCE: Duration = Duration::from_secs(80);
/// Every suite and all that it starts inherits this name.
pub(crate) const MARK: &str = "BIVOUAC_TEST_LANE";

/// When a section differs.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// Both what is new and what is gone.
    Equal,
    /// What is new. What others take away meanwhile, or an earlier run left behind, is not held against us.
    NothingNew,
}

type Section = (&'static str, Rule, fn(&Scope) -> BTreeSet<String>);

use Rule::{Equal, NothingNew};
#[rustfmt::skip]
const SECTIONS: &[Section] = &[
    ("mount",               Equal,      |_| lines_of("/proc/self/mountinfo")),
    ("network interface",   Equal,      |_| names_in("/sys/class/net")),
    ("network namespace",   NothingNew, |_| names_in("/run/netns")),
    ("packet filter rule",  NothingNew, |_| packet_filter()),
    ("network address",     NothingNew, |_| below("/var/lib/cni")),
    ("control group",       NothingNew, |_| control_groups()),
    ("process",             NothingNew, processes),
    ("entry of ours",       NothingNew, |_| entries_of_ours()),
    ("temporary file",      NothingNew, |_| temporary_files()),
    ("shared memory",       NothingNew, |_| shared_memory()),
    ("abstract socket",     NothingNew, |_| abstract_sockets()),
    ("key",                 NothingNew, |_| keys()),
    ("loop device",         NothingNew, |_| contents_of("/sys/block", "loop/backing_file")),
    ("mapped device",       NothingNew, |_| contents_of("/sys/block", "dm/name")),
    ("kernel complaint",    NothingNew, |_| kernel_complaints()),
];

/// How much of a thing that is ours may stay.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    /// The directory, with nothing in it that is not kept as well.
    Empty,
    /// All of it.
    Whole,
}

use Keep::{Empty, Whole};
/// What may stay although it is ours, and why.
#[rustfmt::skip]
const KEPT: &[(&str, Keep, &str)] = &[
    ("/run/bivouac",        Empty, "made by the first face after a boot and gone with the next; root's alone"),
    ("/run/bivouac/tasks",  Empty, "the same: a list of tasks, with no task in it"),
    ("/run/bivouac/layers", Whole, "what hides the host's secrets in /etc, made once for all tasks of a boot"),
    ("/run/bivouac/overlay", Whole, "what this boot's kernel does with overlays, so that no start has to ask"),
    ("/run/bivouac/secrets", Empty, "the parent of the secrets of runs, which go with their runs"),
    ("/run/bivouac/cni",    Empty, "what the CNI plugins keep of networks and leave: no address that is in use"),
    ("/run/bivouac/cni/bivouac", Empty, "the same, of the bridge"),
    ("/run/bivouac/cni/bivouac/lock", Whole, "host-local's lock, made once"),
    ("/run/bivouac/cni/bivouac/last_reserved_ip.0", Whole, "where host-local looks for the next free address"),
    ("/sys/fs/cgroup/bivouac", Empty, "the parent of tasks' groups: making it again costs every start one directory"),
    ("/sys/fs/cgroup/*/bivouac", Empty, "the same in each hierarchy of version 1"),
    ("/sys/fs/cgroup/bivouac-shims", Empty, "the group of all shims: the same"),
    ("/sys/fs/cgroup/*/bivouac-shims", Empty, "the same in each hierarchy of version 1"),
    ("/var/lib/bivouac",    Empty, "the state directory, which an operator may have mounted"),
];

/// The directories of the programs. What appears in them, and whether they may appear, is this ledger's to say.
pub(crate) const OURS: [&str; 3] = ["/run/bivouac", "/var/lib/bivouac", "/etc/bivouac"];

/// What tells this run's things from others'.
pub(crate) struct Scope {
    /// Cargo's target directory: what runs from there was built here.
    pub(crate) target: PathBuf,
}

/// What was there at one moment: per section the things of it.
pub(crate) struct Ledger {
    sections: Vec<BTreeSet<String>>,
}

impl Ledger {
    /// Looks at everything once.
    pub(crate) fn take(scope: &Scope) -> Self {
        Self { sections: SECTIONS.iter().map(|(_, _, look)| look(scope)).collect() }
    }

    /// What differs now, one sentence each, and stays different for [`PATIENCE`]. The ledger then holds what is there
    /// now, so that the next suite is not blamed for it.
    pub(crate) fn differences(&mut self, scope: &Scope) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut now = Self::take(scope);
        let mut found = self.compare(&now);
        while !found.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
            now = Self::take(scope);
            let again = self.compare(&now);
            found.retain(|difference| again.contains(difference));
        }
        *self = now;
        found.into_iter().collect()
    }

    fn compare(&self, now: &Self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for ((name, rule, _), (before, after)) in SECTIONS.iter().zip(self.sections.iter().zip(&now.sections))
        {
            found.extend(after.difference(before).map(|thing| format!("{name} left: {thing}")));
            if *rule == Equal {
                found.extend(before.difference(after).map(|thing| format!("{name} gone: {thing}")));
            }
        }
        found
    }
}

fn lines_of(path: &str) -> BTreeSet<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn paths_in(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn names_in(folder: &str) -> BTreeSet<String> {
    paths_in(folder).map(|path| path.display().to_string()).collect()
}

/// Everything below a folder, links not followed.
fn below(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in paths_in(folder) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

/// The first line of one file in every folder that has it.
fn contents_of(folder: &str, file: &str) -> BTreeSet<String> {
    let told = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join(file)).ok()?;
        Some(format!("{}: {}", path.display(), text.trim()))
    };
    paths_in(folder).filter_map(told).collect()
}

/// What a program prints; nothing where it is missing or refuses.
fn printed(program: &str, arguments: &[&str]) -> String {
    let Some(path) = shell::find(program) else { return String::new() };
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Rules and chains that somebody made; built-in chains appear when a table is first looked at.
fn packet_filter() -> BTreeSet<String> {
    let is_made = |line: &&str| line.starts_with("-A") || (line.starts_with(':') && line.contains(" - ["));
    let of = |program: &str| {
        let made = |line: &str| format!("{program}: {}", line.split(" [").next().unwrap_or(line));
        printed(program, &[]).lines().filter(is_made).map(made).collect::<Vec<_>>()
    };
    ["iptables-save", "ip6tables-save"].into_iter().flat_map(of).collect()
}

/// Groups of every hierarchy that bear a name of ours, or of the Nomad that tests start, but for what is kept. Others
/// belong to whoever runs this machine, and come and go as they like.
fn control_groups() -> BTreeSet<String> {
    let is_ours = |path: &String| path.contains("bivouac") || path.contains("nomad");
    let folders = groups_below(Path::new("/sys/fs/cgroup"));
    let found = folders.into_iter().map(|path| path.display().to_string()).filter(is_ours).collect();
    without_kept(&found)
}

/// A link among the hierarchies is another name of one.
fn groups_below(folder: &Path) -> Vec<PathBuf> {
    // `file_type` costs nothing for the hundreds of files in each.
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten().filter(is_folder);
    let mut found = Vec::new();
    for path in folders.map(|entry| entry.path()) {
        found.extend(groups_below(&path));
        found.push(path);
    }
    found
}

/// Processes that were built here, bear our mark, or live in a group of ours.
fn processes(scope: &Scope) -> BTreeSet<String> {
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    let is_ours = |path: &PathBuf| {
        let built_here = std::fs::read_link(path.join("exe")).is_ok_and(|exe| exe.starts_with(&scope.target));
        let mark = format!("{MARK}=");
        let marked = || {
            std::fs::read(path.join("environ"))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|pair| pair.starts_with(mark.as_bytes())))
        };
        let grouped =
            || std::fs::read_to_string(path.join("cgroup")).is_ok_and(|text| text.contains("bivouac"));
        (built_here || marked() || grouped()) && !is_for_init_to_reap(path)
    };
    let is_process = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    };
    let told = |path: PathBuf| {
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        format!("{} {} ({})", path.display(), name.trim(), command.trim())
    };
    paths_in("/proc").filter(is_process).filter(|path| *path != own).filter(is_ours).map(told).collect()
}

/// A process that has ended and whose only parent is the first process of this machine, or of the container that CI
/// runs in: not every one of those reaps.
fn is_for_init_to_reap(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    (fields.next(), fields.next()) == (Some("Z"), Some("1"))
}

/// What lies in the directories of the programs, but for what is kept.
fn entries_of_ours() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for folder in OURS {
        if Path::new(folder).exists() {
            found.insert(folder.to_owned());
        }
        found.extend(below(folder));
    }
    without_kept(&found)
}

fn without_kept(found: &BTreeSet<String>) -> BTreeSet<String> {
    found.iter().filter(|path| !is_kept(path, found)).cloned().collect()
}

fn is_kept(path: &str, all: &BTreeSet<String>) -> bool {
    let is_below = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    KEPT.iter().any(|(kept, keep, _)| match keep {
        Whole => is_at(path, kept) || is_below(path, kept),
        Empty => {
            is_at(path, kept)
                && all.iter().filter(|other| is_below(other, path)).all(|other| is_kept(other, all))
        }
    })
}

/// Whether a path is the one that is kept; `*` there is any one name.
fn is_at(path: &str, kept: &str) -> bool {
    let (mut names, mut wanted) = (path.split('/'), kept.split('/'));
    wanted.by_ref().all(|want| names.next().is_some_and(|name| want == "*" || want == name))
        && names.next().is_none()
}

/// Names that tests, and the crates that make temporary files for them, give.
fn temporary_files() -> BTreeSet<String> {
    const BEGINNINGS: [&str; 4] = ["bivouac", ".tmp", "nomad", "plugin"];
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    };
    let folders = ["/tmp", "/var/tmp"].into_iter().flat_map(paths_in);
    folders.filter(is_ours).map(|path| path.display().to_string()).collect()
}

/// POSIX and System V.
fn shared_memory() -> BTreeSet<String> {
    let mut found = names_in("/dev/shm");
    for kind in ["shm", "sem", "msg"] {
        let rows = std::fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        let identity = |row: &str| row.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        found.extend(rows.lines().skip(1).map(|row| format!("{kind} {}", identity(row))));
    }
    found
}

/// No control socket of ours is one.
fn abstract_sockets() -> BTreeSet<String> {
    let named =
        |line: &str| line.split_whitespace().last().filter(|name| name.starts_with('@')).map(str::to_owned);
    let lines = lines_of("/proc/net/unix");
    lines.iter().filter_map(|line| named(line)).filter(|name| name.contains("bivouac")).collect()
}

/// The keys of each user who has some. Whose they are is told to anybody, what they are only to their owner.
fn keys() -> BTreeSet<String> {
    let lines = lines_of("/proc/key-users");
    let users = lines.iter().filter_map(|line| line.split_once(':')).map(|(user, _)| user.trim());
    let of = |user: &str| {
        let listed = printed("setpriv", &["--reuid", user, "--clear-groups", "cat", "/proc/keys"]);
        listed.lines().filter_map(|line| key(user, line)).collect::<Vec<_>>()
    };
    users.flat_map(of).collect()
}

/// A line of /proc/keys, unless the key is another user's, or one of those that the kernel makes and keeps: its own, whose
/// names begin with a dot, and two for each user as soon as something asks for them. See user-keyring(7).
fn key(user: &str, line: &str) -> Option<String> {
    let [id, _, _, _, _, owner, _, kind, name, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    let of_kernel = |name: &str| [".", "_uid.", "_uid_ses."].iter().any(|begin| name.starts_with(begin));
    if owner != user || (kind == "keyring" && of_kernel(name)) {
        return None;
    }
    Some(format!("{kind} {} of user {user}, {id}", name.trim_end_matches(':')))
}

/// Lines of the kernel's log that no task may cause.
fn kernel_complaints() -> BTreeSet<String> {
    const WORDS: [&str; 6] =
        ["BUG:", "Oops", "WARNING:", "general protection", "blocked for more than", "refcount"];
    let log = printed("dmesg", &[]);
    log.lines().filter(|line| WORDS.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_kernel_keeps_are_nobodys_leftovers() {
        let of_nobody = |line| key("65534", line);
        let kept = [
            "0fcc8055 I--Q---     1 perm 1f3f0000 65534 65534 keyring   _uid_ses.65534: 1",
            "3217aec5 I--Q---     2 perm 1f3f0000 65534 65534 keyring   _uid.65534: empty",
            "36bb3a6d I--Q---     1 perm 0c030000 65534 65534 keyring   .user_reg: 4",
            "1217aec5 I--Q---     1 perm 3f1b0000     0     0 keyring   _ses: empty",
            "",
        ];
        assert_eq!(kept.map(of_nobody), [const { None }; 5]);
        let left = "3e0c1a77 I--Q---     1 perm 3f1b0000 65534 65534 keyring   _ses.bivouac: empty";
        assert_eq!(of_nobody(left).unwrap(), "keyring _ses.bivouac of user 65534, 3e0c1a77");
        let left = "1e0c1a77 I--Q---     1 perm 3f010000 65534 65534 user      _uid.x: 4";
        assert_eq!(of_nobody(left).unwrap(), "user _uid.x of user 65534, 1e0c1a77");
    }

    fn ledger(section: &str, things: &[&str]) -> Ledger {
        let of = |name: &str| match name == section {
            true => things.iter().map(|thing| (*thing).to_owned()).collect(),
            false => BTreeSet::new(),
        };
        Ledger { sections: SECTIONS.iter().map(|(name, ..)| of(name)).collect() }
    }

    #[test]
    fn what_is_left_is_named_and_what_is_gone_only_where_it_matters() {
        let told = |section, before: &[&str], after: &[&str]| -> Vec<String> {
            ledger(section, before).compare(&ledger(section, after)).into_iter().collect()
        };
        assert_eq!(told("mount", &["a", "b"], &["b", "c"]), ["mount gone: a", "mount left: c"]);
        assert_eq!(told("control group", &["a"], &["b"]), ["control group left: b"]);
        assert!(told("process", &["a"], &["a"]).is_empty());
    }

    /// The ledger is worth nothing if it cannot see.
    #[test]
    fn a_process_with_our_mark_and_a_file_of_ours_are_seen() {
        let scope = Scope { target: "/nowhere".into() };
        let mut before = Ledger::take(&scope);
        let path = std::env::temp_dir().join(format!("bivouac-test-ledger-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let mut child = Command::new("sleep").arg("100").env(MARK, "host").spawn().unwrap();
        let after = Ledger::take(&scope);
        let found = before.compare(&after);
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        let saw = |what: &str| found.iter().any(|line| line.contains(what));
        assert!(saw(&format!("process left: /proc/{} ", child.id())), "{found:?}");
        assert!(saw(path.to_str().unwrap()), "{found:?}");
        let rest = before.differences(&scope);
        assert!(!rest.iter().any(|line| line.contains("ledger") || line.contains("sleep 100")), "{rest:?}");
    }

    #[test]
    fn only_the_parents_of_groups_are_kept_and_only_empty() {
        let all = [
            "/sys/fs/cgroup/bivouac-shims",
            "/sys/fs/cgroup/pids/bivouac",
            "/sys/fs/cgroup/pids/bivouac/task",
            "/sys/fs/cgroup/cpu/bivouac",
            "/sys/fs/cgroup/cpu/bivouac-other",
            "/sys/fs/cgroup/cpu/other/bivouac",
        ];
        let all = all.map(str::to_owned).into();
        let left = without_kept(&all).into_iter().collect::<Vec<_>>();
        let expected = [
            "/sys/fs/cgroup/cpu/bivouac-other",
            "/sys/fs/cgroup/cpu/other/bivouac",
            "/sys/fs/cgroup/pids/bivouac",
            "/sys/fs/cgroup/pids/bivouac/task",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn what_is_kept_is_kept_empty() {
        let all = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        let kept = |path: &str, more: &[&str]| is_kept(path, &all(more));
        assert!(kept("/run/bivouac", &["/run/bivouac", "/run/bivouac/tasks", "/run/bivouac/layers/a/b"]));
        assert!(!kept("/run/bivouac", &["/run/bivouac/tasks", "/run/bivouac/tasks/x"]));
        assert!(
            !kept("/run/bivouac/tasks/x", &["/run/bivouac/tasks/x"]) && !kept("/run/bivouac/layersx", &[])
        );
        for (path, _, why) in KEPT {
            assert!(path.starts_with('/') && why.len() > 20, "{path}");
        }
    }
}
