//! What happened to a task, in the words that people search for; the last ten are kept.

use crate::restart::go_duration;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// How many are kept.
const KEPT: usize = 10;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When: nanoseconds since 1970.
    pub at: i64,
    /// What kind, such as `Terminated`.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What a person reads.
    pub message: String,
}

macro_rules! kinds {
    ($($name:ident $text:literal,)*) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $text] #[serde(rename = $text)] $name,)*
        }

        impl Kind {
            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    Received "Received",
    Setup "Task Setup",
    Downloading "Downloading Artifacts",
    FailedDownload "Failed Artifact Download",
    SetupFailure "Setup Failure",
    DriverFailure "Driver Failure",
    Driver "Driver",
    Started "Started",
    Terminated "Terminated",
    Restarting "Restarting",
    NotRestarting "Not Restarting",
    Killing "Killing",
    Killed "Killed",
    Signaling "Signaling",
    RestartSignaled "Restart Signaled",
    SiblingFailed "Sibling Task Failed",
    LeaderDead "Leader Task Dead",
    MainsDead "Main Tasks Dead",
    Template "Template",
    WaitingShutdownDelay "Waiting for shutdown delay",
    SkippingShutdownDelay "Skipping shutdown delay",
    FailedRestoring "Failed Restoring Task",
    Reconnected "Reconnected",
}

/// Something that happened, before anybody puts it into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The allocation was made.
    Received,
    /// Its directories were made.
    Setup,
    /// It runs.
    Started,
    /// It ended.
    Terminated {
        /// Its status: 128 + the signal if one ended it.
        code: i32,
        /// The signal, or 0.
        signal: i32,
        /// What else is known.
        message: String,
    },
    /// It will be started again.
    Restarting {
        /// When.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// It will not.
    NotRestarting(String),
    /// It could not be started.
    DriverFailure(String),
    /// It is being ended.
    Killing(Duration),
    /// And was.
    Killed,
    /// A signal is sent.
    Signaling(String),
    /// Somebody asked for a restart.
    RestartSignaled(String),
    /// Another one has failed for good.
    SiblingFailed(String),
    /// The leader has ended.
    LeaderDead,
    /// The main tasks have ended.
    MainsDead,
    /// It is not killed yet.
    WaitingShutdownDelay(Duration),
    /// It is killed without that wait.
    SkippingShutdownDelay,
    /// Its shim died.
    FailedRestoring(String),
    /// Anything else, in words already.
    Other(Kind, String),
}

impl Happening {
    /// In words.
    pub fn told(&self) -> (Kind, String) {
        match self {
            Happening::Received => (Kind::Received, "Task received by client".into()),
            Happening::Setup => (Kind::Setup, "Building Task Directory".into()),
            Happening::Started => (Kind::Started, "Task started by client".into()),
            Happening::Terminated { code, signal, message } => {
                let mut text = format!("Exit Code: {code}");
                if *signal != 0 {
                    text.push_str(&format!(", Signal: {signal}"));
                }
                if !message.is_empty() {
                    text.push_str(&format!(", Exit Message: {message:?}"));
                }
                (Kind::Terminated, text)
            }
            Happening::Restarting { after, reason } => {
                let wait = go_duration(Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(0)));
                let text = if reason.is_empty() {
                    format!("Task restarting in {wait}")
                } else {
                    format!("{reason} - Task restarting in {wait}")
                };
                (Kind::Restarting, text)
            }
            Happening::NotRestarting(reason) => (Kind::NotRestarting, reason.clone()),
            Happening::DriverFailure(text) => (Kind::DriverFailure, text.clone()),
            Happening::Killing(grace) if grace.is_zero() => {
                (Kind::Killing, "Killing the task at once".into())
            }
            Happening::Killing(grace) => {
                let text = format!("Sent interrupt. Waiting {} before force killing", go_duration(*grace));
                (Kind::Killing, text)
            }
            Happening::Killed => (Kind::Killed, "Task successfully killed".into()),
            Happening::Signaling(signal) => {
                (Kind::Signaling, format!("Task being sent signal {signal}: User requested"))
            }
            Happening::RestartSignaled(why) => (Kind::RestartSignaled, why.clone()),
            Happening::SiblingFailed(name) => {
                (Kind::SiblingFailed, format!("Task's sibling {name:?} failed"))
            }
            Happening::LeaderDead => (Kind::LeaderDead, "Leader Task in Group dead".into()),
            Happening::MainsDead => (Kind::MainsDead, "Main tasks in the group died".into()),
            Happening::WaitingShutdownDelay(delay) => (
                Kind::WaitingShutdownDelay,
                format!("Waiting for shutdown_delay of {} before killing the task.", go_duration(*delay)),
            ),
            Happening::SkippingShutdownDelay => {
                (Kind::SkippingShutdownDelay, "Skipping shutdown_delay before killing the task.".into())
            }
            Happening::FailedRestoring(text) => (Kind::FailedRestoring, text.clone()),
            Happening::Other(kind, text) => (*kind, text.clone()),
        }
    }
}

/// The last events of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal(VecDeque<Event>);

impl Journal {
    /// Adds one and lets the oldest go.
    pub fn add(&mut self, at: i64, happening: &Happening) {
        let (kind, message) = happening.told();
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Event { at, kind, message });
    }

    /// Oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_are_kept_in_order() {
        let mut journal = Journal::default();
        for at in 0..25 {
            journal.add(at, &Happening::Started);
        }
        assert_eq!(journal.events().map(|event| event.at).collect::<Vec<_>>(), (15..25).collect::<Vec<_>>());
    }

    #[test]
    fn words_are_those_that_people_search_for() {
        let terminated = |code, signal, message: &str| {
            Happening::Terminated { code, signal, message: message.into() }.told().1
        };
        assert_eq!(terminated(0, 0, ""), "Exit Code: 0");
        assert_eq!(terminated(143, 15, ""), "Exit Code: 143, Signal: 15");
        assert_eq!(terminated(1, 0, "x"), "Exit Code: 1, Exit Message: \"x\"");
        let killing = Happening::Killing(Duration::from_secs(5)).told();
        assert_eq!(killing.1, "Sent interrupt. Waiting 5s before force killing");
        let restarting = Happening::Restarting {
            after: Duration::from_millis(16_200),
            reason: "Restart within policy".into(),
        };
        assert_eq!(restarting.told().1, "Restart within policy - Task restarting in 16.2s");
    }
}
