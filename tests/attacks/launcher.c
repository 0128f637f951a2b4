/* A careless launcher, to be run outside: it brings a child that shares its memory into a task, and waits for it.
 *
 *   launcher held PID FILE...       it waits as vfork does, and the child stays for a moment
 *   launcher killed PID FILE...     the child stays, and is whom the kernel ends first when memory runs out
 *
 * PID is a process of the task, whose pid namespace the child is in; each FILE is the `cgroup.procs` of a group that it
 * enters. The launcher is a child of the process that was started, which ends when both are gone, as the launcher did
 * (128 and its signal), and kills the launcher when it is told to end. */
#include "attack.h"
#include <sys/prctl.h>

static int is_weak;
static char **files;

static int enter(void *nothing)
{
	(void)nothing;
	for (char **file = files; *file; file++)
		if (put(*file, "0") < 0)
			_exit(2);
	if (is_weak && put("/proc/self/oom_score_adj", "1000") < 0)
		_exit(3);
	show("entered", "yes");
	nap(is_weak ? 50000 : 1000);
	_exit(0);
}

static int launch(const char *first)
{
	static char stack[1 << 18] __attribute__((aligned(16)));
	int pidfd = syscall(SYS_pidfd_open, atoi(first), 0);
	if (pidfd < 0 || setns(pidfd, CLONE_NEWPID) < 0)
		return 1;
	/* More than what the kernel gives up for whoever is larger than the group itself. */
	if (is_weak)
		mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	/* The kernel does not count as the one to be ended whom a parent waits for in vfork. */
	pid_t child = clone(enter, stack + sizeof stack, CLONE_VM | (is_weak ? 0 : CLONE_VFORK) | SIGCHLD, NULL);
	int how;
	return child < 0 || waitpid(child, &how, 0) != child;
}

static pid_t launcher;

static void end(int signal)
{
	(void)signal;
	kill(launcher, SIGKILL);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 64;
	is_weak = !strcmp(argv[1], "killed");
	files = argv + 3;
	/* Whoever outlives the launcher is waited for, so that its namespace can end. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	launcher = fork();
	if (launcher == 0)
		return launch(argv[2]);
	signal(SIGTERM, end);
	int how, status = 1;
	pid_t gone;
	while ((gone = waitpid(-1, &how, 0)) > 0 || errno == EINTR)
		if (gone == launcher)
			status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
	return status;
}
