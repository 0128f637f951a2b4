/* What the attack programs share: each check prints one line.
 *
 *   NAME RESULT ERRNO     an attempt: 0 or -1, and the error's name (OK when it worked)
 *   NAME = TEXT           something seen
 *
 * They are static: nothing of the task's root decides whether an attack is possible. */
#ifndef ATTACK_H
#define ATTACK_H
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

static inline void tell(const char *name, long result)
{
	int error = errno;
	if (result >= 0)
		printf("%s 0 OK\n", name);
	else
		printf("%s -1 %s\n", name, strerrorname_np(error) ?: "E?");
	fflush(stdout);
}

static inline void show(const char *name, const char *format, ...)
{
	char text[4096];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	for (char *c = text; *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	for (char *end = text + strlen(text); end > text && end[-1] == ' ';)
		*--end = 0;
	printf("%s = %s\n", name, text);
	fflush(stdout);
}

#define TRY(name, call) do { errno = 0; long tried = (long)(call); tell(name, tried); } while (0)

/* A whole small file as text; empty when it cannot be read. */
static inline const char *slurp(const char *path)
{
	static char text[65536];
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	size_t have = 0;
	ssize_t got;
	while (fd >= 0 && have < sizeof text - 1 && (got = read(fd, text + have, sizeof text - 1 - have)) > 0)
		have += got;
	if (fd >= 0)
		close(fd);
	text[have] = 0;
	return text;
}

static inline int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t wrote = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	errno = error;
	return wrote < 0 ? -1 : 0;
}

/* Writes a new file, whole. */
static inline int plant(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return -1;
	ssize_t wrote = write(fd, text, strlen(text));
	fchmod(fd, mode);
	close(fd);
	return wrote < 0 ? -1 : 0;
}

static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static inline void nap(long milliseconds)
{
	struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

/* Says that it is ready and stays until it is ended. */
static inline int stay(void)
{
	show("ready", "yes");
	while (1)
		pause();
	return 0;
}
#endif
