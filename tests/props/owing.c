/*
 * owing MODE [FILE]: parents with a zombie that are held up in odd ways. Says its own pid and another that matters, then
 * goes where it stays. Whoever kills the other one takes the cause away.
 *
 *   lock-heir FILE   flock(2) of a file that a process locked which is gone: its child has the lock
 *   lock-own FILE    flock(2) of a file that it locked itself, with another descriptor
 *   ofd FILE         a lock of an open file that another has         ofd-posix FILE   the same, of a process's lock
 *   udp, netlink, dgram, terminal, kmsg        reads what anybody may send, a terminal, the kernel's log
 *   connect FILE     to a Unix socket that accepts nobody
 *   headless         its first thread has ended, another waits for a child by its pidfd
 *   silent           waits for any child; one that was made without an exit signal ended
 *   mixed            does not wait; one of its four had another exit signal
 *   polls            waits with WNOHANG for a child that lives
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t other;

static pid_t ended(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		_exit(7);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	return pid;
}

static pid_t clone_with(int signal)
{
	struct clone_args args = { .exit_signal = signal };
	siginfo_t info;
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);

	if (pid == 0)
		_exit(7);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL);
	return pid;
}

static void stay(void)
{
	for (;;)
		pause();
}

/* A child that stays, until it is killed or this process ends. */
static pid_t living(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stay();
	return 0;
}

static void say(void)
{
	printf("%d %d\n", getpid(), other);
	fflush(stdout);
}

/* A child that has done something with a file, and stays. */
static int holder(const char *file, void (*take)(int))
{
	int ends[2], fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char c;

	if (pipe(ends))
		exit(1);
	other = fork();
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "holder");
		close(fd);
		take(open(file, O_RDWR));
		close(ends[0]);
		close(ends[1]);
		stay();
	}
	close(ends[1]);
	if (read(ends[0], &c, 1))
		exit(1);
	return fd;
}

static void take_whole(int fd)
{
	flock(fd, LOCK_EX);
}

/* The lock is taken by somebody who ends, and is left to his child. */
static void take_by_another(int fd)
{
	if (fork() == 0) {
		flock(fd, LOCK_EX);
		_exit(0);
	}
	wait(NULL);
}

static void take_of_file(int fd)
{
	struct flock lock = { .l_type = F_WRLCK };

	fcntl(fd, F_OFD_SETLK, &lock);
}

static void take_of_process(int fd)
{
	struct flock lock = { .l_type = F_WRLCK };

	fcntl(fd, F_SETLK, &lock);
}

static void *wait_by_pidfd(void *unused)
{
	siginfo_t info;
	int fd;

	other = living();
	say();
	ended();
	fd = syscall(SYS_pidfd_open, other, 0);
	waitid(P_PIDFD, fd, &info, WEXITED);
	stay();
	return unused;
}

static int bound(int family, int type, int protocol, void *address, socklen_t size)
{
	int fd = socket(family, type, protocol);

	if (bind(fd, address, size))
		exit(1);
	return fd;
}

static void read_from(int fd)
{
	char text[4096];

	say();
	ended();
	while (read(fd, text, sizeof text) >= 0)
		;
	stay();
}

static void connects(const char *file)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server;

	strncpy(address.sun_path, file, sizeof address.sun_path - 1);
	server = bound(AF_UNIX, SOCK_STREAM, 0, &address, sizeof address);
	listen(server, 0);
	say();
	ended();
	for (;;)
		if (connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address))
			stay();
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *file = argc > 2 ? argv[2] : "";
	struct flock lock = { .l_type = F_WRLCK };
	int fd = -1, end;

	if (!strcmp(mode, "lock-heir") || !strcmp(mode, "lock-own")) {
		if (!strcmp(mode, "lock-heir"))
			fd = holder(file, take_by_another);
		else
			take_whole(open(file, O_RDWR | O_CREAT, 0600));
		say();
		ended();
		flock(open(file, O_RDWR), LOCK_EX);
	} else if (!strncmp(mode, "ofd", 3)) {
		fd = holder(file, strcmp(mode, "ofd") ? take_of_process : take_of_file);
		say();
		ended();
		fcntl(fd, F_OFD_SETLKW, &lock);
	} else if (!strcmp(mode, "udp")) {
		struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

		read_from(bound(AF_INET, SOCK_DGRAM, 0, &address, sizeof address));
	} else if (!strcmp(mode, "netlink")) {
		struct sockaddr_nl address = { .nl_family = AF_NETLINK };

		read_from(bound(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &address, sizeof address));
	} else if (!strcmp(mode, "dgram")) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };

		read_from(bound(AF_UNIX, SOCK_DGRAM, 0, &address, sizeof address.sun_family));
	} else if (!strcmp(mode, "terminal")) {
		if (openpty(&end, &fd, NULL, NULL, NULL))
			return 1;
		read_from(fd);
	} else if (!strcmp(mode, "kmsg")) {
		fd = open("/dev/kmsg", O_RDONLY);
		lseek(fd, 0, SEEK_END);
		read_from(fd);
	} else if (!strcmp(mode, "connect")) {
		connects(file);
	} else if (!strcmp(mode, "headless")) {
		pthread_t thread;

		pthread_create(&thread, NULL, wait_by_pidfd, NULL);
		pthread_exit(NULL);
	} else if (!strcmp(mode, "silent")) {
		other = living();
		say();
		clone_with(0);
		while (waitpid(-1, NULL, 0) > 0)
			;
	} else if (!strcmp(mode, "mixed")) {
		say();
		clone_with(SIGURG);
		for (int n = 0; n < 3; n++)
			ended();
	} else if (!strcmp(mode, "polls")) {
		other = living();
		say();
		ended();
		while (waitpid(other, NULL, WNOHANG) == 0)
			usleep(1000);
	}
	stay();
}
