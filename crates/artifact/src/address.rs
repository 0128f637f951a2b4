//! Addresses as go-getter writes them: a forced getter, an address, a sub-directory and options in the query.

use crate::archive::ArchiveKind;
use crate::checksum::{BadChecksum, Checksum};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest address that is read.
const LONGEST: usize = 16 * 1024;
/// What the value of a query may hold without being escaped.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How something is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Getter {
    /// By a request to a server.
    Http(Web),
    /// By reading a file or directory of this machine.
    File(String),
    /// By cloning a repository.
    Git(Repository),
}

/// Something a web server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Web {
    /// The address without name, password and our own options.
    pub url: String,
    /// Name and password, if the address had them.
    pub login: Option<Login>,
}

/// Name and password of an address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Name.
    pub user: String,
    /// Password; empty if there was none.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, redacted)", self.user)
    }
}

/// A repository, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Address as git takes it.
    pub url: String,
    /// Branch, tag or commit.
    pub reference: Option<String>,
    /// How many commits of history.
    pub depth: Option<u32>,
    /// A private key for ssh, in base64.
    pub ssh_key: Option<String>,
    /// Name and password for its server, which the address never has.
    #[serde(default)]
    pub login: Option<Login>,
}

/// Whether an archive is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unpacking {
    /// If its name says it is one.
    #[default]
    ByName,
    /// Never.
    Never,
    /// As this kind, whatever its name.
    As(ArchiveKind),
}

/// A whole address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// How it is fetched.
    pub getter: Getter,
    /// Only this part of the result.
    pub part: Option<String>,
    /// What it must be.
    pub checksum: Option<Checksum>,
    /// Whether it is unpacked.
    pub unpacking: Unpacking,
    /// The last part of its name, or what the option `filename` says.
    pub file_name: String,
    /// What may be shown of it: no password, no query.
    pub shown: String,
}

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Nothing there.
    #[error("the source is empty")]
    Empty,
    /// A sane one is shorter.
    #[error("the source is longer than {LONGEST} bytes")]
    Long,
    /// Control characters end lines in other people's protocols.
    #[error("failed to parse source URL {0:?}: it holds a control character or a space")]
    Control(String),
    /// A getter that is not there.
    #[error(
        "{0:?} sources are not fetched by this version; use http, https, git or file, or fetch it in a prestart task"
    )]
    Getter(String),
    /// No scheme, and none could be guessed.
    #[error(
        "failed to parse source URL {0:?}: it has no scheme; write https://..., git::https://... or file:///..."
    )]
    Scheme(String),
    /// A part of it is wrong.
    #[error("failed to parse source URL {shown:?}: {why}")]
    Malformed {
        /// The address.
        shown: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An option is wrong.
    #[error("option {name} = {value:?}: {why}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An option that is a checksum is wrong.
    #[error(transparent)]
    Checksum(#[from] BadChecksum),
}

impl Address {
    /// Reads a source and its options, which win over those in the source's own query.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn parse(source: &str, options: &BTreeMap<String, String>) -> Result<Address, BadAddress> {
        let source = source.trim();
        if source.is_empty() {
            return Err(BadAddress::Empty);
        }
        if source.len() > LONGEST {
            return Err(BadAddress::Long);
        }
        if source.chars().any(|c| c.is_control() || c == ' ') {
            return Err(BadAddress::Control(without_secrets(source)));
        }
        let (forced, rest) = forced_getter(source);
        let full = detect(rest).ok_or_else(|| BadAddress::Scheme(without_secrets(source)))?;
        let (detected, full) = forced_getter(&full);
        let name = forced.or(detected);
        let (bare, part) = split_part(full)?;
        let (bare, query) = split_query(&bare);
        let mut query = Query::parse(query.as_deref().unwrap_or_default());
        for (key, value) in options {
            query.set(key, value);
        }
        let shown = without_secrets(&bare);
        let checksum = query.take("checksum").filter(|text| !text.is_empty());
        let checksum = checksum.map(|text| Checksum::parse(&text)).transpose()?;
        let unpacking = unpacking(query.take("archive"))?;
        let given_name = query.take("filename");
        let getter = getter(name, &bare, &mut query)?;
        if checksum.is_some() && matches!(getter, Getter::Git(_)) {
            return Err(BadAddress::Option {
                name: "checksum",
                value: "...".to_owned(),
                why: "a repository has no checksum; pin it with ref = \"<commit>\"",
            });
        }
        let file_name = match given_name.filter(|name| !name.is_empty()) {
            Some(name) => plain_name(&name).ok_or(BadAddress::Option {
                name: "filename",
                value: name,
                why: "it must be one name without slashes",
            })?,
            None => last_name(&bare),
        };
        Ok(Address { getter, part, checksum, unpacking, file_name, shown })
    }
}

/// `git::rest` -> (`git`, `rest`).
fn forced_getter(source: &str) -> (Option<String>, &str) {
    match source.split_once("::") {
        Some((name, rest)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            (Some(name.to_ascii_lowercase()), rest)
        }
        _ => (None, source),
    }
}

/// Short-hands that go-getter knows, written out.
fn detect(source: &str) -> Option<String> {
    if source.contains("://") {
        return Some(source.to_owned());
    }
    let (path, query) = split_query(source);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    for host in ["github.com", "gitlab.com", "bitbucket.org"] {
        if let Some(rest) = path.strip_prefix(&format!("{host}/")) {
            let mut names = rest.splitn(3, '/');
            let (owner, name) = (names.next()?, names.next()?);
            let part =
                names.next().map(|part| format!("//{}", part.trim_start_matches('/'))).unwrap_or_default();
            let dot = if name.ends_with(".git") { "" } else { ".git" };
            return Some(format!("git::https://{host}/{owner}/{name}{dot}{part}{query}"));
        }
    }
    if path.contains(".amazonaws.com/") {
        return Some(format!("s3::https://{path}{query}"));
    }
    if path.starts_with("www.googleapis.com/") {
        return Some(format!("gcs::https://{path}{query}"));
    }
    // git@host:path
    let (user, rest) = path.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let words = [user, host];
    let plain = words.iter().all(|word| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    });
    plain.then(|| format!("git::ssh://{user}@{host}/{}{query}", path.trim_start_matches('/')))
}

/// `https://host/a.tar.gz//sub?x=y` -> (`https://host/a.tar.gz?x=y`, `sub`).
fn split_part(source: &str) -> Result<(String, Option<String>), BadAddress> {
    let (path, query) = split_query(source);
    let after_scheme = path.find("://").map_or(0, |at| at + 3);
    let (head, tail) = path.split_at_checked(after_scheme).unwrap_or(("", &path));
    // `file:///x` begins with a slash of its own.
    let lead = usize::from(tail.starts_with('/'));
    let rest = tail.get(lead..).unwrap_or_default();
    let Some((before, part)) = rest.split_once("//") else { return Ok((source.to_owned(), None)) };
    let part = part.trim_matches('/');
    let bad = |why| BadAddress::Malformed { shown: without_secrets(source), why };
    if part.split('/').any(|name| name == "..") {
        return Err(bad("the sub-directory after // must not contain .."));
    }
    let slash = if lead == 1 { "/" } else { "" };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok((format!("{head}{slash}{before}{query}"), (!part.is_empty()).then(|| part.to_owned())))
}

fn split_query(source: &str) -> (String, Option<String>) {
    let source = source.split('#').next().unwrap_or_default();
    match source.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (source.to_owned(), None),
    }
}

/// A query in its order; what is not ours goes on to the server.
struct Query(Vec<(String, Option<String>)>);

impl Query {
    fn parse(text: &str) -> Query {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        Query(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| match pair.split_once('=') {
                    Some((key, value)) => (decode(key), Some(decode(value))),
                    None => (decode(pair), None),
                })
                .collect(),
        )
    }

    fn set(&mut self, key: &str, value: &str) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), Some(value.to_owned())));
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        self.0.remove(at).1
    }

    fn text(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let pairs = self.0.iter().map(|(key, value)| match value {
            Some(value) => format!("{}={}", encode(key), encode(value)),
            None => encode(key),
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

fn unpacking(option: Option<String>) -> Result<Unpacking, BadAddress> {
    let Some(option) = option.filter(|text| !text.is_empty()) else { return Ok(Unpacking::ByName) };
    if matches!(option.as_str(), "false" | "0" | "f" | "F" | "False" | "FALSE") {
        return Ok(Unpacking::Never);
    }
    match ArchiveKind::of_option(&option) {
        Some(kind) => Ok(Unpacking::As(kind)),
        None => Err(BadAddress::Option {
            name: "archive",
            value: option,
            why: "use false, or one of tar, tar.gz, tgz, tar.bz2, tbz2, tar.xz, txz, tar.zst, tzst, zip, gz, bz2, xz, zst",
        }),
    }
}

fn getter(name: Option<String>, bare: &str, query: &mut Query) -> Result<Getter, BadAddress> {
    let bad = |why| BadAddress::Malformed { shown: without_secrets(bare), why };
    let (scheme, rest) = bare.split_once("://").ok_or_else(|| BadAddress::Scheme(without_secrets(bare)))?;
    let scheme = scheme.to_ascii_lowercase();
    match name.as_deref().unwrap_or(&scheme) {
        "git" => Ok(Getter::Git(repository(&scheme, bare, query)?)),
        "http" | "https" if matches!(scheme.as_str(), "http" | "https") => {
            let (authority, path) = split_authority(rest);
            let (login, host) = match authority.rsplit_once('@') {
                Some((login, host)) => (Some(login), host),
                None => (None, authority),
            };
            check_host(host).map_err(bad)?;
            let question = query.text();
            let question = if question.is_empty() { question } else { format!("?{question}") };
            let path = if path.is_empty() { "/" } else { path };
            Ok(Getter::Http(Web {
                url: format!("{scheme}://{host}{path}{question}"),
                login: login.map(read_login),
            }))
        }
        "file" if scheme == "file" => {
            let (host, path) = split_authority(rest);
            if !(host.is_empty() || host == "localhost") || !path.starts_with('/') {
                return Err(bad("a file address is written file:///absolute/path"));
            }
            let path = percent_decode_str(path).decode_utf8().map_err(|_| bad("its path is not UTF-8"))?;
            if path.contains('\0') {
                return Err(bad("its path holds a NUL byte"));
            }
            Ok(Getter::File(path.into_owned()))
        }
        other => Err(BadAddress::Getter(other.to_owned())),
    }
}

fn repository(scheme: &str, bare: &str, query: &mut Query) -> Result<Repository, BadAddress> {
    let bad = |why| BadAddress::Malformed { shown: without_secrets(bare), why };
    if !matches!(scheme, "https" | "http" | "git" | "ssh") {
        return Err(bad("repositories are cloned over https, http, git or ssh"));
    }
    let rest = bare.split_once("://").map_or("", |(_, rest)| rest);
    let authority = split_authority(rest).0;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    check_host(host).map_err(bad)?;
    // ssh takes both as words of its own command line.
    if authority.starts_with('-') || host.starts_with('-') {
        return Err(bad("its host begins with a dash"));
    }
    let reference = query.take("ref").filter(|text| !text.is_empty());
    if let Some(name) = &reference
        && !is_reference(name)
    {
        return Err(BadAddress::Option {
            name: "ref",
            value: name.clone(),
            why: "a branch, tag or commit does not begin with a dash and holds letters, digits and ._-/+@ only",
        });
    }
    let depth = match query.take("depth").filter(|text| !text.is_empty()) {
        Some(text) => text.parse::<u32>().map_err(|_| BadAddress::Option {
            name: "depth",
            value: text,
            why: "it is a number of commits",
        })?,
        None => 0,
    };
    let depth = (depth > 0).then_some(depth);
    let ssh_key = query.take("sshkey").filter(|text| !text.is_empty());
    let left = query.text();
    let question = if left.is_empty() { left } else { format!("?{left}") };
    // What is in git's arguments everybody on the machine can read.
    let (login, rest) = match authority.rsplit_once('@') {
        Some((login, host)) if matches!(scheme, "http" | "https") => {
            (Some(read_login(login)), bare.replacen(&format!("{login}@{host}"), host, 1))
        }
        Some((login, _)) if login.contains(':') => {
            return Err(bad("only http and https take a password (for ssh give the option sshkey)"));
        }
        _ => (None, bare.to_owned()),
    };
    Ok(Repository { url: format!("{rest}{question}"), reference, depth, ssh_key, login })
}

fn is_reference(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/+@".contains(&b);
    name.len() <= 255
        && !name.starts_with('-')
        && !name.contains("..")
        && !name.contains("@{")
        && name.bytes().all(plain)
}

fn split_authority(rest: &str) -> (&str, &str) {
    match rest.find('/') {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
        None => (rest, ""),
    }
}

fn read_login(text: &str) -> Login {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Login { user: decode(user), password: decode(password) }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("it has no host");
    }
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or("its IPv6 address has no closing bracket")?;
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("its IPv6 address is none (zones are not supported)");
            }
            ("", after.strip_prefix(':').or(if after.is_empty() { Some("") } else { None }))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(
            "its host holds characters that host names do not have (write international names as xn--...)",
        );
    }
    match port {
        Some("") => Ok(()),
        Some(port) => match port.parse::<u16>() {
            Ok(0) | Err(_) => Err("its port is not between 1 and 65535"),
            Ok(_) => Ok(()),
        },
        None => Err("text follows its host"),
    }
}

fn last_name(bare: &str) -> String {
    let rest = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let path = split_authority(rest).1;
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    plain_name(&percent_decode_str(last).decode_utf8_lossy()).unwrap_or_else(|| "artifact".to_owned())
}

/// A name that is one component of a path.
fn plain_name(name: &str) -> Option<String> {
    let fine = !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0', '\n', '\r']);
    fine.then(|| name.to_owned())
}

/// An address for people: without name, password and query.
pub(crate) fn without_secrets(source: &str) -> String {
    let path = source.split(['?', '#']).next().unwrap_or_default();
    match path.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = split_authority(rest);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => path.to_owned(),
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
