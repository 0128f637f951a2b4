//! Addresses, good and bad.

use super::*;

fn parse(source: &str) -> Result<Address, BadAddress> {
    Address::parse(source, &BTreeMap::new())
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Covers: W53
#[test]
fn a_web_address_keeps_its_own_query_and_loses_ours() {
    let address =
        parse("https://joe:s%3Acret@h.example:8443/a/b.tar.gz//in/side?v=1&archive=zip&x=a%2Fb").unwrap();
    let Getter::Http(web) = &address.getter else { panic!("{address:?}") };
    assert_eq!(web.url, "https://h.example:8443/a/b.tar.gz?v=1&x=a%2Fb");
    assert_eq!(web.login, Some(Login { user: "joe".to_owned(), password: "s:cret".to_owned() }));
    assert_eq!(address.part.as_deref(), Some("in/side"));
    assert_eq!(address.unpacking, Unpacking::As(ArchiveKind::Zip));
    assert_eq!(address.file_name, "b.tar.gz");
    assert_eq!(address.shown, "https://h.example:8443/a/b.tar.gz");
    assert!(!format!("{address:?}").contains("cret"), "{address:?}");
}

#[test]
fn options_win_over_the_query() {
    let address = Address::parse(
        "http://h/x?archive=zip&filename=a",
        &options(&[("archive", "false"), ("filename", "b")]),
    );
    let address = address.unwrap();
    assert_eq!((address.unpacking, address.file_name.as_str()), (Unpacking::Never, "b"));
}

#[test]
fn repositories_are_found_by_getter_scheme_and_short_hand() {
    let git = |source: &str| match parse(source).unwrap() {
        Address { getter: Getter::Git(repository), part, .. } => (repository, part),
        other => panic!("{other:?}"),
    };
    let (repository, part) = git("git::https://h/x.git//sub?ref=v1.2&depth=1");
    assert_eq!((repository.url.as_str(), part.as_deref()), ("https://h/x.git", Some("sub")));
    assert_eq!((repository.reference.as_deref(), repository.depth), (Some("v1.2"), Some(1)));
    assert_eq!(git("github.com/owner/repo//a/b").0.url, "https://github.com/owner/repo.git");
    assert_eq!(git("github.com/owner/repo//a/b").1.as_deref(), Some("a/b"));
    assert_eq!(git("git@host.example:team/x.git?ref=main").0.url, "ssh://git@host.example/team/x.git");
    assert_eq!(git("git://h/x").0.url, "git://h/x");
    let repository = git("git::https://jo%40e:s%3Acret@h:8443/a@b/x.git//sub?ref=v1").0;
    assert_eq!(repository.url, "https://h:8443/a@b/x.git", "no login stays in it");
    assert_eq!(repository.login, Some(Login { user: "jo@e".to_owned(), password: "s:cret".to_owned() }));
    let token = git("git::https://t0ken@h/x").0;
    assert_eq!((token.url.as_str(), token.login.unwrap().user.as_str()), ("https://h/x", "t0ken"));
}

/// Covers: CVE-2024-3817, CVE-2022-26945
#[test]
fn hostile_addresses_are_refused() {
    for source in [
        "",
        " ",
        "x",
        "/etc/passwd",
        "./local",
        "data:text/plain,x",
        "https://",
        "https:///x",
        "http://h:0/x",
        "http://h:65536/x",
        "http://h:x/",
        "http://[fe80::1%25eth0]/x",
        "http://[::1/x",
        "http://h ost/x",
        "http://h\u{0}/x",
        "http://h\r\nX: y/x",
        "http://\u{e4}.example/x",
        "ext::sh -c id",
        "ext::id",
        "git::ext::id",
        "git::file:///srv/x.git",
        "git::https://-oProxyCommand=id/x",
        "git::ssh://-oProxyCommand=x/y",
        "git::ssh://h/x?ref=--upload-pack=id",
        "git::https://h/x?ref=-x",
        "git::https://h/x?ref=a..b",
        "git::https://h/x?depth=-1",
        "git::https://h/x?checksum=md5:00",
        "https://h/x//../../etc",
        "https://h/x//a/../../b",
        "https://h/x?archive=rar",
        "https://h/x?filename=../x",
        "https://h/x?filename=%2e%2e",
        "https://h/x?checksum=sha256:00",
        "https://h/x?checksum=crc:00",
        "file://host/x",
        "file:x",
        "file:///a%00b",
        "s3::https://s3.amazonaws.com/b/k",
        "hg::http://h/x",
        "gcs::https://www.googleapis.com/storage/v1/b/k",
        "bucket.s3.amazonaws.com/key",
        "ftp://h/x",
        "git::https://u@-h/x",
        "git::ssh://u:p@h/x",
        "git::git://u:p@h/x",
    ] {
        let refused = parse(source);
        assert!(refused.is_err(), "{source:?}: {refused:?}");
    }
    assert!(parse(&format!("http://h/{}", "x".repeat(20_000))).is_err());
    let text = parse("s3::https://s3.amazonaws.com/b/k").unwrap_err().to_string();
    assert!(text.contains("\"s3\" sources are not fetched"), "{text}");
}

#[test]
fn names_come_from_the_last_part_of_the_path() {
    for (source, name) in [
        ("http://h/a/b%20c.bin", "b c.bin"),
        ("http://h/a/", "a"),
        ("http://h", "artifact"),
        ("http://h/%2e%2e", "artifact"),
        ("http://h/a%2Fb", "artifact"),
        ("http://h/x?filename=y.zip", "y.zip"),
    ] {
        assert_eq!(parse(source).unwrap().file_name, name, "{source}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics_and_no_name_escapes(source in ".{0,80}", head in "(https://|git::|file:///|github.com/|)") {
        if let Ok(address) = parse(&format!("{head}{source}")) {
            proptest::prop_assert!(!address.file_name.contains('/') && address.file_name != "..");
            proptest::prop_assert!(!address.part.unwrap_or_default().split('/').any(|name| name == ".."));
        }
    }
}
