//! `nomad alloc exec`: the conformance set of drivers, over the command that users type.

use crate::agent::Agent;
use crate::job::{Job, Run};
use crate::shared::ours;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn sleeper<'a>(agent: &'a Agent, name: &str) -> Run<'a> {
    Job::service(name, "bivouac", &["sleep", "9000"]).task("KillTimeout", json!(0)).start(agent)
}

/// A session in a terminal of its own, made by script(1): all it showed, and its exit code.
fn in_terminal(run: &Run<'_>, before: &str, command: &str, typed: &str) -> (String, i32) {
    let quoted = command.replace('\'', r"'\''");
    let line = format!("{before} exec \"$NOMAD\" alloc exec -i -t {} /bin/sh -c '{quoted}'", run.id);
    let shown = run.agent.in_terminal(&line, typed);
    (shown.stdout, shown.code)
}

/// Covers: D1, D2, D3, D4, E21
#[test]
fn d1_without_a_terminal() {
    ours(|agent| {
        let run = sleeper(agent, "d1");
        let ended = run.exec(&["/bin/sh", "-c", "echo hello stdout; echo hello stderr >&2; exit 43"]);
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str(), ended.code),
            ("hello stdout\n", "hello stderr\n", 43)
        );

        let mut child = agent
            .command(&[
                "alloc",
                "exec",
                "-i=false",
                "-t=false",
                &run.id,
                "/bin/sh",
                "-c",
                "for n in 1 2 3; do echo $n; sleep 1; done",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("nomad runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its words")).lines();
        let mut next = || lines.next().and_then(Result::ok);
        assert_eq!(next().as_deref(), Some("1"));
        let first = Instant::now();
        assert_eq!((next().as_deref(), next().as_deref(), next()), (Some("2"), Some("3"), None));
        assert!(first.elapsed() > Duration::from_secs(2), "the lines came together");
        assert!(child.wait().is_ok_and(|status| status.success()));

        let ended = run.exec(&["stty", "size"]);
        assert!(
            ended.code == 1 && ended.stderr.to_lowercase().contains("inappropriate ioctl for device"),
            "{ended:?}"
        );

        let ended =
            run.exec_with(&["/bin/sh", "-c", "echo hello from command; head -n1"], Some("a line\nanother\n"));
        assert_eq!((ended.stdout.as_str(), ended.code), ("hello from command\na line\n", 0));
    });
}

/// Covers: D5, D6, D7, D8, D9
#[test]
fn d5_with_a_terminal() {
    ours(|agent| {
        let run = sleeper(agent, "d5");
        let (shown, code) = in_terminal(&run, "", "echo hello stdout; echo hello stderr >&2; exit 43", "");
        assert_eq!((shown.as_str(), code), ("hello stdout\r\nhello stderr\r\n", 43));
        let (shown, _) = in_terminal(&run, "", "for n in 1 2 3; do echo $n; sleep 0.3; done", "");
        assert_eq!(shown, "1\r\n2\r\n3\r\n");

        let resizes = "stty rows 20 cols 30; (sleep 0.5; stty rows 40 cols 40 </dev/tty; sleep 0.3; stty rows 100 cols 100 </dev/tty) &";
        let (shown, code) = in_terminal(
            &run,
            resizes,
            "n=0; until [ \"$(stty size)\" = '100 100' ] || [ $n = 300 ]; do sleep 0.1; n=$((n+1)); done; stty size",
            "",
        );
        assert_eq!((shown.as_str(), code), ("100 100\r\n", 0));

        let (shown, _) = in_terminal(&run, "", "echo ready; head -n1", "typed\n");
        assert_eq!(shown.matches("typed\r\n").count(), 2, "{shown:?}");

        let begun = Instant::now();
        let (shown, code) =
            in_terminal(&run, "", "(sleep 30; echo from background) & echo from main; exec sleep 1", "");
        assert_eq!((shown.as_str(), code), ("from main\r\n", 0));
        assert!(begun.elapsed() < Duration::from_secs(25), "the child was waited for");
    });
}

/// Covers: Z20
#[test]
fn z20_much_input_arrives_whole() {
    ours(|agent| {
        let run = sleeper(agent, "z20");
        let input = "0123456789abcde\n".repeat(200_000);
        let ended = run.exec_with(
            &["/bin/sh", "-c", "cat > /local/copy; sha256sum < /local/copy; wc -c < /local/copy"],
            Some(&input),
        );
        assert!(ended.stdout.ends_with(&format!("{}\n", input.len())), "{ended:?}");
        let copy = std::fs::read(run.dir().join("main/local/copy")).expect("the copy on the host");
        assert!(copy == input.as_bytes());
    });
}

/// Covers: Z7
#[test]
fn z7_processes_seen_in_a_private_namespace() {
    ours(|agent| {
        let run =
            Job::service("z7", "bivouac", &["sleep", "infinity"]).task("KillTimeout", json!(0)).start(agent);
        let seen = run.exec(&["ps", "ax"]);
        assert_eq!(seen.stdout.lines().count(), 3, "{seen:?}");
    });
}

#[test]
fn a_missing_command_answers_at_once() {
    ours(|agent| {
        let run = sleeper(agent, "missing");
        let begun = Instant::now();
        let ended = run.exec(&["/no/such/command"]);
        assert!(ended.code == 127 && begun.elapsed() < Duration::from_secs(20), "{ended:?}");
    });
}

/// Covers: E12
#[test]
fn e12_a_script_of_a_template_runs_in_the_task() {
    ours(|agent| {
        let item = |word: &str| {
            let path = "nomad/jobs/e12-bivouac";
            let body = json!({"Namespace": "default", "Path": path, "Items": {"word": word}});
            agent.api.put(&format!("/v1/var/{path}"), &body).expect("a variable");
        };
        item("one");
        let script = "cat /proc/self/cgroup > /alloc/data/group; id -u >> /alloc/data/group; /usr/bin/stat /missing; exit 3";
        let template = json!([{
            "DestPath": "local/word", "EmbeddedTmpl": "{{ with nomadVar \"nomad/jobs/e12-bivouac\" }}{{ .word }}{{ end }}",
            "ChangeMode": "script",
            "ChangeScript": {"Command": "/bin/sh", "Args": ["-c", script], "Timeout": 5_000_000_000_u64, "FailOnError": false},
            "Splay": 0,
        }]);
        let run = Job::service("e12", "bivouac", &["sleep", "9000"])
            .task("Templates", template)
            .task("KillTimeout", json!(0))
            .start(agent);
        item("two");
        assert!(crate::agent::deadline(|| run.events().contains("exited with code: 3")), "{}", run.events());
        let said =
            std::fs::read_to_string(run.dir().join("alloc/data/group")).expect("what the script wrote");
        assert!(said.contains(&format!("/nomad/{}.main", run.id)) || said.contains(".scope"), "{said}");
        assert!(said.ends_with("65534\n"), "a script runs as the task's user: {said}");
        assert_eq!(run.exec(&["cat", "/local/word"]).stdout, "two");
    });
}
