//! The restart policy: what happens when a task has ended. Pure; the numbers are those of the `restart` block.

use bivouac_jobspec::{JobKind, Restart, RestartMode, Role};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest part of a delay that chance adds to it.
const JITTER: f64 = 0.25;

/// Why a task with `attempts = 0` is not started again.
pub const NO_RESTARTS: &str = "Policy allows no restarts";

/// A moment: nanoseconds since boot, time asleep included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// This moment later.
    pub fn after(self, wait: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long until this moment; zero when it has come.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Chance, from 0 to 1: given, so that decisions can be tested.
#[derive(Clone, Copy, Debug)]
pub struct Luck(pub f64);

/// What a task that ended by itself with success means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnSuccess {
    /// It is done.
    Done,
    /// It should not have ended.
    Restart,
}

impl OnSuccess {
    /// By the kind of job and the task's part in its group.
    pub fn of(kind: JobKind, role: Role) -> OnSuccess {
        let restarts = match role {
            Role::Main => !kind.is_batch(),
            Role::Prestart { sidecar } | Role::Poststart { sidecar } => sidecar,
            Role::Poststop => false,
        };
        if restarts { OnSuccess::Restart } else { OnSuccess::Done }
    }
}

/// Why a task is not running any more, or should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with status 0.
    Success,
    /// By itself, otherwise.
    Failure,
    /// It could not be started, and another try may help.
    NotStarted,
    /// It could not be started, and never will.
    NeverStarts,
    /// A check or a template's script has failed: counts as a failure.
    Triggered,
    /// Somebody asked for a restart: at once, and free.
    Asked,
}

/// What is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again after a while.
    Restart {
        /// How long.
        after: Duration,
        /// Why, in words.
        reason: &'static str,
    },
    /// It has done its work.
    Complete {
        /// Why, in words.
        reason: &'static str,
    },
    /// It has failed for good.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// Counts a task's failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracker {
    policy: Restart,
    on_success: OnSuccess,
    /// The first failure of the current interval.
    window: Option<Time>,
    count: u32,
}

impl Tracker {
    /// Nothing has happened yet.
    pub fn new(policy: Restart, on_success: OnSuccess) -> Tracker {
        Tracker { policy, on_success, window: None, count: 0 }
    }

    /// What to do about an end.
    pub fn next(&mut self, now: Time, ended: Ended, luck: Luck) -> Verdict {
        match ended {
            Ended::Asked => return Verdict::Restart { after: Duration::ZERO, reason: "" },
            Ended::NeverStarts => return Verdict::Failed { reason: "Error was unrecoverable".into() },
            Ended::Success if self.on_success == OnSuccess::Done => {
                return Verdict::Complete { reason: "Restart unnecessary as task terminated successfully" };
            }
            Ended::Success | Ended::Failure | Ended::NotStarted | Ended::Triggered => {}
        }
        if self.policy.attempts == 0 {
            return Verdict::Failed { reason: NO_RESTARTS.into() };
        }
        let end = match self.window.map(|start| start.after(self.policy.interval)) {
            Some(end) if now <= end => end,
            Some(_) | None => {
                self.window = Some(now);
                self.count = 0;
                now.after(self.policy.interval)
            }
        };
        self.count = self.count.saturating_add(1);
        if self.count <= self.policy.attempts {
            let after = self.policy.delay.mul_f64(1.0 + JITTER * luck.0.clamp(0.0, 1.0));
            return Verdict::Restart { after, reason: "Restart within policy" };
        }
        match self.policy.mode {
            RestartMode::Delay => Verdict::Restart {
                after: end.since(now),
                reason: "Exceeded allowed attempts, applying a delay",
            },
            RestartMode::Fail => Verdict::Failed {
                reason: format!(
                    "Exceeded allowed attempts {} in interval {} and mode is \"fail\"",
                    self.policy.attempts,
                    go_duration(self.policy.interval)
                ),
            },
        }
    }

    /// The boot clock begins anew.
    pub fn forget(&mut self) {
        self.window = None;
        self.count = 0;
    }
}

/// A duration as Go writes it, which people search their logs for: `30m0s`, `1h0m0s`, `1.5s`, `300ms`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration < Duration::from_secs(1) {
        return match duration.as_micros() {
            0 => "0s".to_owned(),
            micros @ 1..1000 => format!("{micros}µs"),
            micros => format!("{}ms", trimmed(micros as f64 / 1000.0)),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = trimmed((seconds % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(attempts: u32, interval: u64, delay: u64, mode: RestartMode) -> Restart {
        let (interval, delay) = (Duration::from_secs(interval), Duration::from_secs(delay));
        Restart { attempts, interval, delay, mode, render_templates: false }
    }

    fn service(policy: Restart) -> Tracker {
        Tracker::new(policy, OnSuccess::Restart)
    }

    /// Covers: W52
    #[test]
    fn w52_restarts_wait_within_jitter_then_delay_or_fail() {
        for mode in [RestartMode::Delay, RestartMode::Fail] {
            let mut tracker = service(policy(3, 60, 4, mode));
            let mut now = Time(0);
            for luck in [0.0, 0.5, 1.0] {
                let Verdict::Restart { after, reason } = tracker.next(now, Ended::Failure, Luck(luck)) else {
                    panic!("within the policy")
                };
                assert!((4 * SECOND..=5 * SECOND).contains(&after), "{after:?}");
                assert_eq!(reason, "Restart within policy");
                now = now.after(after);
            }
            match (mode, tracker.next(now, Ended::Failure, Luck(0.0))) {
                (RestartMode::Delay, Verdict::Restart { after, reason }) => {
                    assert!(after > 4 * SECOND && after <= 60 * SECOND, "{after:?}");
                    assert_eq!(reason, "Exceeded allowed attempts, applying a delay");
                }
                (RestartMode::Fail, Verdict::Failed { reason }) => {
                    assert_eq!(reason, "Exceeded allowed attempts 3 in interval 1m0s and mode is \"fail\"");
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    /// Covers: W52
    #[test]
    fn w52_no_attempts_means_none_and_success_of_a_batch_is_clean() {
        let mut batch = Tracker::new(policy(0, 60, 1, RestartMode::Fail), OnSuccess::Done);
        assert!(matches!(batch.next(Time(0), Ended::Success, Luck(0.0)), Verdict::Complete { .. }));
        let none = Verdict::Failed { reason: "Policy allows no restarts".into() };
        assert_eq!(batch.next(Time(0), Ended::Failure, Luck(0.0)), none);
        assert_eq!(
            service(policy(0, 60, 1, RestartMode::Fail)).next(Time(0), Ended::Success, Luck(0.0)),
            none
        );
    }

    /// Covers: W52
    #[test]
    fn w52_who_restarts_after_success() {
        let roles = [
            (Role::Main, None),
            (Role::Prestart { sidecar: false }, Some(OnSuccess::Done)),
            (Role::Prestart { sidecar: true }, Some(OnSuccess::Restart)),
            (Role::Poststart { sidecar: false }, Some(OnSuccess::Done)),
            (Role::Poststart { sidecar: true }, Some(OnSuccess::Restart)),
            (Role::Poststop, Some(OnSuccess::Done)),
        ];
        for kind in [JobKind::Service, JobKind::System, JobKind::Batch, JobKind::SysBatch] {
            let main = if kind.is_batch() { OnSuccess::Done } else { OnSuccess::Restart };
            for (role, expected) in roles {
                assert_eq!(OnSuccess::of(kind, role), expected.unwrap_or(main), "{kind:?} {role:?}");
            }
        }
    }

    /// Covers: W52, W18
    #[test]
    fn w52_asked_restarts_are_free_and_starts_that_cannot_work_end_it() {
        let mut tracker = service(policy(1, 60, 1, RestartMode::Fail));
        for _ in 0..10 {
            let free = Verdict::Restart { after: Duration::ZERO, reason: "" };
            assert_eq!(tracker.next(Time(0), Ended::Asked, Luck(1.0)), free);
        }
        assert!(matches!(
            tracker.next(Time(0), Ended::Triggered, Luck(0.0)),
            Verdict::Restart { reason: "Restart within policy", .. }
        ));
        assert!(matches!(tracker.next(Time(0), Ended::Triggered, Luck(0.0)), Verdict::Failed { .. }));
        let reason = "Error was unrecoverable".to_owned();
        let mut other = service(policy(5, 60, 1, RestartMode::Delay));
        assert_eq!(other.next(Time(0), Ended::NeverStarts, Luck(0.0)), Verdict::Failed { reason });
        let again = other.next(Time(0), Ended::NotStarted, Luck(0.0));
        assert!(matches!(again, Verdict::Restart { .. }), "W18: a start that may work later is tried again");
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (300, "300ms"),
            (1500, "1.5s"),
            (5000, "5s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        /// However the failures come: in any interval there are at most `attempts` restarts that were not delayed
        /// to its end, and a delay is never longer than it may be.
        #[test]
        fn no_interval_has_more_restarts_than_allowed(
            attempts in 1u32..5,
            gaps in proptest::collection::vec(0u64..40, 1..60),
            luck in 0.0f64..=1.0,
        ) {
            let (interval, delay) = (60, 3);
            let mut tracker = service(policy(attempts, interval, delay, RestartMode::Delay));
            let mut now = Time(1);
            let mut quick: Vec<Time> = Vec::new();
            for gap in gaps {
                now = now.after(Duration::from_secs(gap));
                match tracker.next(now, Ended::Failure, Luck(luck)) {
                    Verdict::Restart { after, reason: "Restart within policy" } => {
                        prop_assert!(after >= delay as u32 * SECOND && after <= SECOND.mul_f64(3.75));
                        quick.push(now);
                        now = now.after(after);
                    }
                    Verdict::Restart { after, .. } => {
                        prop_assert!(after <= Duration::from_secs(interval));
                        now = now.after(after).after(Duration::from_nanos(1));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            for start in &quick {
                let end = start.after(Duration::from_secs(interval));
                let within = quick.iter().filter(|at| *at >= start && **at <= end).count();
                // An interval begins at a failure, so a span of its length can touch two of them.
                prop_assert!(within <= 2 * attempts as usize);
            }
        }
    }
}
