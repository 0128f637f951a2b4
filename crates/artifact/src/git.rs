//! Repositories: the git program, with neither the user's nor the system's settings, and no hooks.
//!
//! What a login says is in none of git's arguments and variables, which others can read: git's own `credential-store` reads
//! it from a file in the private directory, and gives it to the one server only.

mod said;

use crate::address::{Login, Repository};
use crate::helper::{TREE, Teller};
use crate::order::{Certificates, Failure, Fetch, Limits, Phase};
use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use said::{Reached, Said};
use std::path::Path;
use std::process::{Command, Stdio};

const KEY: &str = "key";
/// Where `credential-store` looks in its home directory.
const CREDENTIALS: &str = ".git-credentials";
/// Settings of every call: only protocols that need no program of the repository's choice, no hooks, no surprises.
const SETTINGS: [&str; 14] = [
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.git.allow=always",
    "protocol.ssh.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "transfer.fsckObjects=true",
    "http.followRedirects=initial",
    "filter.lfs.required=false",
    "advice.detachedHead=false",
];

/// Clones into `tree`.
pub(crate) fn clone(
    repository: &Repository,
    fetch: &Fetch,
    limits: &Limits,
    teller: &mut Teller,
) -> Result<(), Failure> {
    end_with_starter()
        .map_err(|error| Failure::never(format!("cannot watch the process that asked for this: {error}")))?;
    if let Some(key) = &repository.ssh_key {
        write_key(key)?;
    }
    if let Some(login) = &repository.login {
        write_private(CREDENTIALS, credentials(&repository.url, login).as_bytes())
            .map_err(|error| Failure::never(format!("cannot hand the login to git: {error}")))?;
    }
    let mut tell = |reached| match reached {
        Reached::So(bytes) => teller.progress(Phase::Fetching, bytes, None),
        Reached::End(bytes) => teller.arrived(Phase::Fetching, bytes),
    };
    let mut said = Said::new(&mut tell);
    run(&clone_arguments(repository), repository, fetch, limits, &mut said)?;
    if let Some(commit) = repository.reference.as_deref().filter(|name| is_commit(name)) {
        let words = ["-C", TREE, "checkout", "--quiet", "--detach", commit, "--"];
        run(&words.map(str::to_owned), repository, fetch, limits, &mut said)?;
    }
    if Path::new(TREE).join(".gitmodules").symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        let words = ["-C", TREE, "submodule", "update", "--progress", "--init", "--recursive"];
        run(&words.map(str::to_owned), repository, fetch, limits, &mut said)?;
    }
    Ok(())
}

/// Ends this process and all of git's when the starter dies. Git has children of its own, so a signal at the death of
/// a parent would leave some of them at work; they all are in the group that the starter made for us. Its death
/// closes the other end of our standard output.
fn end_with_starter() -> std::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    std::thread::Builder::new().name("starter".into()).spawn(|| {
        let out = std::io::stdout();
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    })?;
    Ok(())
}

fn is_commit(name: &str) -> bool {
    (7..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a repository lies on a web server, and no login for that is known yet.
pub(crate) fn may_ask_for_login(repository: &Repository) -> bool {
    let web = ["https://", "http://"].iter().any(|scheme| repository.url.starts_with(scheme));
    web && repository.login.is_none()
}

/// What git's `credential-store` reads: a login for every path of one server.
fn credentials(url: &str, login: &Login) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("{scheme}://{}:{}@{server}\n", encoded(&login.user), encoded(&login.password))
}

fn clone_arguments(repository: &Repository) -> Vec<String> {
    let mut words = ["clone", "--progress", "--template="].map(str::to_owned).to_vec();
    match repository.reference.as_deref() {
        // Servers give commits by number only as part of a history.
        Some(name) if is_commit(name) => words.push("--no-checkout".to_owned()),
        name => {
            words.extend(name.map(|name| format!("--branch={name}")));
            words.extend(repository.depth.map(|depth| format!("--depth={depth}")));
        }
    }
    words.extend(["--".to_owned(), repository.url.clone(), TREE.to_owned()]);
    words
}

fn write_key(base64: &str) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::never(format!("option sshkey: {why}"));
    let key = decode(base64).ok_or_else(|| failed(&"it is not base64"))?;
    write_private(KEY, &key).map_err(|error| failed(&error))
}

/// Writes a file that git's own processes read, and nobody else.
fn write_private(name: &str, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(name)?;
    file.write_all(bytes)
}

/// Standard base64, perhaps broken into lines.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(text).ok()
}

fn run(
    words: &[String],
    repository: &Repository,
    fetch: &Fetch,
    limits: &Limits,
    said: &mut Said<'_>,
) -> Result<(), Failure> {
    let shown = crate::address::without_secrets(&repository.url);
    let mut command = Command::new("git");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if fetch.certificates == Certificates::Any {
        command.args(["-c", "http.sslVerify=false"]);
    }
    let silence = limits.silence.to_string();
    command.args([
        "-c",
        &format!("http.lowSpeedTime={silence}"),
        "-c",
        &format!("http.lowSpeedLimit={}", limits.least_rate),
    ]);
    if repository.login.is_some() {
        let directory = std::env::current_dir()
            .map_err(|error| Failure::never(format!("cannot name the private directory: {error}")))?;
        command.args(["-c", "credential.helper=store"]).env("HOME", directory);
    }
    command
        .args(words)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/false")
        .env("GIT_SSH_COMMAND", ssh(repository))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        command.env("GIT_SSL_CAINFO", file);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::never("git is not installed (the package is called git)"),
        _ => Failure::never(format!("cannot start git: {error}")),
    })?;
    let text = child.stderr.take().map(|stderr| said.follow(stderr)).unwrap_or_default();
    let status = child.wait().map_err(|error| Failure::never(format!("cannot wait for git: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(explain(&shown, &repository.url, &text))
}

fn explain(shown: &str, url: &str, text: &str) -> Failure {
    let said = text.lines().rfind(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    let said = said.or_else(|| text.lines().last()).unwrap_or("git failed without a word");
    // The address may hold a password.
    let said = said.replace(url, shown);
    let text = format!("{shown}: {said}");
    let lasting = [
        "not found",
        "does not appear",
        "not allowed",
        "Authentication failed",
        "did not match",
        "unable to read tree",
    ];
    if lasting.iter().any(|word| said.contains(word)) { Failure::never(text) } else { Failure::perhaps(text) }
}

fn ssh(repository: &Repository) -> String {
    let key =
        if repository.ssh_key.is_some() { format!(" -i {KEY} -o IdentitiesOnly=yes") } else { String::new() };
    // The host's key must be known to this machine: whoever answers first is not believed.
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/dev/null{key}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_with_the_address_behind_two_dashes() {
        let mut repository = Repository {
            url: "https://h/x".to_owned(),
            reference: None,
            depth: Some(1),
            ssh_key: None,
            login: None,
        };
        let words = |repository: &Repository| clone_arguments(repository).join(" ");
        assert_eq!(words(&repository), "clone --progress --template= --depth=1 -- https://h/x tree");
        repository.reference = Some("v1".to_owned());
        assert_eq!(
            words(&repository),
            "clone --progress --template= --branch=v1 --depth=1 -- https://h/x tree"
        );
        repository.reference = Some("0123abc".to_owned());
        assert_eq!(words(&repository), "clone --progress --template= --no-checkout -- https://h/x tree");
    }

    #[test]
    fn errors_show_no_password() {
        let failure = explain(
            "https://h/x",
            "https://u:secret@h/x",
            "fatal: repository 'https://u:secret@h/x' not found\n",
        );
        assert_eq!(failure.text, "https://h/x: fatal: repository 'https://h/x' not found");
    }

    #[test]
    fn a_login_is_asked_for_where_there_is_none() {
        let repository = |url: &str, login| Repository {
            url: url.to_owned(),
            reference: None,
            depth: None,
            ssh_key: None,
            login,
        };
        let login = Login { user: "joe".to_owned(), password: String::new() };
        assert!(may_ask_for_login(&repository("http://h:80/a@b", None)));
        assert!(!may_ask_for_login(&repository("https://h/x", Some(login))));
        assert!(!may_ask_for_login(&repository("ssh://git@h/x", None)));
    }

    #[test]
    fn a_login_is_one_line_whatever_it_holds() {
        let login = Login { user: "j@e".to_owned(), password: "s/3:c r\n'\u{e4}".to_owned() };
        let text = credentials("https://h.example:8443/x?y@z", &login);
        assert_eq!(text, "https://j%40e:s%2F3%3Ac%20r%0A%27%C3%A4@h.example:8443\n");
    }

    #[test]
    fn keys_are_decoded() {
        assert_eq!(decode("aGVsbG8=\n").unwrap(), b"hello");
        assert_eq!(decode("aGVs bG8="), Some(b"hello".to_vec()));
        assert_eq!(decode("a*"), None);
    }
}
