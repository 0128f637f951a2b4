//! Checks of services: asked again and again while their task runs; failures in a row restart it.
//!
//! When to ask and what an answer means is pure ([`Watcher`]). An answer is fetched by a thread that lives as long as
//! the question ([`ask`]): it may wait for a network, and the supervisor must not. Between questions there is none.

use crate::restart::Time;
use bivouac_artifact::order::Certificates;
use bivouac_shim::client::Session;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How one is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A command in the task: 0 is well, 1 a warning, everything else ill.
    Script(Vec<String>),
    /// A connection succeeds.
    Tcp(Door),
    /// A request is answered with a status of 2xx; 429 is a warning.
    Http {
        /// Where.
        door: Door,
        /// The request's head and body.
        request: String,
        /// Https, if it is that.
        #[serde(default)]
        tls: Option<Tls>,
    },
}

/// Whom an https check believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Whose certificates.
    pub certificates: Certificates,
    /// The name that a certificate must be for; the address that is asked unless given.
    pub name: Option<String>,
}

/// A port that is asked: inside where the allocation has an address of its own, else on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// On the host.
    pub host: u16,
    /// In the allocation's network.
    pub inside: u16,
    /// The host's address that it is bound on, where it has one of its own.
    #[serde(default)]
    pub on: Option<IpAddr>,
}

impl Door {
    fn address(self, own: Option<IpAddr>) -> SocketAddr {
        match own {
            Some(address) => SocketAddr::new(address, self.inside),
            None => SocketAddr::new(self.on.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.host),
        }
    }
}

/// A check of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How it asks.
    pub probe: Probe,
    /// Time between two questions.
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// When it restarts its task.
    pub restart: Option<Limit>,
}

/// When a failing check restarts its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Failures in a row.
    pub failures: u32,
    /// Time after a start in which failures do not count.
    pub grace: Duration,
    /// What a warning is.
    pub warnings: Warnings,
}

/// What a warning is to `check_restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warnings {
    /// A failure.
    Count,
    /// No failure.
    Ignored,
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Well.
    Passing,
    /// Not quite.
    Warning,
    /// Ill.
    Critical,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// The task is to be restarted.
    Restart,
}

/// When one check asks next, and how often it has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watcher {
    /// When to ask; never while its task does not run or a question is open.
    pub due: Option<Time>,
    started: Time,
    failures: u32,
    /// The last answer.
    pub health: Option<Health>,
}

impl Watcher {
    /// Its task has started.
    pub fn started(&mut self, now: Time, check: &Check) {
        *self = Watcher { due: Some(now.after(check.interval)), started: now, failures: 0, health: None };
    }

    /// Its task has ended.
    pub fn ended(&mut self) {
        *self = Watcher::default();
    }

    /// The question was asked.
    pub fn asked(&mut self) {
        self.due = None;
    }

    /// The answer has come.
    pub fn answered(&mut self, now: Time, check: &Check, health: Health) -> Verdict {
        self.due = Some(now.after(check.interval));
        self.health = Some(health);
        let Some(limit) = check.restart.filter(|limit| limit.failures > 0) else { return Verdict::Nothing };
        let failed = match (health, limit.warnings) {
            (Health::Passing, _) | (Health::Warning, Warnings::Ignored) => false,
            (Health::Critical, _) | (Health::Warning, Warnings::Count) => true,
        };
        if !failed || now < self.started.after(limit.grace) {
            self.failures = 0;
            return Verdict::Nothing;
        }
        self.failures += 1;
        if self.failures < limit.failures { Verdict::Nothing } else { Verdict::Restart }
    }
}

/// A question under way: readable when there is an answer.
#[derive(Debug)]
pub struct Question {
    /// What becomes readable.
    pub answer: PipeReader,
}

impl Question {
    /// The answer; ill when there is none.
    pub fn take(mut self) -> Health {
        let mut byte = [0u8; 1];
        match self.answer.read(&mut byte) {
            Ok(1) if byte == [0] => Health::Passing,
            Ok(1) if byte == [1] => Health::Warning,
            _ => Health::Critical,
        }
    }
}

/// What a thread does to get an answer.
pub enum Errand {
    /// Waits for a command that runs already.
    Script(Session),
    /// Asks over the network.
    Network(Probe, Option<IpAddr>),
}

/// Starts the question. Answers within `timeout`, for a script when the shim has ended it.
///
/// # Errors
/// No more descriptors or threads.
pub fn ask(errand: Errand, timeout: Duration) -> std::io::Result<Question> {
    let (answer, mut writer) = std::io::pipe()?;
    let body = move || {
        let health = match errand {
            Errand::Script(session) => script(session, timeout),
            Errand::Network(probe, own) => over_network(&probe, own, timeout),
        };
        let byte = match health {
            Health::Passing => 0,
            Health::Warning => 1,
            Health::Critical => 2,
        };
        // Nobody waits any more: the task has ended meanwhile.
        let _ = writer.write_all(&[byte]);
    };
    // TLS has its keys and messages on the stack; a page that is not touched costs nothing.
    std::thread::Builder::new().stack_size(512 * 1024).spawn(body)?;
    Ok(Question { answer })
}

fn script(mut session: Session, timeout: Duration) -> Health {
    // The shim ends it at its deadline; a little later the answer must be there.
    let end = Instant::now().checked_add(timeout + Duration::from_secs(5));
    match session.wait(end).map(|end| end.ending.code()) {
        Ok(0) => Health::Passing,
        Ok(1) => Health::Warning,
        Ok(_) | Err(_) => Health::Critical,
    }
}

fn over_network(probe: &Probe, own: Option<IpAddr>, timeout: Duration) -> Health {
    let well = match probe {
        Probe::Script(_) => return Health::Critical,
        Probe::Tcp(door) => TcpStream::connect_timeout(&door.address(own), timeout).map(|_| Health::Passing),
        Probe::Http { door, request, tls } => http(door.address(own), request, tls.as_ref(), timeout),
    };
    well.unwrap_or(Health::Critical)
}

fn http(address: SocketAddr, request: &str, tls: Option<&Tls>, timeout: Duration) -> std::io::Result<Health> {
    let end = Instant::now() + timeout;
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    stream.set_write_timeout(Some(left))?;
    stream.set_read_timeout(Some(left))?;
    match tls {
        None => converse(stream, request),
        Some(tls) => {
            let name = tls.name.clone().unwrap_or_else(|| address.ip().to_string());
            converse(bivouac_artifact::tls::client(stream, &name, tls.certificates)?, request)
        }
    }
}

/// Asks, and reads the answer's first line.
fn converse(mut stream: impl Read + Write, request: &str) -> std::io::Result<Health> {
    const LONGEST_LINE: u64 = 8192;
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    Ok(match status {
        Some(200..300) => Health::Passing,
        Some(429) => Health::Warning,
        _ => Health::Critical,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(probe: Probe, restart: Option<Limit>) -> Check {
        Check { name: "c".into(), probe, interval: 10 * SECOND, timeout: SECOND, restart }
    }

    fn at(seconds: u32) -> Time {
        Time::default().after(seconds * SECOND)
    }

    #[test]
    fn failures_in_a_row_after_the_grace_restart() {
        let limit = Limit { failures: 2, grace: 15 * SECOND, warnings: Warnings::Count };
        let check = check(Probe::Script(vec![]), Some(limit));
        let mut watcher = Watcher::default();
        watcher.started(at(0), &check);
        assert_eq!(watcher.due, Some(at(10)));
        watcher.asked();
        assert_eq!(watcher.due, None);
        assert_eq!(watcher.answered(at(10), &check, Health::Critical), Verdict::Nothing, "in its grace");
        assert_eq!(watcher.answered(at(20), &check, Health::Critical), Verdict::Nothing);
        assert_eq!(watcher.answered(at(30), &check, Health::Passing), Verdict::Nothing);
        assert_eq!(watcher.answered(at(40), &check, Health::Warning), Verdict::Nothing, "not in a row");
        assert_eq!(watcher.answered(at(50), &check, Health::Critical), Verdict::Restart);
        let patient = Check {
            restart: Some(Limit { warnings: Warnings::Ignored, failures: 1, grace: Duration::ZERO }),
            ..check
        };
        watcher.started(at(0), &patient);
        assert_eq!(watcher.answered(at(60), &patient, Health::Warning), Verdict::Nothing);
        assert_eq!(watcher.answered(at(70), &patient, Health::Critical), Verdict::Restart);
    }

    /// A server that answers everybody with the same words.
    fn server(words: &'static str) -> Door {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0u8; 512]);
                let _ = stream.write_all(words.as_bytes());
            }
        });
        Door { host: port, inside: 1, on: None }
    }

    #[test]
    fn answers_over_the_network() {
        let health = |probe: Probe| ask(Errand::Network(probe, None), 20 * SECOND).unwrap().take();
        let http = |words| {
            health(Probe::Http {
                door: server(words),
                request: "GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
                tls: None,
            })
        };
        assert_eq!(http("HTTP/1.1 204 No Content\r\n\r\n"), Health::Passing);
        assert_eq!(http("HTTP/1.1 429 Too Many\r\n\r\n"), Health::Warning);
        assert_eq!(http("HTTP/1.1 500 No\r\n\r\n"), Health::Critical);
        assert_eq!(http("nonsense"), Health::Critical);
        assert_eq!(http(""), Health::Critical);
        assert_eq!(health(Probe::Tcp(server(""))), Health::Passing);
        let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        assert_eq!(health(Probe::Tcp(Door { host: closed, inside: 1, on: None })), Health::Critical);
    }

    #[test]
    fn a_silent_server_is_waited_for_no_longer_than_the_timeout() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let door = Door { host: listener.local_addr().unwrap().port(), inside: 1, on: None };
        let probe = Probe::Http { door, request: "GET / HTTP/1.1\r\n\r\n".into(), tls: None };
        let question = ask(Errand::Network(probe, None), Duration::from_millis(50)).unwrap();
        assert_eq!(question.take(), Health::Critical);
    }
}
