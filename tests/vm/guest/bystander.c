/* A bystander that is a spawner by the file it runs from: it forks a program again and again, as sshd and login do.
 *
 * Each round is a line on standard output: microseconds since it was due, and "ok" or what went wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 50000000LL /* ns */

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void)
{
	long long due = now();

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;; due = due + PERIOD > now() ? due + PERIOD : now()) {
		struct timespec until = { due / 1000000000, due % 1000000000 };
		int status = 0;
		pid_t pid;

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		pid = fork();
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(127);
		}
		if (pid < 0)
			printf("%lld fork-failed:%s\n", (now() - due) / 1000, strerrorname_np(errno));
		else if (waitpid(pid, &status, 0) != pid || status)
			printf("%lld ended-with-%#x\n", (now() - due) / 1000, status);
		else
			printf("%lld ok\n", (now() - due) / 1000);
	}
}
