/*
 * sundry WHAT…: system calls of one sort, each a few times, with arguments that are easy to get wrong.
 *
 *   threads  files  vectors  sockets  waiting  events  memory
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#pragma GCC diagnostic ignored "-Wunused-result"
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overread"

static void *work(void *unused)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	for (int i = 0; i < 20; i++) {
		pthread_mutex_lock(&mutex);
		getppid();
		usleep(100);
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}

static void threads(void)
{
	pthread_t ids[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&ids[i], NULL, work, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(ids[i], NULL);
}

static void files(void)
{
	struct timespec times[2] = { { 1, 2 }, { 0, UTIME_NOW } };
	struct statfs fs;
	struct statx more;
	struct stat st;
	char buffer[64];
	off_t from = 0, to = 3;
	int fd, other, folder;

	mkdir("folder", 0751);
	folder = open("folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(folder, "a \"file\"\n\t\1\377", O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 04640);
	write(fd, "with \\ and \"quotes\" and \0 zero, and so on, far beyond 32 bytes", 62);
	pwrite64(fd, "12", 2, 1LL << 33);
	ftruncate(fd, 62);
	lseek(fd, -3, SEEK_END);
	read(fd, buffer, sizeof(buffer));
	pread64(fd, buffer, 5, 5);
	fstat(fd, &st);
	statx(folder, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &more);
	fstatat(folder, "none", &st, AT_SYMLINK_NOFOLLOW);
	fstatfs(fd, &fs);
	fchmod(fd, 0600);
	fchown(fd, -1, 0);
	futimens(fd, times);
	utimensat(folder, "none", NULL, 0);
	other = open("folder/b", O_WRONLY | O_CREAT | O_TRUNC | O_SYNC, 0);
	copy_file_range(fd, &from, other, &to, 7, 0);
	sendfile(other, fd, &from, 3);
	fallocate(other, FALLOC_FL_KEEP_SIZE, 0, 4096);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	fsync(other);
	fdatasync(fd);
	symlinkat("b", folder, "link");
	readlinkat(folder, "link", buffer, sizeof(buffer));
	readlink("folder/link", buffer, 1);
	linkat(folder, "b", folder, "hard", 0);
	renameat2(folder, "hard", folder, "b", RENAME_NOREPLACE);
	faccessat(folder, "b", R_OK | W_OK, AT_EACCESS);
	access("folder/b", F_OK);
	unlinkat(folder, "hard", 0);
	unlinkat(AT_FDCWD, "folder", AT_REMOVEDIR);
	mknod("fifo", S_IFIFO | 0600, 0);
	umask(077);
	chdir("folder");
	getcwd(buffer, sizeof(buffer));
	fchdir(folder);
	dup3(fd, 100, O_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND);
	fcntl(fd, F_GETFL);
	fcntl(fd, F_DUPFD_CLOEXEC, 50);
	fcntl(fd, F_GETFD);
	ioctl(fd, FIONREAD, &other);
	ioctl(0, TCGETS, buffer);
	close_range(90, 200, 0);
	close(-1);
}

static void vectors(void)
{
	char first[8], second[40];
	struct iovec in[3] = { { first, 8 }, { NULL, 0 }, { second, 40 } };
	struct iovec out[3] = { { "one", 3 }, { "two\n", 4 }, { "a third that is longer than thirty-two bytes", 44 } };
	int ends[2];

	pipe2(ends, O_CLOEXEC | O_NONBLOCK);
	readv(ends[0], in, 3);
	writev(ends[1], out, 3);
	readv(ends[0], in, 3);
	readv(ends[0], in, 1);
	writev(ends[1], (void *)8, 3);
	readv(ends[0], in, 0);
	tee(ends[0], ends[0], 1, SPLICE_F_NONBLOCK);
}

static void sockets(void)
{
	struct sockaddr_in inet = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, peer;
	struct sockaddr_in6 inet6 = { .sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_un local = { .sun_family = AF_UNIX, .sun_path = "@name" };
	struct timeval tv = { 1, 500000 };
	struct linger linger = { 1, 2 };
	char buffer[64], control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec part = { "message", 7 }, room = { buffer, sizeof(buffer) };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	socklen_t size = sizeof(inet);
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP), client, ends[2], one = 1;
	struct cmsghdr *c;

	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(server, IPPROTO_TCP, 1, &one, sizeof(one));
	bind(server, (void *)&inet, sizeof(inet));
	listen(server, 5);
	getsockname(server, (void *)&inet, &size);
	client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(client, (void *)&inet, sizeof(inet));
	size = sizeof(peer);
	server = accept4(server, (void *)&peer, &size, SOCK_CLOEXEC);
	getpeername(server, (void *)&peer, &size);
	size = sizeof(one);
	getsockopt(client, SOL_SOCKET, SO_ERROR, &one, &size);
	getsockopt(client, SOL_SOCKET, SO_TYPE, &one, &size);
	send(client, "hello\r\n", 7, MSG_NOSIGNAL);
	recv(server, buffer, sizeof(buffer), MSG_PEEK);
	recvfrom(server, buffer, sizeof(buffer), 0, NULL, NULL);
	recv(client, buffer, 4, MSG_DONTWAIT);
	shutdown(client, SHUT_WR);
	recv(server, buffer, 4, 0);
	client = socket(AF_INET6, SOCK_DGRAM, 0);
	sendto(client, "datagram", 8, 0, (void *)&inet6, sizeof(inet6));
	client = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	connect(client, (void *)&local, sizeof(local));
	connect(client, (void *)&local, offsetof(struct sockaddr_un, sun_path) + 5);
	local.sun_path[0] = 0;
	bind(client, (void *)&local, offsetof(struct sockaddr_un, sun_path) + 5);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
	m.msg_control = control;
	m.msg_controllen = sizeof(control);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &server, sizeof(int));
	sendmsg(ends[0], &m, MSG_DONTWAIT);
	m.msg_iov = &room;
	recvmsg(ends[1], &m, MSG_CMSG_CLOEXEC);
	recvmsg(ends[1], &m, MSG_DONTWAIT);
	socket(AF_NETLINK, SOCK_RAW, 0);
	socket(99, 1, 1);
}

static void waiting(void)
{
	struct pollfd fds[3];
	struct timeval tv = { 0, 1000 };
	struct timespec ts = { 0, 1000000 };
	struct rusage usage;
	siginfo_t info;
	fd_set set, writable;
	sigset_t none;
	int ends[2], status;
	pid_t child;

	pipe(ends);
	fds[0] = (struct pollfd){ ends[0], POLLIN | POLLPRI, 0 };
	fds[1] = (struct pollfd){ ends[1], POLLOUT, 0 };
	fds[2] = (struct pollfd){ 77, POLLIN, 0 };
	poll(fds, 1, 1);
	poll(fds, 3, -1);
	sigemptyset(&none);
	ppoll(fds, 2, &ts, &none);
	ppoll(fds, 1, &ts, NULL);
	FD_ZERO(&set);
	FD_ZERO(&writable);
	FD_SET(ends[0], &set);
	FD_SET(ends[1], &writable);
	select(ends[1] + 1, &set, &writable, NULL, &tv);
	FD_SET(ends[0], &set);
	select(ends[1] + 1, &set, NULL, NULL, &tv);
	pselect(ends[1] + 1, NULL, &writable, NULL, &ts, &none);
	nanosleep(&ts, NULL);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	child = fork();
	if (!child)
		_exit(3);
	wait4(child, &status, __WALL, &usage);
	child = fork();
	if (!child) {
		kill(getpid(), SIGKILL);
		pause();
	}
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	wait4(-1, &status, 0, NULL);
	wait4(-1, &status, WNOHANG | WUNTRACED, NULL);
	waitid(P_ALL, 0, NULL, WEXITED);
}

static void events(void)
{
	struct epoll_event event = { EPOLLIN | EPOLLET, { .u64 = 0x123456789ULL } }, found[4];
	struct itimerspec soon = { { 0, 0 }, { 0, 1000000 } }, before;
	int epoll = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(2, EFD_NONBLOCK), timer, watch, signals;
	struct signalfd_siginfo info;
	uint64_t value = 3;
	char buffer[256];
	sigset_t set;

	epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event);
	epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event);
	epoll_wait(epoll, found, 4, 0);
	write(counter, &value, 8);
	epoll_pwait(epoll, found, 4, 10, NULL);
	epoll_ctl(epoll, EPOLL_CTL_DEL, counter, NULL);
	epoll_wait(epoll, found, 4, 0);
	read(counter, &value, 8);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	timerfd_settime(timer, 0, &soon, &before);
	timerfd_gettime(timer, &before);
	read(timer, &value, 8);
	watch = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(watch, ".", IN_CREATE | IN_DELETE | IN_ONLYDIR);
	inotify_add_watch(watch, "none", IN_ALL_EVENTS);
	close(open("noticed", O_CREAT | O_WRONLY, 0600));
	unlink("noticed");
	read(watch, buffer, sizeof(buffer));
	inotify_rm_watch(watch, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	kill(getpid(), SIGUSR1);
	read(signals, &info, sizeof(info));
}

static void memory(void)
{
	char *map, *other;
	int fd = open("mapped", O_RDWR | O_CREAT, 0600);

	ftruncate(fd, 8192);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	other = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 4096);
	map[0] = 1;
	msync(map, 4096, MS_SYNC);
	mprotect(other, 4096, PROT_NONE);
	madvise(map, 4096, MADV_DONTNEED);
	map = mremap(map, 8192, 16384, MREMAP_MAYMOVE);
	mlock(map, 4096);
	munlock(map, 4096);
	munmap(map, 16384);
	mmap((void *)0x1001, 4096, PROT_READ, MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE | MAP_STACK, -1, 0);
	close(memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	brk(NULL);
	brk(sbrk(0));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} sorts[] = {
		{ "threads", threads },
		{ "files", files },
		{ "vectors", vectors },
		{ "sockets", sockets },
		{ "waiting", waiting },
		{ "events", events },
		{ "memory", memory },
	};

	for (int n = 1; n < argc; n++)
		for (size_t i = 0; i < sizeof(sorts) / sizeof(*sorts); i++)
			if (!strcmp(argv[n], sorts[i].name))
				sorts[i].run();
	return argc < 2;
}
