/*
 * forkloop N [WHAT]: does one thing N times and prints nanoseconds per round.
 *
 *   fork      fork, exit, wait (the default)      thread    a thread made, ended and joined
 *   exec      fork, exec of itself, exit, wait    getppid   a system call that does next to nothing
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *self;

static void *end(void *unused)
{
	return unused;
}

static int child(int calls_exec)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (calls_exec)
			execl("/proc/self/exe", self, "0", (char *)NULL);
		_exit(0);
	}
	return pid < 0 || waitpid(pid, NULL, 0) < 0;
}

static int one(const char *what)
{
	pthread_t thread;

	if (!strcmp(what, "getppid"))
		return syscall(SYS_getppid) < 0;
	if (!strcmp(what, "thread"))
		return pthread_create(&thread, NULL, end, NULL) || pthread_join(thread, NULL);
	return child(!strcmp(what, "exec"));
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000;
	const char *what = argc > 2 ? argv[2] : "fork";
	struct timespec a, b;

	self = argv[0];
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < n; i++)
		if (one(what))
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (n)
		printf("%.0f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
	return 0;
}
