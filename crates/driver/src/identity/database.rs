//! The host's user database: `/etc/passwd` and `/etc/group`, and `getent` where the host names more than files.
//!
//! Always the host's, never a task's own copy. Lines that cannot be read (`+` entries, missing fields, bad
//! numbers) are passed over, as the C library does.

use super::parse_id;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory, as written there.
    pub home: String,
}

/// What can be asked about users.
pub trait Users {
    /// The user of this name.
    fn by_name(&self, name: &str) -> Option<User>;
    /// The first user of this number.
    fn by_uid(&self, uid: u32) -> Option<User>;
    /// Whether there is a group of this number.
    fn has_group(&self, gid: u32) -> bool;
    /// The groups that name `user` as a member, besides its primary group.
    fn groups_of(&self, user: &User) -> Vec<u32>;
}

/// The text of a passwd and a group file.
#[derive(Clone, Debug, Default)]
pub struct Database {
    passwd: String,
    group: String,
    /// Whether the host names sources besides files, which only its C library can ask.
    more: Vec<Topic>,
}

/// What nsswitch.conf(5) names sources for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Passwd,
    Group,
}

/// Larger databases belong into a directory service.
const LARGEST: u64 = 64 << 20;

impl Database {
    /// Reads the host's files. A missing file is an empty one.
    ///
    /// # Errors
    /// A sentence that names the file: not a regular file, too large, not readable.
    pub fn of_host() -> Result<Database, String> {
        let switch = read(Path::new("/etc/nsswitch.conf"))?;
        // Asking means starting a program, which takes longer than all else that is learned about the host.
        let idle = !MEMBERSHIPS.iter().any(|path| Path::new(path).exists());
        let group: &[&str] = if idle { &["files", "compat", "systemd"] } else { &["files", "compat"] };
        let more =
            [(Topic::Passwd, "passwd:", ["files", "compat"].as_slice()), (Topic::Group, "group:", group)];
        Ok(Database {
            passwd: read(Path::new("/etc/passwd"))?,
            group: read(Path::new("/etc/group"))?,
            more: more
                .into_iter()
                .filter(|(_, key, known)| names_more(&switch, key, known))
                .map(|(topic, ..)| topic)
                .collect(),
        })
    }

    /// A database from the text of its files, for tests and tools.
    pub fn from_text(passwd: &str, group: &str) -> Database {
        Database { passwd: passwd.into(), group: group.into(), more: Vec::new() }
    }

    fn ask(&self, topic: Topic, database: &str, key: &str) -> Option<String> {
        if self.more.contains(&topic) { getent(database, key) } else { None }
    }
}

/// Where the source `systemd` learns which groups a user of the files is in: its services and its record files, see
/// nss-systemd(8). Where none of them is, it knows nothing that the files do not say.
const MEMBERSHIPS: [&str; 6] = [
    "/run/systemd/userdb",
    "/etc/userdb",
    "/run/userdb",
    "/run/host/userdb",
    "/usr/local/lib/userdb",
    "/usr/lib/userdb",
];

/// Whether a line such as `passwd: files systemd` names something besides what is `known`.
fn names_more(switch: &str, key: &str, known: &[&str]) -> bool {
    let line = switch.lines().find_map(|line| line.trim_start().strip_prefix(key)).unwrap_or_default();
    let line = line.split('#').next().unwrap_or_default();
    let mut inside = false;
    line.split_whitespace().any(|word| {
        // Actions such as [NOTFOUND=return] are no sources.
        let action = inside || word.starts_with('[');
        inside = action && !word.ends_with(']');
        !action && !known.contains(&word)
    })
}

fn read(path: &Path) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let failed = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
        Err(error) => return Err(failed(&error)),
    };
    let status = fstat(&file).map_err(|error| failed(&error))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(failed(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(&format_args!("it is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line of `getent`, started with a fixed environment; nothing of a job reaches it but the key, which the
/// grammar of user names has checked.
fn getent(database: &str, key: &str) -> Option<String> {
    let program = ["/usr/bin/getent", "/bin/getent"].into_iter().find(|path| Path::new(path).exists())?;
    let output = Command::new(program)
        .args([database, "--", key])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))?
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let (name, _password, uid, gid, _gecos) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let home = fields.next()?;
    let plain = !name.is_empty() && !name.starts_with(['+', '-']);
    plain.then_some(User { name: name.into(), uid: parse_id(uid)?, gid: parse_id(gid)?, home: home.into() })
}

impl Users for Database {
    fn by_name(&self, name: &str) -> Option<User> {
        let prefix = format!("{name}:");
        self.passwd.lines().filter(|line| line.starts_with(&prefix)).find_map(user).or_else(|| {
            self.ask(Topic::Passwd, "passwd", name).as_deref().and_then(user).filter(|user| user.name == name)
        })
    }

    fn by_uid(&self, uid: u32) -> Option<User> {
        let asked = || self.ask(Topic::Passwd, "passwd", &uid.to_string());
        let of_uid = |user: &User| user.uid == uid;
        self.passwd
            .lines()
            .filter_map(user)
            .find(of_uid)
            .or_else(|| asked().as_deref().and_then(user).filter(of_uid))
    }

    fn has_group(&self, gid: u32) -> bool {
        let of_gid = |line: &str| line.split(':').nth(2).and_then(parse_id) == Some(gid);
        self.group.lines().any(of_gid)
            || self.ask(Topic::Group, "group", &gid.to_string()).as_deref().is_some_and(of_gid)
    }

    fn groups_of(&self, user: &User) -> Vec<u32> {
        let named = self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (_name, _password, gid, members) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            members.split(',').any(|member| member == user.name).then(|| parse_id(gid))?
        });
        let mut groups: Vec<u32> = named.collect();
        // `initgroups` answers "name  1 2 3".
        let more = self.ask(Topic::Group, "initgroups", &user.name).unwrap_or_default();
        groups.extend(more.split_whitespace().skip(1).filter_map(parse_id));
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n+nis\n+::::::\nbad:x:-1:0::/:\nshort:x:1\nbig:x:4294967295:1::/:\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\ntwin:x:0:5::/t:\nlast:x:7:8::/home/last:/bin/sh";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:last,nobody\n+\nbad:x:x:last\nwheel:x:10:last\nwheel2:x:10:last\nsly:x:11:lastx";

    #[test]
    fn users_and_groups_are_found_and_bad_lines_passed_over() {
        let database = Database::from_text(PASSWD, GROUP);
        assert_eq!(database.by_name("root").unwrap().uid, 0);
        let last = database.by_name("last").unwrap();
        assert_eq!((last.uid, last.gid, last.home.as_str()), (7, 8, "/home/last"));
        assert_eq!(database.groups_of(&last), [4, 10]);
        assert_eq!(database.by_uid(0).unwrap().name, "root", "the first line wins");
        for name in ["bad", "short", "big", "+nis", "+", "las", "alice"] {
            assert_eq!(database.by_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_host_has_root_and_nobody() {
        let database = Database::of_host().unwrap();
        assert_eq!(database.by_name("root").unwrap().uid, 0);
        assert_eq!(database.by_uid(0).unwrap().name, "root");
        assert_eq!(database.by_name("no-such-user-here"), None);
    }

    #[test]
    fn more_than_files_is_seen() {
        let files = ["files", "compat"];
        assert!(names_more("passwd:         files systemd\n", "passwd:", &files));
        assert!(names_more("group: sss files\n", "group:", &files));
        assert!(!names_more("passwd: files [NOTFOUND=return] # sss\n", "passwd:", &files));
        assert!(!names_more("passwd: files [!UNAVAIL=return SUCCESS=continue]\n", "passwd:", &files));
        assert!(!names_more("", "passwd:", &files));
        assert!(!names_more("group: files systemd\n", "group:", &["files", "systemd"]));
        assert!(names_more("group: files systemd ldap\n", "group:", &["files", "systemd"]));
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap_err().ends_with("it is not a regular file"));
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(read(&fifo).unwrap_err().ends_with("it is not a regular file"));
        assert_eq!(read(&directory.path().join("none")).unwrap(), "");
    }

    proptest! {
        #[test]
        fn nothing_panics(passwd in "([a+:,0-9\n-]|\\PC){0,200}", name in "[a:+-]{0,3}") {
            let database = Database::from_text(&passwd, &passwd);
            if let Some(user) = database.by_name(&name) {
                prop_assert_eq!(&user.name, &name);
                database.groups_of(&user);
            }
        }
    }
}
