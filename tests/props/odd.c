/*
 * odd WHAT: does one unusual thing with processes, prints the tgids concerned on one line, and then waits for a line on
 * standard input before it ends, so that a test can look at a state that stays.
 *
 *   exec-thread   exec by another thread than the leader          leader-first  the leader exits, a thread stays
 *   vfork         a vfork child that execs and waits as well      clone-parent  a child that is its creator's sibling
 *   deep N        a chain of N creators, all but the last dead    orphan        a grandchild whose parent exited
 *   tree N        copies of itself, two each, N generations deep; says how many once all are there
 *   threads N     N threads                                       zombie N      N children that are not reaped
 *   set-tid PID   a child with that very pid (clone3), ends, and a second one with the same pid that stays
 *   thread-chain N  N threads, each made by the one before
 *   names         a child with a hostile name                     held-fork     forks when told, prints how it went
 *   handler-fork  the same, with a handler for SIGUSR1; prints how often that ran as well
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void handle(int number)
{
	(void)number;
	handled++;
}

static void wait_for_line(void)
{
	char c;

	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

static void say(long a, long b)
{
	printf("%ld %ld\n", a, b);
	fflush(stdout);
}

static void *stay(void *unused)
{
	(void)unused;
	wait_for_line();
	_exit(0);
}

static void *chain(void *left)
{
	pthread_t t;

	if ((intptr_t)left > 1)
		pthread_create(&t, NULL, chain, (void *)((intptr_t)left - 1));
	else
		say(getpid(), 0);
	return stay(NULL);
}

static void *exec_again(void *self)
{
	execl((char *)self, "odd", "wait", NULL);
	_exit(1);
}

static void deep(long n)
{
	while (n-- > 0)
		if (fork() > 0)
			_exit(0);
	say(getpid(), 0);
	wait_for_line();
	_exit(0);
}

static void tree(long n, int out)
{
	for (int i = 0; i < 2 && n > 0; i++)
		if (fork() == 0) {
			tree(n - 1, out);
			if (write(out, "", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
}

static pid_t with_pid(pid_t wanted)
{
	struct clone_args args;

	memset(&args, 0, sizeof(args));
	args.exit_signal = SIGCHLD;
	args.set_tid = (uintptr_t)&wanted;
	args.set_tid_size = 1;
	return syscall(SYS_clone3, &args, sizeof(args));
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 0;
	pthread_t t;
	pid_t pid;

	if (!strcmp(what, "wait")) {
		say(getpid(), 0);
		wait_for_line();
	} else if (!strcmp(what, "exec-thread")) {
		pthread_create(&t, NULL, exec_again, "/proc/self/exe");
		for (;;)
			pause();
	} else if (!strcmp(what, "leader-first")) {
		pthread_create(&t, NULL, stay, NULL);
		say(getpid(), 0);
		pthread_exit(NULL);
	} else if (!strcmp(what, "vfork")) {
		pid = vfork();
		if (pid == 0) {
			execl("/proc/self/exe", "odd", "wait", NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	} else if (!strcmp(what, "clone-parent")) {
		pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			say(getpid(), getppid());
			wait_for_line();
			_exit(0);
		}
		for (;;)
			pause();
	} else if (!strcmp(what, "tree")) {
		long count = (2L << n) - 2;
		int ends[2];
		char c;

		if (pipe(ends))
			return 1;
		tree(n, ends[1]);
		for (long i = 0; i < count; i++)
			if (read(ends[0], &c, 1) != 1)
				return 1;
		say(getpid(), count);
		wait_for_line();
		kill(0, SIGKILL);
	} else if (!strcmp(what, "deep")) {
		deep(n);
	} else if (!strcmp(what, "orphan")) {
		pid = fork();
		if (pid == 0) {
			pid_t middle = getpid();

			pid = fork();
			if (pid > 0)
				_exit(7);
			while (getppid() == middle)
				usleep(1000);
			say(getpid(), middle);
			wait_for_line();
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		for (;;)
			pause();
	} else if (!strcmp(what, "threads")) {
		pthread_attr_t attr;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 65536);
		for (long i = 0; i < n; i++)
			if (pthread_create(&t, &attr, stay, NULL))
				return 1;
		say(getpid(), n);
		for (;;)
			pause();
	} else if (!strcmp(what, "thread-chain")) {
		pthread_create(&t, NULL, chain, (void *)(intptr_t)n);
		for (;;)
			pause();
	} else if (!strcmp(what, "zombie")) {
		for (long i = 0; i < n; i++) {
			pid = fork();
			if (pid == 0)
				_exit(3);
			siginfo_t info;

			waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
		}
		say(getpid(), n);
		wait_for_line();
	} else if (!strcmp(what, "set-tid")) {
		pid = with_pid((pid_t)n);
		if (pid == 0)
			_exit(5);
		if (pid < 0)
			return 1;
		waitpid(pid, NULL, 0);
		pid = with_pid((pid_t)n);
		if (pid == 0) {
			wait_for_line();
			_exit(0);
		}
		say(pid, errno);
		waitpid(pid, NULL, 0);
	} else if (!strcmp(what, "names")) {
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_NAME, ") R 1 (\n\033[31m\xff");
			say(getpid(), 0);
			wait_for_line();
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	} else if (!strcmp(what, "handler-fork")) {
		struct sigaction action = {.sa_handler = handle};

		sigaction(SIGUSR1, &action, NULL);
		say(getpid(), 0);
		wait_for_line();
		pid = fork();
		if (pid == 0)
			_exit(0);
		say(pid < 0 ? errno : 0, handled);
		waitpid(pid, NULL, 0);
		wait_for_line();
	} else if (!strcmp(what, "held-fork")) {
		struct timespec a, b;

		say(getpid(), 0);
		wait_for_line();
		clock_gettime(CLOCK_MONOTONIC, &a);
		pid = fork();
		if (pid == 0)
			_exit(0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		say(pid < 0 ? -errno : 0, (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
		if (pid > 0)
			waitpid(pid, NULL, 0);
		wait_for_line();
	} else {
		return 2;
	}
	return 0;
}
