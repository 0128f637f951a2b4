//! The handshake with the program that launched this plugin.
//!
//! The launcher sets a cookie in the environment, waits for one line on standard output that names a
//! socket, and from then on only reads and throws away what is printed there.

use rustix::fs::{Gid, Mode};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Name of the variable that says who launched us.
pub(crate) const COOKIE_NAME: &str = "NOMAD_PLUGIN_MAGIC_COOKIE";
/// Its value. Not a secret: it only keeps people from running a plugin by hand.
pub(crate) const COOKIE_VALUE: &str = "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255";

/// The version of the application protocol that we speak.
const PROTOCOL: &str = "2";
/// Longest path that fits in a socket address, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Whether Nomad launched this process; `env` looks a variable up.
#[must_use]
pub fn launched_by_nomad(env: impl Fn(&str) -> Option<OsString>) -> bool {
    env(COOKIE_NAME).is_some_and(|value| value == COOKIE_VALUE)
}

/// Why no connection can be offered.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Somebody ran the plugin by hand.
    #[error(
        "this is a plugin of the Nomad client and cannot be run by itself: put it into the client's \
         plugin_dir and name it in a `plugin` block"
    )]
    NotLaunched,
    /// The launcher wants encryption, which Nomad never does.
    #[error("PLUGIN_CLIENT_CERT is set: this plugin does not speak TLS over its socket")]
    Tls,
    /// The launcher speaks other versions.
    #[error("the launcher speaks plugin protocol {offered:?}, and this plugin speaks {PROTOCOL}")]
    Protocol {
        /// What it said.
        offered: String,
    },
    /// The group that should own the socket does not exist.
    #[error("PLUGIN_UNIX_SOCKET_GROUP is {0:?}: there is no such group in /etc/group")]
    Group(String),
    /// The socket's path would not fit into an address.
    #[error("the socket path {0} is longer than 107 bytes: set TMPDIR to a shorter directory")]
    Path(PathBuf),
    /// The socket could not be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The line could not be printed: nobody will ever connect.
    #[error("cannot print the handshake on standard output: {0}")]
    Print(std::io::Error),
}

/// What the launcher asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    directory: PathBuf,
    group: Option<OsString>,
    /// The launcher knows about a seventh field; older ones would take it for a part of the sixth.
    multiplexing: bool,
}

impl Launch {
    /// Reads the launcher's wishes; `env` looks a variable up.
    pub(crate) fn read(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, HandshakeError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        if !launched_by_nomad(&env) {
            return Err(HandshakeError::NotLaunched);
        }
        if set("PLUGIN_CLIENT_CERT").is_some() {
            return Err(HandshakeError::Tls);
        }
        if let Some(offered) = set("PLUGIN_PROTOCOL_VERSIONS") {
            let offered = offered.to_string_lossy().into_owned();
            if !offered.split(',').any(|version| version.trim() == PROTOCOL) {
                return Err(HandshakeError::Protocol { offered });
            }
        }
        let directory =
            set("PLUGIN_UNIX_SOCKET_DIR").or_else(|| set("TMPDIR")).unwrap_or_else(|| "/tmp".into());
        Ok(Self {
            directory: directory.into(),
            group: set("PLUGIN_UNIX_SOCKET_GROUP"),
            multiplexing: set("PLUGIN_MULTIPLEX_GRPC").is_some(),
        })
    }

    /// The line that tells the launcher where to connect.
    fn line(&self, socket: &Path) -> Vec<u8> {
        let mut line = format!("1|{PROTOCOL}|unix|").into_bytes();
        line.extend_from_slice(socket.as_os_str().as_bytes());
        line.extend_from_slice(if self.multiplexing { b"|grpc||true\n" } else { b"|grpc|\n" });
        line
    }
}

/// The socket we are reached at. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    line: Vec<u8>,
}

impl Socket {
    /// Listens on a new socket with an unguessable name that only root (and the group asked for) may use.
    pub(crate) fn listen(launch: &Launch) -> Result<Self, HandshakeError> {
        let group = launch.group.as_ref().map(|name| group_id(&name.to_string_lossy())).transpose()?;
        let path = launch.directory.join(format!("bivouac-{}.sock", random_name()));
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(HandshakeError::Path(path));
        }
        let failed = |source| HandshakeError::Listen { path: path.clone(), source };
        // No moment with wider permissions; this process has no other thread yet.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&path);
        rustix::process::umask(before);
        let listener = bound.map_err(failed)?;
        let socket = Self { line: launch.line(&path), path: path.clone(), listener };
        if let Some(group) = group {
            rustix::fs::chown(&path, None, Some(group)).map_err(|e| failed(e.into()))?;
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o660)).map_err(|e| failed(e.into()))?;
        }
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// A second descriptor of the listening socket, to serve on.
    pub(crate) fn listener(&self) -> std::io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Tells the launcher. Nothing may be printed on standard output before or after.
    pub(crate) fn announce(&self, mut out: impl Write + AsFd) -> Result<(), HandshakeError> {
        out.write_all(&self.line).and_then(|()| out.flush()).map_err(HandshakeError::Print)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already: directories such as /tmp are swept.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn random_name() -> String {
    let mut bytes = [0_u8; 12];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // getrandom(2) cannot fail for so few bytes once the system has booted; the name must only be new.
    let pid = filled.map_or_else(|_| std::process::id(), |_| 0);
    bytes.iter().fold(format!("{pid:x}"), |name, byte| format!("{name}{byte:02x}"))
}

fn group_id(name: &str) -> Result<Gid, HandshakeError> {
    let unknown = || HandshakeError::Group(name.to_owned());
    if let Ok(id) = name.parse::<u32>() {
        return if id == u32::MAX { Err(unknown()) } else { Ok(Gid::from_raw(id)) };
    }
    let table = std::fs::read_to_string("/etc/group").map_err(|_| unknown())?;
    let id = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    id.map(Gid::from_raw).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    fn launch(pairs: &[(&str, &str)]) -> Result<Launch, HandshakeError> {
        let mut env: HashMap<String, OsString> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), v.into())).collect();
        env.entry(COOKIE_NAME.to_owned()).or_insert_with(|| COOKIE_VALUE.into());
        Launch::read(|name| env.get(name).cloned())
    }

    #[test]
    fn only_the_right_cookie_opens() {
        assert!(launched_by_nomad(|_| Some(COOKIE_VALUE.into())));
        assert!(!launched_by_nomad(|_| None));
        assert!(matches!(launch(&[(COOKIE_NAME, "x")]), Err(HandshakeError::NotLaunched)));
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        assert!(matches!(launch(&[("PLUGIN_CLIENT_CERT", "pem")]), Err(HandshakeError::Tls)));
        assert!(matches!(
            launch(&[("PLUGIN_PROTOCOL_VERSIONS", "1,3")]),
            Err(HandshakeError::Protocol { .. })
        ));
        assert!(launch(&[("PLUGIN_PROTOCOL_VERSIONS", "1, 2")]).is_ok());
    }

    #[test]
    fn the_line_has_a_seventh_field_only_where_it_is_known() {
        let line =
            |env: &[(&str, &str)]| String::from_utf8(launch(env).unwrap().line(Path::new("/x"))).unwrap();
        assert_eq!(line(&[]), "1|2|unix|/x|grpc|\n");
        assert_eq!(line(&[("PLUGIN_MULTIPLEX_GRPC", "true")]), "1|2|unix|/x|grpc||true\n");
    }

    #[test]
    fn the_socket_is_private_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let launch = launch(&[("PLUGIN_UNIX_SOCKET_DIR", dir.path().to_str().unwrap())]).unwrap();
        let socket = Socket::listen(&launch).unwrap();
        let mode = std::fs::metadata(&socket.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn places_without_room_are_named() {
        let deep = format!("/tmp/{}", "x".repeat(100));
        let long = launch(&[("TMPDIR", &deep)]).unwrap();
        assert!(matches!(Socket::listen(&long), Err(HandshakeError::Path(_))));
        let missing = launch(&[("TMPDIR", "/no/such/directory")]).unwrap();
        assert!(matches!(Socket::listen(&missing), Err(HandshakeError::Listen { .. })));
        assert!(matches!(group_id("no-such-group-here"), Err(HandshakeError::Group(_))));
    }
}
