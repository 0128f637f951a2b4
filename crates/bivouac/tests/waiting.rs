//! Tasks that wait for what does not come, and what the others make of it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use serde_json::Value;
use support::{Bivouac, wait_for};

/// A job of one group; `body` is what stands in it.
fn job(bivouac: &Bivouac, body: &str) -> String {
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let file = bivouac.state.join("j.nomad.hcl");
    std::fs::write(&file, format!("job \"j\" {{\n type = \"batch\"\n group \"g\" {{\n{body}\n}}\n}}\n"))
        .unwrap();
    file.to_str().unwrap().to_owned()
}

fn task(name: &str, more: &str, line: &str) -> String {
    format!(
        "task \"{name}\" {{\n driver = \"exec\"\n kill_timeout = \"1s\"\n {more}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"{line}\"]\n}}\n}}\n"
    )
}

const PATIENT: &str =
    "restart {\n attempts = 100\n interval = \"1h\"\n delay = \"1s\"\n mode = \"delay\"\n}\n";

impl Bivouac {
    fn tasks(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.told(&["ps", "-a", "--json"]).0).unwrap();
        listed["allocations"][0]["tasks"].as_array().cloned().unwrap_or_default()
    }

    fn kinds(&self, task: &str) -> String {
        self.told(&["events", task]).0
    }
}

/// Runs a job in a process of its own, and has it stopped when this is dropped.
struct Running<'a>(&'a Bivouac, std::process::Child);

impl<'a> Running<'a> {
    fn new(bivouac: &'a Bivouac, file: &str) -> Running<'a> {
        let null = std::process::Stdio::null;
        let child = bivouac.command(&["run", "-q", file]).stdout(null()).stderr(null()).spawn().unwrap();
        Running(bivouac, child)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.1.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.1.wait();
        self.0.told(&["gc"]);
    }
}

/// Covers: W20
#[test]
fn w20_a_task_whose_template_never_renders_can_be_stopped() {
    let Some(bivouac) = Bivouac::new("template") else { return };
    let template = "template {\n data = \"{{ file \\\"/local/never\\\" }}\"\n destination = \"local/x\"\n}\n";
    let body = format!("{PATIENT}{}", task("t", template, "true"));
    let mut running = Running::new(&bivouac, &job(&bivouac, &body));
    wait_for("a try that failed", || bivouac.kinds("j").contains("Restarting").then_some(()));
    let (_, stderr, code) = bivouac.told(&["stop", "j"]);
    assert_eq!(code, Some(0), "{stderr}");
    wait_for("the end of the run", || running.1.try_wait().unwrap());
}

/// Covers: W12
#[test]
fn w12_a_signal_that_reaches_nobody_is_an_error() {
    let Some(bivouac) = Bivouac::new("signal") else { return };
    let body = format!("{PATIENT}{}{}", task("a", "", "exit 0"), task("b", "", "exec sleep 1000"));
    let _running = Running::new(&bivouac, &job(&bivouac, &body));
    wait_for("the end of one", || {
        bivouac.tasks().iter().any(|task| task["state"] == "exited (0)").then_some(())
    });
    let (_, stderr, code) = bivouac.told(&["signal", "-s", "HUP", "j.g[0]/a"]);
    assert!(code != Some(0) && stderr.contains("not running"), "{stderr}");
    let (_, stderr, code) = bivouac.told(&["restart", "j.g[0]/a"]);
    assert!(
        code != Some(0) && stderr.contains("not running"),
        "what has ended is not started again: {stderr}"
    );
}
