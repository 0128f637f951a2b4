/* What a process is: identity, capabilities, namespaces, signals, limits. A set-user-id copy of it tells what it
 * gained.
 *
 *   state look [PATH...]       all of it, and whether each path can be read
 *   state run PROGRAM          becomes PROGRAM, as a user would run it
 *   state crash                crashes in a child
 *   state spread               asks for every processor, for those that it was not given, and for higher limits
 *   state as UID PATH...       as that user: whether each path can be reached (to be run outside) */
#include "attack.h"
#include <grp.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

static void field(const char *text, const char *name)
{
	char key[64], value[512] = "none";
	snprintf(key, sizeof key, "%s:", name);
	const char *at = strstr(text, key);
	if (at)
		sscanf(at + strlen(key), " %511[^\n]", value);
	/* An empty field must not take the next line's. */
	if (at && at[strlen(key)] == '\t' && (at[strlen(key) + 1] == '\n' || at[strlen(key) + 1] == ' '))
		*value = 0;
	for (char *c = value + strlen(value); c > value && c[-1] == ' ';)
		*--c = 0;
	show(name, "%s", value);
}

static void processors(const char *name)
{
	char value[256] = "none";
	const char *at = strstr(slurp("/proc/self/status"), "Cpus_allowed_list:");
	if (at)
		sscanf(at + strlen("Cpus_allowed_list:"), " %255[^\n]", value);
	show(name, "%s", value);
}

static void spread(void)
{
	cpu_set_t all, own, others;
	memset(&all, 0xff, sizeof all);
	processors("cpus.before");
	sched_getaffinity(0, sizeof own, &own);
	TRY("cpus.all", sched_setaffinity(0, sizeof all, &all));
	processors("cpus.after");
	CPU_XOR(&others, &all, &own);
	TRY("cpus.others", sched_setaffinity(0, sizeof others, &others));
	processors("cpus.last");
	field(slurp("/proc/self/status"), "CapEff");
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur--;
	TRY("limit.lower", setrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur++;
	TRY("limit.back", prlimit(0, RLIMIT_NOFILE, &limit, NULL));
	limit.rlim_max++;
	TRY("limit.set", setrlimit(RLIMIT_NOFILE, &limit));
	TRY("limit.prlimit", prlimit(0, RLIMIT_NOFILE, &limit, NULL));
	limit.rlim_cur = ++limit.rlim_max;
	TRY("limit.both", prlimit(getpid(), RLIMIT_NOFILE, &limit, NULL));
}

static void signals(void)
{
	char text[512] = "";
	for (int number = 1; number < 65; number++) {
		struct sigaction action;
		if (syscall(SYS_rt_sigaction, number, NULL, &action, 8) == 0 && action.sa_handler != SIG_DFL)
			snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", number);
	}
	show("signals", "%s", text);
}

static void namespaces(void)
{
	char path[64], link[128];
	for (const char *name = "mnt\0pid\0ipc\0uts\0net\0cgroup\0user\0time\0"; *name; name += strlen(name) + 1) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", name);
		ssize_t length = readlink(path, link, sizeof link - 1);
		link[length < 0 ? 0 : length] = 0;
		snprintf(path, sizeof path, "ns.%s", name);
		show(path, "%s", link);
	}
}

static void limits(void)
{
	static const struct { const char *name; int number; } all[] = {
		{ "nofile", RLIMIT_NOFILE }, { "core", RLIMIT_CORE }, { "nproc", RLIMIT_NPROC },
		{ "memlock", RLIMIT_MEMLOCK }, { "stack", RLIMIT_STACK },
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct rlimit limit;
		char name[32];
		getrlimit(all[i].number, &limit);
		snprintf(name, sizeof name, "limit.%s", all[i].name);
		show(name, "%ld:%ld", (long)limit.rlim_cur, (long)limit.rlim_max);
	}
}

static void look(int count, char **paths)
{
	static char status[65536];
	strcpy(status, slurp("/proc/self/status"));
	for (const char *name = "Uid\0Gid\0Groups\0CapInh\0CapPrm\0CapEff\0CapBnd\0CapAmb\0NoNewPrivs\0Seccomp\0"
				"Seccomp_filters\0SigBlk\0SigIgn\0ShdPnd\0Umask\0NSpid\0Cpus_allowed_list\0";
	     *name; name += strlen(name) + 1)
		field(status, name);
	show("euid", "%u", geteuid());
	show("pid", "%d", getpid());
	show("ppid", "%d", getppid());
	show("sid", "%s", getsid(0) == getpid() ? "own" : "other");
	show("pgid", "%s", getpgid(0) == getpid() ? "own" : "other");
	show("oom", "%s", slurp("/proc/self/oom_score_adj"));
	show("cgroup", "%s", slurp("/proc/self/cgroup"));
	show("securebits", "%d", prctl(PR_GET_SECUREBITS));
	int death = 0;
	prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0);
	show("pdeathsig", "%d", death);
	show("nice", "%d", getpriority(PRIO_PROCESS, 0));
	show("policy", "%d", sched_getscheduler(0));
	show("keyring", "%ld", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
	char name[512];
	gethostname(name, sizeof name);
	show("hostname", "%s", name);
	show("home", "%s", getenv("HOME") ?: "none");
	show("user", "%s", getenv("USER") ?: "none");
	show("path", "%s", getenv("PATH") ?: "none");
	signals();
	namespaces();
	limits();
	TRY("socket.raw", socket(AF_INET, SOCK_RAW, 1));
	TRY("socket.packet", socket(AF_PACKET, SOCK_RAW, 0));
	int low = socket(AF_INET, SOCK_STREAM, 0);
	unsigned char address[16] = { AF_INET, 0, 0, 80 };
	TRY("bind.80", bind(low, (void *)address, sizeof address));
	close(low);
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "read.%s", paths[i]);
		int fd = open(paths[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		tell(name, fd);
		if (fd >= 0)
			close(fd);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "look";
	if (!strcmp(mode, "run") && argc > 2) {
		char *become[] = { argv[2], "look", NULL };
		execv(argv[2], become);
		tell("run", -1);
		return 1;
	}
	if (!strcmp(mode, "as") && argc > 2) {
		char name[512];
		if (setgroups(0, NULL) || setgid(atoi(argv[2])) || setuid(atoi(argv[2])))
			return 1;
		for (int i = 3; i < argc; i++) {
			struct stat status;
			snprintf(name, sizeof name, "stat.%s", argv[i]);
			TRY(name, stat(argv[i], &status));
		}
		return 0;
	}
	if (!strcmp(mode, "spread")) {
		spread();
		return 0;
	}
	if (!strcmp(mode, "crash")) {
		/* In a child: a first process takes only signals that it handles. */
		show("ready", "yes");
		pid_t child = fork();
		if (child == 0) {
			show("dumpable", "%d in %s", prctl(PR_GET_DUMPABLE), getcwd(NULL, 0));
			abort();
		}
		int how;
		waitpid(child, &how, 0);
		show("crashed", "%d core %d", WTERMSIG(how), WCOREDUMP(how) != 0);
		return 0;
	}
	look(argc > 2 ? argc - 2 : 0, argv + 2);
	return strcmp(mode, "stay") ? 0 : stay();
}
