/* statreader: reads the stat of every process once, as a program in C does it. Says how many, and the microseconds. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec from, to;
	struct dirent *entry;
	char path[300], data[2048];
	long count = 0;
	DIR *proc;

	clock_gettime(CLOCK_MONOTONIC, &from);
	proc = opendir("/proc");
	if (!proc)
		return 1;
	while ((entry = readdir(proc))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "%s/stat", entry->d_name);
		int fd = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (read(fd, data, sizeof data) > 0)
			count++;
		close(fd);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%ld %ld\n", count, (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
	return 0;
}
