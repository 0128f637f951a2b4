/* What of the kernel is in reach: one harmless attempt per operation, each with arguments that the kernel itself
 * would answer with something else than the filter does.
 *
 *   reach          every operation once
 *   reach nested   a proc of its own in namespaces of its own, as somebody who needs no capability for them
 *   reach below    takes off its root, and what shows then, and once more (never outside of a task) */
#include "attack.h"
#include <linux/keyctl.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

#define CALL(name, ...) TRY(name, syscall(__VA_ARGS__))

/* In a process of its own, whose namespaces nobody misses. */
#define APART(name, expression) do {				\
	fflush(stdout);						\
	pid_t child = fork();					\
	if (child == 0) { TRY(name, expression); fflush(stdout); _exit(0); }	\
	int how; waitpid(child, &how, 0);			\
	if (!WIFEXITED(how)) show(name, "killed by signal %d", WTERMSIG(how));	\
} while (0)

static const struct { const char *name; unsigned long flag; } SPACES[] = {
	{ "mnt", CLONE_NEWNS }, { "uts", CLONE_NEWUTS }, { "ipc", CLONE_NEWIPC }, { "user", CLONE_NEWUSER },
	{ "pid", CLONE_NEWPID }, { "net", CLONE_NEWNET }, { "cgroup", CLONE_NEWCGROUP }, { "time", 0x80 },
};

static long clone_apart(unsigned long flags)
{
	long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		_exit(0);
	int error = errno;
	if (child > 0)
		waitpid(child, NULL, 0);
	errno = error;
	return child;
}

static void mounts(void)
{
	struct { uint64_t set, clear, propagation, user; } attributes = { 1, 0, 0, 0 };
	CALL("mount", SYS_mount, "none", "/absent", "tmpfs", 0, 0);
	CALL("mount.remount", SYS_mount, 0, "/absent", 0, MS_REMOUNT, 0);
	CALL("mount.bind", SYS_mount, "/absent", "/absent", 0, MS_BIND, 0);
	CALL("umount2", SYS_umount2, "/absent", 0);
	CALL("pivot_root", SYS_pivot_root, "/absent", "/absent");
	CALL("fsopen", SYS_fsopen, "absent", 0);
	CALL("fsconfig", SYS_fsconfig, -1, 0, 0, 0, 0);
	CALL("fsmount", SYS_fsmount, -1, 0, 0);
	CALL("fspick", SYS_fspick, -1, "absent", 0);
	CALL("open_tree", SYS_open_tree, -1, "absent", 1);
	CALL("move_mount", SYS_move_mount, -1, "absent", -1, "absent", 0);
	CALL("mount_setattr", SYS_mount_setattr, -1, "absent", 0, &attributes, sizeof attributes);
	CALL("swapon", SYS_swapon, "/absent", 0);
	CALL("swapoff", SYS_swapoff, "/absent");
	CALL("setns", SYS_setns, -1, 0);
	char name[32];
	for (size_t i = 0; i < sizeof SPACES / sizeof *SPACES; i++) {
		snprintf(name, sizeof name, "unshare.%s", SPACES[i].name);
		APART(name, syscall(SYS_unshare, SPACES[i].flag));
		if (SPACES[i].flag == 0x80)
			continue; /* a signal number for clone */
		snprintf(name, sizeof name, "clone.%s", SPACES[i].name);
		APART(name, clone_apart(SPACES[i].flag));
	}
	APART("unshare.files", syscall(SYS_unshare, CLONE_FILES));
	APART("clone.plain", clone_apart(0));
	CALL("clone3", SYS_clone3, 0, 0);
	CALL("open_tree_attr", 467, -1, "absent", 1, &attributes, sizeof attributes);
	CALL("listns", 470, 0, 0, 0, 0);
}

static void kernels(void)
{
	CALL("keyctl", SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
	CALL("add_key", SYS_add_key, 0, 0, 0, 0, 0);
	CALL("request_key", SYS_request_key, 0, 0, 0, 0);
	CALL("bpf", SYS_bpf, 0xdead, 0, 0);
	CALL("userfaultfd", SYS_userfaultfd, O_CLOEXEC | 1);
	CALL("io_uring_setup", SYS_io_uring_setup, 0, 0);
	CALL("io_uring_enter", SYS_io_uring_enter, -1, 0, 0, 0, 0, 0);
	CALL("io_uring_register", SYS_io_uring_register, -1, 0, 0, 0);
	CALL("kexec_load", SYS_kexec_load, 0, 1000000L, 0, 0);
	CALL("kexec_file_load", SYS_kexec_file_load, -1, -1, 0, 0, 0xff00);
	CALL("init_module", SYS_init_module, 0, 0, 0);
	CALL("finit_module", SYS_finit_module, -1, "", 0);
	CALL("delete_module", SYS_delete_module, "bivouac_absent", O_NONBLOCK);
	CALL("reboot", SYS_reboot, 0, 0, 0, 0);
	CALL("lookup_dcookie", 212, 0, 0, 0);
	struct { struct file_handle head; unsigned char bytes[128]; } handle = { .head = { .handle_bytes = 128 } };
	int mount;
	TRY("name_to_handle_at", name_to_handle_at(AT_FDCWD, "/", &handle.head, &mount, 0));
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CALL("open_by_handle_at", SYS_open_by_handle_at, root, &handle, O_RDONLY | O_CLOEXEC);
	close(root);
#ifdef __x86_64__
	CALL("uselib", SYS_uselib, "/absent");
	APART("iopl", iopl(0));
	APART("ioperm", ioperm(0x80, 1, 0));
	CALL("modify_ldt", SYS_modify_ldt, 0, 0, 0);
	CALL("x32", 0x40000000L + SYS_getpid);
	CALL("_sysctl", SYS__sysctl, 0);
#endif
	char name[32];
	int strange = 0;
	for (long number = 480; number < 1100; number++)
		strange += !(syscall(number, 0, 0, 0, 0, 0, 0) == -1 && errno == ENOSYS);
	show("unknown.answered", "%d", strange);
	(void)name;
}

static void others(void)
{
	char byte = 7, other = 0;
	struct iovec here = { &byte, 1 }, there = { &other, 1 };
	CALL("process_vm_readv", SYS_process_vm_readv, getpid(), &there, 1, &here, 1, 0);
	APART("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
	CALL("pidfd_getfd", SYS_pidfd_getfd, -1, 0, 0);
	CALL("kcmp", SYS_kcmp, getpid(), getpid(), 0, 0, 0);
	CALL("process_madvise", SYS_process_madvise, -1, 0, 0, 0, 0);
	CALL("perf_event_open", SYS_perf_event_open, 0, 0, -1, -1, 0);
	CALL("move_pages", SYS_move_pages, 0, 0, 0, 0, 0, 0);
	CALL("mbind", SYS_mbind, 1, 0, 0, 0, 0, 0);
	CALL("memfd_create", SYS_memfd_create, "x", MFD_CLOEXEC);
	CALL("seccomp", SYS_seccomp, 2, 0, &(uint32_t){ 0 });
	CALL("landlock_create_ruleset", SYS_landlock_create_ruleset, 0, 0, 1);
}

static void hosts(void)
{
	char name[65];
	gethostname(name, sizeof name);
	CALL("sethostname", SYS_sethostname, name, strlen(name));
	CALL("setdomainname", SYS_setdomainname, "(none)", 6);
	CALL("quotactl", SYS_quotactl, 0x80000100 /* Q_SYNC */, "/absent", 0, 0);
	TRY("fanotify_init", fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY));
	CALL("acct", SYS_acct, "/absent");
	CALL("syslog", SYS_syslog, 10, 0, 0);
	CALL("vhangup", SYS_vhangup);
	CALL("chroot", SYS_chroot, "/absent");
	CALL("settimeofday", SYS_settimeofday, 0, 0);
	CALL("clock_settime", SYS_clock_settime, CLOCK_REALTIME, 0);
	struct timex time = { 0 };
	CALL("adjtimex", SYS_adjtimex, &time);
	CALL("clock_adjtime", SYS_clock_adjtime, CLOCK_REALTIME, &time);
	struct sched_param param = { .sched_priority = 1 };
	APART("sched.fifo", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &param));
	param.sched_priority = 0;
	APART("sched.batch", syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param));
	APART("sched_setattr", syscall(SYS_sched_setattr, 0, 0, 0));
	APART("nice.lower", setpriority(PRIO_PROCESS, 0, -5));
	APART("nice.raise", setpriority(PRIO_PROCESS, 0, 19));
	APART("ioprio.rt", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
	APART("ioprio.idle", syscall(SYS_ioprio_set, 1, 0, 3 << 13));
	cpu_set_t all;
	memset(&all, 0xff, sizeof all);
	APART("affinity", sched_setaffinity(0, sizeof all, &all));
	APART("personality.read", syscall(SYS_personality, 0xffffffffL));
	APART("personality.norandom", syscall(SYS_personality, 0x0040000));
	APART("personality.execread", syscall(SYS_personality, 0x0400000));
	APART("personality.linux32", syscall(SYS_personality, 8));
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_max++;
	APART("prlimit.up", setrlimit(RLIMIT_NOFILE, &limit));
}

static void terminals(void)
{
	const unsigned long high = 1UL << 32;
	CALL("ioctl.TIOCSTI", SYS_ioctl, -1, (unsigned long)TIOCSTI, "x");
	CALL("ioctl.TIOCSTI.high", SYS_ioctl, -1, high | TIOCSTI, "x");
	CALL("ioctl.TIOCLINUX", SYS_ioctl, -1, (unsigned long)TIOCLINUX, "x");
	CALL("ioctl.TIOCLINUX.high", SYS_ioctl, -1, high << 7 | TIOCLINUX, "x");
	CALL("ioctl.TIOCSETD", SYS_ioctl, -1, (unsigned long)TIOCSETD, 0);
	CALL("ioctl.TIOCSETD.high", SYS_ioctl, -1, high | TIOCSETD, 0);
	CALL("ioctl.TCGETS", SYS_ioctl, -1, 0x5401UL, 0);
}

static void run_in_memory(void)
{
	int memory = memfd_create("copy", 0), self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char chunk[65536];
	ssize_t got;
	while ((got = read(self, chunk, sizeof chunk)) > 0)
		write(memory, chunk, got);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		char *argv[] = { "reach", "again", NULL }, *envp[] = { NULL };
		fexecve(memory, argv, envp);
		tell("fexecve", -1);
		_exit(1);
	}
	waitpid(child, NULL, 0);
}

/* As `unshare -mrpf` and a mount of proc: the kernel allows it only where a proc without masks is in the namespace
 * already. */
static long nested(void)
{
	TRY("nested.unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID));
	if (fork() == 0) {
		TRY("nested.proc", mount("proc", "/tmp", "proc", 0, NULL));
		TRY("nested.sys", mount("sysfs", "/tmp", "sysfs", 0, NULL));
		_exit(0);
	}
	return wait(NULL);
}

/* Each time: the topmost mount of this namespace goes, and what lay below it becomes the root. */
static void below(void)
{
	int space = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	for (int depth = 1; depth <= 3; depth++) {
		char name[32], seen[1024] = "";
		snprintf(name, sizeof name, "umount.%d", depth);
		TRY(name, umount2("/", MNT_DETACH));
		snprintf(name, sizeof name, "enter.%d", depth);
		TRY(name, setns(space, CLONE_NEWNS));
		DIR *dir = opendir("/");
		struct dirent *entry;
		while (dir && (entry = readdir(dir)))
			if (entry->d_name[0] != '.' && strlen(seen) < sizeof seen - 300)
				strcat(strcat(seen, entry->d_name), " ");
		if (dir)
			closedir(dir);
		snprintf(name, sizeof name, "below.%d", depth);
		show(name, "%s", seen);
	}
	/* The last one is of no use to others. What is mounted in it is told by a proc of our own. */
	if (!mount("proc", "/proc", "proc", 0, NULL)) {
		int mounts = 0;
		for (const char *text = slurp("/proc/self/mountinfo"); *text; text++)
			mounts += *text == '\n';
		show("mounts", "%d", mounts);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "again")) {
		TRY("fexecve", 0);
		CALL("fexecve.keyctl", SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "nested")) {
		APART("nested", nested());
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "below")) {
		below();
		return 0;
	}
	mounts();
	kernels();
	others();
	hosts();
	terminals();
	run_in_memory();
	return 0;
}
