//! What every command takes.

use bivouac_runner::report::Format;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

// What every command takes. (A doc comment would become the description of all.)
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// Operator configuration [default: /etc/bivouac/config.hcl, if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where allocations live.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/bivouac",
        env = "BIVOUAC_STATE_DIR"
    )]
    pub(crate) state_dir: PathBuf,
    /// How the size of an ephemeral_disk is enforced.
    #[arg(long, global = true, value_enum, default_value_t = Disk::Off, env = "BIVOUAC_DISK", hide_possible_values = true, value_name = "off|memory|image")]
    pub(crate) disk: Disk,
    /// How Bivouac writes its own notes, warnings and errors: sentences, or a JSON object a line.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = LOG_FORMAT, hide_possible_values = true, value_name = "text|json")]
    pub(crate) log_format: LogFormat,
}

/// Names the format for supervisors in the background, too.
pub(crate) const LOG_FORMAT: &str = "BIVOUAC_LOG_FORMAT";

/// How reports are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Sentences.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Format {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

/// What keeps an allocation's disk to its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Disk {
    /// Nothing: it may fill the file system of the state directory.
    #[default]
    Off,
    /// It lies in memory.
    Memory,
    /// It lies in an image file (needs mke2fs).
    Image,
    /// It has a project quota (ext4 or XFS mounted with prjquota).
    Quota,
}

/// How an error about a command line that means nothing is written: as it asks for all the same.
pub(crate) fn format_of_nonsense(arguments: &[OsString], environment: Option<OsString>) -> Format {
    const NAME: &str = "--log-format";
    let ours: Vec<_> =
        arguments.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str()).collect();
    let behind = ours.windows(2).find_map(|pair| match pair {
        [NAME, value] => Some(*value),
        _ => None,
    });
    let joined = ours.iter().find_map(|word| word.strip_prefix(NAME)?.strip_prefix('='));
    match behind.or(joined).or(environment.as_deref().and_then(|value| value.to_str())) {
        Some("json") => Format::Json,
        _ => Format::Text,
    }
}
