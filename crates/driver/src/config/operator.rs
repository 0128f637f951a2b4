//! The operator's configuration, typed.

use super::ulimit::Ulimit;
use super::{Ambient, RootMode, ambient, because, root_mode, sharing};
use crate::identity::{IdRange, IdRanges};
use crate::options::{OPERATOR, Place, Refused, Settings, Value, check, quoted};
use bivouac_sandbox::RootSwitch;
use bivouac_sandbox::model::{Access, Missing, PathRule, Sharing};
use bivouac_sandbox::{HostPath, TaskPath};

/// What the operator decided for all tasks of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    /// How the host's root is left.
    pub root_switch: RootSwitch,
    /// `pid_mode` of tasks that do not say.
    pub default_pid_mode: Sharing,
    /// `ipc_mode` of tasks that do not say.
    pub default_ipc_mode: Sharing,
    /// Names of the capabilities that tasks may have, as written.
    pub allow_caps: Vec<String>,
    /// Users that no task runs as.
    pub denied_uids: IdRanges,
    /// Groups that no task's user may be in.
    pub denied_gids: IdRanges,
    /// The chroot environment: of the host, in the task.
    pub chroot_env: Vec<(HostPath, TaskPath)>,
    /// Whether tasks may run as user 0.
    pub allow_root: bool,
    /// Which capabilities are in force for users other than root.
    pub ambient: Ambient,
    /// Whether SYS_ADMIN opens mount and namespace calls.
    pub allow_mount: bool,
    /// Whether tasks may go without a profile of system calls.
    pub allow_unconfined: bool,
    /// Whether tasks may use `socketcall`.
    pub allow_compat32: bool,
    /// What of the host tasks may mount.
    pub allow_mount_paths: Vec<MountRule>,
    /// Whether mounts of a task may appear on the host.
    pub allow_bidirectional: bool,
    /// Device nodes, or directories of them, that tasks may ask for.
    pub allow_devices: Vec<HostPath>,
    /// `no_new_privs` of tasks that do not say.
    pub default_no_new_privs: bool,
    /// `root` of tasks that do not say.
    pub default_root: RootMode,
    /// `pids_limit` of tasks that do not say.
    pub default_pids_limit: u64,
    /// The largest `pids_limit`.
    pub max_pids_limit: u64,
    /// Resource limits of tasks that do not say.
    pub default_ulimit: Vec<Ulimit>,
    /// The largest resource limits.
    pub max_ulimit: Vec<Ulimit>,
    /// Landlock rules of all tasks; none: only a task's own.
    pub landlock: Vec<PathRule>,
    /// Numbers for tasks that name no user; they run as `nobody` where there are none.
    pub dynamic_users: Option<IdRange>,
    /// What of `/etc` is hidden.
    pub hide: Vec<String>,
}

/// A path of the host that tasks may mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRule {
    /// The path; all below it is meant too.
    pub path: HostPath,
    /// How far.
    pub access: Access,
}

impl OperatorConfig {
    /// Decodes the operator's `config` block.
    ///
    /// # Errors
    /// The first option that is unknown or wrong.
    pub fn decode(given: &Value) -> Result<OperatorConfig, Refused> {
        let settings = check(OPERATOR, given, &Place::top())?;
        let count = |name| settings.count(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(1);
        let config = OperatorConfig {
            root_switch: if settings.flag("no_pivot_root") { RootSwitch::Cover } else { RootSwitch::Detach },
            default_pid_mode: mode(&settings, "default_pid_mode")?,
            default_ipc_mode: mode(&settings, "default_ipc_mode")?,
            allow_caps: settings.texts("allow_caps").to_vec(),
            denied_uids: ranges(&settings, "denied_host_uids", "deniedHostUIDs")?,
            denied_gids: ranges(&settings, "denied_host_gids", "deniedHostGIDs")?,
            chroot_env: chroot_env(&settings)?,
            allow_root: settings.flag("allow_root"),
            ambient: ambient(&settings).unwrap_or(Ambient::All),
            allow_mount: settings.flag("allow_mount"),
            allow_unconfined: settings.flag("allow_unconfined"),
            allow_compat32: settings.flag("allow_compat32"),
            allow_mount_paths: mount_rules(&settings)?,
            allow_bidirectional: settings.flag("allow_bidirectional"),
            allow_devices: paths(&settings, "allow_devices")?,
            default_no_new_privs: settings.flag("default_no_new_privs"),
            default_root: root_mode(&settings, "default_root").unwrap_or(RootMode::Overlay),
            default_pids_limit: count("default_pids_limit"),
            max_pids_limit: count("max_pids_limit"),
            default_ulimit: ulimits(&settings, "default_ulimit")?,
            max_ulimit: ulimits(&settings, "max_ulimit")?,
            landlock: super::landlock::rules(&settings, Missing::PassOver)?,
            dynamic_users: dynamic_users(&settings)?,
            hide: hide(&settings)?,
        };
        if config.default_pids_limit > config.max_pids_limit {
            let text = format!(
                "({}) is above max_pids_limit ({}); raise that or lower this",
                config.default_pids_limit, config.max_pids_limit
            );
            return Err(because(&settings, "default_pids_limit", text));
        }
        Ok(config)
    }

    /// The hard limit that the operator set for a resource, by its number.
    pub fn ulimit_ceiling(&self, resource: u32) -> Option<&Ulimit> {
        self.max_ulimit.iter().find(|limit| limit.resource == resource)
    }
}

/// The operator's modes have no default to fall back to, so an empty text is refused as any other.
fn mode(settings: &Settings, name: &str) -> Result<Sharing, Refused> {
    sharing(settings, name)
        .ok_or_else(|| because(settings, name, "must be \"private\" or \"host\", got \"\""))
}

fn ranges(settings: &Settings, name: &str, label: &str) -> Result<IdRanges, Refused> {
    let text = settings.text(name).unwrap_or_default();
    let wrapped = |error| format!("invalid range {label} {text:?}: {error}");
    IdRanges::parse(text).map_err(|error| Refused::says(&settings.place(name), wrapped(error)))
}

fn dynamic_users(settings: &Settings) -> Result<Option<IdRange>, Refused> {
    let Some(text) = settings.text("dynamic_users") else { return Ok(None) };
    let range = IdRange::parse(text).map_err(|error| {
        because(settings, "dynamic_users", format!("must be one range such as \"524288-589823\": {error}"))
    })?;
    for (id, whose) in [(0, "root's"), (65534, "nobody's")] {
        if range.contains(id) {
            let text = format!("must not hold {id}, which is {whose}, got {}", quoted(text));
            return Err(because(settings, "dynamic_users", text));
        }
    }
    Ok(Some(range))
}

fn chroot_env(settings: &Settings) -> Result<Vec<(HostPath, TaskPath)>, Refused> {
    let place = settings.place("chroot_env");
    let entry = |(host, task): &(String, String)| {
        let refused =
            |error: &dyn std::fmt::Display| Refused::at(&place.field(host), format!("is refused: {error}"));
        let source = HostPath::new(host).map_err(|error| refused(&error))?;
        // A target without a leading slash is taken from the root, as the built-in driver joins it.
        let root = TaskPath::new("/").map_err(|error| refused(&error))?;
        let target = root.join(task).map_err(|error| refused(&error))?;
        if target == root {
            // The documented way to show nothing at all is a source that does not exist, shown as `/`.
            return Ok((source, target));
        }
        for fresh in ["/dev", "/proc", "/sys"] {
            let fresh = TaskPath::new(fresh).map_err(|error| refused(&error))?;
            if target.is_within(&fresh) {
                return Err(refused(&format_args!("{target} lies in {fresh}, which is the task's own")));
            }
        }
        Ok((source, target))
    };
    settings.pairs("chroot_env").iter().map(entry).collect()
}

fn paths(settings: &Settings, name: &str) -> Result<Vec<HostPath>, Refused> {
    let place = settings.place(name);
    let path = |(n, text): (usize, &String)| {
        HostPath::new(text).map_err(|error| Refused::at(&place.element(n), format!("is refused: {error}")))
    };
    settings.texts(name).iter().enumerate().map(path).collect()
}

fn mount_rules(settings: &Settings) -> Result<Vec<MountRule>, Refused> {
    let place = settings.place("allow_mount_paths");
    let rule = |(n, text): (usize, &String)| {
        let (path, access) = match text.strip_suffix(":ro") {
            Some(path) => (path, Access::ReadOnly),
            None => (text.as_str(), Access::ReadWrite),
        };
        let refused = |error| Refused::at(&place.element(n), format!("is refused: {error}"));
        Ok(MountRule { path: HostPath::new(path).map_err(refused)?, access })
    };
    settings.texts("allow_mount_paths").iter().enumerate().map(rule).collect()
}

pub(super) fn ulimits(settings: &Settings, name: &str) -> Result<Vec<Ulimit>, Refused> {
    let place = settings.place(name);
    let limit = |(limit, text): &(String, String)| {
        Ulimit::parse(limit, text).map_err(|error| Refused::at(&place.field(limit), error))
    };
    settings.pairs(name).iter().map(limit).collect()
}

fn hide(settings: &Settings) -> Result<Vec<String>, Refused> {
    let place = settings.place("hide");
    let one = |(n, text): (usize, &String)| {
        let text = text.strip_prefix("/etc/").unwrap_or(text);
        let plain = !text.is_empty()
            && !text.starts_with('/')
            && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !text.contains(['\0', '\n']);
        if plain {
            return Ok(text.to_owned());
        }
        Err(Refused::at(&place.element(n), format!("must be a path below /etc without `..`, got {text:?}")))
    };
    settings.texts("hide").iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: Value) -> Result<OperatorConfig, String> {
        OperatorConfig::decode(&Value::map([(name, value)])).map_err(|error| error.to_string())
    }

    /// Covers: E17
    #[test]
    fn e17_denied_ids() {
        assert!(with("denied_host_uids", "".into()).is_ok());
        assert!(with("denied_host_uids", "1-10".into()).is_ok());
        let error = with("denied_host_uids", "10-1".into()).unwrap_err();
        assert_eq!(
            error,
            "invalid range deniedHostUIDs \"10-1\": lower bound cannot be greater than upper bound"
        );
        assert!(
            with("denied_host_gids", "10-1".into()).unwrap_err().starts_with("invalid range deniedHostGIDs")
        );
    }

    /// Covers: E18
    #[test]
    fn e18_default_modes() {
        for name in ["default_pid_mode", "default_ipc_mode"] {
            assert!(with(name, "private".into()).is_ok());
            assert!(with(name, "host".into()).is_ok());
            let error = with(name, "other".into()).unwrap_err();
            assert_eq!(error, format!("{name} must be \"private\" or \"host\", got \"other\""));
            assert_eq!(
                with(name, "".into()).unwrap_err(),
                format!("{name} must be \"private\" or \"host\", got \"\"")
            );
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let bare = OperatorConfig::decode(&Value::Null).unwrap();
        let written = OPERATOR.iter().filter_map(|option| Some((option.name, option.default.to_value()?)));
        assert_eq!(OperatorConfig::decode(&Value::map(written)).unwrap(), bare);
        assert_eq!(bare.allow_caps.len(), 13);
        assert_eq!(bare.chroot_env.len(), 9);
    }

    #[test]
    fn a_ceiling_below_its_default_is_refused() {
        let error = with("max_pids_limit", 100.into()).unwrap_err();
        assert_eq!(
            error,
            "default_pids_limit (4096) is above max_pids_limit (100); raise that or lower this"
        );
    }

    #[test]
    fn paths_are_checked() {
        assert_eq!(
            with("chroot_env", Value::map([("/a", "/proc/x".into())])).unwrap_err(),
            "chroot_env./a is refused: /proc/x lies in /proc, which is the task's own"
        );
        assert!(with("chroot_env", Value::map([("a", "/x".into())])).is_err());
        assert!(with("chroot_env", Value::map([("/a", "../x".into())])).is_err());
        let rules = with("allow_mount_paths", Value::texts(["/srv", "/data:ro"])).unwrap().allow_mount_paths;
        assert_eq!(
            rules.iter().map(|rule| rule.access).collect::<Vec<_>>(),
            [Access::ReadWrite, Access::ReadOnly]
        );
        assert!(with("hide", Value::texts(["../x"])).is_err());
        assert_eq!(with("hide", Value::texts(["/etc/x*"])).unwrap().hide, ["x*"]);
    }
}
