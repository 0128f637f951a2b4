//! A run in the foreground as the person at its keyboard has it: interrupts, a terminal for the task, colours for
//! people and none for pipes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "../../../tests/attacks/program.rs"]
mod program;
#[path = "support/request.rs"]
mod request;
mod support;

use program::program;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use support::{Bivouac, wait_for};

/// A run whose output is read line by line.
struct Run {
    face: Child,
    out: BufReader<ChildStdout>,
}

impl Run {
    fn of(bivouac: &Bivouac, script: &str) -> Run {
        Run::with(bivouac, &[], script)
    }

    fn with(bivouac: &Bivouac, flags: &[&str], script: &str) -> Run {
        let run = ["run", "--quiet", "--stop-timeout", "60s"];
        let arguments = [&run[..], flags, &["--", "/bin/sh", "-c", script]].concat();
        let mut face = bivouac.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(face.stdout.take().unwrap());
        Run { face, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn told(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.face), signal).unwrap();
    }

    fn code(mut self) -> Option<i32> {
        self.face.wait().unwrap().code()
    }

    /// Interrupts what goes on when it is asked. Two signals at once are one to the kernel.
    fn interrupted_twice(mut self) -> Option<i32> {
        self.told(Signal::INT);
        assert_eq!(self.line(), "asked");
        self.told(Signal::INT);
        self.code()
    }
}

const STUBBORN: &str = "trap 'echo asked' INT; echo ready; while :; do sleep 0.05; done";

#[test]
fn an_interrupt_asks_and_a_second_one_kills() {
    let Some(bivouac) = Bivouac::new("interrupt") else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let polite = "trap 'echo asked; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let mut run = Run::of(&bivouac, polite);
        assert_eq!(run.line(), "ready");
        run.told(signal);
        assert_eq!(run.line(), "asked", "{signal:?}");
        assert_eq!(run.code(), Some(5), "{signal:?}");
    }
    // Within the minute that it has.
    let mut run = Run::of(&bivouac, STUBBORN);
    assert_eq!(run.line(), "ready");
    assert_eq!(run.interrupted_twice(), Some(137));
    wait_for("nothing to be left", || {
        (!bivouac.told(&["ps", "-a", "--json"]).0.contains("\"id\"")).then_some(())
    });
}

/// What a command says on a terminal of its own, as `script` gives it one.
fn on_a_terminal(bivouac: &Bivouac, arguments: &str) -> Option<String> {
    let line =
        format!("{} --state-dir {} {arguments}", env!("CARGO_BIN_EXE_bivouac"), bivouac.state.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(support::root());
    let mut session = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(session) => session,
        Err(error) => {
            println!("SKIPPED: {arguments}: no `script`: {error}");
            return None;
        }
    };
    // Its input stays open: at the end of it `script` types one of its own.
    let mut said = String::new();
    session.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
    let status = session.wait().unwrap();
    assert!(status.success(), "{status}: {said}");
    Some(said)
}

#[test]
fn a_terminal_of_ones_own_for_a_task_and_for_a_command_in_it() {
    let Some(bivouac) = Bivouac::new("terminal") else { return };
    let inside =
        "run --quiet -it -- sh -c 'tty; stty size >/dev/null && echo sized; test -t 0 && echo input'";
    let Some(said) = on_a_terminal(&bivouac, inside) else { return };
    assert_eq!(said, "/dev/pts/0\r\nsized\r\ninput\r\n");
    let mut run = Run::of(&bivouac, STUBBORN);
    assert_eq!(run.line(), "ready");
    let Some(said) = on_a_terminal(&bivouac, "exec -it task sh -c 'tty; id -un'") else { return };
    assert_eq!(said, "/dev/pts/0\r\nnobody\r\n");
    assert_eq!(run.interrupted_twice(), Some(137));
}

/// A terminal of the test's own, on which somebody calls a command.
struct Caller {
    master: OwnedFd,
    terminal: OwnedFd,
}

/// What must be as before: modes, special characters, size.
type Manners = (String, (u16, u16));

impl Caller {
    fn new() -> Caller {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 41, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        Caller { master, terminal }
    }

    fn manners(&self) -> Manners {
        let size = rustix::termios::tcgetwinsize(&self.terminal).unwrap();
        let modes = rustix::termios::tcgetattr(&self.terminal).unwrap();
        (format!("{modes:?}"), (size.ws_row, size.ws_col))
    }

    /// Runs a command that has the terminal as its own, and tells what came to the screen.
    fn calls(&self, command: &mut Command) -> String {
        let stream = || Stdio::from(self.terminal.try_clone().unwrap());
        let mut session = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        loop {
            let over = session.try_wait().unwrap().is_some();
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            if poll(&mut fds, Some(&moment)).unwrap() > 0 {
                let count = rustix::io::read(&self.master, &mut buffer).unwrap();
                shown.extend_from_slice(&buffer[..count]);
            } else if over {
                return String::from_utf8_lossy(&shown).replace('\r', "");
            }
        }
    }

    /// How much there is to be read for whoever comes next, whole lines or not.
    fn queued(&self) -> u64 {
        let mut modes = rustix::termios::tcgetattr(&self.terminal).unwrap();
        modes.make_raw();
        rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &modes).unwrap();
        rustix::io::ioctl_fionread(&self.terminal).unwrap()
    }
}

/// A command in a session of its own, with its terminal as the controlling one.
fn in_session(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program);
    command
}

/// Whatever a task does to its own terminal, or to its streams where it has none: its caller's keeps its size and
/// modes, and nothing is typed into it.
///
/// Covers: CVE-2017-5226
#[test]
fn a_task_types_nothing_into_its_callers_terminal() {
    let Some(bivouac) = Bivouac::new("pushes") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let config = bivouac.state.join("config.hcl");
    std::fs::write(&config, "allow_unconfined = true\nallow_root = true\n").unwrap();
    let attack = program("tty");
    let volume = format!("{}:/attack:ro", attack.display());
    let mut other = Run::with(&bivouac, &["--volume", &volume], STUBBORN);
    assert_eq!(other.line(), "ready");
    let run = ["run", "--quiet", "--volume", &volume];
    let exec = ["exec"];
    for (command, flags, own) in [
        (&run[..], &["-t", "--"][..], true),
        (&run, &["-it", "--"], true),
        // Where no filter is, the push works, in the task's own.
        (&run, &["-it", "--seccomp", "unconfined", "--user", "root", "--"], true),
        (&run, &["-i", "--"], false),
        (&run, &["--"], false),
        (&exec, &["-it", "task"], true),
        (&exec, &["task"], false),
    ] {
        let caller = Caller::new();
        let before = caller.manners();
        let mut session = in_session(env!("CARGO_BIN_EXE_bivouac").as_ref());
        session.arg("--state-dir").arg(&bivouac.state).arg("--config").arg(&config);
        let shown = caller.calls(session.args(command).args(flags).args(["/attack", "spoil"]));
        let which = format!("{command:?} {flags:?}: {shown}");
        let free = flags.contains(&"unconfined");
        for name in ["TIOCSTI", "TIOCSTI.high", "TIOCLINUX", "TIOCLINUX.high"] {
            let pushed = shown.contains(&format!("{name} 0 OK"));
            let refused = shown.contains(&format!("{name} -1 EPERM"));
            assert!(free || (refused && !pushed), "{name}: {which}");
        }
        for name in ["resize", "raw"] {
            assert_eq!(shown.contains(&format!("{name} 0 OK")), own, "{name}: {which}");
        }
        assert_eq!(shown.contains(" = 20000 136:"), own, "{which}");
        assert_eq!(caller.manners(), before, "{which}");
        assert_eq!(caller.queued(), 0, "{which}");
    }
    assert_eq!(other.interrupted_twice(), Some(137));
    // With the terminal itself in its hands, the same program does all of it.
    let caller = Caller::new();
    let before = caller.manners();
    let shown = caller.calls(in_session(attack.as_os_str()).arg("spoil"));
    let after = caller.manners();
    assert_eq!(after.1, (7, 7), "{shown}");
    assert_ne!(after.0, before.0, "{shown}");
    if shown.contains("TIOCSTI -1") {
        println!(
            "SKIPPED: a_task_types_nothing_into_its_callers_terminal: this kernel pushes for nobody: {shown}"
        );
    } else {
        assert!(caller.queued() > 0, "{shown}");
    }
}

#[test]
fn prefixes_are_coloured_for_people_only() {
    let Some(bivouac) = Bivouac::new("colour") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let task = |name: &str| {
        let config = format!("config {{\ncommand = \"/bin/echo\"\nargs = [\"from {name}\"]\n}}");
        format!("task \"{name}\" {{\ndriver = \"exec\"\n{config}\n}}\n")
    };
    let group = format!("group \"g\" {{\n{}{}}}\n", task("one"), task("other"));
    let file = bivouac.state.join("job.nomad.hcl");
    std::fs::write(&file, format!("job \"j\" {{\ntype = \"batch\"\n{group}}}\n")).unwrap();
    let (plain, errors, code) = bivouac.told(&["run", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    let mut lines: Vec<&str> = plain.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one   | from one", "other | from other"]);
    let Some(said) = on_a_terminal(&bivouac, &format!("run {}", file.display())) else { return };
    assert!(said.contains("\u{1b}[") && said.contains("from one") && said.contains("from other"), "{said:?}");
}

/// Half of a file of 1 MiB to everybody who asks, the rest when something comes by the channel.
fn halting_server() -> (u16, std::sync::mpsc::Sender<()>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (go_on, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(request::heard(&stream));
            let (head, half) = ("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n", vec![b'x'; 1 << 19]);
            let _ = stream.write_all(&[head.as_bytes(), &half[1..]].concat());
            // How far it is, is told ten times a second at most, and when something comes.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let _ = stream.write_all(&half[..1]);
            if told.recv().is_ok() {
                let _ = stream.write_all(&half);
            }
        }
    });
    (port, go_on)
}

/// A line of its own for whoever waits at a terminal; nothing of it on standard output, and it is taken away.
#[test]
fn a_download_that_takes_long_is_shown_on_a_terminal_only() {
    let Some(bivouac) = Bivouac::new("progress") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let (port, go_on) = halting_server();
    let artifact = format!("artifact {{\nsource = \"http://127.0.0.1:{port}/big\"\n}}\n");
    let config = "config {\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"wc -c < local/big\"]\n}\n";
    let task = format!("task \"t\" {{\ndriver = \"exec\"\n{artifact}{config}}}\n");
    let file = bivouac.state.join("job.nomad.hcl");
    std::fs::write(&file, format!("job \"j\" {{\ntype = \"batch\"\ngroup \"g\" {{\n{task}}}\n}}\n")).unwrap();
    let file = file.to_str().unwrap();
    let out = bivouac.state.join("out");
    let line = |flags: &str| {
        let program = env!("CARGO_BIN_EXE_bivouac");
        let state = bivouac.state.display();
        format!("TERM=xterm {program} --state-dir {state} run {flags} {file} >{}", out.display())
    };
    let begin = |flags: &str| {
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line(flags), "/dev/null"]);
        command.current_dir(support::root()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    };
    let Ok(mut session) = begin("") else {
        println!("SKIPPED: a_download_that_takes_long_is_shown_on_a_terminal_only: no `script`");
        return;
    };
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    let terminal = session.stdout.as_mut().unwrap();
    while !shown.contains("\r\u{1b}[Kbivouac: fetching 0.5 of 1.0 MiB") {
        let count = terminal.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended without a line: {shown:?}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    go_on.send(()).unwrap();
    terminal.read_to_string(&mut shown).unwrap();
    assert!(session.wait().unwrap().success(), "{shown:?}");
    let after = shown.rsplit("MiB").next().unwrap();
    assert!(after.starts_with("\r\u{1b}[K"), "the last line is taken away: {shown:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "1048576\n");
    // Neither for who wants quiet, nor into a pipe; each time it takes longer than it takes to be shown.
    let later = |go_on: std::sync::mpsc::Sender<()>| {
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            let _ = go_on.send(());
        })
    };
    let wait = later(go_on.clone());
    let mut session = begin("--quiet").unwrap();
    let mut shown = String::new();
    session.stdout.as_mut().unwrap().read_to_string(&mut shown).unwrap();
    assert!(session.wait().unwrap().success() && shown.is_empty(), "{shown:?}");
    wait.join().unwrap();
    let wait = later(go_on);
    let (stdout, stderr, code) = bivouac.told(&["run", file]);
    wait.join().unwrap();
    assert_eq!((stdout.as_str(), code), ("1048576\n", Some(0)));
    assert!(!stderr.contains("MiB") && !stderr.contains('\u{1b}'), "{stderr:?}");
}
