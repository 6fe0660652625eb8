/*
 * A parent that does not wait for its children, and then does what it is told, a word a line. It answers each with two
 * numbers in a line; those that wait for something answer when that has happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t seen, quiet = 1;
static volatile long counted;

static void say(long a, long b)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "%ld %ld\n", a, b);

	if (write(1, line, n) != n)
		_exit(9);
}

static void word(char *line, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && read(0, line + n, 1) == 1 && line[n] != '\n')
		n++;
	if (n == 0)
		_exit(0);
	line[n] = 0;
}

static void on_usr1(int number)
{
	(void)number;
	seen++;
}

/* Sleeps in the handler until it is told something. */
static void on_usr2(int number)
{
	char c;

	(void)number;
	if (read(0, &c, 1) == 1)
		seen++;
}

static void reap_one(int number)
{
	(void)number;
	waitpid(-1, NULL, WNOHANG);
}

static void reap_all(int number)
{
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void make(long n)
{
	for (long i = 0; i < n; i++) {
		siginfo_t info;
		pid_t pid = fork();

		if (pid == 0)
			_exit(3);
		waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	}
	say(n, 0);
}

static void answer(long ret)
{
	say(ret, ret < 0 ? errno : 0);
}

/* A number out of whole and SSE registers and flags that are all in use at every moment. */
static uint64_t sum(uint64_t rounds)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, out = 0;

	__asm__ volatile("movq %1, %%xmm0\n\tmovq %2, %%xmm7\n\tmov %7, %%rcx\n"
			 "1:\tadd %2, %1\n\tadc %3, %2\n\tror $7, %3\n\txor %1, %4\n\tadc %5, %4\n\trol $3, %5\n\t"
			 "adc %6, %5\n\tadd %1, %6\n\tpaddq %%xmm7, %%xmm0\n\tpshufd $0x4e, %%xmm0, %%xmm7\n\t"
			 "mov %%rcx, -64(%%rsp)\n\tadd -64(%%rsp), %6\n\tdec %%rcx\n\tjnz 1b\n\t"
			 "movq %%xmm0, %0\n\txor %1, %0\n\txor %2, %0\n\txor %3, %0\n\txor %4, %0\n\txor %5, %0\n\txor %6, %0"
			 : "+r"(out), "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f)
			 : "r"(rounds)
			 : "rcx", "xmm0", "xmm7", "cc", "memory");
	return out;
}

static void spin(void)
{
	uint64_t right = sum(100000);
	long wrong = 0, rounds = 0;

	seen = 0;
	say(0, 0);
	while (!seen) {
		wrong += sum(100000) != right;
		rounds++;
	}
	say(wrong, rounds > 0);
}

static void *count(void *unused)
{
	(void)unused;
	for (;;) {
		counted++;
		usleep(500);
	}
	return NULL;
}

static void filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	answer(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* A process that traces this one until it is killed. */
static void traced(void)
{
	pid_t me = getpid(), pid;

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		say(ptrace(PTRACE_SEIZE, me, 0, 0) ? errno : 0, getpid());
		for (;;)
			pause();
	}
}

static void suspend(void)
{
	sigset_t usr1, all, now;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	seen = 0;
	sigsuspend(&all);
	sigprocmask(SIG_SETMASK, NULL, &now);
	say(seen, sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
}

static void wait_signal(void)
{
	sigset_t usr1;
	int got;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	got = sigwaitinfo(&usr1, NULL);
	say(got, got < 0 ? errno : 0);
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
}

static void epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC);
	char c;

	epoll_ctl(fd, EPOLL_CTL_ADD, 0, &event);
	answer(epoll_wait(fd, &event, 1, -1));
	close(fd);
	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

static void in_vfork(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		char c;

		while (read(0, &c, 1) == 1 && c != '\n')
			;
		_exit(0);
	}
	answer(waitpid(pid, NULL, 0) == pid ? 0 : -1);
}

/* A child that is not its own: its maker has ended before. */
static void adopt(void)
{
	siginfo_t info;
	int ends[2];
	pid_t pid;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (pipe(ends))
		_exit(9);
	pid = fork();
	if (pid == 0) {
		pid_t me = getpid();

		pid = fork();
		if (pid > 0)
			_exit(0);
		while (getppid() == me)
			usleep(1000);
		pid = getpid();
		if (write(ends[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(9);
		_exit(5);
	}
	waitpid(pid, NULL, 0);
	if (read(ends[0], &pid, sizeof(pid)) != sizeof(pid))
		_exit(9);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	close(ends[0]);
	close(ends[1]);
	say(pid, 0);
}

int main(int argc, char **argv)
{
	struct sigaction usr1 = {.sa_handler = on_usr1}, usr2 = {.sa_handler = on_usr2};
	struct timespec brief = {1, 0};
	char what[64], rest[64];
	int word_of_futex = 0;
	pthread_t t;

	sigaction(SIGUSR1, &usr1, NULL);
	sigaction(SIGUSR2, &usr2, NULL);
	if (argc > 1 && prctl(PR_SET_NAME, argv[1]))
		return 1;
	say(getpid(), 0);
	for (;;) {
		word(what, sizeof(what));
		if (!strncmp(what, "make ", 5)) {
			make(atol(what + 5));
		} else if (!strcmp(what, "pause")) {
			seen = 0;
			pause();
			say(seen, errno);
		} else if (!strcmp(what, "nanosleep")) {
			answer(nanosleep(&brief, NULL));
		} else if (!strcmp(what, "poll")) {
			answer(poll(NULL, 0, 1000));
		} else if (!strcmp(what, "futex")) {
			answer(syscall(SYS_futex, &word_of_futex, FUTEX_WAIT, 0, &brief, NULL, 0));
		} else if (!strcmp(what, "read")) {
			long n = read(0, rest, sizeof(rest));

			say(n, n < 0 ? errno : 0);
		} else if (!strcmp(what, "epoll")) {
			epoll();
		} else if (!strcmp(what, "sigsuspend")) {
			suspend();
		} else if (!strcmp(what, "sigwait")) {
			wait_signal();
		} else if (!strcmp(what, "handler")) {
			seen = 0;
			raise(SIGUSR2);
			say(seen, 0);
		} else if (!strcmp(what, "spin")) {
			spin();
		} else if (!strcmp(what, "threads")) {
			for (int i = 0; i < 4; i++)
				pthread_create(&t, NULL, count, NULL);
			say(4, 0);
		} else if (!strcmp(what, "counted")) {
			say(counted, 0);
		} else if (!strcmp(what, "filter")) {
			filter();
		} else if (!strcmp(what, "traced")) {
			traced();
		} else if (!strcmp(what, "vfork")) {
			in_vfork();
		} else if (!strcmp(what, "reap-one") || !strcmp(what, "reap-all")) {
			signal(SIGCHLD, what[5] == 'o' ? reap_one : reap_all);
			say(0, 0);
		} else if (!strcmp(what, "ignore-term")) {
			signal(SIGTERM, SIG_IGN);
			say(0, 0);
		} else if (!strcmp(what, "adopt")) {
			adopt();
		} else if (!strcmp(what, "still")) {
			say(getpid(), quiet);
		} else {
			return 2;
		}
	}
}
