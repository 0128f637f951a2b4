//! What the book and the README tell people to type, typed: the tutorial from top to bottom, and the examples that
//! need a server, a bridge or a volume.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Bivouac, root, wait_for};

/// Lines that a reader types once, and a test must not.
const ONCE: [&str; 3] = ["git clone", "cargo xtask build", "export PATH"];

/// A command of the book, and what its output must hold.
struct Line {
    command: String,
    says: Option<String>,
}

fn lines(page: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !ONCE.iter().any(|once| line.starts_with(once)))
        .map(|line| match line.split_once("# -> ") {
            Some((command, says)) => Line { command: command.into(), says: Some(says.trim().into()) },
            None => Line { command: line.into(), says: None },
        })
        .collect()
}

/// Types commands in a network namespace of the test's own, so that ports and bridges are nobody else's.
fn typed(bivouac: &Bivouac, lines: &[Line]) {
    let setup = "set -e; ip link set lo up; mkdir -p /run/netns \"$S/cg\"; mount -t tmpfs tmpfs /run/netns
        mount --rbind /sys/fs/cgroup \"$S/cg\"; mount -t sysfs sysfs /sys; mount --rbind \"$S/cg\" /sys/fs/cgroup
        trap 'umount -l \"$S/cg\"' EXIT; set +e\n";
    let mut script = String::from(setup);
    for (number, line) in lines.iter().enumerate() {
        script.push_str(&format!("echo; echo @@{number}\n{{ {} ; }} 2>&1 </dev/null\n", line.command));
    }
    std::fs::create_dir_all(bivouac.state.join("cg")).unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_bivouac"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "bash", "-c", &script])
        .env("PATH", path)
        .env("S", &bivouac.state)
        .env("BIVOUAC_STATE_DIR", &bivouac.state)
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    for (number, line) in lines.iter().enumerate() {
        let answer = told.split(&format!("\n@@{number}\n")).nth(1).unwrap_or_default();
        let answer = answer.split("\n@@").next().unwrap_or_default();
        let says = line.says.as_deref().unwrap_or_default();
        assert!(answer.contains(says), "{}: no {says:?} in {answer:?}\n{told}\n{errors}", line.command);
        let silent = answer.contains("error:") && line.says.is_none();
        assert!(!silent, "{}: {answer}", line.command);
    }
}

fn lacks_a_bridge(test: &str) -> bool {
    let missing = ["/usr/lib/cni/bridge", "/usr/sbin/iptables"].iter().find(|path| !Path::new(path).exists());
    if let Some(missing) = missing {
        println!("SKIPPED: {test}: no {missing}");
    }
    // Runs behind a bridge hang in the emulated machine, for a reason that nobody has found yet.
    let emulated = std::env::var("BIVOUAC_TEST_LANE").is_ok_and(|lane| lane == "vm");
    if emulated {
        println!("SKIPPED: {test}: bridges hang in the emulated machine");
    }
    missing.is_some() || emulated
}

fn line(command: &str, says: &str) -> Line {
    Line { command: command.into(), says: Some(says.into()) }
}

/// Covers: W43
#[test]
fn the_tutorial_can_be_typed() {
    let Some(bivouac) = Bivouac::new("tutorial") else { return };
    if lacks_a_bridge("the_tutorial_can_be_typed") {
        return;
    }
    let mut all = lines("tutorial.md");
    assert!(all.len() > 15 && all.iter().any(|line| line.command.contains("two-services")));
    // The one example behind a bridge that the tutorial does not run.
    all.push(line("bivouac run -d examples/bridge-web.nomad.hcl", "-"));
    let fetch = "curl -s --retry 30 --retry-connrefused http://127.0.0.1:8081/";
    all.push(line(fetch, "served from 172.26."));
    all.push(line("bivouac stop bridge-web && bivouac gc && echo gone", "gone"));
    typed(&bivouac, &all);
}

/// Serves files by their names; ends with the test program.
fn server(files: PathBuf) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut line) = (String::new(), String::new());
            let _ = reader.read_line(&mut first);
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let content = std::fs::read(files.join(name)).unwrap_or_default();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
        }
    });
    port
}

fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn examples_fetch_and_run() {
    let Some(bivouac) = Bivouac::new("fetched") else { return };
    let files = bivouac.state.join("files");
    std::fs::create_dir_all(&files).unwrap();
    shell(&files, "printf 'north,40\\nsouth,5\\nsouth,30\\nnorth,2\\neast,90\\n' > sales.csv");
    shell(&files, "tar -czf sales.tar.gz sales.csv; mkdir bin");
    shell(&files, "printf '#!/bin/sh\\necho greetings \"$@\"\\n' > bin/greet; chmod 755 bin/greet");
    let sum = shell(&files, "tar -czf greet.tar.gz bin; sha256sum greet.tar.gz | cut -d' ' -f1");
    let port = server(files);
    let data = format!("data=http://127.0.0.1:{port}/sales.tar.gz");
    let (stdout, stderr, code) =
        bivouac.told(&["run", "-q", "-var", &data, "examples/batch-pipeline.nomad.hcl"]);
    let said: Vec<_> = stdout.lines().map(|line| line.rsplit("| ").next().unwrap_or_default()).collect();
    assert_eq!((said, code), (vec!["east 90", "north 40", "south 30"], Some(0)), "{stderr}");
    let address = format!("address=http://127.0.0.1:{port}/greet.tar.gz");
    let run = |sum: &str| {
        let checksum = format!("checksum=sha256:{sum}");
        let words = ["run", "-var", &address, "-var", &checksum, "examples/fetched-program.nomad.hcl"];
        bivouac.told(&words)
    };
    let (stdout, stderr, code) = run(&sum);
    assert_eq!((stdout.as_str(), code), ("greetings from afar\n", Some(0)), "{stderr}");
}

/// Each second instead of each night; whatever the clock does, the archives are whole and no more than are kept.
#[test]
fn the_nightly_backup_example_packs_by_the_clock() {
    let Some(bivouac) = Bivouac::new("backup") else { return };
    assert_eq!(bivouac.told(&["volume", "create", "data", "backups"]).2, Some(0));
    std::fs::write(bivouac.state.join("volumes/data/precious"), "kept").unwrap();
    let example = "examples/nightly-backup.nomad.hcl";
    let words = ["run", "-d", "-var", "schedule=* * * * * * *", "-var", "keep=2", example];
    let (stdout, stderr, code) = bivouac.told(&words);
    assert_eq!((stdout.as_str(), code), ("nightly-backup\n", Some(0)), "{stderr}");
    let listed = bivouac.told(&["ps", "--json"]).0;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed["jobs"][0]["job"], &listed["jobs"][0]["kind"]),
        (&"nightly-backup".into(), &"periodic".into())
    );
    let finished = || {
        let formatted = bivouac.told(&["ps", "-a", "--format", "{{.status}} {{.id}}"]).0;
        let ids = formatted.lines().filter_map(|line| line.strip_prefix("complete ").map(str::to_owned));
        ids.collect::<Vec<_>>()
    };
    let runs = wait_for("three runs", || Some(finished()).filter(|runs| runs.len() >= 3));
    assert_eq!(bivouac.told(&["stop", "nightly-backup"]).2, Some(0));
    let said = bivouac.told(&["logs", "--stdout", runs.last().unwrap()]).0;
    assert!(said.starts_with("data-") && said.ends_with(".tar.gz, 2 kept\n"), "{said}");
    wait_for("the last run", || bivouac.told(&["ps", "--format", "x"]).0.is_empty().then_some(()));
    let backups = bivouac.state.join("volumes/backups");
    let list = "ls | wc -l; for f in data-*.tar.gz; do tar -xzOf $f ./precious; done";
    assert_eq!(shell(&backups, list), "2\nkeptkept");
    bivouac.told(&["gc"]);
    assert_eq!(bivouac.told(&["volume", "rm", "data", "backups"]).2, Some(0));
}

/// Every example has its line in the book, and every line its example.
#[test]
fn the_book_names_every_example() {
    let page = std::fs::read_to_string(root().join("docs/how-to/examples.md")).unwrap();
    let examples = std::fs::read_dir(root().join("examples")).unwrap().flatten();
    let names: Vec<_> = examples.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let jobs = names.iter().filter(|name| name.ends_with(".nomad.hcl"));
    for name in jobs.clone() {
        assert!(page.contains(&format!("examples/{name}`")), "{name} is not in docs/how-to/examples.md");
        let text = std::fs::read_to_string(root().join("examples").join(name)).unwrap();
        assert!(text.starts_with("# "), "{name} does not begin with what it shows");
    }
    assert_eq!(page.matches("examples/").count() - 1, jobs.count(), "a line names no example");
}

/// Covers: Z27
#[test]
fn the_postgres_example_keeps_its_data_in_a_named_volume() {
    let Some(bivouac) = Bivouac::new("postgres") else { return };
    if !Path::new("/usr/lib/postgresql/15/bin/postgres").exists() {
        println!("SKIPPED: the_postgres_example_keeps_its_data_in_a_named_volume: no PostgreSQL 15");
        return;
    }
    assert_eq!(bivouac.told(&["volume", "create", "pgdata"]).2, Some(0));
    let example = "examples/postgres.nomad.hcl";
    for round in ["create table t(x int); insert into t values (42)", "select x from t"] {
        let mut server = bivouac
            .command(&["run", "-q", example])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let query = ["exec", "server", "/usr/lib/postgresql/15/bin/psql", "-h", "127.0.0.1", "-p", "15432"];
        let query = [&query[..], &["-U", "postgres", "-Atc", round]].concat();
        let answer = wait_for("PostgreSQL's answer", || {
            let (stdout, _, code) = bivouac.told(&query);
            (code == Some(0)).then_some(stdout)
        });
        if round.starts_with("select") {
            assert_eq!(answer, "42\n");
        }
        assert_eq!(bivouac.told(&["stop", "postgres"]).2, Some(0));
        server.wait().unwrap();
    }
    let (listed, _, _) = bivouac.told(&["volume", "ls"]);
    assert!(listed.contains("pgdata"), "{listed}");
    // Garbage collection never takes a volume; asking for it does.
    bivouac.told(&["gc"]);
    assert!(bivouac.state.join("volumes/pgdata/db/PG_VERSION").exists());
    assert_eq!(bivouac.told(&["volume", "rm", "pgdata"]).2, Some(0));
    assert!(!bivouac.state.join("volumes/pgdata").exists());
}
