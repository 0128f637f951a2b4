//! Logins for web servers and repositories on them from the caller's `.netrc`, as go-getter and curl have them.
//!
//! The face reads the file and hands a helper the one login that it needs; the file itself no helper can read.

use crate::address::Login;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file that is longer is none.
const LONGEST: u64 = 1 << 20;

/// Where the caller's file is: `NETRC`, else `.netrc` in the home directory, if it is there.
pub(crate) fn place() -> Option<PathBuf> {
    let named = std::env::var_os("NETRC").map(PathBuf::from);
    let usual = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".netrc"));
    named.or_else(usual).filter(|path| path.is_file())
}

/// The login for the host of a URL, if the file that the environment names has one.
pub(crate) fn login(environment: &[(OsString, OsString)], url: &str) -> Option<Login> {
    let (_, path) = environment.iter().find(|(name, _)| name == "NETRC")?;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let uri: ureq::http::Uri = url.parse().ok()?;
    find(&text, uri.host()?)
}

/// The first entry of the host, else the default one.
fn find(text: &str, host: &str) -> Option<Login> {
    let (mut entry, mut fits) = (Login { user: String::new(), password: String::new() }, false);
    let mut words = words(text);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" if fits => break,
            "machine" => fits = words.next()?.eq_ignore_ascii_case(host),
            "default" => fits = true,
            "login" if fits => entry.user = words.next()?.to_owned(),
            "password" if fits => entry.password = words.next()?.to_owned(),
            "login" | "password" | "account" => drop(words.next()),
            _ => {}
        }
    }
    (fits && !entry.user.is_empty()).then_some(entry)
}

/// The words outside of comments and macros, which go to the next empty line.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut macros = false;
    let lines = text.lines().filter(move |line| {
        let line = line.trim();
        macros = (macros || line.starts_with("macdef")) && !line.is_empty();
        !macros && !line.starts_with('#')
    });
    lines.flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_the_host_is_found() {
        let text = "# machine h login no password no\nmachine other login o password p\n\
                    machine h.example\n  login joe account x\n  password s3:cret\n\
                    macdef init\nmachine m login evil password evil\n\n\
                    default login anybody password pass";
        let told = |host: &str| find(text, host).map(|login| (login.user, login.password));
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(told("h.example"), login("joe", "s3:cret"));
        assert_eq!(told("H.Example"), login("joe", "s3:cret"));
        assert_eq!(told("m"), login("anybody", "pass"), "a macro is no entry");
        assert_eq!(told("h.example.evil"), login("anybody", "pass"));
        for nothing in ["", "machine h", "machine h login", "machine h password x", "login a password b"] {
            assert_eq!(find(nothing, "h"), None, "{nothing}");
        }
    }
}
