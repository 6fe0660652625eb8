/*
 * stuck WHAT …: gets threads stuck in the kernel, says who they are (two numbers a line, the last line "0 0"), and lets
 * them go when its standard input has a line or ends. What it mounts is in a mount namespace of its own.
 *
 *   vfork [NAME]        parent, child: the child stopped itself before it called exec; another child has called it
 *   vfork-thread        thread, child: the same in a second thread
 *   vfork-often         parent, 0: waits for one child after another, 20 ms each
 *   frozen IMAGE DIR    an ext4 filesystem, frozen: writer with a descriptor, its number; maker of a directory, 0;
 *                       dead-man, 0: who thaws it when the others are gone
 *   fuse DIR            a daemon that stops answering: daemon, 0; reader, its descriptor; who looks a name up, 0; who looks
 *                       the same name up, 0; who makes a directory, 0
 *   fuse-exec DIR       the same: daemon, 0; who calls exec with a descriptor that has to be flushed, its number. For as long
 *                       as this lasts the kernel holds up whoever reads its `stat`
 *   exec-traced         who calls exec, tracer: another thread of it has died, and its tracer does not wait for it
 *   uffd                who reads memory that nobody fills, the one that should
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(long a, long b)
{
	dprintf(1, "%ld %ld\n", a, b);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void wait_for_line(void)
{
	char c;

	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

/* A child that dies with us; 0 in the child. */
static pid_t start(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void own_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("a mount namespace");
}

/* -- vfork ---------------------------------------------------------------------------------------------------------- */

static void *vfork_stopped(void *unused)
{
	pid_t parent = gettid(), child = vfork();

	(void)unused;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		say(parent, getpid());
		say(0, 0);
		kill(getpid(), SIGSTOP);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	return NULL;
}

/* A child that has called exec by the time that this returns. */
static void start_program(char *self)
{
	int called[2];
	char c;

	if (pipe2(called, O_CLOEXEC))
		die("pipe2");
	if (start() == 0) {
		execl(self, "stuck", "stay", NULL);
		die(self);
	}
	close(called[1]);
	if (read(called[0], &c, 1) < 0)
		die("read");
	close(called[0]);
}

static void vfork_often(void)
{
	struct timespec nap = {0, 20000000};
	pid_t child;

	say(getpid(), 0);
	say(0, 0);
	fcntl(0, F_SETFL, O_NONBLOCK);
	for (;;) {
		char c;
		ssize_t got = read(0, &c, 1);

		if (got == 0 || got == 1)
			exit(0);
		child = vfork();
		if (child == 0) {
			nanosleep(&nap, NULL);
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
}

/* -- a frozen filesystem -------------------------------------------------------------------------------------------- */

static void mount_image(const char *image, const char *dir)
{
	struct loop_config config = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
	char device[32];
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop, number, tries;

	config.fd = open(image, O_RDWR | O_CLOEXEC);
	if (control < 0 || (int)config.fd < 0)
		die(image);
	for (tries = 0; tries < 10; tries++) { /* another one may take it first */
		number = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(device, sizeof(device), "/dev/loop%d", number);
		loop = open(device, O_RDWR | O_CLOEXEC);
		if (number < 0 || loop < 0)
			die("a loop device");
		if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
			if (mount(device, dir, "ext4", 0, NULL))
				die("mount");
			close(loop);
			close(config.fd);
			close(control);
			return;
		}
		close(loop);
	}
	die("LOOP_CONFIGURE");
}

static void frozen(const char *image, const char *dir)
{
	char path[512];
	pid_t writer, maker, deadman;
	int root, file, alive[2];

	own_mounts();
	mount_image(image, dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	file = open(path, O_RDWR | O_CREAT, 0644);
	if (root < 0 || file < 0 || pipe(alive))
		die(dir);
	/* Whoever is killed: a frozen filesystem that nobody can reach would stay so until the machine starts again. */
	deadman = fork();
	if (deadman == 0) {
		char c;

		signal(SIGTERM, SIG_IGN);
		setsid();
		close(alive[1]);
		close(0);
		close(1);
		while (read(alive[0], &c, 1) > 0)
			;
		ioctl(root, FITHAW, 0);
		_exit(0);
	}
	close(alive[0]);
	if (ioctl(root, FIFREEZE, 0))
		die("FIFREEZE");
	writer = start();
	if (writer == 0) {
		close(alive[1]);
		exit(write(file, "x", 1) != 1);
	}
	maker = start();
	if (maker == 0) {
		close(alive[1]);
		snprintf(path, sizeof(path), "%s/directory", dir);
		exit(mkdir(path, 0755) != 0);
	}
	say(writer, file);
	say(maker, 0);
	say(deadman, 0);
	say(0, 0);
	wait_for_line();
	ioctl(root, FITHAW, 0);
	waitpid(writer, NULL, 0);
	waitpid(maker, NULL, 0);
	close(alive[1]);
	waitpid(deadman, NULL, 0);
}

/* -- a filesystem in user space ------------------------------------------------------------------------------------- */

static void answer(int fuse, uint64_t unique, const void *data, size_t size)
{
	char buffer[512];
	struct fuse_out_header *out = (void *)buffer;

	*out = (struct fuse_out_header){.len = sizeof(*out) + size, .unique = unique};
	memcpy(out + 1, data, size);
	if (write(fuse, buffer, out->len) < 0)
		die("an answer to FUSE");
}

static struct fuse_attr attributes(uint64_t node)
{
	return (struct fuse_attr){
		.ino = node, .size = 4096, .blocks = 8, .nlink = 1, .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644,
	};
}

/* Answers what it takes to open DIR/file; whatever else is asked is heard, and never answered. */
static void serve(int fuse)
{
	static char buffer[1 << 17];
	struct fuse_in_header *in = (void *)buffer;

	for (;;) {
		if (read(fuse, buffer, sizeof(buffer)) <= 0)
			exit(0);
		switch (in->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out out = {.major = 7, .minor = 31, .max_write = 4096, .max_background = 16};

			answer(fuse, in->unique, &out, sizeof(out));
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};

			answer(fuse, in->unique, &out, sizeof(out));
			break;
		}
		case FUSE_LOOKUP:
			if (!strcmp((char *)(in + 1), "file")) {
				struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(2)};

				answer(fuse, in->unique, &out, sizeof(out));
			}
			break;
		case FUSE_OPEN: {
			struct fuse_open_out out = {.fh = 1};

			answer(fuse, in->unique, &out, sizeof(out));
			break;
		}
		}
	}
}

static void fuse(const char *dir, char *self, int exec)
{
	char path[512], options[128], c;
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC), file;
	pid_t daemon, pid;

	own_mounts();
	if (fuse < 0)
		die("/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=%d,group_id=%d", fuse, getuid(), getgid());
	if (mount("silent", dir, "fuse.silent", MS_NOSUID | MS_NODEV, options))
		die("mount");
	daemon = start();
	if (daemon == 0)
		serve(fuse);
	close(fuse);
	say(daemon, 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		die(path);
	if (exec) {
		pid = start();
		if (pid == 0)
			execl(self, "stuck", "wait", NULL); /* which closes `file`, and waits for the answer to FLUSH */
		say(pid, file);
	} else {
		pid = start();
		if (pid == 0)
			exit(read(file, &c, 1) != 1);
		say(pid, file);
		for (int n = 0; n < 3; n++) {
			struct stat found;

			snprintf(path, sizeof(path), "%s/%s", dir, n < 2 ? "name" : "directory");
			pid = start();
			if (pid == 0)
				exit(n < 2 ? stat(path, &found) : mkdir(path, 0755));
			say(pid, 0);
			if (n == 0)
				usleep(50000); /* the first one is to be first */
		}
	}
	say(0, 0);
	wait_for_line();
	kill(daemon, SIGKILL); /* the kernel answers in its place: the connection is aborted */
	while (wait(NULL) > 0)
		;
	_exit(0); /* `file` has nobody to be flushed to */
}

/* -- exec, and memory ----------------------------------------------------------------------------------------------- */

static void *stay(void *tid)
{
	*(volatile pid_t *)tid = gettid();
	for (;;)
		pause();
	return NULL;
}

static void exec_traced(char *self)
{
	pid_t *tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), victim, tracer;
	int go[2];

	if (pipe(go))
		die("pipe");
	victim = start();
	if (victim == 0) {
		pthread_t thread;
		char c;

		pthread_create(&thread, NULL, stay, tid);
		if (read(go[0], &c, 1) == 1)
			execl(self, "stuck", "wait", NULL);
		exit(1);
	}
	while (!*(volatile pid_t *)tid)
		usleep(1000);
	tracer = start();
	if (tracer == 0) {
		if (ptrace(PTRACE_SEIZE, *tid, 0, 0) || write(go[1], "", 1) != 1)
			die("PTRACE_SEIZE");
		for (;;)
			pause();
	}
	say(victim, tracer);
	say(0, 0);
	wait_for_line();
	kill(tracer, SIGKILL);
	kill(victim, SIGKILL);
}

static void uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t reader;
	int fd;

	reader = start();
	if (reader == 0) {
		int out[2];

		fd = syscall(SYS_userfaultfd, O_CLOEXEC);
		range.range.start = (uintptr_t)page;
		range.range.len = 4096;
		if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range) || pipe(out))
			die("userfaultfd");
		say(getpid(), getpid());
		say(0, 0);
		exit(write(out[1], page, 1) != 1); /* the kernel reads the page, within the call */
	}
	wait_for_line();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	pthread_t thread;

	if (!strcmp(what, "wait")) {
		wait_for_line();
	} else if (!strcmp(what, "stay")) {
		for (;;)
			pause();
	} else if (!strcmp(what, "vfork")) {
		if (argc > 2)
			prctl(PR_SET_NAME, argv[2]);
		start_program(argv[0]);
		vfork_stopped(NULL);
		wait_for_line();
	} else if (!strcmp(what, "vfork-thread")) {
		pthread_create(&thread, NULL, vfork_stopped, NULL);
		wait_for_line();
	} else if (!strcmp(what, "vfork-often")) {
		vfork_often();
	} else if (!strcmp(what, "frozen") && argc == 4) {
		frozen(argv[2], argv[3]);
	} else if (!strcmp(what, "fuse") && argc == 3) {
		fuse(argv[2], argv[0], 0);
	} else if (!strcmp(what, "fuse-exec") && argc == 3) {
		fuse(argv[2], argv[0], 1);
	} else if (!strcmp(what, "exec-traced")) {
		exec_traced(argv[0]);
	} else if (!strcmp(what, "uffd")) {
		uffd();
	} else {
		fprintf(stderr, "usage: stuck WHAT …\n");
		return 2;
	}
	return 0;
}
