//! What people type: options that are missing or nonsense, names that look like options, users and variables that look
//! like others, and the shape of what is written for programs.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use serde_json::Value;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use support::Bivouac;

/// Covers: T100
#[test]
fn t100_a_terminal_is_not_given_where_there_is_none() {
    let Some(bivouac) = Bivouac::new("terminal") else { return };
    for arguments in [&["run", "-t", "--", "true"][..], &["exec", "-it", "task", "sh"]] {
        let (stdout, stderr, code) = bivouac.told(arguments);
        assert_eq!((stdout.as_str(), code), ("", Some(125)), "{stderr}");
        assert!(stderr.contains("--tty: standard input is not a terminal"), "{stderr}");
    }
    let (_, stderr, code) = bivouac.told(&["run", "-d", "-t", "--", "true"]);
    assert!(code == Some(125) && stderr.contains("bivouac exec -it"), "{stderr}");
    assert!(!bivouac.state.exists(), "nothing was made");
}

/// `bivouac ... | head -1`.
#[test]
fn a_reader_that_has_enough_is_no_fault_of_ours() {
    let Some(bivouac) = Bivouac::new("reader") else { return };
    for arguments in [&["completion", "zsh"][..], &["man"], &["doctor"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bivouac.command(arguments);
        let told = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&told.stderr);
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert!(told.status.code().is_some(), "{arguments:?}: {:?}", told.status);
    }
    // Whole texts take the same way as lines.
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let job = bivouac.state.join("job");
    std::fs::write(&job, "job \"j\" {\n}\n").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = bivouac.command(&["job", "fmt", "-"]);
    let told = command.stdin(std::fs::File::open(&job).unwrap()).stdout(writer).output().unwrap();
    assert_eq!((told.status.code(), told.stderr.len()), (Some(141), 0));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let told = bivouac.command(&["completion", "zsh"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert!(stderr.contains("cannot write to standard output: No space left"), "{stderr}");
    assert_eq!(told.status.code(), Some(125));
}

/// Values of `run`'s flags that no machine takes.
const NONSENSE: &[(&str, &[&str])] = &[
    ("--memory", &["", "x", "0", "-1", "1k", "99999999999999999999"]),
    ("--cpus", &["", "x", "0", "-1", "nan", "inf"]),
    ("--volume", &["", "x", "/srv", "/srv:data", "/srv:/data:rx"]),
    ("--cap-add", &["", "nonsense", "cap_", "a b"]),
    ("--cap-drop", &["", "nonsense"]),
    ("--tmpfs", &["", "x", "/t:size=x", "/t:size=0", "/t:what"]),
    ("--ulimit", &["", "x", "nofile=x", "nofile=", "bogus=1", "nofile=2:1"]),
    ("--pids-limit", &["", "x", "0", "-5", "9999999999"]),
    ("--device", &["", "x", "/dev/null:x:y"]),
    ("--seccomp", &["", "x"]),
    ("--stop-signal", &["", "x", "99"]),
    ("--stop-timeout", &["", "x", "-1s", "5 s"]),
    ("--workdir", &["", "x", "../x"]),
    ("--pid", &["", "x"]),
    ("--ipc", &["", "x"]),
    ("--net", &["", "x", "bridge"]),
    ("--hostname", &["", "a/b", "-x", "a b"]),
    ("--user", &[""]),
    ("--env", &["", "=x"]),
    ("--name", &["", "a/b", "..", "a\nb"]),
];

/// Covers: T135
#[test]
fn t135_nonsense_is_refused_with_the_flags_name_and_without_effect() {
    let Some(bivouac) = Bivouac::new("t135") else { return };
    for (flag, values) in NONSENSE {
        for value in *values {
            let joined = format!("{flag}={value}");
            let (stdout, stderr, code) = bivouac.told(&["run", &joined, "--", "/bin/echo", "ran"]);
            let told = (stdout.as_str(), code) == ("", Some(2)) && stderr.contains(flag);
            assert!(told, "{joined:?}: {code:?} {stdout}{stderr}");
        }
    }
    for (arguments, flag) in [
        (&["stop", "--timeout", "x", "j"][..], "--timeout"),
        (&["signal", "--signal", "SIGNONSENSE", "j"], "--signal"),
        (&["signal", "--signal=", "j"], "--signal"),
        (&["logs", "--tail=-1", "j"], "--tail"),
        (&["logs", "--task=", "j"], "--task"),
        (&["logs", "--since=", "j"], "--since"),
        (&["--disk=x", "ps"], "--disk"),
        (&["--log-format=x", "ps"], "--log-format"),
    ] {
        let (stdout, stderr, code) = bivouac.told(arguments);
        assert!((stdout.as_str(), code) == ("", Some(2)) && stderr.contains(flag), "{arguments:?}: {stderr}");
    }
    assert!(!bivouac.state.exists(), "nothing was made");
}

#[test]
fn options_that_lack_their_value_or_hold_nonsense_are_refused() {
    let Some(bivouac) = Bivouac::new("nonsense") else { return };
    let flags = [
        "--memory",
        "--cpus",
        "--volume",
        "--cap-add",
        "--cap-drop",
        "--tmpfs",
        "--ulimit",
        "--pids-limit",
        "--device",
        "--seccomp",
        "--stop-signal",
        "--stop-timeout",
        "--workdir",
        "--pid",
        "--ipc",
        "--net",
        "--hostname",
        "--user",
        "--env",
    ];
    for flag in flags {
        let (_, stderr, code) = bivouac.told(&["run", flag]);
        assert!(code == Some(2) && stderr.contains(flag), "{flag}: {stderr}");
    }
    let left = std::fs::read_dir(bivouac.state.join("state")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is left");
    for arguments in [
        &["stop"][..],
        &["logs"],
        &["exec", "x"],
        &["signal"],
        &["nonsense"],
        &["ps", "--nonsense"],
        &["run", "--memory"],
        &["run", "--net", "bridge", "--", "true"],
        &["completion", "tcsh"],
        &["logs", "-n", "x", "y"],
        &["plan"],
        &["job", "fmt"],
    ] {
        let (stdout, stderr, code) = bivouac.told(arguments);
        assert_eq!((stdout.as_str(), code), ("", Some(2)), "{arguments:?}: {stderr}");
    }
    for arguments in [
        &["stop", "--timeout", "x", "j"][..],
        &["signal", "-s", "SIGNONSENSE", "j"],
        &["signal", "-s", "0", "j"],
        &["signal", "-s", "65", "j"],
        &["signal", "--signal=-9", "j"],
        &["stop", "no-such-job"],
        &["logs", ".."],
        &["logs", "/"],
        &["exec", "", "sh"],
        &["events", "\u{1b}[2J"],
        &["fs", "ls", "../.."],
        &["volume", "create", "../x"],
        &["volume", "rm", "-x"],
        &["dispatch", "no-such-job"],
        &["cp", "a:/x", "b:/y"],
    ] {
        let (stdout, stderr, code) = bivouac.told(arguments);
        assert!(stdout.is_empty() && code.is_some_and(|code| code != 0), "{arguments:?}: {code:?}");
        assert!(!stderr.contains('\u{1b}'), "{arguments:?}: no control characters: {stderr:?}");
    }
}

/// Covers: T136
#[test]
fn t136_what_stands_behind_two_dashes_is_a_command() {
    let Some(bivouac) = Bivouac::new("dashes") else { return };
    std::fs::create_dir_all(bivouac.state.join("bin")).unwrap();
    let program = bivouac.state.join("bin/-x");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volume = format!("{}:/mine:ro", bivouac.state.join("bin").display());
    let run = |words: &[&str]| bivouac.told(&[&["run", "-q", "-v", &volume, "--"], words].concat());
    assert_eq!(run(&["/mine/-x", "--help", "-q", "--", "-var"]).0, "--help -q -- -var\n");
    let (_, stderr, code) = run(&["-x"]);
    assert!(code == Some(127) && stderr.contains("-x"), "{stderr}");
    let (_, stderr, code) = run(&["--help"]);
    assert!(code == Some(127) && stderr.contains("--help"), "{stderr}");
    // An empty word is a word.
    assert_eq!(run(&["/mine/-x", "", "a", ""]).0, " a \n");
    let (stdout, _, code) = run(&[""]);
    assert!(stdout.is_empty() && code != Some(0));
    let mut command = bivouac.command(&["run", "-q", "--", "/usr/bin/printf"]);
    let output = command.arg(std::ffi::OsStr::from_bytes(b"a\xffb")).output().unwrap();
    let whole = output.stdout == b"a\xffb";
    assert!(whole || String::from_utf8_lossy(&output.stderr).contains("UTF-8"), "{output:?}");
}

/// Covers: T137
#[test]
fn t137_what_programs_read_is_json_and_errors_have_a_prefix() {
    let Some(bivouac) = Bivouac::new("shape") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("j.nomad.hcl");
    std::fs::write(
        &file,
        "job \"j\" {\n group \"g\" {\n task \"t\" {\n driver = \"exec\"\n config {\n command = \"/bin/sleep\"\n args = [\"1000\"]\n}\n}\n}\n}\n",
    )
    .unwrap();
    let (id, stderr, code) = bivouac.told(&["run", "-d", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    let id = id.trim();
    assert_eq!(bivouac.told(&["volume", "create", "data"]).2, Some(0));
    let json = |arguments: &[&str]| -> Value {
        let (stdout, stderr, code) = bivouac.told(arguments);
        assert_eq!((stderr.as_str(), code), ("", Some(0)), "{arguments:?}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"))
    };
    let listed = json(&["ps", "--json"]);
    let task = &listed["allocations"][0]["tasks"][0];
    for (value, wanted) in [
        (&listed["allocations"][0]["id"], Value::from(id)),
        (&listed["allocations"][0]["job"], "j".into()),
        (&listed["allocations"][0]["status"], "running".into()),
        (&task["name"], "t".into()),
        (&task["state"], "running".into()),
        (&task["restarts"], 0.into()),
        (&task["exit_code"], Value::Null),
    ] {
        assert_eq!(value, &wanted, "{listed}");
    }
    assert!(task["pid"].is_i64() && listed["others"].is_array() && listed["jobs"].is_array());
    let stats = json(&["stats", "--json", "t"]);
    assert!(stats[0]["group"]["memory"]["current"].is_u64(), "{stats}");
    let events = json(&["events", "--json", "j"]);
    assert!(events[0]["type"] == "Received" && events[0]["at"].is_i64(), "{events}");
    assert_eq!(json(&["volume", "ls", "--json"])[0]["name"], "data");
    assert!(
        json(&["fs", "ls", "--json", "j"]).as_array().unwrap().iter().any(|entry| entry["name"] == "alloc")
    );
    assert_eq!(json(&["inspect", "j"])[0]["job"], "j");
    assert!(json(&["doctor", "--json"])["problems"].is_array());
    for arguments in
        [&["logs", "nothing"][..], &["stop", "nothing"], &["run", "/no/such.hcl"], &["cp", "a", "b"]]
    {
        let (_, stderr, code) = bivouac.told(arguments);
        assert!(code == Some(125) && stderr.starts_with("bivouac: "), "{arguments:?}: {stderr}");
    }
    let format = |template: &str| bivouac.told(&["ps", "--format", template]).0;
    assert_eq!(format("{{.job}} {{.status}} {{range .tasks}}{{.name}}{{end}}"), "j running t\n");
    assert!(bivouac.told(&["events", "--format", "{{.type}}", "j"]).0.contains("Started\n"));
    let told = |arguments: &[&str]| bivouac.told(arguments).0;
    assert_eq!(told(&["volume", "ls", "--format", "{{.name}}"]), "data\n");
    assert_eq!(told(&["stats", "--format", "{{.id}}", "t"]), format!("{id}/t\n"));
    assert!(told(&["fs", "ls", "--format", "{{.name}} {{.mode}}", "j"]).contains("alloc 0777\n"));
    assert_eq!(told(&["action", "--format", "{{.name}}", "t"]), "");
    assert_eq!(told(&["action", "--json", "t"]), "[]\n");
    let (_, stderr, code) = bivouac.told(&["ps", "--format", "{{.nothing}}"]);
    assert!(code == Some(125) && stderr.contains("--format"), "{stderr}");
    // Ids by their unique beginning; the beginning of two is refused with both.
    let (again, _, _) = bivouac.told(&["run", "-d", "--name", "other", "--", "/bin/sleep", "1000"]);
    assert_eq!(bivouac.told(&["exec", id.get(..8).unwrap(), "true"]).2, Some(0));
    let (_, stderr, code) = bivouac.told(&["exec", "", "true"]);
    assert!(code != Some(0) && !stderr.is_empty());
    assert_eq!(bivouac.told(&["stop", "--timeout", "0", "j", again.trim()]).2, Some(0));
    support::wait_for("gc", || {
        bivouac.told(&["gc"]);
        (std::fs::read_dir(bivouac.state.join("state")).unwrap().count() == 0).then_some(())
    });
}

/// Each line that is said as JSON; panics on any other.
fn reports(stderr: &str) -> Vec<Value> {
    let reports = stderr.lines().map(|line| {
        let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(report["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{report}");
        report
    });
    reports.collect()
}

#[test]
fn what_we_say_ourselves_is_json_where_that_is_asked_for() {
    let Some(bivouac) = Bivouac::new("log-format") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("j.nomad.hcl");
    let json = |arguments: &[&str]| {
        let (stdout, stderr, code) = bivouac.told(&[&["--log-format", "json"], arguments].concat());
        (stdout, reports(&stderr), code)
    };
    let (_, said, code) = json(&["logs", "nothing"]);
    assert_eq!((said.len(), code), (1, Some(125)));
    assert_eq!(said[0]["level"], "error");
    assert!(said[0]["message"].as_str().unwrap().contains("nothing"), "{said:?}");
    let (_, said, code) = json(&["ps", "--nonsense"]);
    assert_eq!(code, Some(2));
    assert_eq!(said[0]["message"], "unexpected argument '--nonsense' found");
    std::fs::write(&file, "job \"j\" {\n nonsense = 1\n group \"g\" {\n wrong = 2\n}\n}\n").unwrap();
    let (_, said, code) = json(&["validate", file.to_str().unwrap()]);
    assert!(said.len() >= 2 && code == Some(125), "{said:?}");
    assert!(
        said.iter().any(|report| report["place"].as_str().unwrap().ends_with("j.nomad.hcl:2:2")),
        "{said:?}"
    );
    let script = "echo out; exit 3";
    let text = format!(
        "job \"j\" {{\n type = \"batch\"\n datacenters = [\"x\"]\n group \"g\" {{\n restart {{\n attempts = 1\n delay = \"1ms\"\n mode = \"fail\"\n}}\n task \"t\" {{\n driver = \"exec\"\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"{script}\"]\n}}\n}}\n}}\n}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let (stdout, said, code) = json(&["run", file.to_str().unwrap()]);
    assert_eq!((stdout.as_str(), code), ("out\nout\n", Some(3)));
    assert!(said.iter().any(|report| report["task"] == "t" && report["level"] == "note"), "{said:?}");
    let (stdout, said, code) = json(&["run", "--quiet", file.to_str().unwrap()]);
    let ours = said.iter().filter(|report| report["task"] == "t").count();
    assert_eq!((stdout.as_str(), ours, code), ("out\nout\n", 0, Some(3)));
}

/// What bash, with our script, makes of a line whose last word is completed.
fn completed(bivouac: &Bivouac, line: &str) -> String {
    const ASK: &str = r#"
        source <("$B" completion bash) || exit 9
        bivouac() { "$B" "$@"; }
        read -ra COMP_WORDS <<< "bivouac --state-dir $STATE $1"
        [[ "$1" == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        compopt() { :; }
        _bivouac_names bivouac "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        echo "${COMPREPLY[*]}""#;
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", ASK, "bash", line]).env("B", env!("CARGO_BIN_EXE_bivouac")).env("STATE", &bivouac.state);
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a person sees who presses the tabulator behind the beginning of a name.
fn at_a_terminal(bivouac: &Bivouac) -> Option<String> {
    let mut bash = std::process::Command::new("script");
    bash.args(["--quiet", "--return", "--command", "bash --norc --noprofile -i", "/dev/null"]);
    // It keeps a history at home.
    let mut bash =
        bash.env("HOME", &bivouac.state).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let keys = format!(
        "bivouac() {{ {} \"$@\"; }}; source <(bivouac completion bash); export BIVOUAC_STATE_DIR={}\nbivouac logs uni\t\nexit\n",
        env!("CARGO_BIN_EXE_bivouac"),
        bivouac.state.display()
    );
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), keys.as_bytes()).unwrap();
    Some(String::from_utf8_lossy(&bash.wait_with_output().unwrap().stdout).into_owned())
}

#[test]
fn names_complete_in_bash() {
    let Some(bivouac) = Bivouac::new("completion") else { return };
    let (id, stderr, code) = bivouac.told(&["run", "-d", "--name", "unique", "--", "/bin/echo", "it ran"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(bivouac.told(&["volume", "create", "data", "dates", "other"]).2, Some(0));
    let id = id.trim();
    for (line, expected) in [
        ("logs uni", "unique"),
        (&format!("stop {}", id.get(..8).unwrap()), id),
        ("logs --task u", "unique"),
        ("exec un", "unique"),
        ("volume rm da", "data dates"),
        ("volume rm other d", "data dates"),
        ("cp u", "unique:"),
        ("logs nothing", ""),
        ("logs --tai", "--tail"),
        ("vol", "volume"),
    ] {
        assert_eq!(completed(&bivouac, line), expected, "{line}");
    }
    let all = completed(&bivouac, "stop ");
    assert!(all.contains("unique") && all.contains(id) && !all.contains("data"), "{all}");
    match at_a_terminal(&bivouac) {
        Some(shown) => assert!(shown.contains("it ran"), "{shown}"),
        None => println!("SKIPPED: names_complete_in_bash: no script(1), no terminal"),
    }
    support::wait_for("gc", || {
        bivouac.told(&["gc"]);
        (std::fs::read_dir(bivouac.state.join("state")).unwrap().count() == 0).then_some(())
    });
}

/// A shell and its check of syntax, if it is installed.
fn shell_takes(bivouac: &Bivouac, shell: &str, script: &str) -> bool {
    let run = |arguments: &[&str]| {
        std::process::Command::new(shell).args(arguments).env("HOME", &bivouac.state).output()
    };
    let known = run(&["-c", "true"]);
    if !known.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: names_complete_in_zsh_and_fish: no {shell}");
        return false;
    }
    let output = run(&["-n", script]).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    true
}

#[test]
fn names_complete_in_zsh_and_fish() {
    let Some(bivouac) = Bivouac::new("completion-others") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    assert_eq!(bivouac.told(&["volume", "create", "data", "dates", "other"]).2, Some(0));
    // Stands for what only an interactive zsh has.
    const ZSH: &str = r#"
        compdef() { :; }
        compadd() { while [[ "$1" != -- ]]; do shift; done; shift; print -r -- "$*"; }
        source "$SCRIPT"
        _bivouac() { print -r -- "no names"; }
        words=("$B" --state-dir "$STATE" ${=1})
        PREFIX=$2 CURRENT=$(( $#words + 1 ))
        _bivouac_names"#;
    const FISH: &str = r#"
        set -x PATH (path dirname "$B") $PATH
        source "$SCRIPT"
        complete -C "bivouac --state-dir $STATE $argv[1] $argv[2]""#;
    for (shell, line) in [("zsh", ZSH), ("fish", FISH)] {
        let script = bivouac.state.join(format!("completion.{shell}"));
        std::fs::write(&script, bivouac.told(&["completion", shell]).0).unwrap();
        if !shell_takes(&bivouac, shell, script.to_str().unwrap()) {
            continue;
        }
        let completed = |before: &str, last: &str| {
            let mut command = std::process::Command::new(shell);
            let name = if shell == "zsh" { &["zsh"][..] } else { &[] };
            command.args(["-c", line]).args(name).args([before, last]);
            command
                .env("B", env!("CARGO_BIN_EXE_bivouac"))
                .env("STATE", &bivouac.state)
                .env("SCRIPT", &script);
            let output = command.env("HOME", &bivouac.state).output().unwrap();
            assert!(output.status.success(), "{shell}: {output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(completed("volume rm", "da"), "data dates", "{shell}");
        assert_eq!(completed("volume rm other", "dat"), "data dates", "{shell}");
        let none = completed("volume create", "da");
        assert!(!none.contains("dates"), "{shell}: new ones are not offered: {none}");
    }
}

#[test]
fn users_are_never_root_by_accident() {
    let Some(bivouac) = Bivouac::new("users") else { return };
    let long = "u".repeat(10_240);
    for user in [
        "0",
        "root",
        "+0",
        "-1",
        "00",
        "0x0",
        " 0",
        "0 ",
        "1:0",
        ":",
        "1000:",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "2147483648",
        "nobody\n",
        "\u{0660}",
        "\u{ff10}",
        long.as_str(),
    ] {
        let option = format!("--user={user}");
        let (stdout, stderr, code) = bivouac.told(&["run", "-q", &option, "--", "/usr/bin/id", "-u"]);
        assert_ne!(stdout.trim(), "0", "{user:?}");
        assert!(code != Some(0) || !stdout.trim().is_empty(), "{user:?}: {stderr}");
        assert!(code == Some(0) || !stderr.is_empty(), "{user:?}");
    }
}

#[test]
fn variables_arrive_as_they_are_or_are_refused() {
    let Some(bivouac) = Bivouac::new("variables") else { return };
    let env = |pair: &str| bivouac.told(&["run", "-q", "-e", pair, "--", "/usr/bin/env"]);
    for (pair, line) in
        [("A=B=C", "A=B=C\n"), ("A=", "A=\n"), ("A=${", "A=${\n"), ("A=one\ntwo", "A=one\ntwo\n")]
    {
        let (stdout, stderr, code) = env(pair);
        assert!(code == Some(0) && stdout.contains(line), "{pair:?}: {stdout}{stderr}");
    }
    let (_, stderr, code) = env("=x");
    assert!(code != Some(0) && !stderr.is_empty());
    let (stdout, _, _) = bivouac.told(&["run", "-q", "-e", "A=1", "-e", "A=2", "--", "/usr/bin/env"]);
    assert_eq!(stdout.matches("A=").count(), 1, "{stdout}");
    assert!(stdout.contains("A=2\n"), "the last one counts: {stdout}");
}

#[test]
fn closed_descriptors_at_the_start_are_nobodys() {
    let Some(bivouac) = Bivouac::new("closed") else { return };
    let program = env!("CARGO_BIN_EXE_bivouac");
    let state = bivouac.state.display();
    let line =
        format!("exec 0<&- 1>&- 2>&-; '{program}' --state-dir '{state}' run -q -- /bin/sh -c 'exit 7'");
    let status = std::process::Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .current_dir(support::root())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}
