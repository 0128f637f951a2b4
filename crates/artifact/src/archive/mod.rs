//! Archives: which kind a name says, what is inside; pure readers over bytes.

pub mod compressed;
pub mod tar;
pub mod zip;

use serde::{Deserialize, Serialize};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not.
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// A tar archive, perhaps compressed.
    Tar(Compression),
    /// A zip archive.
    Zip,
    /// One compressed file.
    Single(Compression),
}

/// Endings and what they mean, the longer before the shorter that they end in.
const ENDINGS: [(&str, ArchiveKind); 14] = [
    ("tar.bz2", ArchiveKind::Tar(Compression::Bzip2)),
    ("tar.gz", ArchiveKind::Tar(Compression::Gzip)),
    ("tar.xz", ArchiveKind::Tar(Compression::Xz)),
    ("tar.zst", ArchiveKind::Tar(Compression::Zstd)),
    ("tbz2", ArchiveKind::Tar(Compression::Bzip2)),
    ("tgz", ArchiveKind::Tar(Compression::Gzip)),
    ("txz", ArchiveKind::Tar(Compression::Xz)),
    ("tzst", ArchiveKind::Tar(Compression::Zstd)),
    ("tar", ArchiveKind::Tar(Compression::None)),
    ("zip", ArchiveKind::Zip),
    ("bz2", ArchiveKind::Single(Compression::Bzip2)),
    ("gz", ArchiveKind::Single(Compression::Gzip)),
    ("xz", ArchiveKind::Single(Compression::Xz)),
    ("zst", ArchiveKind::Single(Compression::Zstd)),
];

impl ArchiveKind {
    /// What a file name says, and the name without that ending.
    pub fn of_name(name: &str) -> Option<(ArchiveKind, &str)> {
        ENDINGS.iter().find_map(|(ending, kind)| {
            let stem = name.strip_suffix(ending)?.strip_suffix('.')?;
            (!stem.is_empty()).then_some((*kind, stem))
        })
    }

    /// What the option `archive` says.
    pub fn of_option(option: &str) -> Option<ArchiveKind> {
        ENDINGS.iter().find(|(ending, _)| *ending == option).map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_decides() {
        let of = |name| ArchiveKind::of_name(name);
        assert_eq!(of("x.tar.gz"), Some((ArchiveKind::Tar(Compression::Gzip), "x")));
        assert_eq!(of("x.tgz"), Some((ArchiveKind::Tar(Compression::Gzip), "x")));
        assert_eq!(of("x.gz"), Some((ArchiveKind::Single(Compression::Gzip), "x")));
        assert_eq!(of("x.y.zst"), Some((ArchiveKind::Single(Compression::Zstd), "x.y")));
        for none in ["gz", ".gz", "x", "x.zipper", "xzip", ""] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(ArchiveKind::of_option("txz"), Some(ArchiveKind::Tar(Compression::Xz)));
        assert_eq!(ArchiveKind::of_option("rar"), None);
    }
}
