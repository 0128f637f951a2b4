//! Groups below a group, which whoever may make some can nest without end: two descriptors, no recursion.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Calls `enter` with each group before those below it, `top` first, and `leave` with the parent and the name of
/// each group below `top` after those below it. Groups that vanish before they are entered are passed over.
pub(crate) fn walk(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    enter(top)?;
    let mut remaining = children(top)?;
    if remaining.is_empty() {
        return Ok(());
    }
    let mut here = descend(top, c".")?;
    let mut above: Vec<(CString, Vec<CString>)> = Vec::new();
    loop {
        if let Some(name) = remaining.pop() {
            let child = match descend(here.as_fd(), &name) {
                Err(Errno::NOENT) => continue,
                child => child?,
            };
            enter(child.as_fd())?;
            above.push((name, std::mem::replace(&mut remaining, children(child.as_fd())?)));
            here = child;
        } else if let Some((name, siblings)) = above.pop() {
            let parent = descend(here.as_fd(), c"..")?;
            leave(parent.as_fd(), &name)?;
            (here, remaining) = (parent, siblings);
        } else {
            return Ok(());
        }
    }
}

fn descend(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, how, Mode::empty())
}

fn children(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any directories will do: names and order are what counts.
    #[test]
    fn parents_are_entered_before_and_left_after_their_children() {
        let top = std::env::temp_dir().join(format!("bivouac-test-walk-{}", std::process::id()));
        for path in ["a/b/c", "d"] {
            std::fs::create_dir_all(top.join(path)).unwrap();
        }
        std::fs::write(top.join("file"), "").unwrap();
        let dir = std::fs::File::open(&top).unwrap();
        let (mut entered, mut left) = (0, Vec::new());
        let walked = walk(
            dir.as_fd(),
            |_| {
                entered += 1;
                Ok(())
            },
            |parent, name| {
                left.push(name.to_str().unwrap().to_owned());
                rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::REMOVEDIR)
            },
        );
        assert_eq!(walked, Ok(()));
        assert_eq!(entered, 5);
        let before = |first: &str, second: &str| {
            let at = |name: &str| left.iter().position(|known| known == name).unwrap();
            at(first) < at(second)
        };
        assert!(before("c", "b") && before("b", "a") && left.len() == 4, "{left:?}");
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 1);
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn depth_costs_no_descriptors_and_no_stack() {
        let top = std::env::temp_dir().join(format!("bivouac-test-deep-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let mut here: OwnedFd = std::fs::File::open(&top).unwrap().into();
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&here, c"n", Mode::RWXU).unwrap();
            here = descend(here.as_fd(), c"n").unwrap();
        }
        let dir = std::fs::File::open(&top).unwrap();
        let remove = |parent: BorrowedFd<'_>, name: &CStr| {
            rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::REMOVEDIR)
        };
        assert_eq!(walk(dir.as_fd(), |_| Ok(()), remove), Ok(()));
        std::fs::remove_dir(&top).unwrap();
    }
}
