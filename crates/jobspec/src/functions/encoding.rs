//! Base 64, URL and CSV.

use super::{Answer, Call, Function, row};
use crate::value::Value;
use std::sync::Arc;

pub(super) const TABLE: &[Function] = &[
    row("base64decode", "base64decode(string)", 1, 1, base64decode),
    row("base64encode", "base64encode(string)", 1, 1, |call| {
        let text = call.text(0)?;
        call.charge(text.len() * 4 / 3)?;
        call.give(base64(text.as_bytes()))
    }),
    row("csvdecode", "csvdecode(string)", 1, 1, csvdecode),
    row("urlencode", "urlencode(string)", 1, 1, urlencode),
];

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base 64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            out.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    out
}

fn base64decode(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    let bad = || call.bad(0, "this is not base 64");
    let clean: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    if !clean.len().is_multiple_of(4) {
        return Err(bad());
    }
    let padding = clean.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return Err(bad());
    }
    let mut out = Vec::with_capacity(clean.len() / 4 * 3);
    for chunk in clean.get(..clean.len() - padding).unwrap_or(&[]).chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            let index = ALPHABET.iter().position(|letter| letter == byte).ok_or_else(bad)?;
            bits = bits << 6 | index as u32;
        }
        bits <<= 6 * (4 - chunk.len());
        out.extend(bits.to_be_bytes().iter().skip(1).take(chunk.len() - 1));
    }
    let text = String::from_utf8(out).map_err(|_| call.bad(0, "the decoded bytes are not UTF-8 text"))?;
    call.give(text)
}

fn urlencode(call: &Call<'_>) -> Answer {
    let mut out = String::new();
    for byte in call.text(0)?.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    call.give(out)
}

fn csvdecode(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    call.charge(text.len() * 4)?;
    let mut rows = csv_rows(&text).map_err(|message| call.bad(0, message))?.into_iter();
    let Some(names) = rows.next() else { return Err(call.bad(0, "there is no header line")) };
    let mut out = Vec::new();
    for (at, row) in rows.enumerate() {
        if row.len() != names.len() {
            let message = format!("row {} has {} fields, the header has {}", at + 2, row.len(), names.len());
            return Err(call.bad(0, message));
        }
        call.charge(row.len() * 4 * size_of::<Value>())?;
        let pairs = names.iter().zip(row).map(|(name, field)| (Arc::from(name.as_str()), Value::text(field)));
        out.push(Value::map(pairs.collect()));
    }
    call.give_list(out)
}

fn csv_rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (true, '"') if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            (true, '"') => quoted = false,
            (true, c) => field.push(c),
            (false, '"') if field.is_empty() => quoted = true,
            (false, '"') => return Err("a quote stands inside an unquoted field".into()),
            (false, ',') => row.push(std::mem::take(&mut field)),
            (false, '\r') if chars.peek() == Some(&'\n') => {}
            (false, '\n') => {
                if !row.is_empty() || !field.is_empty() {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
            }
            (false, c) => field.push(c),
        }
    }
    if quoted {
        return Err("a quoted field has no end".into());
    }
    if !row.is_empty() || !field.is_empty() {
        row.push(field);
        rows.push(row);
    }
    Ok(rows)
}
