//! What lists show of allocations and tasks, as people and as programs read it.

use bivouac_runner::lifecycle::{Stage, Status as AllocStatus};
use bivouac_runner::overview::Entry;
use bivouac_runner::registry::Registered;
use bivouac_runner::state::{Face, State, TaskState};
use bivouac_shim::status::{Phase, Status};
use jiff::Timestamp;
use serde::Serialize;

/// An allocation with its tasks.
#[derive(Debug, Serialize)]
pub(crate) struct AllocRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) job: String,
    pub(crate) group: String,
    pub(crate) status: AllocStatus,
    pub(crate) description: String,
    pub(crate) face: Face,
    pub(crate) supervised: bool,
    pub(crate) created: i64,
    pub(crate) tasks: Vec<TaskRow>,
}

/// A job that is started later.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow {
    pub(crate) job: String,
    pub(crate) kind: &'static str,
    pub(crate) supervised: bool,
    pub(crate) next: Option<String>,
    pub(crate) description: String,
}

impl JobRow {
    pub(crate) fn of(job: &Registered, next: Option<Timestamp>, description: String) -> JobRow {
        JobRow {
            job: job.keep.id().to_owned(),
            kind: if job.is_periodic() { "periodic" } else { "parameterized" },
            supervised: job.supervised,
            next: next.map(|next| format!("{next:.0}")),
            description,
        }
    }

    /// How it stands, in a few words.
    pub(crate) fn state(&self) -> String {
        match (self.kind, &self.next) {
            ("parameterized", _) => "waits for dispatch".to_owned(),
            _ if !self.supervised => "periodic, unsupervised".to_owned(),
            (_, Some(next)) => format!("periodic, next {next}"),
            (_, None) => "periodic, never".to_owned(),
        }
    }
}

/// A task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) pid: Option<i32>,
    pub(crate) command: Option<String>,
    pub(crate) restarts: u32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) oom_kills: u64,
    pub(crate) started: Option<i64>,
    pub(crate) finished: Option<i64>,
}

impl AllocRow {
    pub(crate) fn of(entry: &Entry) -> AllocRow {
        let state = &entry.state;
        let rows = state.tasks.iter().enumerate().map(|(index, task)| {
            let stage = state.machine.stage(index);
            TaskRow::of(state, task, &in_words(stage, task, entry.supervised))
        });
        AllocRow {
            id: state.id.clone(),
            name: state.name.clone(),
            job: state.job.clone(),
            group: state.group.clone(),
            status: state.status,
            description: state.description.clone(),
            face: state.face,
            supervised: entry.supervised,
            created: state.created,
            tasks: rows.collect(),
        }
    }

    /// How it stands, in one or two words.
    pub(crate) fn state(&self) -> String {
        let word = match self.status {
            AllocStatus::Pending => "pending",
            AllocStatus::Running => "running",
            AllocStatus::Complete => "complete",
            AllocStatus::Failed => "failed",
        };
        match (self.supervised, self.status) {
            (false, AllocStatus::Pending | AllocStatus::Running) => format!("{word}, unsupervised"),
            _ => word.to_owned(),
        }
    }
}

fn in_words(stage: Stage, task: &TaskState, supervised: bool) -> String {
    match stage {
        Stage::Waiting => "waiting".to_owned(),
        Stage::Starting => "starting".to_owned(),
        Stage::Running if !supervised => "unsupervised".to_owned(),
        Stage::Running | Stage::Draining { .. } => "running".to_owned(),
        Stage::Resting { .. } => "restarting".to_owned(),
        Stage::Stopping(_) => "stopping".to_owned(),
        Stage::Dead(_) => match (task.exit_code, task.started) {
            (Some(code), _) => format!("exited ({code})"),
            (None, Some(_)) => "lost".to_owned(),
            (None, None) => "not started".to_owned(),
        },
    }
}

impl TaskRow {
    fn of(state: &State, task: &TaskState, words: &str) -> TaskRow {
        TaskRow {
            id: format!("{}/{}", state.id, task.name),
            task: format!("{}/{}", state.name, task.name),
            name: task.name.clone(),
            state: words.to_owned(),
            pid: task.pid,
            command: task.command.clone(),
            restarts: task.restarts,
            exit_code: task.exit_code,
            oom_kills: task.oom_kills,
            started: task.started,
            finished: task.finished,
        }
    }

    /// A run of another face, as its shim tells.
    pub(crate) fn of_shim(id: &str, status: &Status) -> TaskRow {
        let exit_code = status.exit.as_ref().map(|exit| exit.ending.code());
        let state = match (status.phase, exit_code) {
            (Phase::Starting, _) => "starting".to_owned(),
            (Phase::Failed, _) => "failed".to_owned(),
            (Phase::Running, _) => "running".to_owned(),
            (Phase::Stopping, _) => "stopping".to_owned(),
            (Phase::Exited, code) => format!("exited ({})", code.unwrap_or(-1)),
        };
        TaskRow {
            id: id.to_owned(),
            task: status.task.clone(),
            name: status.task.clone(),
            state,
            pid: status.first.as_ref().map(|first| first.pid),
            command: status.command.clone(),
            restarts: 0,
            exit_code,
            oom_kills: status.oom_kills,
            started: status.started.map(|moment| moment.unix_nanos),
            finished: status.exit.as_ref().map(|exit| exit.finished.unix_nanos),
        }
    }
}
