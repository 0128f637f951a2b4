//! The helper process: reads its order, gives up what it has, works in its private directory, and tells.
//!
//! `bivouac` starts itself with [`SUBCOMMAND`] for it. It gets its order on standard input and reports on standard
//! output; its working directory is the private one.

use crate::address::Getter;
use crate::confine::{self, Directory, Needs, Network, Programs};
use crate::order::{Failure, Order, Phase, Progress, Report, Stage};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "artifact-helper";
/// The longest order.
const LONGEST: u64 = 4 * 1024 * 1024;
/// The fetched bytes.
pub(crate) const DOWNLOAD: &str = "download";
/// The fetched checksum file.
pub(crate) const CHECKSUMS: &str = "checksums";
/// What is to be moved to its place.
pub(crate) const TREE: &str = "tree";

/// The whole of the helper process.
pub fn main() -> ExitCode {
    let mut teller = Teller::new();
    match work(&mut teller) {
        Ok(()) => {
            teller.tell(&Report::Done);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            teller.tell(&Report::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn work(teller: &mut Teller) -> Result<(), Failure> {
    // The starter may block all signals; what we start shall not.
    bivouac_sys::signal::reset_all()
        .map_err(|errno| Failure::never(format!("cannot reset signals: {errno}")))?;
    let starter = rustix::process::getppid();
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Failure::never(format!("cannot read the order: {error}")))?;
    let order: Order = serde_json::from_str(&text)
        .map_err(|error| Failure::never(format!("cannot read the order: {error}")))?;
    let confinement = confine::confine(&needs(&order.stage), &order.limits).map_err(Failure::never)?;
    if rustix::process::getppid() != starter {
        // It died before its death was watched.
        return Err(Failure::never("the process that asked for this has gone"));
    }
    teller.tell(&Report::Confined(confinement));
    match &order.stage {
        Stage::Unpack(unpack) => crate::unpack::unpack(unpack, &order.limits, teller),
        Stage::Fetch(fetch) => {
            if let Some(list) = &fetch.list {
                crate::http::list(list, fetch, &order.limits)?;
            }
            match &fetch.getter {
                Getter::Http(web) => crate::http::download(web, fetch, &order.limits, teller),
                Getter::Git(repository) => crate::git::clone(repository, fetch, &order.limits, teller),
                Getter::File(path) => crate::local::copy(path, &order.limits, teller),
            }
        }
    }
}

fn needs(stage: &Stage) -> Needs {
    let none = Needs {
        directory: Directory::Private,
        network: Network::Closed,
        programs: Programs::None,
        source: None,
    };
    let Stage::Fetch(fetch) = stage else { return none };
    let used = if fetch.list.is_some() { Network::Used } else { Network::Closed };
    match &fetch.getter {
        Getter::Http(_) => Needs { network: Network::Used, ..none },
        Getter::File(path) => Needs { network: used, source: Some(PathBuf::from(path)), ..none },
        Getter::Git(repository) if repository.url.starts_with("ssh://") => {
            Needs { network: Network::Used, programs: Programs::GitOverSsh, ..none }
        }
        Getter::Git(_) => Needs { network: Network::Used, programs: Programs::Git, ..none },
    }
}

/// Tells the starter, not too often.
pub(crate) struct Teller {
    last: Option<Instant>,
}

const PAUSE: Duration = Duration::from_millis(100);

impl Teller {
    fn new() -> Teller {
        Teller { last: None }
    }

    /// Says how far it is, at most ten times a second.
    pub(crate) fn progress(&mut self, phase: Phase, bytes: u64, total: Option<u64>) {
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            self.tell(&Report::Progress(Progress { phase, bytes, total }));
        }
    }

    /// Says how far something is that is over: that is left out for no pause.
    pub(crate) fn arrived(&mut self, phase: Phase, bytes: u64) {
        self.tell(&Report::Progress(Progress { phase, bytes, total: None }));
    }

    fn tell(&mut self, report: &Report) {
        // A starter that is gone kills us; there is nobody to tell.
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
    }
}
