//! Artifacts and templates of real runs: fetched, rendered, watched, refused.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "support/request.rs"]
mod request;
#[path = "support/served.rs"]
mod served;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use support::{Bivouac, wait_for};

/// A program in an archive, and the archive's checksum.
fn archive(bivouac: &Bivouac) -> (Vec<u8>, String) {
    let directory = bivouac.state.join("archive");
    std::fs::create_dir_all(&directory).unwrap();
    let script =
        "#!/bin/sh\necho \"hello $GREETED of $0\"; cat /local/page; ls -n /local/own | cut -d' ' -f3,4\n";
    std::fs::write(directory.join("hello"), script).unwrap();
    let shell = |line: &str| Command::new("sh").args(["-ec", line]).current_dir(&directory).output().unwrap();
    shell("chmod 755 hello; tar -czf a.tar.gz hello");
    let sum = String::from_utf8(shell("sha256sum a.tar.gz").stdout).unwrap();
    let sum = sum.split(' ').next().unwrap().to_owned();
    (std::fs::read(directory.join("a.tar.gz")).unwrap(), sum)
}

fn job(bivouac: &Bivouac, name: &str, task: &str) -> PathBuf {
    let text = format!(
        "job \"{name}\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 0\n }}\n task \"t\" {{\n driver = \"exec\"\n{task}\n}}\n}}\n}}\n"
    );
    let path = bivouac.state.join(format!("{name}.nomad.hcl"));
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// Covers: W15, W19, W56
#[test]
fn a_fetched_program_runs_with_what_templates_made() {
    let Some(bivouac) = Bivouac::new("inputs") else { return };
    let (content, sum) = archive(&bivouac);
    let port = served::file(content, || {});
    let task = format!(
        r#"
        config {{
          command = "local/bin/hello"
        }}
        artifact {{
          source      = "http://127.0.0.1:{port}/a.tar.gz"
          destination = "${{NOMAD_TASK_DIR}}/bin"
          options {{
            checksum = "sha256:{sum}"
          }}
        }}
        artifact {{
          source      = "http://127.0.0.1:{port}/raw"
          destination = "local/own"
          mode        = "file"
          chown       = true
        }}
        template {{
          data        = "GREETED={{{{ env \"NOMAD_TASK_NAME\" | toUpper }}}}"
          destination = "secrets/greeted.env"
          env         = true
        }}
        template {{
          data        = "memory {{{{ env \"NOMAD_MEMORY_LIMIT\" }}}}\n"
          destination = "local/page"
        }}
        resources {{
          memory = 64
        }}
        "#
    );
    let path = job(&bivouac, "inputs", &task);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert_eq!(stdout, "hello T of /local/bin/hello\nmemory 64\n65534 65534\n", "{stderr}");
    assert_eq!(code, Some(0), "{stderr}");
    // A wrong checksum, a template that is none, a destination that leaves.
    let wrong = task.replace(&sum, &"0".repeat(64));
    let path = job(&bivouac, "wrong", &wrong);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert!(stderr.contains("checksums did not match"), "{stderr}");
    assert_eq!((stdout.as_str(), code), ("", Some(125)), "{stderr}");
    let path = job(&bivouac, "unbalanced", &task.replace("| toUpper }}", "| toUpper }}{{ if true }}"));
    let (_, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert!(stderr.contains("`if` has no `end`") && code == Some(125), "{stderr}");
    let path = job(&bivouac, "escaping", &task.replace("\"local/page\"", "\"${NOMAD_TASK_DIR}/../../x\""));
    let (_, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert!(
        stderr.contains("template destination path escapes alloc directory") && code == Some(125),
        "{stderr}"
    );
}

/// Covers: W57
#[test]
fn a_changed_source_signals_runs_a_script_and_restarts() {
    let Some(bivouac) = Bivouac::new("changes") else { return };
    let source = bivouac.state.join("source");
    std::fs::create_dir_all(&bivouac.state).unwrap();
    std::fs::write(&source, "one\n").unwrap();
    Command::new("sh")
        .arg("-c")
        .arg(format!("chmod 711 {0}; chmod 644 {1}", bivouac.state.display(), source.display()))
        .status()
        .unwrap();
    let with = |change: &str, command: &str| {
        format!(
            r#"
            config {{
              command = "/bin/sh"
              args    = ["-c", "{command}"]
            }}
            artifact {{
              source      = "file://{}"
              destination = "local/source"
              mode        = "file"
            }}
            template {{
              data        = "now {{{{ file \"/local/source\" }}}}"
              destination = "local/out"
              splay       = "0s"
              {change}
            }}
            "#,
            source.display()
        )
    };
    let swap = "echo two > /local/new; mv /local/new /local/source";
    let wait = "while :; do sleep 0.1; done";
    let signal = with(
        "change_mode = \"signal\"\n change_signal = \"SIGHUP\"",
        &format!("trap 'cat /local/out; exit 7' HUP; {swap}; {wait}"),
    );
    let path = job(&bivouac, "signal", &signal);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert_eq!((stdout.as_str(), code), ("now two\n", Some(7)), "{stderr}");
    let script = with(
        "change_mode = \"script\"\n change_script {\n command = \"/bin/touch\"\n args = [\"/local/ran\"]\n }",
        &format!("{swap}; while ! test -e /local/ran; do sleep 0.1; done; cat /local/out; exit 8"),
    );
    let path = job(&bivouac, "script", &script);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert_eq!((stdout.as_str(), code), ("now two\n", Some(8)), "{stderr}");
    let restart = with(
        "change_mode = \"restart\"",
        &format!(
            "if test -e /local/again; then cat /local/out; exit 9; fi; touch /local/again; {swap}; {wait}"
        ),
    );
    let path = job(&bivouac, "restart", &restart);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert_eq!((stdout.as_str(), code), ("now two\n", Some(9)), "{stderr}");
}

/// Nothing is waited for: a file that another task is to make is made by one that runs before.
///
/// Covers: W57
#[test]
fn a_template_whose_file_is_missing_fails_at_once_unless_a_task_before_makes_it() {
    let Some(bivouac) = Bivouac::new("missing-file") else { return };
    let reads = "config {\n command = \"/bin/cat\"\n args = [\"local/page\"]\n }\n template {\n data = \"{{ file `alloc/data/made` }}\"\n destination = \"local/page\"\n }\n";
    let path = job(&bivouac, "missing", reads);
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert!(stderr.contains("cannot read \"alloc/data/made\""), "{stderr}");
    assert_eq!((stdout.as_str(), code), ("", Some(125)), "{stderr}");
    assert!(!stderr.contains("Missing:"), "{stderr}");
    let makes = "}\n task \"first\" {\n driver = \"exec\"\n lifecycle {\n hook = \"prestart\"\n }\n config {\n command = \"/bin/sh\"\n args = [\"-c\", \"echo made > /alloc/data/made\"]\n }\n";
    let path = job(&bivouac, "made", &format!("{reads}{makes}"));
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("| made"), "{stdout}");
}

/// Covers: Z9
#[test]
fn six_tasks_read_artifacts_at_once() {
    let Some(bivouac) = Bivouac::new("six") else { return };
    let files = bivouac.state.join("files");
    std::fs::create_dir_all(&files).unwrap();
    let script = "echo archived > a; tar -czf a.tar.gz a; python3 -m zipfile -c a.zip a";
    let made = Command::new("sh").args(["-ec", script]).current_dir(&files).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let repository = served::Repository::new(&files);
    let web = |name: &str| served::file(std::fs::read(files.join(name)).unwrap(), || {});
    let (plain, tar, zip) = (web("a"), web("a.tar.gz"), web("a.zip"));
    let tasks = [
        (format!("http://127.0.0.1:{plain}/a"), "mode = \"file\"", "local/a", "local/a"),
        (format!("http://127.0.0.1:{plain}/a"), "", "custom/place", "custom/place/a"),
        (format!("http://127.0.0.1:{plain}/a"), "", "../alloc/data", "/alloc/data/a"),
        (format!("http://127.0.0.1:{tar}/a.tar.gz"), "", "local/t", "local/t/a"),
        (format!("http://127.0.0.1:{zip}/a.zip"), "", "local/z", "local/z/a"),
        (format!("git::git://127.0.0.1:{}/repository", repository.port), "", "local/g", "local/g/g"),
    ];
    let mut text =
        String::from("job \"six\" {\n type = \"batch\"\n group \"g\" {\n restart {\n attempts = 0\n}\n");
    for (at, (source, mode, destination, path)) in tasks.iter().enumerate() {
        text.push_str(&format!(
            "task \"t{at}\" {{\n driver = \"exec\"\n artifact {{\n source = \"{source}\"\n destination = \"{destination}\"\n{mode}\n}}\n config {{\n command = \"/bin/cat\"\n args = [\"{path}\"]\n}}\n}}\n"
        ));
    }
    text.push_str("}\n}\n");
    let path = bivouac.state.join("six.nomad.hcl");
    std::fs::write(&path, text).unwrap();
    let (stdout, stderr, code) = bivouac.told(&["run", "-q", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    let mut lines: Vec<_> = stdout.lines().collect();
    lines.sort_unstable();
    let says = |at: usize, word: &str| format!("t{at} | {word}");
    let expected: Vec<_> = (0..5).map(|at| says(at, "archived")).chain([says(5, "committed")]).collect();
    assert_eq!(lines, expected, "{stderr}");
}

/// Answers requests by their number and path; what was asked is kept.
fn asked(
    answer: fn(usize, &str) -> (&'static str, &'static str),
) -> (u16, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = log.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut first, mut line) = (String::new(), String::new());
                    if !reader.read_line(&mut first).is_ok_and(|count| count > 2) {
                        return;
                    }
                    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                        line.clear();
                    }
                    let before = kept.lock().unwrap().iter().filter(|there| **there == first).count();
                    let (status, body) = answer(before, &first);
                    kept.lock().unwrap().push(first.clone());
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                    // A tunnel's answer has no body, and the next request comes by the same way.
                    let (head, body) = if first.starts_with("CONNECT") {
                        (format!("HTTP/1.1 {status}\r\n\r\n"), "")
                    } else {
                        (head, body)
                    };
                    if stream
                        .write_all(head.as_bytes())
                        .and_then(|()| stream.write_all(body.as_bytes()))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    (port, log)
}

/// Covers: W25, W39
#[test]
fn a_failed_artifact_is_tried_again_and_nothing_else_is() {
    let Some(bivouac) = Bivouac::new("again") else { return };
    let (port, log) = asked(|before, line| match line {
        line if line.starts_with("GET /late") && before < 1 => ("404 Not yet", ""),
        _ => ("200 OK", "content"),
    });
    let artifact = |name: &str| {
        format!(
            "artifact {{\n source = \"http://127.0.0.1:{port}/{name}\"\n destination = \"local/{name}\"\n mode = \"file\"\n}}\n"
        )
    };
    let text = format!(
        "job \"again\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 1\n interval = \"10m\"\n delay = \"1s\"\n mode = \"fail\"\n}}
        task \"fetches\" {{\n driver = \"exec\"\n{}{}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"cat local/early local/late; test -e /alloc/data/other && echo; echo second\"]\n}}\n}}
        task \"other\" {{\n driver = \"exec\"\n config {{\n command = \"/bin/touch\"\n args = [\"/alloc/data/other\"]\n}}\n}}\n}}\n}}\n",
        artifact("early"),
        artifact("late")
    );
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let path = bivouac.state.join("again.nomad.hcl");
    std::fs::write(&path, text).unwrap();
    let (stdout, stderr, code) = bivouac.told(&["run", path.to_str().unwrap()]);
    // The other task ran while the first waited for its next try.
    assert_eq!(stdout, "fetches | contentcontent\nfetches | second\n", "{stderr}");
    assert!(code == Some(0) && stderr.contains("estarting"), "{stderr}");
    let count = |name: &str| log.lock().unwrap().iter().filter(|line| line.contains(name)).count();
    assert_eq!((count("/early"), count("/late")), (1, 2), "{:?}", log.lock().unwrap());
}

/// A run in the background reaches servers as whoever started it does.
#[test]
fn proxies_reach_runs_in_the_background() {
    let Some(bivouac) = Bivouac::new("proxied") else { return };
    let (port, log) = asked(|_, _| ("200 OK", "by proxy"));
    let task = "artifact {\n source = \"http://nowhere.invalid/page\"\n}\n config {\n command = \"/bin/cat\"\n args = [\"local/page\"]\n}";
    let path = job(&bivouac, "proxied", task);
    let mut command = bivouac.command(&["run", "-d", path.to_str().unwrap()]);
    let output = command.env("HTTP_PROXY", format!("http://127.0.0.1:{port}")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_for("what the task says", || {
        (bivouac.told(&["logs", "--raw", "proxied"]).0.contains("by proxy")).then_some(())
    });
    assert!(log.lock().unwrap().iter().any(|line| line.contains("nowhere.invalid")));
    wait_for("the end", || {
        bivouac.told(&["gc"]);
        (std::fs::read_dir(bivouac.state.join("allocs")).unwrap().count() == 0).then_some(())
    });
}
