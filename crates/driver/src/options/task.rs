//! The options of a task's `config` block, as a table.

use super::Kind::{Block, Blocks, Choice, Count, Flag, Pairs, Size, Text, Texts};
use super::Preset::{self, Required, Unset};
use super::{Opt, bounded, free};

const PRIVATE_OR_HOST: super::Kind = Choice(&["private", "host"]);

/// The options of a task. The first seven are the built-in driver's, to the letter.
#[rustfmt::skip]
pub static TASK: &[Opt] = &[
    free("command", Text, Required,
        "The program: looked for in the task's local directory, the task directory, the mounts, then in /usr/local/bin, /usr/bin and /bin of the task"),
    free("args", Texts, Preset::Texts(&[]),
        "Its arguments, one each; no shell looks at them"),
    free("work_dir", Text, Unset("/"),
        "The directory it starts in, as an absolute path in the task; made when missing"),
    free("pid_mode", PRIVATE_OR_HOST, Unset("the operator's default_pid_mode"),
        "Whether the task sees only its own processes (private) or the host's"),
    free("ipc_mode", PRIVATE_OR_HOST, Unset("the operator's default_ipc_mode"),
        "Whether System V and POSIX queues, semaphores and shared memory are the task's own (private) or the host's"),
    bounded("cap_add", Texts, Preset::Texts(&[]), "allow_caps",
        "Capabilities to add to the default set, with or without CAP_, or \"all\""),
    free("cap_drop", Texts, Preset::Texts(&[]),
        "Capabilities to take from the default set, or \"all\" to begin with none"),

    bounded("ulimit", Pairs, Unset("as the host starts programs"), "max_ulimit",
        "Resource limits as \"soft:hard\", one number for both, or \"unlimited\": nofile, core, memlock, stack and the others of getrlimit(2)"),
    bounded("pids_limit", Count { least: 1, most: 4_194_304 }, Unset("the operator's default_pids_limit"), "max_pids_limit",
        "Largest number of processes and threads"),
    bounded("seccomp", Choice(&["default", "unconfined"]), Preset::Text("default"), "allow_unconfined",
        "Which system calls the task may make: those of the default profile, or all"),
    free("no_new_privs", Flag, Unset("the operator's default_no_new_privs"),
        "Whether nothing the task runs can gain privileges, for good"),
    free("ambient", Choice(&["all", "asked"]), Unset("the operator's ambient"),
        "Which capabilities a program of a user other than root has in force: all of its set, or only those in cap_add"),
    free("readonly_root", Flag, Preset::Flag(false),
        "Whether / and the chroot environment are read-only; /alloc, /local, /secrets, /tmp and mounts stay as they are"),
    free("root", Choice(&["overlay", "readonly", "copy"]), Unset("the operator's default_root"),
        "How the directories of the chroot environment are shown: under a private layer, as they are but read-only, or as a copy made once"),
    bounded("mount", Blocks(MOUNT), Unset("no further mounts"), "allow_mount_paths",
        "A directory or file of the host, or an empty file system in memory, shown in the task"),
    bounded("devices", Blocks(DEVICE), Unset("the default devices only"), "allow_devices",
        "A device node of the host given to the task"),
    free("shm_size", Size, Preset::Text("64m"),
        "Size of /dev/shm"),
    free("hostname", Text, Unset("the host's name"),
        "The task's own host name"),
    free("extra_hosts", Texts, Preset::Texts(&[]),
        "Lines for /etc/hosts, as name:address"),
    free("dns", Block(DNS), Unset("the group's, else the host's"),
        "Name resolution: what is set here replaces the group's and the host's"),
    free("init", Flag, Preset::Flag(false),
        "Whether a tiny first process reaps orphans and passes signals on, so that signals without a handler end the command"),
    free("kill_mode", Choice(&["process", "group"]), Preset::Text("process"),
        "Whether a stop signals the first process or all of them, and lack of memory kills one or all (group; the latter needs cgroup v2)"),
    free("cgroup_mode", PRIVATE_OR_HOST, Preset::Text("host"),
        "Whether /proc/self/cgroup shows the task as the top (private) or its path on the host"),
    free("oom_score_adj", Count { least: 0, most: 1000 }, Preset::Count(0),
        "How much sooner than others the kernel ends the task when the host runs out of memory"),
    free("cpu_hard_limit", Flag, Preset::Flag(false),
        "Whether the task gets no more processor time than it asked for, even when the host is idle"),
    bounded("compat32", Choice(&["filtered", "full"]), Preset::Text("filtered"), "allow_compat32",
        "Whether 32-bit programs may use socketcall, whose socket families cannot be filtered (full)"),
    bounded("landlock", Texts, Unset("no rules: modes and mounts alone decide"), "landlock",
        "What the task may reach, and nothing else: \"rx:/usr\" and the like, with r (read), w (write), x (run), c (make, move, remove), or \"default\" for the system's programs, devices and the task's own directories"),
    free("core", Choice(&["host", "off"]), Preset::Text("host"),
        "Whether a crash leaves a core dump where the host's settings say, or none at all"),
];

static MOUNT: &[Opt] = &[
    free(
        "type",
        Choice(&["bind", "tmpfs"]),
        Preset::Text("bind"),
        "Something of the host, or an empty file system in memory",
    ),
    free("source", Text, Unset("nothing: only a bind has a source"), "The path on the host, for a bind"),
    free("target", Text, Required, "The absolute path in the task; made when missing"),
    free("readonly", Flag, Preset::Flag(false), "Whether the task may only read it"),
    free(
        "propagation",
        Choice(&["private", "host-to-task", "bidirectional"]),
        Preset::Text("private"),
        "Whether mounts that the host makes below it later appear in the task, and (bidirectional, which the operator's allow_bidirectional permits) those of the task on the host",
    ),
    free(
        "size",
        Size,
        Unset("half of the machine's memory"),
        "Size of a tmpfs, charged to the task's memory",
    ),
    free("mode", Text, Preset::Text("1777"), "Mode of a tmpfs' top directory, in octal"),
    free("exec", Flag, Preset::Flag(false), "Whether programs in a tmpfs may be run"),
];

static DEVICE: &[Opt] = &[
    free("host_path", Text, Required, "The device node on the host"),
    free("container_path", Text, Unset("the same as host_path"), "Where in the task, below /dev"),
    free(
        "cgroup_permissions",
        Text,
        Preset::Text("rwm"),
        "What is allowed: some of r (read), w (write) and m (make)",
    ),
];

static DNS: &[Opt] = &[
    free("servers", Texts, Preset::Texts(&[]), "Addresses of name servers"),
    free("searches", Texts, Preset::Texts(&[]), "Domains to search"),
    free("options", Texts, Preset::Texts(&[]), "Resolver options, as in resolv.conf(5)"),
];
