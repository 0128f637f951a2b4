//! Waiting for what happens to tasks, and telling it: ends, and processes killed for lack of memory.

use super::{failed, locked};
use crate::face::{EngineError, EventSink, Exit, TaskEvent};
use bivouac_driver::engine::{Engine, Standing, killed_by_stop, lack_of_memory};
use bivouac_shim::client::{Client, Happened, Watch};
use bivouac_shim::status::{self, Ending};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// Whose task a run is.
#[derive(Clone, Debug)]
pub(super) struct About {
    alloc_id: String,
    task_name: String,
    /// The task's own directory on the host.
    pub(super) task_dir: PathBuf,
}

impl About {
    pub(super) fn new(alloc_id: &str, task_name: &str, alloc_dir: &Path) -> About {
        About {
            alloc_id: alloc_id.to_owned(),
            task_name: task_name.to_owned(),
            task_dir: alloc_dir.join(task_name),
        }
    }
}

struct Watched {
    about: About,
    /// The connection over which this process started it, until somebody waits.
    starter: Option<Client>,
    /// How many kills for lack of memory have been told.
    told: u64,
    /// None until somebody waits.
    watch: Option<Watch>,
    over: Option<Exit>,
}

/// All tasks that are waited for.
#[derive(Default)]
pub(super) struct Watches {
    all: Mutex<HashMap<String, Watched>>,
    sink: OnceLock<EventSink>,
}

impl Watches {
    pub(super) fn report_to(&self, sink: EventSink) {
        // Called once; a second sink would never be told anything either.
        let _ = self.sink.set(sink);
    }

    pub(super) fn tell(&self, id: &str, about: &About, message: String) {
        if let Some(sink) = self.sink.get() {
            sink(TaskEvent {
                task_id: id.to_owned(),
                alloc_id: about.alloc_id.clone(),
                task_name: about.task_name.clone(),
                message,
                annotations: BTreeMap::new(),
            });
        }
    }

    /// A run that this process has just started, over this connection.
    pub(super) fn started(&self, id: &str, about: About, starter: Client) {
        self.remember(id, about, Some(starter));
    }

    /// A run of an earlier process, which has told of all kills so far.
    pub(super) fn recovered(&self, id: &str, about: About) {
        self.remember(id, about, None);
    }

    fn remember(&self, id: &str, about: About, starter: Option<Client>) {
        let watched = Watched { about, starter, told: 0, watch: None, over: None };
        locked(&self.all).insert(id.to_owned(), watched);
    }

    pub(super) fn forget(&self, id: &str) -> Option<About> {
        locked(&self.all).remove(id).map(|watched| watched.about)
    }

    /// A descriptor that becomes readable when something has happened.
    pub(super) fn watch(&self, engine: &Engine, id: &str) -> Result<OwnedFd, EngineError> {
        let starter = locked(&self.all).get_mut(id).ok_or(EngineError::UnknownTask)?.starter.take();
        // A further connection would cost the start two round trips.
        let (watch, told) = match starter.and_then(|starter| starter.watch_oom(0).ok()) {
            Some(watch) => (watch, 0),
            None => {
                let Standing::Alive(mut client) = engine.find(id)? else {
                    // The end of a pipe that nobody writes to is readable for ever.
                    return Ok(pipe_with(PipeFlags::CLOEXEC).map_err(failed)?.0);
                };
                let known = client.state().map_err(failed)?.oom_kills;
                (client.watch_oom(known).map_err(failed)?, known)
            }
        };
        let descriptor = watch.as_fd().try_clone_to_owned().map_err(failed)?;
        let mut all = locked(&self.all);
        let watched = all.get_mut(id).ok_or(EngineError::UnknownTask)?;
        (watched.told, watched.watch) = (told, Some(watch));
        Ok(descriptor)
    }

    /// How the task ended, or `None` while it runs. Tells what else has happened.
    pub(super) fn exited(&self, engine: &Engine, id: &str) -> Result<Option<Exit>, EngineError> {
        let mut news = Vec::new();
        let known = {
            let mut all = locked(&self.all);
            match all.get_mut(id) {
                Some(watched) => watched.take(&mut news),
                None => Known::Nothing,
            }
        };
        let (exit, kills) = match known {
            Known::Over(exit) => (Some(exit), 0),
            Known::Running => (None, 0),
            Known::Ended(ended) => (Some(exit(&ended)), ended.oom_kills),
            Known::Nothing => match engine.find(id)? {
                Standing::Alive(_) => (None, 0),
                Standing::Ended(_, ended) => (Some(exit(&ended)), ended.oom_kills),
                Standing::Lost(why) => (Some(Exit { code: -1, error: Some(why), ..Exit::default() }), 0),
            },
        };
        if let Some(watched) = locked(&self.all).get_mut(id) {
            news.extend(watched.untold(kills));
            watched.over = watched.over.take().or_else(|| exit.clone());
        }
        self.tell_kills(engine, id, &news);
        Ok(exit)
    }

    fn tell_kills(&self, engine: &Engine, id: &str, news: &[u64]) {
        let Some(about) = locked(&self.all).get(id).map(|watched| watched.about.clone()) else { return };
        for kills in news {
            self.tell(id, &about, lack_of_memory(*kills, engine.memory(id).as_ref()));
        }
    }
}

/// What a watch says.
enum Known {
    /// The end, which was told before.
    Over(Exit),
    /// The end, just now.
    Ended(status::Exit),
    /// That it goes on.
    Running,
    /// There is no watch, or it was cut off.
    Nothing,
}

impl Watched {
    /// Takes what the shim said; kills that nobody has been told of go to `news`.
    fn take(&mut self, news: &mut Vec<u64>) -> Known {
        if let Some(exit) = &self.over {
            return Known::Over(exit.clone());
        }
        loop {
            let Some(watch) = &mut self.watch else { return Known::Nothing };
            match watch.take() {
                Ok(None) => return Known::Running,
                Ok(Some(Happened::Ended(ended))) => return Known::Ended(ended),
                Ok(Some(Happened::Oom(kills))) => {
                    if watch.again(kills).is_err() {
                        self.watch = None;
                    }
                    news.extend(self.untold(kills));
                }
                Err(_) => self.watch = None,
            }
        }
    }

    /// How many kills of so many have not been told.
    fn untold(&mut self, kills: u64) -> Option<u64> {
        let untold = kills.checked_sub(self.told).filter(|untold| *untold > 0)?;
        self.told = kills;
        Some(untold)
    }
}

/// How a task ended, and why it had to be killed.
pub(super) fn exit(ended: &status::Exit) -> Exit {
    Exit { error: killed_by_stop(ended), oom_killed: ended.oom_kills > 0, ..ending(ended.ending) }
}

pub(super) fn ending(ending: Ending) -> Exit {
    let signal = match ending {
        Ending::Exited { .. } => 0,
        Ending::Signaled { signal, .. } => signal,
    };
    Exit { code: ending.code(), signal, ..Exit::default() }
}
