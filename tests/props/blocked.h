/* What blocked.c and blockedlock.c share: children that die with the prop, and say a number when they are there. */
#ifndef BLOCKED_H
#define BLOCKED_H
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *argument = "";
static int one[2], two[2], told[2];
static char byte;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline void say(long a, long b)
{
	dprintf(1, "%ld %ld\n", a, b);
}

static inline void nap(void)
{
	struct timespec long_time = {1000, 0};

	nanosleep(&long_time, NULL);
	_exit(0);
}

static void rest(void)
{
	for (;;)
		pause();
}

/* A child that dies with us and does this. */
static pid_t born(void (*act)(void))
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	act();
	rest();
	return 0;
}

static inline void ready(long number)
{
	if (write(told[1], &number, sizeof number) != sizeof number)
		die("write");
}

static inline long heard(void)
{
	long number = 0;

	if (read(told[0], &number, sizeof number) != sizeof number)
		die("read");
	return number;
}

static void take_byte(int fd)
{
	if (read(fd, &byte, 1) < 0)
		die("read");
}

static void make(int *ends)
{
	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
}

/* Does `run`, closes its own ends, and waits for a line. */
static inline void serve(int argc, char **argv, void (*run)(const char *what))
{
	if (argc < 2)
		exit(2);
	if (argc > 2)
		argument = argv[2];
	make(told);
	make(one);
	make(two);
	run(argv[1]);
	close(one[0]);
	close(one[1]);
	close(two[0]);
	close(two[1]);
	say(0, 0);
	while (read(0, &byte, 1) == 1 && byte != '\n')
		;
}
#endif
