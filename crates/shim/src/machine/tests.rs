//! The state machine: every pair of state and event, and the promises that hold over any history.

use super::*;
use proptest::prelude::*;

const TERM: i32 = 15;

fn policies() -> Vec<Policy> {
    let mut all = Vec::new();
    for on_starter_gone in [OnStarterGone::Keep, OnStarterGone::Stop] {
        for kill_mode in [KillMode::Process, KillMode::Group] {
            for pid_namespace in [Sharing::Private, Sharing::Host] {
                all.push(Policy { on_starter_gone, kill_mode, pid_namespace });
            }
        }
    }
    all
}

fn states() -> Vec<State> {
    let mut all = vec![S::Starting, S::Running, S::Collected];
    for after in [Keep, Leave, Destroy] {
        all.push(S::Exited(after));
        all.extend([Grace { signal: TERM }, Killed, Stuck].map(|stage| S::Stopping(stage, after)));
    }
    all
}

fn questions() -> Vec<Question> {
    let stop = |millis| Q::Stop { signal: TERM, grace: Duration::from_millis(millis) };
    let destroy = [Q::Destroy(Leftovers::Refuse), Q::Destroy(Leftovers::Kill)];
    let mut all =
        vec![Q::Launch, Q::State, Q::Wait, Q::WaitOom, Q::Signal { signal: TERM }, stop(0), stop(50)];
    all.extend([Q::Exec, Q::Resize, Q::Terminal, Q::Stats]);
    all.extend(destroy);
    all
}

fn events() -> Vec<Event> {
    let mut all = vec![E::Launched, E::LaunchFailed, E::Ended, E::Timer, E::StarterGone, E::ToldToEnd];
    all.extend([E::OomWoke, E::GroupRemoved, E::GroupKept]);
    all.extend(questions().into_iter().map(E::Asked));
    all
}

fn every(mut check: impl FnMut(Policy, State, Event, State, &[Action])) {
    for policy in policies() {
        for state in states() {
            for event in events() {
                let (next, actions) = step(policy, state, event);
                check(policy, state, event, next, &actions);
            }
        }
    }
}

fn at(actions: &[Action], wanted: Action) -> Option<usize> {
    actions.iter().position(|action| *action == wanted)
}

#[test]
fn the_whole_table_as_a_picture() {
    let policy = Policy {
        on_starter_gone: OnStarterGone::Stop,
        kill_mode: KillMode::Process,
        pid_namespace: Sharing::Private,
    };
    let mut table = String::new();
    for state in states() {
        for event in events() {
            let (next, actions) = step(policy, state, event);
            if next != state || !actions.is_empty() {
                table.push_str(&format!("{state:?} + {event:?}\n    -> {next:?} {actions:?}\n"));
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_question_is_answered_exactly_once() {
    every(|_, state, event, _, actions| {
        let answers =
            actions.iter().filter(|action| matches!(action, A::Answer(_) | A::Enlist(_) | A::Launch)).count();
        let expected = usize::from(matches!(event, E::Asked(_)));
        assert_eq!(answers, expected, "{state:?} {event:?} {actions:?}");
    });
}

#[test]
fn the_status_is_on_disk_before_anybody_hears_and_the_disk_is_waited_for_afterwards() {
    every(|_, state, event, _, actions| {
        for tell in [A::TellEnd, A::TellLaunched, A::TellLaunchFailed, A::TellStuck] {
            if let Some(tell) = at(actions, tell) {
                assert!(at(actions, A::Record).is_some_and(|record| record < tell), "{state:?} {event:?}");
            }
        }
        if let Some(release) = at(actions, A::Release) {
            assert!(at(actions, A::TellEnd).is_some_and(|tell| tell < release), "{state:?} {event:?}");
        }
        if let Some(record) = at(actions, A::Record)
            && event == E::Ended
        {
            assert!(at(actions, A::CountOom).is_some_and(|count| count < record), "{state:?}");
            assert!(at(actions, A::FlushLogs).is_some_and(|flush| flush < record), "{state:?}");
        }
    });
}

#[test]
fn the_shim_leaves_only_as_its_last_act_and_only_when_all_is_collected() {
    every(|_, state, event, next, actions| {
        if let Some(leave) = at(actions, A::Leave) {
            assert_eq!(leave + 1, actions.len(), "{state:?} {event:?}");
            assert_eq!(next, S::Collected);
        }
        if next == S::Collected && state != S::Collected {
            assert!(at(actions, A::Leave).is_some(), "{state:?} {event:?}: stays for ever");
        }
        assert!(state != S::Collected || next == S::Collected);
    });
}

#[test]
fn what_runs_is_never_abandoned() {
    every(|_, state, event, next, actions| {
        let runs = |state| matches!(state, S::Running | S::Stopping(..));
        if runs(state) && event != E::Ended {
            assert!(runs(next), "{state:?} {event:?} -> {next:?}");
            assert_eq!(at(actions, A::RemoveGroup), None, "{state:?} {event:?}");
        }
    });
}

#[test]
fn every_grace_and_every_kill_has_an_end() {
    every(|_, state, event, next, actions| {
        if let S::Stopping(Grace { .. } | Killed, _) = next {
            let armed = actions.iter().any(|action| matches!(action, A::Arm(_) | A::ArmSooner(_)));
            let same = matches!(
                (state, next),
                (S::Stopping(Grace { .. }, _), S::Stopping(Grace { .. }, _))
                    | (S::Stopping(Killed, _), S::Stopping(Killed, _))
            );
            assert!(armed || same, "{state:?} {event:?}");
        }
    });
}

#[test]
fn in_the_host_pid_namespace_the_rest_is_killed_before_the_end_is_told() {
    every(|policy, _, event, next, actions| {
        if event == E::Ended && matches!(next, S::Exited(_)) && at(actions, A::TellEnd).is_some() {
            let killed = at(actions, A::Kill);
            assert_eq!(killed.is_some(), policy.pid_namespace == Sharing::Host);
            assert!(killed < at(actions, A::TellEnd));
        }
    });
}

#[test]
fn the_signal_of_a_stop_goes_where_the_kill_mode_says() {
    every(|policy, _, event, _, actions| {
        if let E::Asked(Q::Stop { .. }) = event {
            let wrong = match policy.kill_mode {
                KillMode::Process => A::SignalGroup(TERM),
                KillMode::Group => A::SignalFirst(TERM),
            };
            assert_eq!(at(actions, wrong), None);
        }
    });
}

#[test]
fn statistics_after_the_end_are_an_error_and_a_stop_is_not() {
    for after in [Keep, Leave, Destroy] {
        let ask = |question| step(policies()[0], S::Exited(after), E::Asked(question)).1;
        assert_eq!(ask(Q::Stats), [A::Answer(Reply::NotRunning)]);
        assert_eq!(ask(Q::Stop { signal: TERM, grace: Duration::ZERO }), [A::Answer(Reply::Exit)]);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    proptest::sample::select(events())
}

proptest! {
    /// A foreground run that dies takes its task along, whatever came before; if the kernel does its part, the
    /// shim goes too.
    #[test]
    fn a_foreground_task_does_not_outlive_its_starter(before in proptest::collection::vec(any_event(), 0..30)) {
        let policy = Policy {
            on_starter_gone: OnStarterGone::Stop,
            kill_mode: KillMode::Process,
            pid_namespace: Sharing::Private,
        };
        let mut state = S::Starting;
        for event in before {
            state = step(policy, state, event).0;
        }
        for event in [E::StarterGone, E::Ended, E::GroupRemoved] {
            state = step(policy, state, event).0;
        }
        prop_assert_eq!(state, S::Collected);
    }

    /// Whoever waits for the end hears of it, in any history that reaches the end.
    #[test]
    fn whoever_waits_is_told(history in proptest::collection::vec(any_event(), 0..40)) {
        for policy in policies() {
            let (mut state, mut waiting) = (S::Starting, 0);
            for event in &history {
                let (next, actions) = step(policy, state, *event);
                for action in actions {
                    match action {
                        A::Enlist(List::End | List::Stop) => waiting += 1,
                        A::TellEnd => waiting = 0,
                        _ => {}
                    }
                }
                state = next;
            }
            if matches!(state, S::Exited(_) | S::Collected) {
                prop_assert_eq!(waiting, 0);
            }
        }
    }

    /// Whoever asked for removal is told that it is done, that it cannot be done, or that the task is stuck.
    #[test]
    fn whoever_destroys_is_told(history in proptest::collection::vec(any_event(), 0..40)) {
        for policy in policies() {
            let (mut state, mut waiting) = (S::Starting, 0);
            for event in &history {
                let (next, actions) = step(policy, state, *event);
                for action in actions {
                    match action {
                        A::Enlist(List::Destroy) => waiting += 1,
                        A::TellDestroyed | A::TellKept | A::TellStuck => waiting = 0,
                        _ => {}
                    }
                }
                state = next;
            }
            let pending = matches!(state, S::Stopping(_, Destroy) | S::Exited(Destroy));
            prop_assert!(pending || waiting == 0, "{:?}", state);
        }
    }
}
