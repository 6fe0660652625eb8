/*
 * Does one of these when it gets a line, says two numbers, and ends with its input.
 *
 *   many N     N getppid; says N 0
 *   denied N   N getpgid(1234), which a seccomp filter answers with EPERM; says N and the errno of the last one
 *   int80 N    N getppid by int 0x80; says N 0
 *   thread     a second thread calls exec of this program, as "execed", which says its process and thread id
 *   storm N    N children, each with a child and a thread of its own, and each of these calls access("/marked/…"); says
 *              how many that were, once all have ended
 *   signal     sends itself SIGUSR1, which it catches; says 10 and how often that came
 *   blocked    reads a pipe that nobody writes to, in a second thread, whose id it says before
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int came, blocked_tid;
static char *self;

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

static long denied(long n)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = code };
	long error = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		exit(1);
	for (long i = 0; i < n; i++)
		if (syscall(SYS_getpgid, 1234) < 0)
			error = errno;
	return error;
}

static void *exec_again(void *unused)
{
	char *argv[] = { self, "execed", NULL };

	execv("/proc/self/exe", argv);
	return unused;
}

static void mark(const char *what, int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/marked/%s/%d", what, number);
	access(path, F_OK);
}

static void *marking(void *number)
{
	mark("thread", (int)(long)number);
	return NULL;
}

static void member(long i)
{
	pthread_t thread;

	if (fork() == 0) {
		mark("grandchild", (int)i);
		_exit(0);
	}
	pthread_create(&thread, NULL, marking, (void *)i);
	mark("child", (int)i);
	pthread_join(thread, NULL);
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static void caught(int number)
{
	(void)number;
	came++;
}

static void *blocked(void *fds)
{
	char c;

	blocked_tid = gettid();
	return read(((int *)fds)[0], &c, 1) ? fds : NULL;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 1, error = 0;
	pthread_t thread;
	int fds[2];

	self = argv[0];
	if (!strcmp(what, "execed")) {
		say(getpid(), gettid());
		wait_for_line();
		return 0;
	}
	say(getpid(), 0);
	wait_for_line();
	if (!strcmp(what, "many")) {
		for (long i = 0; i < n; i++)
			syscall(SYS_getppid);
	} else if (!strcmp(what, "denied")) {
		error = denied(n);
#ifdef __x86_64__
	} else if (!strcmp(what, "int80")) {
		for (long i = 0; i < n; i++) {
			long result = 64; /* getppid of i386 */

			__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
		}
#endif
	} else if (!strcmp(what, "thread")) {
		pthread_create(&thread, NULL, exec_again, NULL);
		pause();
	} else if (!strcmp(what, "storm")) {
		for (long i = 0; i < n; i++)
			if (fork() == 0)
				member(i);
		while (wait(NULL) > 0)
			;
		n *= 3;
	} else if (!strcmp(what, "signal")) {
		signal(SIGUSR1, caught);
		raise(SIGUSR1);
		n = SIGUSR1;
		error = came;
	} else if (!strcmp(what, "blocked")) {
		if (pipe(fds))
			return 1;
		pthread_create(&thread, NULL, blocked, fds);
		while (!blocked_tid)
			;
		n = blocked_tid;
		error = fds[0];
	}
	say(n, error);
	wait_for_line();
	return 0;
}
