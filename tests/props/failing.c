/*
 * failing N: N children, each of which tries one fork that is to fail (its cgroup is full by then) and sleeps. Says how
 * many failed, once all have tried; with the next line it forks once itself and says how that went; with one more it
 * ends, and the children go with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void wait_for_line(void)
{
	char c;

	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 0, failed = 0;
	int start[2], done[2];
	char c;

	if (pipe(start) || pipe(done))
		return 1;
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (read(start[0], &c, 1) != 1)
				_exit(1);
			pid = fork();
			if (pid == 0)
				_exit(0);
			c = pid < 0;
			if (write(done[1], &c, 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
	}
	for (long i = 0; i < n; i++)
		if (write(start[1], "", 1) != 1)
			return 1;
	for (long i = 0; i < n; i++) {
		if (read(done[0], &c, 1) != 1)
			return 1;
		failed += c;
	}
	printf("%ld %ld\n", (long)getpid(), failed);
	fflush(stdout);
	errno = 0;
	wait_for_line();
	if (fork() == 0)
		_exit(0);
	printf("%d 0\n", errno);
	fflush(stdout);
	wait_for_line();
	return 0;
}
