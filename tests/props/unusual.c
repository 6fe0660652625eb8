/*
 * unusual WHAT…: calls that fail, are denied, end another way than they began, or begin with no process.
 *
 *   locks  limits  exec  clone  denied  errors  signals  killed
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#pragma GCC diagnostic ignored "-Wunused-result"
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Warray-bounds"

static void locks(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET }, part = { F_RDLCK, SEEK_END, -3, 2, 0 };
	int fd = open("locked", O_RDWR | O_CREAT, 0600);

	fcntl(fd, F_SETLK, &whole);
	fcntl(fd, F_GETLK, &part);
	if (!fork()) {
		whole.l_type = F_WRLCK;
		fcntl(fd, F_SETLK, &whole);
		fcntl(fd, F_GETLK, &whole);
		fcntl(fd, F_OFD_SETLK, &whole);
		_exit(0);
	}
	wait(NULL);
	whole.l_type = F_UNLCK;
	fcntl(fd, F_SETLKW, &whole);
	flock(fd, LOCK_EX | LOCK_NB);
	flock(fd, LOCK_UN);
	flock(-1, LOCK_SH);
}

static void limits(void)
{
	struct sched_param param = { 0 };
	struct itimerval itimer = { { 0, 0 }, { 100, 0 } };
	struct rlimit limit;
	struct rusage usage;
	struct sysinfo info;
	struct utsname names;
	struct tms ticks;
	struct timespec ts;
	cpu_set_t cpus;
	gid_t groups[4];
	uid_t a, b, c;
	char bytes[16];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 64 * 1024;
	setrlimit(RLIMIT_CORE, &limit);
	limit.rlim_max = RLIM_INFINITY;
	prlimit(0, RLIMIT_STACK, NULL, &limit);
	prlimit(1 << 30, RLIMIT_NPROC, &limit, NULL);
	getrusage(RUSAGE_CHILDREN, &usage);
	getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PROCESS, 0, 1);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	sched_getscheduler(0);
	sched_setscheduler(0, SCHED_BATCH, &param);
	sched_get_priority_max(SCHED_FIFO);
	sched_yield();
	sysinfo(&info);
	uname(&names);
	times(&ticks);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts);
	syscall(SYS_clock_getres, CLOCK_BOOTTIME, &ts);
	setitimer(ITIMER_REAL, &itimer, NULL);
	getitimer(ITIMER_REAL, &itimer);
	alarm(0);
	getresuid(&a, &b, &c);
	getgroups(0, NULL);
	setgroups(2, groups);
	setresuid(-1, 0, -1);
	getsid(0);
	getpgid(0);
	setsid();
	prctl(PR_SET_NAME, "a name, too long for it");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_GET_DUMPABLE);
	getrandom(bytes, sizeof(bytes), GRND_NONBLOCK);
	syscall(600, 1, 2);
}

static void *become(void *argv)
{
	execv("/bin/true", argv);
	return NULL;
}

static void exec(void)
{
	char *argv[] = { "true", "an \"argument\"\n", "one that is longer than thirty-two bytes, by some", NULL };
	char *nobody[] = { "name", NULL }, *nothing[] = { NULL };
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		if (!vfork()) {
			execve("/nonexistent/true", argv, nothing);
			execve("/bin/true", argv, nobody);
			_exit(127);
		}
		wait(NULL);
	}
	if (!fork()) {
		syscall(SYS_execve, "/etc/passwd", NULL, NULL);
		execvp("no-such-program", argv);
		pthread_create(&thread, NULL, become, argv); /* takes the process over */
		pause();
	}
	wait(NULL);
}

static int nothing(void *unused)
{
	(void)unused;
	return 5;
}

static void clones(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int pidfd = -1, status;
	struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD };

	if (!syscall(SYS_clone3, &args, sizeof(args)))
		_exit(4);
	wait4(-1, &status, 0, NULL);
	syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	syscall(SYS_clone3, &args, 8);
	clone(nothing, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	wait4(-1, &status, 0, NULL);
	if (!syscall(SYS_clone, CLONE_CHILD_SETTID | SIGURG, NULL, NULL, &status, 0))
		_exit(0);
	wait4(-1, &status, __WCLONE, NULL);
	unshare(CLONE_FILES | CLONE_FS);
}

static void denied(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(rules) / sizeof(*rules), rules };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	for (int i = 0; i < 3; i++) {
		getppid();
		getpid();
		openat(AT_FDCWD, "/denied", O_RDONLY | O_CLOEXEC);
		if (!fork()) {
			getppid();
			_exit(0);
		}
		wait(NULL);
	}
}

/* Bad addresses, and arguments that end where the memory does. */
static void errors(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = memory + page;
	struct stat st;

	munmap(end, page);
	strcpy(end - 5, "tail");
	access(end - 5, F_OK);
	memcpy(end - 4, "tail", 4);
	access(end - 4, F_OK);
	access(NULL, F_OK);
	access((char *)1, F_OK);
	syscall(SYS_open, end, O_RDONLY);
	syscall(SYS_write, 1, end, 1);
	syscall(SYS_write, -1, "nowhere", 7);
	syscall(SYS_read, 0, end, 1);
	stat("", &st);
	syscall(SYS_stat, ".", 8);
	syscall(SYS_pipe2, end - 4, 0);
	syscall(SYS_poll, end - 4, 1, 0);
	syscall(SYS_nanosleep, end - 8, NULL);
	syscall(SYS_nanosleep, &(struct timespec){ -1, 1 }, NULL);
	syscall(SYS_execve, end, end, end);
	syscall(SYS_bind, 0, end - 2, 16);
	syscall(SYS_connect, -1, end - 2, 2);
	syscall(SYS_rt_sigaction, SIGKILL, end, NULL, 8);
	syscall(SYS_epoll_ctl, -1, 9, -1, end);
	syscall(SYS_open, "x", 0xffffffff, 0);
	syscall(SYS_openat, -200, "x", O_PATH);
	syscall(SYS_lseek, -1, -1L, 99);
	syscall(SYS_fcntl, -1, 9999, 1);
	syscall(SYS_ioctl, -1, 0x12345678, end);
	syscall(SYS_kill, 1 << 30, 99);
	syscall(SYS_wait4, 1 << 30, end, 0x40, end);
	syscall(SYS_mmap, 8, -1L, 0x77, 0x7f, -1, 1);
	syscall(SYS_futex, end, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
	syscall(SYS_futex, end - 4, FUTEX_WAIT, 0, &(struct timespec){ 0, 1000 });
}

static void noted(int number)
{
	(void)number;
}

static void *kick(void *of)
{
	for (int i = 0; i < 3; i++) {
		usleep(20000);
		pthread_kill(*(pthread_t *)of, i == 1 ? SIGUSR2 : SIGUSR1);
	}
	return NULL;
}

/* Calls that a signal ends or interrupts; a handler, one with its own stack, restarted and not. */
static void signals(void)
{
	static char stack[16384];
	stack_t alternate = { stack, 0, sizeof(stack) };
	struct sigaction action = { .sa_handler = noted }, old;
	struct timespec second = { 0, 40000000 };
	pthread_t self = pthread_self(), thread;
	union sigval value = { .sival_int = 7 };
	pid_t child;
	char byte;
	int ends[2];

	sigaltstack(&alternate, NULL);
	sigaction(SIGUSR1, &action, &old);
	action.sa_flags = SA_RESTART | SA_ONSTACK;
	sigaddset(&action.sa_mask, SIGHUP);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGCHLD, NULL, &old);
	signal(SIGPIPE, SIG_IGN);
	raise(SIGUSR1);
	sigqueue(getpid(), SIGUSR2, value);
	pipe(ends);
	pthread_create(&thread, NULL, kick, &self);
	read(ends[0], &byte, 1);
	nanosleep(&second, NULL);
	pause();
	pthread_join(thread, NULL);
	close(ends[0]);
	write(ends[1], "x", 1);
	child = fork();
	if (!child) {
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, &ends[0], WUNTRACED);
	kill(child, SIGCONT);
	waitpid(child, &ends[0], 0);
	kill(0, 0);
	kill(-1, 99);
	alarm(1);
	alarm(0);
}

/* A child killed in a call, one by a fault, threads that end with their process. */
static void killed(void)
{
	pthread_t thread;
	pid_t child;

	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	usleep(20000);
	kill(child, SIGTERM);
	wait(NULL);
	if (!fork()) {
		*(volatile int *)16 = 1;
		_exit(0);
	}
	wait(NULL);
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	usleep(20000);
	kill(child, SIGKILL);
	wait(NULL);
	if (!fork()) {
		pthread_create(&thread, NULL, (void *(*)(void *))pause, NULL);
		usleep(20000);
		exit(9);
	}
	wait(NULL);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} sorts[] = {
		{ "locks", locks },
		{ "limits", limits },
		{ "exec", exec },
		{ "clone", clones },
		{ "denied", denied },
		{ "errors", errors },
		{ "signals", signals },
		{ "killed", killed },
	};

	for (int n = 1; n < argc; n++)
		for (size_t i = 0; i < sizeof(sorts) / sizeof(*sorts); i++)
			if (!strcmp(argv[n], sorts[i].name))
				sorts[i].run();
	return argc < 2;
}
