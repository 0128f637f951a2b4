/* The root, what is mounted in it, and races for what it is made of.
 *
 *   root flip A B          exchanges A and B until it is ended
 *   root write DIR...      tries to change each directory and the files that the host has there
 *   root look PATH...      what is at each path, links not followed
 *   root read PATH...      the content behind each path, links followed
 *   root mounts            what is mounted, and the own oom_score_adj
 *   root hold DIR          keeps a file and DIR open, tells once a second what they hold, and changes both at the end,
 *                          when there is /local/stop */
#include "attack.h"
#include <sys/vfs.h>
#include <sys/xattr.h>

static void each(const char *what, int count, char **paths, void (*act)(const char *name, const char *path))
{
	char name[512];
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%s.%s", what, paths[i]);
		act(name, paths[i]);
	}
}

static void look(const char *name, const char *path)
{
	struct stat status;
	if (lstat(path, &status) < 0)
		show(name, "%s", strerrorname_np(errno));
	else
		show(name, "%o %u:%u ino %lu dev %lu", status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_dev);
}

static void content(const char *name, const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		show(name, "%s", strerrorname_np(errno));
		return;
	}
	close(fd);
	show(name, "%.200s", slurp(path));
}

static void change(const char *name, const char *path)
{
	char at[512], what[600];
	(void)name;
#define AT(leaf) (snprintf(at, sizeof at, "%s/%s", path, leaf), at)
#define NAME(text) (snprintf(what, sizeof what, "%s.%s", text, path), what)
	TRY(NAME("create"), plant(AT("planted-by-a-task"), "mine", 0644));
	TRY(NAME("mkdir"), mkdir(AT("planted-directory"), 0755));
	TRY(NAME("overwrite"), put(AT("marker"), "the task's"));
	TRY(NAME("chmod"), chmod(AT("marker"), 0666));
	TRY(NAME("chown"), chown(AT("marker"), 4321, 4321));
	TRY(NAME("link"), link(AT("marker"), "/local/linked"));
	TRY(NAME("rename"), rename(AT("moved"), strdup(AT("moved-away"))));
	TRY(NAME("unlink"), unlink(AT("doomed")));
	TRY(NAME("top"), chmod(path, 0777));
	TRY(NAME("suid"), plant(AT("suid"), "x", 04755));
	TRY(NAME("redirect"), setxattr(AT("planted-directory"), "trusted.overlay.redirect", "/secret", 7, 0));
	TRY(NAME("opaque"), setxattr(AT("planted-directory"), "trusted.overlay.opaque", "y", 1, 0));
	TRY(NAME("caps"), setxattr(AT("planted-by-a-task"), "security.capability",
				   "\1\0\0\2\377\377\377\377\0\0\0\0\377\377\377\377\0\0\0\0", 20, 0));
	TRY(NAME("whiteout"), mknod(AT("whiteout"), S_IFCHR, 0));
}

static void hold(const char *dir)
{
	char path[512], name[64];
	snprintf(path, sizeof path, "%s/file", dir);
	int file = open(path, O_RDONLY), top = open(dir, O_RDONLY | O_DIRECTORY);
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
	chdir(dir);
	show("ready", "yes");
	for (int turn = 0;; turn++) {
		char line[32];
		if (read(0, line, sizeof line) <= 0)
			nap(200);
		snprintf(name, sizeof name, "held");
		char text[16] = "";
		pread(file, text, 8, 0);
		show(name, "%s map %.8s top %d now %s", text, map == MAP_FAILED ? "none" : (char *)map,
		     openat(top, "file", O_RDONLY) >= 0, slurp(path));
		if (access("/local/stop", F_OK) == 0)
			break;
	}
	TRY("held.write", plant("file", "the task's", 0644));
	TRY("held.create", plant("other", "the task's", 0644));
	TRY("held.mkdir", mkdir("directory", 0755));
	TRY("held.chmod", chmod("other", 0600));
	TRY("held.rename", rename("other", "moved"));
	TRY("held.unlink", unlink("file"));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "flip") && argc > 3) {
		show("ready", "yes");
		for (;;)
			renameat2(AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE);
	}
	if (!strcmp(mode, "write"))
		each("write", argc - 2, argv + 2, change);
	if (!strcmp(mode, "look"))
		each("look", argc - 2, argv + 2, look);
	if (!strcmp(mode, "read"))
		each("read", argc - 2, argv + 2, content);
	if (!strcmp(mode, "mounts")) {
		show("oom", "%s", slurp("/proc/self/oom_score_adj"));
		printf("%s", slurp("/proc/self/mountinfo"));
	}
	if (!strcmp(mode, "hold") && argc > 2)
		hold(argv[2]);
	if (!strcmp(mode, "stay"))
		return stay();
	return 0;
}
