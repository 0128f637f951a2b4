//! Replacing and removing files without waiting for a disk.
//!
//! A plain [rename(2)](https://man7.org/linux/man-pages/man2/rename.2.html) over another file makes ext4 hand the new
//! one's blocks to the disk first (`auto_da_alloc` in
//! [its page](https://docs.kernel.org/admin-guide/ext4.html)); an exchange followed by a removal does not. And whoever
//! lets go of a file without a name last waits until the disk has taken what was under way to it. Both take as long as
//! a busy disk wants: hundreds of milliseconds. Whoever wants a file to survive a loss of power calls `fsync` before.

use crate::Errno;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat};
use rustix::path::Arg;
use std::collections::VecDeque;

/// How many are kept.
const KEPT: usize = 8;

/// The last few files that lost their names, kept open so that nobody waits for a disk before this is dropped.
#[derive(Debug, Default)]
pub struct Nameless(VecDeque<OwnedFd>);

impl Nameless {
    /// Removes a file.
    ///
    /// # Errors
    /// Those of [unlink(2)](https://man7.org/linux/man-pages/man2/unlink.2.html).
    pub fn remove(&mut self, directory: BorrowedFd<'_>, name: impl Arg + Copy) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Where no descriptor is left, waiting is better than leaving the file.
        let kept = openat(directory, name, flags, Mode::empty());
        unlinkat(directory, name, AtFlags::empty())?;
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.extend(kept);
        Ok(())
    }

    /// Gives the file `new` the name `name` in the same directory; what had that name is removed. Others see the old
    /// file or the new one, never none. A `new` that a kill leaves behind is nothing but rubbish.
    ///
    /// # Errors
    /// Those of rename(2); `new` is still there then.
    pub fn replace<N: Arg + Copy>(
        &mut self,
        directory: BorrowedFd<'_>,
        new: N,
        name: N,
    ) -> Result<(), Errno> {
        match renameat_with(directory, new, directory, name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // The first of its name; or a file system that cannot exchange, as NFS.
            Err(Errno::NOENT | Errno::INVAL) => return renameat(directory, new, directory, name),
            Err(errno) => return Err(errno),
        }
        match self.remove(directory, new) {
            // As a plain rename says it.
            Err(Errno::ISDIR) => {
                renameat_with(directory, new, directory, name, RenameFlags::EXCHANGE)?;
                Err(Errno::ISDIR)
            }
            // What cannot be removed is overwritten by the next.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::{File, read_dir, read_to_string, write};

    #[test]
    fn a_file_takes_the_place_of_another_or_of_none() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open(folder.path()).unwrap();
        let mut nameless = Nameless::default();
        for number in 0..2 * KEPT {
            write(folder.path().join("new"), number.to_string()).unwrap();
            nameless.replace(directory.as_fd(), "new", "name").unwrap();
            assert_eq!(read_to_string(folder.path().join("name")).unwrap(), number.to_string());
            assert_eq!(read_dir(folder.path()).unwrap().count(), 1);
        }
        assert_eq!(nameless.0.len(), KEPT);
        nameless.remove(directory.as_fd(), "name").unwrap();
        assert_eq!(read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(nameless.remove(directory.as_fd(), "name"), Err(Errno::NOENT));
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_so_does_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("name")).unwrap();
        write(folder.path().join("new"), "text").unwrap();
        let mut nameless = Nameless::default();
        assert_eq!(nameless.replace(directory.as_fd(), "new", "name"), Err(Errno::ISDIR));
        assert!(folder.path().join("name").is_dir());
        assert_eq!(read_to_string(folder.path().join("new")).unwrap(), "text");
        assert_eq!(nameless.replace(directory.as_fd(), "none", "name"), Err(Errno::NOENT));
    }
}
