/* Terminals: what a task's own is, and attempts to type into it for somebody else.
 *
 *   tty look     what descriptors 0 to 2 are
 *   tty push     pushes input and changes the line
 *   tty spoil    the same, and changes the size and the mode for whoever comes next */
#include "attack.h"
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

int main(int argc, char **argv)
{
	char name[64];
	for (int number = 0; number < 3; number++) {
		struct stat status;
		fstat(number, &status);
		snprintf(name, sizeof name, "stream.%d", number);
		show(name, "%o %u:%u owner %u mode %o tty %d", status.st_mode & S_IFMT, major(status.st_rdev),
		     minor(status.st_rdev), status.st_uid, status.st_mode & 0777, isatty(number));
	}
	struct winsize size = { 0 };
	ioctl(0, TIOCGWINSZ, &size);
	show("size", "%dx%d", size.ws_row, size.ws_col);
	show("name", "%s", ttyname(0) ?: "none");
	show("session", "%s", getsid(0) == getpid() ? "own" : "other");
	show("controlling", "%d", tcgetsid(0) == getpid());
	int again = open("/dev/tty", O_RDWR | O_CLOEXEC);
	tell("dev.tty", again);
	again = open("/proc/self/fd/0", O_RDWR | O_CLOEXEC | O_NOCTTY);
	tell("reopen", again);
	again = open("/dev/console", O_RDWR | O_CLOEXEC | O_NOCTTY);
	tell("console", again);
	int spoils = argc > 1 && !strcmp(argv[1], "spoil");
	if (spoils || (argc > 1 && !strcmp(argv[1], "push"))) {
		const unsigned long high = 1UL << 32;
		char letter = 'x', paste = 3;
		int line = 0;
		TRY("TIOCSTI", syscall(SYS_ioctl, 0, (unsigned long)TIOCSTI, &letter));
		TRY("TIOCSTI.high", syscall(SYS_ioctl, 0, high | TIOCSTI, &letter));
		TRY("TIOCLINUX", syscall(SYS_ioctl, 0, (unsigned long)TIOCLINUX, &paste));
		TRY("TIOCLINUX.high", syscall(SYS_ioctl, 0, high | TIOCLINUX, &paste));
		TRY("TIOCSETD", syscall(SYS_ioctl, 0, (unsigned long)TIOCSETD, &line));
		int queued = -1;
		ioctl(0, FIONREAD, &queued);
		show("queued", "%d", queued);
	}
	if (spoils) {
		struct termios mode;
		struct winsize small = { .ws_row = 7, .ws_col = 7 };
		TRY("resize", ioctl(0, TIOCSWINSZ, &small));
		tcgetattr(0, &mode);
		cfmakeraw(&mode);
		TRY("raw", tcsetattr(0, TCSANOW, &mode));
	}
	return 0;
}
