//! Several streams as one: each next line is the one that was written first.
//!
//! A stream's own order is never changed. A line whose time is not known comes with the one before it of its stream, and
//! of what was written at the same time the stream that was named first comes first. What is held is one piece of each
//! stream, however much there is.

use super::{Begin, Line, More, Past, Reader};
use bivouac_shim::log_times::PRECISION;
use std::ops::Range;
use std::time::Duration;

/// A stream may still get a line that began this long ago: what is close in time shares a record, the clock that records
/// are made with is some milliseconds behind, and whoever writes may be held up in between.
const SETTLING: Duration = PRECISION.saturating_mul(2);

/// How far a pass over the streams goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// To the end of what there is: nobody writes any more, or nobody waits for more.
    Whole,
    /// To where no stream can get an earlier line any more, if it is this time now (milliseconds since 1970).
    Settled {
        /// The time, taken before the pass began.
        now: i64,
    },
}

impl Pass {
    /// Whether a line of this time is for a later pass. One of a time to come was written when the clock was wrong.
    fn leaves(self, unix_millis: i64) -> bool {
        match self {
            Pass::Whole => false,
            Pass::Settled { now } => {
                let settling = i64::try_from(SETTLING.as_millis()).unwrap_or(i64::MAX);
                unix_millis > now.saturating_sub(settling) && unix_millis <= now
            }
        }
    }
}

/// Reads several streams as one.
#[derive(Debug)]
pub struct Merge {
    sources: Vec<Source>,
    /// The stream whose line has begun and has no end yet.
    open: Option<usize>,
    /// So many lines are not among the last ones that were asked for.
    surplus: usize,
}

/// One of the streams.
#[derive(Debug)]
struct Source {
    reader: Reader,
    buffer: Vec<u8>,
    /// Where what was not cut into lines yet begins.
    uncut: usize,
    head: Option<Head>,
    /// When the line before was written.
    time: i64,
    state: State,
    line: Wanted,
}

/// The next line of a stream, or a piece of it.
#[derive(Clone, Debug)]
struct Head {
    place: Range<usize>,
    begin: Begin,
    unix_millis: Option<i64>,
}

/// Whether a stream is read on in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There may be more.
    Flowing,
    /// It came to its end.
    Dry,
}

/// What becomes of the line that a stream is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Told,
    PassedOver,
}

impl Merge {
    /// Of streams that were opened with the same `past`: their last lines become the last lines of all.
    pub fn new(readers: Vec<Reader>, past: Past) -> Merge {
        let found: usize = readers.iter().map(|reader| reader.found).sum();
        let surplus = match past {
            Past::All => 0,
            Past::Lines(lines) => found.saturating_sub(lines),
        };
        let source = |reader| Source {
            reader,
            buffer: Vec::new(),
            uncut: 0,
            head: None,
            time: i64::MIN,
            state: State::Flowing,
            line: Wanted::Told,
        };
        Merge { sources: readers.into_iter().map(source).collect(), open: None, surplus }
    }

    /// Gives each line of a pass, in its order, to `show`, with the place of its stream among the readers; whether there
    /// was any.
    ///
    /// # Errors
    /// What reading answered.
    pub fn pass(&mut self, pass: Pass, mut show: impl FnMut(usize, Line<'_>)) -> std::io::Result<More> {
        let mut any = More::NotNow;
        self.sources.iter_mut().for_each(|source| source.state = State::Flowing);
        while let Some(at) = self.next(pass)? {
            let Some(source) = self.sources.get_mut(at) else { break };
            let Some(head) = source.head.take() else { break };
            source.time = head.unix_millis.unwrap_or(source.time);
            if head.begin == Begin::Here {
                source.line = if self.surplus > 0 { Wanted::PassedOver } else { Wanted::Told };
                self.surplus = self.surplus.saturating_sub(1);
            }
            let bytes = source.buffer.get(head.place).unwrap_or_default();
            self.open = (!bytes.ends_with(b"\n")).then_some(at);
            if source.line == Wanted::Told {
                any = More::Perhaps;
                show(at, Line { bytes, begin: head.begin, unix_millis: head.unix_millis });
            }
        }
        Ok(any)
    }

    /// The stream whose line comes next: the rest of the one that has begun, else the one that was written first.
    fn next(&mut self, pass: Pass) -> std::io::Result<Option<usize>> {
        if let Some(open) = self.open
            && let Some(source) = self.sources.get_mut(open)
            && source.peek()?.is_some()
        {
            return Ok(Some(open));
        }
        let mut first = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            let Some(time) = source.peek()? else { continue };
            if !pass.leaves(time) && first.is_none_or(|(_, earliest)| time < earliest) {
                first = Some((at, time));
            }
        }
        Ok(first.map(|(at, _)| at))
    }
}

impl Source {
    /// When its next line was written, if there is one.
    fn peek(&mut self) -> std::io::Result<Option<i64>> {
        if self.head.is_none() {
            if self.uncut >= self.buffer.len() {
                if self.state == State::Dry {
                    return Ok(None);
                }
                self.uncut = 0;
                if self.reader.next(&mut self.buffer)? == More::NotNow {
                    self.buffer.clear();
                    self.state = State::Dry;
                    return Ok(None);
                }
            }
            let rest = self.buffer.get(self.uncut..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            let line = self.reader.line(rest.get(..length).unwrap_or_default());
            let (begin, unix_millis) = (line.begin, line.unix_millis);
            self.head = Some(Head { place: self.uncut..self.uncut + length, begin, unix_millis });
            self.uncut += length;
        }
        Ok(self.head.as_ref().map(|head| head.unix_millis.unwrap_or(self.time)))
    }
}

#[cfg(test)]
mod tests;
