/* Descriptors, working directory, environment: what a process of a task was handed.
 *
 *   fds look            what it has
 *   fds stay            the same, and stays
 *   fds outside DIR     the same as one who was let in carelessly: its root is DIR, its directory is not
 *   fds link AT TO      removes the directory AT and puts a link to TO in its place */
#include "attack.h"

static void look(void)
{
	char all[1024] = "", name[64], path[PATH_MAX];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int number = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || number == dirfd(dir))
			continue;
		snprintf(all + strlen(all), sizeof all - strlen(all), "%s%d", *all ? " " : "", number);
		snprintf(name, sizeof name, "/proc/self/fd/%d", number);
		ssize_t length = readlink(name, path, sizeof path - 1);
		path[length < 0 ? 0 : length] = 0;
		snprintf(name, sizeof name, "fd.%d", number);
		show(name, "%s", path);
		struct stat status;
		fstat(number, &status);
		snprintf(name, sizeof name, "kind.%d", number);
		show(name, "%o %lx %u", status.st_mode & S_IFMT, (long)status.st_rdev, status.st_uid);
	}
	if (dir)
		closedir(dir);
	show("fds", "%s", all);
	int again = open("/proc/self/fd/1", O_WRONLY | O_CLOEXEC | O_NOCTTY);
	tell("reopen", again);
	if (again >= 0)
		close(again);

	/* getcwd tells "(unreachable)" for a directory outside of the root. */
	long length = syscall(SYS_getcwd, path, sizeof path);
	show("cwd", "%s", length > 0 ? path : "none");
	struct stat root, here;
	stat("/", &root);
	for (int step = 0; step < 100; step++)
		if (chdir("..") < 0)
			break;
	stat(".", &here);
	show("climb", "%s", root.st_ino == here.st_ino && root.st_dev == here.st_dev ? "top" : "ESCAPED");
	show("arrived", "%s", access("fds", X_OK) == 0 ? "in the task's root" : "elsewhere");
	for (const char *outside = "/proc/self/fd/3\0/proc/self/fd/4\0/proc/self/fd/5\0/proc/self/fd/6\0"; *outside;
	     outside += strlen(outside) + 1) {
		snprintf(name, sizeof name, "enter.%c", outside[strlen(outside) - 1]);
		TRY(name, chdir(outside));
	}
	chdir("/");
}

static void marked(void)
{
	extern char **environ;
	int bad = 0;
	for (char **entry = environ; *entry; entry++)
		bad += strstr(*entry, "CANARY") != NULL;
	show("environ.canary", "%d", bad);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "look";
	if (!strcmp(mode, "link") && argc > 3) {
		rmdir(argv[2]);
		unlink(argv[2]);
		TRY("link", symlink(argv[3], argv[2]));
		return 0;
	}
	if (!strcmp(mode, "outside") && argc > 2) {
		int top = open("/", O_RDONLY | O_DIRECTORY);
		TRY("chroot", chroot(argv[2]));
		TRY("stay", fchdir(top));
	}
	look();
	marked();
	show("argv0", "%s", argc > 0 ? argv[0] : "none");
	return strcmp(mode, "stay") ? 0 : stay();
}
