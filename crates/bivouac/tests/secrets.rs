//! Secrets: they reach the task, and nothing that Bivouac writes or says holds them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::path::{Path, PathBuf};
use support::{Bivouac, wait_for};

/// Unlike anything else that could be found.
const PASSWORD: &str = "pa55-zebra-%-quagga";
const TOKEN: &str = "t0ken-okapi-gnu";

fn job(bivouac: &Bivouac, name: &str, kind: &str, task: &str) -> PathBuf {
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let source = bivouac.state.with_extension("secret");
    std::fs::write(&source, format!("user=me\npassword='{PASSWORD}'\n")).unwrap();
    let text = format!(
        r#"job "{name}" {{
          type = "{kind}"
          group "g" {{
            restart {{
              attempts = 0
              mode     = "fail"
            }}
            task "t" {{
              driver = "exec"
              secret "db" {{
                provider = "file"
                path     = "{}"
              }}
              secret "token" {{
                provider = "env"
                path     = "TEST_TOKEN"
              }}
              {task}
            }}
          }}
        }}"#,
        source.display()
    );
    let path = bivouac.state.join(format!("{name}.nomad.hcl"));
    std::fs::write(&path, text).unwrap();
    path
}

fn told(bivouac: &Bivouac, arguments: &[&str]) -> (String, Option<i32>) {
    let output = bivouac.command(arguments).env("TEST_TOKEN", TOKEN).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

fn holds_a_secret(text: &str) -> bool {
    text.contains(PASSWORD) || text.contains(TOKEN)
}

/// Every file below a directory, but for what the task itself wrote.
fn files(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !path.ends_with("alloc/logs") => files(&path, out),
            Ok(kind) if kind.is_file() => out.push(path),
            _ => {}
        }
    }
}

/// Covers: Z28, 1h-parse-cpu
#[test]
fn no_output_of_ours_holds_a_secret() {
    let Some(bivouac) = Bivouac::new("secrets") else { return };
    let task = r#"
        template {
          data        = "file {{ env \"PASSWORD\" }}"
          destination = "secrets/page"
        }
        env {
          PASSWORD = "${secret.db.password}"
        }
        config {
          command = "/bin/sh"
          args    = ["-c", "echo $PASSWORD ${secret.token.value}; cat /secrets/page; exec sleep 1000"]
        }"#;
    let path = job(&bivouac, "holder", "service", task);
    let file = path.to_str().unwrap();
    let mut outputs =
        vec![told(&bivouac, &["validate", file]).0, told(&bivouac, &["inspect", "--plan", file]).0];
    let (started, code) = told(&bivouac, &["run", "-d", file]);
    assert_eq!(code, Some(0), "{started}");
    // The task has them: as variable, as argument, by a template.
    wait_for("what the task says", || {
        let (text, _) = told(&bivouac, &["logs", "--raw", "holder"]);
        (text.contains(&format!("{PASSWORD} {TOKEN}")) && text.contains(&format!("file {PASSWORD}")))
            .then_some(())
    });
    let listings: [&[&str]; 9] = [
        &["ps"],
        &["ps", "--json"],
        &["inspect", "holder"],
        &["events", "holder"],
        &["events", "--json", "holder"],
        &["stats"],
        &["stats", "--json"],
        &["signal", "-s", "CONT", "holder"],
        &["exec", "holder", "no-such-command"],
    ];
    outputs.extend(listings.iter().map(|words| told(&bivouac, words).0));
    let mut all = Vec::new();
    files(&bivouac.state, &mut all);
    assert!(all.iter().any(|path| path.ends_with("plan.json")), "{all:?}");
    outputs
        .extend(all.iter().map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()));
    outputs.push(told(&bivouac, &["stop", "holder"]).0);
    outputs.push(told(&bivouac, &["ps", "-a", "--json"]).0);
    let id = started.trim().lines().last().unwrap().to_owned();
    assert!(Path::new("/run/bivouac/secrets").join(&id).exists());
    wait_for("secrets to go with their run", || {
        outputs.push(told(&bivouac, &["gc"]).0);
        (!Path::new("/run/bivouac/secrets").join(&id).exists()).then_some(())
    });
    let _ = std::fs::remove_file(bivouac.state.with_extension("secret"));
    let leaks: Vec<_> = outputs.iter().filter(|text| holds_a_secret(text)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(outputs.iter().any(|text| text.contains("${secret.db.password}")), "the plan names it");
}

/// Covers: Z28
#[test]
fn errors_lose_the_secrets_that_they_would_quote() {
    let Some(bivouac) = Bivouac::new("secret-errors") else { return };
    let command = "config {\n command = \"/bin/${secret.db.password}\"\n}";
    let artifact = "config {\n command = \"/bin/true\"\n}\n artifact {\n source = \"http://127.0.0.1:9/${secret.token.value}/x\"\n}";
    let missing = "config {\n command = \"/bin/true\"\n args = [\"${secret.db.pasword}\"]\n}";
    for (name, task, says) in [
        ("command", command, "[redacted secret]"),
        ("artifact", artifact, "[redacted secret]"),
        ("missing", missing, "there is no secret.db.pasword"),
    ] {
        let path = job(&bivouac, name, "batch", task);
        let (text, code) = told(&bivouac, &["run", path.to_str().unwrap()]);
        assert!(!holds_a_secret(&text) && text.contains(says), "{name}: {text}");
        assert!(code.is_some_and(|code| code >= 125), "{name}: {text}");
        let (text, _) = told(&bivouac, &["run", "-d", path.to_str().unwrap()]);
        assert!(!holds_a_secret(&text), "{name}: {text}");
        for words in [&["events", name][..], &["inspect", name], &["ps", "-a", "--json"], &["gc"]] {
            let (text, _) = told(&bivouac, words);
            assert!(!holds_a_secret(&text), "{name}: {words:?}: {text}");
        }
    }
    let path = job(&bivouac, "elsewhere", "batch", command);
    let text = std::fs::read_to_string(&path).unwrap().replace("provider = \"env\"", "provider = \"vault\"");
    std::fs::write(&path, text).unwrap();
    let (text, code) = told(&bivouac, &["run", path.to_str().unwrap()]);
    assert!(text.contains("\"vault\" is another system") && text.contains("elsewhere.nomad.hcl:"), "{text}");
    assert_eq!(code, Some(125), "{text}");
    // A variable that is not set is named, before anything starts.
    let path = job(&bivouac, "unset", "batch", "config {\n command = \"/bin/true\"\n}");
    let (_, text, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert!(text.contains("TEST_TOKEN is not set") && code == Some(125), "{text}");
    let _ = std::fs::remove_file(bivouac.state.with_extension("secret"));
}

/// Covers: A11
#[test]
fn nothing_runs_from_secrets_and_they_have_a_size() {
    let Some(bivouac) = Bivouac::new("secret-memory") else { return };
    let script = "cp /bin/true /secrets/t; /secrets/t; echo runs $?; head -c 3000000 /dev/zero > /secrets/large; echo fills $?; grep -o ' /secrets .*' /proc/self/mountinfo";
    let task = format!(
        "config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"{script}\"]\n}}\n resources {{\n memory = 64\n secrets = 2\n}}"
    );
    let path = job(&bivouac, "memory", "batch", &task);
    let (text, code) = told(&bivouac, &["run", "-q", path.to_str().unwrap()]);
    let _ = std::fs::remove_file(bivouac.state.with_extension("secret"));
    assert!(text.contains("runs 126") && text.contains("fills 1"), "{text}");
    let mount = text.lines().find(|line| line.starts_with(" /secrets ")).unwrap_or_default();
    let has = |word: &str| mount.contains(word);
    assert!(has("nosuid,nodev,noexec") && has("tmpfs") && has("size=2048k"), "{text}");
    assert_eq!(code, Some(0), "{text}");
}

/// Covers: A11
#[test]
fn a_commands_secrets_are_memory_that_the_host_has_no_mount_of() {
    let Some(bivouac) = Bivouac::new("secret-command") else { return };
    let (id, text, code) = bivouac.told(&["run", "-d", "--", "/bin/sleep", "1000"]);
    assert_eq!(code, Some(0), "{text}");
    let script = "cp /bin/true /secrets/t; /secrets/t; echo runs $?; head -c 3000000 /dev/zero > /secrets/large; echo fills $?; stat -c 'is %a %u %g' /secrets; grep -o ' /secrets .*' /proc/self/mountinfo";
    let (inside, text, _) = bivouac.told(&["exec", id.trim(), "/bin/sh", "-c", script]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (_, stopped, code) = bivouac.told(&["stop", "--timeout", "0s", id.trim()]);
    assert_eq!(code, Some(0), "{stopped}");
    for says in ["runs 126", "fills 1", "is 777 65534 65534", "nosuid,nodev,noexec", "tmpfs", "size=1024k"] {
        assert!(inside.contains(says), "{says}: {inside}{text}");
    }
    assert!(!mounts.contains(id.trim()), "{mounts}");
    assert!(!Path::new("/run/bivouac/secrets").join(id.trim()).exists());
    let (removed, text, code) = bivouac.told(&["gc"]);
    assert_eq!(code, Some(0), "{removed}{text}");
}

/// As it is designed: a command after `--` has `/secrets` in its sandbox alone, and nothing of it outlives a run.
#[test]
fn a_command_that_is_restarted_finds_an_empty_secrets_that_it_can_use() {
    let Some(bivouac) = Bivouac::new("secrets-restart") else { return };
    let line = "echo $(ls /secrets | wc -l) $(stat -f -c %T /secrets); echo x > /secrets/f && cat /secrets/f; exec sleep 1000";
    let (id, stderr, code) = bivouac.told(&[
        "run",
        "-d",
        "--stop-timeout",
        "100ms",
        "--name",
        "again",
        "--",
        "/bin/sh",
        "-c",
        line,
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let said = |lines: &str| {
        wait_for("what it says", || (bivouac.told(&["logs", "--raw", id.trim()]).0 == lines).then_some(()));
    };
    said("0 tmpfs\nx\n");
    let (_, stderr, code) = bivouac.told(&["restart", id.trim()]);
    assert_eq!(code, Some(0), "{stderr}");
    said("0 tmpfs\nx\n0 tmpfs\nx\n");
    assert!(!Path::new("/run/bivouac/secrets").join(id.trim()).exists(), "the host has no mount of it");
    assert_eq!(bivouac.told(&["stop", "--timeout", "1s", id.trim()]).2, Some(0));
    wait_for("gc", || {
        bivouac.told(&["gc"]);
        (!bivouac.state.join("state").join(id.trim()).exists()).then_some(())
    });
}
