//! Job files in HCL's JSON: the same jobs as in HCL, and mistakes with their places.

use bivouac_jobspec::{Input, Outcome, SourceFile, VariableSources, parse};

fn read(name: &str, text: &str) -> Result<Outcome, String> {
    let variables =
        VariableSources { environment: vec![("who".into(), "world".into())], ..VariableSources::default() };
    let input = Input { job: SourceFile::new(name, text), variables, ..Input::default() };
    parse(&input).map_err(|errors| errors.render(false))
}

const HCL: &str = r#"
variable "who" {
  type    = string
  default = "nobody"
}
locals { port = 8000 + 80 }
job "pair" {
  type        = "batch"
  datacenters = ["a"]
  meta { team = "x" }
  group "one" {
    count = 2
    network {
      mode = "bridge"
      port "http" { to = local.port }
      port "admin" { static = 9000 }
      dns { servers = ["1.1.1.1"] }
    }
    restart {
      attempts = 1
      delay    = "1s"
    }
    task "main" {
      driver = "exec"
      config {
        command = "/bin/echo"
        args    = ["hello", var.who, "${NOMAD_ALLOC_ID}", "line\n\"quoted\""]
        mount = [{ type = "tmpfs", target = "/x" }]
      }
      env { GREETING = "hello ${var.who}" }
      artifact { source = "https://example.com/a.tgz" }
      artifact {
        source = "https://example.com/b"
        mode   = "file"
      }
      template {
        data        = "{{ key }}"
        destination = "local/x"
      }
      resources {
        cpu    = 100
        memory = 64
      }
    }
    task "side" {
      driver = "exec"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      config { command = "/bin/true" }
    }
  }
}
"#;

const JSON: &str = r#"
{
  "//": "a comment",
  "variable": { "who": { "type": "string", "default": "nobody" } },
  "locals": { "port": "${8000 + 80}" },
  "job": {
    "pair": {
      "type": "batch",
      "datacenters": ["a"],
      "meta": { "team": "x" },
      "group": {
        "one": {
          "count": 2,
          "network": [{
            "mode": "bridge",
            "port": { "http": { "to": "${local.port}" }, "admin": { "static": 9000 } },
            "dns": { "servers": ["1.1.1.1"] }
          }],
          "restart": { "attempts": 1, "delay": "1s" },
          "task": [
            {
              "main": {
                "driver": "exec",
                "config": {
                  "command": "/bin/echo",
                  "args": ["hello", "${var.who}", "${NOMAD_ALLOC_ID}", "line\n\"quoted\""],
                  "mount": [{ "type": "tmpfs", "target": "\/x" }]
                },
                "env": { "GREETING": "hello ${var.who}" },
                "artifact": [
                  { "source": "https://example.com/a.tgz" },
                  { "source": "https://example.com/b", "mode": "file" }
                ],
                "template": { "data": "{{ key }}", "destination": "local/x" },
                "resources": { "cpu": 100, "memory": 64 }
              }
            },
            {
              "side": {
                "driver": "exec",
                "lifecycle": { "hook": "prestart", "sidecar": true },
                "config": { "command": "/bin/true" }
              }
            }
          ]
        }
      }
    }
  }
}
"#;

#[test]
fn json_is_the_same_job() {
    let shown = |outcome: Outcome| serde_json::to_string_pretty(&outcome.job).unwrap();
    let hcl = read("pair.nomad.hcl", HCL).unwrap_or_else(|text| panic!("{text}"));
    let json = read("pair.nomad.json", JSON).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(shown(hcl), shown(json));
}

#[test]
fn mistakes_have_their_places() {
    for (text, parts) in [
        ("{", &["1:2", "expected a name in quotes"][..]),
        ("{\"job\": 1}", &["1:2", "cannot stand at the top"]),
        ("{\"job\": {\"x\": 1}}", &["1:15", "must be an object"]),
        ("{\"job\": {\"x\": {}}} x", &["1:20", "the end of the file"]),
        ("{\"a\": 1, \"a\": 2}", &["1:10", "stands twice"]),
        ("{\"a\": tru}", &["1:7", "expected a value"]),
        ("{\"a\": \"\\u{12}\"}", &["1:7", "a text"]),
        ("{\"a\": \"open", &["1:7", "the end of the text"]),
        ("{\"a\": 01}", &["1:7", "a number"]),
        ("[]", &["syntax error"]),
        ("{\"Job\": {\"ID\": \"x\"}}", &["1:2", "HTTP interface", "HCL's JSON"]),
        (
            "{\"job\": {\"x\": {\"group\": {\"g\": {\"task\": {\"t\": {\"driver\": \"exec\",\n \"confg\": {}}}}}}}}",
            &["2:2", "confg", "config"],
        ),
        ("{\"job\": {\"x\": {\"type\": \"${oops(\"}}}", &["1:31"]),
    ] {
        let shown = read("x.json", text).unwrap_err();
        for part in parts {
            assert!(shown.contains(part), "{text}: no {part:?} in\n{shown}");
        }
    }
}

/// Values that only a function makes: YAML as YAML 1.2 means it, hashes that verify, bombs that are refused.
#[test]
fn yaml_and_bcrypt() {
    let env = |expression: &str| {
        let text = format!(
            "job \"x\" {{ \n group \"g\" {{ \n task \"t\" {{ \n driver = \"exec\"\n config {{ command = \"a\" }}\n env {{ V = {expression} }}\n }}\n }}\n }}"
        );
        read("x.nomad.hcl", &text).map(|outcome| outcome.job.groups[0].tasks[0].env["V"].clone())
    };
    for (yaml, json) in [
        ("a: 1", r#"{"a":1}"#),
        ("- 1\\n- x\\n- [true, null, ~]", r#"[1,"x",[true,null,null]]"#),
        (
            "a: &x {b: 0x10}\\nc: *x\\nd: {<<: *x, e: 1.5}",
            r#"{"a":{"b":16},"c":{"b":16},"d":{"b":16,"e":1.5}}"#,
        ),
        ("a: 'yes'\\nb: yes\\nc: \\\"1\\\"\\nd: !!str 1", r#"{"a":"yes","b":"yes","c":"1","d":"1"}"#),
        ("", "null"),
        ("|-\\n  a\\n  b", r#""a\nb""#),
    ] {
        assert_eq!(env(&format!("jsonencode(yamldecode(\"{yaml}\"))")).unwrap(), json, "{yaml}");
    }
    for (yaml, part) in [
        ("a: [", "this is not YAML"),
        ("a\\n---\\nb", "only one document"),
        ("? [1]\\n: 2", "a key that is no text"),
        ("a: &a [*a]", "not complete"),
    ] {
        let shown = env(&format!("jsonencode(yamldecode(\"{yaml}\"))")).unwrap_err();
        assert!(shown.contains(part), "{yaml}: {shown}");
    }
    let deep = "[".repeat(100_000);
    assert!(env(&format!("jsonencode(yamldecode(\"{deep}\"))")).is_err());
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\\n");
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\\n", before.trim_end_matches(',')));
    }
    assert!(env(&format!("jsonencode(yamldecode(\"{bomb}\"))")).is_err());
    let hash = env("bcrypt(\"secret\", 4)").unwrap();
    assert!(bcrypt::verify("secret", &hash).unwrap() && hash.starts_with("$2a$04$"), "{hash}");
    assert!(env("bcrypt(\"x\", 20)").unwrap_err().contains("4 to 13"));
}
