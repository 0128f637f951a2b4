//! What the client sends, and what a broken one might.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn options() -> Vec<Opt> {
    let opt = |name, kind| Opt { name, kind, required: false, default: None, help: "" };
    vec![
        Opt { required: true, ..opt("command", Kind::Text) },
        opt("args", Kind::TextList),
        Opt { default: Some(Value::Count(4096)), ..opt("pids_limit", Kind::Count) },
        opt("share", Kind::Number),
        opt("init", Kind::Flag),
        opt("ulimit", Kind::TextMap),
        opt(
            "mount",
            Kind::Blocks(vec![Opt { required: true, ..opt("target", Kind::Text) }, opt("mode", Kind::Count)]),
        ),
        opt("limits", Kind::Block(vec![opt("depth", Kind::Count)])),
    ]
}

fn packed(value: serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(&value).unwrap()
}

fn error(value: serde_json::Value) -> String {
    decode(&packed(value), &options()).unwrap_err().to_string()
}

#[test]
fn what_the_client_sends_is_read() {
    let sent = json!({
        "command": "/bin/echo", "args": ["a", ""], "pids_limit": null, "share": "0.1", "init": true,
        "ulimit": {"nofile": "1024"}, "mount": [{"target": "/x", "mode": null}], "limits": null,
    });
    let values = decode(&packed(sent), &options()).unwrap();
    insta::assert_debug_snapshot!(values);
}

#[test]
fn a_count_may_come_in_three_shapes() {
    for sent in [json!(7), json!(7.0), json!("7")] {
        let values = decode(&packed(json!({"command": "x", "pids_limit": sent})), &options()).unwrap();
        assert_eq!(values.count("pids_limit"), Some(7));
    }
}

#[test]
fn nothing_at_all_is_an_empty_block() {
    let none: &[Opt] = &[];
    assert_eq!(decode(&[], none), Ok(Values::default()));
    assert_eq!(decode(&[0xc0], none), Ok(Values::default()));
    assert_eq!(decode(&[], &options()).unwrap_err(), ConfigError::Missing { path: "command".into() });
}

#[test]
fn errors_name_the_option_what_was_given_and_what_is_allowed() {
    insta::assert_snapshot!(error(json!({"command": 1})), @"option command: expected text, got 1");
    insta::assert_snapshot!(error(json!({"command": null})), @"option command is required");
    insta::assert_snapshot!(error(json!({"command": "x", "pids_limit": 0.5})), @"option pids_limit: expected a whole number, got 0.5");
    insta::assert_snapshot!(error(json!({"command": "x", "pids_limit": "1e3"})), @r#"option pids_limit: expected a whole number, got "1e3""#);
    insta::assert_snapshot!(error(json!({"command": "x", "args": ["a", 2]})), @"option args.1: expected text, got 2");
    insta::assert_snapshot!(error(json!({"command": "x", "ulimit": {"nofile": []}})), @"option ulimit.nofile: expected text, got a list of 0");
    insta::assert_snapshot!(error(json!({"command": "x", "mount": [{"target": "/a"}, {}]})), @"option mount.1.target is required");
    insta::assert_snapshot!(error(json!({"command": "x", "limits": {"deep": 1}})), @"there is no option limits.deep");
    insta::assert_snapshot!(error(json!({"command": "x", "share": "NaN"})), @r#"option share: expected a number, got "NaN""#);
    insta::assert_snapshot!(error(json!([1])), @"option config: expected a block, got a list of 1");
}

#[test]
fn hostile_bytes_are_refused_not_believed() {
    let deep: Vec<u8> = std::iter::repeat_n(0x91, 100_000).collect();
    let map32: &[u8] = &[0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, b'a'];
    let str32: &[u8] = &[0x81, 0xa1, b'a', 0xdb, 0xff, 0xff, 0xff, 0xff, b'x'];
    let array32: &[u8] = &[0xdd, 0x80, 0, 0, 0];
    let twice: &[u8] = &[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2];
    let number_key: &[u8] = &[0x81, 1, 1];
    let ext: &[u8] = &[0x81, 0xa1, b'a', 0xd4, 5, 0];
    let more: &[u8] = &[0x80, 0x80];
    for bytes in [&deep[..], map32, str32, array32, twice, number_key, ext, more, &[0xc1]] {
        let result = decode(bytes, &options());
        assert!(matches!(result, Err(ConfigError::Unreadable(_))), "{:?}: {result:?}", bytes.get(..8));
    }
}

#[test]
fn text_that_is_no_text_is_refused() {
    let not_utf8: &[u8] = &[0x81, 0xa7, b'c', b'o', b'm', b'm', b'a', b'n', b'd', 0xc4, 1, 0xff];
    assert!(decode(not_utf8, &options()).is_err());
    let nan: &[u8] = &[
        0x82, 0xa7, b'c', b'o', b'm', b'm', b'a', b'n', b'd', 0xa1, b'x', 0xa5, b's', b'h', b'a', b'r', b'e',
        0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(decode(nan, &options()).unwrap_err().to_string(), "option share: expected a number, got NaN");
}

#[test]
fn every_truncation_is_refused() {
    let whole = packed(json!({"command": "x", "args": ["a"], "share": 0.25, "mount": [{"target": "/x"}]}));
    for end in 1..whole.len() {
        let cut = whole.get(..end).unwrap();
        assert!(matches!(decode(cut, &options()), Err(ConfigError::Unreadable(_))), "{end} bytes");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, &options());
    }

    #[test]
    fn texts_survive(command in ".*", args in proptest::collection::vec(".*", 0..5), limit in any::<i64>()) {
        let values = decode(&packed(json!({"command": command, "args": args, "pids_limit": limit})), &options()).unwrap();
        prop_assert_eq!(values.text("command"), Some(command.as_str()));
        prop_assert_eq!(values.list("args"), Some(args.as_slice()));
        prop_assert_eq!(values.count("pids_limit"), Some(limit));
    }
}
