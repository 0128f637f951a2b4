//! Hashes and identifiers.

use super::{Answer, Call, Function, row};
use md5::Digest;
use uuid::Uuid;

pub(super) const TABLE: &[Function] = &[
    row("bcrypt", "bcrypt(string, cost)", 1, 2, bcrypt),
    row("md5", "md5(string)", 1, 1, hash::<md5::Md5>),
    row("rsadecrypt", "rsadecrypt(string, key)", 2, 2, |_| {
        Err("is not available here; decrypt the value beforehand and pass it as a variable".into())
    }),
    row("sha1", "sha1(string)", 1, 1, hash::<sha1::Sha1>),
    row("sha256", "sha256(string)", 1, 1, hash::<sha2::Sha256>),
    row("sha512", "sha512(string)", 1, 1, hash::<sha2::Sha512>),
    row("uuidv4", "uuidv4()", 0, 0, |call| call.give(Uuid::new_v4().to_string())),
    row("uuidv5", "uuidv5(namespace, name)", 2, 2, uuidv5),
];

fn hash<D: Digest>(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    call.charge(text.len() / 4)?;
    let digest = D::digest(text.as_bytes());
    call.give(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A salted hash: another one at each evaluation.
fn bcrypt(call: &Call<'_>) -> Answer {
    // Above this one hash takes seconds.
    const COSTS: std::ops::RangeInclusive<i64> = 4..=13;
    let text = call.text(0)?;
    let cost = if call.args.len() > 1 { call.int(1)? } else { 10 };
    if !COSTS.contains(&cost) {
        return Err(call.bad(1, format!("the cost is 4 to 13, not {cost}")));
    }
    if text.len() > 72 {
        return Err(call.bad(0, "bcrypt hashes at most 72 bytes"));
    }
    // Each step doubles the work; a file may not spend more than a second or two.
    call.charge(1 << (cost + 11))?;
    let hashed = bcrypt::hash_with_result(&*text, u32::try_from(cost).unwrap_or(10));
    let hashed = hashed.map_err(|error| call.bad(0, error.to_string()))?;
    call.give(hashed.format_for_version(bcrypt::Version::TwoA))
}

fn uuidv5(call: &Call<'_>) -> Answer {
    let (namespace, name) = (call.text(0)?, call.text(1)?);
    let namespace = match &*namespace {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        other => Uuid::parse_str(other).map_err(|_| {
            call.bad(0, format!("{other:?} is not a UUID and not one of dns, url, oid, x500"))
        })?,
    };
    call.give(Uuid::new_v5(&namespace, name.as_bytes()).to_string())
}
