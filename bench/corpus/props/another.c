/*
 * another: every member becomes another program, under a name that nobody had before. Runs in a pen only.
 *
 * Copies its own file first, so that neither the file nor the name says that two members are the same.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

static int in_pen(void)
{
	char line[4096];
	FILE *file = fopen("/proc/self/cgroup", "r");
	int found = 0;

	while (file && fgets(line, sizeof(line), file))
		found |= strstr(line, "/pidwarden-pen-") != NULL;
	return found;
}

int main(int argc, char **argv)
{
	char target[4096];
	int n;

	(void)argc;
	if (!in_pen())
		return 4;
	for (n = 0;; n++) {
		int from, to;

		if (fork() > 0)
			continue;
		snprintf(target, sizeof(target), "%s-%d-%d", getenv("NAME") ?: argv[0], getpid(), n);
		from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
		if (from >= 0 && to >= 0)
			while (sendfile(to, from, NULL, 1 << 20) > 0)
				;
		close(from);
		close(to);
		execl(target, target, NULL);
		_exit(1);
	}
}
