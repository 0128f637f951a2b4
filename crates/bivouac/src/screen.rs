//! A whole screen of a terminal, given back as it was.

use crate::ui;
use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::IsTerminal;
use std::time::Duration;

/// The screen; the terminal is as it was when this is dropped.
pub(crate) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal over: another screen, keys at once, no cursor.
    pub(crate) fn open() -> Result<Screen> {
        let stdin = rustix::stdio::stdin();
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            bail!("this needs a terminal; `bivouac stats --json` tells the same to programs");
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        ui::text(format_args!("\x1b[?1049h\x1b[?25l"));
        Ok(Screen { before })
    }

    /// Shows these lines, cut to the size of the screen.
    pub(crate) fn draw(&self, lines: &[String]) {
        let (rows, columns) = tcgetwinsize(rustix::stdio::stdout())
            .map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let mut out = String::from("\x1b[H");
        for line in lines.iter().take(rows.saturating_sub(1)) {
            out.extend(line.chars().take(columns));
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J");
        ui::text(format_args!("{out}"));
    }

    /// The last byte of what was typed within this time.
    pub(crate) fn key(&self, patience: Duration) -> Option<u8> {
        let stdin = rustix::stdio::stdin();
        let timeout = Timespec::try_from(patience).ok();
        poll(&mut [PollFd::new(&stdin, PollFlags::IN)], timeout.as_ref()).ok().filter(|ready| *ready > 0)?;
        let mut bytes = [0u8; 16];
        let length = rustix::io::read(stdin, &mut bytes).ok()?;
        // The end of input is the end of the screen.
        if length == 0 { Some(4) } else { bytes.get(length - 1).copied() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
        ui::text(format_args!("\x1b[?25h\x1b[?1049l"));
    }
}
