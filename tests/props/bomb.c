/*
 * bomb SHAPE: fork bombs in C, faster than any script. Only ever run inside a pen.
 *
 *   tight     fork in a loop              chain     fork and exit, always moving
 *   setsid    each child a new session    zombies   children that are never reaped
 *   threads   thread after thread         int80     32-bit system calls from 64-bit code
 *   vfork     each child execs again      parent    CLONE_PARENT: every member is its founder's sibling
 *   clone3    the newest entry            signals   SIGCONT to everybody all the time, every signal ignored
 *   x32       calls with x32's bit        woken     two members do nothing but send SIGCONT to the others
 *   timers    each member has a timer that sends it SIGCONT, more often than it can stop
 */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void *sleep_for_ever(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

static void threads(void)
{
	pthread_t t;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (;;)
		pthread_create(&t, &attr, sleep_for_ever, NULL);
}

static long int80_fork(void)
{
	long ret = -1;
#ifdef __x86_64__
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(2L) : "memory", "r8", "r9", "r10", "r11");
#endif
	return ret;
}

static void woken(void)
{
	setpgid(0, 0);
	for (int i = 0; i < 2; i++)
		if (fork() == 0)
			for (;;)
				kill(0, SIGCONT);
	for (;;)
		fork();
}

/* Each with a period of its own, so that the moments at which they come are never in step with anything. */
static void wake_myself(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
	struct itimerspec every = {};
	timer_t timer;

	every.it_interval.tv_nsec = every.it_value.tv_nsec = 20000 + 7 * (getpid() % 3000);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
		timer_settime(timer, 0, &every, NULL);
}

static void parent_loop(void)
{
	for (;;)
		syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
}

static void clone3_loop(void)
{
	struct clone_args args;

	for (;;) {
		memset(&args, 0, sizeof(args));
		args.exit_signal = SIGCHLD;
		syscall(SYS_clone3, &args, sizeof(args));
	}
}

int main(int argc, char **argv)
{
	const char *shape = argc > 1 ? argv[1] : "";

	if (!strcmp(shape, "tight"))
		for (;;)
			fork();
	if (!strcmp(shape, "setsid"))
		for (;;)
			if (fork() == 0)
				setsid();
	if (!strcmp(shape, "chain"))
		for (;;)
			if (fork() > 0)
				_exit(0);
	if (!strcmp(shape, "zombies"))
		for (;;)
			if (fork() == 0)
				_exit(0);
	if (!strcmp(shape, "threads"))
		threads();
	if (!strcmp(shape, "int80"))
		for (;;)
			int80_fork();
	if (!strcmp(shape, "wait32")) { /* one 32-bit fork, when told */
		char c;

		if (write(1, "0 0\n", 4) == 4 && read(0, &c, 1) == 1)
			int80_fork();
		pause();
	}
	if (!strcmp(shape, "vfork"))
		for (;;)
			if (vfork() == 0) {
				execl("/proc/self/exe", argv[0], shape, NULL);
				_exit(1);
			}
	if (!strcmp(shape, "parent"))
		parent_loop();
	if (!strcmp(shape, "clone3"))
		clone3_loop();
	if (!strcmp(shape, "woken"))
		woken();
	if (!strcmp(shape, "timers"))
		for (wake_myself();;)
			if (fork() == 0)
				wake_myself();
	if (!strcmp(shape, "x32"))
		for (;;)
			syscall(0x40000000 | SYS_fork);
	if (!strcmp(shape, "signals")) {
		for (int s = 1; s < 65; s++)
			signal(s, SIG_IGN);
		for (;;) {
			fork();
			kill(0, SIGCONT);
		}
	}
	return 2;
}
