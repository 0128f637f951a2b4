//! What the two helper processes are told and what they tell: one JSON document in, lines of JSON out.

use crate::address::{Getter, Unpacking};
use crate::checksum::Checksum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a helper is to do, in its working directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which half of the work.
    pub stage: Stage,
    /// How much is too much.
    pub limits: Limits,
}

/// The two halves. No process does both: what has spoken to the network verifies and unpacks nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Gets the bytes: writes `download`, or a whole `tree`.
    Fetch(Fetch),
    /// Verifies `download` and makes `tree` of it.
    Unpack(Unpack),
}

/// What is fetched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// From where.
    pub getter: Getter,
    /// Headers of requests.
    pub headers: BTreeMap<String, String>,
    /// Which certificates are believed.
    pub certificates: Certificates,
    /// A checksum file to fetch as well, into `checksums`.
    pub list: Option<String>,
}

/// Which servers are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificates {
    /// Those that this machine's authorities vouch for.
    #[default]
    Verified,
    /// All.
    Any,
}

/// What becomes of the bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unpack {
    /// What they must be.
    pub checksum: Option<Checksum>,
    /// Whether they are an archive.
    pub unpacking: Unpacking,
    /// Their name.
    pub file_name: String,
    /// What is wanted.
    pub mode: ResultMode,
}

/// What an artifact becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultMode {
    /// Archives are unpacked, files kept.
    #[default]
    Any,
    /// Exactly one file.
    File,
    /// A directory.
    Directory,
}

/// How much is too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes that are fetched.
    pub download_bytes: u64,
    /// Bytes that are unpacked.
    pub unpacked_bytes: u64,
    /// Files and directories.
    pub entries: u64,
    /// How many times more than was fetched may be unpacked, beyond the first 256 MiB.
    pub ratio: u32,
    /// Seconds for everything.
    pub seconds: u64,
    /// Seconds without a byte after which a connection is given up.
    pub silence: u64,
    /// Bytes per second, over a minute, below which a server is not waited for.
    pub least_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            download_bytes: 100_000_000_000,
            unpacked_bytes: 100_000_000_000,
            entries: 100_000,
            ratio: 250,
            seconds: 30 * 60,
            silence: 60,
            least_rate: 256,
        }
    }
}

/// What a helper tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// It is confined and begins.
    Confined(Confinement),
    /// How far it is.
    Progress(Progress),
    /// All done.
    Done,
    /// All over.
    Failed(Failure),
}

/// Under what a helper works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Its uid.
    pub uid: u32,
    /// Whether the kernel keeps it from other files as well.
    pub landlock: bool,
}

/// How far a helper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Bytes so far.
    pub bytes: u64,
    /// Of how many, if that is known.
    pub total: Option<u64>,
}

/// What a helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Fetching.
    Fetching,
    /// Verifying.
    Verifying,
    /// Unpacking.
    Unpacking,
}

/// Why a helper gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// Whether another try may succeed.
    pub again: Again,
}

/// Whether another try may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Again {
    /// It may: the network, a server.
    Perhaps,
    /// Not before something is changed.
    Never,
}

impl Failure {
    /// One that another try may overcome.
    pub fn perhaps(text: impl std::fmt::Display) -> Failure {
        Failure { text: text.to_string(), again: Again::Perhaps }
    }

    /// One that stays.
    pub fn never(text: impl std::fmt::Display) -> Failure {
        Failure { text: text.to_string(), again: Again::Never }
    }
}
