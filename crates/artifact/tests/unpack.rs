//! Archives, good and hostile: the tree that GNU tar or Info-ZIP makes, or a refusal; nothing outside.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use bivouac_artifact::fetch::FetchError;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::*;

/// What GNU tar makes of an archive, if it succeeds.
fn by_tar(archive: &[u8]) -> Option<std::collections::BTreeMap<String, String>> {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let (file, out) = (directory.path().join("x.tar"), directory.path().join("out"));
    std::fs::write(&file, archive).unwrap();
    std::fs::create_dir(&out).unwrap();
    let status = std::process::Command::new("tar")
        .args(["--no-same-owner", "-xpf"])
        .arg(&file)
        .arg("-C")
        .arg(&out)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success().then(|| tree(&out))
}

/// Unpacks; the tree, or what was said.
fn unpacked(name: &str, archive: &[u8]) -> Result<std::collections::BTreeMap<String, String>, String> {
    let rig = Rig::new();
    let outside = rig.directory.path().join("outside");
    std::fs::write(&outside, b"whole").unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
    let result = rig.fetch(&artifact(rig.source(name, archive)));
    let metadata = outside.metadata().unwrap();
    assert_eq!(
        (std::fs::read(&outside).unwrap().as_slice(), metadata.mode() & 0o777),
        (&b"whole"[..], 0o600),
        "{name}"
    );
    let names: Vec<_> =
        std::fs::read_dir(&rig.roots.task).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["local"], "{name}: beside local/");
    match result {
        Ok(_) => Ok(tree(&rig.local(""))),
        Err(error) => {
            assert!(tree(&rig.local("")).is_empty(), "{name}: a refused archive left something");
            Err(error.to_string())
        }
    }
}

/// Covers: W54
#[test]
fn good_archives_become_the_tree_that_gnu_tar_makes() {
    let long = "d/".repeat(60) + "name";
    let pax_name = "\u{e4}".repeat(120);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("files", Tar::new().file("a", b"one").file("b/c/d", b"two").end()),
        ("dot", Tar::new().kind("./", b'5', "").kind("./x/", b'5', "").file("./x/y", b"3").end()),
        ("modes", {
            let head = |name, mode| Head { name, mode, ..Head::default() };
            Tar::new()
                .head(&head(b"suid", 0o6755))
                .head(&head(b"none", 0))
                .head(&head(b"sticky", 0o1777))
                .end()
        }),
        (
            "closed",
            Tar::new()
                .head(&Head { name: b"d", kind: b'5', mode: 0o500, ..Head::default() })
                .file("d/x", b"1")
                .end(),
        ),
        (
            "links",
            Tar::new()
                .file("d/f", b"x")
                .kind("d/l", b'2', "f")
                .kind("l", b'2', "d/f")
                .kind("d/up", b'2', "../l")
                .end(),
        ),
        ("dangling", Tar::new().kind("l", b'2', "later/x").end()),
        ("hard", Tar::new().file("f", b"12345").kind("h", b'1', "f").end()),
        ("twice", Tar::new().file("f", b"first").file("f", b"second").end()),
        ("link then file", Tar::new().kind("l", b'2', "x").file("l", b"file").end()),
        ("v7", {
            let old = Head { name: b"dir/", kind: 0, magic: &[0; 8], ..Head::default() };
            Tar::new().head(&old).head(&Head { name: b"dir/f", size: 1, ..old.clone() }).content(b"x").end()
        }),
        ("gnu long", Tar::new().extended(b'L', format!("{long}\0").as_bytes()).file("short", b"long").end()),
        (
            "gnu long link",
            Tar::new().extended(b'K', format!("{}\0", "x".repeat(150)).as_bytes()).kind("l", b'2', "x").end(),
        ),
        ("pax path", Tar::new().pax(&[("path", &pax_name), ("mtime", "1.5")]).file("x", b"pax").end()),
        ("pax same size", Tar::new().pax(&[("size", "3")]).file("x", b"abc").end()),
        ("pax comment", Tar::new().extended(b'g', b"19 comment=abcdefg\n").file("x", b"abc").end()),
        (
            "odd names",
            Tar::new()
                .file("new\nline", b"1")
                .head(&Head { name: b"\xff\xfe", ..Head::default() })
                .file("CASE", b"")
                .file("case", b"")
                .end(),
        ),
        ("contiguous", Tar::new().head(&Head { kind: b'7', size: 1, ..Head::default() }).content(b"x").end()),
        ("behind", [Tar::new().file("a", b"1").end(), Tar::new().file("b", b"2").end()].concat()),
        ("times", {
            let old = Head {
                name: b"old",
                mtime: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                ..Head::default()
            };
            Tar::new().head(&old).end()
        }),
    ];
    for (name, archive) in cases {
        let theirs = by_tar(&archive).unwrap_or_else(|| panic!("{name}: GNU tar refuses"));
        let ours = unpacked("x.tar", &archive).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ours, theirs, "{name}");
    }
}

/// Covers: CVE-2019-14803
#[test]
fn a_set_user_id_program_arrives_as_a_plain_one() {
    let head = |name, kind, mode| Head { name, kind, mode, ..Head::default() };
    let archive = Tar::new()
        .head(&head(b"suid", b'0', 0o6755))
        .head(&head(b"dir/", b'5', 0o3777))
        .head(&head(b"dir/sgid", b'0', 0o2755))
        .end();
    let rig = Rig::new();
    rig.fetch(&artifact(rig.source("x.tar", &archive))).unwrap();
    let modes = |top: &Path| {
        ["suid", "dir", "dir/sgid"].map(|name| top.join(name).metadata().unwrap().mode() & 0o7777)
    };
    assert_eq!(modes(&rig.local("")), [0o755, 0o777, 0o755]);
    // Whoever unpacks what is written there has them.
    let out = rig.directory.path().join("tar");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("x.tar"), archive).unwrap();
    run("tar", &["--no-same-owner", "-xpf", "x.tar"], &out);
    assert_eq!(modes(&out), [0o6755, 0o3777, 0o2755]);
}

/// Covers: RUSTSEC-2018-0002, CVE-2024-6717
#[test]
fn hostile_archives_are_refused_and_touch_nothing_outside() {
    let outside = "../../outside";
    let named = |name: &'static [u8], kind, size| Head { name, kind, size, ..Head::default() };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("absolute", Tar::new().file("/etc/bivouac-test", b"x").end()),
        ("up", Tar::new().file(outside, b"x").end()),
        ("up inside", Tar::new().file("a/../../b", b"x").end()),
        ("empty name", Tar::new().head(&named(b"", b'0', 0)).end()),
        ("dot as file", Tar::new().file(".", b"x").end()),
        ("slash", Tar::new().kind("/", b'5', "").end()),
        ("link out", Tar::new().kind("l", b'2', outside).end()),
        ("link absolute", Tar::new().kind("l", b'2', "/etc").end()),
        ("link then through", Tar::new().kind("l", b'2', ".").file("l/x", b"x").end()),
        (
            "link to link",
            Tar::new().kind("d/l", b'2', "..").kind("x", b'2', "d/l/..").file("x/outside", b"x").end(),
        ),
        ("link then directory", Tar::new().kind("l", b'2', "x").kind("l", b'5', "").file("l/y", b"").end()),
        ("loop", Tar::new().kind("a", b'2', "b").kind("b", b'2', "a").file("a/x", b"").end()),
        ("hard out", Tar::new().kind("h", b'1', outside).end()),
        ("hard absolute", Tar::new().kind("h", b'1', "/etc/passwd").end()),
        ("hard to link", Tar::new().kind("l", b'2', "f").kind("h", b'1', "l").end()),
        ("hard to itself", Tar::new().file("h", b"").kind("h", b'1', "h").end()),
        ("hard to later", Tar::new().kind("h", b'1', "f").file("f", b"").end()),
        (
            "hard with content",
            Tar::new()
                .file("f", b"")
                .head(&Head { kind: b'1', link: b"f", size: 3, name: b"h", ..Head::default() })
                .content(b"abc")
                .end(),
        ),
        ("device", Tar::new().kind("d", b'3', "").end()),
        ("block device", Tar::new().kind("d", b'4', "").end()),
        ("fifo", Tar::new().kind("p", b'6', "").end()),
        ("sparse", Tar::new().kind("s", b'S', "").end()),
        ("pax sparse", Tar::new().pax(&[("GNU.sparse.major", "1")]).file("s", b"x").end()),
        ("volume", Tar::new().kind("v", b'V', "").end()),
        ("unknown", Tar::new().kind("u", b'Z', "").end()),
        ("directory with content", Tar::new().head(&named(b"d", b'5', 512)).content(&[1; 512]).end()),
        ("pax size 0", Tar::new().pax(&[("size", "0")]).file("x", &[7; 1024]).end()),
        (
            "pax size against 0",
            Tar::new().pax(&[("size", "1024")]).head(&named(b"x", b'0', 0)).content(&[7; 1024]).end(),
        ),
        ("pax size larger", Tar::new().pax(&[("size", "1536")]).file("x", &[7; 512]).file("y", &[]).end()),
        ("pax path twice", Tar::new().pax(&[("path", "a"), ("path", "b")]).file("x", b"").end()),
        ("pax twice", Tar::new().pax(&[("path", "a")]).pax(&[("path", "b")]).file("x", b"").end()),
        ("pax and gnu", Tar::new().pax(&[("path", "a")]).extended(b'L', b"b\0").file("x", b"").end()),
        ("pax up", Tar::new().pax(&[("path", outside)]).file("x", b"evil").end()),
        ("pax link up", Tar::new().pax(&[("linkpath", outside)]).kind("x", b'2', "fine").end()),
        ("pax bad length", Tar::new().extended(b'x', b"99 path=a\n").file("x", b"").end()),
        ("pax short length", Tar::new().extended(b'x', b"5 path=a\n").file("x", b"").end()),
        ("pax nul", Tar::new().pax(&[("path", "a\0b")]).file("x", b"").end()),
        ("pax negative size", Tar::new().pax(&[("size", "-1")]).file("x", b"").end()),
        ("pax 1 GiB", Tar::new().head(&named(b"x", b'x', 1 << 30)).end()),
        ("global path", Tar::new().extended(b'g', b"10 path=a\n").file("x", b"").end()),
        ("long without entry", Tar::new().extended(b'L', b"a\0").end()),
        ("long 5 KiB", Tar::new().extended(b'L', "x/".repeat(2500).as_bytes()).file("x", b"").end()),
        ("deep", Tar::new().extended(b'L', "d/".repeat(1000).as_bytes()).file("x", b"").end()),
        ("file over directory", Tar::new().file("d/x", b"").file("d", b"").end()),
        ("directory over file", Tar::new().file("d", b"").file("d/x", b"").end()),
        ("name of 300", Tar::new().extended(b'L', "x".repeat(300).as_bytes()).file("x", b"").end()),
    ];
    for (name, archive) in cases {
        let ours = unpacked("x.tar", &archive);
        assert!(ours.is_err(), "{name}: {ours:?}");
    }
}

/// Covers: RUSTSEC-2018-0002
#[test]
fn damaged_headers_and_cut_archives_are_refused() {
    let whole =
        Tar::new().file("a", &[1; 700]).kind("l", b'2', "a").pax(&[("path", "b")]).file("x", &[2; 10]).end();
    let good = unpacked("x.tar", &whole).unwrap();
    for cut in (0..whole.len() - 1024).step_by(512) {
        assert!(unpacked("x.tar", &whole[..cut]).is_err(), "cut at {cut}");
    }
    // One block of zeros is an end as well.
    assert_eq!(unpacked("x.tar", &whole[..whole.len() - 512]).unwrap(), good);
    let changed = |at: usize, bytes: &[u8], sum: bool| {
        let mut archive = whole.clone();
        archive[at..at + bytes.len()].copy_from_slice(bytes);
        if sum {
            archive[148..156].copy_from_slice(b"        ");
            let total: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
            archive[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
        }
        unpacked("x.tar", &archive)
    };
    for (name, at, bytes, sum) in [
        ("checksum", 0, &b"b"[..], false),
        ("octal junk", 124, b"0000x", true),
        ("size 8", 124, b"00000000018", true),
        ("base 256 negative", 124, &[0xff; 12], true),
        ("base 256 of 2^64", 124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], true),
        ("base 256 of 2^63", 124, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], true),
        ("mode junk", 100, b"abc", true),
    ] {
        assert!(changed(at, bytes, sum).is_err(), "{name}");
    }
    let base256 = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0xbc];
    assert_eq!(changed(124, &base256, true).unwrap(), good, "700 in base 256");
}

/// Covers: CVE-2023-0475, Z10
#[test]
fn bombs_end_at_their_limits() {
    let mut rig = Rig::new();
    rig.fetcher.limits.unpacked_bytes = 2_000_000;
    rig.fetcher.limits.entries = 1000;
    let zeros = rig.directory.path().join("zeros");
    std::fs::write(&zeros, vec![0; 4_000_000]).unwrap();
    run("gzip", &["-kn", "zeros"], rig.directory.path());
    let source = format!("file://{}/zeros.gz", rig.directory.path().display());
    run("chmod", &["644", "zeros.gz"], rig.directory.path());
    let error = rig.fetch(&artifact(source)).unwrap_err().to_string();
    assert!(error.contains("more than 2000000 bytes unpacked"), "{error}");
    let many = (0..1001).fold(Tar::new(), |tar, at| tar.file(&format!("f{at}"), b"")).end();
    let error = rig.fetch(&artifact(rig.source("many.tar", &many))).unwrap_err().to_string();
    assert!(error.contains("more than 1000 files"), "{error}");
    let same = (0..900).fold(Tar::new(), |tar, _| tar.file("same", b"x")).end();
    rig.fetch(&artifact(rig.source("same.tar", &same))).unwrap();
    assert_eq!(rig.read("same"), b"x");
    // Zeros behind the end mark burn time only.
    let mut behind = Tar::new().file("x", b"").end();
    behind.resize(80 << 20, 0);
    std::fs::write(&zeros, &behind).unwrap();
    run("gzip", &["-fkn1", "zeros"], rig.directory.path());
    run("mv", &["zeros.gz", "zeros.tar.gz"], rig.directory.path());
    run("chmod", &["644", "zeros.tar.gz"], rig.directory.path());
    rig.fetcher.limits.unpacked_bytes = 100 << 20;
    let error =
        rig.fetch(&artifact(format!("file://{}/zeros.tar.gz", rig.directory.path().display()))).unwrap_err();
    assert!(error.to_string().contains("end mark"), "{error}");
}

/// Covers: CVE-2023-0475
#[test]
fn a_ratio_beyond_all_sense_is_refused() {
    let mut rig = Rig::new();
    rig.fetcher.limits.ratio = 100;
    let directory = rig.directory.path().to_path_buf();
    run("sh", &["-c", "head -c 300000000 /dev/zero | xz -0 > bomb.xz && chmod 644 bomb.xz"], &directory);
    let error =
        rig.fetch(&artifact(format!("file://{}/bomb.xz", directory.display()))).unwrap_err().to_string();
    assert!(error.contains("times as many"), "{error}");
}

fn program(name: &str) -> bool {
    std::env::var("PATH").unwrap_or_default().split(':').any(|folder| Path::new(folder).join(name).exists())
}

#[test]
fn every_kind_is_unpacked_by_name_and_by_option() {
    let rig = Rig::new();
    let work = rig.directory.path().join("work");
    std::fs::create_dir_all(work.join("in/d")).unwrap();
    std::fs::write(work.join("in/d/f"), b"content").unwrap();
    std::fs::write(work.join("in/x"), vec![b'x'; 100_000]).unwrap();
    std::fs::set_permissions(work.join("in/x"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("d/f", work.join("in/l")).unwrap();
    let expected = tree(&work.join("in"));
    let mut kinds = vec![
        ("tar", "-cf"),
        ("tar.gz", "-czf"),
        ("tgz", "-czf"),
        ("tar.bz2", "-cjf"),
        ("tar.xz", "-cJf"),
        ("tar.zst", "--zstd -cf"),
    ];
    if program("zip") {
        kinds.push(("zip", ""));
    }
    run("chmod", &["-R", "a+rX", "."], &work);
    for (kind, flags) in kinds {
        let named = format!("a.{kind}");
        match kind {
            "zip" => run("sh", &["-c", "cd in && zip -qry ../a.zip ."], &work),
            _ => run("sh", &["-c", &format!("tar {flags} {named} -C in .")], &work),
        };
        run("cp", &[&named, "plain"], &work);
        for (source, options) in [(named.as_str(), vec![]), ("plain", vec![("archive", kind)])] {
            let mut artifact =
                with_options(artifact(format!("file://{}/{source}", work.display())), &options);
            artifact.destination = format!("local/{kind}-{source}");
            rig.fetch(&artifact).unwrap_or_else(|error| panic!("{kind} {source}: {error}"));
            assert_eq!(tree(&rig.local(&format!("{kind}-{source}"))), expected, "{kind} {source}");
        }
    }
    // Kept as a file, and one file of an archive.
    let kept = with_options(artifact(format!("file://{}/a.tar.gz", work.display())), &[("archive", "false")]);
    rig.fetch(&kept).unwrap();
    assert_eq!(rig.read("a.tar.gz"), std::fs::read(work.join("a.tar.gz")).unwrap());
    std::fs::write(work.join("one.gz"), b"").unwrap();
    run("sh", &["-c", "gzip -c in/x > one.gz"], &work);
    rig.fetch(&artifact(format!("file://{}/one.gz", work.display()))).unwrap();
    assert_eq!(rig.read("one").len(), 100_000);
    rig.fetch(&to_file(artifact(format!("file://{}/one.gz", work.display())), "local/deep/named")).unwrap();
    assert_eq!(rig.read("deep/named").len(), 100_000);
    let several = rig.fetch(&to_file(artifact(format!("file://{}/a.tar", work.display())), "local/one-file"));
    assert!(several.unwrap_err().to_string().contains("exactly one file"));
    // A part of an archive.
    let mut part = artifact(format!("file://{}/a.tar//d", work.display()));
    part.destination = "local/part".to_owned();
    rig.fetch(&part).unwrap();
    assert_eq!(tree(&rig.local("part")).keys().collect::<Vec<_>>(), ["f"]);
    let through_link = artifact(format!("file://{}/a.tar//l", work.display()));
    assert!(matches!(rig.fetch(&through_link), Err(FetchError::Deposit { .. })));
}
