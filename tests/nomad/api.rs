//! Nomad's HTTP interface, as far as the tests need it.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest time one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// One agent's interface.
pub(crate) struct Api {
    port: u16,
    /// How to run curl in another network, where the agent has one of its own.
    curl: Option<Vec<String>>,
}

impl Api {
    pub(crate) fn new(port: u16, curl: Option<Vec<String>>) -> Self {
        Self { port, curl }
    }

    /// A document.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, "")
    }

    /// Sends a document and gets one.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask("PUT", path, &body.to_string())
    }

    /// Takes a document away.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, String> {
        self.ask("DELETE", path, "")
    }

    /// HTTP/1.0: the answer ends with the connection, so nothing needs to be counted.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        if let Some(curl) = &self.curl {
            return self.ask_over_there(curl, method, path, body);
        }
        let say = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(say)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(say)?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").map_err(say)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(say)?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: no answer"))?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(format!("{method} {path}: {head}\n{body}"));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(body).map_err(|error| format!("{method} {path}: {error}: {body}"))
    }

    fn ask_over_there(&self, curl: &[String], method: &str, path: &str, body: &str) -> Result<Value, String> {
        let (program, rest) = curl.split_first().expect("a program");
        let output = Command::new(program)
            .args(rest)
            .args(["-sS", "--fail-with-body", "--max-time", "20", "-X", method, "--data", body])
            .arg(format!("http://127.0.0.1:{}{path}", self.port))
            .output()
            .map_err(|error| format!("{method} {path}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{method} {path}: {said} {}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_str(&said).map_err(|error| format!("{method} {path}: {error}: {said}"))
    }

    /// Waits until the first allocation of a job satisfies `wanted`; tells it.
    pub(crate) fn wait_for_allocation(
        &self,
        job: &str,
        longest: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + longest;
        loop {
            let found = self.get(&format!("/v1/job/{job}/allocations"));
            let newest = found.as_ref().ok().and_then(|all| {
                all.as_array()?.iter().max_by_key(|alloc| alloc["CreateIndex"].as_u64()).cloned()
            });
            if let Some(allocation) = newest.as_ref().filter(|allocation| wanted(allocation)) {
                return allocation.clone();
            }
            assert!(Instant::now() < end, "{job} did not get there: {}", events(newest.as_ref()));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The task events of an allocation, for messages.
pub(crate) fn events(allocation: Option<&Value>) -> String {
    let Some(states) = allocation.and_then(|allocation| allocation["TaskStates"].as_object()) else {
        return format!("{allocation:?}");
    };
    let mut text = String::new();
    for (task, state) in states {
        text.push_str(&format!("{task} is {}:\n", state["State"]));
        for event in state["Events"].as_array().into_iter().flatten() {
            let word = |field: &str| event[field].as_str().unwrap_or_default();
            text.push_str(&format!("  {}: {}\n", word("Type"), word("DisplayMessage")));
        }
    }
    text
}
