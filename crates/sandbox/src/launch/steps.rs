//! The order in which a freshly cloned child becomes the task.
//!
//! [`STEPS`] is the whole story, in the order in which the kernel sees it; [`ORDER`] says why so. The child is
//! a copy of the small shim (plain `clone3`, never `CLONE_VM`) that shares one page with it. A step only makes
//! system calls on what [`Prepared`] holds, and never allocates, locks or panics.

use super::calls;
use super::prepare::Prepared;
use super::report::Report;
use bivouac_sys::Errno;

/// One step of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is told in STEPS and explained in failure.rs")]
pub enum Step {
    Clone = 0,
    EarlyDeathSignal,
    Signals,
    Session,
    JoinCgroup,
    CgroupNamespace,
    JoinNetwork,
    Loopback,
    Hostname,
    LeaveHost,
    AttachRoot,
    FillRoot,
    MaskPaths,
    OomScore,
    EnterRoot,
    LockRoot,
    Find,
    MakeWorkDir,
    Landlock,
    Streams,
    Terminal,
    Limits,
    Affinity,
    Keyring,
    CloseRest,
    BoundingSet,
    KeepCaps,
    Groups,
    Gid,
    Uid,
    WorkDir,
    Regain,
    OpenFilter,
    FinalCaps,
    DeathSignal,
    Umask,
    NoNewPrivs,
    SealedFilter,
    Execute,
}

pub(crate) type Row =
    (Step, &'static str, fn(&Prepared) -> bool, fn(&mut Prepared, &Report) -> Result<(), Errno>);

#[rustfmt::skip]
pub(crate) const STEPS: &[Row] = &[
    // step                  page                        when                            call
    (Step::EarlyDeathSignal, "prctl(2)",                 |_| true,                       calls::death_signal),
    (Step::Signals,          "sigaction(2)",             |_| true,                       calls::reset_signals),
    (Step::Session,          "setsid(2)",                |_| true,                       calls::session),
    (Step::JoinCgroup,       "cgroups(7)",               |p| !p.tasks.is_empty(),        calls::join_cgroup),
    (Step::CgroupNamespace,  "cgroup_namespaces(7)",     |p| p.cgroup_namespace(),       calls::unshare_cgroup),
    (Step::JoinNetwork,      "setns(2)",                 |p| p.network.is_some(),        calls::join_network),
    (Step::Loopback,         "netdevice(7)",             |p| p.own_network(),            calls::loopback),
    (Step::Hostname,         "sethostname(2)",           |p| p.hostname.is_some(),       calls::hostname),
    (Step::LeaveHost,        "mount_namespaces(7)",      |_| true,                       calls::leave_host),
    (Step::AttachRoot,       "move_mount(2)",            |_| true,                       calls::attach_root),
    (Step::FillRoot,         "move_mount(2)",            |_| true,                       calls::fill_root),
    (Step::MaskPaths,        "open_tree(2)",             |_| true,                       calls::mask_paths),
    (Step::OomScore,         "proc_pid_oom_score_adj(5)",|_| true,                       calls::oom_score),
    (Step::EnterRoot,        "chroot(2)",                |_| true,                       calls::enter_root),
    (Step::Find,             "openat2(2)",               |_| true,                       calls::find),
    (Step::MakeWorkDir,      "mkdir(2)",                 |_| true,                       calls::make_work_dir),
    (Step::LockRoot,         "mount_setattr(2)",         |p| p.locks_root(),             calls::lock_root),
    (Step::Landlock,         "landlock(7)",              |p| p.has_landlock(),           calls::landlock),
    (Step::Streams,          "dup3(2)",                  |_| true,                       calls::streams),
    (Step::Terminal,         "TIOCSCTTY(2const)",        |p| p.has_terminal(),           calls::terminal),
    (Step::Limits,           "prlimit(2)",               |_| true,                       calls::limits),
    (Step::Affinity,         "sched_setaffinity(2)",     |_| true,                       calls::affinity),
    (Step::Keyring,          "keyctl(2)",                |_| true,                       calls::keyring),
    (Step::CloseRest,        "close_range(2)",           |_| true,                       calls::close_rest),
    (Step::BoundingSet,      "capabilities(7)",          |_| true,                       calls::bounding_set),
    (Step::KeepCaps,         "prctl(2)",                 |_| true,                       calls::keep_caps),
    (Step::Groups,           "setgroups(2)",             |_| true,                       calls::groups),
    (Step::Gid,              "setresgid(2)",             |_| true,                       calls::gid),
    (Step::Uid,              "setresuid(2)",             |_| true,                       calls::uid),
    (Step::WorkDir,          "chdir(2)",                 |_| true,                       calls::work_dir),
    (Step::Regain,           "capset(2)",                |p| p.filter_is_open(),         calls::regain),
    (Step::OpenFilter,       "seccomp(2)",               |p| p.filter_is_open(),         calls::filter),
    (Step::FinalCaps,        "capset(2)",                |_| true,                       calls::final_caps),
    (Step::DeathSignal,      "prctl(2)",                 |_| true,                       calls::death_signal),
    (Step::Umask,            "umask(2)",                 |_| true,                       calls::umask),
    (Step::NoNewPrivs,       "prctl(2)",                 |p| p.is_sealed(),              calls::no_new_privs),
    (Step::SealedFilter,     "seccomp(2)",               |p| p.filter_is_sealed(),       calls::filter),
    (Step::Execute,          "execve(2)",                |_| true,                       calls::execute),
];

/// "Left before right, because ...". A test holds [`STEPS`] to it, so a careless move names its reason.
#[rustfmt::skip]
#[cfg(test)]
pub(crate) const ORDER: &[(Step, Step, &str)] = &[
    (Step::EarlyDeathSignal, Step::JoinCgroup,      "a shim killed during the set-up must not leave a child behind"),
    (Step::JoinCgroup,       Step::CgroupNamespace, "the namespace's root is the group at the moment of unsharing"),
    (Step::JoinCgroup,       Step::FillRoot,        "what the set-up allocates is charged to the task"),
    (Step::JoinNetwork,      Step::FillRoot,        "a fresh sysfs shows the network it is mounted from"),
    (Step::LeaveHost,        Step::AttachRoot,      "the task's root would lie over the host's"),
    (Step::AttachRoot,       Step::FillRoot,        "targets are opened beneath the attached root"),
    (Step::FillRoot,         Step::MaskPaths,       "masks lie on the fresh proc and sysfs"),
    (Step::FillRoot,         Step::OomScore,        "the score is written through the task's own fresh proc"),
    (Step::OomScore,         Step::Uid,             "lowering the score needs CAP_SYS_RESOURCE"),
    (Step::MaskPaths,        Step::Find,            "what a mask hides is no command"),
    (Step::EnterRoot,        Step::Find,            "the command is what the task sees, not what the host has"),
    (Step::EnterRoot,        Step::WorkDir,         "a directory entered earlier may lie outside the task's root"),
    (Step::EnterRoot,        Step::Uid,             "no code or right of the task exists outside its root"),
    (Step::FillRoot,         Step::LockRoot,        "mount points are made in a root that can still be written"),
    (Step::MakeWorkDir,      Step::LockRoot,        "the working directory is made in a root that can still be written"),
    (Step::MakeWorkDir,      Step::Landlock,        "the rules forbid what the set-up still does"),
    (Step::Find,             Step::Landlock,        "the rules may not let the command be looked at"),
    (Step::EnterRoot,        Step::Landlock,        "rules name what the task sees, and forbid to mount"),
    (Step::Landlock,         Step::Uid,             "without no_new_privs it needs CAP_SYS_ADMIN in force"),
    (Step::Find,             Step::Uid,             "adding an execute bit needs the rights of the launcher"),
    (Step::Session,          Step::Terminal,        "only a session leader without a terminal can take one"),
    (Step::Streams,          Step::CloseRest,       "the streams are copied to 0-2 before the originals are closed"),
    (Step::Limits,           Step::Uid,             "raising a hard limit needs CAP_SYS_RESOURCE"),
    (Step::CloseRest,        Step::Uid,             "a process of the task's user may look into one with open descriptors"),
    (Step::BoundingSet,      Step::Uid,             "the switch takes CAP_SETPCAP away"),
    (Step::Groups,           Step::Gid,             "setting groups needs the capability that the switch may take"),
    (Step::Gid,              Step::Uid,             "the switch takes CAP_SETGID away, for groups as well"),
    (Step::KeepCaps,         Step::Uid,             "without it the switch empties the permitted set"),
    (Step::Keyring,          Step::Uid,             "the ring belongs to the session, made before the task's user exists in it"),
    (Step::Uid,              Step::WorkDir,         "perhaps only the task's user may enter, as on NFS"),
    (Step::Uid,              Step::FinalCaps,       "the switch clears the ambient set"),
    (Step::Regain,           Step::OpenFilter,      "loading needs CAP_SYS_ADMIN in force"),
    (Step::OpenFilter,       Step::FinalCaps,       "without no_new_privs loading needs CAP_SYS_ADMIN"),
    (Step::FinalCaps,        Step::DeathSignal,     "a change of credentials clears the signal"),
    (Step::FinalCaps,        Step::NoNewPrivs,      "nothing is changed after the point of no gain"),
    (Step::NoNewPrivs,       Step::SealedFilter,    "the kernel takes an unprivileged filter only then"),
    (Step::CloseRest,        Step::SealedFilter,    "a task's filter need not allow what only the launch calls"),
];

impl Step {
    /// The step that a byte names; an unknown one is the first.
    pub(crate) fn from_number(number: u8) -> Step {
        STEPS.iter().map(|row| row.0).find(|step| *step as u8 == number).unwrap_or(Step::Clone)
    }

    /// The manual page of the step's call.
    pub(crate) fn page(self) -> &'static str {
        STEPS.iter().find(|row| row.0 == self).map_or("clone3(2)", |row| row.1)
    }
}

/// Runs in the child and comes back only if a step fails.
pub(crate) fn become_task(prepared: &mut Prepared, report: &Report, failing: Option<Injected>) -> Errno {
    for (step, _, when, call) in STEPS {
        report.begin(*step);
        if let Some(Err(errno)) = failing.map(|injected| injected.strike(*step)) {
            return errno;
        }
        if when(prepared)
            && let Err(errno) = call(prepared, report)
        {
            return errno;
        }
    }
    Errno::IO // not reached: `Execute` comes back only to fail
}

/// A failure asked for by a test, at a step of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Where.
    pub step: Step,
    /// What happens there instead of the call.
    pub kind: InjectedKind,
}

/// What an injected failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedKind {
    /// The call fails.
    Fail(Errno),
    /// The child is killed.
    Kill,
}

impl Injected {
    /// What happens when `step` begins.
    pub(crate) fn strike(self, step: Step) -> Result<(), Errno> {
        match self.kind {
            _ if self.step != step => Ok(()),
            InjectedKind::Fail(errno) => Err(errno),
            InjectedKind::Kill => bivouac_sys::clone::die(),
        }
    }

    /// Every step that entering a sandbox can fail at, but for those of a terminal, in order.
    pub fn steps_of_entering() -> Vec<Step> {
        let arriving = [Step::Clone, Step::Session, Step::DeathSignal, Step::Execute];
        super::entering::journey().chain(arriving).collect()
    }

    /// Every step that a launch can fail at, in order.
    pub fn all_steps() -> Vec<Step> {
        STEPS.iter().map(|row| row.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_their_order() {
        let at = |step| STEPS.iter().position(|row| row.0 == step).unwrap();
        for (left, right, why) in ORDER {
            assert!(at(*left) < at(*right), "{left:?} belongs before {right:?}: {why}");
        }
    }

    #[test]
    fn every_step_has_one_row_and_a_number() {
        for number in 1..=Step::Execute as u8 {
            assert_eq!(STEPS.iter().filter(|row| row.0 as u8 == number).count(), 1, "step {number}");
            assert_eq!(Step::from_number(number) as u8, number);
        }
    }
}
