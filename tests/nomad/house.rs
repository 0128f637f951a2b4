//! The namespaces that an agent and all it starts live in.
//!
//! A test that fails half-way leaves an agent, its log collectors, plugins, shims, tasks and mounts behind. All of
//! them are inside one mount and one pid namespace here, whose first process only waits for our end of a pipe to
//! close: whatever ends this program, the kernel ends the rest.

use crate::agent::deadline;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The network of an agent.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Network {
    /// This machine's; the agent keeps to loopback.
    Host,
    /// One of its own, so that what the client does to firewall rules concerns nobody else.
    Own,
}

/// What is made inside before anything else runs. Ignored ends of children are reaped by the kernel.
const FURNISH: &str = r#"
set -e
mount -t proc proc /proc
# Killed helpers and plugins leave their sockets there.
mount -t tmpfs -o mode=1777 tmpfs /tmp
if [ "$1" = own ]; then
    mount -t tmpfs -o mode=755 tmpfs /run
fi
# What is made below these is of this namespace alone: the machine gets no directory by them.
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /run/bivouac /var/lib/bivouac /var/lib/cni
mount -t tmpfs -o mode=700 tmpfs /run/bivouac
if [ -d /etc/bivouac ]; then
    mount -t tmpfs -o mode=755 tmpfs /etc/bivouac
fi
if [ "$1" = own ]; then
    ip link set lo up
fi
echo ready
exec env --ignore-signal=CHLD cat >/dev/null
"#;

/// A set of namespaces.
pub(crate) struct House {
    keeper: Child,
    /// Closing it ends the house.
    door: Option<ChildStdin>,
    /// The first process inside, by its number here.
    first: i32,
    network: Network,
}

impl House {
    pub(crate) fn open(network: Network) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
        let word = match network {
            Network::Host => "host",
            Network::Own => {
                unshare.arg("--net");
                "own"
            }
        };
        let mut keeper = unshare
            .args(["sh", "-c", FURNISH, "house", word])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut said = String::new();
        let out = keeper.stdout.take().expect("its words");
        BufReader::new(out).read_line(&mut said).expect("its words");
        assert_eq!(said, "ready\n", "the namespaces of an agent");
        let children = format!("/proc/{0}/task/{0}/children", keeper.id());
        let first = std::fs::read_to_string(children).expect("the children of unshare");
        let first =
            first.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a child of unshare");
        Self { door: keeper.stdin.take(), keeper, first, network }
    }

    /// A command that will run inside.
    pub(crate) fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--mount", "--pid"]);
        if self.network == Network::Own {
            command.arg("--net");
        }
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// How to run curl where the agent's addresses are, if they are not this process's.
    pub(crate) fn curl(&self) -> Option<Vec<String>> {
        let words =
            ["nsenter", "--target", &self.first.to_string(), "--net", "--", "curl"].map(str::to_owned);
        (self.network == Network::Own).then(|| words.to_vec())
    }

    /// What a command inside says; it must end well.
    pub(crate) fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = self.enter(program).args(args).output().expect("nsenter runs");
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The root directory as it is inside.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.first).into()
    }

    /// The processes inside whose command line holds `word`, by their numbers inside.
    pub(crate) fn processes(&self, word: &str) -> Vec<i32> {
        let inside = std::fs::read_dir(self.root().join("proc")).expect("proc");
        let pids = inside.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.command_line(*pid).contains(word)).collect()
    }

    /// The command line of a process inside.
    pub(crate) fn command_line(&self, pid: i32) -> String {
        let line = std::fs::read(self.root().join(format!("proc/{pid}/cmdline"))).unwrap_or_default();
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Whether a process inside lives.
    pub(crate) fn alive(&self, pid: i32) -> bool {
        let stat = std::fs::read_to_string(self.root().join(format!("proc/{pid}/stat")));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Signals a process inside.
    pub(crate) fn signal(&self, signal: &str, pid: i32) {
        self.ask("kill", &["-s", signal, &pid.to_string()]);
    }

    /// Ends everything inside.
    pub(crate) fn close(&mut self) {
        self.door = None;
        if !deadline(|| self.keeper.try_wait().is_ok_and(|end| end.is_some())) {
            let _ = self.keeper.kill();
            let _ = self.keeper.wait();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.close();
    }
}
