//! How far artifacts are on their way, and the one line that shows it on a terminal.
//!
//! The line is drawn over itself and taken away before anything else is written: it is for the person who waits, and
//! in no log.

use bivouac_artifact::order::{Phase, Progress};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is over sooner is not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);
/// How often the line is drawn.
const OFTEN: Duration = Duration::from_millis(200);

/// The artifacts of one task, by their place in its list.
#[derive(Debug)]
pub(crate) struct Way {
    since: Instant,
    parts: Mutex<BTreeMap<usize, Progress>>,
}

impl Way {
    pub(crate) fn begins() -> Way {
        Way { since: Instant::now(), parts: Mutex::default() }
    }

    /// An artifact is so far.
    pub(crate) fn is_at(&self, artifact: usize, progress: Progress) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(artifact, progress);
    }

    /// How far they are, once that has taken long enough to be told.
    fn worth_telling(&self) -> Option<Vec<Progress>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        (self.since.elapsed() >= WORTH_A_LINE).then(|| parts.values().copied().collect())
    }
}

/// The line on the caller's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Absent,
    Drawn,
}

impl Line {
    /// Takes it away: something else may be written.
    pub(crate) fn clear(&mut self) {
        if std::mem::replace(self, Line::Absent) == Line::Drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Draws it if there is something to tell; how long to wait for the next time, as long as there may be.
    pub(crate) fn draw<'a>(&mut self, ways: impl Iterator<Item = &'a Way>) -> Option<Duration> {
        let ways: Vec<_> = ways.collect();
        let told: Vec<_> = ways.iter().filter_map(|way| way.worth_telling()).flatten().collect();
        if !told.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", text(&told));
            *self = Line::Drawn;
        }
        (!ways.is_empty()).then_some(OFTEN)
    }
}

/// What the line says; short enough for any terminal.
fn text(parts: &[Progress]) -> String {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1_048_576.0);
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    let total: Option<u64> = parts.iter().map(|part| part.total).sum();
    let does = match parts.iter().map(|part| part.phase).min_by_key(|phase| *phase as u8) {
        None | Some(Phase::Fetching) => "fetching",
        Some(Phase::Verifying) => "verifying",
        Some(Phase::Unpacking) => "unpacking",
    };
    let several = if parts.len() > 1 { format!("{} artifacts, ", parts.len()) } else { String::new() };
    match total {
        Some(total) => format!("bivouac: {does} {several}{} of {} MiB", mib(bytes), mib(total)),
        None => format!("bivouac: {does} {several}{} MiB", mib(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known() {
        let part = |phase, bytes, total| Progress { phase, bytes, total };
        let mib = 1 << 20;
        assert_eq!(
            text(&[part(Phase::Fetching, 3 * mib / 2, Some(3 * mib))]),
            "bivouac: fetching 1.5 of 3.0 MiB"
        );
        assert_eq!(text(&[part(Phase::Unpacking, mib, None)]), "bivouac: unpacking 1.0 MiB");
        let two = [part(Phase::Unpacking, mib, Some(mib)), part(Phase::Fetching, mib, Some(5 * mib))];
        assert_eq!(text(&two), "bivouac: fetching 2 artifacts, 2.0 of 6.0 MiB");
        let unknown = [part(Phase::Fetching, mib, Some(mib)), part(Phase::Fetching, 0, None)];
        assert_eq!(text(&unknown), "bivouac: fetching 2 artifacts, 1.0 MiB");
    }

    #[test]
    fn what_has_just_begun_is_not_told() {
        assert_eq!(Way::begins().worth_telling(), None);
        let long_ago = Way { since: Instant::now() - 2 * WORTH_A_LINE, ..Way::begins() };
        assert_eq!(long_ago.worth_telling(), Some(Vec::new()));
    }
}
