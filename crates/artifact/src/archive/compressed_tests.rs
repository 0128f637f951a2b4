//! Streams of every kind against the programs that write them, and broken ones.

use super::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a program makes of `input`.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let text = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&text));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn all(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    reader(compression, bytes).read_to_end(&mut out).map(|_| out)
}

const PROGRAMS: [(Compression, &str); 4] = [
    (Compression::Gzip, "gzip"),
    (Compression::Bzip2, "bzip2"),
    (Compression::Xz, "xz"),
    (Compression::Zstd, "zstd"),
];

fn sample() -> Vec<u8> {
    let mut seed = 1_u32;
    (0..300_000)
        .map(|at| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 3 == 0 { (seed >> 24) as u8 } else { b'a' }
        })
        .collect()
}

#[test]
fn what_the_programs_write_is_read_however_many_members() {
    let text = sample();
    for (compression, program) in PROGRAMS {
        let mut one = piped(program, &["-c"], &text);
        assert_eq!(all(compression, &one).unwrap(), text, "{program}");
        one.extend(piped(program, &["-c"], b"second"));
        let both = [text.as_slice(), b"second"].concat();
        assert_eq!(all(compression, &one).unwrap(), both, "{program}: two members");
        assert_eq!(
            all(compression, &piped(program, &["-c"], b"")).unwrap(),
            b"",
            "{program}: nothing inside"
        );
    }
    let long = piped("zstd", &["-c", "--long=27", "--check"], &text);
    assert_eq!(all(Compression::Zstd, &long).unwrap(), text);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &long].concat();
    assert_eq!(all(Compression::Zstd, &skippable).unwrap(), text, "a skippable frame");
    let bcj = piped("xz", &["-c", "--x86", "--delta=dist=4", "--lzma2=preset=6"], &text);
    assert_eq!(all(Compression::Xz, &bcj).unwrap(), text, "xz filters");
}

/// Covers: CVE-2024-3094
#[test]
fn truncated_changed_and_followed_by_junk_is_refused() {
    let text = &sample()[..20_000];
    for (compression, program) in PROGRAMS {
        let arguments: &[&str] = if program == "zstd" { &["-c", "--check"] } else { &["-c"] };
        let whole = piped(program, arguments, text);
        for cut in (0..whole.len()).step_by(whole.len() / 97).chain(whole.len() - 9..whole.len()) {
            let read = all(compression, &whole[..cut]);
            assert!(
                read.is_err(),
                "{program} cut at {cut} of {}: {} bytes",
                whole.len(),
                read.unwrap().len()
            );
        }
        for at in [whole.len() / 2, whole.len() - 30] {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            let read = all(compression, &changed);
            assert!(read.is_err() || read.unwrap() == text, "{program} changed at {at} gave other bytes");
        }
        let junk = [whole.as_slice(), b"junk behind"].concat();
        assert!(all(compression, &junk).is_err(), "{program}: junk behind the stream");
        assert!(all(compression, b"no such stream").is_err(), "{program}: wrong suffix for the content");
        assert!(all(compression, b"").is_err(), "{program}: empty");
    }
}

/// Covers: CVE-2023-0475
#[test]
fn a_window_of_gibibytes_is_not_allocated() {
    // Frame header: magic, descriptor without single segment, window descriptor for 2 GiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    let error = all(Compression::Zstd, &frame).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("window"), "{error}");
}
