//! Templates, good and hostile, rendered in this process, and files that tasks have prepared.

use super::helper::evaluate;
use super::render::read_file;
use super::{Missing, Order, deliver};
use bivouac_artifact::place::{Owner, Roots};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;

fn order(text: &str) -> Order {
    let env = BTreeMap::from([("NAME".to_owned(), "world".to_owned()), ("PORT".to_owned(), "80".to_owned())]);
    Order { text: text.to_owned(), left: "{{".into(), right: "}}".into(), missing: Missing::Empty, env }
}

fn rendered(order: &Order) -> Result<String, String> {
    evaluate(
        order,
        Arc::new(|path| if path == "f" { Ok("{\"a\":[1,2]}".to_owned()) } else { Err("refused".to_owned()) }),
    )
}

/// Covers: W57
#[test]
fn functions_of_consul_template() {
    for (text, expected) in [
        ("Hello {{ env \"NAME\" }}{{ env \"NONE\" }}", "Hello world"),
        ("{{ envOrDefault \"NONE\" \"x\" }} {{ mustEnv \"PORT\" }}", "x 80"),
        ("{{ with file \"f\" | parseJSON }}{{ range .a }}<{{ . }}>{{ end }}{{ end }}", "<1><2>"),
        ("{{ \"a,b\" | split \",\" | join \"-\" | toUpper }}", "A-B"),
        ("{{ base64Encode \"hi\" }} {{ base64Decode \"aGk=\" }}", "aGk= hi"),
        (
            "{{ 5 | subtract 2 }} {{ 7 | divide 2 }} {{ 7 | modulo 4 }} {{ add 1 2 }} {{ multiply 2 3.5 }}",
            "3 3 3 3 7",
        ),
        (
            "{{ parseInt \"42\" | add 1 }} {{ minimum 2 3 }} {{ maximum 2 3 }} {{ parseBool \"true\" }}",
            "43 2 3 true",
        ),
        ("{{ range loop 3 }}{{ . }}{{ end }}{{ range loop 2 4 }}{{ . }}{{ end }}", "01223"),
        ("{{ \"x y\" | toTitle }}{{ \"  t \" | trimSpace }}{{ \"pre-x\" | trimPrefix \"pre-\" }}", "X Ytx"),
        ("{{ regexMatch \"^a+$\" \"aaa\" }} {{ \"a1b2\" | regexReplaceAll \"[0-9]\" \"#\" }}", "true a#b#"),
        ("{{ \"a\\nb\" | indent 2 }}", "  a\n  b"),
        ("{{ parseYAML \"a: [1, x]\" | toJSON }}", "{\"a\":[1,\"x\"]}"),
        ("{{ \"{\\\"a\\\": \\\"<\\\"}\" | parseJSON | toJSON }}", "{\"a\":\"\\u003c\"}"),
        ("{{ sha256Hex \"\" }}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            "{{ hmacSHA256Hex \"what do ya want for nothing?\" \"Jefe\" }}",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "{{ containsAny (split \",\" \"a,b\") (split \",\" \"b\") }} {{ in (split \",\" \"a,b\") \"c\" }}",
            "true false",
        ),
        ("{{- $x := 1 }}{{ if eq $x 1 }}one{{ else }}other{{ end -}}  ", "one"),
    ] {
        assert_eq!(rendered(&order(text)), Ok(expected.to_owned()), "{text}");
    }
    let mut custom = order("<% env \"NAME\" %> {{ }}");
    (custom.left, custom.right) = ("<%".into(), "%>".into());
    assert_eq!(rendered(&custom).unwrap(), "world {{ }}");
}

/// Covers: W57, CVE-2019-14802
#[test]
fn what_reaches_out_or_never_ends_is_refused() {
    for (text, says) in [
        ("{{ plugin \"id\" }}", "plugin needs"),
        ("{{ writeToFile \"/etc/x\" \"root\" \"root\" \"0644\" \"x\" }}", "writeToFile needs"),
        ("{{ key \"x\" }}", "needs Consul"),
        ("{{ secret \"x\" }}", "needs Vault"),
        ("{{ nomadVar \"x\" }}", "needs a Nomad server"),
        ("{{ file \"/etc/passwd\" }}", "refused"),
        ("{{ mustEnv \"NONE\" }}", "is not set"),
        ("{{ nothing }}", ""),
        ("{{ if true }}", "has no `end`"),
        ("{{ range loop 1000000000 }}x{{ end }}", "more than 1000000"),
        ("{{ range loop 1000000 }}{{ range loop 1000000 }}x{{ end }}{{ end }}", ""),
        ("{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}", ""),
        ("{{ 1 | divide 0 }}", "division by zero"),
        ("{{ slice \"abc\" 2 9 }}", ""),
        ("{{ range loop 20000 }}{{ printf \"%1000d\" 1 }}{{ end }}", "larger than 16 MiB"),
        ("{{ regexMatch \"(\" \"x\" }}", ""),
        ("{{ parseInt \"x\" }}", "cannot be read"),
    ] {
        let error = rendered(&order(text)).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
    let mut bad = order("x");
    bad.right = bad.left.clone();
    assert!(rendered(&bad).is_err());
    bad.left = String::new();
    assert!(rendered(&bad).is_err());
    let missing = "{{ with parseJSON \"{}\" }}{{ end }}{{ (parseJSON \"{\\\"a\\\":1}\").b }}";
    assert!(rendered(&order(missing)).is_ok());
    assert!(rendered(&Order { missing: Missing::Error, ..order(missing) }).is_err());
}

/// Covers: W57, CVE-2019-14802, CVE-2018-15664, W59
#[test]
fn links_of_a_task_lead_nowhere_else() {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let roots = Roots { task: path("task"), shared: path("alloc"), secrets: path("secrets") };
    for root in ["task/local", "alloc/data", "secrets", "outside"] {
        std::fs::create_dir_all(path(root)).unwrap();
    }
    std::fs::write(path("outside/victim"), "hidden").unwrap();
    std::fs::write(path("task/local/f"), "mine").unwrap();
    std::fs::write(path("alloc/data/f"), "shared").unwrap();
    symlink(path("outside/victim"), path("task/local/bait")).unwrap();
    symlink("f", path("task/local/inner")).unwrap();
    symlink(path("outside"), path("task/local/way")).unwrap();
    for (name, expected) in [
        ("local/f", "mine"),
        ("/local/inner", "mine"),
        ("../alloc/data/f", "shared"),
        ("/alloc/data/f", "shared"),
    ] {
        assert_eq!(read_file(&roots, name).unwrap(), expected, "{name}");
    }
    let fifo = path("task/local/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    for name in [
        "local/bait",
        "local/way/victim",
        "../../outside/victim",
        "../outside/victim",
        "local/fifo",
        "local",
        "local/none",
    ] {
        assert!(read_file(&roots, name).is_err(), "{name}");
    }
    let owner = Owner { uid: 12, gid: 34 };
    let put = |name: &str| deliver::deliver(&roots, name, "text", 0o640, owner);
    put("local/bait").unwrap();
    put("local/new/deep/f").unwrap();
    assert_eq!(std::fs::read_to_string(path("outside/victim")).unwrap(), "hidden");
    let metadata = path("task/local/bait").symlink_metadata().unwrap();
    assert!(
        metadata.is_file()
            && metadata.mode() & 0o777 == 0o640
            && (metadata.uid(), metadata.gid()) == (12, 34)
    );
    for name in ["local/way/f", "local", "..", "../../x", "local/f/x"] {
        assert!(put(name).is_err(), "{name}");
    }
    assert_eq!(std::fs::read_dir(path("outside")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(path("task/local")).unwrap().count(), 6, "a temporary file stays");
}

#[test]
fn what_a_killed_writer_left_is_removed_and_nothing_else() {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let roots = Roots { task: path("task"), shared: path("alloc"), secrets: path("secrets") };
    let (left, hex) = (".bivouac-0123456789abcdef01234567", "0123456789abcdef01234567");
    std::fs::create_dir_all(path("task/local/in")).unwrap();
    std::fs::create_dir_all(path("elsewhere")).unwrap();
    symlink(path("elsewhere"), path("task/local/way")).unwrap();
    let kept = [
        "task/local/in/.bivouac-copy-f".to_owned(),
        "task/local/in/.bivouac-new".to_owned(),
        format!("task/local/in/.bivouac-{hex}8"),
        format!("task/local/in/{hex}"),
        format!("elsewhere/{left}"),
    ];
    kept.iter().for_each(|name| std::fs::write(path(name), "x").unwrap());
    std::fs::write(path("task/local/in").join(left), "half a te").unwrap();
    deliver::clear(&roots, "local/in/page").unwrap();
    assert!(!path("task/local/in").join(left).exists());
    assert!(deliver::clear(&roots, "local/way/page").is_err(), "no link is followed");
    deliver::clear(&roots, "local/none/page").unwrap();
    assert!(deliver::clear(&roots, "../../elsewhere/page").is_err());
    assert!(kept.iter().all(|name| path(name).exists()));
    std::fs::create_dir(path("task/local/in").join(left)).unwrap();
    deliver::clear(&roots, "local/in/page").unwrap();
    assert!(path("task/local/in").join(left).exists(), "a directory is none of ours");
}

#[test]
fn changes_are_told_and_nothing_else() {
    let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let roots = Roots { task: path("task"), shared: path("alloc"), secrets: path("secrets") };
    std::fs::create_dir_all(path("task/local")).unwrap();
    let again =
        || super::watch::Watches::new(&roots, &["local/f".to_owned(), "local/late/g".to_owned()]).unwrap();
    let mut watches = again();
    assert!(!watches.take());
    std::fs::write(path("task/local/other"), "x").unwrap();
    assert!(!watches.take(), "another file");
    std::fs::write(path("task/local/f"), "x").unwrap();
    assert!(watches.take(), "written");
    std::fs::write(path("task/local/tmp"), "y").unwrap();
    std::fs::rename(path("task/local/tmp"), path("task/local/f")).unwrap();
    assert!(watches.take(), "renamed over");
    std::fs::create_dir(path("task/local/late")).unwrap();
    assert!(watches.take(), "a directory on the way");
    let mut watches = again();
    std::fs::write(path("task/local/late/g"), "x").unwrap();
    assert!(watches.take());
    std::fs::remove_file(path("task/local/f")).unwrap();
    assert!(watches.take(), "removed");
    assert!(!watches.take());
}
