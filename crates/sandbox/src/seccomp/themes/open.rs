//! What every task may call: these reach nothing but its own processes, memory, descriptors and what the root
//! filesystem shows, and the kernel checks permissions in each.

use super::{Gate, Theme};

const fn open(name: &'static str, reason: &'static str, calls: &'static [&'static str]) -> Theme {
    Theme { name, reason, gate: Gate::Open, calls }
}

#[rustfmt::skip]
pub(super) const THEMES: &[Theme] = &[
    open("reading and writing", "they act on descriptors that the task already has", &[
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
        "lseek", "_llseek", "sendfile", "sendfile64", "copy_file_range", "splice", "tee", "vmsplice", "readahead",
        "fadvise64", "fadvise64_64", "fallocate", "truncate", "truncate64", "ftruncate", "ftruncate64", "sync",
        "syncfs", "fsync", "fdatasync", "sync_file_range", "cachestat",
    ]),
    open("opening and closing", "paths are checked by the kernel, in the task's own mount namespace", &[
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64",
        "flock", "pipe", "pipe2", "umask", "memfd_create", "memfd_secret",
    ]),
    open("names and directories", "as for opening; a handle can be made, never opened", &[
        "link", "linkat", "unlink", "unlinkat", "symlink", "symlinkat", "readlink", "readlinkat", "rename",
        "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "getdents", "getdents64", "readdir", "chdir",
        "fchdir", "getcwd", "name_to_handle_at", "inotify_init", "inotify_init1", "inotify_add_watch",
        "inotify_rm_watch",
    ]),
    open("attributes of files", "as for opening; ownership and set-id bits mean nothing on nosuid mounts", &[
        "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "newfstatat", "fstatat64", "statx", "oldstat",
        "oldlstat", "oldfstat", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2",
        "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "lchown", "lchown32", "fchown",
        "fchown32", "fchownat", "utime", "utimes", "utimensat", "utimensat_time64", "futimesat", "getxattr",
        "lgetxattr", "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "listxattr",
        "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr",
        "removexattrat", "file_getattr", "file_setattr",
    ]),
    open("own memory", "it is charged to the task's cgroup", &[
        "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "msync", "mincore", "brk", "mlock", "mlock2",
        "mlockall", "munlock", "munlockall", "remap_file_pages", "pkey_alloc", "pkey_free", "pkey_mprotect",
        "mseal", "map_shadow_stack", "membarrier", "process_mrelease",
    ]),
    open("starting and ending processes", "they are counted by the task's pids limit; namespaces are flags of clone, which is looked at", &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "setsid",
        "getsid", "setpgid", "getpgid", "getpgrp", "getpid", "getppid", "gettid", "pidfd_open", "prctl",
    ]),
    open("signals", "the kernel asks for the same user or KILL, and shows only the task's own processes", &[
        "kill", "tkill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigaction",
        "rt_sigprocmask", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
        "rt_sigreturn", "sigaltstack", "signalfd", "signalfd4", "pause", "restart_syscall", "sigaction", "signal",
        "sigprocmask", "sigpending", "sigsuspend", "sigreturn", "sgetmask", "ssetmask",
    ]),
    open("looking into other processes", "debuggers need it; the kernel allows it to the same user, in the task's own pid namespace", &[
        "ptrace", "process_vm_readv", "process_vm_writev",
    ]),
    open("who am I", "the kernel's own checks hold: nothing is gained that the bounding set lacks", &[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid",
        "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid",
        "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
        "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups", "setgroups32", "capget",
        "capset",
    ]),
    open("confining oneself further", "filters and Landlock rules only ever take away", &[
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    ]),
    open("limits and scheduling", "hard limits and the cpuset clip them; raising needs a capability that the kernel checks", &[
        "getrlimit", "ugetrlimit", "setrlimit", "prlimit64", "getrusage", "times", "getpriority",
        "sched_yield", "sched_getscheduler", "sched_getparam", "sched_setparam", "sched_getattr",
        "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "sched_rr_get_interval_time64", "sched_getaffinity", "sched_setaffinity", "getcpu", "ioprio_get",
    ]),
    open("clocks and timers", "reading the time and waiting; setting the clock is gated", &[
        "time", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64",
        "nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "alarm", "getitimer", "setitimer",
        "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
        "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
        "timerfd_settime64",
    ]),
    open("threads", "they act on the task's own threads", &[
        "futex", "futex_time64", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue", "set_robust_list",
        "get_robust_list", "set_tid_address", "set_thread_area", "get_thread_area", "rseq",
    ]),
    open("waiting for events", "they act on descriptors that the task already has", &[
        "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64", "epoll_create",
        "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2",
    ]),
    open("queued input and output", "the old interface; io_uring is closed", &[
        "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64",
    ]),
    open("sockets once made", "what may be made is looked at in socket and socketpair", &[
        "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt",
        "setsockopt", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64",
    ]),
    open("queues, semaphores, shared memory", "they live in the task's own ipc namespace", &[
        "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop", "semtimedop_time64",
        "shmget", "shmat", "shmdt", "shmctl", "ipc", "mq_open", "mq_unlink", "mq_timedsend",
        "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64", "mq_notify", "mq_getsetattr",
    ]),
    open("about the machine", "they read little more than /proc shows", &[
        "uname", "olduname", "oldolduname", "sysinfo", "getrandom",
    ]),
    open("x86 only", "thread pointers, segments of old and of Windows programs; the traps by which the host's probes return", &[
        "arch_prctl", "modify_ldt", "uretprobe", "uprobe",
    ]),
];
