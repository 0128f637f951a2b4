/* Socket families by every entry of the kernel, and what sockets reach.
 *
 *   sockets families            each family natively, by the 32-bit call, and by socketcall
 *   sockets serve NAME PORT     listens on an abstract name and a port, and stays
 *   sockets call NAME PORT      tries to reach them, and to take the same */
#include "attack.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef __x86_64__
static long by_32_bit(long number, long a, long b, long c)
{
	long answer;
	__asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	answer = (int)answer;
	if (answer < 0) {
		errno = -answer;
		return -1;
	}
	return answer;
}
#endif

static int kind_of(int family)
{
	return family == AF_NETLINK || family == AF_PACKET ? SOCK_RAW : SOCK_STREAM;
}

static void families(void)
{
	char name[64];
	for (int family = 0; family < 48; family++) {
		int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET };
		int fd = -1, error = 0;
		for (int i = 0; i < 4 && fd < 0; i++) {
			fd = socket(family, types[i] | SOCK_CLOEXEC, 0);
			/* What a filter says does not depend on the type; what the kernel says may. */
			if (fd < 0 && (i == 0 || errno == EPERM))
				error = errno;
		}
		errno = error;
		snprintf(name, sizeof name, "family.%d", family);
		tell(name, fd);
		if (fd >= 0)
			close(fd);
	}
#ifdef __x86_64__
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		for (int family = 0; family < 48; family++) {
			snprintf(name, sizeof name, "family32.%d", family);
			errno = 0;
			long fd = by_32_bit(359, family, kind_of(family), 0);
			tell(name, fd);
			if (fd >= 0)
				close(fd);
		}
		unsigned *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		for (int family = 0; family < 48; family++) {
			args[0] = family, args[1] = kind_of(family), args[2] = 0;
			snprintf(name, sizeof name, "socketcall.%d", family);
			errno = 0;
			long fd = by_32_bit(102, 1, (long)args, 0);
			tell(name, fd);
			if (fd >= 0)
				close(fd);
		}
		_exit(0);
	}
	int how;
	waitpid(child, &how, 0);
	show("entry32", "%s", WIFEXITED(how) ? "there" : "absent");
#else
	show("entry32", "absent");
#endif
	int pair[2];
	TRY("pair.unix", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	TRY("pair.tipc", socketpair(30, SOCK_STREAM, 0, pair));
}

/* Asks the kernel for the list of links, and to set one down. */
static long netlink(int protocol, int type, int flags)
{
	struct { struct nlmsghdr head; struct ifinfomsg body; } ask = {
		.head = { sizeof ask, type, NLM_F_REQUEST | flags, 1, 0 },
		.body = { .ifi_family = AF_UNSPEC, .ifi_index = 1, .ifi_change = 1 },
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -1;
	if (send(fd, &ask, sizeof ask, 0) < 0)
		return -1;
	struct { struct nlmsghdr head; char rest[16384]; } answer;
	if (recv(fd, &answer, sizeof answer, 0) < 0)
		return -1;
	close(fd);
	if (answer.head.nlmsg_type != NLMSG_ERROR)
		return 0;
	errno = -((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
	return errno ? -1 : 0;
}

static socklen_t abstract(struct sockaddr_un *address, const char *name)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path + 1, name);
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "families";
	if (!strcmp(mode, "families")) {
		families();
		TRY("raw", socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
		TRY("packet", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
		TRY("route.read", netlink(NETLINK_ROUTE, RTM_GETLINK, NLM_F_DUMP));
		TRY("route.write", netlink(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_ACK));
		TRY("audit", netlink(9, 1000, NLM_F_ACK));
		return 0;
	}
	struct sockaddr_un name;
	socklen_t length = abstract(&name, argv[2]);
	struct sockaddr_in port = { AF_INET, htons(atoi(argv[3])), { htonl(INADDR_LOOPBACK) }, { 0 } };
	int local = socket(AF_UNIX, SOCK_STREAM, 0), inet = socket(AF_INET, SOCK_STREAM, 0);
	if (!strcmp(mode, "call")) {
		TRY("connect.name", connect(local, (void *)&name, length));
		TRY("connect.port", connect(inet, (void *)&port, sizeof port));
		local = socket(AF_UNIX, SOCK_STREAM, 0), inet = socket(AF_INET, SOCK_STREAM, 0);
	}
	TRY("bind.name", bind(local, (void *)&name, length));
	TRY("bind.port", bind(inet, (void *)&port, sizeof port));
	listen(local, 1), listen(inet, 1);
	int queue = syscall(SYS_msgget, 4711, 01000 | 0666);
	tell("queue", queue);
	return strcmp(mode, "serve") ? 0 : stay();
}
