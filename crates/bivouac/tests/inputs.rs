//! Artifacts and templates of real runs: fetched, rendered, watched, refused.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use support::{Bivouac, wait_for};

/// Serves one file to everybody; ends with the test program.
fn server(content: Vec<u8>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    wait_for("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    port
}

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
    let port = server(content);
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
