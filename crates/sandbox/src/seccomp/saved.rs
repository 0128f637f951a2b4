//! A filter as it travels and is kept: bytes, and in a text their hexadecimal digits.
//!
//! As a list of numbers, which is how a text has bytes otherwise, it took longer to write than anything else that is
//! written down about a task; such lists of earlier versions are read.

use super::Filter;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_bytes();
        if serializer.is_human_readable() {
            serializer.serialize_str(&digits(&bytes))
        } else {
            Bytes::new(&bytes).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            match Text::deserialize(deserializer)? {
                Text::Digits(text) => {
                    read_digits(&text).ok_or_else(|| D::Error::custom("a system call filter is no digits"))?
                }
                Text::Numbers(bytes) => bytes,
            }
        } else {
            ByteBuf::deserialize(deserializer)?.into_vec()
        };
        Filter::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

/// What stands in a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Digits(String),
    Numbers(Vec<u8>),
}

fn digits(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' - 10 + half });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn read_digits(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let half = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(half(*high)? << 4 | half(*low)?).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, Instruction};

    #[test]
    fn a_text_holds_digits_and_lists_of_earlier_versions_are_read() {
        let filter =
            Filter { instructions: vec![Instruction { code: 0x15, jt: 1, jf: 254, k: 0xc000_003e }] };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(text, "\"150001fe3e0000c0\"");
        for kept in [text.as_str(), "[21,0,1,254,62,0,0,192]"] {
            assert_eq!(serde_json::from_str::<Filter>(kept).unwrap(), filter, "{kept}");
        }
        for wrong in ["\"150001fe3e0000c\"", "\"150001fe3e0000cg\"", "\"150001\"", "\"\"", "[1]", "7"] {
            assert!(serde_json::from_str::<Filter>(wrong).is_err(), "{wrong}");
        }
    }
}
