/* A careless launcher, to be run outside: it brings a child that shares its memory into a task, and waits for it.
 *
 *   launcher held PID FILE...       it waits as vfork does, and the child stays for a moment
 *   launcher killed PID FILE...     the child stays, and is whom the kernel ends first when memory runs out
 *
 * PID is a process of the task, whose pid namespace the child is in; each FILE is the `cgroup.procs` of a group that it
 * enters. Says `answered` when the child has ended. */
#include "attack.h"

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

int main(int argc, char **argv)
{
	static char stack[1 << 18] __attribute__((aligned(16)));
	if (argc < 4)
		return 64;
	int first = syscall(SYS_pidfd_open, atoi(argv[2]), 0);
	if (first < 0 || setns(first, CLONE_NEWPID) < 0)
		return 1;
	is_weak = !strcmp(argv[1], "killed");
	files = argv + 3;
	/* More than what the kernel gives up for whoever is larger than the group itself. */
	if (is_weak)
		memset(malloc(32 << 20), 7, 32 << 20);
	/* The kernel does not count as the one to be ended whom a parent waits for in vfork. */
	pid_t child = clone(enter, stack + sizeof stack, CLONE_VM | (is_weak ? 0 : CLONE_VFORK) | SIGCHLD, NULL);
	int how;
	if (child < 0 || waitpid(child, &how, 0) != child)
		return 1;
	show("answered", "%d", WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how));
	return 0;
}
