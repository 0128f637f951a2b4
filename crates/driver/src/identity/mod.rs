//! Who a task is: from the text of `user` to ids, by the host's user database, within what the operator allows.

mod database;
mod dynamic;
mod ranges;

pub use database::{Database, User, Users};
pub use dynamic::{DryNumbers, Numbers};
pub(crate) use dynamic::{full, seed};
pub use ranges::{IdRange, IdRanges, RangeError};

use crate::options::quoted;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Identity;

/// A task's user, resolved on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name in the host's database; the number where it has none.
    pub name: String,
    /// Home directory in the host's database; empty where it has none.
    pub home: String,
    /// Ids.
    pub identity: Identity,
}

/// What the operator and the face allow.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Whether user 0 is allowed.
    pub root: RootRule,
    /// Users that are denied.
    pub denied_uids: &'a IdRanges,
    /// Groups that are denied.
    pub denied_gids: &'a IdRanges,
    /// Users that no database knows.
    pub pseudo: PseudoUsers,
}

/// Users that exist only while a task runs, named `nomad-<number>` by the Nomad client, which manages the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudoUsers {
    /// A name like any other.
    Unknown,
    /// User and group of that number, with no home.
    Accepted,
}

/// Who decides about user 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootRule {
    /// Allowed here, or already decided by who asks (Nomad itself refuses root by the name of the driver `exec`).
    Allowed,
    /// Refused, by number, name and alias.
    Refused,
}

/// Why a task cannot run as the user that it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nobody on this host has that name.
    #[error("unknown user {0}: the host's user database has no such name")]
    Unknown(String),
    /// The number has no entry, so there is no group to go with it.
    #[error("unknown user {0}: the host's user database has no user of this number; add one, or use a name")]
    UnknownNumber(u32),
    /// Not a user name and not an id.
    #[error("user {user} is refused: {why}")]
    Grammar {
        /// What was given.
        user: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name of digits that is another number's.
    #[error("user {name} is ambiguous: the host has a user of that name with number {uid}")]
    Ambiguous {
        /// Name.
        name: String,
        /// Its number.
        uid: u32,
    },
    /// User 0.
    #[error("running as user {0} is disallowed; the operator's option allow_root permits it")]
    Root(String),
    /// In the operator's denied users.
    #[error("running as uid {0} is disallowed")]
    DeniedUid(u32),
    /// In the operator's denied groups.
    #[error("running as gid {0} is disallowed")]
    DeniedGid(u32),
    /// No number of its own.
    #[error("the task names no user, and there is no number for it in dynamic_users: {0}")]
    Dynamic(String),
    /// The database itself.
    #[error("{0}")]
    Database(String),
}

/// The user of a task that names none.
pub const DEFAULT_USER: &str = "nobody";

/// Resolves `user` (empty means [`DEFAULT_USER`]) and checks it.
///
/// # Errors
/// [`IdentityError`]: it cannot be resolved without doubt, or it is denied.
pub fn resolve(user: &str, users: &dyn Users, bounds: &Bounds<'_>) -> Result<Account, IdentityError> {
    let found = match pseudo(user) {
        Some(found) if bounds.pseudo == PseudoUsers::Accepted => found,
        _ => find(if user.is_empty() { DEFAULT_USER } else { user }, users)?,
    };
    admit(found, users, bounds)
}

/// A user of its own for a task that names none: a number that this host's database does not know.
///
/// # Errors
/// [`IdentityError`]: none is left, or it is denied.
pub fn of_its_own(
    range: IdRange,
    owner: &HostPath,
    numbers: &dyn Numbers,
    users: &dyn Users,
    bounds: &Bounds<'_>,
) -> Result<Account, IdentityError> {
    let known = |id: u32| users.by_uid(id).is_some() || users.has_group(id);
    let id = numbers.claim(range, owner, &known).map_err(IdentityError::Dynamic)?;
    admit(
        User { name: format!("bivouac-{id}"), uid: id, gid: id, home: "/nonexistent".into() },
        users,
        bounds,
    )
}

fn admit(found: User, users: &dyn Users, bounds: &Bounds<'_>) -> Result<Account, IdentityError> {
    let mut groups = users.groups_of(&found);
    groups.push(found.gid);
    groups.sort_unstable();
    groups.dedup();
    if found.uid == 0 && bounds.root == RootRule::Refused {
        return Err(IdentityError::Root(quoted(&found.name)));
    }
    if bounds.denied_uids.contains(found.uid) {
        return Err(IdentityError::DeniedUid(found.uid));
    }
    if let Some(gid) = groups.iter().find(|gid| bounds.denied_gids.contains(**gid)) {
        return Err(IdentityError::DeniedGid(*gid));
    }
    let identity = Identity { uid: found.uid, gid: found.gid, groups };
    Ok(Account { name: found.name, home: found.home, identity })
}

/// The user behind a name such as `nomad-80123`; never user 0.
fn pseudo(name: &str) -> Option<User> {
    let id = parse_id(name.strip_prefix("nomad-")?).filter(|id| *id != 0)?;
    Some(User { name: name.into(), uid: id, gid: id, home: "/nonexistent".into() })
}

/// A text of digits is a number and nothing else; any other text is a name and nothing else.
fn find(text: &str, users: &dyn Users) -> Result<User, IdentityError> {
    let refused = |why| IdentityError::Grammar { user: quoted(text), why };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let uid = parse_id(text).ok_or_else(|| {
            refused("a number must be written without leading zeros and be below 4294967295")
        })?;
        return match users.by_name(text) {
            Some(other) if other.uid != uid => {
                Err(IdentityError::Ambiguous { name: text.into(), uid: other.uid })
            }
            _ => users.by_uid(uid).ok_or(IdentityError::UnknownNumber(uid)),
        };
    }
    if text.contains(':') {
        return Err(refused("give a user only; its groups come from the host's user database"));
    }
    if text.len() > 256 {
        return Err(refused("a name has at most 256 bytes"));
    }
    let sound = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '\\' | '$');
    if !text.chars().all(sound) || text.starts_with('-') {
        return Err(refused("a name is made of letters, digits and _ . - @ \\ $, and does not begin with -"));
    }
    users.by_name(text).ok_or_else(|| IdentityError::Unknown(text.into()))
}

/// An id in its one spelling: decimal digits without sign or leading zero, below 2^32-1 (which means "none").
pub(crate) fn parse_id(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn database() -> Database {
        Database::from_text(
            "root:x:0:0::/root:\ntoor:x:0:0::/root:\nnobody:x:65534:65534::/nonexistent:\nweb:x:1000:1001::/home/web:\n\
             77:x:78:78::/:\n88:x:88:88::/:\n",
            "adm:x:4:web\ndocker:x:999:web\n",
        )
    }

    fn ask(user: &str, root: RootRule) -> Result<Account, String> {
        let none = IdRanges::default();
        let bounds = Bounds { root, denied_uids: &none, denied_gids: &none, pseudo: PseudoUsers::Unknown };
        resolve(user, &database(), &bounds).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_the_default_with_its_own_group() {
        let account = ask("", RootRule::Refused).unwrap();
        assert_eq!(account.identity, Identity { uid: 65534, gid: 65534, groups: vec![65534] });
    }

    #[test]
    fn names_and_numbers_bring_their_groups() {
        let by_name = ask("web", RootRule::Refused).unwrap();
        assert_eq!(by_name.identity, Identity { uid: 1000, gid: 1001, groups: vec![4, 999, 1001] });
        assert_eq!(ask("1000", RootRule::Refused).unwrap(), by_name);
    }

    /// Covers: E11
    #[test]
    fn e11_an_unknown_user_is_named() {
        assert!(ask("alice", RootRule::Refused).unwrap_err().contains("user alice"));
        assert!(ask("4321", RootRule::Refused).unwrap_err().contains("user 4321"));
    }

    #[test]
    fn root_by_number_name_and_alias_is_refused() {
        for user in ["root", "0", "toor"] {
            let error = ask(user, RootRule::Refused).unwrap_err();
            assert!(error.contains("is disallowed") && error.contains("allow_root"), "{error}");
            assert_eq!(ask(user, RootRule::Allowed).unwrap().identity.uid, 0);
        }
    }

    #[test]
    fn nothing_else_ever_becomes_user_0() {
        let long = "a".repeat(10 << 10);
        for user in [
            "+0",
            "-1",
            "00",
            "0x0",
            " 0",
            "0 ",
            "1:0",
            ":",
            "1000:",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "2147483648",
            "nobody\n",
            "root\0x",
            "root ",
            "٠",
            "０",
            "-",
            "--",
            long.as_str(),
            "77",
        ] {
            let error = ask(user, RootRule::Allowed).unwrap_err();
            assert!(error.contains("user "), "{error}");
            assert!(error.len() < 400, "{error}");
        }
        assert_eq!(
            ask("88", RootRule::Allowed).unwrap().identity.uid,
            88,
            "a name of digits that says its own number"
        );
    }

    /// Covers: X48
    #[test]
    fn x48_denied_ids() {
        let none = IdRanges::default();
        let range = |text| IdRanges::parse(text).unwrap();
        let check = |uids: &IdRanges, gids: &IdRanges| {
            let bounds = Bounds {
                root: RootRule::Refused,
                denied_uids: uids,
                denied_gids: gids,
                pseudo: PseudoUsers::Accepted,
            };
            resolve("web", &database(), &bounds).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(check(&range("1-10"), &range("5-10")), Ok(()));
        assert_eq!(check(&range("1-1000"), &none), Err("running as uid 1000 is disallowed".into()));
        assert_eq!(check(&none, &range("999")), Err("running as gid 999 is disallowed".into()));
        assert_eq!(check(&none, &range("1001")), Err("running as gid 1001 is disallowed".into()));
    }

    #[test]
    fn users_of_the_client_are_known_only_where_accepted() {
        assert_eq!(
            ask("nomad-80123", RootRule::Refused).unwrap_err(),
            IdentityError::Unknown("nomad-80123".into()).to_string()
        );
        let none = IdRanges::default();
        let bounds = Bounds {
            root: RootRule::Allowed,
            denied_uids: &none,
            denied_gids: &none,
            pseudo: PseudoUsers::Accepted,
        };
        let account = resolve("nomad-80123", &database(), &bounds).unwrap();
        assert_eq!(
            (account.identity.uid, account.identity.gid, account.home.as_str()),
            (80123, 80123, "/nonexistent")
        );
        for name in ["nomad-0", "nomad-00", "nomad-", "nomad-+1", "nomad-4294967295"] {
            assert!(resolve(name, &database(), &bounds).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn user_0_has_three_spellings(user in "\\PC{0,6}") {
            if let Ok(account) = ask(&user, RootRule::Allowed) {
                prop_assert!(account.identity.uid != 0 || ["root", "toor", "0"].contains(&user.as_str()));
            }
        }
    }
}
