/*
 * One system call over and over. Each line "KIND N" on standard input is N calls, answered by the ns that one took:
 *   getppid   no arguments           openat   a path that is not there
 *   paced     both in turn, 100,000 in a second, as far as that can be kept up
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PACE_NS 10000 /* of one call */

static long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000l + t.tv_nsec;
}

static void run(const char *kind, long calls)
{
	int is_open = !strcmp(kind, "openat"), is_paced = !strcmp(kind, "paced");
	long before = now_ns();

	for (long i = 0; i < calls; i++) {
		while (is_paced && now_ns() - before < i * PACE_NS)
			;
		if (is_open || (is_paced && i % 2))
			syscall(SYS_openat, AT_FDCWD, "/there/is/no/such/file", O_RDONLY);
		else
			syscall(SYS_getppid);
	}
	printf("%.1f\n", (double)(now_ns() - before) / calls);
	fflush(stdout);
}

int main(void)
{
	char kind[16];
	long calls;

	while (scanf("%15s %ld", kind, &calls) == 2)
		run(kind, calls);
	return 0;
}
