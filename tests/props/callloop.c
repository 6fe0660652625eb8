/*
 * One system call over and over. Each line "KIND N" on standard input is N calls, answered by the ns that one took:
 *   getppid   no arguments           openat   a path that is not there
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void run(const char *kind, long calls)
{
	int is_open = !strcmp(kind, "openat");
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (long i = 0; i < calls; i++) {
		if (is_open)
			syscall(SYS_openat, AT_FDCWD, "/there/is/no/such/file", O_RDONLY);
		else
			syscall(SYS_getppid);
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	printf("%.1f\n", ((after.tv_sec - before.tv_sec) * 1e9 + (after.tv_nsec - before.tv_nsec)) / calls);
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
