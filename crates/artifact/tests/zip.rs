//! zip archives: the tree that Info-ZIP makes, or a refusal.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::collections::BTreeMap;
use support::*;

/// An entry, and the lies about it.
#[derive(Clone)]
struct Entry<'a> {
    name: &'a [u8],
    content: &'a [u8],
    mode: u32,
    /// What the local header says, where it differs.
    local_name: Option<&'a [u8]>,
    local_size: Option<u32>,
    local_method: u16,
    method: u16,
    flags: u16,
    /// Where the directory says it lies.
    offset: Option<u32>,
    crc: Option<u32>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            name: b"f",
            content: b"content",
            mode: 0o100_644,
            local_name: None,
            local_size: None,
            local_method: 0,
            method: 0,
            flags: 0,
            offset: None,
            crc: None,
        }
    }
}

fn crc(content: &[u8]) -> u32 {
    !content.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

fn archive(entries: &[Entry<'_>], comment: &[u8]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let (short, long) = (u16::to_le_bytes, u32::to_le_bytes);
    for entry in entries {
        let offset = entry.offset.unwrap_or(out.len() as u32);
        let size = entry.content.len() as u32;
        let sum = entry.crc.unwrap_or_else(|| crc(entry.content));
        let local_name = entry.local_name.unwrap_or(entry.name);
        out.extend(b"PK\x03\x04\x14\x00");
        out.extend([short(entry.flags), short(entry.local_method), [0, 0], [0x21, 0x50]].concat());
        let told = entry.local_size.unwrap_or(size);
        out.extend([long(sum), long(told), long(told)].concat());
        out.extend([short(local_name.len() as u16), [0, 0]].concat());
        out.extend([local_name, entry.content].concat());
        directory.extend(b"PK\x01\x02\x1e\x03\x14\x00");
        directory.extend([short(entry.flags), short(entry.method), [0, 0], [0x21, 0x50]].concat());
        directory.extend([long(sum), long(size), long(size)].concat());
        directory.extend([short(entry.name.len() as u16), [0, 0], [0, 0], [0, 0], [0, 0]].concat());
        directory.extend([long(entry.mode << 16), long(offset)].concat());
        directory.extend(entry.name);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = short(entries.len() as u16);
    out.extend([count, count].concat());
    out.extend([long(directory.len() as u32), long(start)].concat());
    out.extend(short(comment.len() as u16));
    out.extend(comment);
    out
}

fn by_unzip(archive: &[u8]) -> Option<BTreeMap<String, String>> {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let out = directory.path().join("out");
    std::fs::write(directory.path().join("x.zip"), archive).unwrap();
    let status = std::process::Command::new("unzip")
        .args(["-qq", "x.zip", "-d", "out"])
        .current_dir(directory.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success().then(|| tree(&out))
}

fn unpacked(archive: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let rig = Rig::new();
    let result = rig.fetch(&artifact(rig.source("x.zip", archive)));
    let names: Vec<_> =
        std::fs::read_dir(&rig.roots.task).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["local"], "beside local/");
    match result {
        Ok(_) => Ok(tree(&rig.local(""))),
        Err(error) => {
            assert!(tree(&rig.local("")).is_empty());
            Err(error.to_string())
        }
    }
}

/// Covers: W54
#[test]
fn good_archives_become_the_tree_that_info_zip_makes() {
    let entry = Entry::default();
    let cases = [
        ("one", archive(std::slice::from_ref(&entry), b"")),
        ("modes", archive(&[Entry { name: b"x", mode: 0o104_755, ..entry.clone() }], b"a comment")),
        (
            "directories",
            archive(
                &[
                    Entry { name: b"d/", content: b"", mode: 0o040_750, ..entry.clone() },
                    Entry { name: b"d/e/f", ..entry.clone() },
                ],
                b"",
            ),
        ),
        (
            "link",
            archive(
                &[entry.clone(), Entry { name: b"l", content: b"f", mode: 0o120_777, ..entry.clone() }],
                b"",
            ),
        ),
    ];
    for (name, archive) in cases {
        let theirs = by_unzip(&archive).unwrap_or_else(|| panic!("{name}: Info-ZIP refuses"));
        assert_eq!(unpacked(&archive).unwrap_or_else(|error| panic!("{name}: {error}")), theirs, "{name}");
    }
}

/// Covers: RUSTSEC-2018-0002, T127
#[test]
fn hostile_and_contradictory_archives_are_refused() {
    let entry = Entry::default();
    let one = |entry: Entry<'_>| archive(&[entry], b"");
    let name = |name: &'static [u8]| archive(&[Entry { name, ..Entry::default() }], b"");
    let good = one(entry.clone());
    let second_end = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    let mut cases = vec![
        ("up", name(b"../x")),
        ("up inside", name(b"a/../../x")),
        ("absolute", name(b"/etc/bivouac-test")),
        ("backslash", name(b"..\\x")),
        ("empty name", name(b"")),
        ("nul", name(b"a\0b")),
        ("link out", one(Entry { content: b"../../x", mode: 0o120_777, ..entry.clone() })),
        ("link absolute", one(Entry { content: b"/etc", mode: 0o120_777, ..entry.clone() })),
        (
            "through a link",
            archive(
                &[
                    Entry { name: b"l", content: b".", mode: 0o120_777, ..entry.clone() },
                    Entry { name: b"l/x", ..entry.clone() },
                ],
                b"",
            ),
        ),
        ("device", one(Entry { mode: 0o020_666, ..entry.clone() })),
        ("encrypted", one(Entry { flags: 1, ..entry.clone() })),
        ("unknown method", one(Entry { method: 99, local_method: 99, ..entry.clone() })),
        ("two names", one(Entry { local_name: Some(b"g"), ..entry.clone() })),
        ("two methods", one(Entry { local_method: 8, ..entry.clone() })),
        ("two sizes", one(Entry { local_size: Some(3), ..entry.clone() })),
        ("twice", archive(&[entry.clone(), entry.clone()], b"")),
        (
            "over each other",
            archive(&[entry.clone(), Entry { name: b"g", offset: Some(0), ..entry.clone() }], b""),
        ),
        ("bad sum", one(Entry { crc: Some(1), ..entry.clone() })),
        ("two ends", archive(std::slice::from_ref(&entry), &second_end)),
        ("in front", [b"junk".as_slice(), &good].concat()),
        ("directory with content", one(Entry { name: b"d/", mode: 0o040_755, ..entry.clone() })),
        ("no archive", b"PK nothing".to_vec()),
        ("empty", Vec::new()),
    ];
    cases.extend((0..good.len()).step_by(7).map(|cut| ("cut", good[..cut].to_vec())));
    for (name, archive) in cases {
        let ours = unpacked(&archive);
        assert!(ours.is_err(), "{name}: {ours:?}");
    }
}
