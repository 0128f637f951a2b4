//! Numbers of tasks that name no user, on disk: a link for each, named by the number, to the task's private directory.
//! Gone with a reboot, as the tasks are; a link whose directory is gone is free.

use super::disk;
use crate::identity::{IdRange, Numbers};
use bivouac_sandbox::HostPath;
use rustix::fs::{AtFlags, FlockOperation, flock, readlinkat, symlinkat, unlinkat};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of the links.
#[derive(Clone, Debug)]
pub(super) struct DiskNumbers(pub(super) PathBuf);

impl Numbers for DiskNumbers {
    fn claim(&self, range: IdRange, owner: &HostPath, known: &dyn Fn(u32) -> bool) -> Result<u32, String> {
        let directory = disk::private_directory(&self.0).map_err(|error| error.to_string())?;
        let failed = |what: &str, id: u32| {
            let path = self.0.join(id.to_string());
            let what = what.to_owned();
            move |errno: rustix::io::Errno| format!("cannot {what} {}: {errno}", path.display())
        };
        // Until the descriptor is closed nobody else looks or claims.
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|errno| format!("cannot lock {}: {errno}", self.0.display()))?;
        let mut claimed = BTreeMap::new();
        for entry in std::fs::read_dir(&self.0)
            .map_err(|error| format!("cannot list {}: {error}", self.0.display()))?
        {
            let name =
                entry.map_err(|error| format!("cannot list {}: {error}", self.0.display()))?.file_name();
            let Some(id) = name.to_str().and_then(crate::identity::parse_id) else { continue };
            let holder = readlinkat(&directory, id.to_string(), Vec::new()).map_err(failed("read", id))?;
            claimed.insert(id, PathBuf::from(OsString::from_vec(holder.into_bytes())));
        }
        let own = claimed.iter().find(|(id, holder)| range.contains(**id) && *holder == owner.as_path());
        if let Some((id, _)) = own {
            return Ok(*id);
        }
        let usable = |id: &u32| {
            !known(*id) && claimed.get(id).is_none_or(|holder| is_free(&self.0.join(id.to_string()), holder))
        };
        let id = range
            .from(crate::identity::seed(owner))
            .find(usable)
            .ok_or_else(|| crate::identity::full(range))?;
        if claimed.contains_key(&id) {
            unlinkat(&directory, id.to_string(), AtFlags::empty()).map_err(failed("remove", id))?;
        }
        symlinkat(owner.as_path(), &directory, id.to_string()).map_err(failed("make", id))?;
        Ok(id)
    }
}

/// A claim is made before the directory of its task is: a young one belongs to a start that is under way.
const YOUNG: Duration = Duration::from_secs(120);

/// Whether nobody needs a number any more: a task's private directory goes with the task.
fn is_free(link: &Path, holder: &Path) -> bool {
    let made = link.symlink_metadata().and_then(|status| status.modified()).ok();
    let age = made.and_then(|made| made.elapsed().ok());
    holder.symlink_metadata().is_err() && age.is_some_and(|age| age > YOUNG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Timespec, Timestamps};

    #[test]
    fn each_task_has_its_own_and_keeps_it() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: each_task_has_its_own_and_keeps_it: the directory must be root's");
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let numbers = DiskNumbers(top.path().join("numbers"));
        let range = IdRange::parse("100000-100002").unwrap();
        let owner = |name: &str| {
            let path = top.path().join(name).join("private");
            std::fs::create_dir_all(&path).unwrap();
            HostPath::new(path).unwrap()
        };
        let claim = |name: &str| numbers.claim(range, &owner(name), &|id| id == 100_001);
        let (a, b) = (claim("a").unwrap(), claim("b").unwrap());
        assert!(a != b && ![a, b].contains(&100_001));
        assert_eq!((claim("a").unwrap(), claim("b").unwrap()), (a, b), "a restart finds its number again");
        assert!(claim("c").unwrap_err().contains("widen the range"));
        std::fs::remove_dir_all(top.path().join("a")).unwrap();
        assert!(claim("c").is_err(), "its start may be under way");
        let long_ago = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        let link = numbers.0.join(a.to_string());
        rustix::fs::utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(claim("c").unwrap(), a, "what is gone needs no number");
    }

    #[test]
    fn many_at_once_never_share_one() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: many_at_once_never_share_one: the directory must be root's");
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let numbers = DiskNumbers(top.path().join("numbers"));
        let range = IdRange::parse("100000-100063").unwrap();
        let all = std::thread::scope(|threads| {
            let claim = |thread: u32| {
                let (numbers, top) = (&numbers, top.path());
                threads.spawn(move || {
                    (0..16)
                        .map(|number| {
                            let path = top.join(format!("{thread}-{number}"));
                            numbers.claim(range, &HostPath::new(path).unwrap(), &|_| false).unwrap()
                        })
                        .collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = (0..4).map(claim).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let different: std::collections::BTreeSet<u32> = all.iter().copied().collect();
        assert_eq!(different.len(), 64);
    }
}
