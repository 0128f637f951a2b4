//! A plain task in a shell, as the tests and the face of their own ask for it.

use bivouac_cgroup::{GroupName, GroupPath, Placement};
use bivouac_driver::config::TaskConfig;
use bivouac_driver::identity::{PseudoUsers, RootRule};
use bivouac_driver::options::Value;
use bivouac_driver::request::{Directories, Secrets, StopRule, TaskRequest};
use bivouac_driver::resources::Resources;
use bivouac_sandbox::HostPath;
use bivouac_sandbox::model::Network;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A run named `id` whose directories lie below `top` and whose group's name begins with `prefix`.
pub(crate) fn request(
    top: &Path,
    prefix: &str,
    id: &str,
    script: &str,
    more: Vec<(&str, Value)>,
) -> TaskRequest {
    let own = top.join(id);
    for name in ["task", "alloc"] {
        std::fs::create_dir_all(own.join(name)).unwrap();
        std::fs::set_permissions(own.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let path = |name: &str| HostPath::new(own.join(name)).unwrap();
    let options = [("command", Value::from("/bin/sh")), ("args", Value::texts(["-c", script]))];
    TaskRequest {
        id: id.into(),
        name: id.into(),
        directories: Directories {
            task: path("task"),
            shared: path("alloc"),
            secrets: Secrets::InTaskDirectory,
            private: path("private"),
            own: vec![HostPath::new(top).unwrap()],
        },
        config: TaskConfig::decode(&Value::map(options.into_iter().chain(more))).unwrap(),
        env: Vec::new(),
        user: String::new(),
        root: RootRule::Allowed,
        pseudo_users: PseudoUsers::Unknown,
        resources: Resources { cpu_mhz: 100, memory_mib: Some(64), ..Resources::default() },
        placement: Placement::Ours {
            parent: GroupPath::ROOT,
            name: GroupName::new(format!("{prefix}-{id}")).unwrap(),
        },
        network: Network::Host,
        hostname: None,
        address: None,
        dns: None,
        mounts: Vec::new(),
        devices: Vec::new(),
        stop: StopRule::default(),
    }
}
