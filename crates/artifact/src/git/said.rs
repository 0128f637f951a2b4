//! What git says on standard error: how far it is, which goes on to whoever waits, and the rest, which explains a failure.

use std::io::Read;

/// As much of what explains a failure as is kept, in bytes: the end of it.
const MOST_TEXT: usize = 64 * 1024;
/// No line of progress is longer.
const LONGEST_PROGRESS: usize = 4096;

/// How many bytes git has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// So far.
    So(u64),
    /// With a call that is over.
    End(u64),
}

/// Follows one call of git after the other.
pub(super) struct Said<'t> {
    tell: &'t mut dyn FnMut(Reached),
    /// What the calls before have received.
    before: u64,
    /// What the current one has.
    now: u64,
}

impl<'t> Said<'t> {
    pub(super) fn new(tell: &'t mut dyn FnMut(Reached)) -> Said<'t> {
        Said { tell, before: 0, now: 0 }
    }

    /// Reads to the end; what is no progress comes back.
    pub(super) fn follow(&mut self, mut errors: impl Read) -> String {
        (self.tell)(Reached::So(self.before));
        let (mut kept, mut line) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4096];
        while let Ok(count) = errors.read(&mut buffer) {
            if count == 0 {
                break;
            }
            // Lines of progress are drawn over each other.
            let read = buffer.get(..count).unwrap_or_default();
            for piece in read.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\r") || piece.ends_with(b"\n") || line.len() > LONGEST_PROGRESS {
                    self.line(&line, &mut kept);
                    line.clear();
                }
            }
        }
        self.line(&line, &mut kept);
        self.before += std::mem::take(&mut self.now);
        (self.tell)(Reached::End(self.before));
        String::from_utf8_lossy(&kept).into_owned()
    }

    fn line(&mut self, line: &[u8], kept: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        match received(&text) {
            Some(bytes) => {
                self.now = bytes;
                (self.tell)(Reached::So(self.before + bytes));
            }
            None if line.ends_with(b"\r") => {}
            None => {
                kept.extend_from_slice(line);
                kept.drain(..kept.len().saturating_sub(MOST_TEXT));
            }
        }
    }
}

/// The bytes that a line of progress tells: `Receiving objects:  45% (9/20), 1.20 MiB | 1.00 MiB/s`.
fn received(line: &str) -> Option<u64> {
    let (_, amounts) = line.strip_prefix("Receiving objects:")?.split_once("), ")?;
    let mut words = amounts.split(['|', ',']).next()?.split_whitespace();
    let number: f64 = words.next()?.parse().ok().filter(|number| *number >= 0.0)?;
    let unit = match words.next()? {
        "bytes" | "byte" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    Some((number * f64::from(1_u32 << unit)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_progress_tell_bytes() {
        for (line, bytes) in [
            ("Receiving objects:  45% (9/20), 1.50 MiB | 1.00 MiB/s\r", Some(3 << 19)),
            ("Receiving objects: 100% (20/20), 2.00 GiB | 1.00 MiB/s, done.\n", Some(2 << 30)),
            ("Receiving objects: 100% (3/3), 512 bytes | 512.00 KiB/s, done.\n", Some(512)),
            ("Receiving objects: 100% (3/3), done.\n", None),
            ("Receiving objects:  45% (9/20), -1 MiB | x\r", None),
            ("Receiving objects:  45% (9/20), 9 lightyears\r", None),
            ("remote: Receiving objects: 1% (1/2), 1.00 MiB | 1\r", None),
            ("fatal: (x), 1.00 MiB", None),
        ] {
            assert_eq!(received(line), bytes, "{line}");
        }
    }

    #[test]
    fn what_explains_a_failure_is_kept_behind_any_progress() {
        let mut text = "Receiving objects:  1% (1/99), 1.00 MiB | 1.00 MiB/s\r".repeat(5000);
        text.push_str(&"Resolving deltas: 1%\r".repeat(5000));
        text.push_str(&"remote: talk\n".repeat(10_000));
        text.push_str("fatal: the end");
        let mut told = Vec::new();
        let mut tell = |reached| told.push(reached);
        let mut said = Said::new(&mut tell);
        let kept = said.follow(text.as_bytes());
        assert!(kept.ends_with("fatal: the end") && kept.len() <= MOST_TEXT, "{}", kept.len());
        assert!(!kept.contains("Receiving") && !kept.contains("Resolving"));
        said.follow("Receiving objects: 100% (1/1), 2.00 MiB | 1.00 MiB/s, done.\n".as_bytes());
        let mib = 1 << 20;
        assert_eq!(told.first(), Some(&Reached::So(0)), "that it has begun");
        assert!(told.contains(&Reached::So(mib)) && told.contains(&Reached::End(mib)));
        assert_eq!(told.last(), Some(&Reached::End(3 * mib)), "one call after the other");
    }
}
