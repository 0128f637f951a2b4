//! One plugin started once: found beneath an operator's directory, with an environment of ours, a deadline, and caps
//! on what it may say.

use super::{CniError, PATH, plain_name};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a plugin has.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// How much of its answer is read, in bytes.
const LARGEST: usize = 1 << 20;

/// What a plugin is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Remove,
}

/// One call, as the specification's environment variables have it.
pub(super) struct Call<'a> {
    pub(super) verb: Verb,
    pub(super) plugin: &'a str,
    pub(super) container: &'a str,
    /// None where the namespace is gone already: plugins then clean up what lies outside it.
    pub(super) namespace: Option<&'a Path>,
    pub(super) interface: &'a str,
    pub(super) args: &'a str,
    pub(super) path: &'a [PathBuf],
    /// How long it has: [`DEADLINE`].
    pub(super) patience: Duration,
}

impl Call<'_> {
    fn failed(&self, what: &'static str) -> impl Fn(Errno) -> CniError {
        move |errno| CniError::Run { plugin: self.plugin.to_owned(), what, errno }
    }

    fn io(&self, what: &'static str) -> impl Fn(std::io::Error) -> CniError {
        move |error| self.failed(what)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// The plugin's program, opened beneath the first directory that has it.
    fn program(&self) -> Result<OwnedFd, CniError> {
        plain_name("the type of a CNI plugin", self.plugin)?;
        for directory in self.path {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(directory) = openat(CWD, directory, flags, Mode::empty()) else { continue };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            match openat2(&directory, self.plugin, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(program) => return Ok(program),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.failed("cannot be opened")(errno)),
            }
        }
        let places: Vec<String> = self.path.iter().map(|path| path.display().to_string()).collect();
        Err(CniError::Missing { name: self.plugin.to_owned(), places: places.join(", ") })
    }
}

/// Runs a plugin and reads its answer; nothing but an object comes back (an empty one where it has nothing to say).
///
/// # Errors
/// [`CniError`]; no process of the call is left.
pub(super) fn run(call: &Call<'_>, input: &Value) -> Result<Value, CniError> {
    let program = call.program()?;
    // A script's interpreter opens the descriptor by its number once more.
    fcntl_setfd(&program, FdFlags::empty()).map_err(call.failed("cannot be handed on"))?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0(call.plugin)
        .env_clear()
        .env("PATH", PATH)
        .env(
            "CNI_COMMAND",
            match call.verb {
                Verb::Add => "ADD",
                Verb::Remove => "DEL",
            },
        )
        .env("CNI_CONTAINERID", call.container)
        .env("CNI_NETNS", call.namespace.unwrap_or(Path::new("")))
        .env("CNI_IFNAME", call.interface)
        .env("CNI_ARGS", call.args)
        .env("CNI_PATH", std::env::join_paths(call.path).unwrap_or_default())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let spawned = command.spawn();
    let mut child = spawned.map_err(call.io("cannot be started"))?;
    let answered = converse(call, &mut child, input);
    // Whatever it started in its group goes with it.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(call.io("cannot be waited for"))?;
    let (stdout, stderr) = answered?;
    if status.success() {
        let unusable = |text| CniError::Answer { plugin: call.plugin.to_owned(), text };
        return match call.verb {
            Verb::Add => answer(&stdout).map_err(unusable),
            Verb::Remove => Ok(Value::Object(serde_json::Map::new())),
        };
    }
    let verb = match call.verb {
        Verb::Add => "add",
        Verb::Remove => "remove",
    };
    let text = complaint(&stdout).unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&stderr);
        let said = said.trim();
        // Words of a stranger for somebody's terminal.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        if said.is_empty() { status.to_string() } else { said.chars().map(plain).take(500).collect() }
    });
    Err(CniError::Refused { plugin: call.plugin.to_owned(), verb, text })
}

/// Gives it its input and reads both streams until it has ended, by the deadline.
fn converse(call: &Call<'_>, child: &mut Child, input: &Value) -> Result<(Vec<u8>, Vec<u8>), CniError> {
    let deadline = Instant::now() + call.patience;
    let pid =
        Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH).map_err(call.failed("has no number"))?;
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(call.failed("cannot be watched"))?;
    let bytes = serde_json::to_vec(input).unwrap_or_default();
    let mut stdin = child.stdin.take();
    // What does not fit into the pipe would have to be read first: no configuration is that large.
    if let Some(pipe) = &mut stdin {
        rustix::io::ioctl_fionbio(&*pipe, true).map_err(call.failed("cannot be told"))?;
        // One that ends without reading has said why, or is caught by its status.
        let _ = pipe.write_all(&bytes);
    }
    drop(stdin);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut streams: [(Option<OwnedFd>, Vec<u8>); 2] =
        [(out.map(OwnedFd::from), Vec::new()), (err.map(OwnedFd::from), Vec::new())];
    for (stream, _) in &streams {
        if let Some(stream) = stream {
            rustix::io::ioctl_fionbio(stream, true).map_err(call.failed("cannot be heard"))?;
        }
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(call.failed("did not end in time")(Errno::TIMEDOUT));
        }
        let over = wait(&ended, &streams, left).map_err(call.failed("cannot be waited for"))?;
        for (stream, said) in &mut streams {
            if stream.as_ref().is_some_and(|fd| hear(fd, said)) {
                *stream = None;
            }
            if said.len() > LARGEST {
                return Err(call.failed("says too much")(Errno::FBIG));
            }
        }
        if over {
            let [(_, out), (_, err)] = streams;
            return Ok((out, err));
        }
    }
}

/// Waits for words or the end; whether it has ended.
fn wait(ended: &OwnedFd, streams: &[(Option<OwnedFd>, Vec<u8>); 2], left: Duration) -> Result<bool, Errno> {
    let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
    let open = streams.iter().filter_map(|(stream, _)| stream.as_ref());
    fds.extend(open.map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)));
    let patience = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut fds, Some(&patience)) {
        Ok(_) => Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Reads what is there; whether there will be no more.
fn hear(stream: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 16 * 1024];
    while said.len() <= LARGEST {
        match rustix::io::read(stream, &mut buffer) {
            Ok(0) => return true,
            Ok(length) => said.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        }
    }
    false
}

/// What a plugin printed that ended with success: an object, an empty one where it has nothing to say.
pub(super) fn answer(stdout: &[u8]) -> Result<Value, String> {
    if stdout.trim_ascii().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let value: Value = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
    if !value.is_object() {
        return Err("it is not an object".into());
    }
    // An error object although it ended with success.
    match complaint(stdout) {
        Some(text) => Err(text),
        None => Ok(value),
    }
}

/// The text of an error object.
pub(super) fn complaint(stdout: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(stdout).ok()?;
    let code = value.get("code")?.as_u64().filter(|code| *code != 0)?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (message, details) = (text("msg"), text("details"));
    let between = if details.is_empty() { "" } else { ": " };
    let whole = format!("{message}{between}{details} (code {code})");
    Some(whole.chars().filter(|c| !c.is_control()).take(500).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Runs a script as a plugin.
    fn run_script(folder: &Path, script: &str, patience: Duration) -> Result<Value, CniError> {
        std::fs::write(folder.join("odd"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(folder.join("odd"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let call = Call {
            verb: Verb::Add,
            plugin: "odd",
            container: "c",
            namespace: None,
            interface: "eth0",
            args: "",
            path: &[folder.to_owned()],
            patience,
        };
        run(&call, &serde_json::json!({}))
    }

    #[test]
    fn what_a_failed_plugin_says_is_plain_text() {
        let folder = tempfile::tempdir().unwrap();
        for script in [
            r"printf 'no \033[31mroom\nat all' >&2; exit 1",
            r#"printf '{"code":7,"msg":"no \\u001b[31mroom\\nat all"}'; exit 1"#,
        ] {
            let text = run_script(folder.path(), script, Duration::from_secs(60)).unwrap_err().to_string();
            assert!(text.contains("no ") && text.contains("[31mroom"), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    /// Covers: 4-network
    #[test]
    fn a_plugin_that_hangs_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        for script in ["sleep 1000", "exec 1>&- 2>&-; sleep 1000", "trap '' TERM; cat; while :; do :; done"] {
            let _ = std::fs::remove_file(&pids);
            let whole = format!("sleep 1000 & echo $! $$ >{}\n{script}", pids.display());
            // On a busy machine it may be ended before it hangs.
            let hung = [1, 2, 4, 8, 16, 32].into_iter().find_map(|halves| {
                let error = run_script(folder.path(), &whole, Duration::from_millis(500 * halves));
                assert!(error.unwrap_err().to_string().contains("did not end in time"), "{script}");
                std::fs::read_to_string(&pids).ok().filter(|pids| pids.ends_with('\n'))
            });
            for pid in hung.unwrap().split_whitespace() {
                let begun = Instant::now();
                let runs = || {
                    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    !stat.is_empty() && !stat.contains(") Z")
                };
                while runs() {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{script}: {pid} lives on");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}
