//! Input that wants to hurt: no panic, no overflow, an answer in time, and errors with a place.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it skips")]

use bivouac_jobspec::{Input, SourceFile, parse};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn run(bytes: impl Into<Vec<u8>>) -> Result<(), String> {
    let input = Input { job: SourceFile::new("x.nomad.hcl", bytes), ..Input::default() };
    let start = Instant::now();
    let shown = String::from_utf8_lossy(&input.job.bytes).chars().take(200).collect::<String>();
    let result = parse(&input).map(|_| ()).map_err(|errors| {
        errors.render(true);
        errors.to_string()
    });
    // The bar is one second for an optimised build; tests are not optimised, and the machine may be loaded.
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}: {shown}", start.elapsed());
    result
}

fn refused(name: &str, bytes: impl Into<Vec<u8>>) {
    let error = run(bytes).expect_err(name);
    assert!(error.starts_with("x.nomad.hcl:"), "{name}: no place: {error}");
}

fn meta(expr: &str) -> String {
    format!("job \"j\" {{\n meta = {{ a = {expr} }}\n}}\n")
}

fn task(config: &str) -> String {
    format!(
        "job \"j\" {{\n group \"g\" {{\n task \"t\" {{\n driver = \"exec\"\n config {{\n{config}\n}}\n}}\n}}\n}}\n"
    )
}

#[test]
fn nesting() {
    for (open, close) in
        [("[", "]"), ("{", "}"), ("(", ")"), ("\"${", "}\""), ("!", ""), ("-", ""), ("%{", "}")]
    {
        refused(open, meta(&open.repeat(100_000)));
        refused(open, meta(&format!("{}1{}", open.repeat(100_000), close.repeat(100_000))));
    }
    refused("blocks", "a {\n".repeat(100_000));
    refused("one block each", "a {}\n".repeat(200_000));
    refused("if", meta(&format!("\"{}\"", "%{ if true }".repeat(50_000))));
    refused("operators", meta(&"1+".repeat(50_000)));
    refused("conditions", meta(&format!("{}1", "true ? 1 : ".repeat(10_000))));
    refused(
        "keys",
        format!(
            "job \"j\" {{\n meta = {{\n{}}}\n}}",
            (0..50_000).map(|n| format!("k{n} = 1\n")).collect::<String>()
        ),
    );
    refused("large", vec![b'a'; 2 << 20]);
}

#[test]
fn encodings() {
    refused("mark", "\u{feff}job \"a\" {}");
    refused("utf-16", [0xff, 0xfe, b'j', 0]);
    refused("invalid", b"job \"\xff\" {}".to_vec());
    refused("nul", "job \"a\0\" {}");
    refused("carriage return", "job \"a\" {\r group \"g\" {\r}\r}");
    refused("only a mark", "\u{feff}");
}

#[test]
fn blow_ups() {
    let ten = "range(1000)";
    for expr in [
        "range(1000000000)".to_owned(),
        "range(0, 1, 0.000001)".to_owned(),
        format!("jsonencode([for a in {ten} : [for b in {ten} : [for c in {ten} : 1]]])"),
        format!("join(\"\", [for a in {ten} : join(\"\", [for b in {ten} : format(\"%4000d\", b)])])"),
        format!("length(setproduct({ten}, {ten}, {ten}))"),
        format!("indent(1000000000, {:?})", "\n".repeat(50).replace('\n', "\\n")).replace("\\\\n", "\\n"),
        "format(\"%999999999d\", 1)".to_owned(),
        format!("length(distinct([for a in {ten} : [for b in {ten} : a + b]]))"),
        format!("replace(join(\"a\", {ten}), \"\", join(\"b\", {ten}))"),
        "regex_replace(join(\"\", range(1000)), \"(.*)*(.*)*(.*)*$\", \"$1$1$1\")".to_owned(),
        "regex_replace(\"x\", \"((a{1000}){1000}){1000}\", \"\")".to_owned(),
        "pow(10, 100000)".to_owned(),
    ] {
        refused(&expr, meta(&expr));
    }
    let mut doubling = String::from("locals {\n a0 = \"0123456789\"\n");
    for n in 1..40 {
        doubling.push_str(&format!(" a{n} = \"${{local.a{}}}${{local.a{}}}\"\n", n - 1, n - 1));
    }
    refused("doubling strings", doubling + "}\njob \"j\" {}\n");
    let mut lists = String::from("locals {\n a0 = [1, 2, 3]\n");
    for n in 1..40 {
        lists.push_str(&format!(" a{n} = [local.a{}, local.a{}]\n", n - 1, n - 1));
    }
    refused("doubling lists", lists.clone() + " z = jsonencode(local.a39)\n}\njob \"j\" {}\n");
    refused("doubling lists in a config", lists.clone() + "}\n" + &task("x = local.a39"));
    refused("doubling lists compared", lists.clone() + " z = local.a39 == local.a39\n}\njob \"j\" {}\n");
    let nested =
        "[for a in [[1, 1]] : ".to_owned() + &"[for a in [[a, a]] : ".repeat(30) + "a" + &"]".repeat(31);
    refused("doubling loops", task(&format!("x = {nested}")));
    let chain: String = (0..3_000).map(|n| format!(" a{n} = local.a{}\n", n + 1)).collect();
    refused("a chain of locals", format!("locals {{\n{chain}}}\njob \"j\" {{}}\n"));
}

#[test]
fn many_tasks() {
    let tasks: String = (0..10_000).map(|n| format!("task \"t{n}\" {{\n driver = \"exec\"\n}}\n")).collect();
    let _ = run(format!("job \"j\" {{\n group \"g\" {{\n{tasks}}}\n}}\n"));
}

fn seeds() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "hcl"));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = run(bytes);
    }

    #[test]
    fn any_words(words in proptest::collection::vec(prop_oneof![
        Just("job"), Just("\"a\""), Just("{"), Just("}"), Just("\n"), Just("["), Just("]"), Just("("), Just(")"),
        Just("${"), Just("%{ for x in "), Just("%{ endfor }"), Just("~}"), Just("\""), Just("="), Just(","), Just("."),
        Just("*"), Just("?"), Just(":"), Just("<<-EOT\n"), Just("\nEOT\n"), Just("for"), Just("in"), Just("if"),
        Just("var"), Just("local.a"), Just("1"), Just("-"), Just("!"), Just("null"), Just("=>"), Just("..."), Just("é"),
    ], 0..60)) {
        let _ = run(words.join(" "));
    }

    #[test]
    fn changed_files(seed in any::<prop::sample::Index>(), edits in proptest::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6)) {
        let seeds = seeds();
        let mut bytes = seed.get(&seeds).clone().into_bytes();
        for (from, to, byte, how) in edits {
            if bytes.is_empty() {
                break;
            }
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            match how {
                0 => bytes[from] = byte,
                1 => { bytes.remove(from); }
                2 => bytes.truncate(from),
                _ => {
                    let copy = bytes[from.min(to)..from.max(to)].to_vec();
                    let at = to;
                    bytes.splice(at..at, copy);
                }
            }
        }
        let _ = run(bytes);
    }
}
