//! A failed start as one sentence: what was wanted, what the kernel answered, where to read, what to do.

use super::find::Hint;
use super::report::Told;
use super::steps::Step;
use crate::plan::{Plan, Refusal, What};
use crate::survey::SurveyError;
use bivouac_sys::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a process did not start. Its text is one sentence, and a hint where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// The kind, which decides the exit status.
    pub kind: FailureKind,
    /// The step or stage, as printed by `inspect --plan`.
    pub step: String,
    /// The sentence.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the kernel answered, if it was the kernel.
    pub errno: Option<i32>,
}

/// What the caller's exit status tells of a failure, as shells do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The sandbox could not be set up: 125.
    Setup,
    /// The command was found and cannot be run: 126.
    NotExecutable,
    /// The command was not found: 127.
    NotFound,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::setup("plan", refusal.to_string(), None)
    }
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Failure {
        Failure::setup("survey", error.to_string(), None)
    }
}

impl Failure {
    fn setup(step: impl Into<String>, text: String, errno: Option<Errno>) -> Failure {
        let errno = errno.map(Errno::raw_os_error);
        Failure { kind: FailureKind::Setup, step: step.into(), text, hint: None, errno }
    }

    /// A failure before any child exists.
    pub(crate) fn preparing(goal: impl Into<String>, errno: Errno) -> Failure {
        let goal = goal.into();
        Failure::setup("prepare", format!("cannot {goal}: {}", words(errno)), Some(errno))
    }

    pub(crate) fn advise(mut self, hint: &str) -> Failure {
        if !hint.is_empty() {
            self.hint = Some(hint.to_owned());
        }
        self
    }

    /// The exit status that a command line gives for it: 125, 126 or 127.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Setup => 125,
            FailureKind::NotExecutable => 126,
            FailureKind::NotFound => 127,
        }
    }

    /// The child could not be made at all.
    pub(crate) fn cloning(errno: Errno) -> Failure {
        let hint = match errno {
            Errno::AGAIN => {
                "the group's pids limit, the user's or the machine's limit of processes is reached"
            }
            Errno::BUSY => {
                "the cgroup has controllers enabled for groups below it and takes no process itself"
            }
            Errno::PERM => "is Bivouac running as root, with CAP_SYS_ADMIN?",
            Errno::INVAL => "this kernel lacks a namespace that was asked for",
            _ => "",
        };
        Failure::setup(
            "Clone",
            format!("cannot clone the task's process: {} [clone3(2)]", words(errno)),
            Some(errno),
        )
        .advise(hint)
    }

    /// The child was killed before it was the task.
    pub(crate) fn killed(step: Step, signal: i32) -> Failure {
        let text = format!(
            "the task's process was ended by signal {signal} while it was set up, at {step:?} [{}]",
            step.page()
        );
        let hint =
            if signal == 9 { "is the memory limit too low for the set-up (a few hundred KiB)?" } else { "" };
        Failure::setup(format!("{step:?}"), text, None).advise(hint)
    }

    /// The child did not come to an end of its set-up in time.
    pub(crate) fn timed_out(step: Step) -> Failure {
        let text = format!("the task's set-up did not end in time, it hangs at {step:?} [{}]", step.page());
        Failure::setup(format!("{step:?}"), text, None)
            .advise("is a volume's server not answering, or the cgroup frozen?")
    }

    /// A step that failed.
    pub(crate) fn explain(plan: &Plan, told: &Told, errno: Errno) -> Failure {
        let process = &plan.process;
        match told.step {
            // Users of the exec driver search their logs for these words.
            Step::Find => not_found(process, told, errno, || {
                format!("file {} not found under path {}", process.asked, plan.task_dir)
            }),
            Step::Execute => not_executed(process, told, errno),
            _ => setup_failure(plan, told, errno),
        }
    }

    /// A step of an entering process that failed.
    pub(crate) fn explain_entering(process: &crate::model::Process, told: &Told, errno: Errno) -> Failure {
        match told.step {
            Step::Find => not_found(process, told, errno, || format!("command {} not found", process.asked)),
            Step::Execute => not_executed(process, told, errno),
            Step::Landlock => step_failure(told.step, &landlock_goal(process, told.item), errno),
            step => {
                let goal = goal_of(process, step).unwrap_or_else(|| format!("enter the task ({step:?})"));
                step_failure(step, &goal, errno)
            }
        }
    }
}

/// The kernel's words for an error number, with its number's name left out: it is in the step's page.
pub(crate) fn words(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn setup_failure(plan: &Plan, told: &Told, errno: Errno) -> Failure {
    let step = told.step;
    let goal = match step {
        Step::FillRoot => {
            plan.fill.get(told.item).map(|fill| format!("put {} at {}", fill.what, fill.target))
        }
        Step::MaskPaths => {
            plan.masks.get(told.item).map(|mask| format!("mask {:?} {}", mask.below, mask.path))
        }
        Step::Hostname => plan.hostname.as_ref().map(|name| format!("set the hostname {name:?}")),
        Step::JoinNetwork => Some(format!("join the network namespace {}", plan.namespaces.network)),
        Step::EnterRoot | Step::AttachRoot => Some(format!("make {} the task's root", plan.task_dir)),
        Step::Landlock => Some(landlock_goal(&plan.process, told.item)),
        other => goal_of(&plan.process, other),
    };
    let failure = step_failure(step, &goal.unwrap_or_else(|| format!("set up the task ({step:?})")), errno);
    let hint = match (step, errno) {
        (Step::FillRoot, Errno::LOOP) => {
            "the task has put a link where a mount point of ours must be; remove it from the task's directory"
        }
        (Step::FillRoot, Errno::NOTDIR) => "a file lies where a directory must be",
        (Step::FillRoot, Errno::NOSPC) => "the disk that holds the task's directory is full",
        _ => return failure,
    };
    failure.advise(hint)
}

fn landlock_goal(process: &crate::model::Process, item: usize) -> String {
    match process.confinement.landlock.iter().flatten().nth(item) {
        Some(rule) => format!("apply the landlock rule {rule}"),
        None => "apply the landlock rules".to_owned(),
    }
}

fn goal_of(process: &crate::model::Process, step: Step) -> Option<String> {
    let id = &process.identity;
    Some(match step {
        Step::WorkDir | Step::MakeWorkDir => format!("enter the working directory {}", process.work_dir),
        Step::Uid | Step::Gid | Step::Groups => format!("become user {} group {}", id.uid, id.gid),
        Step::Limits => "set the resource limits".to_owned(),
        Step::OomScore => format!("set oom_score_adj to {}", process.oom_score_adj),
        Step::OpenFilter | Step::SealedFilter => "load the seccomp filter".to_owned(),
        Step::FinalCaps | Step::BoundingSet | Step::KeepCaps | Step::Regain => {
            "set the capabilities".to_owned()
        }
        Step::JoinCgroup => "join the task's cgroup".to_owned(),
        _ => return None,
    })
}

fn step_failure(step: Step, goal: &str, errno: Errno) -> Failure {
    let text = format!("cannot {goal}: {} [{}]", words(errno), step.page());
    let hint = match (step, errno) {
        (Step::Limits, Errno::PERM) => {
            "a hard limit can only be raised with CAP_SYS_RESOURCE; the launcher lacks it"
        }
        (Step::Landlock, Errno::NOENT | Errno::NOTDIR) => "nothing is there in the task; leave the rule out",
        (Step::Landlock, Errno::LOOP) => "a link lies on its way, and rules follow none; name where it leads",
        (Step::OomScore, Errno::ACCESS) => "lowering the score needs CAP_SYS_RESOURCE",
        (Step::WorkDir, Errno::ACCESS) => "the task's user may not enter it",
        (Step::FinalCaps, Errno::PERM) => "the launcher itself lacks a capability that was asked for",
        _ => "",
    };
    Failure::setup(format!("{step:?}"), text, Some(errno)).advise(hint)
}

fn not_found(
    process: &crate::model::Process,
    told: &Told,
    errno: Errno,
    missing: impl FnOnce() -> String,
) -> Failure {
    let places: Vec<String> = process.candidates.iter().map(|candidate| candidate.path.to_string()).collect();
    let (kind, text, hint) = if told.hint == Hint::NotAFile {
        let path = String::from_utf8_lossy(&told.detail).into_owned();
        (
            FailureKind::NotExecutable,
            format!("cannot run {}: {path} is not a regular file", process.asked),
            None,
        )
    } else if errno == Errno::NOENT {
        let looked = format!("looked in the task's root for {}", places.join(", "));
        (FailureKind::NotFound, missing(), Some(looked))
    } else {
        (FailureKind::NotExecutable, format!("cannot look for {}: {}", process.asked, words(errno)), None)
    };
    Failure { kind, step: "Find".to_owned(), text, hint, errno: Some(errno.raw_os_error()) }
}

fn not_executed(process: &crate::model::Process, told: &Told, errno: Errno) -> Failure {
    let found = process
        .candidates
        .get(told.found)
        .map_or(process.asked.clone(), |candidate| candidate.path.to_string());
    let detail = String::from_utf8_lossy(&told.detail).into_owned();
    let not_there = "which is not in the task's root";
    let add = "add it through chroot_env, or use a statically linked program";
    let (reason, hint) = match told.hint {
        Hint::InterpreterMissing => (format!("{found} needs the interpreter {detail}, {not_there}"), add),
        Hint::ScriptInterpreterMissing => (
            format!("the script {found} names the interpreter {detail}, {not_there}"),
            "check its first line",
        ),
        Hint::OtherMachine => (
            format!("{found} is a program for {detail}, not for this machine"),
            "install the build for this machine",
        ),
        Hint::UnknownFormat => (
            format!("{found} is neither a program nor a script with `#!` in its first line"),
            "run it through its interpreter, as in command = \"/bin/sh\", args = [\"FILE\"]",
        ),
        Hint::NoExecuteBit => {
            (format!("{found} has no execute permission"), "chmod +x it where it comes from")
        }
        Hint::NoExec | Hint::NotAFile | Hint::Nothing => {
            let hint = match errno {
                Errno::ACCESS => {
                    "has the task's user execute permission on it and its directories, and is its mount not noexec?"
                }
                Errno::TOOBIG => {
                    "arguments and environment together are larger than the kernel takes (one string 128 KiB, all 2 MiB, less with a small stack limit)"
                }
                Errno::NOMEM => "is the memory limit too low?",
                _ => "",
            };
            (format!("cannot run {found}: {} [execve(2)]", words(errno)), hint)
        }
    };
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    let errno = Some(errno.raw_os_error());
    Failure { kind: FailureKind::NotExecutable, step: "Execute".to_owned(), text: reason, hint, errno }
}

/// What to do when something of the root cannot be made ready.
pub(super) fn advice(what: &What, errno: Errno) -> &'static str {
    match (what, errno) {
        (What::Overlay { .. }, Errno::INVAL | Errno::OPNOTSUPP) => {
            "the file system of the state directory may not serve as an overlay's upper layer (network file systems, another overlay): put it on ext4, xfs, btrfs or tmpfs, or set root = \"readonly\""
        }
        (What::Overlay { .. }, Errno::LOOP) => {
            "an entry of the chroot environment holds directories of Bivouac's own (/run/bivouac): name its parts instead"
        }
        (_, Errno::NOENT) => "does it exist on the host?",
        (_, Errno::NOSPC) => "the disk is full",
        (_, Errno::ROFS) => "the state directory is on a read-only file system",
        (_, Errno::PERM | Errno::ACCESS) => "is Bivouac running as root, with CAP_SYS_ADMIN?",
        _ => "",
    }
}
