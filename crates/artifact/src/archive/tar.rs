//! tar: V7, ustar, GNU and PAX, read strictly. Where two readers could disagree about an archive, it is refused.

use std::io::Read;

const BLOCK: usize = 512;
/// The longest path, and the longest extended header that is kept in memory.
const LONGEST_PATH: u64 = 4096;
const LONGEST_HEADER: u64 = 1024 * 1024;
/// The largest number that the eleven octal digits of the size field can hold.
const LARGEST_OCTAL: u64 = 0o77777777777;

/// Something in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, without set-id and sticky.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Length of the content that follows.
    pub size: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// Another name of this earlier entry.
    HardLink(Vec<u8>),
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading or decompressing.
    #[error("reading the archive: {0}")]
    Io(#[from] std::io::Error),
    /// It ends too early.
    #[error("the tar archive ends in the middle of {0}")]
    Truncated(&'static str),
    /// A header is none.
    #[error("the tar archive is damaged: {0}")]
    Damaged(&'static str),
    /// Readers would disagree.
    #[error("the tar archive contradicts itself: {0}")]
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

/// What extended headers say of the next entry.
#[derive(Default)]
struct Overrides {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
    sparse: bool,
}

/// Reads the entries of an archive in their order; between two, the content of the first.
pub struct Reader<R> {
    input: R,
    /// Content of the current entry not read yet, and the zeros behind it.
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of an archive.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, left: 0, padding: 0 }
    }

    /// The next entry; none at the end mark.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_content()?;
        let mut overrides = Overrides::default();
        loop {
            let mut block = [0; BLOCK];
            self.fill(&mut block, "a header, or has no end mark")?;
            if block == [0; BLOCK] {
                if overrides.any() {
                    return Err(TarError::Damaged("an extended header has no entry behind it"));
                }
                return Ok(None);
            }
            let header = Header::parse(&block)?;
            match header.kind {
                b'x' => overrides.pax(self.extended(&header)?)?,
                b'g' => refuse_global(&self.extended(&header)?)?,
                b'L' => overrides.long(Long::Path, self.extended(&header)?)?,
                b'K' => overrides.long(Long::Link, self.extended(&header)?)?,
                _ => {
                    let entry = entry(header, overrides)?;
                    self.left = entry.size;
                    self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads on to the end of the input, so that a decompressor compares its last check value.
    ///
    /// # Errors
    /// What reading answered; more than `most` bytes behind the end mark.
    pub fn drain(mut self, most: u64) -> Result<(), TarError> {
        let behind = std::io::copy(&mut (&mut self.input).take(most + 1), &mut std::io::sink())?;
        if behind > most {
            return Err(TarError::Damaged("much follows its end mark"));
        }
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        if std::io::copy(&mut (&mut self.input).take(rest), &mut std::io::sink())? != rest {
            return Err(TarError::Truncated("a file"));
        }
        Ok(())
    }

    fn fill(&mut self, block: &mut [u8], what: &'static str) -> Result<(), TarError> {
        self.input.read_exact(block).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => TarError::Truncated(what),
            _ => TarError::Io(error),
        })
    }

    fn extended(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        if header.size > LONGEST_HEADER {
            return Err(TarError::Damaged("an extended header is longer than 1 MiB"));
        }
        let mut content = vec![0; header.size as usize];
        self.fill(&mut content, "an extended header")?;
        self.padding = header.size.next_multiple_of(BLOCK as u64) - header.size;
        self.skip_content()?;
        Ok(content)
    }
}

impl<R: Read> Read for Reader<R> {
    /// The content of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = self.input.read(buffer)?;
        if count == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the tar archive ends in the middle of a file",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

enum Long {
    Path,
    Link,
}

impl Overrides {
    fn any(&self) -> bool {
        self.long_path.is_some() || self.long_link.is_some() || self.pax.is_some()
    }

    fn pax(&mut self, content: Vec<u8>) -> Result<(), TarError> {
        if self.pax.replace(Pax::parse(&content)?).is_some() {
            return Err(TarError::Contradiction("two PAX headers for one entry".to_owned()));
        }
        Ok(())
    }

    fn long(&mut self, what: Long, mut content: Vec<u8>) -> Result<(), TarError> {
        if content.last() == Some(&0) {
            content.pop();
        }
        let slot = match what {
            Long::Path => &mut self.long_path,
            Long::Link => &mut self.long_link,
        };
        if slot.replace(content).is_some() {
            return Err(TarError::Contradiction("two long names for one entry".to_owned()));
        }
        Ok(())
    }
}

impl Pax {
    /// Records of the form `<length> <key>=<value>\n`, the length counting all of it.
    fn parse(mut content: &[u8]) -> Result<Pax, TarError> {
        let mut pax = Pax::default();
        while !content.is_empty() {
            let (key, value, rest) = record(content).ok_or(TarError::Damaged("a PAX record"))?;
            content = rest;
            let twice = |old: bool| {
                let text = format!("a PAX header says {} twice", String::from_utf8_lossy(key));
                if old { Err(TarError::Contradiction(text)) } else { Ok(()) }
            };
            match key {
                b"path" => twice(pax.path.replace(value.to_vec()).is_some())?,
                b"linkpath" => twice(pax.link.replace(value.to_vec()).is_some())?,
                b"size" => {
                    let size = decimal(value).ok_or(TarError::Damaged("the size in a PAX header"))?;
                    twice(pax.size.replace(size).is_some())?;
                }
                b"mtime" => pax.mtime = seconds(value),
                _ if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
                _ => {}
            }
        }
        Ok(pax)
    }
}

fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(12).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(content.get(..space)?)?).ok()?;
    let body = content.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    (!key.is_empty()).then_some((key, value.get(1..)?, content.get(length..)?))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

fn seconds(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.split('.').next()?.parse().ok()
}

/// Global headers carry a comment (`git archive` writes the commit); names and sizes for all are a trick.
fn refuse_global(content: &[u8]) -> Result<(), TarError> {
    let pax = Pax::parse(content)?;
    if pax.path.is_some() || pax.link.is_some() || pax.size.is_some() || pax.sparse {
        return Err(TarError::Contradiction("a global header names a path or size".to_owned()));
    }
    Ok(())
}

struct Header<'a> {
    block: &'a [u8; BLOCK],
    kind: u8,
    size: u64,
    mode: u32,
    mtime: i64,
}

impl<'a> Header<'a> {
    fn parse(block: &'a [u8; BLOCK]) -> Result<Header<'a>, TarError> {
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
        let told = number(field(148, 8)).ok_or(TarError::Damaged("the checksum of a header is no number"))?;
        let outside = |at: usize| !(148..156).contains(&at);
        let byte = |(at, byte): (usize, &u8)| if outside(at) { i64::from(*byte) } else { i64::from(b' ') };
        let signed = |(at, byte): (usize, &u8)| i64::from(if outside(at) { *byte as i8 } else { b' ' as i8 });
        let (sum, old): (i64, i64) =
            (block.iter().enumerate().map(byte).sum(), block.iter().enumerate().map(signed).sum());
        if told != sum && told != old {
            return Err(TarError::Damaged("a header does not fit its checksum"));
        }
        let size = number(field(124, 12)).ok_or(TarError::Damaged("the size of an entry is no number"))?;
        let size = u64::try_from(size).map_err(|_| TarError::Damaged("the size of an entry is negative"))?;
        let mode = number(field(100, 8)).ok_or(TarError::Damaged("the mode of an entry is no number"))?;
        let mtime = number(field(136, 12)).ok_or(TarError::Damaged("the time of an entry is no number"))?;
        let [kind] = field(156, 1) else { return Err(TarError::Damaged("a header is short")) };
        Ok(Header { block, kind: *kind, size, mode: (mode & 0o777) as u32, mtime })
    }

    fn text(&self, from: usize, length: usize) -> &'a [u8] {
        let field = self.block.get(from..from + length).unwrap_or_default();
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.text(257, 6) == b"ustar" && self.block.get(263..265) == Some(b"00") {
            self.text(345, 155)
        } else {
            b""
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }
}

/// Octal digits between blanks and zeros, or base 256.
fn number(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80 => {
            let (high, low) = field.get(1..)?.split_at_checked(field.len().checked_sub(9)?)?;
            let bytes: [u8; 8] = low.try_into().ok()?;
            high.iter().all(|byte| *byte == 0).then_some(())?;
            i64::try_from(u64::from_be_bytes(bytes)).ok()
        }
        0xff => {
            let (high, low) = field.get(1..)?.split_at_checked(field.len().checked_sub(9)?)?;
            let bytes: [u8; 8] = low.try_into().ok()?;
            high.iter().all(|byte| *byte == 0xff).then_some(())?;
            Some(i64::from_be_bytes(bytes)).filter(|number| *number < 0)
        }
        _ => {
            let blank = |byte: &u8| *byte == b' ' || *byte == 0;
            let from = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
            let rest = field.get(from..)?;
            let digits = rest.iter().take_while(|byte| (b'0'..=b'7').contains(*byte)).count();
            rest.get(digits..)?.iter().all(blank).then_some(())?;
            rest.get(..digits)?
                .iter()
                .try_fold(0_i64, |sum, digit| sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')))
        }
    }
}

fn entry(header: Header<'_>, overrides: Overrides) -> Result<Entry, TarError> {
    let pax = overrides.pax.unwrap_or_default();
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let one = |ours: Option<Vec<u8>>, theirs: Option<Vec<u8>>, what: &str| match (ours, theirs) {
        (Some(_), Some(_)) => {
            Err(TarError::Contradiction(format!("a GNU and a PAX header both name a {what}")))
        }
        (a, b) => Ok(a.or(b)),
    };
    let path = one(overrides.long_path, pax.path, "path")?.unwrap_or_else(|| header.path());
    let link = one(overrides.long_link, pax.link, "link")?.unwrap_or_else(|| header.text(157, 100).to_vec());
    if path.len() as u64 > LONGEST_PATH || link.len() as u64 > LONGEST_PATH {
        return Err(TarError::Damaged("a path is longer than 4096 bytes"));
    }
    if path.contains(&0) || link.contains(&0) {
        return Err(TarError::Damaged("a path holds a NUL byte"));
    }
    let unsupported = |what| Err(TarError::Unsupported { path: shown(&path), what });
    if pax.sparse {
        return unsupported("a sparse file");
    }
    let size = size(&header, pax.size, &path)?;
    let kind = match header.kind {
        0 if path.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' => EntryKind::File,
        b'5' => EntryKind::Directory,
        b'2' => EntryKind::Symlink(link),
        b'1' => EntryKind::HardLink(link),
        b'3' | b'4' => return unsupported("a device"),
        b'6' => return unsupported("a FIFO"),
        b'S' => return unsupported("a sparse file"),
        b'M' => return unsupported("a part of a file on another volume"),
        b'V' => return unsupported("a volume label"),
        _ => return unsupported("of a type that tar does not define"),
    };
    if size != 0 && kind != EntryKind::File {
        return Err(TarError::Contradiction(format!("{:?} is no file but has content", shown(&path))));
    }
    Ok(Entry { path, kind, mode: header.mode, mtime: pax.mtime.unwrap_or(header.mtime), size })
}

/// A PAX size counts only where the header cannot hold it: elsewhere some readers go by one and some by the other.
fn size(header: &Header<'_>, pax: Option<u64>, path: &[u8]) -> Result<u64, TarError> {
    match pax {
        None => Ok(header.size),
        Some(size) if size == header.size => Ok(size),
        Some(size) if size > LARGEST_OCTAL && matches!(header.size, 0 | LARGEST_OCTAL) => Ok(size),
        Some(size) => Err(TarError::Contradiction(format!(
            "{:?} has {size} bytes in its PAX header and {} in its own",
            String::from_utf8_lossy(path),
            header.size
        ))),
    }
}
