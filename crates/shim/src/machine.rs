//! The state machine of a shim: what happens, and what is to be done about it. Pure.
//!
//! One `match` over state and event, without a wildcard: every pair was thought of. The order of the actions is part
//! of the promise: [`Action::Record`] stands before whatever tells somebody, [`Action::Release`] (which may wait for
//! a disk) after it.

use crate::protocol::{KillMode, Leftovers, OnStarterGone};
use bivouac_sandbox::model::Sharing;
use std::time::Duration;

/// How long the kernel may take to end what was killed.
pub const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What the face decided at the launch, and what never changes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the death of the starter means.
    pub on_starter_gone: OnStarterGone,
    /// Whom the signal of a stop reaches.
    pub kill_mode: KillMode,
    /// Whether the end of the first process ends the rest.
    pub pid_namespace: Sharing,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The shim waits for its order, or carries it out.
    Starting,
    /// The first process runs.
    Running,
    /// It was told to end.
    Stopping(Stage, Aftermath),
    /// It has ended, and its status waits to be collected.
    Exited(Aftermath),
    /// Nothing is left to do but leave.
    Collected,
}

/// How hard it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A signal was sent and the grace period runs.
    Grace {
        /// Which.
        signal: i32,
    },
    /// Everything was killed.
    Killed,
    /// Everything was killed, long ago.
    Stuck,
}

/// What follows the end of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// The shim stays until it is destroyed.
    Keep,
    /// The shim leaves the status file to whoever comes, and goes.
    Leave,
    /// Everything goes, and whoever asked for it is told.
    Destroy,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first process runs the command.
    Launched,
    /// It could not be brought to that.
    LaunchFailed,
    /// The first process has ended and was reaped.
    Ended,
    /// The time that [`Action::Arm`] set has come.
    Timer,
    /// The starter's socket was closed.
    StarterGone,
    /// SIGTERM or SIGINT came to the shim itself.
    ToldToEnd,
    /// Memory may have run out in the group.
    OomWoke,
    /// The group is gone.
    GroupRemoved,
    /// The group could not be removed.
    GroupKept,
    /// A client asks something.
    Asked(Question),
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// To start the task.
    Launch,
    /// How things stand.
    State,
    /// To be told of the end.
    Wait,
    /// To be told of processes killed for lack of memory.
    WaitOom,
    /// To send a signal to the first process.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// To end the task.
    Stop {
        /// With this signal.
        signal: i32,
        /// And after this time by force.
        grace: Duration,
    },
    /// To run a further process.
    Exec,
    /// To set the size of the task's terminal.
    Resize,
    /// To have the task's terminal.
    Terminal,
    /// For statistics.
    Stats,
    /// To remove everything.
    Destroy(Leftovers),
}

/// What is to be done, in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the status file.
    Record,
    /// Bring the count of processes killed for lack of memory up to date.
    CountOom,
    /// Start the task.
    Launch,
    /// Send a signal to the first process.
    SignalFirst(i32),
    /// Send a signal to every process of the group.
    SignalGroup(i32),
    /// Note whether the first process could not feel the signal it was stopped with.
    NoteIgnored(i32),
    /// Kill the whole group and the first process.
    Kill,
    /// Set the timer.
    Arm(Duration),
    /// Set the timer to this, unless it goes off sooner anyway.
    ArmSooner(Duration),
    /// Write what is left of the task's output.
    FlushLogs,
    /// Stop the timer.
    Disarm,
    /// Answer whoever asks now.
    Answer(Reply),
    /// Put whoever asks now on a list.
    Enlist(List),
    /// Answer everyone who waits for the end.
    TellEnd,
    /// Answer everyone who waits for a smaller count of OOM kills.
    TellOom,
    /// Answer everyone who asked for a stop or a removal: it does not end.
    TellStuck,
    /// Answer the starter: it runs.
    TellLaunched,
    /// Answer the starter: it does not.
    TellLaunchFailed,
    /// Answer everyone who asked for removal: it is done.
    TellDestroyed,
    /// Answer everyone who asked for removal: it cannot be done, and why.
    TellKept,
    /// Let go of the sandbox, in a process of its own, since that may wait for a disk.
    Release,
    /// Remove the control group; [`Event::GroupRemoved`] or [`Event::GroupKept`] follows.
    RemoveGroup,
    /// Remove the run directory.
    RemoveRunDir,
    /// End the shim.
    Leave,
}

/// What whoever asks is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The status.
    Status,
    /// The exit.
    Exit,
    /// The count of OOM kills if it is above the one the client knows; else it goes on the list.
    OomOrEnlist,
    /// The outcome of the actions before this one.
    Outcome,
    /// A new exec session, or why there is none.
    Exec,
    /// Whether the terminal took its new size.
    Resize,
    /// The terminal.
    Terminal,
    /// Statistics.
    Stats,
    /// Not running.
    NotRunning,
    /// Still running.
    StillRunning,
    /// Not now: there is one order to launch, and nothing else before it.
    OutOfTurn,
}

/// Who waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The end of the task.
    End,
    /// The end of the task, or that it is stuck.
    Stop,
    /// The removal of everything.
    Destroy,
}

use Action as A;
use Aftermath::{Destroy, Keep, Leave};
use Event as E;
use Question as Q;
use Stage::{Grace, Killed, Stuck};
use State as S;

/// The whole life of a shim. The lists are short, and most events are rare.
pub fn step(policy: Policy, state: State, event: Event) -> (State, Vec<Action>) {
    match (state, event) {
        (S::Starting, E::Asked(Q::Launch)) => (S::Starting, vec![A::Record, A::Launch]),
        (S::Starting, E::Launched) => (S::Running, vec![A::Record, A::TellLaunched, A::CountOom]),
        (S::Starting, E::LaunchFailed) => (S::Collected, vec![A::Record, A::TellLaunchFailed, A::Leave]),
        // Nothing runs yet: the face made the group and the directory, and it or `gc` removes them.
        (S::Starting, E::StarterGone | E::ToldToEnd) => (S::Collected, vec![A::Leave]),
        (S::Starting, E::Asked(question)) => (S::Starting, starting(question)),
        (S::Starting, E::Ended | E::Timer | E::OomWoke | E::GroupRemoved | E::GroupKept) => {
            (S::Starting, vec![])
        }

        (S::Running, E::Ended) => ended(policy, Keep),
        (S::Running, E::StarterGone) => match policy.on_starter_gone {
            OnStarterGone::Keep => (S::Running, vec![]),
            OnStarterGone::Stop => kill(Leave),
        },
        (S::Running, E::ToldToEnd) => kill(Keep),
        (S::Running, E::OomWoke) => (S::Running, oom()),
        (S::Running, E::Asked(Q::Stop { signal, grace })) => stop(policy, signal, grace),
        (S::Running, E::Asked(Q::Destroy(leftovers))) => destroy(S::Running, leftovers),
        (S::Running, E::Asked(question)) => (S::Running, running(question)),
        (S::Running, E::Launched | E::LaunchFailed | E::Timer | E::GroupRemoved | E::GroupKept) => {
            (S::Running, vec![])
        }

        (S::Stopping(_, after), E::Ended) => ended(policy, after),
        (S::Stopping(Grace { signal }, after), E::Timer) => {
            let (state, mut actions) = kill(after);
            actions.insert(0, A::NoteIgnored(signal));
            (state, actions)
        }
        // Whoever asked for removal is told that it cannot be had now; should the task end at last, it is removed.
        (S::Stopping(Killed, after), E::Timer) => (S::Stopping(Stuck, after), vec![A::Record, A::TellStuck]),
        (S::Stopping(Stuck, after), E::Timer) => (S::Stopping(Stuck, after), vec![]),
        (S::Stopping(stage, after), E::StarterGone) => match (policy.on_starter_gone, after) {
            (OnStarterGone::Keep, Keep | Leave | Destroy) | (OnStarterGone::Stop, Leave | Destroy) => {
                (S::Stopping(stage, after), vec![])
            }
            (OnStarterGone::Stop, Keep) => kill(Leave),
        },
        (S::Stopping(Grace { .. }, after), E::ToldToEnd) => kill(after),
        (S::Stopping(stage @ (Killed | Stuck), after), E::ToldToEnd) => (S::Stopping(stage, after), vec![]),
        (S::Stopping(stage, after), E::OomWoke) => (S::Stopping(stage, after), oom()),
        (S::Stopping(stage, after), E::Asked(Q::Stop { signal, grace })) => {
            stop_again(policy, stage, after, signal, grace)
        }
        (S::Stopping(stage, after), E::Asked(Q::Destroy(leftovers))) => {
            destroy(S::Stopping(stage, after), leftovers)
        }
        (S::Stopping(stage @ Grace { .. }, after), E::Asked(question)) => {
            (S::Stopping(stage, after), running(question))
        }
        (S::Stopping(stage @ (Killed | Stuck), after), E::Asked(question)) => {
            (S::Stopping(stage, after), dying(question))
        }
        (S::Stopping(stage, after), E::Launched | E::LaunchFailed | E::GroupRemoved | E::GroupKept) => {
            (S::Stopping(stage, after), vec![])
        }

        (S::Exited(Keep), E::StarterGone) => match policy.on_starter_gone {
            OnStarterGone::Keep => (S::Exited(Keep), vec![]),
            OnStarterGone::Stop => (S::Exited(Leave), vec![A::RemoveGroup]),
        },
        (S::Exited(after @ (Leave | Destroy)), E::StarterGone) => (S::Exited(after), vec![]),
        (S::Exited(Destroy), E::GroupRemoved) => {
            (S::Collected, vec![A::RemoveRunDir, A::TellDestroyed, A::Leave])
        }
        (S::Exited(Destroy), E::GroupKept) => (S::Exited(Keep), vec![A::TellKept]),
        // The status file says which group is left; whoever collects it tries again.
        (S::Exited(Leave), E::GroupRemoved | E::GroupKept) => (S::Collected, vec![A::Leave]),
        (S::Exited(Keep), E::GroupRemoved | E::GroupKept) => (S::Exited(Keep), vec![]),
        (S::Exited(after), E::Asked(Q::Destroy(Leftovers::Refuse | Leftovers::Kill))) => match after {
            Keep | Leave => (S::Exited(Destroy), vec![A::Enlist(List::Destroy), A::RemoveGroup]),
            Destroy => (S::Exited(Destroy), vec![A::Enlist(List::Destroy)]),
        },
        (S::Exited(after), E::Asked(question)) => (S::Exited(after), exited(question)),
        (
            S::Exited(after),
            E::Launched | E::LaunchFailed | E::Ended | E::Timer | E::ToldToEnd | E::OomWoke,
        ) => (S::Exited(after), vec![]),

        (S::Collected, E::Asked(question)) => (S::Collected, collected(question)),
        (
            S::Collected,
            E::Launched
            | E::LaunchFailed
            | E::Ended
            | E::Timer
            | E::StarterGone
            | E::ToldToEnd
            | E::OomWoke
            | E::GroupRemoved
            | E::GroupKept,
        ) => (S::Collected, vec![]),
    }
}

/// The first process was reaped: flush, count, write, tell, and only then let go.
fn ended(policy: Policy, after: Aftermath) -> (State, Vec<Action>) {
    let mut actions = vec![A::Disarm];
    if policy.pid_namespace == Sharing::Host {
        // Nobody else ends the rest: whoever hears of the end finds no process left.
        actions.push(A::Kill);
    }
    actions.extend([A::FlushLogs, A::CountOom, A::Record, A::TellEnd, A::Release]);
    if after != Keep {
        actions.push(A::RemoveGroup);
    }
    (S::Exited(after), actions)
}

fn kill(after: Aftermath) -> (State, Vec<Action>) {
    (S::Stopping(Killed, after), vec![A::Kill, A::Arm(STUCK_AFTER), A::Record])
}

fn oom() -> Vec<Action> {
    vec![A::CountOom, A::TellOom]
}

fn send(policy: Policy, signal: i32) -> Action {
    match policy.kill_mode {
        KillMode::Process => A::SignalFirst(signal),
        KillMode::Group => A::SignalGroup(signal),
    }
}

fn stop(policy: Policy, signal: i32, grace: Duration) -> (State, Vec<Action>) {
    if grace.is_zero() {
        let (state, mut actions) = kill(Keep);
        actions.insert(0, A::Enlist(List::Stop));
        return (state, actions);
    }
    let actions = vec![A::Enlist(List::Stop), send(policy, signal), A::Arm(grace), A::Record];
    (S::Stopping(Grace { signal }, Keep), actions)
}

/// Whoever asks again may only hasten the end.
fn stop_again(
    policy: Policy,
    stage: Stage,
    after: Aftermath,
    signal: i32,
    grace: Duration,
) -> (State, Vec<Action>) {
    match stage {
        Grace { .. } if grace.is_zero() => {
            let (state, mut actions) = kill(after);
            actions.insert(0, A::Enlist(List::Stop));
            (state, actions)
        }
        Grace { .. } => {
            let actions = vec![A::Enlist(List::Stop), send(policy, signal), A::ArmSooner(grace)];
            (S::Stopping(Grace { signal }, after), actions)
        }
        Killed => (S::Stopping(Killed, after), vec![A::Enlist(List::Stop)]),
        Stuck => {
            let (state, mut actions) = kill(after);
            actions.insert(0, A::Enlist(List::Stop));
            (state, actions)
        }
    }
}

fn destroy(state: State, leftovers: Leftovers) -> (State, Vec<Action>) {
    match leftovers {
        Leftovers::Refuse => (state, vec![A::Answer(Reply::StillRunning)]),
        Leftovers::Kill => {
            let (state, mut actions) = kill(Destroy);
            actions.insert(0, A::Enlist(List::Destroy));
            (state, actions)
        }
    }
}

fn starting(question: Question) -> Vec<Action> {
    match question {
        Q::State => vec![A::Answer(Reply::Status)],
        Q::Launch
        | Q::Wait
        | Q::WaitOom
        | Q::Signal { .. }
        | Q::Stop { .. }
        | Q::Exec
        | Q::Resize
        | Q::Terminal
        | Q::Stats
        | Q::Destroy(_) => vec![A::Answer(Reply::OutOfTurn)],
    }
}

/// `Stop` and `Destroy` change the state and are answered by [`step`] itself.
fn running(question: Question) -> Vec<Action> {
    match question {
        Q::State => vec![A::Answer(Reply::Status)],
        Q::Wait => vec![A::Enlist(List::End)],
        Q::WaitOom => vec![A::CountOom, A::Answer(Reply::OomOrEnlist)],
        Q::Signal { signal } => vec![A::SignalFirst(signal), A::Answer(Reply::Outcome)],
        Q::Exec => vec![A::Answer(Reply::Exec)],
        Q::Resize => vec![A::Answer(Reply::Resize)],
        Q::Terminal => vec![A::Answer(Reply::Terminal)],
        Q::Stats => vec![A::CountOom, A::Answer(Reply::Stats)],
        Q::Launch | Q::Stop { .. } | Q::Destroy(_) => vec![A::Answer(Reply::OutOfTurn)],
    }
}

/// What is being killed takes no signals and no new processes, but can still be looked at.
fn dying(question: Question) -> Vec<Action> {
    match question {
        Q::Signal { .. } | Q::Exec => vec![A::Answer(Reply::NotRunning)],
        Q::State
        | Q::Wait
        | Q::WaitOom
        | Q::Resize
        | Q::Terminal
        | Q::Stats
        | Q::Launch
        | Q::Stop { .. }
        | Q::Destroy(_) => running(question),
    }
}

fn exited(question: Question) -> Vec<Action> {
    match question {
        Q::State => vec![A::Answer(Reply::Status)],
        Q::Wait | Q::WaitOom | Q::Stop { .. } => vec![A::Answer(Reply::Exit)],
        // What was written before the end can still be read from the terminal.
        Q::Terminal => vec![A::Answer(Reply::Terminal)],
        Q::Signal { .. } | Q::Exec | Q::Resize | Q::Stats => vec![A::Answer(Reply::NotRunning)],
        Q::Launch | Q::Destroy(_) => vec![A::Answer(Reply::OutOfTurn)],
    }
}

fn collected(question: Question) -> Vec<Action> {
    match question {
        Q::State => vec![A::Answer(Reply::Status)],
        Q::Launch
        | Q::Wait
        | Q::WaitOom
        | Q::Signal { .. }
        | Q::Stop { .. }
        | Q::Exec
        | Q::Resize
        | Q::Terminal
        | Q::Stats
        | Q::Destroy(_) => vec![A::Answer(Reply::NotRunning)],
    }
}

#[cfg(test)]
mod tests;
