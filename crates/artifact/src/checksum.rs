//! Checksums: `type:hex`, bare hex, and checksum files as `sha256sum` writes them.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use std::io::Read;

/// Which checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// 128 bits; proves nothing against an attacker.
    Md5,
    /// 160 bits; proves little against an attacker.
    Sha1,
    /// 256 bits.
    Sha256,
    /// 512 bits.
    Sha512,
}

impl Algorithm {
    const ALL: [Algorithm; 4] = [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];

    /// Its name in job files.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha1 => 40,
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// What something must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// This value.
    Value(Sum),
    /// What a list at this address says of its name.
    List(String),
}

/// A checksum's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sum {
    /// Which.
    pub algorithm: Algorithm,
    /// In small letters.
    pub hex: String,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// Why a checksum cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChecksum {
    /// A type that is none.
    #[error("there is no checksum type {0:?}; use md5, sha1, sha256, sha512 or file")]
    Type(String),
    /// Digits that are none, or too few or many.
    #[error("a {} checksum has {} hexadecimal digits, this one is {hex:?}", .algorithm.name(), .algorithm.digits())]
    Digits {
        /// Which.
        algorithm: Algorithm,
        /// The text.
        hex: String,
    },
    /// Bare hex of no known length.
    #[error("the checksum {0:?} needs a type: \"sha256:<hex>\"")]
    Bare(String),
    /// Not in the list.
    #[error("the checksum file says nothing of {0:?}")]
    NotListed(String),
}

impl Checksum {
    /// Reads `type:hex`, `file:address` or bare hex.
    ///
    /// # Errors
    /// [`BadChecksum`].
    pub fn parse(text: &str) -> Result<Checksum, BadChecksum> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("file", address)) => Ok(Checksum::List(address.to_owned())),
            Some((kind, hex)) => {
                let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == kind);
                let algorithm = known.ok_or_else(|| BadChecksum::Type(kind.to_owned()))?;
                Sum::new(algorithm, hex).map(Checksum::Value)
            }
            None => bare(text).map(Checksum::Value).ok_or_else(|| BadChecksum::Bare(text.to_owned())),
        }
    }
}

fn bare(hex: &str) -> Option<Sum> {
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.digits() == hex.len())?;
    Sum::new(algorithm, hex).ok()
}

impl Sum {
    fn new(algorithm: Algorithm, hex: &str) -> Result<Sum, BadChecksum> {
        let fine = hex.len() == algorithm.digits() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if !fine {
            return Err(BadChecksum::Digits { algorithm, hex: hex.to_owned() });
        }
        Ok(Sum { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// The checksum of everything that `input` gives.
    ///
    /// # Errors
    /// What reading answered.
    pub fn of(algorithm: Algorithm, input: &mut dyn Read) -> std::io::Result<Sum> {
        let hex = match algorithm {
            Algorithm::Md5 => digest::<Md5>(input),
            Algorithm::Sha1 => digest::<Sha1>(input),
            Algorithm::Sha256 => digest::<Sha256>(input),
            Algorithm::Sha512 => digest::<Sha512>(input),
        };
        Ok(Sum { algorithm, hex: hex? })
    }
}

fn digest<D: Digest>(input: &mut dyn Read) -> std::io::Result<String> {
    let mut digest = D::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match input.read(&mut buffer)? {
            0 => break,
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a checksum file says of `name`: lines of `sha256sum` and `sha256sum --tag`, or one lone value.
///
/// # Errors
/// [`BadChecksum::NotListed`].
pub fn look_up(list: &str, name: &str) -> Result<Sum, BadChecksum> {
    let mut lone = None;
    let mut lines = 0;
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        lines += 1;
        if let Some((hex, file)) = line.split_once([' ', '\t']) {
            let file = file.trim_start().trim_start_matches('*');
            let file = file.rsplit('/').next().unwrap_or(file);
            if file == name
                && let Some(sum) = bare(hex)
            {
                return Ok(sum);
            }
        } else {
            lone = bare(line);
        }
        if let Some(sum) = tagged(line, name) {
            return Ok(sum);
        }
    }
    match lone {
        Some(sum) if lines == 1 => Ok(sum),
        _ => Err(BadChecksum::NotListed(name.to_owned())),
    }
}

/// `SHA256 (name) = hex`.
fn tagged(line: &str, name: &str) -> Option<Sum> {
    let (kind, rest) = line.split_once(" (")?;
    let (file, hex) = rest.rsplit_once(") = ")?;
    let algorithm =
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(kind))?;
    (file.rsplit('/').next() == Some(name)).then(|| Sum::new(algorithm, hex).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn all_spellings_are_read() {
        let sum = Sum { algorithm: Algorithm::Sha256, hex: EMPTY.to_owned() };
        for text in
            [format!("sha256:{EMPTY}"), EMPTY.to_uppercase(), format!("sha256:{}", EMPTY.to_uppercase())]
        {
            assert_eq!(Checksum::parse(&text), Ok(Checksum::Value(sum.clone())));
        }
        assert_eq!(Checksum::parse("file:https://x/y"), Ok(Checksum::List("https://x/y".to_owned())));
        assert_eq!(Checksum::parse("crc32:00").unwrap_err(), BadChecksum::Type("crc32".to_owned()));
        assert!(Checksum::parse("sha256:00").unwrap_err().to_string().contains("64 hexadecimal digits"));
        assert!(Checksum::parse("00ff").unwrap_err().to_string().contains("needs a type"));
        assert_eq!(Sum::of(Algorithm::Sha256, &mut std::io::empty()).unwrap(), sum);
    }

    #[test]
    fn lists_are_read_by_name() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let list = format!("# sums\n{EMPTY}  other.tar.gz\n{md5} *./dir/x.zip\nSHA256 (y.zip) = {EMPTY}\n");
        assert_eq!(look_up(&list, "x.zip").unwrap().to_string(), format!("md5:{md5}"));
        assert_eq!(look_up(&list, "y.zip").unwrap().to_string(), format!("sha256:{EMPTY}"));
        assert_eq!(look_up(&list, "z.zip").unwrap_err(), BadChecksum::NotListed("z.zip".to_owned()));
        assert_eq!(look_up(&format!("{EMPTY}\n"), "any").unwrap().hex, EMPTY);
        assert!(look_up("", "x").is_err());
    }
}
