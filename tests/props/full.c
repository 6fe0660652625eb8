/*
 * full [N]: takes memory until its cgroup gives no more, where the kernel kills nobody for want of it; at most N MiB
 * (256). Prints its pid and the MiB; with each further line it forks once and says with which errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int next_line(void)
{
	char c;

	while (read(0, &c, 1) == 1)
		if (c == '\n')
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	size_t most = (size_t)(argc > 1 ? atol(argv[1]) : 256) << 20, at = 0, step = 1 << 20;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	char *all;

	if (fd >= 0 && write(fd, "-1000", 5) != 5)
		errno = 0; /* takes CAP_SYS_RESOURCE; who lacks it is in a cgroup with memory.oom_control 1 */
	/* What it touches later has to be there: a fault that gets no page waits for ever. */
	setvbuf(stdout, NULL, _IONBF, 0);
	printf("%ld 0\n", (long)getpid());
	all = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED || madvise(all, most, MADV_NOHUGEPAGE) || mlockall(MCL_CURRENT | MCL_ONFAULT))
		return 1;
	while (at < most && step >= 4096) {
		if (at + step > most || madvise(all + at, step, MADV_POPULATE_WRITE))
			step /= 2;
		else
			at += step;
	}
	printf("%ld %ld\n", (long)getpid(), (long)(at >> 20));
	while (next_line()) {
		pid_t pid;

		errno = 0;
		pid = fork();
		if (pid == 0)
			_exit(0);
		printf("%d 0\n", pid < 0 ? errno : 0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	return 0;
}
