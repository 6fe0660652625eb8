/*
 * blocked WHAT [ARGUMENT]: processes that wait for each other. Says who they are, two numbers a line, the last line "0 0",
 * and keeps them there until its standard input has a line or ends. A waits for B, B for C.
 *
 *   wait            A B, B C: A in wait4(-1), B in wait4(C), C in pause
 *   group           A B, C 0: A in wait4(-B): C is a child as well, of another group
 *   vfork           A B: B stopped itself before it called exec
 *   pipe-stopped    A B: A reads from a pipe that B may write into, who is stopped
 *   full            A B: A writes into a pipe that B does not read from, in pause
 *   select, poll, epoll   A B: the same as pipe-stopped, in those
 *   pipes           A B: each reads from a pipe that the other one has
 *   own-pipe        A 0: A has both ends of the pipe it reads from
 *   chain N         A B: N processes, each reads from a pipe of the next one; B is the last, in nanosleep
 *   fan N           A N: N writers of a pipe, in pause
 *   unix, eventfd   A B: B has the other end, in pause
 *   unaccepted PATH A B: A is connected to B, who accepts nobody, and reads
 *   tcp             A B: over loopback
 *   listen          A 0: A in accept
 *   fifo PATH       A 0: A opens it to read
 *   pidfd           A B: A polls a pidfd of B, in pause
 *   traced          A B: A stands still for its tracer B, in pause
 *   name            A B: as wait, B has a hostile name
 */
#include "blocked.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* -- children ----------------------------------------------------------------------------------------------------- */

static void waits_for_pauser(void)
{
	pid_t pid = born(rest);

	ready(getpid());
	ready(pid);
	waitpid(pid, NULL, 0);
}

static void waits_for_any(void)
{
	born(waits_for_pauser);
	wait(NULL);
}

static void hostile(void)
{
	prctl(PR_SET_NAME, ") Z 1 (\n\033[31m\xff");
	rest();
}

static void waits_for_hostile(void)
{
	ready(born(hostile));
	wait(NULL);
}

static void waits_for_group(void)
{
	pid_t first = born(rest), second = born(rest);

	setpgid(first, first);
	ready(first);
	ready(second);
	waitpid(-first, NULL, 0);
}

static char stack[65536];

static int vforked(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ready(getpid());
	raise(SIGSTOP);
	_exit(0);
}

static void vforks(void)
{
	clone(vforked, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}

static void traces(void)
{
	pid_t pid = heard();

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0))
		die("ptrace");
	waitpid(pid, NULL, __WALL);
	rest();
}

/* -- pipes -------------------------------------------------------------------------------------------------------- */

static void reads_one(void)
{
	close(one[1]);
	take_byte(one[0]);
}

static void selects(void)
{
	fd_set set;

	close(one[1]);
	FD_ZERO(&set);
	FD_SET(one[0], &set);
	select(one[0] + 1, &set, NULL, NULL, NULL);
}

static void polls(void)
{
	struct pollfd wanted = {one[0], POLLIN, 0};

	close(one[1]);
	poll(&wanted, 1, -1);
}

static void epolls(void)
{
	int fd = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};

	close(one[1]);
	epoll_ctl(fd, EPOLL_CTL_ADD, one[0], &event);
	epoll_wait(fd, &event, 1, -1);
}

static void writes_one(void)
{
	close(one[0]);
	for (;;)
		if (write(one[1], "0123456789012345", 16) < 0)
			die("write");
}

static void keeps_reader(void)
{
	close(one[1]);
	rest();
}

static void keeps_writer(void)
{
	close(one[0]);
	raise(SIGSTOP);
}

static void first_of_pipes(void)
{
	close(one[1]);
	close(two[0]);
	take_byte(one[0]);
}

static void second_of_pipes(void)
{
	close(one[0]);
	close(two[1]);
	take_byte(two[0]);
}

static void reads_own(void)
{
	make(one);
	take_byte(one[0]);
}

/* -- sockets and others -------------------------------------------------------------------------------------------- */

static void first_end(void)
{
	close(one[1]);
	if (recv(one[0], &byte, 1, 0) < 0)
		die("recv");
}

static void second_end(void)
{
	close(one[0]);
}

static struct sockaddr_un named(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strncpy(address.sun_path, argument, sizeof address.sun_path - 1);
	return address;
}

static void listens_unix(void)
{
	struct sockaddr_un address = named();
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (bind(fd, (void *)&address, sizeof address) || listen(fd, 5))
		die("listen");
	ready(getpid());
}

static void connects_unix(void)
{
	struct sockaddr_un address = named();
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (connect(fd, (void *)&address, sizeof address) || read(fd, &byte, 1) < 0)
		die("connect");
}

static int tcp_listener(struct sockaddr_in *address)
{
	socklen_t length = sizeof *address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	if (bind(fd, (void *)address, sizeof *address) || listen(fd, 5) || getsockname(fd, (void *)address, &length))
		die("listen");
	return fd;
}

static void connect_tcp(void)
{
	struct sockaddr_in address;
	int listener = tcp_listener(&address);

	one[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(one[0], (void *)&address, sizeof address))
		die("connect");
	one[1] = accept(listener, NULL, NULL);
	close(listener);
}

static void accepts(void)
{
	struct sockaddr_in address;

	accept(tcp_listener(&address), NULL, NULL);
}

static void reads_event(void)
{
	unsigned long long value;

	if (read(one[0], &value, sizeof value) < 0)
		die("read");
}

static void opens_fifo(void)
{
	mkfifo(argument, 0600);
	open(argument, O_RDONLY);
}

static void polls_pidfd(void)
{
	struct pollfd wanted = {syscall(SYS_pidfd_open, (pid_t)heard(), 0), POLLIN, 0};

	poll(&wanted, 1, -1);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void pair(void (*first)(void), void (*second)(void))
{
	pid_t a = born(first), b = born(second);

	say(a, b);
}

/* Who is born later has the writing end of the pipe that the one before reads from. */
static void chain(int count)
{
	pid_t first = 0, pid = 0;

	for (int i = 0; i < count; i++) {
		make(two);
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(two[1]);
			if (i == count - 1)
				nap();
			take_byte(two[0]);
			rest();
		}
		first = first ? first : pid;
		close(one[0]);
		close(one[1]);
		one[0] = two[0];
		one[1] = two[1];
	}
	say(first, pid);
}

static void run(const char *what)
{
	pid_t a = 0, b = 0;

	if (!strcmp(what, "wait")) {
		a = born(waits_for_any);
		b = heard();
		say(a, b);
		say(b, heard());
	} else if (!strcmp(what, "name")) {
		a = born(waits_for_hostile);
		say(a, heard());
	} else if (!strcmp(what, "group")) {
		a = born(waits_for_group);
		b = heard();
		say(a, b);
		say(heard(), 0);
	} else if (!strcmp(what, "vfork")) {
		a = born(vforks);
		say(a, heard());
	} else if (!strcmp(what, "traced")) {
		a = born(rest);
		b = born(traces);
		ready(a);
		say(a, b);
	} else if (!strcmp(what, "pipe-stopped")) {
		pair(reads_one, keeps_writer);
	} else if (!strcmp(what, "select")) {
		pair(selects, keeps_writer);
	} else if (!strcmp(what, "poll")) {
		pair(polls, keeps_writer);
	} else if (!strcmp(what, "epoll")) {
		pair(epolls, keeps_writer);
	} else if (!strcmp(what, "full")) {
		pair(writes_one, keeps_reader);
	} else if (!strcmp(what, "pipes")) {
		pair(first_of_pipes, second_of_pipes);
	} else if (!strcmp(what, "own-pipe")) {
		say(born(reads_own), 0);
	} else if (!strcmp(what, "chain")) {
		chain(atoi(argument));
	} else if (!strcmp(what, "fan")) {
		a = born(reads_one);
		for (int i = 0; i < atoi(argument); i++)
			born(rest);
		say(a, atoi(argument));
	} else if (!strcmp(what, "unix")) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, one))
			die("socketpair");
		pair(first_end, second_end);
	} else if (!strcmp(what, "tcp")) {
		connect_tcp();
		pair(first_end, second_end);
	} else if (!strcmp(what, "unaccepted")) {
		b = born(listens_unix);
		heard();
		say(born(connects_unix), b);
	} else if (!strcmp(what, "listen")) {
		say(born(accepts), 0);
	} else if (!strcmp(what, "eventfd")) {
		one[0] = one[1] = eventfd(0, 0);
		pair(reads_event, rest);
	} else if (!strcmp(what, "fifo")) {
		say(born(opens_fifo), 0);
	} else if (!strcmp(what, "pidfd")) {
		a = born(polls_pidfd);
		b = born(rest);
		ready(b);
		say(a, b);
	} else {
		exit(2);
	}
}

int main(int argc, char **argv)
{
	serve(argc, argv, run);
	return 0;
}
