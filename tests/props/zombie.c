/*
 * zombie MODE [N]: a parent that has zombies for one cause. Says its own pid (or that of the process which owes the
 * wait) and another pid that matters, once everything is in place. SIGUSR1 lets most modes end what holds them up.
 *
 *   never [N]       N children end, it sleeps            reaper          waits for any child; one lives, whose pid it says
 *   wait-pid        wait4 of a living child              waitid-pid, waitid-pidfd, wait-group: the same otherwise
 *   wait-stops      waitid without WEXITED               wait-look       waitid with WNOWAIT
 *   clone           its child sends no SIGCHLD           thread-only     wait4 with __WNOTHREAD in another thread
 *   thread-waits    a second thread waits for a child    wait-32         wait4 of a child through int 0x80
 *   pipe, fifo FILE, socket, eventfd, write-pipe         held up by a living child, whose pid it says
 *   tcp             reads a TCP connection               open-fifo FILE  opens a fifo that nobody writes
 *   flock FILE, fcntl FILE    a lock that a living child has
 *   futex           a lock in shared memory              msgrcv          a message queue
 *   join            the first thread joins one in read   vfork           a vfork child that does not exec
 *   blocked         SIGCHLD is held off, with a handler  blocked-plain   without one
 *   signalfd        it reads SIGCHLD and reaps, slowly   signalfd-deaf   has the descriptor, and does not read it
 *   signalfd-pipe   reads a pipe instead
 *   ignored         SIG_IGN after they ended             nocldwait       SA_NOCLDWAIT after they ended
 *   one-a-signal N  a handler that waits once            flag            a handler that does not wait
 *   busy            computes                             slow            reaps after 20 ms, again and again
 *   init, init-busy the first of a pid namespace         init-waits      which waits for a child
 *   dying           the init of a namespace has ended, a member is traced by this process
 *   dead-leader     a child whose first thread ended     traced          its child is traced by another child
 *   tracer PID      stops PID by ptrace                  system          system(3): a shell that sleeps
 *   names           children with hostile names          exec            forks, and calls exec
 *   loop, accept    poll, accept: idle
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t told;

static void tell(int number)
{
	(void)number;
	told = 1;
}

static void wait_once(int number)
{
	int saved = errno;

	(void)number;
	waitpid(-1, NULL, WNOHANG);
	errno = saved;
}

static void on(int number, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	sigaction(number, &action, NULL);
}

static void mask(int how, int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(how, &set, NULL);
}

static void reap_all(void)
{
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
}

static void say(long a, long b)
{
	printf("%ld %ld\n", a, b);
	fflush(stdout);
}

/* A child that ends at once, and has by the time this returns. */
static pid_t ended_by(int code)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		_exit(code);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	return pid;
}

static pid_t ended(void)
{
	return ended_by(7);
}

/* A child that stays until it is killed, or this process ends. */
static pid_t living(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGUSR1, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

/* Sleeps until SIGUSR1, then reaps whatever is left. */
static void stay(void)
{
	for (;;) {
		while (!told)
			pause();
		told = 0;
		reap_all();
	}
}

static void *wait_for(void *argument)
{
	waitpid((pid_t)(intptr_t)argument, NULL, 0);
	for (;;)
		pause();
	return NULL;
}

static void *own_children(void *argument)
{
	pid_t pid = living();

	(void)argument;
	say(getpid(), pid);
	while (waitpid(-1, NULL, __WNOTHREAD) > 0)
		;
	for (;;)
		pause();
	return NULL;
}

static void *read_pipe(void *argument)
{
	int *ends = argument;
	char c;

	while (read(ends[0], &c, 1) < 0)
		;
	return NULL;
}

static void *sleep_on(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

static void held_up(const char *mode, const char *file)
{
	int ends[2] = { -1, -1 };
	char c;
	pid_t other;
	long n;

	if (!strcmp(mode, "pipe") || !strcmp(mode, "write-pipe") || !strcmp(mode, "signalfd-pipe")) {
		if (pipe(ends))
			exit(1);
	} else if (!strcmp(mode, "socket")) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
			exit(1);
	} else if (!strcmp(mode, "eventfd")) {
		ends[0] = eventfd(0, 0);
	} else if (!strcmp(mode, "fifo")) {
		mkfifo(file, 0600);
		ends[1] = open(file, O_RDWR);
		ends[0] = open(file, O_RDONLY);
	} else {
		ends[1] = open(file, O_RDWR | O_CREAT, 0600);
	}
	if (!strcmp(mode, "write-pipe")) {
		fcntl(ends[1], F_SETFL, O_NONBLOCK);
		while (write(ends[1], "", 1) == 1)
			;
		fcntl(ends[1], F_SETFL, 0);
	}
	other = fork();
	if (other == 0) {
		signal(SIGUSR1, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "holder");
		if (!strcmp(mode, "flock"))
			flock(open(file, O_RDWR), LOCK_EX);
		if (!strcmp(mode, "fcntl")) {
			struct flock lock = { .l_type = F_WRLCK };

			fcntl(ends[1], F_SETLK, &lock);
		}
		close(!strcmp(mode, "write-pipe") ? ends[1] : strcmp(mode, "eventfd") ? ends[0] : -1);
		kill(getppid(), SIGUSR2);
		for (;;)
			pause();
	}
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigwait(&set, &number);
	if (!strcmp(mode, "write-pipe"))
		close(ends[0]);
	else if (strcmp(mode, "flock") && strcmp(mode, "fcntl"))
		close(ends[1]);
	if (!strcmp(mode, "signalfd-pipe")) {
		mask(SIG_BLOCK, SIGCHLD);
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		signalfd(-1, &set, 0);
	}
	say(getpid(), other);
	ended();
	if (!strcmp(mode, "flock"))
		n = flock(open(file, O_RDWR), LOCK_EX);
	else if (!strcmp(mode, "fcntl")) {
		struct flock lock = { .l_type = F_WRLCK };

		n = fcntl(ends[1], F_SETLKW, &lock);
	} else if (!strcmp(mode, "write-pipe"))
		n = write(ends[1], "", 1);
	else if (!strcmp(mode, "eventfd")) {
		uint64_t value;

		n = read(ends[0], &value, sizeof value);
	} else
		n = read(ends[0], &c, 1);
	(void)n;
	stay();
}

static void tcp(int listening)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	char c;

	bind(server, (struct sockaddr *)&address, size);
	listen(server, 1);
	getsockname(server, (struct sockaddr *)&address, &size);
	say(getpid(), ntohs(address.sin_port));
	ended();
	if (listening)
		accept(server, NULL, NULL);
	else if (connect(client, (struct sockaddr *)&address, size) == 0 && read(client, &c, 1) < 0)
		told = 1;
	stay();
}

static int dead_leader(void *unused)
{
	pthread_t thread;

	(void)unused;
	signal(SIGUSR1, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_create(&thread, NULL, sleep_on, NULL);
	syscall(SYS_exit, 0);
	return 0;
}

/* The first process of a pid namespace, forked by this one, which says its pid. */
static void init(const char *mode)
{
	int ends[2];
	pid_t pid;
	char c;

	if (unshare(CLONE_NEWPID) || pipe(ends))
		exit(1);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!strcmp(mode, "dying")) {
			living();
			if (read(ends[0], &c, 1) != 1)
				_exit(1);
			_exit(0);
		}
		if (fork() == 0) {
			if (fork() == 0) {
				usleep(20000);
				_exit(3);
			}
			_exit(0);
		}
		waitpid(-1, NULL, 0);
		if (!strcmp(mode, "init-waits"))
			waitpid(living(), NULL, 0);
		if (!strcmp(mode, "init-busy"))
			while (!told)
				;
		stay();
	}
	if (!strcmp(mode, "dying")) {
		char path[64];
		FILE *file;
		long child = 0;

		snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
		while (!child) {
			file = fopen(path, "r");
			if (!file)
				exit(1);
			if (fscanf(file, "%ld", &child) != 1)
				child = 0;
			fclose(file);
		}
		if (ptrace(PTRACE_SEIZE, (pid_t)child, 0, 0))
			exit(1);
		if (write(ends[1], "", 1) != 1)
			exit(1);
		say(pid, child);
		while (!told)
			pause();
		waitpid((pid_t)child, NULL, __WALL);
		waitpid(pid, NULL, 0);
		pause();
	}
	say(pid, 0);
	for (;;)
		pause();
}

static void traced(void)
{
	int ready[2], go[2];
	pid_t child, tracer;
	char c;

	if (pipe(ready) || pipe(go))
		exit(1);
	child = fork();
	if (child == 0) {
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(5);
	}
	tracer = fork();
	if (tracer == 0) {
		signal(SIGUSR1, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "tracer");
		if (ptrace(PTRACE_SEIZE, child, 0, 0) || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(ready[0], &c, 1) != 1 || write(go[1], "", 1) != 1)
		exit(1);
	say(getpid(), tracer);
	while (waitpid(-1, NULL, 0) > 0)
		;
	stay();
}

static void waits(const char *mode)
{
	siginfo_t info;
	pid_t other = living(), child = 0;

	if (!strcmp(mode, "clone")) {
		child = (pid_t)syscall(SYS_clone, SIGWINCH, 0, 0, 0, 0);
		if (child == 0)
			_exit(1);
	} else {
		child = ended();
	}
	if (!strcmp(mode, "wait-group")) {
		setpgid(other, other);
	}
	say(getpid(), other);
	if (!strcmp(mode, "wait-pid"))
		waitpid(other, NULL, 0);
	else if (!strcmp(mode, "clone"))
		waitpid(-1, NULL, 0);
	else if (!strcmp(mode, "wait-group"))
		waitpid(-other, NULL, 0);
	else if (!strcmp(mode, "waitid-pid"))
		waitid(P_PID, other, &info, WEXITED);
	else if (!strcmp(mode, "waitid-pidfd"))
		waitid((idtype_t)3, (id_t)syscall(SYS_pidfd_open, other, 0), &info, WEXITED);
	else if (!strcmp(mode, "wait-stops"))
		waitid(P_ALL, 0, &info, WSTOPPED);
#ifdef __x86_64__
	else if (!strcmp(mode, "wait-32")) {
		long result;

		__asm__ volatile("int $0x80" : "=a"(result) : "0"(7), "b"(other), "c"(0), "d"(0) : "memory");
	}
#endif
	stay();
}

static void signals(const char *mode, int n)
{
	sigset_t set;
	int fd;
	struct signalfd_siginfo one;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (!strncmp(mode, "signalfd", 8)) {
		mask(SIG_BLOCK, SIGCHLD);
		fd = signalfd(-1, &set, 0);
		if (strcmp(mode, "signalfd")) {
			say(getpid(), ended());
			stay();
		}
		say(getpid(), 0);
		for (;;) {
			if (fork() == 0) {
				usleep(10000);
				_exit(0);
			}
			if (read(fd, &one, sizeof one) < 0)
				exit(1);
			usleep(20000);
			reap_all();
		}
	}
	if (!strcmp(mode, "one-a-signal")) {
		on(SIGCHLD, wait_once, SA_RESTART);
		mask(SIG_BLOCK, SIGCHLD);
		for (int i = 0; i < n; i++)
			ended();
		mask(SIG_UNBLOCK, SIGCHLD);
		say(getpid(), n - 1);
		for (;;)
			pause();
	}
	if (!strcmp(mode, "flag"))
		on(SIGCHLD, tell, SA_RESTART);
	if (!strncmp(mode, "blocked", 7)) {
		mask(SIG_BLOCK, SIGCHLD);
		if (!strcmp(mode, "blocked"))
			on(SIGCHLD, wait_once, 0);
	}
	say(getpid(), ended());
	told = 0;
	if (!strcmp(mode, "ignored"))
		signal(SIGCHLD, SIG_IGN);
	if (!strcmp(mode, "nocldwait"))
		on(SIGCHLD, SIG_DFL, SA_NOCLDWAIT);
	if (!strcmp(mode, "flag"))
		for (;;)
			pause();
	while (!told)
		pause();
	signal(SIGCHLD, SIG_DFL);
	mask(SIG_UNBLOCK, SIGCHLD);
	for (;;)
		pause();
}

static void names(void)
{
	static const char *all[] = { "a\nb", ") Z 1 (", "\033[31mred", "\xff\xfe", "               ", "" };

	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		siginfo_t info;
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_NAME, all[i]);
			_exit((int)i);
		}
		waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	}
	prctl(PR_SET_NAME, "x) Z 1 (\n\033[2J");
	say(getpid(), 0);
	stay();
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	const char *more = argc > 2 ? argv[2] : "";
	int n = atoi(more);
	pthread_t thread;

	signal(SIGCHLD, SIG_DFL);
	on(SIGUSR1, tell, 0);
	signal(SIGPIPE, SIG_IGN);
	mask(SIG_BLOCK, SIGUSR2);
	if (!strcmp(mode, "never") || !strcmp(mode, "busy")) {
		pid_t last = 0;

		for (int i = 0; i < (n ? n : 1); i++)
			last = ended_by(i & 7);
		say(getpid(), last);
		while (!strcmp(mode, "busy") && !told)
			;
		stay();
	} else if (!strcmp(mode, "reaper")) {
		say(getpid(), living());
		while (waitpid(-1, NULL, 0) > 0)
			;
		stay();
	} else if (!strncmp(mode, "wait", 4) && strcmp(mode, "wait-look")) {
		waits(mode);
	} else if (!strcmp(mode, "clone")) {
		waits(mode);
	} else if (!strcmp(mode, "wait-look")) {
		siginfo_t info;
		pid_t other = living();

		ended();
		say(getpid(), other);
		waitid(P_PID, other, &info, WEXITED | WNOWAIT);
		stay();
	} else if (!strcmp(mode, "thread-waits")) {
		pid_t other = living();

		ended();
		pthread_create(&thread, NULL, wait_for, (void *)(intptr_t)other);
		say(getpid(), other);
		stay();
	} else if (!strcmp(mode, "thread-only")) {
		ended();
		pthread_create(&thread, NULL, own_children, NULL);
		stay();
	} else if (!strcmp(mode, "join")) {
		int ends[2];

		if (pipe(ends))
			return 1;
		pid_t other = living();

		ended();
		close(ends[1]);
		pthread_create(&thread, NULL, read_pipe, ends);
		say(getpid(), other);
		pthread_join(thread, NULL);
		stay();
	} else if (!strcmp(mode, "pipe") || !strcmp(mode, "write-pipe") || !strcmp(mode, "socket") ||
		   !strcmp(mode, "eventfd") || !strcmp(mode, "fifo") || !strcmp(mode, "flock") ||
		   !strcmp(mode, "fcntl") || !strcmp(mode, "signalfd-pipe")) {
		held_up(mode, more);
	} else if (!strcmp(mode, "tcp") || !strcmp(mode, "accept")) {
		tcp(!strcmp(mode, "accept"));
	} else if (!strcmp(mode, "open-fifo")) {
		mkfifo(more, 0600);
		say(getpid(), ended());
		if (open(more, O_RDONLY) < 0)
			stay();
		stay();
	} else if (!strcmp(mode, "futex")) {
		int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		say(getpid(), ended());
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
		stay();
	} else if (!strcmp(mode, "msgrcv")) {
		struct { long type; char text[8]; } message;
		int queue = msgget(IPC_PRIVATE, 0600);

		say(getpid(), ended());
		if (msgrcv(queue, &message, sizeof message.text, 0, 0) < 0)
			msgctl(queue, IPC_RMID, NULL);
		stay();
	} else if (!strcmp(mode, "vfork")) {
		ended();
		say(getpid(), 0);
		if (vfork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			signal(SIGUSR1, SIG_DFL);
			prctl(PR_SET_NAME, "vforked");
			for (;;)
				pause();
		}
		stay();
	} else if (!strcmp(mode, "init") || !strcmp(mode, "init-busy") || !strcmp(mode, "init-waits") ||
		   !strcmp(mode, "dying")) {
		init(mode);
	} else if (!strcmp(mode, "dead-leader")) {
		pid_t pid = fork();

		if (pid == 0)
			return dead_leader(NULL);
		say(getpid(), pid);
		while (waitpid(-1, NULL, 0) > 0)
			;
		stay();
	} else if (!strcmp(mode, "traced")) {
		traced();
	} else if (!strcmp(mode, "tracer")) {
		if (ptrace(PTRACE_ATTACH, (pid_t)n, 0, 0))
			return 1;
		waitpid((pid_t)n, NULL, __WALL);
		say(getpid(), n);
		for (;;)
			pause();
	} else if (!strcmp(mode, "system")) {
		ended();
		say(getpid(), 0);
		return system("sleep 300");
	} else if (!strcmp(mode, "slow")) {
		say(getpid(), 0);
		for (;;) {
			ended();
			usleep(20000);
			reap_all();
		}
	} else if (!strcmp(mode, "names")) {
		names();
	} else if (!strcmp(mode, "exec")) {
		ended();
		usleep(50000);
		execl("/proc/self/exe", "zombie", "stay", NULL);
	} else if (!strcmp(mode, "stay")) {
		say(getpid(), 0);
		stay();
	} else if (!strcmp(mode, "loop")) {
		say(getpid(), ended());
		poll(NULL, 0, -1);
		stay();
	} else {
		signals(mode, n);
	}
	return 0;
}
