/*
 * A tree of processes and threads, forked before, while and after somebody begins to trace it. Each of them makes one
 * marked call, access("/marked/N"), N from 0 up, when the standard input ends, and then has one more child that does.
 *
 *   marks PROCESSES THREADS MOST
 *
 * First there are PROCESSES children, each with THREADS threads and a child of its own; then it says "0 PID", and forks a
 * child every third millisecond, up to MOST, until the standard input ends. At the end it says "1 N": so many marked calls.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int *next, start[2];

static void mark(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/marked/%d", __atomic_fetch_add(next, 1, __ATOMIC_SEQ_CST));
	access(path, F_OK);
}

static void *thread(void *unused)
{
	char byte;

	(void)unused;
	while (read(start[0], &byte, 1) > 0)
		;
	mark();
	return NULL;
}

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	return pid;
}

/* Waits for the start, marks, and has a child that marks. */
static void member(void)
{
	thread(NULL);
	if (!child()) {
		mark();
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
}

static void family(int threads)
{
	pthread_t ids[threads];

	close(start[1]);
	if (!child()) {
		member();
		_exit(0);
	}
	for (int i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, thread, NULL))
			exit(1);
	member();
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	int processes, threads, most;

	next = mmap(NULL, sizeof(*next), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc != 4 || next == MAP_FAILED || pipe(start))
		return 1;
	processes = atoi(argv[1]);
	threads = atoi(argv[2]);
	most = atoi(argv[3]);
	for (int i = 0; i < processes; i++)
		if (!child())
			family(threads);
	printf("0 %d\n", getpid());
	fflush(stdout);
	for (int i = 0; !poll(&input, 1, 3); i++)
		if (i < most && !child()) {
			close(start[1]);
			member();
			_exit(0);
		}
	close(start[1]);
	member();
	printf("1 %d\n", *next);
	return 0;
}
