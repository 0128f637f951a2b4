//! What a person sees of several tasks at once: whole lines, each with the name of its task in front.
//!
//! Pure: bytes in, bytes out. A line that does not end is held back up to a limit, then let go in pieces, so
//! that memory stays flat whatever a task writes.

/// The longest piece of a line that is held back, in bytes.
const HELD: usize = 16 * 1024;

/// Whether names are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal that shows them.
    On,
    /// Elsewhere.
    Off,
}

/// Puts a name in front of each line of one stream of one task.
#[derive(Debug)]
pub struct Prefixer {
    prefix: Vec<u8>,
    held: Vec<u8>,
    fresh: bool,
}

/// Colours that read well on light and dark ground: cyan, yellow, green, magenta, blue, bright cyan.
const PALETTE: [&str; 6] = ["36", "33", "32", "35", "34", "96"];

impl Prefixer {
    /// For the task `name`, the `index`th of those shown, names padded to `width`.
    pub fn new(name: &str, index: usize, width: usize, colour: Colour) -> Prefixer {
        let code = PALETTE.get(index % PALETTE.len()).copied().unwrap_or("0");
        let prefix = match colour {
            Colour::On => format!("\x1b[{code}m{name:width$} |\x1b[0m "),
            Colour::Off => format!("{name:width$} | "),
        };
        Prefixer { prefix: prefix.into_bytes(), held: Vec::new(), fresh: true }
    }

    /// Takes what a task wrote and appends to `out` what can be shown of it now.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.held.len() >= HELD {
                self.release(out);
            }
        }
    }

    /// The end of the stream: what is held is shown, and the line is ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.release(out);
        }
        if !self.fresh {
            out.push(b'\n');
            self.fresh = true;
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if self.fresh {
            out.extend_from_slice(&self.prefix);
        }
        out.extend_from_slice(&self.held);
        self.fresh = self.held.ends_with(b"\n");
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut prefixer = Prefixer::new("web", 0, 5, Colour::Off);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| prefixer.feed(piece, &mut out));
        prefixer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(shown(&[b"a", b"b\nc", b"\n"]), "web   | ab\nweb   | c\n");
        assert_eq!(shown(&[b"no end"]), "web   | no end\n");
        assert_eq!(shown(&[b"\n\n"]), "web   | \nweb   | \n");
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut prefixer = Prefixer::new("t", 0, 1, Colour::Off);
        let mut out = Vec::new();
        for _ in 0..100 {
            prefixer.feed(&[b'x'; 4096], &mut out);
            assert!(prefixer.held.len() <= HELD);
        }
        prefixer.finish(&mut out);
        assert_eq!(out.len(), "t | ".len() + 100 * 4096 + 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut prefixer = Prefixer::new("", 0, 0, Colour::Off);
            let mut out = Vec::new();
            pieces.iter().for_each(|piece| prefixer.feed(piece, &mut out));
            prefixer.finish(&mut out);
            let given = pieces.concat();
            let lines = given.split(|byte| *byte == b'\n').count() - usize::from(given.ends_with(b"\n") || given.is_empty());
            let ends = usize::from(!given.is_empty() && !given.ends_with(b"\n"));
            prop_assert_eq!(out.len(), given.len() + lines * " | ".len() + ends);
        }
    }
}
