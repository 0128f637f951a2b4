//! The options of the operator, in the plugin's `config` block and in `/etc/bivouac/config.hcl`, as a table.

use super::Kind::{Choice, Count, Flag, Pairs, Text, Texts};
use super::Preset::{self, Unset};
use super::{Opt, free};

const PRIVATE_OR_HOST: super::Kind = Choice(&["private", "host"]);

/// The capabilities a task has unless something else is said: the built-in driver's list.
pub(super) const DEFAULT_CAPS: &[&str] = &[
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// The chroot environment unless something else is said: the built-in driver's list.
const DEFAULT_CHROOT: &[(&str, &str)] = &[
    ("/bin", "/bin"),
    ("/etc", "/etc"),
    ("/lib", "/lib"),
    ("/lib32", "/lib32"),
    ("/lib64", "/lib64"),
    ("/run/resolvconf", "/run/resolvconf"),
    ("/run/systemd/resolve", "/run/systemd/resolve"),
    ("/sbin", "/sbin"),
    ("/usr", "/usr"),
];

/// What of the host's /etc no task sees, whatever its mode says.
const HIDDEN: &[&str] = &[
    "shadow*",
    "gshadow*",
    "opasswd",
    "security/opasswd",
    "ssh/ssh_host_*",
    "sudoers",
    "sudoers.d",
    "ssl/private",
    "pki/tls/private",
    "pki/private",
    "letsencrypt",
    "nomad.d",
    "consul.d",
    "vault.d",
    "bivouac",
    "kubernetes",
    "rancher",
    "wireguard",
    "krb5.keytab",
    "NetworkManager/system-connections",
];

/// Limits that reach beyond a task's own cgroup. What is not named here is not bounded.
const MAX_ULIMIT: &[(&str, &str)] =
    &[("nofile", "1048576"), ("nice", "0"), ("rtprio", "0"), ("msgqueue", "819200"), ("sigpending", "63000")];

/// The options of the operator. The first seven are the built-in driver's, to the letter.
#[rustfmt::skip]
pub static OPERATOR: &[Opt] = &[
    free("no_pivot_root", Flag, Preset::Flag(false),
        "Whether an empty root is laid over the host's, instead of unmounting that, before a task's is made; needed when the host's root is a ramdisk"),
    free("default_pid_mode", PRIVATE_OR_HOST, Preset::Text("private"),
        "The pid_mode of a task that does not set it"),
    free("default_ipc_mode", PRIVATE_OR_HOST, Preset::Text("private"),
        "The ipc_mode of a task that does not set it"),
    free("allow_caps", Texts, Preset::Texts(DEFAULT_CAPS),
        "Capabilities that tasks may have, or \"all\"; a default capability that is not in it is left out"),
    free("denied_host_uids", Text, Unset("none is denied"),
        "Users that no task runs as: numbers and ranges, such as \"0,100-999\""),
    free("denied_host_gids", Text, Unset("none is denied"),
        "Groups that no task's user may be in: numbers and ranges"),
    free("chroot_env", Pairs, Preset::Pairs(DEFAULT_CHROOT),
        "Paths of the host and where they are shown in a task; replaces the whole default list"),

    free("allow_root", Flag, Preset::Flag(false),
        "Whether tasks may run as user 0, under whatever name"),
    free("ambient", Choice(&["all", "asked"]), Preset::Text("all"),
        "Which capabilities a program of a user other than root has in force: all of its set as with the built-in driver, or only those in cap_add"),
    free("allow_mount", Flag, Preset::Flag(false),
        "Whether a task with SYS_ADMIN may mount and make namespaces: such a task is as powerful as the host"),
    free("allow_unconfined", Flag, Preset::Flag(false),
        "Whether tasks may set seccomp = \"unconfined\""),
    free("allow_compat32", Flag, Preset::Flag(false),
        "Whether tasks may set compat32 = \"full\""),
    free("allow_mount_paths", Texts, Preset::Texts(&[]),
        "Directories and files of the host that tasks may mount, with all below them; \":ro\" at the end means read-only"),
    free("allow_bidirectional", Flag, Preset::Flag(false),
        "Whether mounts may have bidirectional propagation: what such a task mounts appears on the host"),
    free("allow_devices", Texts, Preset::Texts(&[]),
        "Device nodes of the host that tasks may ask for, such as /dev/fuse, or directories of them"),
    free("default_no_new_privs", Flag, Preset::Flag(false),
        "The no_new_privs of a task that does not set it"),
    free("default_root", Choice(&["overlay", "readonly", "copy"]), Preset::Text("overlay"),
        "The root of a task that does not set it"),
    free("default_pids_limit", Count { least: 1, most: 4_194_304 }, Preset::Count(4096),
        "The pids_limit of a task that does not set it"),
    free("max_pids_limit", Count { least: 1, most: 4_194_304 }, Preset::Count(32_768),
        "The largest pids_limit that a task may set"),
    free("default_ulimit", Pairs, Preset::Pairs(&[]),
        "Resource limits of tasks that do not set them, as in a task's ulimit"),
    free("max_ulimit", Pairs, Preset::Pairs(MAX_ULIMIT),
        "The largest hard limits that tasks may set; what is not named is not bounded"),
    free("landlock", Texts, Unset("no rules"),
        "What every task may reach at most, as in a task's landlock; a task's own rules only narrow it"),
    free("dynamic_users", Text, Unset("they run as nobody"),
        "Numbers for tasks that name no user, such as \"524288-589823\": each runs as a user and group of its own, which the host's database must not know"),
    free("hide", Texts, Preset::Texts(HIDDEN),
        "What of the host's /etc no task sees, as paths below /etc in which * stands for any part of a name; files that others cannot read are hidden in any case"),
];
