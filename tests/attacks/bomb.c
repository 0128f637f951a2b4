/* Bombs: one resource at a time is taken until the kernel says no. Tells how many there were, and the refusal.
 *
 *   bomb fork|zombie|fd|pty|inotify|epoll|mq|sysv|timer|sigqueue|thread   until refused
 *   bomb memory KIND MIB      takes memory as KIND: anonymous, shm, tmpfs, memfd, mlock, pipe
 *   bomb disk DIR MIB         writes a file until refused or MIB are written
 *   bomb inodes DIR COUNT     makes empty files
 *   bomb deep DIR COUNT       makes a tree so deep, with odd names, and an immutable file
 *   bomb forever              forks without end, in sessions of their own
 *   bomb log MIB              writes to its output
 *   bomb args BYTES           starts itself with one argument of so many bytes */
#include "attack.h"
#include <mqueue.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <linux/fs.h>

static const char *kind;

static long take(void)
{
	static int number;
	char name[64];
	number++;
	if (!strcmp(kind, "fork") || !strcmp(kind, "zombie")) {
		pid_t child = fork();
		if (child == 0) {
			if (!strcmp(kind, "fork"))
				pause();
			_exit(0);
		}
		return child;
	}
	if (!strcmp(kind, "fd"))
		return dup(1);
	if (!strcmp(kind, "pty"))
		return open("/dev/ptmx", O_RDWR | O_NOCTTY);
	if (!strcmp(kind, "inotify"))
		return inotify_init1(0);
	if (!strcmp(kind, "epoll"))
		return epoll_create1(0);
	if (!strcmp(kind, "mq")) {
		snprintf(name, sizeof name, "/queue-%d", number);
		struct mq_attr attributes = { .mq_maxmsg = 10, .mq_msgsize = 8192 };
		return mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
	}
	if (!strcmp(kind, "sysv"))
		return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	if (!strcmp(kind, "timer")) {
		timer_t timer;
		struct sigevent event = { .sigev_notify = SIGEV_NONE };
		return timer_create(CLOCK_MONOTONIC, &event, &timer);
	}
	if (!strcmp(kind, "sigqueue"))
		return sigqueue(getpid(), SIGRTMIN, (union sigval){ 0 });
	errno = EINVAL;
	return -1;
}

static void *sleeper(void *nothing)
{
	pause();
	return nothing;
}

static void threads(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int count = 0, error;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	while ((error = pthread_create(&thread, &attributes, sleeper, NULL)) == 0 && count < 100000)
		count++;
	errno = error;
	show("count", "%d", count);
	tell("bomb", error ? -1 : 0);
}

static void until_refused(long most)
{
	long count = 0;
	signal(SIGRTMIN, SIG_IGN);
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &block, NULL);
	errno = 0;
	while (count < most && take() >= 0)
		count++;
	int error = errno;
	show("count", "%ld", count);
	errno = error;
	tell("bomb", count < most ? -1 : 0);
}

static void memory(const char *how, long mib)
{
	char *chunk;
	int fd = -1;
	if (!strcmp(how, "shm"))
		fd = open("/dev/shm/big", O_CREAT | O_RDWR, 0600);
	if (!strcmp(how, "tmpfs"))
		fd = open("/memory/big", O_CREAT | O_RDWR, 0600);
	if (!strcmp(how, "memfd"))
		fd = memfd_create("big", 0);
	long got = 0;
	static char data[1 << 20];
	memset(data, 7, sizeof data);
	errno = 0;
	for (; got < mib; got++) {
		if (!strcmp(how, "pipe")) {
			/* Each holds as much as it may. */
			int ends[2];
			if (pipe(ends) < 0)
				break;
			fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
			fcntl(ends[1], F_SETFL, O_NONBLOCK);
			if (write(ends[1], data, sizeof data) < 0)
				break;
			continue;
		}
		if (fd >= 0) {
			if (write(fd, data, sizeof data) != sizeof data)
				break;
			continue;
		}
		chunk = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (chunk == MAP_FAILED || (!strcmp(how, "mlock") && mlock(chunk, 1 << 20) < 0))
			break;
		memset(chunk, 7, 1 << 20);
	}
	int error = errno;
	show("count", "%ld", got);
	errno = error;
	tell("bomb", got < mib ? -1 : 0);
}

static void deep(const char *top, long count)
{
	chdir(top);
	long made = 0;
	char odd[] = "a\nb\001c \"d\" \\e";
	for (; made < count; made++) {
		if (mkdir(odd, 0700) < 0 || chdir(odd) < 0)
			break;
	}
	show("count", "%ld", made);
	int fd = open("immutable", O_CREAT | O_RDWR, 0600), flags = FS_IMMUTABLE_FL;
	TRY("immutable", ioctl(fd, FS_IOC_SETFLAGS, &flags));
	tell("bomb", made == count ? 0 : -1);
}

int main(int argc, char **argv)
{
	kind = argc > 1 ? argv[1] : "fork";
	long number = argc > 3 ? atol(argv[3]) : argc > 2 ? atol(argv[2]) : 0;
	if (!strcmp(kind, "thread"))
		threads();
	else if (!strcmp(kind, "memory"))
		memory(argv[2], number);
	else if (!strcmp(kind, "disk") || !strcmp(kind, "log")) {
		static char data[1 << 20];
		memset(data, 'x', sizeof data);
		char path[512];
		snprintf(path, sizeof path, "%s/full", argc > 2 ? argv[2] : "");
		int fd = !strcmp(kind, "log") ? 1 : open(path, O_CREAT | O_WRONLY, 0600);
		long wrote = 0;
		errno = 0;
		while (wrote < number && write(fd, data, sizeof data) == sizeof data)
			wrote++;
		int error = errno;
		if (fd != 1) {
			show("count", "%ld", wrote);
			errno = error;
			tell("bomb", wrote < number ? -1 : 0);
		}
	} else if (!strcmp(kind, "inodes")) {
		long made = 0;
		char path[512];
		for (; made < number; made++) {
			snprintf(path, sizeof path, "%s/%ld", argv[2], made);
			int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
			if (fd < 0)
				break;
			close(fd);
		}
		show("count", "%ld", made);
		tell("bomb", made < number ? -1 : 0);
	} else if (!strcmp(kind, "deep"))
		deep(argv[2], number);
	else if (!strcmp(kind, "forever")) {
		show("ready", "yes");
		signal(SIGTERM, SIG_IGN);
		for (;;)
			if (fork() == 0)
				setsid();
	} else if (!strcmp(kind, "args")) {
		char *big = malloc(number + 1), *again[] = { "/bomb", "none", big, NULL };
		memset(big, 'x', number);
		big[number] = 0;
		TRY("bomb", execv("/bomb", again));
	} else
		until_refused(200000);
	return argc > 2 && !strcmp(argv[argc - 1], "stay") ? stay() : 0;
}
