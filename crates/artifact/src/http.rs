//! HTTP and HTTPS: redirects checked one by one, broken transfers resumed, bytes and time counted.

use crate::address::{Address, Getter, Web};
use crate::helper::{CHECKSUMS, DOWNLOAD, Teller};
use crate::order::{Certificates, Failure, Fetch, Limits, Phase};
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::crypto::CryptoProvider;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

/// More redirects than any sane server sends.
const REDIRECTS: usize = 10;
/// Tries of a transfer, the first included; those that brought bytes do not count.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_LIST: u64 = 1024 * 1024;

/// Fetches into `download`.
pub(crate) fn download(
    web: &Web,
    fetch: &Fetch,
    limits: &Limits,
    teller: &mut Teller,
) -> Result<(), Failure> {
    let file =
        File::create_new(DOWNLOAD).map_err(|error| Failure::never(format!("cannot make a file: {error}")))?;
    let most = limits.download_bytes;
    let mut transfer = Transfer::new(web, fetch, limits, file, most)?;
    transfer.run(&mut |bytes, total| teller.progress(Phase::Fetching, bytes, total))
}

/// Fetches a checksum file into `checksums`.
pub(crate) fn list(address: &str, fetch: &Fetch, limits: &Limits) -> Result<(), Failure> {
    let parsed = Address::parse(address, &BTreeMap::new())
        .map_err(|error| Failure::never(format!("the checksum file: {error}")))?;
    let Getter::Http(web) = parsed.getter else {
        return Err(Failure::never("the checksum file must be fetched by http or https"));
    };
    let file = File::create_new(CHECKSUMS)
        .map_err(|error| Failure::never(format!("cannot make a file: {error}")))?;
    Transfer::new(&web, fetch, limits, file, LONGEST_LIST)?
        .run(&mut |_, _| {})
        .map_err(|failure| Failure { text: format!("the checksum file: {}", failure.text), ..failure })
}

/// One thing being fetched.
struct Transfer<'a> {
    agent: Agent,
    web: &'a Web,
    fetch: &'a Fetch,
    first: Uri,
    file: File,
    most: u64,
    deadline: Instant,
    have: u64,
    /// What the server said of the whole: its length, and the mark that tells whether it is still the same.
    total: Option<u64>,
    mark: Option<String>,
}

impl<'a> Transfer<'a> {
    fn new(web: &'a Web, fetch: &'a Fetch, limits: &Limits, file: File, most: u64) -> Result<Self, Failure> {
        let first = web
            .url
            .parse::<Uri>()
            .map_err(|error| Failure::never(format!("failed to parse source URL: {error}")))?;
        Ok(Transfer {
            agent: agent(fetch.certificates, limits),
            web,
            fetch,
            first,
            file,
            most,
            deadline: Instant::now() + Duration::from_secs(limits.seconds),
            have: 0,
            total: None,
            mark: None,
        })
    }

    fn run(&mut self, tell: &mut dyn FnMut(u64, Option<u64>)) -> Result<(), Failure> {
        let (mut tries, mut pause) = (0, FIRST_PAUSE);
        loop {
            let before = self.have;
            let failure = match self.attempt(tell) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if self.have > before {
                (tries, pause) = (0, FIRST_PAUSE);
            }
            tries += 1;
            let late = Instant::now() + pause >= self.deadline;
            if failure.again == crate::order::Again::Never || tries >= TRIES || late {
                return Err(failure);
            }
            std::thread::sleep(pause);
            pause *= 4;
        }
    }

    fn attempt(&mut self, tell: &mut dyn FnMut(u64, Option<u64>)) -> Result<(), Failure> {
        let response = self.request()?;
        self.begin(&response)?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = body.read(&mut buffer).map_err(|error| self.broken(&error))?;
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
            self.have += count as u64;
            if self.have > self.most {
                return Err(Failure::never(format!("the server sends more than {} bytes", self.most)));
            }
            self.file.write_all(part).map_err(|error| Failure::never(format!("cannot write: {error}")))?;
            tell(self.have, self.total);
            if Instant::now() >= self.deadline {
                return Err(Failure::perhaps("the transfer took too long"));
            }
        }
        match self.total {
            Some(total) if total != self.have => {
                Err(Failure::perhaps(format!("the transfer ended after {} of {total} bytes", self.have)))
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        Failure::perhaps(format!("the transfer broke off after {} bytes: {error}", self.have))
    }

    /// What a response says of the bytes that follow; sets the file to where they belong.
    fn begin(&mut self, response: &Response<Body>) -> Result<(), Failure> {
        let headers = response.headers();
        let length = text(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if response.status() == StatusCode::PARTIAL_CONTENT && self.have > 0 {
            let range = text(headers, &header::CONTENT_RANGE).and_then(content_range);
            let (from, total) =
                range.ok_or_else(|| Failure::never("the server answers a range it does not name"))?;
            if from != self.have || total.is_some() && self.total.is_some() && total != self.total {
                return Err(Failure::never("the server answers another range than was asked for"));
            }
            self.total = self.total.or(total);
            return Ok(());
        }
        if response.status() == StatusCode::PARTIAL_CONTENT {
            return Err(Failure::never("the server answers with a part that was not asked for"));
        }
        // The whole again.
        self.have = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|error| Failure::never(format!("cannot start over: {error}")))?;
        self.total = length;
        let strong = text(headers, &header::ETAG).filter(|tag| tag.starts_with('"'));
        self.mark = strong.or_else(|| text(headers, &header::LAST_MODIFIED)).map(str::to_owned);
        if length.is_some_and(|length| length > self.most) {
            return Err(Failure::never(format!("the server has more than {} bytes", self.most)));
        }
        Ok(())
    }

    /// Asks, following redirects, for what is still missing.
    fn request(&self) -> Result<Response<Body>, Failure> {
        let mut uri = self.first.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&uri);
            // Headers and login are for the server that the address names, not for where it sends us.
            if same_server(&uri, &self.first) {
                for (name, value) in &self.fetch.headers {
                    request = request.header(name, value);
                }
                if let Some(login) = &self.web.login {
                    request = request.header(header::AUTHORIZATION, basic(&login.user, &login.password));
                }
            }
            if let (true, Some(mark)) = (self.have > 0, &self.mark) {
                request = request.header(header::RANGE, format!("bytes={}-", self.have));
                request = request.header(header::IF_RANGE, mark);
            }
            let response = request.call().map_err(|error| explain(&error, &uri))?;
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => uri = redirect(&uri, response.headers())?,
                status => return Err(refused(status, &uri)),
            }
        }
        Err(Failure::never(format!("more than {REDIRECTS} redirects")))
    }
}

fn refused(status: u16, uri: &Uri) -> Failure {
    let shown = crate::address::without_secrets(&uri.to_string());
    let hint = match status {
        401 | 403 => " (give it a login in the address or an Authorization header in `headers`)",
        404 => " (nothing is there)",
        _ => "",
    };
    let text = format!("{shown} answered with status {status}{hint}");
    if status >= 500 || matches!(status, 408 | 425 | 429) {
        Failure::perhaps(text)
    } else {
        Failure::never(text)
    }
}

fn explain(error: &ureq::Error, uri: &Uri) -> Failure {
    let shown = crate::address::without_secrets(&uri.to_string());
    let text = error.to_string();
    let hint = if text.contains("UnknownIssuer") {
        " (name the authority's certificate in SSL_CERT_FILE, or add it to the system's)"
    } else {
        ""
    };
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Failure::never(format!("{shown}: {text}"))
        }
        ureq::Error::Tls(_) => Failure::never(format!("{shown}: {text}{hint}")),
        ureq::Error::Io(inner) if inner.to_string().contains("certificate") => {
            Failure::never(format!("{shown}: {text}{hint}"))
        }
        _ => Failure::perhaps(format!("{shown}: {text}{hint}")),
    }
}

/// Where a redirect leads: http or https, and never from https to less.
fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri, Failure> {
    let location = text(headers, &header::LOCATION)
        .ok_or_else(|| Failure::never("a redirect without a place to go to"))?;
    let to = resolve(from, location).ok_or_else(|| {
        Failure::never(format!("a redirect to {:?}, which is no address", shortened(location)))
    })?;
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(to),
        (Some("https"), Some("http")) => Err(Failure::never(
            "a redirect from https to http, which is refused: name the http address if you mean it",
        )),
        _ => Err(Failure::never(format!(
            "a redirect to {:?}, which is neither http nor https",
            shortened(location)
        ))),
    }
}

fn shortened(text: &str) -> String {
    crate::address::without_secrets(text).chars().take(200).collect()
}

/// A reference, made absolute.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    let absolute = match location {
        "" => return None,
        text if text.starts_with("//") => format!("{scheme}:{text}"),
        text if text.starts_with('/') => format!("{scheme}://{authority}{text}"),
        text if text.starts_with('?') => format!("{scheme}://{authority}{}{text}", from.path()),
        text => {
            let head = text.split(['/', '?']).next().unwrap_or_default();
            if head.contains(':') {
                text.to_owned()
            } else {
                let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{scheme}://{authority}{folder}/{text}")
            }
        }
    };
    let uri: Uri = absolute.parse().ok()?;
    // A login in a redirect is somebody else's.
    let plain = uri.authority().is_none_or(|authority| !authority.as_str().contains('@'));
    (uri.scheme().is_some() && plain).then_some(uri)
}

fn same_server(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.host() == other.host() && one.port_u16() == other.port_u16()
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 5-9/10` -> (5, 10).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (from <= to && total.is_none_or(|total| to < total)).then_some((from, total))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn agent(certificates: Certificates, limits: &Limits) -> Agent {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(authorities(certificates))
        .disable_verification(certificates == Certificates::Any)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let silence = Some(Duration::from_secs(limits.silence));
    Agent::config_builder()
        .tls_config(tls)
        .proxy(Proxy::try_from_env())
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(Duration::from_secs(limits.seconds)))
        .timeout_connect(Some(Duration::from_secs(limits.silence.min(30))))
        .timeout_recv_response(silence)
        .timeout_per_read(silence)
        .timeout_per_write(silence)
        .build()
        .new_agent()
}

/// The authorities that this machine believes, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn authorities(certificates: Certificates) -> RootCerts {
    if certificates == Certificates::Any {
        return RootCerts::Specific(Arc::default());
    }
    let loaded = rustls_native_certs::load_native_certs();
    let all = loaded.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned());
    RootCerts::Specific(Arc::new(all.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(from: &str, location: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        redirect(&from.parse().unwrap(), &headers).map(|uri| uri.to_string()).map_err(|failure| failure.text)
    }

    /// Covers: CVE-2022-26945
    #[test]
    fn redirects_lead_to_web_servers_only_and_never_down() {
        let base = "https://h.example/a/b?x=1";
        assert_eq!(lead(base, "c?y").unwrap(), "https://h.example/a/c?y");
        assert_eq!(lead(base, "/c").unwrap(), "https://h.example/c");
        assert_eq!(lead(base, "//other.example/c").unwrap(), "https://other.example/c");
        assert_eq!(lead(base, "https://other.example:8/c").unwrap(), "https://other.example:8/c");
        assert_eq!(lead("http://h/", "http://o/").unwrap(), "http://o/");
        for down in [
            "http://h.example/",
            "file:///etc/passwd",
            "ftp://h/",
            "data:text/plain,x",
            "javascript:x",
            "",
            "https://u:p@h/",
        ] {
            assert!(lead(base, down).is_err(), "{down}");
        }
    }

    #[test]
    fn ranges_and_logins() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for lie in ["bytes 9-5/10", "bytes 5-10/10", "bytes */10", "items 1-2/3", "bytes 1-2"] {
            assert_eq!(content_range(lie), None, "{lie}");
        }
        assert_eq!(basic("joe", "pass"), "Basic am9lOnBhc3M=");
        assert_eq!(basic("a", ""), "Basic YTo=");
    }
}
