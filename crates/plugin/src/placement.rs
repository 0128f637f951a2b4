//! Where in the cgroup tree the client put a task.
//!
//! On version 2 the client names the task's own group. On version 1 it names the cpuset only: a group of
//! the task's own for reserved cores, else one that all tasks share, which may be joined and nothing
//! else. Its freezer, cpu and memory groups have to be composed; the hierarchies that it leaves out are
//! ours.

use bivouac_cgroup::{
    Controller, Given, GivenAccess, GivenGroup, GroupName, GroupPath, Host, Layout, Placement,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The hierarchies of version 1 in which the client makes a group for every task.
const MADE_BY_CLIENT: [Controller; 3] = [Controller::Freezer, Controller::Cpu, Controller::Memory];
/// The cpuset of tasks without cores of their own.
const SHARED: &str = "share";
/// Above the cpusets of tasks with cores of their own.
const RESERVED: &str = "reserve";

/// Why a task's groups are not known.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Clients that manage no cgroups cannot bound tasks.
    #[error("the Nomad client named no cgroup for the task: it runs without cgroups, see its log")]
    Unnamed,
    /// Not a place where a client of 1.7 or later puts tasks.
    #[error("the Nomad client named {0} as the task's cgroup: this driver knows `share` and `reserve` only")]
    Strange(PathBuf),
    /// The path is not in a hierarchy of this host.
    #[error(transparent)]
    Cgroup(#[from] bivouac_cgroup::Error),
}

/// The groups of one task, from what the client said.
///
/// # Errors
/// The client said nothing, or something that cannot be.
pub fn placement(
    host: &Host,
    named: Option<&Path>,
    alloc_id: &str,
    task: &str,
) -> Result<Placement, PlacementError> {
    let named = named.ok_or(PlacementError::Unnamed)?;
    let given = match host.layout() {
        Layout::V2 => on_version_2(host, named)?,
        Layout::V1 | Layout::Hybrid => {
            on_version_1(host, named, GroupName::new(format!("{alloc_id}.{task}"))?)?
        }
    };
    Ok(Placement::Given(given))
}

fn on_version_2(host: &Host, named: &Path) -> Result<Given, PlacementError> {
    let own = host.locate_unified(named)?;
    let Some((name, above)) = own.names().split_last() else {
        return Err(PlacementError::Strange(named.to_owned()));
    };
    Ok(Given { name: name.clone(), parent: path_of(above), unified: Some(own), v1: BTreeMap::new() })
}

fn on_version_1(host: &Host, named: &Path, name: GroupName) -> Result<Given, PlacementError> {
    let cpuset = host.locate_v1(Controller::Cpuset, named)?;
    let is = |part: &GroupName, word: &str| part.as_str() == word;
    let (parent, access) = match cpuset.names() {
        [above @ .., last] if !above.is_empty() && is(last, SHARED) => {
            (path_of(above), GivenAccess::JoinOnly)
        }
        [above @ .., kind, own] if !above.is_empty() && is(kind, RESERVED) && *own == name => {
            (path_of(above), GivenAccess::Full)
        }
        _ => return Err(PlacementError::Strange(named.to_owned())),
    };
    let own = GivenGroup { path: parent.join(&name), access: GivenAccess::Full };
    let mut v1: BTreeMap<_, _> =
        MADE_BY_CLIENT.into_iter().map(|controller| (controller, own.clone())).collect();
    v1.insert(Controller::Cpuset, GivenGroup { path: cpuset, access });
    Ok(Given { unified: None, v1, parent, name })
}

fn path_of(names: &[GroupName]) -> GroupPath {
    names.iter().fold(GroupPath::ROOT, |path, name| path.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    const ALLOC: &str = "8a5b2c3d-0000-1111-2222-333344445555";

    fn version_1() -> Host {
        let line = |(n, controllers): (usize, &str)| {
            format!(
                "{} 25 0:{n} / /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}\n",
                n + 30
            )
        };
        let all = ["cpuset", "cpu,cpuacct", "memory", "freezer", "pids", "devices", "blkio"];
        Host::parse(&all.into_iter().enumerate().map(line).collect::<String>()).unwrap()
    }

    fn given(host: &Host, named: &str) -> Result<Given, String> {
        match placement(host, Some(Path::new(named)), ALLOC, "web") {
            Ok(Placement::Given(given)) => Ok(given),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn text(path: &GroupPath) -> String {
        path.names().iter().map(GroupName::as_str).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn version_2_has_one_group() {
        let host = Host::parse(V2).unwrap().with_unified_controllers("cpuset cpu io memory pids");
        let given =
            given(&host, &format!("/sys/fs/cgroup/nomad.slice/share.slice/{ALLOC}.web.scope")).unwrap();
        assert_eq!(text(&given.parent), "nomad.slice/share.slice");
        assert_eq!(
            given.unified.map(|own| text(&own)),
            Some(format!("nomad.slice/share.slice/{ALLOC}.web.scope"))
        );
        assert!(given.v1.is_empty());
    }

    #[test]
    fn version_1_shares_a_cpuset_and_nothing_else() {
        let given = given(&version_1(), "/sys/fs/cgroup/cpuset/nomad/share").unwrap();
        let shown: Vec<String> = given
            .v1
            .iter()
            .map(|(controller, group)| {
                format!("{} {} {:?}", controller.v1_name(), text(&group.path), group.access)
            })
            .collect();
        let own = format!("nomad/{ALLOC}.web Full");
        let expected = [
            format!("cpu {own}"),
            "cpuset nomad/share JoinOnly".into(),
            format!("memory {own}"),
            format!("freezer {own}"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(
            (text(&given.parent), given.name.as_str()),
            ("nomad".into(), format!("{ALLOC}.web").as_str())
        );
    }

    #[test]
    fn reserved_cores_have_a_cpuset_of_their_own() {
        let given = given(&version_1(), &format!("/sys/fs/cgroup/cpuset/nomad/reserve/{ALLOC}.web")).unwrap();
        let cpuset = given.v1.get(&Controller::Cpuset).unwrap();
        assert_eq!(
            (text(&cpuset.path), cpuset.access),
            (format!("nomad/reserve/{ALLOC}.web"), GivenAccess::Full)
        );
        assert_eq!(text(&given.parent), "nomad");
    }

    #[test]
    fn other_places_are_refused_by_name() {
        for named in [
            "/",
            "/sys/fs/cgroup/cpuset",
            "/sys/fs/cgroup/cpuset/share",
            "/sys/fs/cgroup/cpuset/nomad/reserve/other.web",
            "/sys/fs/cgroup/cpuset/nomad/../share",
            "/etc/share",
        ] {
            assert!(given(&version_1(), named).unwrap_err().contains('/'), "{named}");
        }
        assert!(matches!(placement(&version_1(), None, ALLOC, "web"), Err(PlacementError::Unnamed)));
    }
}
