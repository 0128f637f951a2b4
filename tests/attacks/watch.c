/* A root task that lies in wait for processes which appear beside it.
 *
 *   watch trace SECONDS NEEDLE   attaches to each new process and takes stock of what it finds in it, until there is
 *                                /local/stop
 *   watch exits NUMBER SECONDS   holds new processes at their end, until it has looked at so many whose command could
 *                                not be executed, and tells which descriptors those had
 *   watch exe SECONDS            reaches for the program of each new process and tries to change it
 *   watch stop SECONDS           stops each new process, and lets it go at the end
 *   watch hungry SECONDS         the same, while a child of its own takes memory until it is killed, again and again
 *   watch lie SECONDS            makes each new process tell its launcher that its last step failed, and lets it go
 *   watch keep SECONDS           takes hold of each new process, and lets none go, not even when it is dead
 *   watch threads SECONDS        the same with every thread of it, each of which goes on when it has been taken hold of
 *   watch parent                 a child takes hold of this process, which then ends with status 3
 *   watch quick                  ends at once: a process to be caught
 *   watch brief                  ends after a moment, with status 7
 *   watch two                    has a second thread, and stays
 *
 * Each first sets out a decoy of its own, which must be found: a watch that sees nothing proves nothing. NEEDLE is
 * given in two words, so that this program's own memory does not hold it in one piece. */
#include "attack.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/xattr.h>

#define MOST 65536
static char seen[MOST];
static char needle[256];
static long needle_length;
static unsigned long own_caps;
static dev_t root_dev;
static ino_t root_ino;

struct tally { int caught, unready, fds, needles, roots, environs, names, caps, chmod, chown, open, xattr; };
static struct tally others, decoys;
static int decoy;

static int is_ours(int pid)
{
	return pid <= 0 || pid >= MOST || pid == getpid();
}

/* The next process that was not there before; 0 when there is none. */
static int newcomer(void)
{
	static DIR *proc;
	struct dirent *entry;
	if (!proc)
		proc = opendir("/proc");
	rewinddir(proc);
	while ((entry = readdir(proc))) {
		int pid = atoi(entry->d_name);
		if (is_ours(pid) || seen[pid])
			continue;
		seen[pid] = 1;
		return pid;
	}
	return 0;
}

static char *of(int pid, const char *what)
{
	static char path[4][128];
	static int turn;
	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof path[turn], "/proc/%d/%s", pid, what);
	return path[turn];
}

static int memory_holds_needle(int pid)
{
	FILE *maps = fopen(of(pid, "maps"), "re");
	int mem = open(of(pid, "mem"), O_RDONLY | O_CLOEXEC), found = 0;
	char line[512];
	static char chunk[1 << 20];
	while (maps && mem >= 0 && fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		char right[8];
		if (sscanf(line, "%lx-%lx %7s", &from, &to, right) != 3 || right[0] != 'r' || right[1] != 'w')
			continue;
		for (unsigned long at = from; at < to; at += sizeof chunk - 256) {
			size_t want = to - at < sizeof chunk ? to - at : sizeof chunk;
			ssize_t got = pread(mem, chunk, want, at);
			if (got <= 0)
				break;
			if (memmem(chunk, got, needle, needle_length))
				found = 1;
		}
	}
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	return found;
}

/* A library that the command's own loader has open: a regular file that lies in this task's root under that name. */
static int is_of_our_root(int pid, const char *descriptor, const char *path)
{
	struct stat theirs, ours;
	return stat(of(pid, descriptor), &theirs) == 0 && stat(path, &ours) == 0 && S_ISREG(theirs.st_mode)
		&& theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

/* Between its clone and its execve, the moment that matters: what it runs is still its launcher's program, which lies
 * at the top of a mount that nobody here can reach. */
static int is_unready(int pid)
{
	char link[512];
	ssize_t length = readlink(of(pid, "exe"), link, sizeof link - 1);
	return length == 1 && link[0] == '/';
}

/* A variable that this process was not started with. One on its way in has none at all. */
static int has_foreign_environment(int pid, int unready)
{
	static char theirs[65536];
	extern char **environ;
	int fd = open(of(pid, "environ"), O_RDONLY | O_CLOEXEC);
	ssize_t length = fd >= 0 ? read(fd, theirs, sizeof theirs - 1) : 0;
	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return 0;
	theirs[length] = 0;
	int foreign = unready;
	for (char *one = theirs; one < theirs + length; one += strlen(one) + 1) {
		int known = 0;
		for (char **own = environ; *own; own++)
			known |= !strcmp(*own, one);
		foreign |= !known;
	}
	if (foreign)
		show("environ", "%d %s", pid, theirs);
	return foreign;
}

/* What it is called once its command runs: never as a program of Bivouac's. */
static int has_our_name(int pid)
{
	char link[512];
	ssize_t length = readlink(of(pid, "exe"), link, sizeof link - 1);
	link[length < 0 ? 0 : length] = 0;
	int ours = strstr(link, "bivouac") || strstr(slurp(of(pid, "comm")), "bivouac")
		|| strstr(slurp(of(pid, "cmdline")), "bivouac");
	if (ours)
		show("name", "%d %s %s", pid, link, slurp(of(pid, "comm")));
	return ours;
}

/* Counts its descriptors beside the three, the one on which a failure is told, and its command's own libraries. */
static int foreign_descriptors(int pid, int unready)
{
	char link[512];
	int count = 0;
	DIR *dir = opendir(of(pid, "fd"));
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int number = atoi(entry->d_name);
		char name[64];
		snprintf(name, sizeof name, "fd/%d", number);
		ssize_t length = readlink(of(pid, name), link, sizeof link - 1);
		link[length < 0 ? 0 : length] = 0;
		/* 3 may be the pipe on which a failure is told. */
		int is_told_on = number == 3 && !strncmp(link, "pipe:", 5);
		int is_its_own = !unready && pid != decoy && is_of_our_root(pid, name, link);
		if (entry->d_name[0] != '.' && number > 2 && !is_told_on && !is_its_own) {
			count++;
			if (pid != decoy)
				show("descriptor", "%d %s", number, link);
		}
	}
	if (dir)
		closedir(dir);
	return count;
}

static void take_stock(int pid, struct tally *tally)
{
	tally->caught++;
	char link[512];
	int unready = is_unready(pid);
	tally->unready += unready;
	tally->fds += foreign_descriptors(pid, unready);
	struct stat root;
	ssize_t length = readlink(of(pid, "root"), link, sizeof link - 1);
	if (length != 1 || link[0] != '/' || stat(of(pid, "root"), &root) < 0 || root.st_ino != root_ino
	    || root.st_dev != root_dev)
		tally->roots++;
	tally->environs += has_foreign_environment(pid, unready);
	tally->names += !unready && has_our_name(pid);
	const char *status = slurp(of(pid, "status")), *caps = strstr(status, "CapPrm:");
	if (caps && strtoul(caps + 7, NULL, 16) & ~own_caps)
		tally->caps++;
	if (memory_holds_needle(pid))
		tally->needles++;
}

/* One that was killed meanwhile is ours until we have waited for it. */
static void let_go(int pid)
{
	if (ptrace(PTRACE_DETACH, pid, 0, 0) < 0)
		waitpid(pid, NULL, __WALL);
	else
		kill(pid, SIGCONT);
}

static void trace(int pid, struct tally *tally)
{
	if (ptrace(PTRACE_ATTACH, pid, 0, 0) < 0)
		return;
	int how;
	waitpid(pid, &how, __WALL);
	if (WIFSTOPPED(how))
		take_stock(pid, tally);
	let_go(pid);
}

/* Waits for its end and looks at what it has then: one whose command could not be executed ends with 127. */
static void attend(int pid, struct tally *tally)
{
	int how;
	unsigned long status = 0;
	while (waitpid(pid, &how, __WALL) == pid && WIFSTOPPED(how)) {
		if (how >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) {
			ptrace(PTRACE_GETEVENTMSG, pid, 0, &status);
			if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && (pid == decoy || is_unready(pid))) {
				tally->caught++;
				tally->fds += foreign_descriptors(pid, 1);
			}
		}
		int event = how >> 16;
		ptrace(PTRACE_CONT, pid, 0, event ? 0 : WSTOPSIG(how));
	}
}

/* Writes into the page that a process on its way in shares with its launcher: where and why it failed. See
 * crates/sandbox/src/launch/report.rs. */
static void lie(int pid, struct tally *tally)
{
	char line[512];
	unsigned long page = 0;
	int how, error = EXDEV;
	waitpid(pid, &how, __WALL);
	FILE *maps = is_unready(pid) ? fopen(of(pid, "maps"), "re") : NULL;
	while (maps && !page && fgets(line, sizeof line, maps))
		if (strstr(line, " rw-s ") && strstr(line, "/dev/zero"))
			page = strtoul(line, NULL, 16);
	if (maps)
		fclose(maps);
	int mem = page ? open(of(pid, "mem"), O_RDWR | O_CLOEXEC) : -1;
	if (mem >= 0) {
		tally->caught++;
		if (pwrite(mem, &error, sizeof error, page + 4) == sizeof error && pwrite(mem, "\1", 1, page + 1) == 1)
			show("lied", "%d", pid);
		close(mem);
	}
	let_go(pid);
}

/* Numbers are given one after the other, so the next one is known before it is there; those that came and went while
 * this process had no processor are passed over. */
static int take_next(int pid, double end, int request, unsigned long options)
{
	for (int try = 0; now() < end; try++) {
		const char *word = try % 64 ? NULL : strrchr(slurp("/proc/loadavg"), ' ');
		int last = word ? atoi(word) : 0;
		if (ptrace(request, pid, 0, options) == 0)
			return pid;
		if (last >= pid)
			pid = last + 1;
	}
	return 0;
}

static int is_hungry(int pid)
{
	return !strncmp(slurp(of(pid, "comm")), "hungry", 6);
}

/* One child after the other takes more than there is. */
static void set_out_hunger(void)
{
	/* A child begins with its parent's name. */
	prctl(PR_SET_NAME, "hungry");
	if (fork()) {
		prctl(PR_SET_NAME, "watch");
		return;
	}
	for (;;) {
		pid_t child = fork();
		for (long got = 0; child == 0 && got < 4096; got++) {
			char *chunk = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (chunk != MAP_FAILED)
				memset(chunk, 7, 1 << 20);
		}
		if (child == 0)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
}

/* Nothing is changed even where the attack works: the same mode, the same owner, no byte written. */
static void reach(int pid, struct tally *tally)
{
	struct stat own, other;
	char name[64];
	int fd = open(of(pid, "exe"), O_PATH | O_CLOEXEC);
	if (fd < 0)
		return;
	stat("/proc/self/exe", &own);
	if (fstat(fd, &other) == 0 && (own.st_ino != other.st_ino || own.st_dev != other.st_dev)) {
		tally->caught++;
		snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
		tally->chmod += chmod(name, other.st_mode & 07777) == 0;
		tally->chown += chown(name, other.st_uid, other.st_gid) == 0;
		int file = open(name, O_WRONLY | O_CLOEXEC);
		tally->open += file >= 0;
		if (file >= 0)
			close(file);
		if (setxattr(name, "user.bivouac-test", "x", 1, 0) == 0) {
			tally->xattr++;
			removexattr(name, "user.bivouac-test");
		}
	}
	close(fd);
}

/* Lets those go on that stand still, and takes note of none that ended: so the dead stay. */
static void keep_threads_going(void)
{
	siginfo_t stopped = { 0 };
	while (waitid(P_ALL, 0, &stopped, WSTOPPED | WNOHANG | __WALL) == 0 && stopped.si_pid) {
		if (ptrace(PTRACE_CONT, stopped.si_pid, 0, 0) == 0)
			show("thread", "%d", stopped.si_pid);
		stopped.si_pid = 0;
	}
}

static void *stand_by(void *nothing)
{
	for (;;)
		pause();
	return nothing;
}

static int set_out_decoy(const char *mode)
{
	int pid = fork();
	if (pid)
		return pid;
	if (!strcmp(mode, "exe")) {
		char *program[] = { "/local/decoy", "sleep", NULL };
		execv(program[0], program);
		_exit(1);
	}
	open("/proc/self/status", O_RDONLY);
	open("/", O_RDONLY);
	open("/", O_RDONLY);
	if (!strcmp(mode, "exits")) {
		nap(600);
		_exit(127);
	}
	extern char **environ;
	if (!strcmp(mode, "trace") && *environ)
		(*environ)[0] ^= 1;
	prctl(PR_SET_NAME, "bivouac-decoy");
	char *kept = malloc(4096);
	memcpy(kept, needle, needle_length);
	__asm__ volatile("" : : "r"(kept) : "memory");
	if (!strcmp(mode, "trace") && chroot("/local") < 0)
		_exit(1);
	for (;;)
		pause();
}

static void report(const char *who, struct tally *t)
{
	char name[64];
#define ROW(field) snprintf(name, sizeof name, "%s." #field, who), show(name, "%d", t->field)
	ROW(caught); ROW(unready); ROW(fds); ROW(needles); ROW(roots); ROW(environs); ROW(names); ROW(caps);
	ROW(chmod); ROW(chown); ROW(open); ROW(xattr);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "sleep"))
		return stay();
	if (argc > 1 && !strcmp(argv[1], "quick"))
		return 0;
	if (argc > 1 && !strcmp(argv[1], "brief")) {
		nap(300);
		return 7;
	}
	if (argc > 1 && !strcmp(argv[1], "two")) {
		pthread_t thread;
		nap(100);
		return pthread_create(&thread, NULL, stand_by, NULL) ? 1 : stay();
	}
	const char *mode = argc > 1 ? argv[1] : "trace";
	int is_trace = !strcmp(mode, "trace"), is_exits = !strcmp(mode, "exits");
	if (!strcmp(mode, "parent")) {
		int ends[2];
		char byte;
		if (pipe(ends) < 0)
			return 1;
		if (fork())
			return read(ends[0], &byte, 1) == 1 ? 3 : 1;
		TRY("kept", ptrace(PTRACE_SEIZE, getppid(), 0, 0));
		if (write(ends[1], "x", 1) < 0)
			return 1;
		nap(200);
		return stay();
	}
	int most = is_exits && argc > 3 ? atoi(argv[2]) : 0;
	double end = now() + (argc > 2 ? atof(argv[is_exits ? 3 : 2]) : 1);
	for (int word = 3; word < argc && !is_exits; word++)
		strncat(needle, argv[word], sizeof needle - 1 - strlen(needle));
	needle_length = strlen(needle);
	const char *caps = strstr(slurp("/proc/self/status"), "CapPrm:");
	own_caps = caps ? strtoul(caps + 7, NULL, 16) : 0;
	struct stat root;
	stat("/", &root);
	root_dev = root.st_dev;
	root_ino = root.st_ino;
	while (newcomer())
		; /* what was there before is nobody's business */
	decoy = set_out_decoy(mode);
	nap(200);
	if (!strcmp(mode, "hungry"))
		set_out_hunger();
	if (is_exits && ptrace(PTRACE_SEIZE, decoy, 0, PTRACE_O_TRACEEXIT) == 0)
		attend(decoy, &decoys);
	show("ready", "yes");
	for (int pid = decoy + 1; !strcmp(mode, "lie") && now() < end; pid++)
		if ((pid = take_next(pid, end, PTRACE_ATTACH, 0)))
			lie(pid, &others);
	for (int pid = decoy + 1; is_exits && others.caught < most && now() < end; pid++)
		if ((pid = take_next(pid, end, PTRACE_SEIZE, PTRACE_O_TRACEEXIT)))
			attend(pid, &others);
	int stopped[4096], count = 0;
	/* On a busy machine until there was one to look at. */
	int *wanted = is_trace ? &others.unready : &others.caught;
	for (long turn = 1; !is_exits && (now() < end || (!*wanted && now() < end + 50)); turn++) {
		if (is_trace && turn % 64 == 0 && *wanted && access("/local/stop", F_OK) == 0)
			break;
		int pid = newcomer();
		if (!strcmp(mode, "threads"))
			keep_threads_going();
		if (!pid)
			continue;
		struct tally *tally = pid == decoy ? &decoys : &others;
		if (is_trace)
			trace(pid, tally);
		else if (!strcmp(mode, "exe"))
			reach(pid, tally);
		else if (!strcmp(mode, "keep")) {
			if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
				show("kept", "%d", pid);
		} else if (!strcmp(mode, "threads")) {
			if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACECLONE) == 0)
				show("kept", "%d", pid);
		} else if (!is_hungry(pid) && kill(pid, SIGSTOP) == 0) {
			tally->caught++;
			if (count < 4096)
				stopped[count++] = pid;
		}
		if (pid != decoy && strcmp(mode, "keep") && strcmp(mode, "threads"))
			while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
				;
		/* Numbers come again. */
		if (pid > MOST - 1000)
			memset(seen, 0, sizeof seen), seen[decoy] = 1;
	}
	while (count > 0)
		kill(stopped[--count], SIGCONT);
	if (!is_exits)
		kill(decoy, SIGKILL);
	report("others", &others);
	report("decoy", &decoys);
	show("done", "yes");
	return 0;
}
