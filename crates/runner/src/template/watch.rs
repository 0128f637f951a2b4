//! Wakes up when a file that a template has read changes. No polling: the kernel tells of names in directories.

use bivouac_artifact::place::{BENEATH, Place, Roots, open_root};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::fs::{Mode, OFlags, openat2};
use rustix::io::Errno;
use std::collections::HashMap;
use std::mem::MaybeUninit;

/// Which names matter in a directory.
#[derive(Default)]
struct Names {
    /// Files that were read.
    files: Vec<String>,
    /// Directories that are missing on the way to one.
    missing: Vec<String>,
}

/// What is watched.
pub struct Watches {
    inotify: OwnedFd,
    names: HashMap<i32, Names>,
}

impl Watches {
    /// Watches the files at these paths, as the task names them; those that are not there yet too.
    ///
    /// # Errors
    /// What inotify_init1(2) and inotify_add_watch(2) answered.
    pub fn new(roots: &Roots, paths: &[String]) -> Result<Watches, Errno> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut watches = Watches { inotify, names: HashMap::new() };
        for path in paths {
            // What cannot be named cannot have been read.
            if let Ok(place) = Place::resolve(path) {
                watches.add(roots, &place)?;
            }
        }
        Ok(watches)
    }

    fn add(&mut self, roots: &Roots, place: &Place) -> Result<(), Errno> {
        let Ok(mut directory) = open_root(roots.path(place.root)) else { return Ok(()) };
        let Some((last, parents)) = place.names.split_last() else { return Ok(()) };
        for name in parents {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match openat2(&directory, name.as_str(), flags, Mode::empty(), BENEATH) {
                Ok(next) => directory = next,
                Err(_) => {
                    self.watch(&directory)?.missing.push(name.clone());
                    return Ok(());
                }
            }
        }
        self.watch(&directory)?.files.push(last.clone());
        Ok(())
    }

    fn watch(&mut self, directory: &OwnedFd) -> Result<&mut Names, Errno> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        // By descriptor: the name may lead elsewhere by now.
        let number = add_watch(&self.inotify, format!("/proc/self/fd/{}", directory.as_raw_fd()), what)?;
        Ok(self.names.entry(number).or_default())
    }

    /// What to wait for.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes what has happened; whether any of it concerns a file that was read.
    pub fn take(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut any = false;
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                any = true;
                continue;
            }
            let Some(names) = self.names.get(&event.wd()) else { continue };
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A file that has just been made is empty: its content comes with the close.
            let made =
                event.events().contains(ReadFlags::CREATE) && !event.events().contains(ReadFlags::ISDIR);
            any |= names.missing.contains(&name) || names.files.contains(&name) && !made;
        }
        any
    }
}
