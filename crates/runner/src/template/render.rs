//! Runs the helper that renders, and reads for it what it may read.

use super::{Answer, LARGEST, Order, Said};
use bivouac_artifact::place::{Place, Roots, open_root};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a template may take.
const LONGEST: Duration = Duration::from_secs(30);
/// JSON writes a byte as six at most.
const LONGEST_LINE: usize = LARGEST * 6 + 64;

/// The program that is [`helper::main`](super::helper::main), and its arguments.
pub type Program = (PathBuf, Vec<OsString>);

/// Renders a template.
///
/// # Errors
/// What is wrong with the template, or with the process, in a sentence.
pub fn render(
    program: &Program,
    order: &Order,
    files: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<String, String> {
    let mut helper =
        Helper::start(program).map_err(|error| format!("cannot start the process that renders: {error}"))?;
    let dead = |_| "the process that renders died: the template needs too much memory or time".to_owned();
    helper.tell(order).map_err(dead)?;
    loop {
        match helper.listen()? {
            Said::Rendered(text) => return Ok(text),
            Said::Failed(text) => return Err(text),
            Said::Read(path) => {
                let answer = files(&path).map_or_else(Answer::Refused, Answer::Content);
                helper.tell(&answer).map_err(dead)?;
            }
        }
    }
}

/// A running helper; dead when this is dropped.
struct Helper {
    child: Child,
    out: Option<ChildStdout>,
    heard: Vec<u8>,
    deadline: Instant,
}

impl Helper {
    fn start((program, arguments): &Program) -> std::io::Result<Helper> {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let out = child.stdout.take();
        Ok(Helper { child, out, heard: Vec::new(), deadline: Instant::now() + LONGEST })
    }

    fn tell(&mut self, what: &impl serde::Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        match &mut self.child.stdin {
            Some(stdin) => stdin.write_all(&line).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn listen(&mut self) -> Result<Said, String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|error| format!("the process that renders says: {error}"));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("rendering took longer than 30 s".to_owned());
            }
            let Some(out) = &mut self.out else {
                return Err("the process that renders says nothing".to_owned());
            };
            let patience =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let _ = poll(&mut [PollFd::new(&*out, PollFlags::IN)], Some(&patience));
            let mut buffer = [0; 65536];
            let mut ready = [PollFd::new(&*out, PollFlags::IN)];
            if poll(&mut ready, Some(&Timespec::default())) == Ok(0) {
                continue;
            }
            let count = out.read(&mut buffer).map_err(|error| error.to_string())?;
            if count == 0 || self.heard.len() > LONGEST_LINE {
                return Err(
                    "the process that renders died: the template needs too much memory or time".to_owned()
                );
            }
            self.heard.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a file of the task's, as the task would name it. Links lead where they lead in the task, never out.
///
/// # Errors
/// Why not, in a sentence.
pub fn read_file(roots: &Roots, path: &str) -> Result<String, String> {
    let place = Place::resolve(path).map_err(|error| format!("template source {error}"))?;
    let failed = |errno| format!("cannot read {path:?}: {errno}");
    let root = open_root(roots.path(place.root)).map_err(|error| error.to_string())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd =
        rustix::fs::openat2(&root, place.names.join("/"), flags, Mode::empty(), resolve).map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("{path:?} is no regular file"));
    }
    let mut text = String::new();
    File::from(fd)
        .take(LARGEST as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read {path:?}: {error}"))?;
    if text.len() > LARGEST {
        return Err(format!("{path:?} is larger than 16 MiB"));
    }
    Ok(text)
}
