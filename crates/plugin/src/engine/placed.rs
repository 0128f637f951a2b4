//! Files below the chroot environment that the client writes again while their task runs: who notices, and has them
//! shown.
//!
//! One descriptor watches the directories of all tasks that have such files, which few have; one thread waits on it,
//! from the first such task on. A signal or a command that the client sends after it wrote a file must not come
//! before the file: [`Placements::show`] is called before both.

use super::locked;
use bivouac_driver::engine::Engine;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// All directories that are watched.
#[derive(Default)]
pub(super) struct Placements(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    watcher: Option<Arc<OwnedFd>>,
    /// Whose task each watched directory is.
    tasks: HashMap<i32, String>,
    /// What asks the driver; the newest, for it may be made anew.
    engine: Option<Arc<Engine>>,
}

impl Placements {
    /// Watches the directories of a task.
    pub(super) fn watch(&self, engine: &Arc<Engine>, id: &str, directories: &[PathBuf]) {
        if directories.is_empty() {
            return;
        }
        let mut state = locked(&self.0);
        state.engine = Some(Arc::clone(engine));
        let watcher = match self.watcher(&mut state) {
            Ok(watcher) => watcher,
            Err(error) => {
                return tracing::warn!(task = id, %error, "files written again will not be seen at once");
            }
        };
        for directory in directories {
            let what = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
            match inotify::add_watch(&*watcher, directory, what) {
                Ok(watch) => drop(state.tasks.insert(watch, id.to_owned())),
                Err(error) => {
                    tracing::warn!(task = id, directory = %directory.display(), %error, "cannot watch");
                }
            }
        }
    }

    fn watcher(&self, state: &mut State) -> std::io::Result<Arc<OwnedFd>> {
        if let Some(watcher) = &state.watcher {
            return Ok(Arc::clone(watcher));
        }
        let watcher = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (all, waited) = (Arc::clone(&self.0), Arc::clone(&watcher));
        let wait = move || wait(&waited, &all);
        std::thread::Builder::new().name("placed".to_owned()).stack_size(256 << 10).spawn(wait)?;
        state.watcher = Some(Arc::clone(&watcher));
        Ok(watcher)
    }

    /// Watches no more for a task.
    pub(super) fn forget(&self, id: &str) {
        let mut state = locked(&self.0);
        let State { watcher, tasks, .. } = &mut *state;
        let Some(watcher) = watcher else { return };
        tasks.retain(|watch, task| {
            let other = task != id;
            if !other {
                // It may be gone with its directory.
                let _ = inotify::remove_watch(&**watcher, *watch);
            }
            other
        });
    }

    /// Shows a task what was written since, if it is one that has such files.
    pub(super) fn show(&self, engine: &Engine, id: &str) {
        if locked(&self.0).tasks.values().any(|task| task == id) {
            show(engine, id);
        }
    }
}

fn show(engine: &Engine, id: &str) {
    if let Err(error) = engine.show_placed(id) {
        tracing::warn!(task = id, %error, "a file that was written again is not seen by the task");
    }
}

/// Waits for ever.
fn wait(watcher: &OwnedFd, all: &Mutex<State>) {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watcher, &mut room);
    loop {
        let mut changed = BTreeSet::new();
        // All that one read brought.
        loop {
            match events.next() {
                Ok(event) => drop(changed.insert(event.wd())),
                Err(Errno::INTR) => continue,
                Err(error) => return tracing::error!(%error, "files written again are not noticed any more"),
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        let (engine, tasks) = {
            let state = locked(all);
            // Lost events concern anybody.
            let concerned = |watch: &i32| changed.contains(watch) || changed.contains(&-1);
            let tasks = state.tasks.iter().filter(|(watch, _)| concerned(watch));
            (state.engine.clone(), tasks.map(|(_, task)| task.clone()).collect::<BTreeSet<_>>())
        };
        let Some(engine) = engine else { continue };
        tasks.iter().for_each(|task| show(&engine, task));
    }
}
