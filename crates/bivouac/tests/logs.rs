//! `logs`: of runs in the background and in the foreground, with times, from a time on, as JSON.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::process::Stdio;
use std::time::SystemTime;
use support::{Bivouac, wait_for};

/// A job file of one task `t` that runs a shell line.
fn job(bivouac: &Bivouac, logs: &str, line: &str) -> String {
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("job.nomad.hcl");
    let text = format!(
        "job \"j\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 0\n mode = \"fail\"\n }}\n task \"t\" {{\n driver = \"exec\"\n {logs}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", <<EOF\n{line}\nEOF\n]\n}}\n}}\n}}\n}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The only allocation's id.
fn only(bivouac: &Bivouac) -> String {
    let listed: serde_json::Value =
        serde_json::from_str(&bivouac.told(&["ps", "-a", "--json"]).0).unwrap_or_default();
    let allocations = listed["allocations"].as_array().cloned().unwrap_or_default();
    assert_eq!(allocations.len(), 1, "{listed}");
    allocations[0]["id"].as_str().unwrap().to_owned()
}

/// Makes a file in the allocation's directory that a task waits for. Not by `exec`: a command that lets its task come to
/// its end may be killed with it.
fn let_go(bivouac: &Bivouac, id: &str, file: &str) {
    std::fs::write(bivouac.state.join("allocs").join(id).join(file), "").unwrap();
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The moment of a line that begins with one, in seconds since 1970, and the rest.
fn split(line: &str) -> (u64, &str) {
    let (time, rest) = line.split_once(' ').unwrap();
    let (day, clock) = time.strip_suffix('Z').unwrap().split_once('T').unwrap();
    assert_eq!((day.len(), clock.len()), (10, 10), "a tenth of a second: {time}");
    (date(&["-d", time, "+%s"]).parse().unwrap(), rest)
}

/// What date(1) says.
fn date(arguments: &[&str]) -> String {
    let output = std::process::Command::new("date").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Covers: T125
#[test]
fn lines_have_their_times_and_are_shown_from_a_time_on() {
    let Some(bivouac) = Bivouac::new("log-times") else { return };
    let begin = seconds();
    // The second line waits for what this test does after the first: the difference is no matter of luck.
    let file = job(
        &bivouac,
        "",
        "echo first; until test -e /local/go; do sleep 0.02; done; echo second; echo e >&2",
    );
    assert_eq!(bivouac.told(&["run", "-d", &file]).2, Some(0));
    let logs = |more: &[&str]| bivouac.told(&[&["logs"], more, &["j"]].concat());
    wait_for("the first line", || (logs(&[]).0 == "first\n").then_some(()));
    let seen = seconds();
    wait_for("a later second", || (seconds() > seen).then_some(()));
    let middle = seconds();
    wait_for("a later second", || (seconds() > middle).then_some(()));
    let id = only(&bivouac);
    let_go(&bivouac, &id, "t/local/go");
    wait_for("the last line", || (logs(&[]).0 == "first\nsecond\ne\n").then_some(()));
    let (stdout, stderr, code) = logs(&["--timestamps", "--stdout"]);
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    let lines: Vec<_> = stdout.lines().map(split).collect();
    assert_eq!(lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["first", "second"]);
    let (first, second) = (lines[0].0, lines[1].0);
    assert!((begin..=middle).contains(&first) && second > middle, "{begin} {first} {middle} {second}");
    let middle = date(&["-u", "-d", &format!("@{middle}"), "+%FT%TZ"]);
    assert_eq!(logs(&["--since", &middle]).0, "second\ne\n");
    assert_eq!(logs(&["--since", "1h", "-n", "1", "--stdout"]).0, "second\n");
    assert_eq!(logs(&["--since", "2099-01-01"]).0, "");
    let json = logs(&["--json", "--stdout", "--since", &middle]).0;
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((row["line"].as_str(), row["task"].as_str()), (Some("second"), Some("t")));
    assert!(row["time"].as_str().unwrap() > middle.as_str(), "{row}");
    let (_, stderr, code) = logs(&["--since", "soon"]);
    assert!(stderr.contains("--since <DURATION|TIME>") && code == Some(2), "{stderr}");
    wait_for("its end", || (bivouac.told(&["gc"]).1.contains(&id)).then_some(()));
}

/// Waits until what is written from now on is told apart from what was written before.
fn pass_a_second() {
    let seen = seconds();
    wait_for("a later second", || (seconds() > seen + 1).then_some(()));
}

/// Covers: T125
#[test]
fn lines_of_several_tasks_and_streams_come_by_their_times() {
    let Some(bivouac) = Bivouac::new("log-merge") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let task = |name: &str, line: &str| {
        format!(
            "task \"{name}\" {{\n driver = \"exec\"\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"{line}\"]\n}}\n}}\n"
        )
    };
    let wait = |file: &str| format!("until test -e /alloc/{file}; do sleep 0.02; done; ");
    let text = format!(
        "job \"j\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 0\n mode = \"fail\"\n }}\n{}{}}}\n}}\n",
        task("a", &format!("echo 1; {}echo 3", wait("three"))),
        task("bb", &format!("{}echo 2 >&2; {}", wait("two"), wait("three"))),
    );
    let file = bivouac.state.join("job.nomad.hcl");
    std::fs::write(&file, text).unwrap();
    assert_eq!(bivouac.told(&["run", "-d", file.to_str().unwrap()]).2, Some(0));
    let logs = |more: &[&str]| bivouac.told(&[&["logs"], more, &["j"]].concat()).0;
    wait_for("the first line", || (logs(&[]) == "a  | 1\n").then_some(()));
    let id = only(&bivouac);
    let follower = bivouac.command(&["logs", "-f", "j"]).stdout(Stdio::piped()).spawn().unwrap();
    for (file, shown) in [("two", "a  | 1\nbb | 2\n"), ("three", "a  | 1\nbb | 2\na  | 3\n")] {
        pass_a_second();
        let_go(&bivouac, &id, &format!("alloc/{file}"));
        wait_for("the next line", || (logs(&[]) == shown).then_some(()));
    }
    assert_eq!(logs(&["-n", "2"]), "bb | 2\na  | 3\n", "the last two of all");
    assert_eq!(logs(&["-n", "1", "--stderr"]), "bb | 2\n");
    let json = logs(&["--json"]);
    let rows = json.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
    let said: Vec<_> = rows.map(|row| format!("{} {}", row["task"], row["line"])).collect();
    assert_eq!(said, ["\"a\" \"1\"", "\"bb\" \"2\"", "\"a\" \"3\""]);
    let followed = follower.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), "a  | 1\nbb | 2\na  | 3\n");
    wait_for("its end", || (bivouac.told(&["gc"]).1.contains(&id)).then_some(()));
}

#[test]
fn a_run_in_the_foreground_keeps_its_logs_as_long_as_its_allocation() {
    let Some(bivouac) = Bivouac::new("log-foreground") else { return };
    let line = "echo said; echo wrong >&2; until test -e /local/go; do sleep 0.02; done; echo over";
    for (logs, kept) in [("", "said\nwrong\n"), ("logs {\n disabled = true\n}", "")] {
        let file = job(&bivouac, logs, line);
        let mut run = bivouac.command(&["run", "--keep", "--quiet", &file]);
        let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id = wait_for("the allocation", || {
            let text = bivouac.told(&["ps", "--json"]).0;
            let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
            listed["allocations"][0]["id"].as_str().map(str::to_owned)
        });
        wait_for("its output while it runs", || (bivouac.told(&["logs", &id]).0 == kept).then_some(()));
        let_go(&bivouac, &id, "t/local/go");
        let mut shown = String::new();
        std::io::Read::read_to_string(&mut run.stdout.take().unwrap(), &mut shown).unwrap();
        assert_eq!((shown.as_str(), run.wait().unwrap().code()), ("said\nover\n", Some(0)));
        let after = bivouac.told(&["logs", "--stdout", &id]);
        assert_eq!(after.0, if kept.is_empty() { "" } else { "said\nover\n" }, "{}", after.1);
        assert!(bivouac.told(&["gc"]).1.contains(&id));
        assert_eq!(bivouac.told(&["logs", &id]).2, Some(125));
    }
    let file = job(&bivouac, "", "echo gone");
    assert_eq!(bivouac.told(&["run", "--quiet", &file]).0, "gone\n");
    assert_eq!(bivouac.told(&["logs", "j"]).2, Some(125), "the allocation is gone, and its logs with it");
}
