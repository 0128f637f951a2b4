//! zip: the library's central directory, held against the local headers. Any difference is a refusal.

use std::io::{Read, Seek, SeekFrom};
use zip::{CompressionMethod, ZipArchive};

/// Something in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Length of its content.
    pub size: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its content is the target.
    Symlink,
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// Reading.
    #[error("reading the archive: {0}")]
    Io(#[from] std::io::Error),
    /// The library's answer.
    #[error("the zip archive is damaged: {0}")]
    Damaged(#[from] zip::result::ZipError),
    /// Readers would disagree.
    #[error("the zip archive contradicts itself: {0}")]
    Contradiction(String),
    /// Not done.
    #[error("{path:?} is {what}, which is not unpacked")]
    Unsupported {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
}

const LOCAL_HEADER: usize = 30;
const WITH_DESCRIPTOR: u16 = 1 << 3;
const END_MARK: &[u8] = b"PK\x05\x06";

/// A zip archive whose headers agree.
pub struct Archive<R: Read + Seek> {
    archive: ZipArchive<R>,
    entries: Vec<Entry>,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory, and checks it; `again` reads the same file beside the library.
    ///
    /// # Errors
    /// [`ZipError`].
    pub fn open<S: Read + Seek>(input: R, mut again: S, most: u64) -> Result<Archive<R>, ZipError> {
        let mut archive = ZipArchive::new(input)?;
        let contradiction = |text: &str| Err(ZipError::Contradiction(text.to_owned()));
        if archive.len() as u64 > most {
            return contradiction(&format!("more than {most} entries"));
        }
        if archive.offset() != 0 {
            return contradiction("something stands before the archive");
        }
        if archive.comment().windows(END_MARK.len()).any(|window| window == END_MARK) {
            return contradiction("its comment holds a second end record");
        }
        let mut entries = Vec::with_capacity(archive.len());
        let mut data = Vec::with_capacity(archive.len());
        let mut records = Vec::with_capacity(archive.len());
        for index in 0..archive.len() {
            let (entry, spans) = examine(&mut archive, index, &mut again)?;
            data.push(spans.data);
            records.push(spans.record);
            entries.push(entry);
        }
        data.sort_unstable();
        if data.windows(2).any(|pair| matches!(pair, [before, after] if before.1 > after.0)) {
            return contradiction("entries lie over each other");
        }
        // The library keeps the last of equal names: the records of the others are missing in the chain.
        records.sort_unstable();
        let mut at = archive.central_directory_start();
        for (from, to) in records {
            if from != at {
                return contradiction("a name is there twice");
            }
            at = to;
        }
        again.seek(SeekFrom::Start(at))?;
        let mut mark = [0; 4];
        again.read_exact(&mut mark)?;
        if &mark == b"PK\x01\x02" {
            return contradiction("a name is there twice");
        }
        Ok(Archive { archive, entries })
    }

    /// The entries, in the order of the directory.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The content of an entry; its check value is compared at its end.
    ///
    /// # Errors
    /// [`ZipError`].
    pub fn content(&mut self, index: usize) -> Result<impl Read + '_, ZipError> {
        Ok(self.archive.by_index(index)?)
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn examine<R: Read + Seek, S: Read + Seek>(
    archive: &mut ZipArchive<R>,
    index: usize,
    again: &mut S,
) -> Result<(Entry, Spans), ZipError> {
    let file = archive.by_index_raw(index)?;
    let path = file.name_raw().to_vec();
    let unsupported = |what| ZipError::Unsupported { path: shown(&path), what };
    if file.encrypted() {
        return Err(unsupported("encrypted"));
    }
    if !matches!(file.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(unsupported("compressed by a method other than deflate"));
    }
    if path.contains(&b'\\') {
        return Err(unsupported("a name with backslashes"));
    }
    let unix = file.unix_mode();
    let format = unix.map_or(0, |mode| mode & 0o170_000);
    let kind = match format {
        0o120_000 => EntryKind::Symlink,
        0 | 0o100_000 | 0o040_000 if path.ends_with(b"/") => EntryKind::Directory,
        0 | 0o100_000 => EntryKind::File,
        _ => return Err(unsupported("neither file nor directory nor link")),
    };
    // Archives of other systems have no permission bits.
    let mode = unix.map(|mode| mode & 0o777).filter(|mode| *mode != 0).unwrap_or(match kind {
        EntryKind::Directory => 0o755,
        _ => 0o644,
    });
    let size = file.size();
    if kind == EntryKind::Directory && size != 0 {
        return Err(ZipError::Contradiction(format!("{:?} is a directory with content", shown(&path))));
    }
    let (start, compressed) = (file.header_start(), file.compressed_size());
    let record = file.central_header_start();
    let method = if file.compression() == CompressionMethod::Stored { 0 } else { 8 };
    drop(file);
    let data = local_header(again, start, &Central { path: &path, method, compressed, size })?;
    let spans = Spans {
        data: (start, data.saturating_add(compressed)),
        record: (record, record + record_length(again, record)?),
    };
    Ok((Entry { path, kind, mode, size }, spans))
}

/// Where an entry lies in the file.
struct Spans {
    /// From its own header to the end of its content.
    data: (u64, u64),
    /// Its record in the directory.
    record: (u64, u64),
}

fn record_length<S: Read + Seek>(input: &mut S, start: u64) -> Result<u64, ZipError> {
    input.seek(SeekFrom::Start(start))?;
    let mut record = [0; 46];
    input.read_exact(&mut record)?;
    let short = |at: usize| u64::from(u16::from_le_bytes([record[at], record[at + 1]]));
    Ok(46 + short(28) + short(30) + short(32))
}

/// What the central directory says of an entry.
struct Central<'a> {
    path: &'a [u8],
    method: u16,
    compressed: u64,
    size: u64,
}

/// Holds an entry's local header against the directory; where its data begins.
fn local_header<S: Read + Seek>(input: &mut S, start: u64, central: &Central<'_>) -> Result<u64, ZipError> {
    let differs = |what: &str| {
        let text =
            format!("{:?} has another {what} in its own header than in the directory", shown(central.path));
        Err(ZipError::Contradiction(text))
    };
    input.seek(SeekFrom::Start(start))?;
    let mut header = [0; LOCAL_HEADER];
    input.read_exact(&mut header)?;
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if !header.starts_with(b"PK\x03\x04") {
        return differs("beginning");
    }
    let (name_length, extra_length) = (u64::from(short(26)), u64::from(short(28)));
    let mut name = vec![0; usize::from(short(26))];
    input.read_exact(&mut name)?;
    if name != central.path {
        return differs("name");
    }
    if short(8) != central.method {
        return differs("method");
    }
    let agrees = |told: u32, known: u64| told == u32::MAX || u64::from(told) == known;
    let described = short(6) & WITH_DESCRIPTOR != 0;
    let zero = long(18) == 0 && long(22) == 0;
    let agree = agrees(long(18), central.compressed) && agrees(long(22), central.size);
    let told_later = described && zero;
    if !agree && !told_later {
        return differs("size");
    }
    Ok(start + LOCAL_HEADER as u64 + name_length + extra_length)
}
