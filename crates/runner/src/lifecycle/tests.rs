//! The life cycle against small worlds in which tasks end when told, by themselves, or not at all.

use super::*;
use crate::restart::OnSuccess;
use bivouac_jobspec::{JobKind, Restart, RestartMode};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn member(name: &str, role: Role, kind: JobKind, attempts: u32) -> Member {
    let policy = Restart {
        attempts,
        interval: 60 * SECOND,
        delay: SECOND,
        mode: RestartMode::Fail,
        render_templates: false,
    };
    Member {
        name: name.into(),
        role,
        leader: false,
        grace: 5 * SECOND,
        shutdown_delay: Duration::ZERO,
        tracker: Tracker::new(policy, OnSuccess::of(kind, role)),
    }
}

const PRESTART: Role = Role::Prestart { sidecar: false };
const SIDECAR: Role = Role::Prestart { sidecar: true };
const POSTSTART: Role = Role::Poststart { sidecar: false };

/// A machine whose starts succeed at once and whose stops are obeyed at once, with a clock that is moved by hand.
struct World {
    machine: Machine,
    now: Time,
    /// What was done, in order: `+name` started, `-name` told to stop, `name: Kind` happened.
    done: Vec<String>,
    /// Tasks that never start.
    broken: Vec<usize>,
    /// Tasks that do not obey at once.
    deaf: Vec<usize>,
}

impl World {
    fn new(members: Vec<Member>) -> World {
        World::with(Machine::new(members, Duration::ZERO, None))
    }

    fn with(machine: Machine) -> World {
        let mut world =
            World { machine, now: Time(0), done: Vec::new(), broken: Vec::new(), deaf: Vec::new() };
        world.feed(Input::Tick);
        world
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.machine.step(self.now, Luck(0.0), input) {
                let name =
                    |task: usize| self.machine.members.get(task).map(|m| m.name.clone()).unwrap_or_default();
                match action {
                    Action::Start(task) if self.broken.contains(&task) => {
                        inputs.push_back(Input::NotStarted(task, Ended::NeverStarts));
                    }
                    Action::Start(task) => {
                        self.done.push(format!("+{}", name(task)));
                        inputs.push_back(Input::Started(task));
                    }
                    Action::Stop(task, grace) => {
                        self.done.push(format!("-{}", name(task)));
                        if !self.deaf.contains(&task) || grace.is_zero() {
                            inputs.push_back(Input::Ended(task, Ended::Failure));
                        }
                    }
                    Action::Tell(task, happening) => {
                        self.done.push(format!("{}: {}", name(task), happening.told().0.as_str()));
                    }
                }
            }
        }
    }

    fn pass(&mut self, seconds: u32) {
        self.now = self.now.after(seconds * SECOND);
        self.feed(Input::Tick);
    }

    /// Only starts and stops, in order.
    fn moves(&self) -> String {
        let moves = self.done.iter().filter(|done| done.starts_with(['+', '-']));
        moves.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn told(&self, text: &str) -> bool {
        self.done.iter().any(|done| done == text)
    }
}

/// Covers: W41, W34
#[test]
fn w41_gates_open_in_order() {
    let batch = JobKind::Batch;
    let mut world = World::new(vec![
        member("main", Role::Main, batch, 0),
        member("init", PRESTART, batch, 0),
        member("init2", PRESTART, batch, 0),
        member("side", SIDECAR, batch, 0),
        member("after", POSTSTART, batch, 0),
        member("last", Role::Poststop, batch, 0),
    ]);
    assert_eq!(world.moves(), "+init +init2 +side");
    world.feed(Input::Ended(1, Ended::Success));
    assert_eq!(world.moves(), "+init +init2 +side", "one of them has not ended");
    world.feed(Input::Ended(2, Ended::Success));
    assert_eq!(world.moves(), "+init +init2 +side +main +after");
    world.feed(Input::Ended(4, Ended::Success));
    world.feed(Input::Ended(0, Ended::Success));
    assert_eq!(world.moves(), "+init +init2 +side +main +after -side +last");
    assert!(world.told("side: Main Tasks Dead"));
    world.feed(Input::Ended(5, Ended::Success));
    assert!(world.machine.is_over());
    assert_eq!(world.machine.status(), Status::Complete);
}

/// Covers: W41
#[test]
fn w41_a_failed_prestart_keeps_the_gate_closed() {
    let mut world = World::new(vec![
        member("main", Role::Main, JobKind::Service, 2),
        member("init", PRESTART, JobKind::Service, 0),
        member("last", Role::Poststop, JobKind::Service, 0),
    ]);
    world.feed(Input::Ended(1, Ended::Failure));
    assert_eq!(world.moves(), "+init +last");
    world.feed(Input::Ended(2, Ended::Success));
    assert_eq!((world.machine.is_over(), world.machine.status()), (true, Status::Failed));
    assert_eq!(world.machine.stage(0), Stage::Dead(Outcome::Never));
}

/// Covers: W41
#[test]
fn w41_a_sidecar_that_never_starts_keeps_main_blocked() {
    let machine = Machine::new(
        vec![member("main", Role::Main, JobKind::Service, 2), member("side", SIDECAR, JobKind::Service, 2)],
        Duration::ZERO,
        None,
    );
    let mut world = World { machine, now: Time(0), done: vec![], broken: vec![1], deaf: vec![] };
    world.feed(Input::Tick);
    assert_eq!(world.moves(), "");
    assert_eq!(world.machine.status(), Status::Failed);
}

/// Covers: W32
#[test]
fn w32_the_leader_is_stopped_first_and_its_end_ends_the_others() {
    let leader = || Member { leader: true, ..member("leader", Role::Main, JobKind::Service, 0) };
    let group = || {
        vec![
            member("a", Role::Main, JobKind::Service, 0),
            leader(),
            member("side", SIDECAR, JobKind::Service, 0),
        ]
    };
    let mut stopped = World::new(group());
    stopped.deaf = vec![0, 1, 2];
    stopped.feed(Input::Stop(Manner::default()));
    assert_eq!(stopped.moves(), "+side +a +leader -leader", "it is waited for");
    stopped.feed(Input::Ended(1, Ended::Failure));
    assert_eq!(stopped.moves(), "+side +a +leader -leader -a");
    stopped.feed(Input::Ended(0, Ended::Failure));
    stopped.feed(Input::Ended(2, Ended::Failure));
    assert_eq!(stopped.moves(), "+side +a +leader -leader -a -side");
    assert_eq!(stopped.machine.status(), Status::Complete, "it was asked for");

    let batch = |name: &str| member(name, Role::Main, JobKind::Batch, 0);
    let mut ended = World::new(vec![batch("a"), Member { leader: true, ..batch("leader") }]);
    ended.feed(Input::Ended(1, Ended::Success));
    assert_eq!(ended.moves(), "+a +leader -a", "a dead leader is not stopped again");
    assert!(ended.told("a: Leader Task Dead"));
}

/// Covers: W33
#[test]
fn w33_a_failure_ends_the_siblings() {
    let mut world = World::new(vec![
        member("a", Role::Main, JobKind::Service, 1),
        member("b", Role::Main, JobKind::Service, 1),
    ]);
    world.feed(Input::Ended(0, Ended::Failure));
    assert!(world.told("a: Restarting") && !world.told("b: Sibling Task Failed"));
    world.pass(2);
    assert_eq!(world.moves(), "+a +b +a");
    world.feed(Input::Ended(0, Ended::Failure));
    assert_eq!(world.moves(), "+a +b +a -b");
    let tail: Vec<&str> = world.done.iter().rev().take(5).rev().map(String::as_str).collect();
    assert_eq!(tail, ["a: Not Restarting", "b: Sibling Task Failed", "b: Killing", "-b", "b: Killed"]);
    assert_eq!(world.machine.status(), Status::Failed);
    assert_eq!(world.machine.stage(1), Stage::Dead(Outcome::Complete), "the sibling itself did not fail");
}

/// Covers: W34
#[test]
fn w34_a_restart_of_all_runs_the_hooks_anew() {
    let mut world = World::new(vec![
        member("main", Role::Main, JobKind::Service, 0),
        member("init", PRESTART, JobKind::Service, 0),
        member("last", Role::Poststop, JobKind::Service, 0),
    ]);
    world.feed(Input::Ended(1, Ended::Success));
    world.feed(Input::Restart(None));
    assert_eq!(world.moves(), "+init +main -main +main", "finished tasks stay finished");
    world.feed(Input::Renew);
    world.feed(Input::Ended(1, Ended::Success));
    assert_eq!(world.moves(), "+init +main -main +main -main +init +main");
    assert!(!world.told("last: Started"), "nothing has ended for good");
}

/// Covers: W35, Z24
#[test]
fn w35_the_longest_run_ends_complete_without_poststop() {
    let members = vec![
        member("main", Role::Main, JobKind::Batch, 3),
        member("last", Role::Poststop, JobKind::Batch, 0),
    ];
    let mut world = World::with(Machine::new(members, Duration::ZERO, Some(10 * SECOND)));
    world.pass(9);
    assert_eq!(world.moves(), "+main");
    assert_eq!(world.machine.next_tick(), Some(Time(10_000_000_000)));
    world.pass(1);
    assert_eq!(world.moves(), "+main -main");
    assert!(world.machine.is_over());
    assert_eq!((world.machine.status(), world.machine.reason()), (Status::Complete, Some(Reason::MaxRun)));
}

/// Covers: W36, W10
#[test]
fn w36_delays_of_the_group_and_of_tasks() {
    let slow = Member { shutdown_delay: 3 * SECOND, ..member("slow", Role::Main, JobKind::Service, 0) };
    let mut world = World::with(Machine::new(vec![slow.clone()], 2 * SECOND, None));
    world.feed(Input::Stop(Manner::default()));
    world.pass(1);
    assert!(!world.told("slow: Waiting for shutdown delay"), "the group waits first");
    world.pass(1);
    assert!(world.told("slow: Waiting for shutdown delay"));
    assert_eq!(world.moves(), "+slow");
    world.pass(3);
    assert_eq!(world.moves(), "+slow -slow");

    let mut hasty = World::with(Machine::new(vec![slow], 2 * SECOND, None));
    hasty.feed(Input::Stop(Manner { grace: None, delay: Delay::Skipped }));
    assert_eq!(hasty.moves(), "+slow -slow");
    assert!(hasty.told("slow: Skipping shutdown delay"));
}

/// Covers: W14
#[test]
fn w14_a_check_that_fails_restarts_within_the_policy_then_fails() {
    let mut world = World::new(vec![member("a", Role::Main, JobKind::Service, 1)]);
    world.feed(Input::Unwell(0));
    world.pass(0);
    assert_eq!(world.moves(), "+a -a +a");
    world.feed(Input::Unwell(0));
    assert_eq!(world.moves(), "+a -a +a -a");
    assert_eq!((world.machine.is_over(), world.machine.status()), (true, Status::Failed));
}

/// Covers: W3, W37
#[test]
fn w37_a_reboot_starts_what_ran_and_leaves_what_was_over() {
    let batch = JobKind::Batch;
    let mut world =
        World::new(vec![member("main", Role::Main, batch, 1), member("init", PRESTART, batch, 0)]);
    world.feed(Input::Ended(1, Ended::Success));
    assert_eq!(world.moves(), "+init +main");
    let saved = serde_json::to_string(&world.machine).unwrap();
    let mut after: Machine = serde_json::from_str(&saved).unwrap();
    assert_eq!(after, world.machine, "it is written down whole");
    after.reboot();
    let mut world = World::with(after);
    assert_eq!(world.moves(), "+main", "what was over is not run again");
    world.feed(Input::Ended(0, Ended::Success));
    world.machine.reboot();
    world.feed(Input::Tick);
    assert_eq!(world.moves(), "+main", "a finished batch is not run again");
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        4 => Just(Role::Main),
        2 => any::<bool>().prop_map(|sidecar| Role::Prestart { sidecar }),
        2 => any::<bool>().prop_map(|sidecar| Role::Poststart { sidecar }),
        1 => Just(Role::Poststop),
    ]
}

fn group() -> impl Strategy<Value = Vec<Member>> {
    let kind = prop_oneof![Just(JobKind::Service), Just(JobKind::Batch)];
    (kind, proptest::collection::vec((role(), 0u32..3, 0u64..3), 0..5), any::<bool>()).prop_map(
        |(kind, others, leads)| {
            let mut members: Vec<Member> = others
                .into_iter()
                .enumerate()
                .map(|(index, (role, attempts, delay))| Member {
                    shutdown_delay: Duration::from_secs(delay),
                    ..member(&format!("t{index}"), role, kind, attempts)
                })
                .collect();
            members.push(Member { leader: leads, ..member("main", Role::Main, kind, 1) });
            members
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    End(usize, bool),
    Pass(u32),
    Restart(usize),
    Unwell(usize),
    StopTask(usize),
    Renew,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..6, any::<bool>()).prop_map(|(task, well)| Step::End(task, well)),
        4 => (0u32..5).prop_map(Step::Pass),
        1 => (0usize..6).prop_map(Step::Restart),
        1 => (0usize..6).prop_map(Step::Unwell),
        1 => (0usize..6).prop_map(Step::StopTask),
        1 => Just(Step::Renew),
        1 => Just(Step::Stop),
    ]
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let machine = &world.machine;
    let running = |index: usize| is_alive(&machine.stage(index));
    let main_ran = machine.members.iter().enumerate().any(|(i, m)| m.role == Role::Main && running(i));
    for (index, member) in machine.members.iter().enumerate() {
        let stage = machine.stage(index);
        if main_ran && machine.reason().is_none() && machine.course == Course::Run && member.role == PRESTART
        {
            prop_assert_eq!(stage, Stage::Dead(Outcome::Complete), "a main task before its prestart");
        }
        if member.role == Role::Poststop && running(index) {
            let others = machine.members.iter().enumerate();
            let mut others = others.filter(|(_, other)| other.role != Role::Poststop);
            prop_assert!(others.all(|(other, _)| matches!(machine.stage(other), Stage::Dead(_))));
        }
    }
    Ok(())
}

proptest! {
    /// Whatever happens: no main task runs before prestart tasks have succeeded, nothing runs beside a poststop task,
    /// and after a stop everything comes to its end.
    #[test]
    fn any_history_keeps_the_order_and_ends(members in group(), steps in proptest::collection::vec(step(), 0..40)) {
        let mut world = World::new(members);
        check(&world)?;
        for step in steps {
            match step {
                Step::End(task, well) if matches!(world.machine.stage(task), Stage::Running) => {
                    world.feed(Input::Ended(task, if well { Ended::Success } else { Ended::Failure }));
                }
                Step::End(..) => {}
                Step::Pass(seconds) => world.pass(seconds),
                Step::Restart(task) => world.feed(Input::Restart(Some(task))),
                Step::Unwell(task) => world.feed(Input::Unwell(task)),
                Step::StopTask(task) => world.feed(Input::StopTask(task, Manner::default())),
                Step::Renew => world.feed(Input::Renew),
                Step::Stop => world.feed(Input::Stop(Manner::default())),
            }
            check(&world)?;
        }
        world.feed(Input::Stop(Manner::default()));
        for _ in 0..20 {
            world.pass(4);
            check(&world)?;
            let poststop = (0..world.machine.members.len()).find(|task| {
                world.machine.is_poststop(*task) && world.machine.stage(*task) == Stage::Running
            });
            if let Some(task) = poststop {
                world.feed(Input::Ended(task, Ended::Success));
            }
        }
        prop_assert!(world.machine.is_over(), "{:?}", world.machine);
    }
}
