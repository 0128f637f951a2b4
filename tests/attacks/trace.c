/* Runs a program and tells in FILE what it and every process below it does; ends as PROGRAM does.
 *
 *   trace writes FILE PROGRAM ARG...     what they write to procfs
 *   trace execs FILE PROGRAM ARG...      what they execute, and with which environment
 *
 *   proc = PATH VALUE        written to a file that lies on a proc
 *   stray = PATH VALUE       written to a file that is called as one of proc's, and lies elsewhere
 *   run = PID PATH ARG...    the program that runs, which is the interpreter of a script
 *   env = PID NAME=VALUE     a variable that it has */
#include "attack.h"
#include <linux/magic.h>
#include <sys/ptrace.h>
#include <sys/vfs.h>

static const char *const OF_PROC[] = {
	"oom_score_adj", "oom_adj", "uid_map", "gid_map", "projid_map", "setgroups", "timens_offsets", "exec", "current",
	"keycreate", "fscreate", "sockcreate", "comm", "coredump_filter", "loginuid", "core_pattern", "sysrq-trigger", NULL,
};

static unsigned char known[1 << 22];

/* The descriptor that a call writes to; -1 for every other call. */
static int written(struct __ptrace_syscall_info *info, int *direct)
{
	*direct = 0;
	switch (info->entry.nr) {
	case SYS_write: case SYS_pwrite64:
		*direct = 1;
		return info->entry.args[0];
	case SYS_writev: case SYS_pwritev: case SYS_pwritev2: case SYS_sendfile:
		return info->entry.args[0];
	case SYS_splice: case SYS_copy_file_range:
		return info->entry.args[2];
	}
	return -1;
}

static void take_stock(pid_t thread, struct __ptrace_syscall_info *info)
{
	int direct, number = written(info, &direct);
	char path[64], name[PATH_MAX], value[17] = "";
	struct statfs fs;
	if (number < 0)
		return;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", thread, number);
	ssize_t length = readlink(path, name, sizeof name - 1);
	if (length < 0 || statfs(path, &fs) < 0)
		return;
	name[length] = 0;
	const char *last = strrchr(name, '/');
	int is_called_so = 0;
	for (const char *const *other = OF_PROC; last && *other; other++)
		is_called_so |= !strcmp(last + 1, *other);
	int is_proc = fs.f_type == PROC_SUPER_MAGIC;
	if (!is_proc && !is_called_so)
		return;
	for (long at = 0; direct && at < 16; at += 8) {
		long word = ptrace(PTRACE_PEEKDATA, thread, info->entry.args[1] + at, 0);
		memcpy(value + at, &word, 8);
	}
	if (info->entry.args[2] < 16)
		value[info->entry.args[2]] = 0;
	show(is_proc ? "proc" : "stray", "%s %s", name, direct ? value : "?");
}

/* Arguments or variables, one after the other with a zero behind each. */
static ssize_t words_of(pid_t process, const char *file, char *words, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", process, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, got;
	while (fd >= 0 && length < (ssize_t)size - 1 && (got = read(fd, words + length, size - 1 - length)) > 0)
		length += got;
	if (fd >= 0)
		close(fd);
	words[length] = 0;
	return length;
}

static void tell_run(pid_t process)
{
	static char words[1 << 18];
	char path[64], name[PATH_MAX];
	snprintf(path, sizeof path, "/proc/%d/exe", process);
	ssize_t length = readlink(path, name, sizeof name - 1);
	name[length < 0 ? 0 : length] = 0;
	ssize_t all = words_of(process, "cmdline", words, sizeof words);
	for (ssize_t at = 0; at + 1 < all; at++)
		if (!words[at])
			words[at] = ' ';
	show("run", "%d %.1000s %.2000s", process, name, words);
	all = words_of(process, "environ", words, sizeof words);
	for (char *one = words; one < words + all; one += strlen(one) + 1)
		show("env", "%d %.3000s", process, one);
}

int main(int argc, char **argv)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE
		| PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	int how, ended = 1;
	if (argc < 4)
		return 64;
	int execs = !strcmp(argv[1], "execs"), go_on = execs ? PTRACE_CONT : PTRACE_SYSCALL;
	pid_t first = fork();
	if (first == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(argv[3], argv + 3);
		_exit(127);
	}
	if (waitpid(first, &how, __WALL) != first || !freopen(argv[2], "w", stdout))
		return 1;
	known[first] = 1;
	ptrace(PTRACE_SETOPTIONS, first, 0, options);
	ptrace(go_on, first, 0, 0);
	pid_t thread;
	while ((thread = waitpid(-1, &how, __WALL)) > 0) {
		if (!WIFSTOPPED(how)) {
			known[thread] = 0;
			if (thread == first)
				ended = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
			continue;
		}
		int signal = WSTOPSIG(how);
		if (execs && how >> 16 == PTRACE_EVENT_EXEC)
			tell_run(thread);
		if (signal == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info info;
			ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
				take_stock(thread, &info);
			signal = 0;
		} else if (how >> 16 || (signal == SIGSTOP && !known[thread])) {
			/* An event, or the first stop of one that is new. */
			signal = 0;
		}
		if (!(how >> 16))
			known[thread] = 1;
		ptrace(go_on, thread, 0, signal);
	}
	return ended;
}
