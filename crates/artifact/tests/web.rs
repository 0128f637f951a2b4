//! Web servers: real ones with a private authority, and odd ones that lie, stall and redirect.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use bivouac_artifact::fetch::{FetchError, Origin};
use bivouac_artifact::order::Certificates;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::*;

/// A real server with an authority of its own, and another name of the machine for redirects across hosts.
struct Nginx {
    plain: u16,
    tls: u16,
    authority: std::path::PathBuf,
    _server: Server,
    directory: tempfile::TempDir,
}

impl Nginx {
    fn new() -> Nginx {
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
        let path = directory.path();
        run("chmod", &["755", "."], path);
        std::fs::create_dir(path.join("www")).unwrap();
        certificates(path);
        let (plain, tls) = (free_port(), free_port());
        let text = format!(
            "pid {0}/pid; error_log {0}/error.log; worker_processes 1; user root;
             events {{ worker_connections 64; }}
             http {{
               access_log off; client_body_temp_path {0}/tmp; proxy_temp_path {0}/tmp; fastcgi_temp_path {0}/tmp;
               uwsgi_temp_path {0}/tmp; scgi_temp_path {0}/tmp; root {0}/www;
               server {{ listen 127.0.0.1:{plain};
                 location /to-tls/ {{ return 302 https://127.0.0.1:{tls}/file; }}
                 location /loop/ {{ return 302 /loop/; }}
                 location /relative/ {{ return 301 ../file; }} }}
               server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;
                 location /slow/ {{ alias {0}/www/; limit_rate 200k; }}
                 location /down/ {{ return 302 http://127.0.0.1:{plain}/file; }}
                 location /local/ {{ return 302 file:///etc/passwd; }} }}
             }}",
            path.display()
        );
        std::fs::write(path.join("conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-g", "daemon off;", "-p"]).arg(path).arg("-c").arg(path.join("conf"));
        let server = serve(command, plain);
        Nginx { plain, tls, authority: path.join("authority.pem"), _server: server, directory }
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.directory.path().join("www").join(name), content).unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.tls)
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new();
        rig.environment("SSL_CERT_FILE", self.authority.as_os_str());
        rig
    }
}

fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bivouac-test \
          -keyout authority.key -out authority.pem
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > extensions
        openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
          -extfile extensions -out server.pem
        chmod 644 authority.pem";
    run("sh", &["-ec", script], directory);
}

fn sum(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut seed = 7_u64;
    (0..length)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect()
}

/// Covers: W53, W55
#[test]
fn tls_with_a_private_authority_redirects_and_checksums() {
    let nginx = Nginx::new();
    let content = noise(300_000);
    nginx.put("file", &content);
    nginx.put("SUMS", format!("{}  other\n{}  file\n", sum(b""), sum(&content)).as_bytes());
    let rig = nginx.rig();
    let arrival = rig.fetch(&artifact(nginx.url("/file"))).unwrap();
    assert_eq!(rig.read("file"), content);
    assert_eq!(arrival.origin, Origin::Fetched);
    assert!(arrival.confinement.uid >= 0x7e00_0000, "{arrival:?}");
    // The system does not know that authority.
    let refused = Rig::new().fetch(&artifact(nginx.url("/file"))).unwrap_err();
    assert!(refused.to_string().contains("SSL_CERT_FILE") && !refused.may_succeed_again(), "{refused}");
    let mut insecure = artifact(nginx.url("/file"));
    insecure.certificates = Certificates::Any;
    Rig::new().fetch(&insecure).unwrap();
    // Redirects: up, relative, not down, not out, not for ever.
    let plain = |path: &str| format!("http://127.0.0.1:{}{path}", nginx.plain);
    rig.fetch(&to_file(artifact(plain("/to-tls/")), "local/up")).unwrap();
    rig.fetch(&to_file(artifact(plain("/relative/")), "local/relative")).unwrap();
    assert!(rig.read("up") == content && rig.read("relative") == content);
    for (source, text) in [
        (nginx.url("/down/"), "from https to http"),
        (nginx.url("/local/"), "which is no address"),
        (plain("/loop/"), "more than 10 redirects"),
        (plain("/nothing"), "status 404"),
    ] {
        let error = rig.fetch(&artifact(source.clone())).unwrap_err();
        assert!(error.to_string().contains(text) && !error.may_succeed_again(), "{source}: {error}");
    }
    // Checksums, direct and from a list.
    for checksum in [format!("sha256:{}", sum(&content)), format!("file:{}", nginx.url("/SUMS"))] {
        rig.fetch(&with_options(artifact(nginx.url("/file")), &[("checksum", &checksum)])).unwrap();
    }
    for checksum in [format!("sha256:{}", sum(b"other")), format!("file:{}", nginx.url("/file"))] {
        let wrong =
            with_options(to_file(artifact(nginx.url("/file")), "local/wrong"), &[("checksum", &checksum)]);
        let error = rig.fetch(&wrong).unwrap_err();
        assert!(!error.may_succeed_again(), "{error}");
        assert!(!rig.local("wrong").exists());
    }
}

/// Covers: CVE-2022-24686
#[test]
fn a_slow_transfer_tells_its_progress_and_can_be_stopped_and_killed() {
    let nginx = Nginx::new();
    nginx.put("big", &noise(3_000_000));
    let rig = nginx.rig();
    let mut told = Vec::new();
    let mut seen_confined = false;
    let began = Instant::now();
    let stopped = rig.watched(&artifact(nginx.url("/slow/big")), &mut |progress| {
        told.extend(progress);
        for helper in helpers(&rig) {
            let path = format!("/proc/{}/status", helper.as_raw_nonzero());
            let status = std::fs::read_to_string(path).unwrap_or_default();
            let confined = ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "Groups:\t \n"];
            seen_confined |= confined.iter().all(|line| status.contains(line));
        }
        let enough = told.len() > 2 || began.elapsed() > Duration::from_secs(60);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(FetchError::Stopped(_))), "{stopped:?}");
    assert!(told.iter().any(|progress| progress.bytes > 0 && progress.total == Some(3_000_000)), "{told:?}");
    assert!(seen_confined, "no helper was seen without privileges");
    rig.nothing_staged();
    assert!(!rig.local("big").exists(), "a part of a file");
    // Somebody kills the process that fetches: an error, and again nothing half.
    let mut killed = false;
    let result = rig.watched(&artifact(nginx.url("/slow/big")), &mut |progress| {
        if !killed && progress.is_some_and(|progress| progress.bytes > 0) {
            killed = true;
            for child in helpers(&rig) {
                let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            }
        }
        ControlFlow::Continue(())
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("its process died") && error.may_succeed_again(), "{error}");
    rig.nothing_staged();
}

/// The helpers at work in this rig's private directories.
fn helpers(rig: &Rig) -> Vec<rustix::process::Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let directory = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if directory.starts_with(&rig.fetcher.staging) {
            found.extend(rustix::process::Pid::from_raw(pid));
        }
    }
    found
}

/// Covers: CVE-2022-24686
#[test]
fn twenty_downloads_of_one_name_do_not_meet() {
    let server = Odd::new(|request, _, stream| {
        let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
        ok(stream, path.repeat(1000).as_bytes());
    });
    let rig = Rig::new();
    std::thread::scope(|scope| {
        for at in 0..20 {
            let (rig, server) = (&rig, &server);
            scope.spawn(move || {
                let source = server.url(&format!("/{at}/same"));
                let artifact = to_file(artifact(source), &format!("local/{at}"));
                rig.watched(&artifact, &mut |_| ControlFlow::Continue(())).unwrap();
            });
        }
    });
    for at in 0..20 {
        assert_eq!(rig.read(&at.to_string()), format!("/{at}/same").repeat(1000).as_bytes());
    }
    rig.nothing_staged();
}

#[test]
fn broken_transfers_are_resumed_where_they_broke() {
    let content = noise(200_000);
    let served = content.clone();
    let server = Odd::new(move |request, before, stream| {
        let whole = served.len();
        let from = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let from = from.filter(|_| request.headers.get("if-range").map(String::as_str) == Some("\"v1\""));
        let until = if before < 3 { whole / 4 * (before + 1) } else { whole };
        let (status, range) = match from {
            Some(from) => {
                ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole - 1))
            }
            None => ("200 OK", String::new()),
        };
        let from = from.unwrap_or(0);
        let head =
            format!("HTTP/1.1 {status}\r\nETag: \"v1\"\r\n{range}Content-Length: {}\r\n\r\n", whole - from);
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(served.get(from..until).unwrap_or_default());
    });
    let rig = Rig::new();
    rig.fetch(&with_options(
        artifact(server.url("/f")),
        &[("checksum", &format!("sha256:{}", sum(&content)))],
    ))
    .unwrap();
    assert_eq!(rig.read("f"), content);
    let ranges: Vec<_> =
        server.requests().iter().map(|request| request.headers.get("range").cloned()).collect();
    let expected = [None, Some("bytes=50000-"), Some("bytes=100000-"), Some("bytes=150000-")];
    assert_eq!(ranges.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

/// Covers: CVE-2022-26945, 4-network
#[test]
fn servers_that_lie_stall_or_never_end_are_given_up_in_time() {
    let mut rig = Rig::new();
    rig.fetcher.limits.silence = 1;
    rig.fetcher.limits.seconds = 8;
    rig.fetcher.limits.download_bytes = 1_000_000;
    let server = Odd::new(|request, _, stream| {
        let answer: &[u8] = match request.line.split(' ').nth(1).unwrap_or_default() {
            "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            "/huge" => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "/part" => b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n12345",
            "/chunks" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\njunk",
            "/junk" => b"\x00\x01\x02\x03",
            "/silent" => {
                std::thread::sleep(Duration::from_secs(20));
                b""
            }
            "/status" => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            "/nowhere" => b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
            "/header" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
                let _ = stream.write_all(&vec![b'x'; 1 << 20]);
                b"\r\n\r\nbody"
            }
            "/headers" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                let _ = stream.write_all("X: y\r\n".repeat(100_000).as_bytes());
                b"\r\nbody"
            }
            "/endless" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[0; 65536]).is_ok() {}
                b""
            }
            "/drip" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                let deadline = Instant::now() + Duration::from_secs(30);
                while Instant::now() < deadline && stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(300));
                }
                b""
            }
            _ => b"HTTP/1.1 404 Nothing\r\nContent-Length: 0\r\n\r\n",
        };
        let _ = stream.write_all(answer);
    });
    let paths = [
        "/short", "/huge", "/part", "/chunks", "/junk", "/silent", "/status", "/nowhere", "/header",
        "/headers", "/endless", "/drip",
    ];
    std::thread::scope(|scope| {
        for path in paths {
            let (rig, server) = (&rig, &server);
            scope.spawn(move || {
                let began = Instant::now();
                let result = rig.watched(&artifact(server.url(path)), &mut |_| ControlFlow::Continue(()));
                assert!(matches!(result, Err(FetchError::Failed { .. })), "{path}: {result:?}");
                assert!(began.elapsed() < Duration::from_secs(45), "{path} took {:?}", began.elapsed());
            });
        }
    });
    assert!(tree(&rig.local("")).is_empty());
    rig.nothing_staged();
}

/// Covers: CVE-2022-26945
#[test]
fn logins_and_headers_go_to_the_named_server_only() {
    let other = Odd::new(|_, _, stream| ok(stream, b"there"));
    let there = other.url("/there");
    let server = Odd::new(move |_, _, stream| {
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
    });
    let rig = Rig::new();
    let mut artifact = to_file(artifact(server.url("/x").replace("//", "//joe:secret@")), "local/x");
    artifact.headers.insert("X-Token".to_owned(), "token".to_owned());
    rig.fetch(&artifact).unwrap();
    assert_eq!(rig.read("x"), b"there");
    let [first] = &server.requests()[..] else { panic!("not one request") };
    assert_eq!(first.headers.get("authorization").map(String::as_str), Some("Basic am9lOnNlY3JldA=="));
    assert_eq!(first.headers.get("x-token").map(String::as_str), Some("token"));
    let [second] = &other.requests()[..] else { panic!("not one request") };
    assert!(
        !second.headers.contains_key("authorization") && !second.headers.contains_key("x-token"),
        "{second:?}"
    );
    // Neither do errors show it.
    let gone =
        Odd::new(|_, _, stream| drop(stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")));
    let source = format!("{}?token=hush", gone.url("/x").replace("//", "//joe:secret@"));
    let error = rig.fetch(&support::artifact(source)).unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("secret") && !error.to_string().contains("hush"),
        "{error}"
    );
}

/// The helpers are other users: that the login arrives shows that the face has read the file.
#[test]
fn a_login_comes_from_netrc_where_the_address_and_the_headers_have_none() {
    let other = Odd::new(|_, _, stream| ok(stream, b"there"));
    let there = other.url("/there").replace("127.0.0.1", "localhost");
    let server = Odd::new(move |_, _, stream| {
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
    });
    let mut rig = Rig::new();
    let directory = tempfile::tempdir().unwrap();
    let netrc = directory.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login joe password secret\n").unwrap();
    std::fs::set_permissions(&netrc, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    rig.environment("NETRC", netrc.as_os_str());
    let fetched = |name: &str, source: String, header: Option<&str>| {
        let mut artifact = to_file(artifact(source), &format!("local/{name}"));
        artifact.headers.extend(header.map(|value| ("Authorization".to_owned(), value.to_owned())));
        rig.fetch(&artifact).unwrap();
        let requests = server.requests();
        requests.last().unwrap().headers.get("authorization").cloned().unwrap_or_default()
    };
    assert_eq!(fetched("a", server.url("/x"), None), "Basic am9lOnNlY3JldA==");
    assert_eq!(fetched("b", server.url("/x").replace("//", "//a:b@"), None), "Basic YTpi");
    assert_eq!(fetched("c", server.url("/x"), Some("Bearer t")), "Bearer t");
    assert!(other.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn proxies_come_from_the_environment() {
    let proxy = Odd::new(|_, _, stream| ok(stream, b"by proxy"));
    let mut rig = Rig::new();
    rig.environment("HTTP_PROXY", proxy.url(""));
    rig.environment("NO_PROXY", "127.0.0.1");
    rig.fetch(&artifact("http://nowhere.invalid/by-proxy")).unwrap();
    assert_eq!(rig.read("by-proxy"), b"by proxy");
    let [tunnel, request] = &proxy.requests()[..] else { panic!("{:?}", proxy.requests()) };
    assert!(tunnel.line.starts_with("CONNECT nowhere.invalid:80 "), "{}", tunnel.line);
    assert!(request.line.starts_with("GET /by-proxy "), "{}", request.line);
    let direct = Odd::new(|_, _, stream| ok(stream, b"direct"));
    rig.fetch(&artifact(direct.url("/direct"))).unwrap();
    assert_eq!(rig.read("direct"), b"direct");
    assert_eq!(proxy.requests().len(), 2);
}

#[test]
fn what_has_a_checksum_is_fetched_once() {
    let content = b"once".to_vec();
    let served = content.clone();
    let server = Odd::new(move |_, _, stream| ok(stream, &served));
    let mut rig = Rig::new();
    let cache = rig.directory.path().join("cache");
    rig.fetcher.cache = Some(cache.clone());
    let checksum = format!("sha256:{}", sum(&content));
    let one = with_options(artifact(server.url("/f")), &[("checksum", &checksum)]);
    assert_eq!(rig.fetch(&one).unwrap().origin, Origin::Fetched);
    let again = rig.fetch(&to_file(one.clone(), "local/g")).unwrap();
    assert_eq!((again.origin, rig.read("g")), (Origin::Cached, content.clone()));
    assert_eq!(server.requests().len(), 1);
    // A damaged file is noticed, forgotten, and fetched the next time.
    let kept = std::fs::read_dir(&cache).unwrap().flatten().next().unwrap().path();
    std::fs::write(&kept, b"damaged").unwrap();
    assert!(rig.fetch(&one).unwrap_err().to_string().contains("checksums did not match"));
    assert_eq!(rig.fetch(&one).unwrap().origin, Origin::Fetched);
    // What does not fit is never kept.
    let wrong = format!("sha256:{}", sum(b"else"));
    rig.fetch(&with_options(artifact(server.url("/f")), &[("checksum", &wrong)])).unwrap_err();
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
}
