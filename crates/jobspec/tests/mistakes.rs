//! Mistakes that people make, and what they read: one snapshot of the rendered errors per theme.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it skips")]

use bivouac_jobspec::{Feature, Input, SourceFile, Support, VariableSources, parse};
use std::fmt::Write as _;

fn errors(text: &str) -> String {
    let input = Input { job: SourceFile::new("job.nomad.hcl", text), ..Input::default() };
    match parse(&input) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            errors.render(false)
        }
    }
}

/// A job around lines of a task, a group, a job.
fn task(lines: &str) -> String {
    group(&format!("task \"t\" {{\n driver = \"exec\"\n{lines}\n}}"))
}

fn group(lines: &str) -> String {
    job(&format!("group \"g\" {{\n{lines}\n}}"))
}

fn job(lines: &str) -> String {
    format!("job \"j\" {{\n{lines}\n}}\n")
}

const T: &str = "task \"t\" {\n driver = \"exec\"\n}";

fn all(cases: &[String]) -> String {
    let mut out = String::new();
    for case in cases {
        writeln!(out, "{}", errors(case)).unwrap();
    }
    out
}

#[test]
fn syntax() {
    insta::assert_snapshot!(all(&[
        String::new(),
        "{ \"job\": {} }".into(),
        "job \"a\" {".into(),
        "job \"a\" {}".into(),
        "job {\n group \"g\" {\n".to_owned() + T + "\n}\n}",
        "job \"a\" \"b\" {\n group \"g\" {\n".to_owned() + T + "\n}\n}",
        "jbo \"a\" {\n}\n".into(),
        "x = 1\n".into(),
        job("meta { a = 1 b = 2 }"),
        job("meta {\n a = \"x\ny\"\n}"),
        job("meta {\n a = \"\\q\"\n}"),
        job("meta {\n a = \"\\ud800\"\n}"),
        job("meta {\n a = <<EOT\nno end\n}"),
        job("meta {\n a = 0x10\n}"),
        job("meta {\n a = 1_0\n}"),
        job("meta {\n a = \"${\"\n}"),
        job("type = \"batch\"\ntype = \"batch\""),
        job("meta = { a = 1, a = 2 }"),
    ]));
}

#[test]
fn names_and_kinds() {
    insta::assert_snapshot!(all(&[
        job("tpye = \"batch\""),
        job("type = \"bacth\""),
        job("type = [\"batch\"]"),
        job("priority = 200"),
        group("conut = 1\n task \"t\" {\n driver = \"docker\"\n}"),
        task("comand = \"x\""),
        task("resources = { cpu = 1 }"),
        task("resorces {\n cpu = 1\n}"),
        task("user {\n}"),
        task("env {\n A = [1]\n}"),
        task("env \"x\" {\n}"),
        task("kill_signal = \"SIGTREM\""),
        task("kill_timeout = \"5\""),
        task("kill_timeout = \"-1s\""),
        task("leader = \"maybe\""),
        task("config {}\nconfig {}"),
        task("vault {\n}\n"),
        group("consul {\n}\n".to_owned().as_str()),
        task("service {\n connect {\n}\n}"),
    ]));
}

#[test]
fn limits() {
    insta::assert_snapshot!(all(&[
        task("resources {\n cpu = 0\n}"),
        task("resources {\n cpu = 100\n cores = 1\n}"),
        task("resources {\n memory = 1\n}"),
        task("resources {\n memory = 1.5\n}"),
        task("resources {\n memory = 9223372036854775808\n}"),
        task("resources {\n memory = 100\n memory_max = 50\n}"),
        task("resources {\n secrets = 1000\n}"),
        task("resources {\n disk = 100\n}"),
        task("logs {\n max_files = 100\n}"),
        task("logs {\n max_file_size = 0\n}"),
        group("restart {\n interval = \"1s\"\n}\n".to_owned().as_str()),
        group(&format!("restart {{\n attempts = 10\n interval = \"1m\"\n delay = \"15s\"\n}}\n{T}")),
        group(&format!("restart {{\n attempts = 0\n mode = \"delay\"\n}}\n{T}")),
        group(&format!("max_run_duration = \"1h\"\n{T}")),
    ]));
}

#[test]
fn whole_groups() {
    let named = |name: &str| group(&format!("task \"{name}\" {{\n driver = \"exec\"\n}}"));
    insta::assert_snapshot!(all(&[
        group(""),
        group(&format!("{T}\n{T}")),
        named("alloc"),
        named(".."),
        named("a/b"),
        named("a\\\\b"),
        named("a\\nb"),
        named(&"n".repeat(300)),
        named(""),
        task("lifecycle {\n hook = \"prestart\"\n}"),
        group(
            "task \"a\" {\n driver = \"exec\"\n leader = true\n}\ntask \"b\" {\n driver = \"exec\"\n leader = true\n}"
        ),
        task("volume_mount {\n volume = \"x\"\n destination = \"/x\"\n}"),
        group(&format!("volume \"v\" {{\n type = \"csi\"\n source = \"x\"\n}}\n{T}")),
        task(
            "template {\n data = \"a\"\n destination = \"local/a\"\n}\ntemplate {\n data = \"b\"\n destination = \"local/a\"\n}"
        ),
        task("template {\n destination = \"../../etc/passwd\"\n data = \"\"\n perms = \"9\"\n}"),
        task("artifact {\n source = \"https://x/y\"\n options {\n checksum = \"md5:12\"\n }\n}"),
        task("dispatch_payload {\n file = \"../x\"\n}"),
        group(&format!("network {{\n mode = \"brigde\"\n}}\n{T}")),
        group(&format!(
            "network {{\n port \"a\" {{\n static = 0\n}}\n port \"b\" {{\n static = 65536\n}}\n}}\n{T}"
        )),
        group(&format!(
            "network {{\n port \"a\" {{\n static = 80\n}}\n port \"b\" {{\n static = 80\n}}\n}}\n{T}"
        )),
        group(&format!("network {{\n hostname = \"x\"\n}}\n{T}")),
    ]));
}

#[test]
fn expressions() {
    insta::assert_snapshot!(all(&[
        "locals {\n a = local.b\n b = local.c\n c = local.a\n}\njob \"j\" {\n}\n".into(),
        "locals {\n a = local.a\n}\njob \"j\" {\n}\n".into(),
        "variable \"x\" {\n}\njob \"j\" {\n}\n".into(),
        "variable \"x\" {\n type = strin\n}\njob \"j\" {\n}\n".into(),
        "variable \"x\" {\n type = number\n default = \"a\"\n}\njob \"j\" {\n}\n".into(),
        "variable \"x\" {\n default = 1\n validation {\n condition = var.x > 1\n error_message = \"Too small.\"\n }\n}\njob \"j\" {\n}\n".into(),
        job("meta = { a = var.none }"),
        job("meta = { a = uper(\"x\") }"),
        job("meta = { a = upper() }"),
        job("meta = { a = join(1, 2) }"),
        job("meta = { a = attr.x + 1 }"),
        job("meta = { a = 1 / 0 }"),
        job("meta = { a = [1][5] }"),
        job("meta = { a = [1][-1] }"),
        job("meta = { a = \"x${null}\" }"),
        job("meta = { a = \"x${[1]}\" }"),
        job("meta = { a.b = 1 }"),
        job("meta = { a = true ? [1] : \"x\" }"),
        job("meta = { for x in [1, 1] : x => x }"),
        job("meta = { a = range(1000000000) }"),
        job("meta = { a = file(\"/etc/passwd\") }"),
        job("meta = { a = bcrypt(\"x\") }"),
        job("dynamic \"group\" {\n for_each = 5\n content {\n}\n}"),
        job("dynamic \"group\" {\n content {\n}\n}"),
    ]));
}

#[test]
fn what_a_version_cannot_do() {
    let text = task("template {\n data = \"\"\n destination = \"local/x\"\n}");
    let input = Input {
        job: SourceFile::new("web.nomad.hcl", text),
        support: Support::without(&[Feature::Template]),
        ..Input::default()
    };
    let errors = parse(&input).unwrap_err();
    assert_eq!(errors.to_string(), "web.nomad.hcl:5:1: this version does not run `template` blocks yet");
}

#[test]
fn variables_from_outside() {
    let text =
        "variable \"n\" {\n type = number\n}\nvariable \"l\" {\n type = list(string)\n default = []\n}\n"
            .to_owned()
            + "job \"j\" {\n meta = { n = var.n, l = join(\",\", var.l) }\n group \"g\" {\n"
            + T
            + "\n}\n}\n";
    let run = |environment: &[(&str, &str)], file: &str, arguments: &[(&str, &str)]| {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let input = Input {
            job: SourceFile::new("job.nomad.hcl", text.clone()),
            variables: VariableSources {
                environment: own(environment),
                files: vec![SourceFile::new("vars.hcl", file)],
                arguments: own(arguments),
            },
            ..Input::default()
        };
        parse(&input).map(|outcome| outcome.job.meta).map_err(|errors| errors.to_string())
    };
    let n = |meta: Result<std::collections::BTreeMap<String, String>, String>| meta.unwrap()["n"].clone();
    assert_eq!(n(run(&[("n", "1")], "", &[])), "1");
    assert_eq!(n(run(&[("n", "1")], "n = 2", &[])), "2");
    assert_eq!(n(run(&[("n", "1")], "n = 2", &[("n", "3")])), "3");
    assert_eq!(n(run(&[("n", "1"), ("other", "x")], "", &[])), "1");
    assert_eq!(run(&[], "", &[("n", "1"), ("l", "[\"a\", \"b\"]")]).unwrap()["l"], "a,b");
    insta::assert_snapshot!(
        [
            run(&[], "", &[]).unwrap_err(),
            run(&[], "", &[("n", "x")]).unwrap_err(),
            run(&[], "m = 1", &[("n", "1")]).unwrap_err(),
            run(&[], "", &[("n", "1"), ("m", "1")]).unwrap_err(),
            run(&[], "", &[("n", "1"), ("l", "x")]).unwrap_err(),
            run(&[], "n = [", &[]).unwrap_err(),
        ]
        .join("\n")
    );
}
