//! From what is asked for to the list of directories and writes: pure, printable, refusing before anything is made.

use crate::host::{Host, UnifiedMount, V1Mount};
use crate::saved::{Saved, SavedPlace};
use crate::writes::{Write, unified_writes, v1_writes};
use crate::{
    Controller, DevicePolicy, DeviceRule, Error, GroupName, GroupPath, Hierarchy, Layout, Limits, OomKill,
    SwapPolicy,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a group lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In every hierarchy a new group of ours. `parent` is ours too (made where it is missing, never removed with
    /// the group) and must hold no processes itself, unless it is the root.
    Ours {
        /// Above the group.
        parent: GroupPath,
        /// Of the group, new.
        name: GroupName,
    },
    /// Groups that somebody else made and will remove.
    Given(Given),
}

/// Groups made by somebody else, and where ours go in the hierarchies that were not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// In the version 2 hierarchy; needed on version 2.
    pub unified: Option<GroupPath>,
    /// In version 1 hierarchies, by any of their controllers. See [`Host::locate_v1`].
    pub v1: BTreeMap<Controller, GivenGroup>,
    /// Above our groups in the other hierarchies.
    pub parent: GroupPath,
    /// Of our groups in the other hierarchies.
    pub name: GroupName,
}

/// A version 1 group made by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenGroup {
    /// Where it is.
    pub path: GroupPath,
    /// What may be done with it.
    pub access: GivenAccess,
}

/// What may be done with a given group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenAccess {
    /// Limits may be written, and all in it killed: it is for us alone.
    Full,
    /// Others live in it: processes join it, and nothing else is done with it.
    JoinOnly,
}

/// What a group is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Made by us, killed and removed by us.
    Ours,
    /// Made by us, for several users: never killed, removed when empty.
    Shared,
    /// Made and removed by somebody else, limited and killed by us.
    Given,
    /// Joined, and nothing else.
    JoinOnly,
}

/// Everything that will be made and written. Printing it shows each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) places: Vec<PlacePlan>,
}

/// The steps in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacePlan {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) role: Role,
    pub(crate) mount: PathBuf,
    /// Made where missing, topmost first.
    pub(crate) parents: Vec<PathBuf>,
    pub(crate) prepare: Prepare,
    pub(crate) path: PathBuf,
    pub(crate) writes: Vec<Write>,
    /// A device program, on version 2.
    pub(crate) devices: Option<Vec<DeviceRule>>,
}

/// What parents need before a group below them is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prepare {
    Nothing,
    /// A new cpuset of version 1 is empty and can hold no process. Parents get what theirs have, and hand it on
    /// (`cgroup.clone_children`).
    Cpuset,
    /// Controllers of version 2 that each group on the way, from the mount point on, must hand down.
    Enable(Vec<Controller>),
}

impl Plan {
    /// Plans a group with limits. Hierarchies that would neither limit, count nor hold anything in it are left out
    /// (systemd's names, version 2 beside a freezer of version 1): a child stays where its parent is.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Unsupported`]: this host cannot do it; [`Error::Value`]: no host could;
    /// [`Error::Given`]: the given groups contradict the host or the limits.
    pub fn new(
        host: &Host,
        placement: &Placement,
        limits: &Limits,
        devices: &DevicePolicy,
    ) -> Result<Plan, Error> {
        check(host, limits, devices)?;
        if let Placement::Given(given) = placement {
            check_given(host, given)?;
        }
        let mut places = Vec::with_capacity(host.v1.len() + 1);
        for mount in host.v1.iter().filter(|mount| is_of_use(mount, placement)) {
            let mut place = place_v1(mount, placement)?;
            for controller in &mount.controllers {
                place.writes.extend(v1_writes(*controller, limits, devices, place.role));
            }
            if place.role == Role::JoinOnly && !place.writes.is_empty() {
                let why = "it may only be joined, but a limit of this controller is asked for";
                return Err(Error::Given { controller: place.hierarchy.to_string(), why });
            }
            places.push(place);
        }
        let program = match devices {
            DevicePolicy::Allow(rules) if host.v1_mount(Controller::Devices).is_none() => Some(rules.clone()),
            DevicePolicy::Allow(_) | DevicePolicy::Unrestricted => None,
        };
        let wanted = program.is_some() || needs_unified(host, placement);
        if let Some(unified) = host.unified.as_ref().filter(|_| wanted) {
            let mut place = place_unified(unified, placement, limits);
            if host.layout() == Layout::V2 {
                place.writes = unified_writes(limits, place.role);
            }
            place.devices = program;
            // Last: what follows cannot undo a program attached to a given group.
            places.push(place);
        }
        Ok(Plan { places })
    }

    /// Plans a group without limits in every hierarchy that several callers share: the first makes it, all join it,
    /// nobody kills it.
    pub fn shared(host: &Host, parent: &GroupPath, name: &GroupName) -> Plan {
        let group = parent.join(name);
        let v1 = host.v1.iter().map(|mount| {
            let cpuset = mount.controllers.contains(&Controller::Cpuset);
            let prepare = if cpuset { Prepare::Cpuset } else { Prepare::Nothing };
            PlacePlan::new(
                Hierarchy::V1(mount.controllers.clone()),
                &mount.mount,
                &group,
                Role::Shared,
                prepare,
            )
        });
        let unified = host.unified.iter().map(|unified| {
            PlacePlan::new(Hierarchy::Unified, &unified.mount, &group, Role::Shared, Prepare::Nothing)
        });
        Plan { places: v1.chain(unified).collect() }
    }

    /// What must be written down before [`Plan::create`], so that a crash half-way can be cleaned up.
    pub fn saved(&self) -> Saved {
        let place = |place: &PlacePlan| SavedPlace {
            hierarchy: place.hierarchy.clone(),
            role: place.role,
            path: place.path.clone(),
            id: None,
        };
        Saved { places: self.places.iter().map(place).collect() }
    }
}

impl PlacePlan {
    fn new(
        hierarchy: Hierarchy,
        mount: &std::path::Path,
        group: &GroupPath,
        role: Role,
        prepare: Prepare,
    ) -> Self {
        let made = matches!(role, Role::Ours | Role::Shared);
        let mut parents: Vec<PathBuf> = group.levels().map(|level| level.below(mount)).collect();
        let path = parents.pop().unwrap_or_else(|| mount.to_owned());
        if !made {
            parents.clear();
        }
        let prepare = if made { prepare } else { Prepare::Nothing };
        let (mount, writes, devices) = (mount.to_owned(), Vec::new(), None);
        PlacePlan { hierarchy, role, mount, parents, prepare, path, writes, devices }
    }
}

/// Beside version 1 a version 2 group without controllers could kill, freeze and tell whether it is empty. The
/// freezer does the same, and a start without that group is 0.3 ms of 2.9 faster (cold).
fn needs_unified(host: &Host, placement: &Placement) -> bool {
    let given = matches!(placement, Placement::Given(Given { unified: Some(_), .. }));
    given || host.v1_mount(Controller::Freezer).is_none()
}

/// systemd's names limit and count nothing, and a group among them would cost 0.05 ms of a start.
fn is_of_use(mount: &V1Mount, placement: &Placement) -> bool {
    let given = matches!(placement, Placement::Given(given) if given.v1.contains_key(&Controller::Systemd));
    given || mount.controllers != [Controller::Systemd]
}

fn place_v1(mount: &V1Mount, placement: &Placement) -> Result<PlacePlan, Error> {
    let hierarchy = Hierarchy::V1(mount.controllers.clone());
    let (group, role) = match placement {
        Placement::Ours { parent, name } => (parent.join(name), Role::Ours),
        Placement::Given(given) => {
            let mut found = mount.controllers.iter().filter_map(|controller| given.v1.get(controller));
            match (found.next(), found.next()) {
                (None, _) => (given.parent.join(&given.name), Role::Ours),
                (Some(first), second) if second.is_none_or(|second| second == first) => {
                    let role = match first.access {
                        GivenAccess::Full => Role::Given,
                        GivenAccess::JoinOnly => Role::JoinOnly,
                    };
                    (first.path.clone(), role)
                }
                (Some(_), _) => {
                    let why = "two controllers of one hierarchy were given different groups";
                    return Err(Error::Given { controller: hierarchy.to_string(), why });
                }
            }
        }
    };
    let cpuset = mount.controllers.contains(&Controller::Cpuset);
    let prepare = if cpuset { Prepare::Cpuset } else { Prepare::Nothing };
    Ok(PlacePlan::new(hierarchy, &mount.mount, &group, role, prepare))
}

fn place_unified(unified: &UnifiedMount, placement: &Placement, limits: &Limits) -> PlacePlan {
    let (group, role) = match placement {
        Placement::Ours { parent, name } => (parent.join(name), Role::Ours),
        Placement::Given(given) => match &given.unified {
            Some(path) => (path.clone(), Role::Given),
            None => (given.parent.join(&given.name), Role::Ours),
        },
    };
    // Statistics need controllers as well; a cpuset is not worth its cost unless it is asked for.
    let wanted = |controller: &Controller| *controller != Controller::Cpuset || limits.cpuset.is_some();
    let controllers: Vec<_> = unified.controllers.iter().copied().filter(wanted).collect();
    let prepare = if controllers.is_empty() { Prepare::Nothing } else { Prepare::Enable(controllers) };
    PlacePlan::new(Hierarchy::Unified, &unified.mount, &group, role, prepare)
}

fn check(host: &Host, limits: &Limits, devices: &DevicePolicy) -> Result<(), Error> {
    let layout = host.layout();
    let memory = limits.memory;
    let bad = |what, value: u64, why| Err(Error::Value { what, value: value.to_string(), why });
    match (memory.max, memory.low) {
        (Some(max), _) if max.0 == 0 => return bad("memory limit", 0, "nothing could run in it"),
        (Some(max), Some(low)) if low > max => {
            return bad("memory reservation", low.0, "it is above the limit of memory");
        }
        _ => {}
    }
    if let (SwapPolicy::Max(swap), None, false) = (memory.swap, memory.max, layout == Layout::V2) {
        return bad(
            "swap limit",
            swap.0,
            "cgroup v1 limits memory and swap together: a limit of memory is missing",
        );
    }
    if limits.oom_kill == OomKill::Group && layout != Layout::V2 {
        return Err(Error::Unsupported { what: "killing the whole group when memory runs out", layout });
    }
    let swap = matches!(memory.swap, SwapPolicy::Max(_));
    let needs = [
        ("a limit of memory", Controller::Memory, memory.max.is_some() || memory.low.is_some() || swap),
        ("a weight of processor time", Controller::Cpu, limits.cpu_shares.is_some()),
        ("a limit of processor time", Controller::Cpu, limits.cpu_max.is_some()),
        ("a set of processors", Controller::Cpuset, limits.cpuset.is_some()),
        ("a limit of processes", Controller::Pids, limits.pids.is_some()),
    ];
    for (what, controller, asked) in needs {
        if asked && !host.offers(controller) {
            return Err(Error::Missing { what, controller, layout });
        }
    }
    let ruled = host.unified.is_some() || host.offers(Controller::Devices);
    if matches!(devices, DevicePolicy::Allow(_)) && !ruled {
        return Err(Error::Missing {
            what: "a list of allowed devices",
            controller: Controller::Devices,
            layout,
        });
    }
    Ok(())
}

fn check_given(host: &Host, given: &Given) -> Result<(), Error> {
    let bad = |controller: &str, why| Err(Error::Given { controller: controller.to_owned(), why });
    match (host.layout(), &given.unified) {
        (Layout::V2, None) => return bad("cgroup v2", "it is missing, and this host has no other hierarchy"),
        (Layout::V1, Some(_)) => return bad("cgroup v2", "this host has no version 2 hierarchy"),
        (_, Some(path)) if path.is_root() => return bad("cgroup v2", "it is the root"),
        _ => {}
    }
    for (controller, group) in &given.v1 {
        if host.v1_mount(*controller).is_none() {
            return bad(controller.v1_name(), "this host has no version 1 hierarchy for it");
        }
        if group.path.is_root() && group.access == GivenAccess::Full {
            return bad(controller.v1_name(), "it is the root, which may only be joined");
        }
    }
    Ok(())
}

/// One line per step, in the order in which they are done.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.places.iter().try_for_each(|place| place.fmt(f))
    }
}

impl fmt::Display for PlacePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Prepare::Enable(controllers) = &self.prepare {
            let names: Vec<_> = controllers.iter().filter_map(|controller| controller.v2_name()).collect();
            for path in std::iter::once(&self.mount).chain(&self.parents) {
                if *path != self.mount {
                    writeln!(f, "mkdir {} if missing", path.display())?;
                }
                writeln!(
                    f,
                    "write {}/cgroup.subtree_control + {} where missing",
                    path.display(),
                    names.join(" ")
                )?;
            }
        } else {
            for path in &self.parents {
                writeln!(f, "mkdir {} if missing", path.display())?;
                if self.prepare == Prepare::Cpuset {
                    writeln!(
                        f,
                        "copy  {}/cpuset.{{cpus,mems}} from its parent if new, hand on",
                        path.display()
                    )?;
                }
            }
        }
        let path = self.path.display();
        match self.role {
            Role::Ours => writeln!(f, "mkdir {path}")?,
            Role::Shared => writeln!(f, "mkdir {path} if missing")?,
            Role::Given => writeln!(f, "use   {path}")?,
            Role::JoinOnly => {}
        }
        if self.prepare == Prepare::Cpuset && self.parents.is_empty() {
            writeln!(f, "copy  {path}/cpuset.{{cpus,mems}} from its parent")?;
        }
        for write in &self.writes {
            writeln!(f, "write {path}/{write}")?;
        }
        for rule in self.devices.iter().flatten() {
            writeln!(f, "allow {path} device {rule}")?;
        }
        if self.devices.is_some() {
            writeln!(f, "allow {path} no other device")?;
        }
        writeln!(f, "join  {path}")
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
