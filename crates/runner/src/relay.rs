//! The caller's streams: what tasks and sessions write is shown, what a person types is passed on.
//!
//! One thread's part of a `poll` loop: [`Relay::descriptors`] says what to wait for, [`Relay::copy`] carries over
//! what is there. A reader of ours that has gone is no reason to end anybody's command.

use crate::console::Prefixer;
use bivouac_sandbox::model::TerminalSize;
use bivouac_shim::rotated_log::RotatedLog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::Write;
use std::time::Duration;

/// How tasks meet the person who runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Output is shown.
    Output,
    /// Output is shown, and standard input goes to the task.
    Input,
    /// The task has a terminal; input and output go through it.
    Terminal,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Our standard output.
    Stdout,
    /// Our standard error.
    Stderr,
}

/// One stream of output.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    prefixer: Option<Prefixer>,
    log: Option<RotatedLog>,
    to: Sink,
}

/// The caller's terminal in raw mode, and the task's; the caller's is as it was when this is dropped.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    before: Option<Termios>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Streams between the caller and what runs.
#[derive(Debug, Default)]
pub struct Relay {
    sources: Vec<Source>,
    input: Option<OwnedFd>,
    terminal: Option<Terminal>,
    /// Standard input has come to its end.
    input_over: bool,
}

/// One of the descriptors that [`Relay::descriptors`] listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A stream of output, by its place.
    Output(usize),
    /// Our standard input.
    Input,
}

impl Relay {
    /// Standard output or error for something to write to: our own pipe as it is, so that nobody copies bytes in
    /// between; else a pipe of which this relay has the other end. What is to be kept goes to its log first.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn output(
        &mut self,
        to: Sink,
        prefixer: Option<Prefixer>,
        log: Option<RotatedLog>,
    ) -> std::io::Result<OwnedFd> {
        let ours = match to {
            Sink::Stdout => rustix::stdio::stdout(),
            Sink::Stderr => rustix::stdio::stderr(),
        };
        if prefixer.is_none() && log.is_none() && is_pipe(ours) {
            return ours.try_clone_to_owned();
        }
        let (reader, writer) = std::io::pipe()?;
        self.sources.push(Source { fd: reader.into(), prefixer, log, to });
        Ok(writer.into())
    }

    /// Standard input for something to read from.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn input(&mut self) -> std::io::Result<OwnedFd> {
        let (reader, writer) = std::io::pipe()?;
        self.input = Some(writer.into());
        Ok(reader.into())
    }

    /// Takes over the terminal of what runs, and puts the caller's into raw mode.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn take_terminal(&mut self, master: OwnedFd) -> std::io::Result<()> {
        self.sources.push(Source { fd: master.try_clone()?, prefixer: None, log: None, to: Sink::Stdout });
        if self.terminal.is_none() {
            self.terminal = Some(Terminal { before: raw_mode(), master });
        } else if let Some(terminal) = &mut self.terminal {
            terminal.master = master;
        }
        Ok(())
    }

    /// Whether all output has been shown.
    pub fn is_drained(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether it holds a terminal.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// What to wait for.
    pub fn descriptors(&self) -> Vec<(Ready, BorrowedFd<'_>)> {
        let outputs = self.sources.iter().enumerate();
        let mut all: Vec<_> =
            outputs.map(|(index, source)| (Ready::Output(index), source.fd.as_fd())).collect();
        if !self.input_over && (self.input.is_some() || self.terminal.is_some()) {
            all.push((Ready::Input, rustix::stdio::stdin()));
        }
        all
    }

    /// Carries over what is there, of all that are ready.
    pub fn copy(&mut self, ready: &[Ready]) {
        let mut over = Vec::new();
        for what in ready {
            match what {
                Ready::Input => self.copy_input(),
                Ready::Output(index) => {
                    if self.copy_output(*index) == Stream::Over {
                        over.push(*index);
                    }
                }
            }
        }
        over.sort_unstable();
        for index in over.into_iter().rev() {
            self.sources.remove(index);
        }
    }

    fn copy_output(&mut self, index: usize) -> Stream {
        let Some(source) = self.sources.get_mut(index) else { return Stream::Open };
        let mut buffer = [0u8; 64 * 1024];
        let (length, state) = match rustix::io::read(&source.fd, &mut buffer) {
            Ok(0) => (0, Stream::Over),
            Ok(length) => (length, Stream::Open),
            Err(Errno::AGAIN | Errno::INTR) => return Stream::Open,
            // A terminal whose last user is gone.
            Err(_) => (0, Stream::Over),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(log) = &mut source.log {
            log.keep(bytes);
            if state == Stream::Over {
                log.close();
            }
        }
        match &mut source.prefixer {
            None => write(source.to, bytes),
            Some(prefixer) => {
                let mut lines = Vec::with_capacity(length + 64);
                prefixer.feed(bytes, &mut lines);
                if state == Stream::Over {
                    prefixer.finish(&mut lines);
                }
                write(source.to, &lines);
            }
        }
        state
    }

    fn copy_input(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        let length = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
        let bytes = buffer.get(..length).unwrap_or_default();
        let failed = match (&self.terminal, &self.input) {
            (Some(terminal), _) if length == 0 => write_all(terminal.master.as_fd(), &[4]).is_err(),
            (Some(terminal), _) => write_all(terminal.master.as_fd(), bytes).is_err(),
            (None, Some(input)) => write_all(input.as_fd(), bytes).is_err(),
            (None, None) => false,
        };
        if length == 0 || failed {
            // The end of input: it is seen on the pipe. A terminal has been told by its own character.
            self.input = None;
            self.input_over = true;
        }
    }

    /// Shows what is there still without waiting for more, and gives the caller's terminal back.
    pub fn finish(&mut self) {
        for index in 0..self.sources.len() {
            let blocks = self
                .sources
                .get(index)
                .is_none_or(|source| rustix::io::ioctl_fionbio(&source.fd, true).is_err());
            while !blocks && self.has_more(index) {
                if self.copy_output(index) == Stream::Over {
                    break;
                }
            }
        }
        self.sources.clear();
        self.terminal = None;
        self.input = None;
    }

    fn has_more(&self, index: usize) -> bool {
        self.sources
            .get(index)
            .is_some_and(|source| rustix::io::ioctl_fionread(&source.fd).is_ok_and(|bytes| bytes > 0))
    }

    /// Gives the terminal of what runs the size of the caller's.
    pub fn resize(&self) {
        if let Some(terminal) = &self.terminal {
            let size = terminal_size();
            let size = rustix::termios::Winsize {
                ws_row: size.rows,
                ws_col: size.columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = rustix::termios::tcsetwinsize(&terminal.master, size);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Open,
    Over,
}

/// Waits until one of the descriptors is readable or the time is over; which are.
///
/// # Errors
/// What poll(2) answers, but for an interruption.
pub fn wait(fds: &[BorrowedFd<'_>], patience: Option<Duration>) -> Result<Vec<bool>, Errno> {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

/// The size of the caller's terminal; 24 x 80 where there is none.
pub fn terminal_size() -> TerminalSize {
    let (rows, columns) =
        tcgetwinsize(rustix::stdio::stdin()).map_or((24, 80), |size| (size.ws_row, size.ws_col));
    TerminalSize { rows, columns }
}

/// Puts the caller's terminal into raw mode and answers how it was.
fn raw_mode() -> Option<Termios> {
    let stdin = rustix::stdio::stdin();
    let before = tcgetattr(stdin).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
    Some(before)
}

fn write(to: Sink, bytes: &[u8]) {
    let _ = match to {
        Sink::Stdout => std::io::stdout().lock().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Sink::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
