/*
 * entry WAY [N]: forks once by one way into the kernel, when it gets a line, and says "errno 0" of it; then waits for
 * another line. N times, if so told, and each says so. The children end at once.
 *
 *   fork vfork clone clone3 thread      the machine's own calls
 *   int80 int80-clone int80-vfork       32-bit calls from 64-bit code
 *   x32                                 fork with x32's bit in its number; errno 38 where the kernel has no x32
 *   worker                              a worker thread that io_uring makes for a read that blocks
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void *end(void *unused)
{
	return unused;
}

static long by_int80(long nr, long flags)
{
	long ret = -ENOSYS;
#ifdef __x86_64__
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(flags), "c"(0L), "d"(0L), "S"(0L), "D"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
#endif
	return (int)ret;
}

/* One read of an empty pipe, which io_uring gives to a worker; how it went is not waited for. */
static long by_worker(void)
{
	static struct io_uring_params p;
	static char c;
	int ends[2], ring = syscall(SYS_io_uring_setup, 4, &p);
	struct io_uring_sqe *sqes;
	unsigned *tail, *array;
	char *sq;

	if (ring < 0 || pipe(ends))
		return -errno;
	sq = mmap(NULL, p.sq_off.array + 4 * sizeof(unsigned), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, 4 * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || sqes == MAP_FAILED)
		return -errno;
	memset(sqes, 0, sizeof(*sqes));
	sqes->opcode = IORING_OP_READ;
	sqes->flags = IOSQE_ASYNC;
	sqes->fd = ends[0];
	sqes->addr = (unsigned long)&c;
	sqes->len = 1;
	tail = (unsigned *)(sq + p.sq_off.tail);
	array = (unsigned *)(sq + p.sq_off.array);
	array[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) == 1 ? 0 : -errno;
}

/* 0, or the error with a minus. A child does not come back. */
static long enter(const char *way)
{
	struct clone_args args;
	pthread_t t;
	long ret;

	if (!strcmp(way, "worker"))
		return by_worker();
	if (!strcmp(way, "thread")) {
		ret = -pthread_create(&t, NULL, end, NULL);
		if (ret == 0)
			pthread_join(t, NULL);
		return ret;
	}
	if (!strcmp(way, "int80") || !strcmp(way, "int80-clone") || !strcmp(way, "int80-vfork")) {
		long nr = way[5] == 0 ? 2 : way[6] == 'c' ? 120 : 190;

		ret = by_int80(nr, nr == 120 ? SIGCHLD : 0);
		if (ret == 0)
			_exit(0);
	} else {
		memset(&args, 0, sizeof(args));
		args.exit_signal = SIGCHLD;
		if (!strcmp(way, "vfork"))
			ret = vfork();
		else if (!strcmp(way, "clone"))
			ret = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		else if (!strcmp(way, "clone3"))
			ret = syscall(SYS_clone3, &args, sizeof(args));
		else if (!strcmp(way, "x32"))
			ret = syscall(0x40000000 | SYS_fork);
		else
			ret = syscall(SYS_fork);
		if (ret == 0)
			_exit(0);
		if (ret < 0)
			ret = -errno;
	}
	if (ret > 0) {
		waitpid(ret, NULL, 0);
		ret = 0;
	}
	return ret;
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? atol(argv[2]) : 1;

	if (argc < 2)
		return 2;
	say(getpid(), 0);
	while (n-- > 0) {
		wait_for_line();
		say(-enter(argv[1]), 0);
	}
	wait_for_line();
	return 0;
}
