/* Process 1 of the virtual machine: mounts what a machine has, starts programs, reaps, and turns the machine off.
 *
 * `/run/init` is a fifo: each line is a command that it starts, as a service manager does, in a session of its own, as
 * its own child. A line "off" is the end. The first command is the kernel's own arguments to init, joined.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void mounted(const char *kind, const char *where, const char *options)
{
	mkdir(where, 0755);
	if (mount(kind, where, kind, 0, options) && errno != EBUSY)
		printf("init: cannot mount %s at %s: %s\n", kind, where, strerror(errno));
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		printf("init: cannot bring up lo: %s\n", strerror(errno));
	close(fd);
}

static void off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT); /* the kernel has no way to turn it off: the emulator ends at a reboot as well */
}

static void start(const char *command)
{
	sigset_t none;

	if (fork())
		return;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

static void obey(int fifo)
{
	static char line[4096];
	static size_t have;
	char *end;
	ssize_t got = read(fifo, line + have, sizeof(line) - 1 - have);

	if (got <= 0)
		return;
	line[have += got] = 0;
	while ((end = strchr(line, '\n'))) {
		*end = 0;
		if (!strcmp(line, "off"))
			off();
		start(line);
		have -= end + 1 - line;
		memmove(line, end + 1, have + 1);
	}
}

int main(int argc, char **argv)
{
	static char first[4096];
	struct pollfd from[2] = { { .events = POLLIN }, { .events = POLLIN } };
	sigset_t child;
	char drop[512];

	umask(022);
	mounted("proc", "/proc", "");
	mounted("sysfs", "/sys", "");
	mounted("devtmpfs", "/dev", "");
	mounted("devpts", "/dev/pts", "ptmxmode=0666");
	mounted("tmpfs", "/dev/shm", "mode=1777");
	mounted("tmpfs", "/run", "mode=755");
	mounted("tmpfs", "/tmp", "mode=1777");
	mounted("cgroup2", "/sys/fs/cgroup", "");
	loopback_up();
	setvbuf(stdout, NULL, _IONBF, 0);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("LANG", "C.UTF-8", 1);
	if (chdir("/pidwarden"))
		perror("init: /pidwarden");

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	from[0].fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	mkfifo("/run/init", 0600);
	from[1].fd = open("/run/init", O_RDWR | O_CLOEXEC); /* also a writer, so it never ends */
	for (int i = 1; i < argc; i++) {
		strncat(first, argv[i], sizeof(first) - strlen(first) - 2);
		strcat(first, " ");
	}
	start(*first ? first : "/venv/bin/python /pidwarden/tests/vm/guest/start.py; echo off > /run/init");

	for (;;) {
		poll(from, 2, -1);
		if (from[0].revents) {
			while (read(from[0].fd, drop, sizeof(drop)) > 0)
				;
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		}
		if (from[1].revents)
			obey(from[1].fd);
	}
}
