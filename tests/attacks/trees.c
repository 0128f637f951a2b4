/* /dev, /proc, /sys and /etc as a task sees them, and attempts to change or uncover what lies there.
 *
 *   trees look         what is there, and what can be read
 *   trees write        the same, and attempts to write values of the kernel
 *   trees attack       the same, and attempts to change everything else (never outside of a task)
 *   trees nodes DIR... tries to make nodes in each directory, and to open the one called "null" that it finds there
 *   trees use NODE...  opens each node for reading and for writing
 *   trees mark         leaves marks where a channel to other tasks might be, and stays
 *
 * Values are written back as they were read, so that the program is harmless where nothing protects. */
#include "attack.h"
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static const char *const MASKED[] = {
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
	"/sys/devices/virtual/powercap", "/sys/fs/selinux", "/sys/dev/block",
	"/sys/devices/system/cpu/cpu0/thermal_throttle", NULL,
};

static const char *const READ_ONLY[] = {
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
	"/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/sysrq",
	"/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", NULL,
};

static const char *const SECRETS[] = {
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/ssl/private",
	"/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ed25519_key", "/etc/nomad.d", "/etc/consul.d",
	"/etc/vault.d", "/etc/kubernetes", "/etc/krb5.keytab", "/etc/bivouac", "/etc/security/opasswd", NULL,
};

static const char *const NODES[] = {
	"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/fuse", "/dev/sda", "/dev/vda", "/dev/loop-control",
	"/dev/net/tun", "/dev/kvm", "/dev/mapper/control", NULL,
};

static int entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;
	while (dir && (entry = readdir(dir)))
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	if (dir)
		closedir(dir);
	return dir ? count : -1;
}

/* absent, empty or null: nothing can be learnt there. */
static const char *openness(const char *path)
{
	struct stat status;
	if (lstat(path, &status) < 0)
		return errno == ENOENT ? "absent" : "denied";
	if (S_ISDIR(status.st_mode))
		return entries(path) == 0 ? "empty" : "OPEN";
	if (S_ISCHR(status.st_mode))
		return status.st_rdev == makedev(1, 3) ? "null" : "OPEN";
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char byte;
	if (fd < 0)
		return "denied";
	ssize_t got = read(fd, &byte, 1);
	close(fd);
	return got > 0 ? "OPEN" : "empty";
}

static void masks(void)
{
	char name[256];
	int open_ones = 0, secrets = 0;
	for (const char *const *path = MASKED; *path; path++) {
		const char *how = openness(*path);
		snprintf(name, sizeof name, "mask.%s", *path);
		show(name, "%s", how);
		open_ones += !strcmp(how, "OPEN");
	}
	for (const char *const *path = SECRETS; *path; path++) {
		const char *how = openness(*path);
		/* What is left of shadow has locked fields only. */
		if (strstr(*path, "shadow") && !strcmp(how, "OPEN") && !strchr(slurp(*path), '$'))
			how = "locked";
		snprintf(name, sizeof name, "secret.%s", *path);
		show(name, "%s", how);
		secrets += !strcmp(how, "OPEN");
	}
	show("masks.open", "%d", open_ones);
	show("secrets.open", "%d", secrets);
}

static void mounts(void)
{
	static char text[65536];
	strcpy(text, slurp("/proc/self/mountinfo"));
	int suid = 0, devices = 0, cgroups = 0, debug = 0;
	char bad[512] = "";
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char target[256], flags[256], kind[64] = "";
		sscanf(line, "%*s %*s %*s %*s %255s %255s", target, flags);
		char *dash = strstr(line, " - ");
		if (dash)
			sscanf(dash, " - %63s", kind);
		if (!strstr(flags, "nosuid")) {
			suid++;
			snprintf(bad + strlen(bad), sizeof bad - strlen(bad), "%s ", target);
		}
		if (!strstr(flags, "nodev") && strncmp(target, "/dev", 4) && !strstr(target, "/proc/") && !strstr(target, "/sys/"))
			devices++;
		if (!strncmp(kind, "cgroup", 6) && strncmp(flags, "ro", 2))
			cgroups++;
		if (!strcmp(kind, "debugfs") || !strcmp(kind, "tracefs") || !strcmp(kind, "efivarfs") || !strcmp(kind, "bpf"))
			debug++;
	}
	show("mounts.suid", "%d %s", suid, bad);
	show("mounts.devices", "%d", devices);
	show("mounts.cgroup", "%d", cgroups);
	show("mounts.debug", "%d", debug);
	show("debugfs", "%s", openness("/sys/kernel/debug"));
	show("tracefs", "%s", openness("/sys/kernel/tracing"));
	show("bpffs", "%s", openness("/sys/fs/bpf"));
	show("efivars", "%s", openness("/sys/firmware/efi/efivars"));
	show("binfmt", "%s", openness("/proc/sys/fs/binfmt_misc"));
}

static void list(const char *name, const char *path)
{
	char text[4096] = "";
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < count; i++)
		if (names[i]->d_name[0] != '.')
			snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? " " : "", names[i]->d_name);
	show(name, "%s", text);
}

static void node(const char *path)
{
	struct stat status;
	char name[64];
	snprintf(name, sizeof name, "node.%s", path);
	if (stat(path, &status) < 0)
		show(name, "absent");
	else
		show(name, "%u:%u %o %u:%u", major(status.st_rdev), minor(status.st_rdev), status.st_mode & 07777,
		     status.st_uid, status.st_gid);
}

static void look(void)
{
	masks();
	mounts();
	list("list./", "/");
	list("list./dev", "/dev");
	list("list./dev/pts", "/dev/pts");
	list("list./run", "/run");
	list("list./sys/class/net", "/sys/class/net");
	list("list./dev/mqueue", "/dev/mqueue");
	for (const char *path = "/dev/null\0/dev/zero\0/dev/full\0/dev/random\0/dev/urandom\0/dev/tty\0"; *path;
	     path += strlen(path) + 1)
		node(path);
	char value[8];
	TRY("xattr./dev", getxattr("/dev", "trusted.bivouac-test", value, sizeof value));
	struct stat status;
	fstat(0, &status);
	show("stdin", "%u:%u %o", major(status.st_rdev), minor(status.st_rdev), status.st_mode & S_IFMT);
	char name[64];
	for (const char *const *path = NODES; *path; path++) {
		snprintf(name, sizeof name, "open.%s", *path);
		int fd = open(*path, O_RDWR | O_CLOEXEC);
		tell(name, fd);
		if (fd >= 0)
			close(fd);
	}
}

static void write_back(const char *path)
{
	char name[256], value[4096];
	snprintf(name, sizeof name, "write.%s", path);
	snprintf(value, sizeof value, "%s", slurp(path));
	if (!*value)
		snprintf(value, sizeof value, "\n");
	/* "[always] madvise never" is not what is written. */
	char *chosen = strchr(value, '['), *end = chosen ? strchr(chosen, ']') : NULL;
	if (end) {
		*end = 0;
		TRY(name, put(path, chosen + 1));
	} else {
		TRY(name, put(path, value));
	}
}

static void writes(void)
{
	for (const char *const *path = READ_ONLY; *path; path++)
		write_back(*path);
	TRY("oom.raise", put("/proc/self/oom_score_adj", "500"));
	TRY("oom.lower", put("/proc/self/oom_score_adj", "-1"));
}

static void attack(void)
{
	char name[256];
	struct stat status;
	TRY("write.sysrq-trigger", open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC));
	TRY("write.irq", access("/proc/irq/default_smp_affinity", W_OK));
	TRY("write.bus", access("/proc/bus", W_OK));
	TRY("write.fs", access("/proc/fs", W_OK));
	TRY("register.binfmt", open("/proc/sys/fs/binfmt_misc/register", O_WRONLY | O_CLOEXEC));
	for (const char *const *path = MASKED; *path; path++) {
		if (lstat(*path, &status) < 0)
			continue;
		snprintf(name, sizeof name, "chmod.%s", *path);
		TRY(name, chmod(*path, status.st_mode & 07777));
		snprintf(name, sizeof name, "xattr.%s", *path);
		TRY(name, setxattr(*path, "trusted.bivouac-test", "x", 1, 0));
		snprintf(name, sizeof name, "umount.%s", *path);
		TRY(name, umount2(*path, MNT_DETACH));
		snprintf(name, sizeof name, "unlink.%s", *path);
		TRY(name, S_ISDIR(status.st_mode) ? rmdir(*path) : unlink(*path));
		if (S_ISDIR(status.st_mode)) {
			char inside[300];
			snprintf(inside, sizeof inside, "%s/planted", *path);
			snprintf(name, sizeof name, "mkdir.%s", *path);
			TRY(name, mkdir(inside, 0777));
		}
	}
	TRY("stdin.chmod", fchmod(0, 0666));
	TRY("stdin.chown", fchown(0, 0, 0));
	TRY("mknod.block", mknod("/local/block", S_IFBLK | 0666, makedev(8, 0)));
	TRY("mknod.mem", mknod("/local/mem", S_IFCHR | 0666, makedev(1, 1)));
	TRY("mknod.dev", mknod("/dev/mem", S_IFCHR | 0666, makedev(1, 1)));
	TRY("mknod.fifo", mknod("/local/fifo", S_IFIFO | 0666, 0));
	TRY("mknod.null", mknod("/dev/null2", S_IFCHR | 0666, makedev(1, 3)));
	TRY("sys.mkdir", mkdir("/sys/fs/cgroup/planted", 0755));
	TRY("proc.mount", mount("proc", "/tmp", "proc", 0, NULL));
	TRY("cgroup.mount", mount("cgroup", "/tmp", "cgroup", 0, "pids"));
	TRY("cgroup2.mount", mount("cgroup2", "/tmp", "cgroup2", 0, NULL));
}

/* On the host everything is tried with numbers that nobody misses: the first disk is not opened. */
static void nodes(const char *dir)
{
	static const struct { const char *name; mode_t mode; unsigned major, minor; } all[] = {
		{ "block", S_IFBLK, 8, 0 }, { "mem", S_IFCHR, 1, 1 }, { "char", S_IFCHR, 1, 3 }, { "full", S_IFCHR, 1, 7 },
		{ "kmsg", S_IFCHR, 1, 11 }, { "whiteout", S_IFCHR, 0, 0 }, { "fifo", S_IFIFO, 0, 0 },
	};
	char name[300], path[300];
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		snprintf(name, sizeof name, "%s.%s", all[i].name, dir);
		snprintf(path, sizeof path, "%s/made-%s", dir, all[i].name);
		TRY(name, mknod(path, all[i].mode | 0666, makedev(all[i].major, all[i].minor)));
	}
	snprintf(name, sizeof name, "open.%s", dir);
	snprintf(path, sizeof path, "%s/null", dir);
	TRY(name, open(path, O_RDWR | O_CLOEXEC));
	snprintf(name, sizeof name, "use.%s", dir);
	snprintf(path, sizeof path, "%s/made-char", dir);
	TRY(name, open(path, O_RDWR | O_CLOEXEC));
}

static void use(const char *path)
{
	char name[300];
	snprintf(name, sizeof name, "read.%s", path);
	TRY(name, open(path, O_RDONLY | O_CLOEXEC));
	snprintf(name, sizeof name, "write.%s", path);
	TRY(name, open(path, O_WRONLY | O_CLOEXEC));
}

static void mark(void)
{
	TRY("mark.dev", plant("/dev/planted", "here", 0666));
	TRY("mark.null", chmod("/dev/null", 0600));
	TRY("mark.zero", chown("/dev/zero", 4321, 4321));
	TRY("mark.xattr", setxattr("/dev", "trusted.bivouac-test", "x", 1, 0));
	TRY("mark.shm", plant("/dev/shm/planted", "here", 0666));
	TRY("mark.mqueue", open("/dev/mqueue/planted", O_CREAT | O_RDWR, 0666));
	TRY("mark.tmp", plant("/tmp/planted", "here", 0666));
	int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
	tell("mark.ptmx", terminal);
	list("list./dev/pts", "/dev/pts");
	list("list./sys/class/net", "/sys/class/net");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "look";
	if (!strcmp(mode, "nodes") || !strcmp(mode, "use")) {
		for (int i = 2; i < argc; i++)
			(*mode == 'n' ? nodes : use)(argv[i]);
		return 0;
	}
	look();
	if (!strcmp(mode, "attack") || !strcmp(mode, "write"))
		writes();
	if (!strcmp(mode, "attack"))
		attack();
	if (!strcmp(mode, "mark")) {
		mark();
		return stay();
	}
	return strcmp(mode, "stay") ? 0 : stay();
}
